//! Blobs of upstreams: here, arriving, or asked for.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use oci::{Digest, RepositoryName};
use tracing::Instrument as _;

use super::fetch::Fetch;
use super::flight::locked;
use super::{ABSENT_HOLDS, ANSWER_WAIT, Arriving, Upstream, UpstreamError};
use crate::Error;

/// Blobs that arrive from one upstream at once; more are refused.
const FETCHES_MAX: usize = 256;

/// Where a blob is.
pub(crate) enum Found {
    /// In the store, with so many bytes.
    Here(u64),
    /// On its way.
    Arriving(Arriving),
}

impl Found {
    /// The length of the whole blob.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Here(size) => *size,
            Self::Arriving(arriving) => arriving.size(),
        }
    }
}

/// How a repository comes to a blob that it does not have.
enum Way {
    /// A fetch of it is under way, or was begun for this repository.
    Joined(Arriving),
    /// The upstream has to say that this repository has it, too.
    Vouch(Arc<Fetch>),
}

impl Upstream {
    /// A blob that the repository does not have here; none when the upstream does not have it either.
    pub(crate) async fn blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Found>, Error> {
        match self.blob_have(repository, *digest).await {
            Ok(found) => Ok(Some(found)),
            Err(UpstreamError::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::Upstream(error)),
        }
    }

    /// The length of such a blob, for which nothing is fetched.
    pub(crate) async fn blob_size(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        match self.blob_head(repository, *digest).await {
            Ok(size) => Ok(Some(size)),
            Err(UpstreamError::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::Upstream(error)),
        }
    }

    async fn blob_have(self: &Arc<Self>, repository: &RepositoryName, digest: Digest) -> Result<Found, UpstreamError> {
        if let Some(error) = self.failed.get(&(repository.clone(), digest)) {
            return Err(error);
        }
        if let Some(size) = self.blob_share(repository, digest).await? {
            return Ok(Found::Here(size));
        }
        let mut arriving = match self.fetch_join(repository, digest)? {
            Way::Joined(arriving) => arriving,
            Way::Vouch(fetch) => {
                self.blob_head(repository, digest).await?;
                let is_waiting = match locked(&fetch.repositories).as_mut() {
                    Some(repositories) => repositories.insert(repository.clone()),
                    None => false,
                };
                let mut arriving = Arriving::new(fetch, Arc::clone(&self.blobs));
                if !is_waiting {
                    // It ended just now. Its links were made, and so can this one be.
                    arriving.open().await?;
                    self.blob_share(repository, digest).await?;
                }
                arriving
            }
        };
        arriving.open().await?;
        Ok(Found::Arriving(arriving))
    }

    /// Takes part in a fetch, or begins one.
    fn fetch_join(self: &Arc<Self>, repository: &RepositoryName, digest: Digest) -> Result<Way, UpstreamError> {
        let mut fetches = locked(&self.fetches);
        let is_full = fetches.len() >= FETCHES_MAX;
        let fetch = match fetches.entry(digest) {
            Entry::Occupied(entry) => {
                let fetch = Arc::clone(entry.get());
                let vouched = locked(&fetch.repositories).as_ref().is_some_and(|known| known.contains(repository));
                if !vouched {
                    return Ok(Way::Vouch(fetch));
                }
                fetch
            }
            Entry::Vacant(_) if is_full => return Err(self.not_asked()),
            Entry::Vacant(entry) => {
                self.busy_check()?;
                let fetch = Arc::new(Fetch::new(digest, repository.clone()));
                entry.insert(Arc::clone(&fetch));
                let span = tracing::trace_span!("upstream fetch", longshore.blob = %digest);
                tokio::spawn(Arc::clone(self).fetch(Arc::clone(&fetch), repository.clone()).instrument(span));
                fetch
            }
        };
        Ok(Way::Joined(Arriving::new(fetch, Arc::clone(&self.blobs))))
    }

    /// Bytes that came from this upstream for another repository are not fetched again once it said that this one has
    /// them as well.
    async fn blob_share(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<u64>, UpstreamError> {
        let Some(other) = self.store.blob_repository_under(&self.prefix, &digest).await? else { return Ok(None) };
        let Some(blob) = self.blobs.stat(&digest).await? else { return Ok(None) };
        if other != *repository {
            self.blob_head(repository, digest).await?;
        }
        let is_shared = self.keeper.blob_mount(&other, repository, digest).await?;
        Ok(is_shared.then_some(blob.size))
    }

    async fn blob_head(self: &Arc<Self>, repository: &RepositoryName, digest: Digest) -> Result<u64, UpstreamError> {
        let key = (repository.clone(), digest);
        if let Some(error) = self.failed.get(&key) {
            return Err(error);
        }
        let ask = || {
            let (upstream, key) = (Arc::clone(self), key.clone());
            async move {
                let reference = upstream.reference_or_absent(&key.0)?;
                let answer = upstream.ask(ANSWER_WAIT, upstream.client.blob_head(&reference, &digest)).await?;
                answer.ok_or_else(|| {
                    let error = UpstreamError::NotFound { host: upstream.host.clone() };
                    upstream.failed.put(key, error.clone(), ABSENT_HOLDS);
                    error
                })
            }
        };
        let answer = self.heads_asked.join(key.clone(), ask).await;
        answer.unwrap_or_else(|| Err(self.not_asked()))
    }
}
