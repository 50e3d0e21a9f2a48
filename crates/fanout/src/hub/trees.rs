//! Trees of blobs: made once for each blob by one reading of it, however many ask, and kept until the registry has the
//! blob no longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Micros;
use api::registry::Registry;
use base::tasks::Progress;
use futures::StreamExt as _;
use oci::{Digest, RepositoryName};
use tokio::sync::{Semaphore, watch};

use super::error::Error;
use super::store::{Store, TreeBrief};
use crate::piece::{Layout, PieceTree, TreeBuilder};

/// Blobs that are read at once: hashing takes a core each, and the hub has other work.
const MAKING_PARALLEL: usize = 2;
/// Blobs whose trees are made or wait for it at most; more are made when they are asked for again.
const MAKING_MAX: usize = 4096;
/// Trees that a run of the sweep looks at before others get a turn.
const SWEEP_PAGE_TREES: u32 = 500;
/// A tree younger than this is not swept: the blob of a pull-through is not the registry's before it has arrived.
const SWEEP_AGE_MIN: Duration = Duration::from_secs(3600);

/// How the making of a tree ended: whether there is one.
type Outcome = Option<bool>;

/// Makes and keeps trees. Cheap to clone.
#[derive(Clone)]
pub(super) struct Trees {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    making: Mutex<BTreeMap<(Digest, RepositoryName), watch::Receiver<Outcome>>>,
    turns: Semaphore,
    /// Where the sweep goes on.
    swept: Mutex<Option<Digest>>,
}

impl Trees {
    pub(super) fn new(store: Store, registry: Arc<dyn Registry>, clock: Arc<dyn Fn() -> Micros + Send + Sync>) -> Self {
        let (making, turns, swept) = (Mutex::default(), Semaphore::new(MAKING_PARALLEL), Mutex::default());
        Self { inner: Arc::new(Inner { store, registry, clock, making, turns, swept }) }
    }

    /// What a grant says of a blob of this repository; none while there is no tree.
    pub(super) async fn brief(&self, digest: &Digest, repository: &RepositoryName) -> Result<Option<TreeBrief>, Error> {
        self.inner.store.tree_brief(digest, repository).await
    }

    /// A whole tree; none when there is none.
    pub(super) async fn get(&self, digest: &Digest) -> Result<Option<PieceTree>, Error> {
        self.inner.store.tree(digest).await
    }

    /// Sees to it that a tree is made in the background; what is given back turns to whether there is one. None when too
    /// many are being made.
    pub(super) fn make(&self, digest: &Digest, repository: &RepositoryName) -> Option<watch::Receiver<Outcome>> {
        let key = (*digest, repository.clone());
        let mut making = self.inner.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = making.get(&key) {
            return Some(made.clone());
        }
        if making.len() >= MAKING_MAX {
            return None;
        }
        let (end, made) = watch::channel(None);
        making.insert(key.clone(), made.clone());
        let inner = Arc::clone(&self.inner);
        // Who asked may go away meanwhile; others ask again soon.
        tokio::spawn(async move {
            // A panic would leave the entry for ever.
            let _entry = Entry { inner: &inner, key: &key };
            let outcome = inner.make(&key.0, &key.1).await;
            if let Err(error) = &outcome {
                tracing::warn!(blob = %key.0, repository = %key.1, %error, "no tree of hashes was made");
            }
            end.send_replace(Some(outcome.is_ok()));
        });
        Some(made)
    }

    /// Lets go of trees whose blobs the registry has no longer, a page at a time.
    ///
    /// # Errors
    /// A database failed; the next run goes on.
    pub(super) async fn sweep(&self) -> Result<Progress, Error> {
        let inner = &self.inner;
        let after = *inner.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let made_before = (inner.clock)().minus(SWEEP_AGE_MIN);
        let page = inner.store.tree_page(after.as_ref(), made_before, SWEEP_PAGE_TREES).await?;
        let known = inner.registry.blobs_known(&page).await?;
        let gone: Vec<Digest> = page.iter().filter(|digest| !known.contains(digest)).copied().collect();
        if !gone.is_empty() {
            tracing::info!(trees = gone.len(), "trees of blobs that are gone were removed");
            inner.store.trees_remove(gone).await?;
        }
        let is_last = page.len() < SWEEP_PAGE_TREES as usize;
        *inner.swept.lock().unwrap_or_else(PoisonError::into_inner) = page.last().copied().filter(|_| !is_last);
        Ok(if is_last { Progress::Done } else { Progress::More })
    }
}

impl Inner {
    async fn make(&self, digest: &Digest, repository: &RepositoryName) -> Result<(), Error> {
        // Another repository's tree of the same bytes serves; this one has the blob, or it would not be in its manifest.
        if self.store.tree_keep(digest, repository, None, (self.clock)()).await? {
            return Ok(());
        }
        let wrong = |why: String| Error::Blob { digest: *digest, why };
        let _turn = self.turns.acquire().await.map_err(|error| wrong(error.to_string()))?;
        if self.store.tree_keep(digest, repository, None, (self.clock)()).await? {
            return Ok(());
        }
        let blob = self.registry.blob_open(repository, digest, None).await?;
        let mut blob = blob.ok_or_else(|| wrong(format!("{repository} does not have it")))?;
        let layout = Layout::of(blob.length).map_err(|error| wrong(error.to_string()))?;
        let (mut builder, mut hasher) = (TreeBuilder::new(layout), digest.hasher());
        while let Some(bytes) = blob.body.next().await {
            let bytes = bytes?;
            // Large pieces would hold up whoever shares the thread.
            let hashed = tokio::task::spawn_blocking(move || {
                builder.update(&bytes);
                hasher.update(&bytes);
                (builder, hasher)
            });
            (builder, hasher) = hashed.await.map_err(|error| wrong(error.to_string()))?;
        }
        // The root is bound to the digest by a signature: a tree of other bytes would be kept by the whole fleet.
        if hasher.finish() != *digest {
            return Err(wrong("its bytes are not what its digest says".to_owned()));
        }
        let tree = builder.finish().map_err(|error| wrong(error.to_string()))?;
        self.store.tree_keep(digest, repository, Some(&tree), (self.clock)()).await?;
        Ok(())
    }
}

/// Takes a making off the list when it ends, however it does.
struct Entry<'a> {
    inner: &'a Inner,
    key: &'a (Digest, RepositoryName),
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.inner.making.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}
