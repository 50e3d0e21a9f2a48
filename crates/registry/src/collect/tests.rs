//! Collection that is broken off at every step, and collection beside pushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::db::Db;
use base::db::testing::for_each_backend;
use blobs::FileStore;
use bytes::Bytes;
use oci::{ManifestReference, media};
use serde_json::json;

use super::*;
use crate::{CONTEXT, Config, Deps, MIGRATIONS};

/// A hub that collects at once.
fn hub(db: &Db, blobs: &Arc<FileStore>, replica: &str) -> Arc<Service> {
    let config = Config { grace: Duration::ZERO, ..Config::default() };
    let deps = Deps { db: db.clone(), blobs: blobs.clone(), replica: replica.to_owned(), sources: Vec::new() };
    Arc::new(Service::new(config, deps).unwrap())
}

async fn open(folder: &tempfile::TempDir) -> Arc<FileStore> {
    Arc::new(FileStore::open(folder.path()).await.unwrap())
}

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

async fn read(hub: &Service, repository: &RepositoryName, digest: &Digest) -> Option<Bytes> {
    hub.blob_read(repository, digest, 1 << 20).await.unwrap()
}

async fn nothing_is_aside(blobs: &FileStore) -> bool {
    use blobs::BlobStore as _;
    let mut is_empty = true;
    for aside in Aside::ALL {
        is_empty &= blobs.list_aside(aside, None, 10).await.unwrap().is_empty();
    }
    is_empty
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Condemned,
    SetAside,
    Decided,
    Discarded,
}

/// Does the steps of a collection up to `last` and stops there.
async fn collect_until(hub: &Service, last: Step) {
    let fence = hub.fence(&mut *hub.collector.lock().await).await.unwrap().unwrap();
    let due = hub.store.blobs_unlinked(Micros::now(), BLOBS_PER_BATCH).await.unwrap();
    let condemned = hub.store.blobs_condemn(&fence, due, Micros::now()).await.unwrap();
    assert_eq!(condemned.len(), 1);
    if last >= Step::SetAside {
        assert_eq!(hub.blobs.set_aside(&condemned, Aside::Condemned).await.unwrap().len(), 1);
    }
    if last >= Step::Decided {
        assert_eq!(hub.store.blobs_decide(&fence, condemned.clone()).await.unwrap().gone, condemned);
    }
    if last >= Step::Discarded {
        hub.blobs.discard(&condemned, Aside::Condemned).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_stops_at_any_step_is_repaired_and_loses_no_push() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository();
        for last in [Step::Condemned, Step::SetAside, Step::Decided, Step::Discarded] {
            for is_pushed in [false, true] {
                let case = format!("{last:?}, pushed: {is_pushed}");
                let hub_before = hub(&db, &open(&folder).await, "a");
                let bytes = Bytes::from(format!("bytes of {case}"));
                let digest = hub_before.keeper.blob_take(&repository, bytes.clone()).await.unwrap();
                assert!(hub_before.store.blob_unlink(&repository, digest, Micros::now()).await.unwrap());
                collect_until(&hub_before, last).await;
                drop(hub_before);

                let blobs = open(&folder).await;
                let hub = hub(&db, &blobs, "a");
                if is_pushed {
                    // The push comes before the repair, and waits for it where it must.
                    let push = tokio::spawn({
                        let (hub, repository, bytes) = (hub.clone(), repository.clone(), bytes.clone());
                        async move { hub.keeper.blob_take(&repository, bytes).await }
                    });
                    while hub.store.blob_size(&repository, &digest).await.unwrap().is_none() {
                        tokio::task::yield_now().await;
                    }
                    hub.repair_now().await;
                    assert_eq!(push.await.unwrap().unwrap(), digest, "{case}");
                    assert_eq!(read(&hub, &repository, &digest).await, Some(bytes), "{case}");
                    assert_eq!(hub.store.blob_state(&digest).await.unwrap().as_deref(), Some("kept"), "{case}");
                    assert!(hub.store.blob_unlink(&repository, digest, Micros::now()).await.unwrap());
                }
                hub.collect(Micros::now()).await.unwrap().unwrap();
                assert_eq!(hub.store.blob_state(&digest).await.unwrap(), None, "{case}");
                assert_eq!(hub.blobs.stat(&digest).await.unwrap(), None, "{case}");
                assert!(nothing_is_aside(&blobs).await, "{case}");
            }
        }
    })
    .await;
}

impl Service {
    /// What a collection begins with after a crash.
    async fn repair_now(&self) {
        let fence = self.fence(&mut *self.collector.lock().await).await.unwrap().unwrap();
        self.repair(&fence).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_another_hub_gets_back_the_bytes_that_are_being_collected() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(&folder).await;
        let (collecting, pushing) = (hub(&db, &blobs, "a"), hub(&db, &blobs, "b"));
        let repository = repository();
        // The push stores its bytes before or after the old ones were set aside; both ways they are the same bytes.
        for is_stored_before in [true, false] {
            let bytes = Bytes::from(format!("stored before: {is_stored_before}"));
            let digest = collecting.keeper.blob_take(&repository, bytes.clone()).await.unwrap();
            assert!(collecting.store.blob_unlink(&repository, digest, Micros::now()).await.unwrap());
            let fence = collecting.fence(&mut *collecting.collector.lock().await).await.unwrap().unwrap();
            let condemned = collecting.store.blobs_condemn(&fence, vec![digest], Micros::now()).await.unwrap();
            if !is_stored_before {
                collecting.blobs.set_aside(&condemned, Aside::Condemned).await.unwrap();
            }
            let push = tokio::spawn({
                let (pushing, repository, bytes) = (pushing.clone(), repository.clone(), bytes.clone());
                async move { pushing.keeper.blob_take(&repository, bytes).await }
            });
            while pushing.store.blob_size(&repository, &digest).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            assert!(!push.is_finished(), "it waits for the decision");
            let mut collected = Collected::default();
            collecting.blobs_judge(&fence, &condemned, &mut collected).await.unwrap();
            assert_eq!((collected.blobs, collected.rescued), (0, 1));
            push.await.unwrap().unwrap();
            assert_eq!(read(&pushing, &repository, &digest).await, Some(bytes));
            assert!(nothing_is_aside(&blobs).await);
        }
        // One whose bytes were taken and decided over before it could link them is refused, and its next try is taken.
        let bytes = Bytes::from_static(b"linked too late");
        let digest = Digest::sha256_of(&bytes);
        let stored = pushing.blobs.put(&digest, blobs::body_of(bytes.clone())).await.unwrap();
        pushing.blobs.set_aside(&[digest], Aside::Condemned).await.unwrap();
        pushing.blobs.discard(&[digest], Aside::Condemned).await.unwrap();
        let refused = pushing.keeper.blob_link(&repository, stored).await;
        assert!(matches!(refused, Err(Error::BlobCollected { .. })), "{refused:?}");
        let manifest = image(&bytes);
        let put = async || {
            let reference = ManifestReference::Digest(Digest::sha256_of(&manifest));
            pushing.manifest_take(&repository, &reference, &[], None, manifest.clone()).await.map(|_| ())
        };
        assert!(matches!(put().await, Err(Error::NeedMissing { .. })));
        pushing.keeper.blob_take(&repository, bytes.clone()).await.unwrap();
        put().await.unwrap();
        assert_eq!(read(&pushing, &repository, &digest).await, Some(bytes));
    })
    .await;
}

/// An image whose only blob is its configuration.
fn image(config: &[u8]) -> Bytes {
    let config = json!({ "mediaType": media::OCI_CONFIG, "digest": Digest::sha256_of(config), "size": config.len() });
    let image = json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": [] });
    Bytes::from(image.to_string())
}

/// Blobs that all writers push.
const SHARED: usize = 4;
const WRITERS: usize = 8;
const ROUNDS: usize = 30;
const TRIES_MAX: usize = 100;

/// What others got in between of is asked again, as a client does that was told so.
macro_rules! settled {
    ($change:expr) => {{
        let mut tries_left = TRIES_MAX;
        loop {
            match $change.await {
                Err(Error::Database(error)) if error.is_temporary() && tries_left > 0 => tries_left -= 1,
                outcome => break outcome,
            }
        }
    }};
}

/// Pushes images and deletes some of them. Gives those that were acknowledged and not deleted.
async fn write(hub: Arc<Service>, writer: usize) -> Vec<(RepositoryName, Digest, Bytes)> {
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let repository: RepositoryName = format!("team/app{}", writer % 3).parse().unwrap();
        let config = match round % 3 {
            0 => Bytes::from(format!("of {writer} alone: {round}")),
            _ => Bytes::from(format!("of all: {}", (round + writer) % SHARED)),
        };
        let manifest = image(&config);
        let digest = Digest::sha256_of(&manifest);
        // Without a grace the blob may go before the manifest comes: then both come again.
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(tries < TRIES_MAX, "the push never gets through");
            settled!(hub.keeper.blob_take(&repository, config.clone())).unwrap();
            let by_digest = ManifestReference::Digest(digest);
            match settled!(hub.manifest_take(&repository, &by_digest, &[], None, manifest.clone())) {
                Ok(_) => break,
                Err(Error::NeedMissing { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // Images of one writer alone: nobody else deletes them, so they must stay; shared ones come and go.
        if round % 3 == 0 && round % 2 == 0 {
            kept.push((repository, digest, config));
        } else {
            settled!(hub.store.manifest_delete(&repository, digest, Micros::now())).unwrap();
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_beside_collections_without_a_grace_is_whole() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(&folder).await;
        let hub = hub(&db, &blobs, "a");
        let is_over = Arc::new(AtomicBool::new(false));
        let collector = tokio::spawn({
            let (hub, is_over) = (hub.clone(), is_over.clone());
            async move {
                let mut blobs = 0;
                while !is_over.load(Ordering::SeqCst) {
                    match hub.collect(Micros::now()).await {
                        Ok(collected) => blobs += collected.unwrap().blobs,
                        // What is pushed all the time leaves no gap for the transaction of its removal.
                        Err(Error::Database(error)) if error.is_temporary() => {}
                        Err(error) => panic!("{error}"),
                    }
                    tokio::task::yield_now().await;
                }
                blobs
            }
        });
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(hub.clone(), writer));
        }
        let mut kept = Vec::new();
        while let Some(writer) = writers.join_next().await {
            kept.extend(writer.unwrap());
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(collector.await.unwrap() > 0, "nothing was collected meanwhile");
        hub.collect(Micros::now()).await.unwrap().unwrap();
        for (repository, manifest, config) in &kept {
            let reference = ManifestReference::Digest(*manifest);
            assert!(hub.store.manifest(repository, &reference).await.unwrap().is_some());
            assert_eq!(read(&hub, repository, &Digest::sha256_of(config)).await.as_ref(), Some(config));
        }
        let there = hub.blobs.list(None, PAGE_BLOBS_MAX).await.unwrap();
        assert_eq!(there.len(), kept.len(), "what nothing needs is gone");
        assert!(nothing_is_aside(&blobs).await);
    })
    .await;
}

/// A push that ended between its bytes and their row leaves what nobody asks for. One that is pushed again stays.
#[tokio::test]
async fn bytes_that_no_row_speaks_of_are_found_at_the_next_start() {
    use blobs::{BlobStore as _, body_of};
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let [lost, again] = [Bytes::from_static(b"lost"), Bytes::from_static(b"again")];
        let earlier = open(&folder).await;
        for bytes in [&lost, &again] {
            earlier.put(&Digest::sha256_of(bytes), body_of(bytes.clone())).await.unwrap();
        }
        let blobs = open(&folder).await;
        let hub = hub(&db, &blobs, "one");
        hub.keeper.blob_take(&repository(), again.clone()).await.unwrap();
        let image = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": [],
            "config": { "mediaType": media::OCI_CONFIG, "digest": Digest::sha256_of(&again), "size": again.len() },
        });
        let reference = ManifestReference::Tag("1".parse().unwrap());
        hub.manifest_take(&repository(), &reference, &[], None, Bytes::from(image.to_string())).await.unwrap();
        // The first one finds them, the second one has them due.
        for _ in 0..2 {
            hub.collect(Micros::now()).await.unwrap().unwrap();
        }
        assert_eq!(blobs.stat(&Digest::sha256_of(&lost)).await.unwrap(), None);
        assert_eq!(read(&hub, &repository(), &Digest::sha256_of(&again)).await, Some(again));
        assert!(blobs.unsettled().is_empty() && open(&folder).await.unsettled().is_empty());
    })
    .await;
}
