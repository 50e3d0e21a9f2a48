//! Random operations against a map from digests to bytes, with the store opened anew now and then.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use blobs::{Aside, BlobError, BlobStore, Body, FileStore, body_of};
use bytes::Bytes;
use futures::StreamExt;
use oci::{Algorithm, Digest, UploadName};
use proptest::prelude::*;

use crate::sample::{self, bytes, check_all, digest, read_all};

#[derive(Clone, Copy, Debug)]
struct Sample {
    seed: u64,
    length: usize,
}

#[derive(Clone, Debug)]
enum Op {
    Put { sample: Sample, sha512: bool, wrong: bool, breaks: bool },
    Create,
    Append { at: usize, sample: Sample, shift: u64, breaks: bool },
    Finish { at: usize, sha512: bool, wrong: bool },
    Cancel { at: usize },
    SetAside { at: usize, damaged: bool },
    PutBack { at: usize },
    Discard { at: usize, damaged: bool },
    Read { at: usize, start: u64, length: u64 },
    Sweep { all: bool },
    Reopen,
}

fn sample() -> impl Strategy<Value = Sample> {
    // Around the sizes where the store changes its way: nothing, small, mapped, several batches.
    let length = prop_oneof![Just(0usize), 1usize..200, 65_000usize..66_000, 1_000_000usize..2_500_000];
    (0u64..6, length).prop_map(|(seed, length)| Sample { seed, length })
}

fn op() -> impl Strategy<Value = Op> {
    let rarely = prop::bool::weighted(0.15);
    prop_oneof![
        4 => (sample(), rarely, rarely, rarely).prop_map(|(sample, sha512, wrong, breaks)| Op::Put { sample, sha512, wrong, breaks }),
        2 => Just(Op::Create),
        4 => (any::<usize>(), sample(), prop_oneof![9 => Just(0u64), 1 => 1u64..3], rarely)
            .prop_map(|(at, sample, shift, breaks)| Op::Append { at, sample, shift, breaks }),
        3 => (any::<usize>(), rarely, rarely).prop_map(|(at, sha512, wrong)| Op::Finish { at, sha512, wrong }),
        1 => any::<usize>().prop_map(|at| Op::Cancel { at }),
        2 => (any::<usize>(), rarely).prop_map(|(at, damaged)| Op::SetAside { at, damaged }),
        1 => any::<usize>().prop_map(|at| Op::PutBack { at }),
        1 => (any::<usize>(), rarely).prop_map(|(at, damaged)| Op::Discard { at, damaged }),
        3 => (any::<usize>(), 0u64..2_000_000, 0u64..2_000_000).prop_map(|(at, start, length)| Op::Read { at, start, length }),
        1 => any::<bool>().prop_map(|all| Op::Sweep { all }),
        1 => Just(Op::Reopen),
    ]
}

/// The bytes in uneven pieces; with `breaks`, an error after them.
fn body(bytes: &[u8], breaks: bool) -> Body {
    let mut pieces: Vec<io::Result<Bytes>> =
        bytes.chunks(30_011).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    if breaks {
        pieces.push(Err(io::ErrorKind::ConnectionReset.into()));
    }
    futures::stream::iter(pieces).boxed()
}

fn pick<K: Clone, V>(map: &BTreeMap<K, V>, at: usize) -> Option<K> {
    map.keys().nth(at % map.len().max(1)).cloned()
}

fn algorithm(sha512: bool) -> Algorithm {
    if sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 }
}

#[derive(Default)]
struct Model {
    blobs: BTreeMap<Digest, Vec<u8>>,
    uploads: BTreeMap<UploadName, Vec<u8>>,
    /// Condemned and damaged ones.
    aside: [BTreeMap<Digest, Vec<u8>>; 2],
}

fn kind(damaged: bool) -> Aside {
    if damaged { Aside::Damaged } else { Aside::Condemned }
}

async fn apply(store: &FileStore, model: &mut Model, op: Op) {
    match op {
        Op::Put { sample, sha512, wrong, breaks } => {
            let bytes = bytes(sample.seed, sample.length);
            let digest = digest(algorithm(sha512), if wrong { b"other" } else { &bytes });
            let result = store.put(&digest, body(&bytes, breaks)).await;
            match (breaks, wrong) {
                (true, _) => assert!(matches!(result, Err(BlobError::Body(_)))),
                (false, true) => assert!(matches!(result, Err(BlobError::DigestMismatch { .. }))),
                (false, false) => {
                    assert_eq!(result.unwrap().size, bytes.len() as u64);
                    model.blobs.insert(digest, bytes);
                }
            }
        }
        Op::Create => {
            // Half of them turn out to end with a digest of the other algorithm.
            let upload = store.upload_create(Algorithm::ALL[model.uploads.len() % 2]).await.unwrap();
            assert!(model.uploads.insert(upload, Vec::new()).is_none());
        }
        Op::Append { at, sample, shift, breaks } => {
            let Some(upload) = pick(&model.uploads, at) else { return };
            let held = model.uploads.get_mut(&upload).unwrap();
            let bytes = bytes(sample.seed, sample.length);
            let result = store.upload_append(&upload, held.len() as u64 + shift, body(&bytes, breaks)).await;
            if shift > 0 {
                assert!(matches!(result, Err(BlobError::OffsetMismatch { .. })));
                return;
            }
            held.extend_from_slice(&bytes);
            if breaks {
                assert!(matches!(result, Err(BlobError::Body(_))));
            } else {
                assert_eq!(result.unwrap(), held.len() as u64);
            }
        }
        Op::Finish { at, sha512, wrong } => {
            let Some(upload) = pick(&model.uploads, at) else { return };
            let bytes = model.uploads.remove(&upload).unwrap();
            let digest = digest(algorithm(sha512), if wrong { b"other" } else { &bytes });
            let result = store.upload_finish(&upload, &digest).await;
            if wrong {
                assert!(matches!(result, Err(BlobError::DigestMismatch { .. })));
            } else {
                assert_eq!(result.unwrap().size, bytes.len() as u64);
                model.blobs.insert(digest, bytes);
            }
            // a05: a session cannot be used after it ended.
            assert!(matches!(store.upload_finish(&upload, &digest).await, Err(BlobError::UploadUnknown { .. })));
            assert!(matches!(
                store.upload_append(&upload, 0, body_of("x")).await,
                Err(BlobError::UploadUnknown { .. })
            ));
        }
        Op::Cancel { at } => {
            let Some(upload) = pick(&model.uploads, at) else { return };
            model.uploads.remove(&upload);
            store.upload_cancel(&upload).await.unwrap();
            assert!(matches!(store.upload_size(&upload).await, Err(BlobError::UploadUnknown { .. })));
        }
        Op::SetAside { at, damaged } => {
            let digest = pick(&model.blobs, at).unwrap_or_else(|| Digest::sha256_of(b"never"));
            let moved = store.set_aside(&[digest], kind(damaged)).await.unwrap();
            let held = model.blobs.remove(&digest);
            assert_eq!(moved.first().map(|blob| blob.size), held.as_ref().map(|bytes| bytes.len() as u64));
            model.aside[usize::from(damaged)].extend(held.map(|bytes| (digest, bytes)));
            assert!(matches!(store.read(&digest, None).await, Err(BlobError::NotFound { .. })));
        }
        Op::PutBack { at } => {
            let digest = pick(&model.aside[0], at).unwrap_or_else(|| Digest::sha256_of(b"never"));
            store.put_back(&[digest]).await.unwrap();
            if let Some(bytes) = model.aside[0].remove(&digest) {
                model.blobs.entry(digest).or_insert(bytes);
            }
        }
        Op::Discard { at, damaged } => {
            let held = &mut model.aside[usize::from(damaged)];
            let digest = pick(held, at).unwrap_or_else(|| Digest::sha256_of(b"never"));
            let freed = store.discard(&[digest], kind(damaged)).await.unwrap();
            assert_eq!(freed, held.remove(&digest).map_or(0, |bytes| bytes.len() as u64));
        }
        Op::Read { at, start, length } => {
            let Some(digest) = pick(&model.blobs, at) else { return };
            let whole = &model.blobs[&digest];
            let result = store.read(&digest, Some(start..start + length)).await;
            let (from, to) = (start as usize, ((start + length) as usize).min(whole.len()));
            if from < to || (whole.is_empty() && from == 0) {
                let read = result.unwrap();
                assert_eq!((read.size, read.range.clone()), (whole.len() as u64, from as u64..to as u64));
                assert!(read_all(read).await == whole[from..to]);
            } else {
                assert!(matches!(result, Err(BlobError::RangeUnsatisfiable { .. })));
            }
        }
        Op::Sweep { all } => {
            let idle_since = if all { SystemTime::now() + Duration::from_secs(60) } else { SystemTime::UNIX_EPOCH };
            let mut swept = store.upload_sweep(idle_since).await.unwrap();
            swept.sort();
            if all {
                assert_eq!(swept, std::mem::take(&mut model.uploads).into_keys().collect::<Vec<_>>());
            } else {
                assert!(swept.is_empty());
            }
        }
        Op::Reopen => {}
    }
}

async fn run(ops: Vec<Op>) {
    let folder = sample::folder();
    let mut store = FileStore::open(folder.path()).await.unwrap();
    let mut model = Model::default();
    for op in ops {
        if matches!(op, Op::Reopen) {
            store = FileStore::open(folder.path()).await.unwrap();
        }
        apply(&store, &mut model, op).await;
        for (upload, bytes) in &model.uploads {
            assert_eq!(store.upload_size(upload).await.unwrap(), bytes.len() as u64);
        }
    }
    assert_eq!(check_all(&store).await.unwrap(), model.blobs.keys().copied().collect::<Vec<_>>());
    for (digest, bytes) in &model.blobs {
        assert_eq!(store.stat(digest).await.unwrap().unwrap().size, bytes.len() as u64);
    }
    // Nothing but what the model holds is left: no temporary files.
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), model.uploads.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map(ops in proptest::collection::vec(op(), 1..40)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run(ops));
    }
}

#[tokio::test]
async fn an_append_goes_on_when_its_caller_is_gone() {
    let folder = sample::folder();
    let store = FileStore::open(folder.path()).await.unwrap();
    let upload = store.upload_create(Algorithm::Sha256).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    let body =
        futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let append = tokio::spawn({
        let (store, upload) = (store.clone(), upload.clone());
        async move { store.upload_append(&upload, 0, body.boxed()).await }
    });
    sender.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
    // There is room for one: when the second fits, the append has taken the first and holds the upload.
    sender.send(Ok(Bytes::from_static(b" "))).await.unwrap();
    assert!(matches!(store.upload_append(&upload, 0, body_of("x")).await, Err(BlobError::UploadBusy { .. })));
    append.abort();
    sender.send(Ok(Bytes::from_static(b"done"))).await.unwrap();
    drop(sender);
    let digest = Digest::sha256_of(b"half done");
    let deadline = SystemTime::now() + Duration::from_secs(20);
    loop {
        match store.upload_finish(&upload, &digest).await {
            Err(BlobError::UploadBusy { .. }) if SystemTime::now() < deadline => tokio::task::yield_now().await,
            result => break assert_eq!(result.unwrap().size, 9),
        }
    }
}

#[tokio::test]
async fn a07_what_a_broken_disk_left_is_not_served_and_mended_by_a_push() {
    let folder = sample::folder();
    let store = FileStore::open(folder.path()).await.unwrap();
    let digest = Digest::sha256_of(b"content");
    let path = folder.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
    store.put(&digest, body_of("content")).await.unwrap();
    for broken in ["", "CONTENT"] {
        std::fs::write(&path, broken).unwrap();
        if broken.is_empty() {
            assert_eq!(store.stat(&digest).await.unwrap(), None);
            assert!(matches!(store.read(&digest, None).await, Err(BlobError::NotFound { .. })));
        }
        store.put(&digest, body_of("content")).await.unwrap();
        assert_eq!(read_all(store.read(&digest, None).await.unwrap()).await, b"content");
    }
}

#[tokio::test]
async fn a49_a_folder_of_a_later_version_is_refused() {
    let folder = sample::folder();
    drop(FileStore::open(folder.path()).await.unwrap());
    std::fs::write(folder.path().join("format"), "longshore blobs 2\n").unwrap();
    let Err(error) = FileStore::open(folder.path()).await else { panic!("it was opened") };
    assert!(matches!(error, BlobError::UnknownFormat { .. }));
    assert!(error.to_string().contains("longshore blobs 2"));
}
