//! More at once than there are places for: everyone gets through, whole, and those that stall hold up nobody.

use std::io;
use std::time::Duration;

use blobs::{BlobStore, FileStore};
use bytes::Bytes;
use futures::StreamExt;
use oci::{Algorithm, Digest};

use crate::sample::{self, bytes};

/// Many times the places that the store has for gathered batches and for writers.
const UPLOADS: u64 = 120;
const STALLED: u64 = 60;
const LENGTH: usize = 1_700_003;
const PIECE: usize = 30_011;
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_uploads_than_places_all_arrive() {
    let folder = sample::folder();
    let store = FileStore::open(folder.path()).await.unwrap();
    // These send a little and then nothing, and have what there is to have.
    let mut stalled = Vec::new();
    for seed in 0..STALLED {
        let upload = store.upload_create(Algorithm::Sha256).await.unwrap();
        let some = futures::stream::iter([Ok(Bytes::from(bytes(seed, PIECE))), Ok(Bytes::from(bytes(seed, PIECE)))]);
        let body = some.chain(futures::stream::pending::<io::Result<Bytes>>()).boxed();
        let store = store.clone();
        stalled.push(tokio::spawn(async move { store.upload_append(&upload, 0, body).await }));
    }
    let mut uploads = tokio::task::JoinSet::new();
    for seed in 0..UPLOADS {
        let store = store.clone();
        uploads.spawn(async move {
            let whole = Bytes::from(bytes(1000 + seed, LENGTH));
            let digest: Digest = sample::digest(Algorithm::Sha256, &whole);
            let pieces: Vec<io::Result<Bytes>> =
                (0..LENGTH).step_by(PIECE).map(|at| Ok(whole.slice(at..(at + PIECE).min(LENGTH)))).collect();
            let upload = store.upload_create(Algorithm::Sha256).await.unwrap();
            let size = store.upload_append(&upload, 0, futures::stream::iter(pieces).boxed()).await.unwrap();
            assert_eq!(size, LENGTH as u64);
            store.upload_finish(&upload, &digest).await.unwrap();
        });
    }
    let all = async { while uploads.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(DEADLINE, all).await.expect("those that stall hold up the others");
    assert_eq!(sample::check_all(&store).await.unwrap().len() as u64, UPLOADS);
    assert!(stalled.iter().all(|upload| !upload.is_finished()));
    stalled.iter().for_each(tokio::task::JoinHandle::abort);
}
