//! Reading: what is here, and what an upstream has.

use std::ops::Range;
use std::sync::Arc;

use blobs::MappedFile;
use bytes::Bytes;
use futures::StreamExt;
use oci::{Digest, ManifestReference, RepositoryName};

use crate::cache::Ready;
use crate::upstream::{EVICTIONS_OUTRUN_MAX, Found};
use crate::{Error, Service};

impl Service {
    /// A manifest that the repository, or its upstream, has.
    pub(crate) async fn manifest_find(
        &self,
        repository: &RepositoryName,
        reference: &ManifestReference,
    ) -> Result<Option<Arc<Ready>>, Error> {
        let Some(upstream) = self.upstreams.of(repository) else {
            return self.store.manifest(repository, reference).await;
        };
        for _ in 0..EVICTIONS_OUTRUN_MAX {
            let is_there = Box::pin(upstream.manifest_refresh(repository, reference)).await?;
            match self.store.manifest(repository, reference).await? {
                Some(ready) => {
                    upstream.used(repository, ready.manifest.digest);
                    return Ok(Some(ready));
                }
                None if is_there => upstream.manifest_forget(repository, reference),
                None => break,
            }
        }
        Ok(None)
    }

    /// A blob that the repository, or its upstream, has.
    pub(crate) async fn blob_find(&self, repository: &RepositoryName, digest: &Digest) -> Result<Found, Error> {
        let (here, upstream) = (self.blob_here(repository, digest).await?, self.upstreams.of(repository));
        let found = match (here, upstream) {
            (Some(size), upstream) => {
                upstream.inspect(|upstream| upstream.counts.blobs_here.increment());
                Some(Found::Here(size))
            }
            (None, Some(upstream)) => upstream.blob(repository, digest).await?,
            (None, None) => None,
        };
        found.ok_or_else(|| Error::BlobUnknown { repository: repository.clone(), digest: *digest })
    }

    /// The length of such a blob, for which nothing is fetched.
    pub(crate) async fn blob_length(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, Error> {
        let size = match (self.blob_here(repository, digest).await?, self.upstreams.of(repository)) {
            (Some(size), _) => Some(size),
            (None, Some(upstream)) => upstream.blob_size(repository, digest).await?,
            (None, None) => None,
        };
        size.ok_or_else(|| Error::BlobUnknown { repository: repository.clone(), digest: *digest })
    }

    /// The bytes of a blob that was found; of a range within it, if one is given.
    pub(crate) async fn blob_body(
        &self,
        found: Found,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<(blobs::Body, Option<MappedFile>), Error> {
        match found {
            Found::Here(_) => {
                let read = self.blobs.read(digest, range).await?;
                Ok((read.body, read.mapped))
            }
            Found::Arriving(arriving) => {
                let range = range.unwrap_or(0..arriving.size());
                Ok((arriving.body(range), None))
            }
        }
    }

    /// Bytes that a broken disk lost are not promised: told so, a client pushes them again (a07).
    async fn blob_here(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Error> {
        let Some(size) = self.store.blob_size(repository, digest).await? else { return Ok(None) };
        let blob = self.blobs.stat(digest).await?;
        Ok(blob.filter(|blob| blob.size == size).map(|_| size))
    }

    /// The whole of a small blob; none when there is no such blob.
    pub(crate) async fn blob_read(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bytes_max: u64,
    ) -> Result<Option<Bytes>, Error> {
        let found = match self.blob_find(repository, digest).await {
            Ok(found) => found,
            Err(Error::BlobUnknown { .. }) => {
                let is_lost = self.store.blob_size(repository, digest).await?.is_some();
                let lost = Error::Blob(blobs::BlobError::NotFound { digest: *digest });
                return if is_lost { Err(lost) } else { Ok(None) };
            }
            Err(error) => return Err(error),
        };
        let size = found.size();
        if size > bytes_max {
            return Err(Error::BlobTooLong { digest: *digest, size, bytes_max });
        }
        let (mut body, _) = self.blob_body(found, digest, None).await?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(|source| Error::BlobRead { digest: *digest, source })?);
        }
        Ok(Some(Bytes::from(bytes)))
    }
}
