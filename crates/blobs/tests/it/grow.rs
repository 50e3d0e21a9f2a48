//! Uploads that are read while they grow.

use std::io;
use std::time::Duration;

use blobs::{BlobError, BlobStore, FileStore};
use bytes::Bytes;
use futures::StreamExt;
use oci::{Algorithm, Digest};
use tokio::sync::{mpsc, watch};

use crate::sample::{self, bytes, read_body};

const DEADLINE: Duration = Duration::from_secs(30);

async fn grown_to(grown: &mut watch::Receiver<u64>, size: u64) {
    let reached = grown.wait_for(|grown| *grown >= size);
    let size_now = *tokio::time::timeout(DEADLINE, reached).await.expect("it did not grow").unwrap();
    assert_eq!(size_now, size);
}

#[tokio::test]
async fn an_upload_is_read_while_it_grows() {
    let folder = sample::folder();
    let store = FileStore::open(folder.path()).await.unwrap();
    let whole = bytes(1, 2_500_000);
    let digest = Digest::sha256_of(&whole);
    let upload = store.upload_create(Algorithm::Sha256).await.unwrap();
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(64);
    let body = body_from(receiver);
    let (grown, mut seen) = watch::channel(0);
    let grow = tokio::spawn({
        let (store, upload) = (store.clone(), upload.clone());
        async move { store.upload_grow(&upload, body, grown).await }
    });
    // Around the sizes where reading changes its way. Each is there although nothing follows it.
    for (from, to) in [(0, 1), (1, 70_000), (70_000, 70_001), (70_001, 1_300_000)] {
        for piece in whole[from..to].chunks(30_011) {
            sender.send(Ok(Bytes::copy_from_slice(piece))).await.unwrap();
        }
        grown_to(&mut seen, to as u64).await;
        let part = store.upload_read(&upload, from as u64..u64::MAX).await.unwrap();
        assert!(read_body(part).await == whole[from..to]);
    }
    let begun = store.upload_read(&upload, 0..1_000_000).await.unwrap();
    assert!(read_body(store.upload_read(&upload, 2_000_000..2_000_001).await.unwrap()).await.is_empty());
    assert!(matches!(store.upload_finish(&upload, &digest).await, Err(BlobError::UploadBusy { .. })));
    sender.send(Ok(Bytes::copy_from_slice(&whole[1_300_000..]))).await.unwrap();
    drop(sender);
    assert_eq!(grow.await.unwrap().unwrap(), whole.len() as u64);
    store.upload_finish(&upload, &digest).await.unwrap();
    assert!(matches!(store.upload_read(&upload, 0..1).await, Err(BlobError::UploadUnknown { .. })));
    assert!(read_body(begun).await == whole[..1_000_000], "what was begun goes on");
}

fn body_from(receiver: mpsc::Receiver<io::Result<Bytes>>) -> blobs::Body {
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
}
