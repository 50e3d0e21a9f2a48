//! Manifests and tags of upstreams: a manifest is fetched once, a tag is asked for again after a while, by HEAD, which
//! counts against nobody's limit.

use std::sync::Arc;

use api::Micros;
use oci::{Digest, Document, ManifestReference, RepositoryName, Tag};

use super::{ABSENT_HOLDS, ANSWER_WAIT, ANSWER_WAIT_WITH_OLD, Upstream, UpstreamError};
use crate::Error;

impl Upstream {
    /// Brings the rows of a manifest up to date: what a reader finds in them then is the answer.
    pub(crate) async fn manifest_refresh(
        self: &Arc<Self>,
        repository: &RepositoryName,
        reference: &ManifestReference,
    ) -> Result<(), Error> {
        let outcome = match reference {
            ManifestReference::Tag(tag) => self.tag_refresh(repository, tag).await,
            ManifestReference::Digest(digest) => {
                if self.store.manifest(repository, reference).await?.is_some() {
                    self.counts.manifests_here.increment();
                    return Ok(());
                }
                self.manifest_ensure(repository, *digest).await
            }
        };
        match outcome {
            // The rows then say so, too.
            Ok(()) | Err(UpstreamError::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::Upstream(error)),
        }
    }

    async fn tag_refresh(self: &Arc<Self>, repository: &RepositoryName, tag: &Tag) -> Result<(), UpstreamError> {
        let key = (repository.clone(), tag.clone());
        if self.tags_fresh.get(&key).is_some() {
            return Ok(());
        }
        let ask = || {
            let (upstream, (repository, tag)) = (Arc::clone(self), key.clone());
            async move { upstream.tag_ask(repository, tag).await }
        };
        let answer = self.tags_asked.join(key.clone(), ask).await;
        answer.unwrap_or_else(|| Err(self.not_asked()))
    }

    async fn tag_ask(self: Arc<Self>, repository: RepositoryName, tag: Tag) -> Result<(), UpstreamError> {
        let by_tag = ManifestReference::Tag(tag.clone());
        let known = self.store.manifest(&repository, &by_tag).await?.map(|ready| ready.manifest.digest);
        let error = match self.tag_follow(&repository, &tag, known).await {
            Ok(holds) => {
                self.tags_fresh.put((repository, tag), (), holds);
                return Ok(());
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
        self.tags_fresh.put((repository, tag), (), ABSENT_HOLDS.min(self.revalidate));
        Ok(())
    }

    /// Lets the tag lead where it leads at the upstream. Gives how long that holds.
    async fn tag_follow(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        known: Option<Digest>,
    ) -> Result<std::time::Duration, UpstreamError> {
        let reference = self.reference_or_absent(repository)?.with_tag(tag.clone());
        if known.is_some() && self.is_down() {
            return Err(self.not_asked());
        }
        let wait = if known.is_some() { ANSWER_WAIT_WITH_OLD } else { ANSWER_WAIT };
        let Some(head) = self.ask(wait, self.client.manifest_head(&reference)).await? else {
            if known.is_some() {
                self.store.tag_delete(repository, tag, Micros::now()).await?;
            }
            return Ok(ABSENT_HOLDS.min(self.revalidate));
        };
        if known != Some(head.digest) {
            self.manifest_ensure(repository, head.digest).await?;
            self.tag_lead(repository, tag, head.digest).await?;
        }
        Ok(self.revalidate)
    }

    /// Lets a tag lead to a manifest that is here.
    async fn tag_lead(&self, repository: &RepositoryName, tag: &Tag, digest: Digest) -> Result<(), UpstreamError> {
        let found = self.store.manifest(repository, &ManifestReference::Digest(digest)).await?;
        let manifest = found.ok_or_else(|| UpstreamError::NotFound { host: self.host.clone() })?.manifest.clone();
        let document = Document::parse(&manifest.bytes, Some(&manifest.media_type)).map_err(Error::Manifest)?;
        Ok(self
            .store
            .manifest_mirror(repository, digest, &document, manifest.bytes, vec![tag.clone()], Micros::now())
            .await?)
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
        if self.store.manifest(&repository, &ManifestReference::Digest(digest)).await?.is_some() {
            return Ok(());
        }
        let reference = self.reference_or_absent(&repository)?.with_digest(digest);
        let remote = match self.ask(ANSWER_WAIT, self.client.manifest_get(&reference)).await {
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
}
