//! Manifests at hand: those read last, ready to be sent.
//!
//! Invariants:
//! - While a repository is being changed nothing of it is in here: reads go to the rows, so a hit is what the rows say.
//! - What was read before or during a change is not taken in after it: a slow reader cannot bring back what a writer
//!   removed.
//! - With a database that other processes write to as well nothing is kept, for nobody tells of their changes.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::registry::StoredManifest;
use hashlink::LinkedHashMap;
use http::HeaderValue;
use oci::{ManifestReference, RepositoryName};

use crate::Error;

/// Bytes that the cache of a registry holds.
pub(crate) const CACHE_BYTES_MAX: usize = 16 << 20;
/// Parts with a lock of their own, so that many threads do not wait for one.
const SHARDS: usize = 8;
/// What an entry costs besides the manifest's bytes: names, headers, places in tables.
const ENTRY_BYTES: usize = 1 << 10;
/// Ended changes that a shard remembers; beyond, it refuses all that was being read.
const CHANGED_REPOSITORIES_MAX: usize = 1024;

/// A manifest with the headers that it is sent with.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) manifest: StoredManifest,
    pub(crate) content_length: HeaderValue,
    pub(crate) content_type: HeaderValue,
    pub(crate) digest: HeaderValue,
    pub(crate) etag: HeaderValue,
}

impl Ready {
    pub(crate) fn of(manifest: StoredManifest) -> Result<Self, Error> {
        let header = |text: String| {
            HeaderValue::try_from(text).map_err(|_| Error::Damaged { what: format!("manifest {}", manifest.digest) })
        };
        Ok(Self {
            content_length: HeaderValue::from(manifest.bytes.len()),
            content_type: header(manifest.media_type.clone())?,
            digest: header(manifest.digest.to_string())?,
            etag: header(format!("\"{}\"", manifest.digest))?,
            manifest,
        })
    }
}

/// The manifests of a registry that were read last.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: usize,
    hasher: std::hash::RandomState,
}

/// What the cache says of a manifest.
pub(crate) enum Lookup {
    /// It is this one.
    Hit(Arc<Ready>),
    /// It does not know; what is read from the rows after this may be kept.
    Miss(Miss),
}

/// A read of rows that has begun.
pub(crate) struct Miss {
    repository: RepositoryName,
    reference: ManifestReference,
    /// By the shard's clock.
    begun: u64,
}

type Key = (RepositoryName, ManifestReference);

#[derive(Default)]
struct Shard {
    /// The one that was asked for last is at the end.
    manifests: LinkedHashMap<Key, Arc<Ready>>,
    bytes: usize,
    /// Repositories that are being changed, and by how many.
    changing: HashMap<RepositoryName, usize>,
    /// When a change of a repository ended last.
    changed: HashMap<RepositoryName, u64>,
    /// No read that began before this is taken in.
    begun_min: u64,
    /// Counts ended changes.
    clock: u64,
}

/// A change of a repository's manifests or tags that is under way. Its end is this value's.
pub(crate) struct Changing {
    cache: Arc<Cache>,
    repository: RepositoryName,
}

impl Cache {
    /// A cache of at most `bytes_max`; none at all keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, shard_bytes_max: bytes_max / SHARDS, hasher: std::hash::RandomState::new() }
    }

    fn shard(&self, repository: &RepositoryName) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(repository) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, repository: &RepositoryName, reference: &ManifestReference) -> Lookup {
        let key = (repository.clone(), reference.clone());
        let mut shard = self.shard(repository);
        match shard.manifests.to_back(&key) {
            Some(ready) => Lookup::Hit(Arc::clone(ready)),
            None => Lookup::Miss(Miss { begun: shard.clock, repository: key.0, reference: key.1 }),
        }
    }

    /// Takes in what the rows said, unless they were changed meanwhile.
    pub(crate) fn keep(&self, miss: Miss, ready: &Arc<Ready>) {
        let mut shard = self.shard(&miss.repository);
        let changed = shard.changed.get(&miss.repository).copied().unwrap_or(0).max(shard.begun_min);
        if miss.begun < changed || shard.changing.contains_key(&miss.repository) {
            return;
        }
        shard.put((miss.repository, miss.reference), Arc::clone(ready));
        while shard.bytes > self.shard_bytes_max && shard.pop_oldest() {}
    }

    /// Says that a repository's manifests or tags are about to be changed, until the value is dropped. It must live
    /// until the change can be read, or never will be.
    pub(crate) fn changing(self: &Arc<Self>, repository: &RepositoryName) -> Changing {
        let mut shard = self.shard(repository);
        *shard.changing.entry(repository.clone()).or_default() += 1;
        shard.forget(repository);
        Changing { cache: Arc::clone(self), repository: repository.clone() }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut shard = self.cache.shard(&self.repository);
        if let Some(changes) = shard.changing.get_mut(&self.repository) {
            *changes -= 1;
            if *changes == 0 {
                shard.changing.remove(&self.repository);
            }
        }
        shard.clock += 1;
        let now = shard.clock;
        if shard.changed.len() >= CHANGED_REPOSITORIES_MAX {
            shard.changed.clear();
            shard.begun_min = now;
        }
        shard.changed.insert(self.repository.clone(), now);
    }
}

impl Shard {
    fn put(&mut self, key: Key, ready: Arc<Ready>) {
        self.bytes += cost(&ready);
        if let Some(former) = self.manifests.insert(key, ready) {
            self.bytes -= cost(&former);
        }
    }

    fn pop_oldest(&mut self) -> bool {
        let oldest = self.manifests.pop_front();
        if let Some((_, ready)) = &oldest {
            self.bytes -= cost(ready);
        }
        oldest.is_some()
    }

    fn forget(&mut self, repository: &RepositoryName) {
        let bytes = &mut self.bytes;
        self.manifests.retain(|(of, _), ready| {
            let stays = of != repository;
            if !stays {
                *bytes -= cost(ready);
            }
            stays
        });
    }
}

fn cost(ready: &Ready) -> usize {
    ready.manifest.bytes.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use oci::Digest;
    use proptest::prelude::*;

    use super::*;

    const REPOSITORIES: usize = 2;
    const READERS: usize = 3;

    fn repository(at: usize) -> RepositoryName {
        format!("team/app{at}").parse().unwrap()
    }

    fn tag() -> ManifestReference {
        "latest".parse().unwrap()
    }

    /// A manifest whose bytes are a number.
    fn ready(value: u64) -> Arc<Ready> {
        sized(value.to_string().into_bytes())
    }

    fn sized(bytes: Vec<u8>) -> Arc<Ready> {
        let digest = Digest::sha256_of(&bytes);
        let manifest = StoredManifest { digest, media_type: "text/plain".to_owned(), bytes: Bytes::from(bytes) };
        Arc::new(Ready::of(manifest).unwrap())
    }

    fn value(ready: &Ready) -> u64 {
        std::str::from_utf8(&ready.manifest.bytes).unwrap().parse().unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A reader that does nothing asks the cache.
        Ask {
            reader: usize,
            repository: usize,
        },
        /// A reader that missed looks at the row.
        Look {
            reader: usize,
        },
        /// A reader that looked hands over what it saw.
        Keep {
            reader: usize,
        },
        Begin {
            repository: usize,
        },
        Commit {
            repository: usize,
        },
        End {
            repository: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let (reader, repository) = (0..READERS, 0..REPOSITORIES);
        prop_oneof![
            3 => (reader.clone(), repository.clone()).prop_map(|(reader, repository)| Step::Ask { reader, repository }),
            3 => reader.clone().prop_map(|reader| Step::Look { reader }),
            3 => reader.prop_map(|reader| Step::Keep { reader }),
            1 => repository.clone().prop_map(|repository| Step::Begin { repository }),
            1 => repository.clone().prop_map(|repository| Step::Commit { repository }),
            1 => repository.prop_map(|repository| Step::End { repository }),
        ]
    }

    enum Reader {
        Idle,
        Missed(usize, Miss),
        Looked(Miss, u64),
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Readers and writers in any order of their steps: a hit is always what the row says.
        #[test]
        fn a_hit_is_what_the_row_says(steps in prop::collection::vec(step(), 1..80)) {
            let cache = Arc::new(Cache::new(CACHE_BYTES_MAX));
            let mut rows = [0_u64; REPOSITORIES];
            let mut readers = [const { Reader::Idle }; READERS];
            let mut changes: [Vec<Changing>; REPOSITORIES] = [const { Vec::new() }; REPOSITORIES];
            for step in steps {
                match step {
                    Step::Ask { reader, repository: at } => match cache.find(&repository(at), &tag()) {
                        Lookup::Hit(found) => prop_assert_eq!(value(&found), rows[at]),
                        Lookup::Miss(miss) => readers[reader] = Reader::Missed(at, miss),
                    },
                    Step::Look { reader } => {
                        readers[reader] = match std::mem::replace(&mut readers[reader], Reader::Idle) {
                            Reader::Missed(at, miss) => Reader::Looked(miss, rows[at]),
                            other => other,
                        }
                    }
                    Step::Keep { reader } => match std::mem::replace(&mut readers[reader], Reader::Idle) {
                        Reader::Looked(miss, seen) => cache.keep(miss, &ready(seen)),
                        other => readers[reader] = other,
                    },
                    Step::Begin { repository: at } => changes[at].push(cache.changing(&repository(at))),
                    Step::Commit { repository: at } if !changes[at].is_empty() => rows[at] += 1,
                    Step::Commit { .. } => {}
                    Step::End { repository: at } => drop(changes[at].pop()),
                }
            }
        }
    }

    #[test]
    fn readers_on_many_threads_never_go_back_behind_a_change() {
        const CHANGES: u64 = 2000;
        let cache = Arc::new(Cache::new(CACHE_BYTES_MAX));
        let (row, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        let hits = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while row.load(Ordering::SeqCst) < CHANGES {
                        let before = seen.load(Ordering::SeqCst);
                        let now = match cache.find(&repository(0), &tag()) {
                            Lookup::Hit(found) => {
                                hits.fetch_add(1, Ordering::Relaxed);
                                value(&found)
                            }
                            Lookup::Miss(miss) => {
                                let now = row.load(Ordering::SeqCst);
                                cache.keep(miss, &ready(now));
                                now
                            }
                        };
                        assert!(now >= before, "{now} after {before}");
                        seen.fetch_max(now, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..CHANGES {
                let changing = cache.changing(&repository(0));
                row.fetch_add(1, Ordering::SeqCst);
                drop(changing);
                std::thread::yield_now();
            }
        });
        assert!(hits.load(Ordering::Relaxed) > 0, "the cache was never asked in vain, so nothing was tried");
    }

    fn keep(cache: &Cache, of: usize, ready: &Arc<Ready>) {
        match cache.find(&repository(of), &tag()) {
            Lookup::Miss(miss) => cache.keep(miss, ready),
            Lookup::Hit(_) => panic!("it is there"),
        }
    }

    fn is_kept(cache: &Cache, of: usize) -> bool {
        matches!(cache.find(&repository(of), &tag()), Lookup::Hit(_))
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_when_the_bytes_are_used_up() {
        let cache = Arc::new(Cache::new(CACHE_BYTES_MAX));
        for at in 0..10_000 {
            keep(&cache, at, &sized(vec![b'x'; 16 << 10]));
            assert!(is_kept(&cache, at), "the newest is there");
            if at >= 100 {
                assert!(is_kept(&cache, 0), "what is asked for again and again stays");
            }
        }
        assert!(!is_kept(&cache, 1));
        let bytes: usize = cache.shards.iter().map(|shard| shard.lock().unwrap().bytes).sum();
        assert!(bytes <= CACHE_BYTES_MAX && bytes > CACHE_BYTES_MAX / 2, "{bytes}");
        for at in 0..10_000 {
            drop(cache.changing(&repository(at)));
        }
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            assert_eq!((shard.bytes, shard.manifests.len(), shard.changing.len()), (0, 0, 0));
            assert!(shard.changed.len() <= CHANGED_REPOSITORIES_MAX);
        }
    }

    #[test]
    fn a_read_that_outlasts_the_memory_of_changes_is_not_taken_in() {
        let cache = Arc::new(Cache::new(CACHE_BYTES_MAX));
        let Lookup::Miss(slow) = cache.find(&repository(0), &tag()) else { panic!("nothing is there") };
        drop(cache.changing(&repository(0)));
        for at in 1..CHANGED_REPOSITORIES_MAX * SHARDS * 4 {
            drop(cache.changing(&repository(at)));
        }
        cache.keep(slow, &ready(1));
        assert!(!is_kept(&cache, 0));
        keep(&cache, 0, &ready(2));
        assert!(is_kept(&cache, 0));
    }

    #[test]
    fn a_cache_without_bytes_keeps_nothing() {
        let cache = Arc::new(Cache::new(0));
        keep(&cache, 0, &ready(1));
        assert!(!is_kept(&cache, 0));
    }
}
