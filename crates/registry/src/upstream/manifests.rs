//! Manifests and tags of upstreams: a manifest is fetched once, a tag is asked for again after a while, by HEAD, which
//! counts against nobody's limit.

use std::sync::Arc;

use api::Micros;
use bytes::Bytes;
use client::RemoteManifest;
use oci::{Digest, Document, ManifestReference, RepositoryName, Tag};

use super::{ABSENT_HOLDS, ANSWER_WAIT, ANSWER_WAIT_WITH_OLD, Upstream, UpstreamError};
use crate::Error;
use crate::cache::Ready;

/// So often a manifest is brought back that an eviction took away while it was asked for. Nothing is evicted twice: what
/// was just brought is in use.
pub(crate) const EVICTIONS_OUTRUN_MAX: usize = 2;

impl Upstream {
    /// Brings the rows of a manifest up to date: what a reader finds in them then is the answer. Says whether it was
    /// there a moment ago, when the upstream has it: a reader who does not find it came behind an eviction.
    pub(crate) async fn manifest_refresh(
        self: &Arc<Self>,
        repository: &RepositoryName,
        reference: &ManifestReference,
    ) -> Result<bool, Error> {
        let outcome = match reference {
            ManifestReference::Tag(tag) => self.tag_refresh(repository, tag).await,
            ManifestReference::Digest(digest) => {
                if self.here(repository, reference).await?.is_some() {
                    self.counts.manifests_here.increment();
                    return Ok(true);
                }
                self.manifest_ensure(repository, *digest).await.map(|()| true)
            }
        };
        match outcome {
            Ok(is_there) => Ok(is_there),
            // The rows then say so, too.
            Err(UpstreamError::NotFound { .. }) => Ok(false),
            Err(error) => Err(Error::Upstream(error)),
        }
    }

    /// Has the next reader of a tag ask, however fresh it is: this hub or another one evicted where it led.
    pub(crate) fn manifest_forget(&self, repository: &RepositoryName, reference: &ManifestReference) {
        if let ManifestReference::Tag(tag) = reference {
            self.tags_fresh.forget(&(repository.clone(), tag.clone()));
        }
    }

    async fn tag_refresh(self: &Arc<Self>, repository: &RepositoryName, tag: &Tag) -> Result<bool, UpstreamError> {
        let key = (repository.clone(), tag.clone());
        if let Some(is_there) = self.tags_fresh.get(&key) {
            return Ok(is_there);
        }
        let ask = || {
            let (upstream, (repository, tag)) = (Arc::clone(self), key.clone());
            async move { upstream.tag_ask(repository, tag).await }
        };
        let answer = self.tags_asked.join(key.clone(), ask).await;
        answer.unwrap_or_else(|| Err(self.not_asked()))
    }

    /// Whether the tag leads anywhere.
    async fn tag_ask(self: Arc<Self>, repository: RepositoryName, tag: Tag) -> Result<bool, UpstreamError> {
        let by_tag = ManifestReference::Tag(tag.clone());
        let known = self.here(&repository, &by_tag).await?.map(|ready| ready.manifest.digest);
        let error = match self.tag_follow(&repository, &tag, known).await {
            Ok(is_there) => {
                let holds = if is_there { self.revalidate } else { ABSENT_HOLDS.min(self.revalidate) };
                self.tags_fresh.put((repository, tag), is_there, holds);
                return Ok(is_there);
            }
            Err(error) => error,
        };
        // A rule of the hub's may want the tag to stay where it is.
        let is_immutable =
            matches!(&error, UpstreamError::Here(error) if matches!(**error, Error::TagImmutable { .. }));
        if known.is_none() || !(error.passes() || is_immutable) {
            return Err(error);
        }
        self.counts.tags_stale.increment();
        tracing::warn!(%repository, %tag, %error, "a tag is served as it last was");
        self.tags_fresh.put((repository, tag), true, ABSENT_HOLDS.min(self.revalidate));
        Ok(true)
    }

    /// Lets the tag lead where it leads at the upstream. Says whether it leads anywhere.
    async fn tag_follow(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        known: Option<Digest>,
    ) -> Result<bool, UpstreamError> {
        let reference = self.reference_or_absent(repository)?.with_tag(tag.clone());
        if known.is_some() && self.is_down() {
            return Err(self.not_asked());
        }
        let wait = if known.is_some() { ANSWER_WAIT_WITH_OLD } else { ANSWER_WAIT };
        let Some(head) = self.ask(wait, self.client.manifest_head(&reference)).await? else {
            if known.is_some() {
                self.store.tag_delete(repository, tag, Micros::now()).await?;
            }
            return Ok(false);
        };
        if known == Some(head.digest) {
            return Ok(true);
        }
        for _ in 0..EVICTIONS_OUTRUN_MAX {
            self.manifest_ensure(repository, head.digest).await?;
            if self.tag_lead(repository, tag, head.digest).await? {
                return Ok(true);
            }
        }
        Err(self.not_asked())
    }

    /// Lets a tag lead to a manifest, if that is here.
    async fn tag_lead(&self, repository: &RepositoryName, tag: &Tag, digest: Digest) -> Result<bool, UpstreamError> {
        let found = self.here(repository, &ManifestReference::Digest(digest)).await?;
        let Some(manifest) = found.map(|ready| ready.manifest.clone()) else { return Ok(false) };
        let document = Document::parse(&manifest.bytes, Some(&manifest.media_type)).map_err(Error::Manifest)?;
        self.store
            .manifest_mirror(repository, digest, &document, manifest.bytes, vec![tag.clone()], Micros::now())
            .await?;
        Ok(true)
    }

    /// Fetches a manifest unless it is here.
    async fn manifest_ensure(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<(), UpstreamError> {
        let key = (repository.clone(), digest);
        if let Some(error) = self.failed.get(&key) {
            return Err(error);
        }
        let ask = || {
            let (upstream, repository) = (Arc::clone(self), repository.clone());
            async move { upstream.manifest_fetch(repository, digest).await }
        };
        let answer = self.manifests_asked.join(key, ask).await;
        answer.unwrap_or_else(|| Err(self.not_asked()))
    }

    async fn manifest_fetch(self: Arc<Self>, repository: RepositoryName, digest: Digest) -> Result<(), UpstreamError> {
        if self.here(&repository, &ManifestReference::Digest(digest)).await?.is_some() {
            return Ok(());
        }
        let remote = match self.manifest_get(&repository, digest).await {
            Ok(remote) => remote,
            Err(error) => {
                if let UpstreamError::NotFound { .. } = error {
                    self.failed.put((repository, digest), error.clone(), ABSENT_HOLDS);
                }
                return Err(error);
            }
        };
        self.counts.manifests_fetched.increment();
        let (document, bytes) = (remote.document, remote.content);
        self.store.manifest_mirror(&repository, digest, &document, bytes, Vec::new(), Micros::now()).await?;
        Ok(())
    }

    /// The bytes of a manifest as the upstream has them, verified.
    pub(crate) async fn manifest_again(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Bytes, UpstreamError> {
        if self.is_down() {
            return Err(self.not_asked());
        }
        Ok(self.manifest_get(repository, digest).await?.content)
    }

    async fn manifest_get(&self, repository: &RepositoryName, digest: Digest) -> Result<RemoteManifest, UpstreamError> {
        let reference = self.reference_or_absent(repository)?.with_digest(digest);
        self.ask(ANSWER_WAIT, self.client.manifest_get(&reference)).await
    }

    /// A manifest that is here. One that is damaged is not: it is fetched again.
    async fn here(
        &self,
        repository: &RepositoryName,
        reference: &ManifestReference,
    ) -> Result<Option<Arc<Ready>>, Error> {
        match self.store.manifest(repository, reference).await {
            Err(Error::Damaged { what }) => {
                tracing::error!(%repository, %reference, what, "a manifest is fetched again: see to the disk");
                Ok(None)
            }
            found => found,
        }
    }
}
