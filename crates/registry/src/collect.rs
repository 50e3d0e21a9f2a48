//! Online collection: what nothing needs goes while pushes go on, in small steps and never by a walk.
//!
//! Manifests that lost their index or subject, then links that no manifest needs, then repositories with nothing in them:
//! these are rows, and a transaction is all it takes. Bytes go in four steps. A blob that no repository has is
//! **condemned** in its row; its bytes are **set aside**; a second transaction **decides**, which removes the row or finds
//! that someone linked the blob meanwhile; then the bytes are **discarded**, or put back and the blob absolved. Every step
//! can be the last before a crash: whoever collects next puts back what was condemned and begins again.

use std::collections::BTreeMap;
use std::time::Duration;

use api::Micros;
use base::db::{Db, DbErrorKind};
use base::lease::{Fence, LeaseKeeper};
use base::metrics;
use blobs::{Aside, PAGE_BLOBS_MAX};
use oci::{Digest, RepositoryName};
use serde::Serialize;

use crate::{Error, Service};

/// Blobs whose bytes go together: enough that a folder is synced for several.
const BLOBS_PER_BATCH: u32 = 256;
/// How often a batch is halved for a database that several hubs share, to begin with.
const SHARED_HALVINGS: u32 = 4;
/// How often a batch is halved that others abort again and again: down to a single row.
const HALVINGS_MAX: u32 = 8;

const LEASE_NAME: &str = "registry-collect";
const LEASE_TTL: Duration = Duration::from_secs(15);

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Children whose last index went, and referrers whose subject went.
    pub manifests: u64,
    /// Blobs taken from repositories that needed them no more.
    pub links: u64,
    /// Repositories with nothing in them.
    pub repositories: u64,
    /// Blobs whose bytes went.
    pub blobs: u64,
    /// Those bytes.
    pub bytes: u64,
    /// Blobs that were pushed again while they were being collected, and stayed.
    pub rescued: u64,
}

/// What is collected, in this order: what goes of one kind makes the next go.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Manifests,
    Links,
    Repositories,
    Blobs,
}

impl Kind {
    /// Rows that one transaction takes: no push waits longer for it than for the disk.
    fn batch(self) -> u32 {
        match self {
            Self::Manifests => 16,
            Self::Links | Self::Repositories => 64,
            Self::Blobs => BLOBS_PER_BATCH,
        }
    }
}

/// The right to collect, among the hubs that share a database.
pub(crate) struct Collector {
    lease: LeaseKeeper,
    /// What was collected under last.
    fence: Option<Fence>,
    /// Nothing is left aside by an earlier process or a failed run.
    pub(crate) is_repaired: bool,
}

impl Collector {
    pub(crate) fn new(db: Db, replica: String) -> Self {
        Self { lease: LeaseKeeper::new(db, LEASE_NAME, replica, LEASE_TTL), fence: None, is_repaired: false }
    }
}

impl Service {
    /// Removes all that nothing needs since the grace or longer, as of `now`. None when another hub is collecting.
    ///
    /// # Errors
    /// Database or store failed; what was begun is repaired by the next call.
    pub async fn collect(&self, now: Micros) -> Result<Option<Collected>, Error> {
        let mut collector = self.collector.lock().await;
        let cutoff = now.minus(self.grace);
        let mut collected = Collected::default();
        // PostgreSQL aborts who reads what others write nearby: a small batch gets through where a large one never would.
        let mut halvings = if self.store.db().is_shared() { SHARED_HALVINGS } else { 0 };
        for kind in [Kind::Manifests, Kind::Links, Kind::Repositories, Kind::Blobs] {
            loop {
                let Some(fence) = self.fence(&mut collector).await? else { return Ok(None) };
                if !collector.is_repaired {
                    self.repair(&fence).await?;
                }
                // Until this batch has ended well.
                collector.is_repaired = false;
                match self.batch(kind, halvings, &fence, cutoff, now, &mut collected).await {
                    Ok(is_done) => {
                        collector.is_repaired = true;
                        if is_done {
                            break;
                        }
                    }
                    Err(Error::Database(error))
                        if error.kind() == DbErrorKind::Contended && halvings < HALVINGS_MAX =>
                    {
                        halvings += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if collected != Collected::default() {
            let Collected { manifests, links, repositories, blobs, bytes, rescued } = collected;
            tracing::info!(manifests, links, repositories, blobs, bytes, rescued, "collected");
            let counter = |name, help, more| metrics::counter(name, help, &[]).add(more);
            counter("longshore_registry_collected_blobs_total", "Blobs whose bytes were collected.", blobs);
            counter("longshore_registry_collected_bytes_total", "Bytes that were collected.", bytes);
        }
        Ok(Some(collected))
    }

    /// One batch of a kind. Says whether there was nothing to do.
    async fn batch(
        &self,
        kind: Kind,
        halvings: u32,
        fence: &Fence,
        cutoff: Micros,
        now: Micros,
        collected: &mut Collected,
    ) -> Result<bool, Error> {
        let limit = (kind.batch() >> halvings).max(1);
        match kind {
            Kind::Manifests => self.manifests_collect(fence, cutoff, now, limit, collected).await,
            Kind::Links => {
                let links = self.store.links_unneeded(cutoff, limit).await?;
                let is_done = links.is_empty();
                if !is_done {
                    collected.links += self.store.links_collect(fence, links, cutoff, now).await?;
                }
                Ok(is_done)
            }
            Kind::Repositories => {
                let removed = self.store.repositories_collect(fence, cutoff, limit).await?;
                collected.repositories += removed;
                Ok(removed == 0)
            }
            Kind::Blobs => self.blobs_collect(fence, cutoff, limit, collected).await,
        }
    }

    /// Whether there is anything to collect as of `now`.
    pub(crate) async fn collect_is_due(&self, now: Micros) -> Result<bool, Error> {
        Ok(!self.collector.lock().await.is_repaired || self.collect_next().await?.is_some_and(|at| at <= now))
    }

    /// When the next grace runs out.
    pub(crate) async fn collect_next(&self) -> Result<Option<Micros>, Error> {
        Ok(self.store.marked_first().await?.map(|at| at.plus(self.grace)))
    }

    /// Holds the right to collect, or says that another hub does.
    pub(crate) async fn lease(&self) -> Result<Option<Fence>, Error> {
        self.fence(&mut *self.collector.lock().await).await
    }

    pub(crate) async fn fence(&self, collector: &mut Collector) -> Result<Option<Fence>, Error> {
        let fence = collector.lease.fence(Micros::now()).await?;
        if fence != collector.fence {
            // Whoever had it may have stopped half way.
            collector.is_repaired = false;
            collector.fence.clone_from(&fence);
        }
        Ok(fence)
    }

    async fn manifests_collect(
        &self,
        fence: &Fence,
        cutoff: Micros,
        now: Micros,
        limit: u32,
        collected: &mut Collected,
    ) -> Result<bool, Error> {
        let mut by_repository: BTreeMap<RepositoryName, Vec<Digest>> = BTreeMap::new();
        for (repository, digest) in self.store.manifests_orphaned(cutoff, limit).await? {
            by_repository.entry(repository).or_default().push(digest);
        }
        let is_done = by_repository.is_empty();
        for (repository, digests) in by_repository {
            collected.manifests += self.store.manifests_collect(fence, &repository, digests, cutoff, now).await?;
        }
        Ok(is_done)
    }

    async fn blobs_collect(
        &self,
        fence: &Fence,
        cutoff: Micros,
        limit: u32,
        collected: &mut Collected,
    ) -> Result<bool, Error> {
        let due = self.store.blobs_unlinked(cutoff, limit).await?;
        let taken = self.keeper.holds.take(&due);
        if taken.digests.is_empty() {
            return Ok(true);
        }
        let condemned = self.store.blobs_condemn(fence, taken.digests.clone(), cutoff).await?;
        let outcome = self.blobs_judge(fence, &condemned, collected).await;
        if outcome.is_err() {
            // Should another hub have taken over, it may have absolved them already: their place must not stay empty.
            self.blobs.put_back(&condemned).await?;
        }
        outcome.map(|()| condemned.is_empty())
    }

    async fn blobs_judge(&self, fence: &Fence, condemned: &[Digest], collected: &mut Collected) -> Result<(), Error> {
        self.blobs.set_aside(condemned, Aside::Condemned).await?;
        let decided = self.store.blobs_decide(fence, condemned.to_vec()).await?;
        collected.bytes += self.blobs.discard(&decided.gone, Aside::Condemned).await?;
        self.blobs.discard(&decided.gone, Aside::Damaged).await?;
        collected.blobs += decided.gone.len() as u64;
        collected.rescued += decided.rescued.len() as u64;
        self.blobs_absolve(fence, decided.rescued).await
    }

    /// Bytes first, then the row that says that they are there.
    pub(crate) async fn blobs_absolve(&self, fence: &Fence, digests: Vec<Digest>) -> Result<(), Error> {
        if digests.is_empty() {
            return Ok(());
        }
        self.blobs.put_back(&digests).await?;
        let mut absolved = Vec::with_capacity(digests.len());
        for digest in digests {
            absolved.push((digest, self.blobs.stat(&digest).await?.is_some()));
        }
        self.store.blobs_absolve(fence, absolved).await
    }

    /// Ends what an earlier process left half done: nothing is condemned any more, nothing is aside, and no blob is there
    /// that no row speaks of.
    async fn repair(&self, fence: &Fence) -> Result<(), Error> {
        let unsettled = self.blobs.unsettled();
        for page in unsettled.chunks(BLOBS_PER_BATCH as usize) {
            let mut found = Vec::new();
            for digest in page {
                found.extend(self.blobs.stat(digest).await?);
            }
            self.store.blobs_found(found, Micros::now()).await?;
            self.blobs.settle(page).await?;
        }
        loop {
            let condemned = self.store.blobs_condemned(BLOBS_PER_BATCH).await?;
            if condemned.is_empty() {
                break;
            }
            self.blobs_absolve(fence, condemned).await?;
        }
        loop {
            let aside = self.blobs.list_aside(Aside::Condemned, None, PAGE_BLOBS_MAX).await?;
            if aside.is_empty() {
                break;
            }
            let (mut kept, mut gone) = (Vec::new(), Vec::new());
            for digest in aside {
                match self.store.blob_state(&digest).await? {
                    Some(_) => kept.push(digest),
                    None => gone.push(digest),
                }
            }
            self.blobs.put_back(&kept).await?;
            self.blobs.discard(&gone, Aside::Condemned).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;
