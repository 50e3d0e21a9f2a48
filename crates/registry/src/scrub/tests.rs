//! What a disk does to bytes, and how it is found and healed.

use base::db::Db;
use base::db::testing::for_each_backend;
use blobs::{BlobStore as _, FileStore, body_of};
use bytes::Bytes;
use futures::FutureExt;
use oci::{ManifestReference, media};
use serde_json::json;

use super::*;
use crate::{CONTEXT, Config, Deps, MIGRATIONS};

const DAY: Duration = Duration::from_secs(24 * 3600);
const SCRUB: Duration = Duration::from_secs(30 * 24 * 3600);

struct World {
    hub: Arc<Service>,
    db: Db,
    blobs: Arc<FileStore>,
    folder: tempfile::TempDir,
    repository: RepositoryName,
}

impl World {
    async fn new(db: Db, sources: Vec<Source>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let deps = Deps { db: db.clone(), blobs: blobs.clone(), replica: "a".to_owned(), sources };
        let hub = Arc::new(Service::new(Config::default(), deps).unwrap());
        World { hub, db, blobs, folder, repository: "team/app".parse().unwrap() }
    }

    fn path(&self, digest: &Digest) -> std::path::PathBuf {
        let hex = digest.hex();
        self.folder.path().join("blobs").join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    async fn push(&self, bytes: &Bytes) -> Digest {
        self.hub.keeper.blob_take(&self.repository, bytes.clone()).await.unwrap()
    }

    async fn scrub(&self, after: Duration) {
        let progress = self.hub.scrub(Micros::now().plus(after), &Shutdown::new()).await.unwrap();
        assert_eq!(progress, Progress::Done);
    }

    async fn damaged(&self) -> Vec<Digest> {
        self.hub.blobs_damaged(None, 10).await.unwrap().into_iter().map(|blob| blob.digest).collect()
    }

    async fn read(&self, digest: &Digest) -> Result<Bytes, Error> {
        self.hub.blob_read(&self.repository, digest, 1 << 24).await.map(Option::unwrap)
    }

    async fn image_put(&self, config: &Bytes) -> Result<Digest, Error> {
        let config =
            json!({ "mediaType": media::OCI_CONFIG, "digest": Digest::sha256_of(config), "size": config.len() });
        let image = json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": [] });
        let bytes = Bytes::from(image.to_string());
        let digest = Digest::sha256_of(&bytes);
        self.hub.manifest_take(&self.repository, &ManifestReference::Digest(digest), &[], None, bytes).await?;
        Ok(digest)
    }
}

fn flip_a_bit(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_is_found_in_time_never_served_and_healed_by_a_push() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let world = World::new(db, Vec::new()).await;
        let contents: Vec<Bytes> = (0..4).map(|at| Bytes::from(vec![at; 3 << 20])).collect();
        let mut digests = Vec::new();
        for content in &contents {
            digests.push(world.push(content).await);
        }
        // A flipped bit, a file that lost its end, a file that is gone; the last is left as it is.
        flip_a_bit(&world.path(&digests[0]));
        std::fs::write(world.path(&digests[1]), &contents[1][..1 << 20]).unwrap();
        std::fs::remove_file(world.path(&digests[2])).unwrap();

        world.scrub(SCRUB - DAY).await;
        assert!(world.damaged().await.is_empty(), "their time has not come");
        let stopping = Shutdown::new();
        stopping.begin();
        world.hub.scrub(Micros::now().plus(SCRUB), &stopping).await.unwrap();
        world.scrub(SCRUB).await;
        let mut wrong = digests[..3].to_vec();
        wrong.sort_unstable();
        assert_eq!(world.damaged().await, wrong);
        for (digest, content) in digests.iter().zip(&contents).take(3) {
            assert!(matches!(world.read(digest).await, Err(Error::Blob(BlobError::NotFound { .. }))));
            assert!(matches!(world.image_put(content).await, Err(Error::NeedMissing { .. })));
        }
        assert_eq!(world.read(&digests[3]).await.unwrap(), contents[3]);
        assert_eq!(world.blobs.list_aside(Aside::Damaged, None, 10).await.unwrap().len(), 2, "for those who look");

        for content in &contents {
            world.push(content).await;
            world.image_put(content).await.unwrap();
        }
        assert!(world.damaged().await.is_empty());
        world.hub.heal().await.unwrap();
        assert!(world.blobs.list_aside(Aside::Damaged, None, 10).await.unwrap().is_empty());
        world.scrub(2 * SCRUB).await;
        for (digest, content) in digests.iter().zip(&contents) {
            assert_eq!(world.read(digest).await.unwrap(), *content);
        }
        assert!(world.damaged().await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_heals_and_is_not_taken_at_its_word() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let content = Bytes::from_static(b"the bytes of a layer");
        let source = |bytes: Option<Bytes>| -> Source {
            Arc::new(move |_, _| futures::future::ready(bytes.clone().map(body_of)).boxed())
        };
        let sources = vec![source(None), source(Some("others".into())), source(Some(content.clone()))];
        let world = World::new(db, sources).await;
        let digest = world.push(&content).await;
        flip_a_bit(&world.path(&digest));
        world.scrub(SCRUB).await;
        assert_eq!(world.damaged().await, [digest]);
        world.hub.heal().await.unwrap();
        assert!(world.damaged().await.is_empty());
        assert_eq!(world.read(&digest).await.unwrap(), content);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_bytes_without_a_row_go_and_rows_without_bytes_are_not_promised() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let world = World::new(db, Vec::new()).await;
        let (lost, empty) = (Bytes::from_static(b"lost"), Bytes::from_static(b"zero bytes"));
        let kept = world.push(&Bytes::from_static(b"kept")).await;
        world.image_put(&Bytes::from_static(b"kept")).await.unwrap();
        let (lost, empty) = (world.push(&lost).await, world.push(&empty).await);
        std::fs::remove_file(world.path(&lost)).unwrap();
        std::fs::write(world.path(&empty), "").unwrap();
        // A crash between the bytes and their row.
        let stray = Bytes::from_static(b"stray");
        let digest = Digest::sha256_of(&stray);
        world.blobs.put(&digest, body_of(stray.clone())).await.unwrap();

        let now = Micros::now();
        world.hub.bytes_pass(now).await.unwrap();
        let mut wrong = vec![lost, empty];
        wrong.sort_unstable();
        assert_eq!(world.damaged().await, wrong);
        assert_eq!(world.hub.collect(now).await.unwrap().unwrap().blobs, 0);
        assert!(world.blobs.stat(&digest).await.unwrap().is_some(), "it has a grace like all others");
        let grace = Config::default().grace;
        let collected = world.hub.collect(now.plus(grace + Duration::from_secs(1))).await.unwrap().unwrap();
        assert_eq!(collected.blobs, 3, "also those that were lost, which no manifest needed");
        assert_eq!(world.blobs.stat(&digest).await.unwrap(), None);
        assert!(world.blobs.stat(&kept).await.unwrap().is_some());

        // A pass is over for a day, then it begins again.
        world.blobs.put(&digest, body_of(stray)).await.unwrap();
        for (later, state) in [(DAY / 2, None), (DAY, Some("kept"))] {
            world.hub.bytes_pass(now.plus(later)).await.unwrap();
            assert_eq!(world.hub.store.blob_state(&digest).await.unwrap().as_deref(), state);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_rots_is_not_served_and_healed_by_a_push() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let world = World::new(db, Vec::new()).await;
        let config = Bytes::from_static(b"{}");
        world.push(&config).await;
        let digest = world.image_put(&config).await.unwrap();
        world.hub.store.manifests_damage().await;
        world.hub.manifests_pass(Micros::now()).await.unwrap();
        let reference = ManifestReference::Digest(digest);
        // As after a restart: what was read before is in the cache still.
        let hub = World::new(world.db.clone(), Vec::new()).await.hub;
        let found = hub.store.manifest(&world.repository, &reference).await;
        assert!(matches!(found, Err(Error::Damaged { .. })));
        world.image_put(&config).await.unwrap();
        assert!(hub.store.manifest(&world.repository, &reference).await.unwrap().is_some());
    })
    .await;
}
