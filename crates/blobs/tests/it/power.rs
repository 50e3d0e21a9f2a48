//! Loss of power: a file system on a loop device is shut down so that what is not on disk is gone, then mounted again.
//!
//! The loop is run once on the store as it is, and must find nothing; and once for every place where the store waits for
//! the disk, with that one taken out, and must find a loss. Needs root, as mounting does.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blobs::{Aside, BlobStore, FileStore, PAGE_BLOBS_MAX, SyncPoint, body_of};
use oci::{Algorithm, Digest, UploadName};

use crate::sample::{bytes, check_all};

const ROUNDS: u64 = 200;
/// Every act comes twice within these; one would do, but for a journal commit that happens to fall in between.
const ROUNDS_UNTIL_LOSS: u64 = 24;
const IMAGE_BYTES: u64 = 96 << 20;
const BLOBS_KEPT: usize = 60;
const PUSHERS: u64 = 3;
const UNMOUNT_TIME_MAX: Duration = Duration::from_secs(20);

/// A file system of its own, in a file.
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
        let disk = Disk { folder: tempfile::tempdir().unwrap() };
        File::create(disk.image()).unwrap().set_len(IMAGE_BYTES).unwrap();
        std::fs::create_dir(disk.mounted()).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &disk.image()]);
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn mount(&self) {
        run("mount", &["-o".as_ref(), "loop".as_ref(), &self.image(), &self.mounted()]);
    }

    /// From here on nothing reaches the disk, not even the journal.
    fn cut_power(&self) {
        /// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`.
        const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
        /// `EXT4_GOING_FLAGS_NOLOGFLUSH`
        const NO_LOG_FLUSH: u32 = 2;
        let folder = File::open(self.mounted()).unwrap();
        // SAFETY: the request reads one u32 behind the pointer, which is what the setter passes.
        #[allow(unsafe_code)]
        unsafe {
            rustix::ioctl::ioctl(&folder, rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)).unwrap();
        }
    }

    /// A process or mount namespace that something else is just starting may hold the dead file system for a moment, and
    /// with it the loop device: then the next mount would find it dead still.
    fn power_on(&self) {
        let deadline = Instant::now() + UNMOUNT_TIME_MAX;
        loop {
            let unmounted = Command::new("umount").arg(self.mounted()).output().unwrap().status.success();
            if unmounted {
                self.mount();
                let probe = self.mounted().join("probe");
                if std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe)).is_ok() {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "the file system stays busy");
            std::thread::yield_now();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).output();
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    blobs: HashSet<Digest>,
    deleted: HashSet<Digest>,
    uploads: HashMap<UploadName, (u64, u64)>,
    stores: Vec<PathBuf>,
}

/// Pushes until the power goes. Every success counts, also one that comes while it goes.
async fn push(store: FileStore, acknowledged: Arc<Mutex<Acknowledged>>, first_seed: u64) {
    for seed in first_seed..first_seed + 1000 {
        let length = (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as usize % 90_000;
        let content = bytes(seed, length);
        let digest = Digest::sha256_of(&content);
        if seed % 2 == 0 {
            if store.put(&digest, body_of(content)).await.is_err() {
                return;
            }
        } else {
            let Ok(upload) = store.upload_create(Algorithm::Sha256).await else { return };
            acknowledged.lock().unwrap().uploads.insert(upload.clone(), (seed, 0));
            let Ok(size) = store.upload_append(&upload, 0, body_of(content)).await else { return };
            acknowledged.lock().unwrap().uploads.insert(upload.clone(), (seed, size));
            acknowledged.lock().unwrap().uploads.remove(&upload);
            if store.upload_finish(&upload, &digest).await.is_err() {
                return;
            }
        }
        acknowledged.lock().unwrap().blobs.insert(digest);
    }
}

/// One thing alone, so that nothing that follows it writes it to disk by the way.
async fn act(
    store: &FileStore,
    acknowledged: &mut Acknowledged,
    round: u64,
    mounted: &Path,
    skipped: Option<SyncPoint>,
) {
    let seed = u64::MAX - round;
    let content = bytes(seed, 50_000);
    let digest = Digest::sha256_of(&content);
    match round / 2 % 6 {
        0 => {
            store.put(&digest, body_of(content)).await.unwrap();
            acknowledged.blobs.insert(digest);
        }
        1 => {
            let upload = store.upload_create(Algorithm::Sha256).await.unwrap();
            acknowledged.uploads.insert(upload, (seed, 0));
        }
        2 => {
            let upload = store.upload_create(Algorithm::Sha256).await.unwrap();
            let size = store.upload_append(&upload, 0, body_of(content)).await.unwrap();
            acknowledged.uploads.insert(upload, (seed, size));
        }
        3 => {
            store.put(&digest, body_of(content)).await.unwrap();
            assert_eq!(store.set_aside(&[digest], Aside::Condemned).await.unwrap().len(), 1);
            acknowledged.deleted.insert(digest);
        }
        4 => {
            store.put(&digest, body_of(content)).await.unwrap();
            store.set_aside(&[digest], Aside::Condemned).await.unwrap();
            store.put_back(&[digest]).await.unwrap();
            acknowledged.blobs.insert(digest);
        }
        _ => {
            let path = mounted.join(format!("store-{round}"));
            open(&path, skipped).await;
            acknowledged.stores.push(path);
        }
    }
}

async fn open(path: &Path, skipped: Option<SyncPoint>) -> FileStore {
    match skipped {
        Some(point) => FileStore::open_without(path, point).await,
        None => FileStore::open(path).await,
    }
    .unwrap()
}

async fn check(store: &FileStore, root: &Path, acknowledged: &mut Acknowledged) -> Result<(), String> {
    let there: HashSet<Digest> = check_all(store).await?.into_iter().collect();
    // Nothing was settled.
    let unsettled: HashSet<Digest> = store.unsettled().into_iter().collect();
    if let Some(digest) = there.difference(&unsettled).next() {
        return Err(format!("{digest} is there and nobody would ever find it"));
    }
    if let Some(digest) = acknowledged.blobs.difference(&there).next() {
        return Err(format!("{digest} was acknowledged and is gone"));
    }
    if let Some(digest) = acknowledged.deleted.iter().find(|digest| there.contains(digest)) {
        return Err(format!("{digest} was deleted and is back"));
    }
    for (upload, (seed, size)) in acknowledged.uploads.drain() {
        let held = store.upload_size(&upload).await.map_err(|error| error.to_string())?;
        // Behind what was acknowledged anything may stand: finishing would find it out.
        let on_disk = std::fs::read(root.join("uploads").join(upload.as_str())).map_err(|error| error.to_string())?;
        if held < size || on_disk[..size as usize] != bytes(seed, size as usize) {
            return Err(format!("{upload} had {size} bytes and has {held}, or others"));
        }
        store.upload_cancel(&upload).await.map_err(|error| error.to_string())?;
    }
    for store in acknowledged.stores.drain(..) {
        if !store.join("blobs/sha512/ff").is_dir() || !store.join("uploads").is_dir() {
            return Err("a store was open and its folders are gone".to_owned());
        }
        std::fs::remove_dir_all(store).map_err(|error| error.to_string())?;
    }
    // Room for the next rounds.
    let surplus: Vec<Digest> = there.iter().copied().take(there.len().saturating_sub(BLOBS_KEPT)).collect();
    let moved = store.set_aside(&surplus, Aside::Condemned).await.map_err(|error| error.to_string())?;
    for blob in &moved {
        acknowledged.blobs.remove(&blob.digest);
        acknowledged.deleted.insert(blob.digest);
    }
    let aside = store.list_aside(Aside::Condemned, None, PAGE_BLOBS_MAX).await.map_err(|error| error.to_string())?;
    store.discard(&aside, Aside::Condemned).await.map_err(|error| error.to_string())?;
    store.settle(&aside).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// Cuts the power `rounds` times: in turn after one act, and amid concurrent pushes. The first loss ends it.
async fn cut_power_again_and_again(rounds: u64, skipped: Option<SyncPoint>) -> Result<usize, String> {
    let disk = Disk::new();
    let path = disk.mounted().join("store");
    let mut store = open(&path, None).await;
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    let mut pushed = 0;
    for round in 0..rounds {
        drop(store);
        store = open(&path, skipped).await;
        if round % 2 == 0 {
            let mut own = std::mem::take(&mut *acknowledged.lock().unwrap());
            act(&store, &mut own, round, &disk.mounted(), skipped).await;
            disk.cut_power();
            *acknowledged.lock().unwrap() = own;
        } else {
            let mut pushers = tokio::task::JoinSet::new();
            for pusher in 0..PUSHERS {
                pushers.spawn(push(store.clone(), Arc::clone(&acknowledged), (round * PUSHERS + pusher) << 24));
            }
            tokio::time::sleep(Duration::from_micros(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 40_000)).await;
            disk.cut_power();
            while let Some(pusher) = pushers.join_next().await {
                pusher.unwrap();
            }
        }
        drop(store);
        disk.power_on();
        store = open(&path, None).await;
        let mut own = std::mem::take(&mut *acknowledged.lock().unwrap());
        pushed += own.blobs.len();
        check(&store, &path, &mut own).await.map_err(|loss| format!("round {round}: {loss}"))?;
        *acknowledged.lock().unwrap() = own;
    }
    Ok(pushed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_the_power() {
    let pushed = cut_power_again_and_again(ROUNDS, None).await.unwrap();
    assert!(pushed > 1000, "hardly anything was tried: {pushed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wait_for_the_disk_is_needed() {
    for point in SyncPoint::ALL {
        let result = cut_power_again_and_again(ROUNDS_UNTIL_LOSS, Some(point)).await;
        assert!(result.is_err(), "without {point:?} nothing was lost in {ROUNDS_UNTIL_LOSS} rounds");
    }
}
