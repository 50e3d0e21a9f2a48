//! What a disk does to bytes, and how it is found and healed.

use std::sync::Arc;

use base::db::Db;
use base::db::testing::for_each_backend;
use base::tasks::Tasks;
use blobs::{BlobStore as _, FileStore, body_of};
use bytes::Bytes;
use futures::FutureExt;
use oci::{ManifestReference, media};
use serde_json::json;

use super::*;
use crate::upstream::testing::{Other, Served, mirror};
use crate::{CONTEXT, Config, DamagedManifest, Deps, MIGRATIONS, Source};

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
        Self::configured(Config::default(), db, sources).await
    }

    async fn configured(config: Config, db: Db, sources: Vec<Source>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let deps = Deps { db: db.clone(), blobs: blobs.clone(), replica: "a".to_owned(), sources };
        let hub = Arc::new(Service::new(config, deps).unwrap());
        World { hub, db, blobs, folder, repository: "team/app".parse().unwrap() }
    }

    /// The same hub after a restart.
    fn again(&self, config: Config) -> Arc<Service> {
        let (db, blobs) = (self.db.clone(), self.blobs.clone());
        Arc::new(Service::new(config, Deps { db, blobs, replica: "a".to_owned(), sources: Vec::new() }).unwrap())
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
        let damaged = async || world.hub.manifests_damaged(None, 10).await.unwrap();
        let (repository, wrong) = (world.repository.clone(), digest);
        assert_eq!(damaged().await, [DamagedManifest { repository, digest: wrong }]);
        world.hub.heal().await.unwrap();
        assert_eq!(damaged().await.len(), 1, "nobody has it");
        let found = world.hub.store.manifest(&world.repository, &reference).await;
        assert!(matches!(found, Err(Error::Damaged { .. })));
        world.image_put(&config).await.unwrap();
        assert!(damaged().await.is_empty());
        // The writer lets go of the repository a moment after it has answered; what is read before that is not kept.
        let read = async || loop {
            let found = world.hub.store.manifest(&world.repository, &reference).await.unwrap().unwrap();
            if world.db.is_shared() || world.hub.store.manifest_at_hand(&world.repository, digest).is_some() {
                return found;
            }
            tokio::task::yield_now().await;
        };
        let at_hand = tokio::time::timeout(Duration::from_secs(60), read()).await.unwrap();

        // What was read before is in memory still, unless other hubs write to the database, too.
        world.hub.store.manifests_damage().await;
        world.hub.manifests_pass(Micros::now().plus(2 * DAY)).await.unwrap();
        if world.db.is_shared() {
            assert_eq!(damaged().await.len(), 1);
            assert!(world.hub.store.manifest_delete(&world.repository, digest, Micros::now()).await.unwrap());
        } else {
            let hub = world.again(Config::default());
            let found = hub.store.manifest(&world.repository, &reference).await.unwrap().unwrap();
            assert_eq!(found.manifest.bytes, at_hand.manifest.bytes);
        }
        assert!(damaged().await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_from_an_upstream_is_fetched_again_and_what_did_not_stays_damaged() {
    let other = Arc::new(Other::new().await);
    for_each_backend(CONTEXT, MIGRATIONS, |db| {
        let other = Arc::clone(&other);
        async move {
            let (up, down) = (other.server.address.as_str(), "127.0.0.1:1");
            let world = World::configured(mirror(up, "scrub = \"1s\""), db, Vec::new()).await;
            let (mirrored, tag): (RepositoryName, ManifestReference) =
                ("m/app".parse().unwrap(), "v1".parse().unwrap());
            let [layer, image] = [&other.layer, &other.image].map(|bytes| Digest::sha256_of(bytes));
            let pulled = async |hub: &Service| {
                let found = hub.manifest_find(&mirrored, &tag).await?.unwrap();
                let blob = hub.blob_read(&mirrored, &layer, 1 << 24).await?.unwrap();
                Ok::<_, Error>((found.manifest.bytes.clone(), blob))
            };
            let whole = (other.image.clone(), other.layer.clone());
            assert_eq!(pulled(&world.hub).await.unwrap(), whole);
            let own = world.push(&Bytes::from_static(b"nobody else has this")).await;
            world.image_put(&Bytes::from_static(b"nobody else has this")).await.unwrap();
            // Others have the layer as well, by a push, and come first by name.
            for at in 0..10 {
                let repository = format!("a/app{at}").parse().unwrap();
                world.hub.keeper.blob_take(&repository, other.layer.clone()).await.unwrap();
            }
            let rot = |digests: &[Digest]| digests.iter().for_each(|digest| flip_a_bit(&world.path(digest)));

            // While the upstream is away, nothing wrong is served, and a pull heals when it is back.
            rot(&[layer, own]);
            world.scrub(SCRUB).await;
            let mut wrong = vec![layer, own];
            wrong.sort_unstable();
            assert_eq!(world.damaged().await, wrong);
            let away = world.again(mirror(down, ""));
            away.heal().await.unwrap();
            assert_eq!(world.damaged().await, wrong);
            assert!(matches!(pulled(&away).await, Err(Error::Upstream(_))));
            assert_eq!(pulled(&world.hub).await.unwrap(), whole);
            assert_eq!(world.damaged().await, [own]);

            // Manifests likewise: a pull fetches them again, by tag or by digest, and so does the scrubber.
            for reference in [tag.clone(), ManifestReference::Digest(image)] {
                world.hub.store.manifests_damage().await;
                let found = world.again(mirror(up, "")).manifest_find(&mirrored, &reference).await.unwrap();
                assert_eq!(found.unwrap().manifest.bytes, whole.0, "{reference}");
            }
            world.hub.store.manifests_damage().await;
            let hub = world.again(mirror(up, ""));
            hub.manifests_pass(Micros::now()).await.unwrap();
            assert_eq!(hub.manifests_damaged(None, 10).await.unwrap().len(), 2);
            assert!(matches!(pulled(&world.again(mirror(down, ""))).await, Err(Error::Upstream(_))));
            hub.heal().await.unwrap();
            let [DamagedManifest { repository, .. }] = &hub.manifests_damaged(None, 10).await.unwrap()[..] else {
                panic!("the one that was pushed stays")
            };
            assert_eq!(repository, &world.repository);
            assert_eq!(pulled(&hub).await.unwrap(), whole);

            // By itself, without a pull.
            rot(&[layer]);
            let stop = Shutdown::new();
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.hub.tasks_spawn(&Tasks::new(stop.clone()));
            let until = Instant::now() + Duration::from_secs(60);
            while !std::fs::read(world.path(&layer)).is_ok_and(|bytes| bytes == whole.1) {
                assert!(Instant::now() < until, "it is not healed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stop.begin();

            let server = Served::new(crate::http::api_routes(Arc::clone(&world.hub))).await;
            let seen = async |query: &str| {
                let address = format!("http://{}/api/v1/registry/damaged{query}", server.address);
                reqwest::get(address).await.unwrap().json::<serde_json::Value>().await.unwrap()
            };
            let all = seen("").await;
            assert_eq!((all["blobs"].as_array().unwrap().len(), &all["blobs"][0]["digest"]), (1, &json!(own)));
            assert_eq!(all["manifests"][0]["repository"], json!(world.repository));
            let last = format!("{}@{}", world.repository, all["manifests"][0]["digest"].as_str().unwrap());
            let rest = seen(&format!("?after={own}&after_manifest={last}")).await;
            assert_eq!(rest, json!({ "blobs": [], "manifests": [] }));
        }
    })
    .await;
}
