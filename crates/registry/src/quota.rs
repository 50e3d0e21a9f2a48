//! Quotas: what the repositories of a rule hold together, and whether more fits.
//!
//! Pushes are held against what is held when they are asked about, before their bytes come where their length is known,
//! and at their end. What other pushes bring meanwhile is not in it: so much may a quota be passed, and no more.
//!
//! What is kept is decided by a sum that was begun after its bytes were there. Questions before that only spare a push its
//! bytes: a sum of the last second does for them, as long as it lets the push go on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
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

/// So old may a sum be that does not decide.
const LATELY: Duration = Duration::from_secs(1);

/// What the rules' repositories hold, kept up to date by reading only what changed.
pub(crate) struct Quotas {
    rules: Rules,
    seen: Mutex<Seen>,
    /// The sums of the last reading, for those who need not wait for another one.
    latest: RwLock<Latest>,
}

#[derive(Default)]
struct Latest {
    read_at: Option<Instant>,
    used_bytes: HashMap<usize, u64>,
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
        Self { rules, seen: Mutex::default(), latest: RwLock::default() }
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
            seen.read(store, &self.rules).await?;
            seen.read_at = Some(begun_at);
            let used_bytes = seen.sums();
            *self.latest.write().unwrap_or_else(PoisonError::into_inner) =
                Latest { read_at: Some(begun_at), used_bytes };
        }
        let used_bytes = seen.sum(at);
        Ok(Some(Room { rule: rule.repositories.as_str().to_owned(), quota_bytes, used_bytes }))
    }

    /// Fails unless so many bytes, which are here, still fit. From now on they count in the sums of the last second.
    pub(crate) async fn admit(&self, store: &Store, repository: &RepositoryName, bytes: u64) -> Result<(), Error> {
        let Some(room) = self.room(store, repository).await? else { return Ok(()) };
        room.check(bytes)?;
        if let Some((at, _)) = self.rules.find(repository.as_str()) {
            let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
            *latest.used_bytes.entry(at).or_default() += bytes;
        }
        Ok(())
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
        let lately = {
            let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
            let is_young = latest.read_at.is_some_and(|read_at| read_at.elapsed() <= LATELY);
            is_young.then(|| latest.used_bytes.get(&at).copied().unwrap_or_default())
        };
        let room =
            lately.map(|used_bytes| Room { rule: rule.repositories.as_str().to_owned(), quota_bytes, used_bytes });
        match room.filter(|room| room.check(bytes).is_ok()) {
            Some(room) => Ok(Some(room)),
            None => self.room(store, repository).await,
        }
    }
}

impl Seen {
    fn sum(&self, rule: usize) -> u64 {
        let of = |sums: &HashMap<usize, i64>| sums.get(&rule).copied().unwrap_or_default();
        u64::try_from(of(&self.folded) + of(&self.pending)).unwrap_or_default()
    }

    fn sums(&self) -> HashMap<usize, u64> {
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
