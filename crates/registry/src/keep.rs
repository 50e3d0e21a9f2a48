//! Taking blobs in beside a collection that runs: bytes, then the link, then a look whether the bytes are in their place.
//!
//! Whoever stores a blob's bytes and links them holds the digest in between, and the collector of the same process passes
//! over what is held. A collector of another hub cannot see that. It may take new bytes for the old ones that it condemned,
//! and the link then finds the blob condemned (its bytes come back), or its bytes gone (the push is refused, never
//! acknowledged).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::Micros;
use base::db::DbErrorKind;
use blobs::{BlobError, BlobInfo, BlobStore, body_of};
use bytes::Bytes;
use oci::{Digest, RepositoryName, UploadName};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::{Linked, Store};
use crate::unrecorded::Unrecorded;
use crate::{Error, Service};

/// How long a push waits for a collector that has its bytes.
const DECISION_WAIT_MAX: Duration = Duration::from_secs(20);
/// How often it asks.
const DECISION_POLL: Duration = Duration::from_millis(20);

/// Takes blobs in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper {
    store: Store,
    blobs: Arc<dyn BlobStore>,
    pub(crate) holds: Holds,
    pub(crate) unrecorded: Arc<Unrecorded>,
}

impl Keeper {
    pub(crate) fn new(store: Store, blobs: Arc<dyn BlobStore>) -> Self {
        Self { store, blobs, holds: Holds::default(), unrecorded: Arc::default() }
    }

    /// A small blob whose bytes are at hand.
    pub(crate) async fn blob_take(&self, repository: &RepositoryName, bytes: Bytes) -> Result<Digest, Error> {
        let digest = Digest::sha256_of(&bytes);
        let _held = self.holds.hold(digest).await;
        let blob = self.blobs.put(&digest, body_of(bytes)).await?;
        self.blob_link(repository, blob).await?;
        Ok(digest)
    }

    /// Makes a blob of an upload that has all its bytes.
    pub(crate) async fn upload_finish(
        &self,
        repository: &RepositoryName,
        upload: &UploadName,
        digest: Digest,
    ) -> Result<(), Error> {
        let _held = self.holds.hold(digest).await;
        let blob = match self.unrecorded.get(upload).filter(|blob| blob.digest == digest) {
            Some(blob) => blob,
            None => self.upload_publish(upload, digest).await?,
        };
        match self.store.upload_done(repository, upload, blob, Micros::now()).await {
            Ok(linked) => {
                self.unrecorded.remove(upload);
                self.blobs.settle(&[digest]).await?;
                self.settle(linked).await
            }
            Err(error) => {
                self.unrecorded.insert(upload.clone(), blob);
                Err(error)
            }
        }
    }

    async fn upload_publish(&self, upload: &UploadName, digest: Digest) -> Result<BlobInfo, Error> {
        let published = self.blobs.upload_finish(upload, &digest).await;
        // Other bytes than announced: the store has dropped them, so the row must not promise them.
        if matches!(published, Err(BlobError::DigestMismatch { .. })) {
            self.store.upload_delete(upload).await?;
        }
        Ok(published?)
    }

    /// Links a blob whose bytes were just stored. The caller has held its digest since before that.
    pub(crate) async fn blob_link(&self, repository: &RepositoryName, blob: BlobInfo) -> Result<(), Error> {
        let linked = self.store.blob_link(repository, blob, Micros::now()).await?;
        self.blobs.settle(&[blob.digest]).await?;
        self.settle(linked).await
    }

    /// A blob of one repository becomes another's, too. Says whether the first has it.
    pub(crate) async fn blob_mount(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: Digest,
    ) -> Result<bool, Error> {
        if self.blobs.stat(&digest).await?.is_none() {
            return Ok(false);
        }
        match self.store.blob_mount(from, to, digest, Micros::now()).await? {
            Some(linked) => self.settle(linked).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// From the link on no collector decides against the blob: what is in its place now stays there, and what is aside
    /// comes back.
    async fn settle(&self, linked: Linked) -> Result<(), Error> {
        let digest = linked.blob.digest;
        if linked.is_condemned {
            let deadline = Instant::now() + DECISION_WAIT_MAX;
            self.store.deleted().wake();
            while self.store.blob_is_condemned(&digest).await? {
                if Instant::now() > deadline {
                    return Err(Error::BlobCollected { digest });
                }
                tokio::time::sleep(DECISION_POLL).await;
            }
        }
        match self.blobs.stat(&digest).await? {
            Some(found) if found.size == linked.blob.size => Ok(()),
            _ => {
                self.store.blob_damaged(digest, linked.scrubbed_at).await?;
                Err(Error::BlobCollected { digest })
            }
        }
    }
}

impl Service {
    /// A client that asks whether a blob is there may leave out its push and lean on the answer: from now on it has half
    /// the grace at least. Says whether the repository has the blob still.
    pub(crate) async fn blob_promise(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let Some((before, now)) = self.promise_times() else { return Ok(true) };
        promised(self.store.blob_renew(repository, digest, before, now).await)
    }

    /// The same for a manifest that an index is to name.
    pub(crate) async fn manifest_promise(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let Some((before, now)) = self.promise_times() else { return Ok(true) };
        promised(self.store.manifest_renew(repository, digest, before, now).await)
    }

    /// None without a grace, as there is nothing to promise then.
    fn promise_times(&self) -> Option<(Micros, Micros)> {
        let now = Micros::now();
        (!self.grace.is_zero()).then(|| (now.minus(self.grace / 2), now))
    }
}

/// Reads go on while the disk is full. What nobody could promise then may be collected before it is needed, and the
/// manifest that names it is refused.
fn promised(renewed: Result<bool, Error>) -> Result<bool, Error> {
    match renewed {
        Err(Error::Database(error)) if error.kind() == DbErrorKind::Full => Ok(true),
        renewed => renewed,
    }
}

/// Digests whose bytes someone in this process is storing or collecting.
#[derive(Clone, Default)]
pub(crate) struct Holds(Arc<Table>);

#[derive(Default)]
struct Table {
    holders: Mutex<HashMap<Digest, Holder>>,
    freed: Notify,
}

enum Holder {
    /// So many pushes.
    Pushes(usize),
    Collector,
}

impl Holds {
    fn holders(&self) -> MutexGuard<'_, HashMap<Digest, Holder>> {
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the collector from a digest; waits while it has it.
    pub(crate) async fn hold(&self, digest: Digest) -> Held {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            // From here on no word of the collector is missed.
            freed.as_mut().enable();
            let is_held = match self.holders().entry(digest).or_insert(Holder::Pushes(0)) {
                Holder::Pushes(pushes) => {
                    *pushes += 1;
                    true
                }
                Holder::Collector => false,
            };
            if is_held {
                return Held { holds: self.clone(), digests: vec![digest] };
            }
            freed.await;
        }
    }

    /// Keeps pushes from those of these digests that none holds now.
    pub(crate) fn take(&self, digests: &[Digest]) -> Held {
        let mut holders = self.holders();
        let mut taken = Vec::new();
        for digest in digests {
            if let Entry::Vacant(entry) = holders.entry(*digest) {
                entry.insert(Holder::Collector);
                taken.push(*digest);
            }
        }
        drop(holders);
        Held { holds: self.clone(), digests: taken }
    }
}

/// Digests that are held until this is dropped.
pub(crate) struct Held {
    holds: Holds,
    pub(crate) digests: Vec<Digest>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holders = self.holds.holders();
        for digest in &self.digests {
            match holders.get_mut(digest) {
                Some(Holder::Pushes(pushes)) if *pushes > 1 => *pushes -= 1,
                _ => {
                    holders.remove(digest);
                }
            }
        }
        drop(holders);
        self.holds.0.freed.notify_waiters();
    }
}
