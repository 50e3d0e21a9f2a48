//! The store and the collector against a model that is plain sets and times: any sequence of changes has the same
//! outcomes and leaves the same rows and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::blobs::{FileStore, body_of};
use api::Micros;
use api::registry::Pin;
use base::db::testing::for_each_backend;
use bytes::Bytes;
use oci::{Document, ManifestReference, media};
use proptest::prelude::*;
use proptest::test_runner::{Config as TestConfig, TestRunner};
use serde_json::{Value, json};

use super::*;
use crate::{CONTEXT, Config, Deps, Service};

const CASES: u32 = 32;
const STEPS_MAX: usize = 60;
const REPOSITORIES: usize = 2;
const BLOBS: usize = 3;
const TAGS: [&str; 3] = ["B", "_", "a"];
/// A tag that speaks of the first manifest, as cosign names a signature. It is behind [`TAGS`].
const SIGNATURE: usize = TAGS.len();
const HOLDERS: [&str; 2] = ["release/1", "release/2"];
const MANIFESTS: usize = 7;
const GRACE_SECONDS: i64 = 3600;

#[derive(Debug, Clone)]
enum Change {
    Link { repository: usize, blob: usize },
    Mount { repository: usize, blob: usize },
    Unlink { repository: usize, blob: usize },
    Put { repository: usize, manifest: usize, tag: Option<usize> },
    Delete { repository: usize, manifest: usize },
    TagDelete { repository: usize, tag: usize },
    Pin { repository: usize, manifest: usize, holder: usize },
    Unpin { repository: usize, manifest: usize, holder: usize },
    Collect { seconds: i64 },
    Fold,
}

fn change() -> impl Strategy<Value = Change> {
    let (repository, manifest) = (0..REPOSITORIES, 0..MANIFESTS);
    let blob = (repository.clone(), 0..BLOBS);
    let one = (repository.clone(), manifest.clone());
    let put = (repository.clone(), manifest.clone(), proptest::option::of(0..=SIGNATURE));
    let pin = (repository.clone(), manifest, 0..HOLDERS.len());
    // What builds up is likelier than what takes away, or nothing ever would be there.
    prop_oneof![
        6 => blob.clone().prop_map(|(repository, blob)| Change::Link { repository, blob }),
        2 => blob.clone().prop_map(|(repository, blob)| Change::Mount { repository, blob }),
        1 => blob.prop_map(|(repository, blob)| Change::Unlink { repository, blob }),
        10 => put.prop_map(|(repository, manifest, tag)| Change::Put { repository, manifest, tag }),
        4 => one.prop_map(|(repository, manifest)| Change::Delete { repository, manifest }),
        1 => (repository, 0..=SIGNATURE).prop_map(|(repository, tag)| Change::TagDelete { repository, tag }),
        1 => pin.clone().prop_map(|(repository, manifest, holder)| Change::Pin { repository, manifest, holder }),
        1 => pin.prop_map(|(repository, manifest, holder)| Change::Unpin { repository, manifest, holder }),
        3 => (0..GRACE_SECONDS * 5 / 4).prop_map(|seconds| Change::Collect { seconds }),
        2 => Just(Change::Fold),
    ]
}

/// A referrer that is in an index, too, loses both: the grace begins with the second.
fn both_are_lost() -> Vec<Change> {
    let link = |blob| Change::Link { repository: 0, blob };
    let put = |manifest| Change::Put { repository: 0, manifest, tag: None };
    let (subject, referrer, index) = (0, 2, 6);
    let mut changes = vec![link(0), link(1), put(subject), put(referrer), put(index)];
    for first in [subject, index] {
        let second = if first == subject { index } else { subject };
        changes.extend([
            Change::Delete { repository: 0, manifest: first },
            Change::Collect { seconds: GRACE_SECONDS / 2 },
            Change::Delete { repository: 0, manifest: second },
            Change::Collect { seconds: GRACE_SECONDS * 3 / 4 },
            link(0),
            link(1),
            put(subject),
            put(referrer),
            put(index),
        ]);
    }
    changes
}

/// A signature by tag goes with its subject; pushed again meanwhile, it has another grace.
fn what_it_signs_is_lost() -> Vec<Change> {
    let put = |manifest, tag| Change::Put { repository: 0, manifest, tag };
    let (subject, signature) = (0, 1);
    let lose = Change::Delete { repository: 0, manifest: subject };
    vec![
        Change::Link { repository: 0, blob: 0 },
        Change::Link { repository: 0, blob: 1 },
        Change::Link { repository: 0, blob: 2 },
        put(subject, None),
        put(signature, Some(SIGNATURE)),
        lose.clone(),
        Change::Collect { seconds: GRACE_SECONDS / 2 },
        put(subject, None),
        lose,
        Change::Collect { seconds: GRACE_SECONDS * 3 / 4 },
        Change::Collect { seconds: GRACE_SECONDS },
        Change::Collect { seconds: GRACE_SECONDS * 2 },
    ]
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done(bool),
    Missing,
    Kept,
    Unknown,
}

/// A manifest of the tests, and what it needs.
struct Known {
    bytes: Bytes,
    digest: Digest,
    blobs: &'static [usize],
    manifests: &'static [usize],
    subject: Option<usize>,
}

fn known(blobs: &[String]) -> [Known; MANIFESTS] {
    let of = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes), "size": bytes.len() });
    let image = |layer: usize, subject: Option<&Value>| {
        let layers = [of(media::OCI_LAYER, blobs[layer].as_bytes())];
        let config = of(media::OCI_CONFIG, blobs[0].as_bytes());
        let mut image =
            json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers });
        if let Some(subject) = subject {
            image["subject"] = of(media::OCI_MANIFEST, subject.to_string().as_bytes());
        }
        image
    };
    let index = |children: &[(&str, &Value)]| {
        let children: Vec<Value> =
            children.iter().map(|(kind, child)| of(kind, child.to_string().as_bytes())).collect();
        json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children })
    };
    let (first, second) = (image(1, None), image(2, None));
    let referrer = image(1, Some(&first));
    let referrers_referrer = image(2, Some(&referrer));
    let of_referrer = index(&[(media::OCI_MANIFEST, &referrer)]);
    let inner = index(&[(media::OCI_MANIFEST, &first)]);
    let outer = index(&[(media::OCI_MANIFEST, &second), (media::OCI_INDEX, &inner)]);
    let known = |value: &Value, blobs, manifests, subject| {
        let bytes = Bytes::from(value.to_string());
        Known { digest: Digest::sha256_of(&bytes), bytes, blobs, manifests, subject }
    };
    [
        known(&first, &[0, 1], &[], None),
        known(&second, &[0, 2], &[], None),
        known(&referrer, &[0, 1], &[], Some(0)),
        known(&inner, &[], &[0], None),
        known(&outer, &[], &[1, 3], None),
        known(&referrers_referrer, &[0, 2], &[], Some(2)),
        known(&of_referrer, &[], &[2], None),
    ]
}

/// What a repository should hold, and since when some of it has nothing to be there for.
#[derive(Default)]
struct Held {
    exists: bool,
    empty: Option<Micros>,
    blobs: BTreeMap<usize, Option<Micros>>,
    manifests: BTreeMap<usize, Option<Micros>>,
    tags: BTreeMap<usize, usize>,
    pins: BTreeSet<(usize, usize)>,
}

impl Held {
    fn need_blob(&self, known: &[Known], blob: usize) -> bool {
        self.manifests.keys().any(|manifest| known[*manifest].blobs.contains(&blob))
    }

    fn need_manifest(&self, known: &[Known], manifest: usize) -> bool {
        self.manifests.keys().any(|other| known[*other].manifests.contains(&manifest))
    }

    fn is_tagged(&self, manifest: usize) -> bool {
        self.tags.values().any(|tagged| *tagged == manifest)
    }

    fn is_pinned(&self, manifest: usize) -> bool {
        self.pins.iter().any(|(_, pinned)| *pinned == manifest)
    }

    /// Has a tag that is about something which is there, or a pin.
    fn is_held(&self, manifest: usize) -> bool {
        let signs_nothing = |tag: usize| tag == SIGNATURE && !self.manifests.contains_key(&0);
        self.tags.iter().any(|(tag, tagged)| *tagged == manifest && !signs_nothing(*tag)) || self.is_pinned(manifest)
    }

    fn signs(&self, manifest: usize, subject: usize) -> bool {
        subject == 0 && self.tags.get(&SIGNATURE) == Some(&manifest)
    }

    fn remove(&mut self, known: &[Known], manifest: usize, manifests_since: Micros, blobs_since: Micros) {
        self.manifests.remove(&manifest);
        self.tags.retain(|_, tagged| *tagged != manifest);
        for blob in known[manifest].blobs {
            if !self.need_blob(known, *blob) {
                self.blobs.insert(*blob, Some(blobs_since));
            }
        }
        let others: Vec<usize> = self.manifests.keys().copied().collect();
        for other in others {
            let was_there_for_it = known[manifest].manifests.contains(&other)
                || known[other].subject == Some(manifest)
                || self.signs(other, manifest);
            let has_subject = known[other].subject.is_some_and(|subject| self.manifests.contains_key(&subject));
            if was_there_for_it && !has_subject && !self.need_manifest(known, other) {
                self.manifests.get_mut(&other).unwrap().get_or_insert(manifests_since);
            }
        }
        self.note_empty(blobs_since);
    }

    fn note_empty(&mut self, now: Micros) {
        if self.manifests.is_empty() && self.blobs.is_empty() {
            self.empty.get_or_insert(now);
        }
    }
}

struct World<'a> {
    service: &'a Service,
    names: Vec<RepositoryName>,
    tags: Vec<String>,
    contents: Vec<String>,
    known: [Known; MANIFESTS],
    held: Vec<Held>,
    /// Blobs whose bytes are there, with the time since when no repository has them.
    stored: BTreeMap<usize, Option<Micros>>,
    now: Micros,
}

impl<'a> World<'a> {
    fn new(service: &'a Service, case: usize) -> Self {
        let contents: Vec<String> = (0..BLOBS).map(|blob| format!("{blob} of {case}")).collect();
        let known = known(&contents);
        let signature = format!("sha256-{}.sig", known[0].digest.hex());
        Self {
            service,
            names: (0..REPOSITORIES).map(|at| format!("case{case}/r{at}").parse().unwrap()).collect(),
            tags: TAGS.map(str::to_owned).into_iter().chain([signature]).collect(),
            known,
            contents,
            held: (0..REPOSITORIES).map(|_| Held::default()).collect(),
            stored: BTreeMap::new(),
            now: Micros(case as i64 * 1_000_000_000_000),
        }
    }

    async fn run(mut self, changes: Vec<Change>) {
        for (at, change) in changes.iter().enumerate() {
            self.now = self.now.plus_seconds(1);
            let outcome = self.real(change).await;
            assert_eq!(outcome, self.expected(change), "{change:?}");
            // What is read is in the cache afterwards, and must go with the next change of it.
            if at % 8 == 7 || matches!(change, Change::Collect { .. }) {
                self.compare().await;
            }
        }
        self.compare().await;
    }

    fn digest(&self, blob: usize) -> Digest {
        Digest::sha256_of(self.contents[blob].as_bytes())
    }

    fn expected(&mut self, change: &Change) -> Outcome {
        let (known, now) = (&self.known, self.now);
        match *change {
            Change::Link { repository, blob } => {
                let held = &mut self.held[repository];
                held.exists = true;
                held.empty = None;
                match held.blobs.get_mut(&blob) {
                    Some(None) => {}
                    Some(unneeded) => *unneeded = Some(now),
                    None => {
                        held.blobs.insert(blob, Some(now));
                    }
                }
                self.stored.insert(blob, None);
                Outcome::Done(true)
            }
            Change::Mount { repository, blob } => {
                if !self.held[REPOSITORIES - 1 - repository].blobs.contains_key(&blob) {
                    return Outcome::Missing;
                }
                self.expected(&Change::Link { repository, blob })
            }
            Change::Unlink { repository, blob } => {
                let held = &mut self.held[repository];
                if held.need_blob(known, blob) {
                    return Outcome::Kept;
                }
                let removed = held.blobs.remove(&blob).is_some();
                if held.exists {
                    held.note_empty(now);
                }
                if removed && self.held.iter().all(|held| !held.blobs.contains_key(&blob)) {
                    self.stored.insert(blob, Some(now));
                }
                Outcome::Done(removed)
            }
            Change::Put { repository, manifest, tag } => {
                let held = &mut self.held[repository];
                let blobs = known[manifest].blobs.iter().all(|blob| held.blobs.contains_key(blob));
                if !blobs || !known[manifest].manifests.iter().all(|child| held.manifests.contains_key(child)) {
                    return Outcome::Missing;
                }
                held.manifests.insert(manifest, None);
                held.exists = true;
                held.empty = None;
                for blob in known[manifest].blobs {
                    held.blobs.insert(*blob, None);
                }
                let others: Vec<usize> = held.manifests.keys().copied().collect();
                for other in others {
                    let is_for_it = known[manifest].manifests.contains(&other)
                        || known[other].subject == Some(manifest)
                        || held.signs(other, manifest);
                    if is_for_it {
                        held.manifests.insert(other, None);
                    }
                }
                held.tags.extend(tag.map(|tag| (tag, manifest)));
                Outcome::Done(true)
            }
            Change::Delete { repository, manifest } => {
                let held = &mut self.held[repository];
                if held.need_manifest(known, manifest) || held.pins.iter().any(|(_, pinned)| *pinned == manifest) {
                    return Outcome::Kept;
                }
                let is_there = held.manifests.contains_key(&manifest);
                if is_there {
                    held.remove(known, manifest, now, now);
                }
                Outcome::Done(is_there)
            }
            Change::TagDelete { repository, tag } => Outcome::Done(self.held[repository].tags.remove(&tag).is_some()),
            Change::Pin { repository, manifest, holder } => {
                if !self.held[repository].manifests.contains_key(&manifest) {
                    return Outcome::Unknown;
                }
                self.held[repository].pins.insert((holder, manifest));
                Outcome::Done(true)
            }
            Change::Unpin { repository, manifest, holder } => {
                self.held[repository].pins.remove(&(holder, manifest));
                Outcome::Done(true)
            }
            Change::Fold => Outcome::Done(true),
            Change::Collect { .. } => {
                self.collect();
                Outcome::Done(true)
            }
        }
    }

    fn collect(&mut self) {
        let (known, now) = (&self.known, self.now);
        let cutoff = now.plus_seconds(-GRACE_SECONDS);
        let is_due = |since: &Option<Micros>| since.is_some_and(|since| since <= cutoff);
        for held in &mut self.held {
            while let Some((manifest, since)) =
                held.manifests.iter().find(|(_, orphaned)| is_due(orphaned)).map(|(at, since)| (*at, since.unwrap()))
            {
                let has_subject = known[manifest].subject.is_some_and(|subject| held.manifests.contains_key(&subject));
                if has_subject || held.need_manifest(known, manifest) {
                    held.manifests.insert(manifest, None);
                } else if held.is_held(manifest) {
                    held.manifests.insert(manifest, Some(now));
                } else {
                    held.remove(known, manifest, since, now);
                }
            }
        }
        for at in 0..REPOSITORIES {
            let due: Vec<usize> =
                self.held[at].blobs.iter().filter(|(_, since)| is_due(since)).map(|(blob, _)| *blob).collect();
            for blob in due {
                let since = self.held[at].blobs.remove(&blob).unwrap();
                self.held[at].note_empty(now);
                if self.held.iter().all(|held| !held.blobs.contains_key(&blob)) {
                    self.stored.insert(blob, since);
                }
            }
            if is_due(&self.held[at].empty) {
                self.held[at] = Held { pins: std::mem::take(&mut self.held[at].pins), ..Held::default() };
            }
        }
        self.stored.retain(|_, unlinked| !is_due(unlinked));
    }

    async fn real(&mut self, change: &Change) -> Outcome {
        let store = &self.service.store;
        let (names, known) = (&self.names, &self.known);
        let pin = |repository: usize, manifest: usize, holder: usize| Pin {
            repository: names[repository].clone(),
            digest: known[manifest].digest,
            holder: HOLDERS[holder].to_owned(),
        };
        let now = self.now;
        let outcome = match *change {
            Change::Link { repository, blob } => {
                let body = body_of(self.contents[blob].clone());
                let blob = self.service.blobs.put(&self.digest(blob), body).await.unwrap();
                store.blob_link(&names[repository], blob, now).await.map(|_| true)
            }
            Change::Mount { repository, blob } => {
                let from = &names[REPOSITORIES - 1 - repository];
                match store.blob_mount(from, &names[repository], self.digest(blob), now).await.unwrap() {
                    Some(_) => Ok(true),
                    None => return Outcome::Missing,
                }
            }
            Change::Unlink { repository, blob } => store.blob_unlink(&names[repository], self.digest(blob), now).await,
            Change::Put { repository, manifest, tag } => {
                let Known { bytes, digest, .. } = &known[manifest];
                let document = Document::parse(bytes, None).unwrap();
                let tag = tag.iter().map(|tag| self.tags[*tag].parse().unwrap()).collect();
                store.manifest_put(&names[repository], *digest, &document, bytes.clone(), tag, now).await.map(|()| true)
            }
            Change::Delete { repository, manifest } => {
                store.manifest_delete(&names[repository], known[manifest].digest, now).await
            }
            Change::TagDelete { repository, tag } => {
                store.tag_delete(&names[repository], &self.tags[tag].parse().unwrap(), now).await
            }
            Change::Pin { repository, manifest, holder } => {
                store.pin(pin(repository, manifest, holder), now).await.map(|()| true)
            }
            Change::Unpin { repository, manifest, holder } => {
                store.unpin(pin(repository, manifest, holder)).await.map(|()| true)
            }
            Change::Fold => store.usage_fold().await.map(|_| true),
            Change::Collect { seconds } => {
                self.now = self.now.plus_seconds(seconds);
                self.service.collect(self.now).await.map(|collected| collected.is_some())
            }
        };
        match outcome {
            Ok(done) => Outcome::Done(done),
            Err(Error::NeedMissing { .. }) => Outcome::Missing,
            Err(Error::Kept { .. }) => Outcome::Kept,
            Err(Error::ManifestUnknown { .. }) => Outcome::Unknown,
            Err(error) => panic!("{error}"),
        }
    }

    /// Everything that can be read is as the model has it.
    async fn compare(&self) {
        let store = &self.service.store;
        for (name, held) in self.names.iter().zip(&self.held) {
            let tags: Vec<String> = held.tags.keys().map(|tag| self.tags[*tag].clone()).collect();
            assert_eq!(store.tags(name, "", 10).await.unwrap(), held.exists.then_some(tags));
            let (group, _) = name.as_str().split_once('/').unwrap();
            let listed = store.repositories(&format!("{group}/"), 2).await.unwrap().contains(&name.to_string());
            assert_eq!(listed, held.exists);
            // Twice: the first answer may come from the rows, the second then comes from the cache.
            let find = async |reference: ManifestReference| {
                store.manifest(name, &reference).await.unwrap();
                let found = store.manifest(name, &reference).await.unwrap();
                found.map(|ready| ready.manifest.bytes.clone())
            };
            for (tag, text) in self.tags.iter().enumerate() {
                let wanted = held.tags.get(&tag).map(|manifest| self.known[*manifest].bytes.clone());
                assert_eq!(find(ManifestReference::Tag(text.parse().unwrap())).await, wanted);
            }
            for (at, manifest) in self.known.iter().enumerate() {
                let wanted = held.manifests.contains_key(&at).then(|| manifest.bytes.clone());
                assert_eq!(find(ManifestReference::Digest(manifest.digest)).await, wanted, "manifest {at}");
                let referrers = store.referrers(name, &manifest.digest, None, "", 10).await.unwrap();
                let referrers: BTreeSet<Digest> = referrers.iter().map(|referrer| referrer.digest).collect();
                let wanted = held.manifests.keys().filter(|other| self.known[**other].subject == Some(at));
                assert_eq!(referrers, wanted.map(|other| self.known[*other].digest).collect());
            }
            let rows = store.usage_now(0).await.unwrap();
            let used: i64 = rows.iter().filter(|row| row.repository == name.as_str()).map(|row| row.bytes).sum();
            let blobs = held.blobs.keys().map(|blob| self.contents[*blob].len());
            let manifests = held.manifests.keys().map(|manifest| self.known[*manifest].bytes.len());
            assert_eq!(used, blobs.chain(manifests).sum::<usize>() as i64, "what {name} holds");
            let untagged = store.untagged(name, self.now, "", 10).await.unwrap();
            let is_loose = |manifest: &&usize| {
                let subject = self.known[**manifest].subject;
                !held.is_tagged(**manifest)
                    && !held.is_pinned(**manifest)
                    && !held.need_manifest(&self.known, **manifest)
                    && !subject.is_some_and(|subject| held.manifests.contains_key(&subject))
            };
            let loose = held.manifests.keys().filter(is_loose).map(|manifest| self.known[*manifest].digest);
            assert_eq!(untagged.iter().map(|row| row.digest).collect::<BTreeSet<_>>(), loose.collect(), "{name}");
            for (at, content) in self.contents.iter().enumerate() {
                let found = store.blob_size(name, &self.digest(at)).await.unwrap();
                assert_eq!(found, held.blobs.contains_key(&at).then_some(content.len() as u64), "blob {at}");
            }
        }
        for (at, content) in self.contents.iter().enumerate() {
            let found = self.service.blobs.stat(&self.digest(at)).await.unwrap();
            assert_eq!(
                found.map(|blob| blob.size),
                self.stored.contains_key(&at).then_some(content.len() as u64),
                "bytes {at}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sequence_of_changes_is_as_the_model_says() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let config = Config { grace: Duration::from_secs(GRACE_SECONDS as u64), ..Config::default() };
        let service =
            Service::new(config, Deps { db, blobs, replica: "test".to_owned(), sources: Vec::new() }).unwrap();
        let case = std::cell::Cell::new(0);
        let check = |changes: Vec<Change>| {
            // Repositories and blobs of its own for each case, in one database.
            case.set(case.get() + 1);
            let world = World::new(&service, case.get());
            tokio::runtime::Handle::current().block_on(world.run(changes));
            Ok(())
        };
        let run = || {
            for changes in [both_are_lost(), what_it_signs_is_lost()] {
                let _: Result<(), TestCaseError> = check(changes);
            }
            let config =
                TestConfig { cases: CASES, max_shrink_iters: 200, failure_persistence: None, ..TestConfig::default() };
            TestRunner::new(config).run(&prop::collection::vec(change(), 1..STEPS_MAX), check)
        };
        if let Err(error) = tokio::task::block_in_place(run) {
            panic!("{error}");
        }
    })
    .await;
}
