//! `kill -9` at random points of concurrent pushes: what the child said was stored is there, and nothing else is wrong.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use blobs::{BlobStore, FileStore, body_of};
use oci::{Algorithm, Digest, UploadName};

use crate::sample::{self, bytes, check_all, digest};

const ROUNDS: u64 = 500;
/// A fresh folder now and then keeps the check of all that is there short.
const ROUNDS_PER_FOLDER: u64 = 4;
const PUSHERS: u64 = 4;
const FOLDER: &str = "LONGSHORE_KILL_FOLDER";
const ROUND: &str = "LONGSHORE_KILL_ROUND";

/// One line, in one write: a kill leaves it whole or not at all.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

async fn push(store: FileStore, first_seed: u64, pushes: u64) {
    for push in 0..pushes {
        // Every fifth pushes again what was pushed before.
        let seed = first_seed + if push % 5 == 4 { push - 3 } else { push };
        let length = (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as usize % 90_000;
        let content = bytes(seed, length);
        let algorithm = if push % 7 == 0 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let digest = digest(algorithm, &content);
        if push % 2 == 0 {
            store.put(&digest, body_of(content)).await.unwrap();
        } else {
            let upload = store.upload_create(Algorithm::Sha256).await.unwrap();
            say(&format!("chunk {upload} {seed} {length} 0"));
            let mut size = 0;
            for chunk in content.chunks(length / 3 + 1) {
                size = store.upload_append(&upload, size, body_of(chunk.to_vec())).await.unwrap();
                say(&format!("chunk {upload} {seed} {length} {size}"));
            }
            say(&format!("end {upload}"));
            store.upload_finish(&upload, &digest).await.unwrap();
        }
        say(&format!("ack {digest}"));
    }
}

/// What the loop below starts and kills. Run by itself it does a short piece of the same work.
#[test]
fn child_of_the_kill_loop() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let own_folder = sample::folder();
    let (folder, round, pushes) = match std::env::var_os(FOLDER) {
        Some(folder) => (folder.into(), std::env::var(ROUND).unwrap().parse::<u64>().unwrap(), 1_000_000),
        None => (own_folder.path().to_owned(), 0, 10),
    };
    runtime.block_on(async {
        let store = FileStore::open(folder).await.unwrap();
        let mut pushers = tokio::task::JoinSet::new();
        for pusher in 0..PUSHERS {
            pushers.spawn(push(store.clone(), (round * PUSHERS + pusher) << 24, pushes));
        }
        while let Some(pusher) = pushers.join_next().await {
            pusher.unwrap();
        }
        check_all(&store).await.unwrap();
    });
}

/// Starts a child on `folder`, kills it after a while, gives the lines that it said.
fn round(folder: &Path, round: u64) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_of_the_kill_loop", "--nocapture", "--quiet"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || stdout.lines().map(Result::unwrap).collect::<Vec<_>>());
    let moment_ms = 4 + round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 60;
    std::thread::sleep(Duration::from_millis(moment_ms));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_kill() {
    let mut folder = sample::folder();
    let mut acknowledged = HashSet::new();
    let (mut blobs_total, mut uploads_total) = (0, 0);
    for number in 0..ROUNDS {
        if number % ROUNDS_PER_FOLDER == 0 {
            folder = sample::folder();
            acknowledged.clear();
        }
        let mut uploads: HashMap<UploadName, (u64, usize, u64)> = HashMap::new();
        for line in round(folder.path(), number) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["ack", digest] => {
                    acknowledged.insert(digest.parse::<Digest>().unwrap());
                }
                ["chunk", upload, seed, length, size] => {
                    let held = (seed.parse().unwrap(), length.parse().unwrap(), size.parse().unwrap());
                    uploads.insert(upload.parse().unwrap(), held);
                }
                // From here on it may be there or not.
                ["end", upload] => {
                    uploads.remove(&upload.parse().unwrap());
                }
                _ => {}
            }
        }
        let store = FileStore::open(folder.path()).await.unwrap();
        let left = std::fs::read_dir(folder.path().join("uploads")).unwrap();
        assert!(
            left.map(|entry| entry.unwrap().path()).all(|path| path.extension().is_none()),
            "temporary files are left"
        );
        let there = check_all(&store).await.unwrap();
        // The child settles nothing.
        let unsettled: HashSet<Digest> = store.unsettled().into_iter().collect();
        for digest in &there {
            assert!(unsettled.contains(digest), "round {number}: nobody would ever find {digest}");
        }
        for digest in &acknowledged {
            assert!(there.binary_search(digest).is_ok(), "round {number}: {digest} was acknowledged and is gone");
        }
        for (upload, (seed, length, size)) in &uploads {
            let held = store.upload_size(upload).await.unwrap();
            assert!(held >= *size, "round {number}: {upload} had {size} bytes and has {held}");
            // The upload goes on as if nothing had happened.
            let content = bytes(*seed, *length);
            store.upload_append(upload, held, body_of(content[held as usize..].to_vec())).await.unwrap();
            store.upload_finish(upload, &Digest::sha256_of(&content)).await.unwrap();
        }
        blobs_total += acknowledged.len();
        uploads_total += uploads.len();
    }
    assert!(blobs_total > 5_000 && uploads_total > 200, "hardly anything was tried: {blobs_total}, {uploads_total}");
}
