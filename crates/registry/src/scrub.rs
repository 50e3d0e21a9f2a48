//! Scrubbing: every blob is read again within a time and compared with its digest, slowly enough to disturb nobody.
//!
//! What is wrong or lost is **damaged**: its bytes are moved aside and never served, a HEAD says that the blob is not
//! there, so that clients push it again, and no manifest that needs it is taken until then. What heals it is said in
//! [`crate::heal`]. Two slow passes find what no row and no time leads to: bytes that a crash left without
//! a row, rows whose bytes are lost, and manifests that are not what their digest says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::Micros;
use base::metrics;
use base::shutdown::Shutdown;
use base::tasks::Progress;
use blobs::{Aside, BlobError, BlobInfo, PAGE_BLOBS_MAX};
use futures::StreamExt;
use oci::{Digest, RepositoryName};

use crate::store::{Kept, Pass, Written};
use crate::{Error, Service};

/// How fast blobs are read: 160 TB in 30 days, and a thirtieth of a core.
const SCRUB_BYTES_PER_SECOND_MAX: u64 = 64 << 20;
/// Blobs of one run of the task.
const BLOBS_PER_RUN_MAX: u32 = 64;
/// Manifests of one page of their pass.
const MANIFESTS_PER_PAGE: u32 = 256;
/// The least time from the beginning of a pass to that of the next.
const PASS_INTERVAL: Duration = Duration::from_secs(24 * 3600);
const BYTES_PASS: &str = "bytes";
const MANIFESTS_PASS: &str = "manifests";

impl Service {
    /// Reads again what has not been read for longer than the scrub time, as of `now`. Ends early when the process stops.
    pub(crate) async fn scrub(&self, now: Micros, stop: &Shutdown) -> Result<Progress, Error> {
        if self.lease().await?.is_none() {
            return Ok(Progress::Done);
        }
        let due = self.store.blobs_to_scrub(now.minus(self.scrub_within), BLOBS_PER_RUN_MAX).await?;
        let mut pace = Pace { began: Instant::now(), bytes: 0 };
        for kept in &due {
            match self.is_right(&kept.blob, &mut pace, stop).await? {
                None => return Ok(Progress::Done),
                Some(true) => self.store.blob_scrubbed(*kept, now).await?,
                Some(false) => self.quarantine(*kept).await?,
            }
        }
        Ok(if due.len() as u32 == BLOBS_PER_RUN_MAX { Progress::More } else { Progress::Done })
    }

    /// Whether a blob's bytes are those that its digest says; none when the process stops.
    async fn is_right(&self, blob: &BlobInfo, pace: &mut Pace, stop: &Shutdown) -> Result<Option<bool>, Error> {
        let mut read = match self.blobs.scan(&blob.digest).await {
            Ok(read) => read,
            Err(BlobError::NotFound { .. }) => return Ok(Some(false)),
            Err(error) => return Err(error.into()),
        };
        let mut hasher = blob.digest.hasher();
        while let Some(piece) = read.body.next().await {
            let Ok(piece) = piece.inspect_err(|error| tracing::warn!(digest = %blob.digest, %error, "cannot be read"))
            else {
                return Ok(Some(false));
            };
            hasher.update(&piece);
            tokio::select! {
                () = stop.begun() => return Ok(None),
                () = pace.keep(piece.len()) => {}
            }
        }
        Ok(Some(hasher.finish() == blob.digest))
    }

    /// Takes wrong bytes out of their place. Whoever pushes the blob meanwhile waits, and finds its own bytes in place or
    /// is told to push again.
    async fn quarantine(&self, kept: Kept) -> Result<(), Error> {
        let mut collector = self.collector.lock().await;
        let Some(fence) = self.fence(&mut collector).await? else { return Ok(()) };
        let taken = self.keeper.holds.take(&[kept.blob.digest]);
        // A push that is under way brings verified bytes.
        if taken.digests.is_empty() || !self.store.blob_suspect(&fence, kept).await? {
            return Ok(());
        }
        let is_repaired = std::mem::replace(&mut collector.is_repaired, false);
        self.blobs.set_aside(&taken.digests, Aside::Damaged).await?;
        self.blobs_absolve(&fence, taken.digests.clone()).await?;
        collector.is_repaired = is_repaired;
        let digest = kept.blob.digest;
        let help = "Blobs found damaged by the scrubber.";
        metrics::counter("longshore_registry_damaged_blobs_total", help, &[]).increment();
        tracing::error!(%digest, size = kept.blob.size, "a blob is damaged: push it again, or see to the disk");
        self.store.damaged().wake();
        Ok(())
    }

    /// One page of the pass over all bytes: those without a row are taken up, to be collected when nobody links them, and
    /// rows without bytes are damage.
    pub(crate) async fn bytes_pass(&self, now: Micros) -> Result<(), Error> {
        let Some(pass) = self.pass_due(BYTES_PASS, now).await? else { return Ok(()) };
        let after = pass.position.parse::<Digest>().ok();
        // Bytes first: a push puts them there before its row.
        let files = self.blobs.list(after.as_ref(), PAGE_BLOBS_MAX).await?;
        let rows = self.store.blobs_after(&pass.position, PAGE_BLOBS_MAX as u32).await?;
        let ends = [
            files.last().filter(|_| files.len() == PAGE_BLOBS_MAX).map(|blob| blob.digest),
            rows.last().filter(|_| rows.len() == PAGE_BLOBS_MAX).map(|(kept, _)| kept.blob.digest),
        ];
        let end = ends.into_iter().flatten().min();
        let is_within = |digest: &Digest| end.is_none_or(|end| *digest <= end);
        let mut files: BTreeMap<Digest, BlobInfo> =
            files.into_iter().filter(|blob| is_within(&blob.digest)).map(|blob| (blob.digest, blob)).collect();
        for (kept, is_kept) in rows.into_iter().filter(|(kept, _)| is_within(&kept.blob.digest)) {
            let is_lost = files.remove(&kept.blob.digest).is_none();
            if is_lost && is_kept && self.blobs.stat(&kept.blob.digest).await?.is_none() {
                self.quarantine(kept).await?;
            }
        }
        if !files.is_empty() {
            tracing::info!(blobs = files.len(), "bytes that no row speaks of go after the grace");
            self.store.blobs_found(files.into_values().collect(), now).await?;
        }
        let position = end.map(|end| end.to_string()).unwrap_or_default();
        self.store.pass_set(BYTES_PASS, Pass { position, ..pass }).await
    }

    /// One page of the pass over all manifests. A wrong one is not served, unless it is at hand still and put right.
    pub(crate) async fn manifests_pass(&self, now: Micros) -> Result<(), Error> {
        let Some(pass) = self.pass_due(MANIFESTS_PASS, now).await? else { return Ok(()) };
        let (repository, digest) = pass.position.split_once(' ').unwrap_or_default();
        let page = self.store.manifests_after(repository, digest, MANIFESTS_PER_PAGE).await?;
        for Written { repository, digest, bytes } in &page {
            match (repository.parse::<RepositoryName>(), digest.parse::<Digest>()) {
                (Ok(_), Ok(digest)) if digest.matches(bytes) => {}
                (Ok(repository), Ok(digest)) => self.manifest_is_wrong(&repository, digest, now).await?,
                _ => tracing::error!(repository, digest, "the row of a manifest is damaged: see to the disk"),
            }
        }
        let last = page.last().filter(|_| page.len() as u32 == MANIFESTS_PER_PAGE);
        let position = last.map(|last| format!("{} {}", last.repository, last.digest)).unwrap_or_default();
        self.store.pass_set(MANIFESTS_PASS, Pass { position, ..pass }).await
    }

    async fn manifest_is_wrong(&self, repository: &RepositoryName, digest: Digest, now: Micros) -> Result<(), Error> {
        let at_hand = self.store.manifest_at_hand(repository, digest);
        if let Some(ready) = at_hand.filter(|ready| digest.matches(&ready.manifest.bytes)) {
            tracing::error!(%repository, %digest, "a manifest was damaged and is put right from memory: see to the disk");
            self.store.manifest_restore(repository, digest, ready.manifest.bytes.clone()).await?;
        } else if self.store.manifest_damaged(repository, digest, now).await? {
            tracing::error!(%repository, %digest, "a manifest is damaged: push it again, or see to the disk");
            self.store.damaged().wake();
        }
        Ok(())
    }

    /// A pass that is under way, or whose time has come again. One hub does it for all that share the database.
    async fn pass_due(&self, name: &'static str, now: Micros) -> Result<Option<Pass>, Error> {
        if self.lease().await?.is_none() {
            return Ok(None);
        }
        Ok(match self.store.pass(name).await? {
            Some(pass) if !pass.position.is_empty() => Some(pass),
            Some(pass) if now.since(pass.began_at) < PASS_INTERVAL.min(self.scrub_within) => None,
            _ => Some(Pass { position: String::new(), began_at: now }),
        })
    }
}

/// Holds reading back to its rate.
struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    async fn keep(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let due = Duration::from_micros(self.bytes.saturating_mul(1_000_000) / SCRUB_BYTES_PER_SECOND_MAX);
        tokio::time::sleep_until((self.began + due).into()).await;
    }
}

#[cfg(test)]
mod tests;
