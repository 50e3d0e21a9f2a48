//! Attaching over a registry in memory that stops at any of its calls, on both databases.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use api::Problem;
use api::access::{Access, HostIdentity};
use api::registry::{BlobBytes, Pin, PushedManifest, Registry, SaidOf, StoredManifest};
use async_trait::async_trait;
use base::db::Db;
use base::db::testing::for_each_backend;
use oci::{Document, Tag};
use tokio::sync::Notify;

use super::super::store::{CONTEXT, Kept, MIGRATIONS};
use super::super::testing::{Signer, kept};
use super::super::{Config, Deps};
use super::*;
use crate::document::{Image, OperatingSystem, Tool, json};

/// What the registry has. It outlives the hubs.
#[derive(Default)]
struct Stored {
    manifests: BTreeMap<(String, Digest), Bytes>,
    blobs: BTreeMap<(String, Digest), Bytes>,
}

/// A hub's way to the registry.
struct Memory {
    there: Arc<Mutex<Stored>>,
    calls: AtomicUsize,
    /// At this call it stops.
    stops_at: usize,
    stopped: Notify,
    goes_on: Notify,
    /// Repositories whose quota is used up, and mirrors.
    full: BTreeSet<&'static str>,
    mirrors: BTreeSet<&'static str>,
    puts: AtomicUsize,
}

impl Memory {
    fn new(there: &Arc<Mutex<Stored>>, stops_at: usize) -> Self {
        Self {
            there: Arc::clone(there),
            calls: AtomicUsize::new(0),
            stops_at,
            stopped: Notify::new(),
            goes_on: Notify::new(),
            full: BTreeSet::new(),
            mirrors: BTreeSet::new(),
            puts: AtomicUsize::new(0),
        }
    }

    async fn call(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.stops_at {
            self.stopped.notify_one();
            self.goes_on.notified().await;
        }
    }
}

fn refused<T>() -> api::Result<T> {
    Err(Problem::new(403, "quota-exceeded", "The repository is full"))
}

fn not_asked<T>() -> api::Result<T> {
    Err(Problem::new(501, "not-asked", "Attaching never asks this"))
}

#[async_trait]
impl Registry for Memory {
    async fn pin(&self, _: Pin) -> api::Result<()> {
        not_asked()
    }
    async fn unpin(&self, _: Pin) -> api::Result<()> {
        not_asked()
    }
    async fn manifest_get(&self, repository: &RepositoryName, reference: &str) -> api::Result<Option<StoredManifest>> {
        self.call().await;
        let Ok(digest) = reference.parse() else { return Ok(None) };
        let bytes = self.there.lock().unwrap().manifests.get(&(repository.to_string(), digest)).cloned();
        Ok(bytes.map(|bytes| StoredManifest { digest, media_type: media::OCI_MANIFEST.to_owned(), bytes }))
    }
    async fn manifest_put(
        &self,
        repository: &RepositoryName,
        _: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> api::Result<Digest> {
        self.call().await;
        let document = Document::parse(&bytes, Some(media_type)).unwrap();
        let digest = Digest::sha256_of(&bytes);
        {
            let mut there = self.there.lock().unwrap();
            for blob in document.blobs() {
                assert_eq!(there.blobs[&(repository.to_string(), blob.digest)].len() as u64, blob.size);
            }
            there.manifests.insert((repository.to_string(), digest), bytes);
        }
        self.call().await;
        Ok(digest)
    }
    async fn blob_put(&self, repository: &RepositoryName, bytes: Bytes) -> api::Result<Digest> {
        self.call().await;
        self.puts.fetch_add(1, Ordering::SeqCst);
        assert!(!self.mirrors.contains(repository.as_str()));
        if self.full.contains(repository.as_str()) {
            return refused();
        }
        let digest = Digest::sha256_of(&bytes);
        self.there.lock().unwrap().blobs.insert((repository.to_string(), digest), bytes);
        Ok(digest)
    }
    async fn blob_get(&self, repository: &RepositoryName, digest: &Digest, _: u64) -> api::Result<Option<Bytes>> {
        Ok(self.there.lock().unwrap().blobs.get(&(repository.to_string(), *digest)).cloned())
    }
    async fn blob_open(&self, _: &RepositoryName, _: &Digest, _: Option<Range<u64>>) -> api::Result<Option<BlobBytes>> {
        not_asked()
    }
    async fn blobs_known(&self, digests: &[Digest]) -> api::Result<BTreeSet<Digest>> {
        Ok(digests.iter().copied().collect())
    }
    async fn manifests_pushed(&self, _: &(Micros, String, String), _: u32) -> api::Result<Vec<PushedManifest>> {
        Ok(Vec::new())
    }
    async fn manifest_is_here(&self, repository: &RepositoryName, digest: &Digest) -> api::Result<bool> {
        self.call().await;
        Ok(self.there.lock().unwrap().manifests.contains_key(&(repository.to_string(), *digest)))
    }
    async fn tags_leading_to(
        &self,
        _: &[(RepositoryName, Digest)],
    ) -> api::Result<BTreeMap<(RepositoryName, Digest), Vec<Tag>>> {
        Ok(BTreeMap::new())
    }
    async fn said_of(&self, _: &RepositoryName, _: &Digest, _: u32) -> api::Result<Vec<SaidOf>> {
        Ok(Vec::new())
    }
    async fn manifest_delete(&self, repository: &RepositoryName, digest: &Digest) -> api::Result<bool> {
        self.call().await;
        let gone = self.there.lock().unwrap().manifests.remove(&(repository.to_string(), *digest));
        self.call().await;
        Ok(gone.is_some())
    }
    fn is_mirror(&self, repository: &RepositoryName) -> bool {
        self.mirrors.contains(repository.as_str())
    }
    fn host_check(&self, _: &HostIdentity, _: &RepositoryName) -> api::Result<()> {
        not_asked()
    }
}

struct World {
    db: Db,
    there: Arc<Mutex<Stored>>,
    access: Arc<Signer>,
    clock: Arc<AtomicI64>,
    shutdown: Shutdown,
}

impl World {
    fn new(db: Db) -> Self {
        let (there, access) = (Arc::default(), Arc::default());
        Self { db, there, access, clock: Arc::new(AtomicI64::new(1_000_000)), shutdown: Shutdown::default() }
    }

    fn later(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    fn hub(&self, registry: &Arc<Memory>, replica: &str) -> Service {
        let clock = Arc::clone(&self.clock);
        let deps = Deps {
            db: self.db.clone(),
            access: Arc::clone(&self.access) as Arc<dyn Access>,
            registry: Arc::clone(registry) as Arc<dyn Registry>,
            clock: Arc::new(move || Micros(clock.load(Ordering::SeqCst))),
            replica: replica.to_owned(),
        };
        Service::new(Config { folder: std::env::temp_dir(), secrets: false, webhook: None }, deps)
    }

    /// An image that these repositories have, read on this system.
    async fn image(&self, number: usize, repositories: &[&str], system: &str) -> Digest {
        let hub = self.hub(&Arc::new(Memory::new(&self.there, usize::MAX)), "hub");
        let manifest = Bytes::from(format!("manifest {number}"));
        let digest = Digest::sha256_of(&manifest);
        let at = Micros(self.clock.fetch_add(1, Ordering::SeqCst));
        for repository in repositories {
            self.there.lock().unwrap().manifests.insert(((*repository).to_owned(), digest), manifest.clone());
            let entered = vec![(repository.parse().unwrap(), digest, String::new())];
            hub.store().entered(entered, Vec::new(), (at, String::new(), String::new()), at).await.unwrap();
        }
        let contents = Contents {
            tool: Tool { name: "longshore".to_owned(), version: "1".to_owned() },
            image: Image { name: digest.to_string(), digest: Some(digest.to_string()), ..Image::default() },
            operating_system: Some(OperatingSystem {
                id: "debian".to_owned(),
                version: "12".to_owned(),
                name: system.to_owned(),
            }),
            components: Vec::new(),
            findings: Vec::new(),
            matched: None,
            secrets: Vec::new(),
            unexamined: Vec::new(),
        };
        let mut text = Vec::new();
        json::write(&contents, &mut text).unwrap();
        let kept = Kept {
            system: Some(system.to_owned()),
            contents: zstd::bulk::compress(&text, 1).unwrap(),
            ..kept(hub.store().image(&digest).await.unwrap().unwrap().number, Vec::new())
        };
        hub.store().keep(vec![kept], at).await.unwrap();
        digest
    }

    /// Everything that is to be attached is; says how often something was put.
    async fn settle(&self) -> usize {
        let registry = Arc::new(Memory::new(&self.there, usize::MAX));
        let hub = self.hub(&registry, "hub");
        while hub.attach_some(&self.shutdown).await.unwrap() != Progress::Done {}
        registry.puts.load(Ordering::SeqCst)
    }

    /// What refers to an image, by type.
    fn attached(&self, repository: &str, image: &Digest) -> Vec<(String, Digest)> {
        let there = self.there.lock().unwrap();
        let mut found = Vec::new();
        for ((_, digest), bytes) in there.manifests.iter().filter(|((at, _), _)| at == repository) {
            let Ok(document) = Document::parse(bytes, Some(media::OCI_MANIFEST)) else { continue };
            if document.subject().is_some_and(|subject| subject.digest == *image) {
                found.push((document.artifact_type().unwrap().to_owned(), *digest));
            }
        }
        found.sort();
        found
    }

    fn one_of_each(&self, repository: &str, image: &Digest) -> Vec<(String, Digest)> {
        let attached = self.attached(repository, image);
        let kinds: Vec<&str> = attached.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, [SPDX, CYCLONEDX, BUNDLE]);
        attached
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_at_any_call_leaves_one_of_each_in_the_end() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let world = World::new(db);
        for at in 0..200 {
            let image = world.image(at, &["team/app"], "one").await;
            let mut is_over = true;
            // The first time, then when it was read in another way, and everything of before has to go.
            for system in ["one", "two"] {
                world.image(at, &["team/app"], system).await;
                let registry = Arc::new(Memory::new(&world.there, at));
                let hub = world.hub(&registry, "hub");
                tokio::select! {
                    ended = hub.attach_some(&world.shutdown) => assert!(ended.is_ok()),
                    () = registry.stopped.notified() => is_over = false,
                }
                drop(hub);
                world.later(Duration::from_secs(3600));
                world.settle().await;
                world.one_of_each("team/app", &image);
            }
            let before = world.attached("team/app", &image);
            world.later(LOOK_AGAIN);
            assert_eq!((world.settle().await, world.attached("team/app", &image)), (0, before), "nothing changed");
            if is_over {
                assert!(at > 10, "{at} calls are too few to have been stopped at");
                return;
            }
        }
        panic!("there is no end of calls");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_at_once_leave_one_of_each() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let world = World::new(db);
        for at in 0..200 {
            let image = world.image(at, &["team/app"], "one").await;
            let registry = Arc::new(Memory::new(&world.there, at));
            let hub = world.hub(&registry, "slow");
            // The other's lease is over.
            world.later(Duration::from_secs(60));
            let shutdown = world.shutdown.clone();
            let mut slow = tokio::spawn(async move { hub.attach_some(&shutdown).await });
            tokio::select! {
                // It was never stopped: there are no more calls.
                ended = &mut slow => {
                    assert!(ended.unwrap().is_ok() && at > 10, "{at} calls are too few to have been stopped at");
                    return;
                }
                () = registry.stopped.notified() => {}
            }
            // It stands still for longer than it has the lease.
            world.later(Duration::from_secs(60));
            world.settle().await;
            registry.goes_on.notify_one();
            slow.await.unwrap().unwrap();
            world.later(LOOK_AGAIN);
            world.settle().await;
            world.one_of_each("team/app", &image);
        }
        panic!("there is no end of calls");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_nothing_is_left_alone_and_what_was_removed_stays_removed() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let world = World::new(db);
        let image = world.image(0, &["full/app", "mirror/app", "team/app"], "one").await;
        let mut registry = Memory::new(&world.there, usize::MAX);
        registry.full.insert("full/app");
        registry.mirrors.insert("mirror/app");
        let registry = Arc::new(registry);
        let hub = world.hub(&registry, "hub");
        // A minute between two looks, for a day.
        for _ in 0..24 * 60 {
            while hub.attach_some(&world.shutdown).await.unwrap() != Progress::Done {}
            world.later(Duration::from_secs(60));
        }
        let puts = registry.puts.load(Ordering::SeqCst);
        assert!((6..=6 + 2 * TRIES_MAX as usize).contains(&puts), "{puts} times something was put");
        let attached = world.one_of_each("team/app", &image);
        assert!(world.attached("full/app", &image).is_empty() && world.attached("mirror/app", &image).is_empty());

        // Who removes an attachment has removed it, until the image comes again.
        let mut mirrors = Memory::new(&world.there, usize::MAX);
        mirrors.mirrors.extend(["full/app", "mirror/app"]);
        let hub = world.hub(&Arc::new(mirrors), "hub");
        world.there.lock().unwrap().manifests.remove(&("team/app".to_owned(), attached[0].1));
        world.later(LOOK_AGAIN);
        hub.attach_some(&world.shutdown).await.unwrap();
        assert_eq!(world.attached("team/app", &image), attached[1..]);
        hub.attach_again(vec![image], Vec::new()).await.unwrap();
        hub.attach_some(&world.shutdown).await.unwrap();
        assert_eq!(world.one_of_each("team/app", &image), attached, "the same contents have the same digests");
    })
    .await;
}
