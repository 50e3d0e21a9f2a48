//! Blobs of many images on their way to one target: each is sent once, mounted into every other repository that needs it,
//! and left alone where it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use oci::{Digest, Reference, RepositoryName};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::{Client, ClientError};

/// Blobs of which it is remembered who has them. Beyond that some are forgotten, and asked for again.
const BLOBS_KNOWN_MAX: usize = 200_000;

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    There,
    Mounted,
    Sent,
}

/// What is known of one blob.
#[derive(Default)]
struct Known {
    /// Repositories of the target that have it, or, in a dry run, would have it.
    repositories: Vec<RepositoryName>,
    /// Source repositories that did not give it: asked once, not once for each image.
    failed: Vec<(RepositoryName, Arc<ClientError>)>,
}

type Cell = Arc<tokio::sync::Mutex<Known>>;

/// The blobs of a target.
pub(crate) struct Ledger {
    client: Client,
    known: Mutex<HashMap<Digest, Cell>>,
    transfers: Arc<Semaphore>,
    dry_run: bool,
    on_bytes: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Ledger {
    pub(crate) fn new(
        client: Client,
        transfers: usize,
        dry_run: bool,
        on_bytes: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Self {
        Self { client, known: Mutex::default(), transfers: Arc::new(Semaphore::new(transfers)), dry_run, on_bytes }
    }

    fn cell(&self, digest: &Digest) -> Cell {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= BLOBS_KNOWN_MAX && !known.contains_key(digest) {
            known.retain(|_, cell| Arc::strong_count(cell) > 1);
        }
        Arc::clone(known.entry(*digest).or_default())
    }

    /// Sees to it that the target's repository has a blob. Others that want the same blob wait, and mount it.
    pub(crate) async fn ensure(
        &self,
        from: &Reference,
        to: &Reference,
        digest: &Digest,
        size: u64,
    ) -> Result<Came, ClientError> {
        let cell = self.cell(digest);
        let mut known = cell.lock().await;
        let repository = to.repository();
        if known.repositories.contains(repository) {
            return Ok(Came::There);
        }
        if let Some((_, error)) = known.failed.iter().find(|(failed, _)| failed == from.repository()) {
            return Err(ClientError::Blob { digest: Box::new(*digest), source: Arc::clone(error) });
        }
        match self.bring(&known, from, to, digest, size).await {
            Ok(came) => {
                known.repositories.push(repository.clone());
                Ok(came)
            }
            Err(error) => {
                let error = Arc::new(error);
                known.failed.push((from.repository().clone(), Arc::clone(&error)));
                Err(ClientError::Blob { digest: Box::new(*digest), source: error })
            }
        }
    }

    /// Forgets that a repository has a blob: it turned out that it has not.
    pub(crate) async fn forget(&self, to: &Reference, digest: &Digest) {
        let cell = self.cell(digest);
        cell.lock().await.repositories.retain(|repository| repository != to.repository());
    }

    async fn bring(
        &self,
        known: &Known,
        from: &Reference,
        to: &Reference,
        digest: &Digest,
        size: u64,
    ) -> Result<Came, ClientError> {
        if self.client.blob_head(to, digest).await?.is_some() {
            return Ok(Came::There);
        }
        let neighbour = (from.host() == to.host()).then(|| from.repository());
        let mut holders = known.repositories.iter().chain(neighbour);
        if self.dry_run {
            return Ok(if holders.next().is_some() { Came::Mounted } else { Came::Sent });
        }
        if let Some(holder) = holders.next()
            && self.client.blob_mount(to, holder, digest).await?
        {
            return Ok(Came::Mounted);
        }
        let permit = Arc::clone(&self.transfers).acquire_owned().await;
        let (client, from, to, digest) = (self.client.clone(), from.clone(), to.clone(), *digest);
        let on_bytes = Arc::clone(&self.on_bytes);
        // A task of its own: several hash at once where there are several processors.
        let transfer = tokio::spawn(async move {
            let _permit = permit;
            let body = client.blob_get(&from, &digest, size).await?;
            let counted = body.inspect(move |piece| {
                if let Ok(bytes) = piece {
                    on_bytes(bytes.len() as u64);
                }
            });
            client.blob_push(&to, &digest, size, counted.boxed()).await
        });
        match AbortOnDropHandle::new(transfer).await {
            Ok(sent) => sent.map(|()| Came::Sent),
            Err(stopped) => Err(ClientError::Source(std::io::Error::other(stopped))),
        }
    }
}
