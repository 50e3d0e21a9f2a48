//! Quotas: what the repositories of a rule hold together, and whether more fits.
//!
//! Pushes are held against what is held when they are asked about, before their bytes come where their length is known,
//! and at their end. What other pushes bring meanwhile is not in it: so much may a quota be passed, and no more.
//!
//! While there is room a sum of the last second does, with what this hub admitted since. Of hubs that share a database
//! each may admit a share of the room that it saw before it sums again: as many as that together do not pass a quota by
//! it, unless it is filled within the second. Whatever does not fit by an old sum is held against a new one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use base::units::Size;
use futures::StreamExt;
use oci::RepositoryName;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::Store;
use crate::{Error, Rules};

/// Rows of usage read in one go.
const USAGE_ROWS_PER_PAGE_MAX: u32 = 10_000;

/// So old may a sum be by which something is admitted.
const LATELY: Duration = Duration::from_secs(1);
/// A hub that shares its database admits at most this part of the room that it saw by one sum.
const SHARED_ROOM_PART: u64 = 16;

/// What the rules' repositories hold, kept up to date by reading only what changed.
pub(crate) struct Quotas {
    rules: Rules,
    seen: Mutex<Seen>,
    /// The last reading, for those who need not wait for another one.
    latest: Arc<RwLock<Latest>>,
}

/// Bytes by the place of their rule.
type Sums = HashMap<usize, u64>;

#[derive(Debug, Default)]
struct Latest {
    /// When the reading began.
    read_at: Option<Instant>,
    used_bytes: Sums,
    /// What this hub admitted, since its start.
    admitted_bytes: Sums,
    /// What of it was kept or given up, …
    settled_bytes: Sums,
    /// … and what when the reading began: the reading has no more than this for certain.
    settled_before_bytes: Sums,
}

impl Latest {
    /// What was held when it was last summed, and what was admitted since; none when that is too long ago.
    fn held(&self, rule: usize) -> Option<(u64, u64)> {
        let of = |sums: &Sums| sums.get(&rule).copied().unwrap_or_default();
        let since = of(&self.admitted_bytes).saturating_sub(of(&self.settled_before_bytes));
        let is_young = self.read_at.is_some_and(|read_at| read_at.elapsed() <= LATELY);
        is_young.then(|| (of(&self.used_bytes), since))
    }

    fn admit(&mut self, rule: usize, bytes: u64) {
        let admitted = self.admitted_bytes.entry(rule).or_default();
        *admitted = admitted.saturating_add(bytes);
    }
}

/// Bytes that were admitted and are on their way into the rows, until they are there or given up.
#[must_use = "what is admitted counts as settled once this goes"]
#[derive(Debug)]
pub(crate) struct Admitted {
    latest: Arc<RwLock<Latest>>,
    rule: usize,
    bytes: u64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        let settled = latest.settled_bytes.entry(self.rule).or_default();
        *settled = settled.saturating_add(self.bytes);
    }
}

/// What was read.
#[derive(Default)]
struct Seen {
    /// When the reading that this comes from began.
    read_at: Option<Instant>,
    /// Whether all was read once.
    is_whole: bool,
    version: i64,
    /// Bytes of each repository under a quota, as far as they are folded.
    repositories: HashMap<String, i64>,
    /// Sums of those by the place of their rule.
    folded: HashMap<usize, i64>,
    /// What is not folded yet.
    pending: HashMap<usize, i64>,
}

/// What is left of a quota.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    rule: String,
    quota_bytes: u64,
    used_bytes: u64,
}

impl Room {
    /// Bytes that still fit.
    pub(crate) fn bytes(&self) -> u64 {
        self.quota_bytes.saturating_sub(self.used_bytes)
    }

    /// Fails unless so many bytes fit; something of an unknown length has at least one.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Error> {
        if bytes.max(1) <= self.bytes() { Ok(()) } else { Err(self.exceeded(bytes.max(1))) }
    }

    /// Says that so many bytes do not fit.
    pub(crate) fn exceeded(&self, bytes: u64) -> Error {
        Error::QuotaExceeded {
            rule: self.rule.clone(),
            quota: Size(self.quota_bytes),
            used: Size(self.used_bytes),
            adding: Size(bytes),
        }
    }

    /// A body that breaks off when it brings more than fits; the flag says that it did.
    pub(crate) fn metered(&self, held_bytes: u64, body: blobs::Body) -> (blobs::Body, Arc<AtomicBool>) {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let mut left = self.bytes().saturating_sub(held_bytes);
        let body = body.map(move |piece| {
            let piece = piece?;
            match left.checked_sub(piece.len() as u64) {
                Some(rest) => left = rest,
                None => {
                    flag.store(true, Ordering::Relaxed);
                    return Err(std::io::ErrorKind::QuotaExceeded.into());
                }
            }
            Ok(piece)
        });
        (body.boxed(), over)
    }
}

impl Quotas {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, seen: Mutex::default(), latest: Arc::default() }
    }

    /// Whether a quota holds for a repository.
    pub(crate) fn holds(&self, repository: &RepositoryName) -> bool {
        self.rules.of(repository).is_some_and(|rule| rule.quota_bytes.is_some())
    }

    /// What is left for a repository; none when no quota holds for it.
    pub(crate) async fn room(&self, store: &Store, repository: &RepositoryName) -> Result<Option<Room>, Error> {
        let Some((at, rule)) = self.rules.find(repository.as_str()) else { return Ok(None) };
        let Some(quota_bytes) = rule.quota_bytes else { return Ok(None) };
        let asked_at = Instant::now();
        let mut seen = self.seen.lock().await;
        // Of those who waited for the lock, the first reads for all.
        if seen.read_at.is_none_or(|read_at| read_at < asked_at) {
            let begun_at = Instant::now();
            let settled_before_bytes = self.latest().settled_bytes.clone();
            seen.read(store, &self.rules).await?;
            seen.read_at = Some(begun_at);
            let used_bytes = seen.sums();
            let mut latest = self.latest_mut();
            *latest = Latest {
                read_at: Some(begun_at),
                used_bytes,
                settled_before_bytes,
                admitted_bytes: std::mem::take(&mut latest.admitted_bytes),
                settled_bytes: std::mem::take(&mut latest.settled_bytes),
            };
        }
        let used_bytes = seen.sum(at);
        Ok(Some(Room { rule: rule.repositories.as_str().to_owned(), quota_bytes, used_bytes }))
    }

    /// Fails unless so many bytes fit, which are about to be kept. They count from now on; none when no quota holds.
    pub(crate) async fn admit(
        &self,
        store: &Store,
        repository: &RepositoryName,
        bytes: u64,
    ) -> Result<Option<Admitted>, Error> {
        let Some((at, rule)) = self.rules.find(repository.as_str()) else { return Ok(None) };
        let Some(quota_bytes) = rule.quota_bytes else { return Ok(None) };
        let admitted = |latest: &mut Latest| {
            latest.admit(at, bytes);
            Some(Admitted { latest: Arc::clone(&self.latest), rule: at, bytes })
        };
        {
            let mut latest = self.latest_mut();
            if let Some((used, since)) = latest.held(at) {
                let room = quota_bytes.saturating_sub(used);
                let part = if store.db().is_shared() { room / SHARED_ROOM_PART } else { room };
                if since.saturating_add(bytes.max(1)) <= part {
                    return Ok(admitted(&mut latest));
                }
            }
        }
        if let Some(room) = self.room(store, repository).await? {
            room.check(bytes)?;
        }
        Ok(admitted(&mut self.latest_mut()))
    }

    /// What was left within the last second, if so many bytes fitted then; else what is left now.
    pub(crate) async fn room_lately(
        &self,
        store: &Store,
        repository: &RepositoryName,
        bytes: u64,
    ) -> Result<Option<Room>, Error> {
        let Some((at, rule)) = self.rules.find(repository.as_str()) else { return Ok(None) };
        let Some(quota_bytes) = rule.quota_bytes else { return Ok(None) };
        let held = self.latest().held(at);
        let room = held.map(|(used, since)| Room {
            rule: rule.repositories.as_str().to_owned(),
            quota_bytes,
            used_bytes: used.saturating_add(since),
        });
        match room.filter(|room| room.check(bytes).is_ok()) {
            Some(room) => Ok(Some(room)),
            None => self.room(store, repository).await,
        }
    }

    fn latest(&self) -> RwLockReadGuard<'_, Latest> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn latest_mut(&self) -> RwLockWriteGuard<'_, Latest> {
        self.latest.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn sum(&self, rule: usize) -> u64 {
        let of = |sums: &HashMap<usize, i64>| sums.get(&rule).copied().unwrap_or_default();
        u64::try_from(of(&self.folded) + of(&self.pending)).unwrap_or_default()
    }

    fn sums(&self) -> Sums {
        self.folded.keys().chain(self.pending.keys()).map(|rule| (*rule, self.sum(*rule))).collect()
    }

    async fn read(&mut self, store: &Store, rules: &Rules) -> Result<(), Error> {
        if !self.is_whole {
            // The first time there may be more than one answer takes.
            let mut after = String::new();
            self.version = 0;
            loop {
                let page = store.usage_after(self.version, &after, USAGE_ROWS_PER_PAGE_MAX).await?;
                let is_last = page.len() < USAGE_ROWS_PER_PAGE_MAX as usize;
                for held in page {
                    self.version = held.version;
                    after.clone_from(&held.repository);
                    self.folded(rules, held.repository, held.bytes);
                }
                if is_last {
                    break;
                }
            }
            self.is_whole = true;
        }
        let rows = store.usage_now(self.version).await?;
        self.pending.clear();
        for held in rows {
            if held.version > 0 {
                self.version = self.version.max(held.version);
                self.folded(rules, held.repository, held.bytes);
            } else if let Some((at, _)) = rules.find(&held.repository) {
                *self.pending.entry(at).or_default() += held.bytes;
            }
        }
        Ok(())
    }

    fn folded(&mut self, rules: &Rules, repository: String, bytes: i64) {
        let Some((at, rule)) = rules.find(&repository) else { return };
        if rule.quota_bytes.is_some() {
            let before = self.repositories.insert(repository, bytes).unwrap_or_default();
            *self.folded.entry(at).or_default() += bytes - before;
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Micros;
    use base::db::testing::for_each_backend;
    use oci::Digest;

    use super::*;
    use crate::{CONTEXT, Config, MIGRATIONS};

    /// A sum that is made while something is on its way into the rows does not have it, and must not hide it either.
    #[tokio::test]
    async fn what_was_admitted_counts_while_it_is_written() {
        for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
            let rules = "[[repositories]]\nmatch = \"team/**\"\nquota = \"100 KiB\"\n";
            let config: Config = base::config::parse("hub.toml", rules).unwrap();
            let is_shared = db.is_shared();
            let (store, quotas) = (Store::new(db, config.rules.clone()), Quotas::new(config.rules));
            let repository: RepositoryName = "team/app".parse().unwrap();
            // No more than what a hub may admit by a sum of its own.
            let first = if is_shared { 5 << 10 } else { 60 << 10 };
            quotas.room(&store, &repository).await.unwrap();
            let admitted = quotas.admit(&store, &repository, first).await.unwrap();
            assert_eq!(quotas.room(&store, &repository).await.unwrap().unwrap().used_bytes, 0);
            let blob = blobs::BlobInfo { digest: Digest::sha256_of(b"bytes"), size: first };
            let _linked = store.blob_link(&repository, blob, Micros::now()).await.unwrap();
            drop(admitted);
            let more = (100 << 10) - first;
            assert!(quotas.admit(&store, &repository, more + 1).await.is_err());
            assert!(quotas.admit(&store, &repository, more).await.unwrap().is_some());
        })
        .await;
    }
}
