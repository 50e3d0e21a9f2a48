//! The store against a model that is plain sets: any sequence of changes has the same outcomes and leaves the same rows.

use std::collections::{BTreeMap, BTreeSet};

use ::blobs::BlobInfo;
use api::Micros;
use api::registry::Pin;
use base::db::testing::for_each_backend;
use bytes::Bytes;
use oci::{Document, ManifestReference, media};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::*;
use crate::CONTEXT;

const CASES: u32 = 24;
const STEPS_MAX: usize = 40;
const REPOSITORIES: usize = 2;
const BLOBS: [&str; 3] = ["{}", "one", "two"];
const TAGS: [&str; 3] = ["B", "_", "a"];
const HOLDERS: [&str; 2] = ["release/1", "release/2"];
const MANIFESTS: usize = 5;

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
}

fn change() -> impl Strategy<Value = Change> {
    let (repository, manifest) = (0..REPOSITORIES, 0..MANIFESTS);
    let blob = (repository.clone(), 0..BLOBS.len());
    let one = (repository.clone(), manifest.clone());
    let put = (repository.clone(), manifest.clone(), proptest::option::of(0..TAGS.len()));
    let pin = (repository.clone(), manifest, 0..HOLDERS.len());
    // What builds up is likelier than what takes away, or nothing ever would be there.
    prop_oneof![
        4 => blob.clone().prop_map(|(repository, blob)| Change::Link { repository, blob }),
        2 => blob.clone().prop_map(|(repository, blob)| Change::Mount { repository, blob }),
        1 => blob.prop_map(|(repository, blob)| Change::Unlink { repository, blob }),
        6 => put.prop_map(|(repository, manifest, tag)| Change::Put { repository, manifest, tag }),
        2 => one.prop_map(|(repository, manifest)| Change::Delete { repository, manifest }),
        1 => (repository, 0..TAGS.len()).prop_map(|(repository, tag)| Change::TagDelete { repository, tag }),
        1 => pin.clone().prop_map(|(repository, manifest, holder)| Change::Pin { repository, manifest, holder }),
        1 => pin.prop_map(|(repository, manifest, holder)| Change::Unpin { repository, manifest, holder }),
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
}

fn known() -> [Known; MANIFESTS] {
    let of = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes), "size": bytes.len() });
    let image = |layer: usize, subject: Option<&Value>| {
        let layers = [of(media::OCI_LAYER, BLOBS[layer].as_bytes())];
        let config = of(media::OCI_CONFIG, BLOBS[0].as_bytes());
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
    let inner = index(&[(media::OCI_MANIFEST, &first)]);
    let outer = index(&[(media::OCI_MANIFEST, &second), (media::OCI_INDEX, &inner)]);
    let known = |value: &Value, blobs, manifests| {
        let bytes = Bytes::from(value.to_string());
        Known { digest: Digest::sha256_of(&bytes), bytes, blobs, manifests }
    };
    [
        known(&first, &[0, 1], &[]),
        known(&second, &[0, 2], &[]),
        known(&referrer, &[0, 1], &[]),
        known(&inner, &[], &[0]),
        known(&outer, &[], &[1, 3]),
    ]
}

const SUBJECT: usize = 0;
const REFERRER: usize = 2;

/// What a repository should hold.
#[derive(Default)]
struct Held {
    exists: bool,
    blobs: BTreeSet<usize>,
    manifests: BTreeSet<usize>,
    tags: BTreeMap<usize, usize>,
    pins: BTreeSet<(usize, usize)>,
}

fn expected(held: &mut [Held], known: &[Known], change: &Change) -> Outcome {
    match *change {
        Change::Link { repository, blob } => {
            held[repository].exists = true;
            held[repository].blobs.insert(blob);
            Outcome::Done(true)
        }
        Change::Mount { repository, blob } => {
            if !held[REPOSITORIES - 1 - repository].blobs.contains(&blob) {
                return Outcome::Missing;
            }
            expected(held, known, &Change::Link { repository, blob })
        }
        Change::Unlink { repository, blob } => {
            let held = &mut held[repository];
            if held.manifests.iter().any(|manifest| known[*manifest].blobs.contains(&blob)) {
                return Outcome::Kept;
            }
            Outcome::Done(held.blobs.remove(&blob))
        }
        Change::Put { repository, manifest, tag } => {
            let held = &mut held[repository];
            let blobs = known[manifest].blobs.iter().all(|blob| held.blobs.contains(blob));
            if !blobs || !known[manifest].manifests.iter().all(|child| held.manifests.contains(child)) {
                return Outcome::Missing;
            }
            held.manifests.insert(manifest);
            held.tags.extend(tag.map(|tag| (tag, manifest)));
            Outcome::Done(true)
        }
        Change::Delete { repository, manifest } => {
            let held = &mut held[repository];
            let needed = held.manifests.iter().any(|other| known[*other].manifests.contains(&manifest));
            if needed || held.pins.iter().any(|(_, pinned)| *pinned == manifest) {
                return Outcome::Kept;
            }
            held.tags.retain(|_, tagged| *tagged != manifest);
            Outcome::Done(held.manifests.remove(&manifest))
        }
        Change::TagDelete { repository, tag } => Outcome::Done(held[repository].tags.remove(&tag).is_some()),
        Change::Pin { repository, manifest, holder } => {
            if !held[repository].manifests.contains(&manifest) {
                return Outcome::Unknown;
            }
            held[repository].pins.insert((holder, manifest));
            Outcome::Done(true)
        }
        Change::Unpin { repository, manifest, holder } => {
            held[repository].pins.remove(&(holder, manifest));
            Outcome::Done(true)
        }
    }
}

async fn real(store: &Store, names: &[RepositoryName], known: &[Known], change: &Change) -> Outcome {
    let now = Micros::now();
    let digest = |blob: usize| Digest::sha256_of(BLOBS[blob].as_bytes());
    let pin = |repository: usize, manifest: usize, holder: usize| Pin {
        repository: names[repository].clone(),
        digest: known[manifest].digest,
        holder: HOLDERS[holder].to_owned(),
    };
    let link = |repository: usize, blob: usize| {
        let blob = BlobInfo { digest: digest(blob), size: BLOBS[blob].len() as u64 };
        store.blob_link(&names[repository], blob, now)
    };
    let outcome = match *change {
        Change::Link { repository, blob } => link(repository, blob).await.map(|()| true),
        Change::Mount { repository, blob } => {
            let from = &names[REPOSITORIES - 1 - repository];
            match store.blob_size(from, &digest(blob)).await.unwrap() {
                Some(_) => link(repository, blob).await.map(|()| true),
                None => return Outcome::Missing,
            }
        }
        Change::Unlink { repository, blob } => store.blob_unlink(&names[repository], digest(blob)).await,
        Change::Put { repository, manifest, tag } => {
            let Known { bytes, digest, .. } = &known[manifest];
            let document = Document::parse(bytes, None).unwrap();
            let tag = tag.map_or(TagWrite::None, |tag| TagWrite::To(TAGS[tag].parse().unwrap()));
            store.manifest_put(&names[repository], *digest, &document, bytes.clone(), tag, now).await.map(|()| true)
        }
        Change::Delete { repository, manifest } => {
            store.manifest_delete(&names[repository], known[manifest].digest).await
        }
        Change::TagDelete { repository, tag } => {
            store.tag_delete(&names[repository], &TAGS[tag].parse().unwrap()).await
        }
        Change::Pin { repository, manifest, holder } => {
            store.pin(pin(repository, manifest, holder), now).await.map(|()| true)
        }
        Change::Unpin { repository, manifest, holder } => {
            store.unpin(pin(repository, manifest, holder)).await.map(|()| true)
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

/// Twice: the first answer may come from the rows, the second then comes from the cache.
async fn read(store: &Store, name: &RepositoryName, reference: ManifestReference, wanted: Option<Bytes>) {
    for _ in 0..2 {
        let found = store.manifest(name, &reference).await.unwrap();
        assert_eq!(found.map(|ready| ready.manifest.bytes.clone()), wanted);
    }
}

/// Everything that can be read of a repository is as the model has it.
async fn compare(store: &Store, name: &RepositoryName, held: &Held, known: &[Known]) {
    let tags: Vec<String> = held.tags.keys().map(|tag| TAGS[*tag].to_owned()).collect();
    assert_eq!(store.tags(name, "", 10).await.unwrap(), held.exists.then_some(tags));
    for (tag, text) in TAGS.iter().enumerate() {
        let wanted = held.tags.get(&tag).map(|manifest| known[*manifest].bytes.clone());
        read(store, name, text.parse().unwrap(), wanted).await;
    }
    for (at, manifest) in known.iter().enumerate() {
        let wanted = held.manifests.contains(&at).then(|| manifest.bytes.clone());
        read(store, name, ManifestReference::Digest(manifest.digest), wanted).await;
    }
    for (at, blob) in BLOBS.iter().enumerate() {
        let found = store.blob_size(name, &Digest::sha256_of(blob.as_bytes())).await.unwrap();
        assert_eq!(found, held.blobs.contains(&at).then_some(blob.len() as u64));
    }
    let referrers = store.referrers(name, &known[SUBJECT].digest, None, "", 10).await.unwrap();
    let referrers: Vec<Digest> = referrers.iter().map(|referrer| referrer.digest).collect();
    let wanted = held.manifests.contains(&REFERRER).then_some(known[REFERRER].digest);
    assert_eq!(referrers, Vec::from_iter(wanted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sequence_of_changes_is_as_the_model_says() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let store = Store::new(db, Rules::default());
        let known = known();
        let case = std::cell::Cell::new(0);
        let check = |changes: Vec<Change>| {
            // Repositories of its own for each case, in one database.
            case.set(case.get() + 1);
            let names: Vec<RepositoryName> =
                (0..REPOSITORIES).map(|at| format!("case{}/r{at}", case.get()).parse().unwrap()).collect();
            let mut held: Vec<Held> = (0..REPOSITORIES).map(|_| Held::default()).collect();
            tokio::runtime::Handle::current().block_on(async {
                for (at, change) in changes.iter().enumerate() {
                    let outcome = real(&store, &names, &known, change).await;
                    assert_eq!(outcome, expected(&mut held, &known, change), "{change:?}");
                    if at % 8 == 7 {
                        // What is read now is in the cache, and must go with the next change of it.
                        for (name, held) in names.iter().zip(&held) {
                            compare(&store, name, held, &known).await;
                        }
                    }
                }
                for (name, held) in names.iter().zip(&held) {
                    compare(&store, name, held, &known).await;
                    let after = format!("case{}/", case.get());
                    let listed = store.repositories(&after, 2).await.unwrap().contains(&name.to_string());
                    assert_eq!(listed, held.exists);
                }
            });
            Ok(())
        };
        let run = || {
            let config = Config { cases: CASES, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
            TestRunner::new(config).run(&prop::collection::vec(change(), 1..STEPS_MAX), check)
        };
        if let Err(error) = tokio::task::block_in_place(run) {
            panic!("{error}");
        }
    })
    .await;
}
