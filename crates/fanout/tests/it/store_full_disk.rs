//! A full disk in the middle of a pull: said so, nothing that is there is lost, and the pull goes on once there is room. Needs
//! root, as mounting does.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fanout::store::{FillBegun, PieceKept, Store, StoreError};

use crate::sample::{read_all, sample};

const IMAGE_BYTES: u64 = 24 << 20;
const BLOB_BYTES: usize = 3 << 20;
/// Nothing goes for its sake.
const BUDGET_BYTES: u64 = 64 << 20;

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

    /// Leaves so much room and no more.
    fn fill(&self, free_kib: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.mounted().join("ballast")).unwrap();
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
        std::fs::remove_file(self.mounted().join("ballast")).unwrap();
        File::open(self.mounted()).unwrap().sync_all().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).output();
    }
}

#[tokio::test]
async fn a_full_disk_stops_a_pull_and_costs_no_piece() {
    let disk = Disk::new();
    let folder = disk.mounted().join("fanout");
    let mut stopped = 0;
    for (round, free_kib) in [0, 8, 200, 1000].into_iter().enumerate() {
        let store = Store::open(&folder, BUDGET_BYTES).await.unwrap();
        let blob = sample(round as u64, BLOB_BYTES);
        let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
        blob.write(&store, 5).await.unwrap();
        disk.fill(free_kib);
        for piece in 0..blob.pieces() {
            match blob.write(&store, piece).await {
                Ok(kept) => assert_ne!(kept, PieceKept::Wrong),
                Err(StoreError::NoSpace { .. }) => stopped += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let there = store.pieces(&blob.digest).unwrap();
        assert!(there.contains(5) && !there.is_full());
        for piece in there.iter() {
            assert!(store.piece_read(blob.digest, piece).await.unwrap() == blob.piece(piece));
        }
        let in_one_run = sample(100 + round as u64, BLOB_BYTES);
        let filled = match store.fill(in_one_run.digest, BLOB_BYTES as u64).await {
            Ok(FillBegun::Mine(mut fill)) => fill.write(in_one_run.bytes.clone()).await,
            Ok(FillBegun::Others(_)) => panic!("nobody else fetches it"),
            Err(error) => Err(error),
        };
        assert!(matches!(filled, Err(StoreError::NoSpace { .. })));
        disk.make_room();
        for piece in 0..blob.pieces() {
            blob.write(&store, piece).await.unwrap();
        }
        assert!(store.is_whole(&blob.digest));
        drop(held);
        assert!(read_all(store.read(blob.digest, None).await.unwrap()).await.unwrap() == blob.bytes);
    }
    assert!(stopped > 20, "the disk was hardly ever full: {stopped}");
}
