//! A full disk at any point of a push: said so, reads go on, and the push goes on after room is made. Needs root, as
//! mounting does.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base::db::DatabaseConfig;
use oci::{Digest, media};
use reqwest::Response;
use serde_json::{Value, json};

use crate::world::{World, descriptor, header, push_image};

/// Room for a store with its database and for what is pushed in a round.
const IMAGE_BYTES: u64 = 96 << 20;
const BLOB_BYTES: usize = 1 << 20;
const CHUNK_BYTES: usize = 300_000;
/// What is left when a step of a push begins.
const FREE_KIB: [u64; 5] = [0, 4, 32, 256, 700];
/// Manifests that may fit into what the database had taken from the disk before.
const MANIFESTS_MAX: usize = 200;
const STEPS: [&str; 4] = ["POST", "PATCH", "PUT", "manifest"];

/// A small file system of its own, in a file.
struct Disk {
    folder: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed (Debian: mount, e2fsprogs): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed (these tests need root and loop devices): {said}");
}

impl Disk {
    fn new() -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        let image = disk.folder.path().join("image");
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        std::fs::create_dir(disk.mounted()).unwrap();
        // Nothing is kept back for root.
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref(), &image]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &disk.mounted()]);
        disk
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn ballast(&self) -> PathBuf {
        self.mounted().join("ballast")
    }

    /// Leaves so much room and no more.
    fn fill(&self, free_kib: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for piece in [1 << 20, 1 << 12, 1 << 10] {
            let zeros = vec![0; piece];
            while ballast.write_all(&zeros).is_ok() {}
            ballast.sync_all().unwrap();
        }
        let size = ballast.metadata().unwrap().len();
        ballast.set_len(size.saturating_sub(free_kib * 1024)).unwrap();
        ballast.sync_all().unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
        File::open(self.mounted()).unwrap().sync_all().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).output();
    }
}

/// Whether the step was done; if not, the disk was full, and that was said as the specification has it.
async fn is_done(response: Response, what: &str) -> bool {
    let status = response.status().as_u16();
    if (200..300).contains(&status) {
        return true;
    }
    let text = response.text().await.unwrap();
    assert_eq!(status, 507, "{what}: {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("space"), "{what}: {text}");
    false
}

/// One push, step by step, begun anew at a step that failed.
struct Push<'a> {
    world: &'a World,
    content: Vec<u8>,
    upload: String,
    /// Makes a manifest one of its own.
    number: usize,
}

impl Push<'_> {
    fn digest(&self) -> Digest {
        Digest::sha256_of(&self.content)
    }

    fn manifest(&self) -> Value {
        json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": descriptor(media::OCI_CONFIG, b"{}"),
            "layers": [descriptor(media::OCI_LAYER, &self.content)],
            // More than what a page of the database has left.
            "annotations": { "note": "x".repeat(100_000), "number": self.number.to_string() },
        })
    }

    async fn step(&mut self, step: &str, what: &str) -> bool {
        match step {
            "POST" => {
                let response = self.world.call("POST", "/v2/r/blobs/uploads/", &[], "").await;
                self.upload = header(&response, "location");
                is_done(response, what).await
            }
            "PATCH" => loop {
                let status = self.world.get(&self.upload).await;
                assert_eq!(status.status(), 204, "{what}: the upload is gone");
                let end: usize = header(&status, "range").strip_prefix("0-").unwrap().parse().unwrap();
                let at = if end == 0 { 0 } else { end + 1 };
                if at == self.content.len() {
                    return true;
                }
                let chunk = self.content[at..].chunks(CHUNK_BYTES).next().unwrap().to_vec();
                let range = format!("{at}-{}", at + chunk.len() - 1);
                let response = self.world.call("PATCH", &self.upload, &[("content-range", &range)], chunk).await;
                if !is_done(response, what).await {
                    return false;
                }
            },
            "PUT" => {
                let path = format!("{}?digest={}", self.upload, self.digest());
                is_done(self.world.call("PUT", &path, &[], "").await, what).await
            }
            _ => is_done(self.world.manifest("r", "latest", &self.manifest()).await, what).await,
        }
    }
}

#[tokio::test]
async fn a_full_disk_stops_a_push_at_any_point_and_no_read_and_the_push_goes_on_after() {
    let disk = Disk::new();
    let database = DatabaseConfig::Sqlite { folder: disk.mounted().join("database") };
    let world = World::in_folder(tempfile::tempdir_in(disk.mounted()).unwrap(), database).await;
    let (image, _) = push_image(&world, "r", "first", "layer").await;
    let mut refused = [0; STEPS.len()];
    for (round, (full_at, free_kib)) in (0..STEPS.len()).flat_map(|at| FREE_KIB.map(|free| (at, free))).enumerate() {
        let seed = u8::try_from(round).unwrap();
        let content = (0..BLOB_BYTES).map(|at| (at % 251) as u8 ^ seed).collect();
        let mut push = Push { world: &world, content, upload: String::new(), number: 0 };
        for (at, step) in STEPS.iter().enumerate() {
            let what = format!("{step}, full at {} with {free_kib} KiB left", STEPS[full_at]);
            if at == full_at {
                disk.fill(free_kib);
            }
            let mut is_done = push.step(step, &what).await;
            while is_done && at == full_at && *step == "manifest" && push.number < MANIFESTS_MAX {
                push.number += 1;
                is_done = push.step(step, &what).await;
            }
            if is_done {
                continue;
            }
            refused[at] += 1;
            let found = world.get("/v2/r/manifests/first").await;
            assert_eq!(found.text().await.unwrap(), image.to_string(), "{what}");
            let found = world.get(&format!("/v2/r/blobs/{}", Digest::sha256_of(b"layer"))).await;
            assert_eq!(found.text().await.unwrap(), "layer", "{what}");
            disk.make_room();
            assert!(push.step(step, &what).await, "{what}: there is room");
        }
        let found = world.get(&format!("/v2/r/blobs/{}", push.digest())).await.bytes().await.unwrap();
        assert!(found == push.content);
        assert_eq!(world.get("/v2/r/manifests/latest").await.text().await.unwrap(), push.manifest().to_string());
        if disk.ballast().exists() {
            disk.make_room();
        }
    }
    // Whether PUT, which moves bytes that are there, needs another block depends on the database's log.
    let is_certain = |step: &str| step != "PUT";
    let has_failed = |(at, step): (usize, &&str)| !is_certain(step) || refused[at] > 0;
    assert!(STEPS.iter().enumerate().all(has_failed), "steps that were refused: {refused:?}");
    drop(world);
}
