//! Lists of upstreams: tags and referrers, as the upstream has them; where it does not answer, as they are known here.

use std::sync::Arc;
use std::time::Duration;

use oci::{Descriptor, Digest, RepositoryName, Tag};

use super::{ANSWER_WAIT, Upstream, UpstreamError};
use crate::Error;
use crate::store::Referrer;

/// Requests for one page of tags: some upstreams give fewer at once than they are asked for.
const TAG_REQUESTS_MAX: usize = 20;
/// Lists of referrers that are longer than this are asked for each time.
const REFERRERS_REMEMBERED_MAX: usize = 100;
/// The whole of a long list may take longer than one answer.
const LIST_WAIT: Duration = ANSWER_WAIT;

impl Upstream {
    /// Tags in the upstream's order, those after `after`, at most `limit`; none when it has no such repository.
    pub(crate) async fn tags(
        self: &Arc<Self>,
        repository: &RepositoryName,
        after: &str,
        limit: u32,
    ) -> Result<Option<Vec<String>>, Error> {
        let key = (repository.clone(), after.to_owned(), limit);
        let ask = || {
            let (upstream, (repository, after, limit)) = (Arc::clone(self), key.clone());
            async move { upstream.tags_ask(&repository, after, limit).await }
        };
        match self.tag_lists_asked.join(key.clone(), ask).await.unwrap_or_else(|| Err(self.not_asked())) {
            Ok(tags) => Ok(tags),
            Err(UpstreamError::NotFound { .. }) => Ok(None),
            Err(error) if error.passes() => {
                tracing::warn!(%repository, %error, "tags are listed as they are known here");
                self.store.tags(repository, after, limit).await
            }
            Err(error) => Err(Error::Upstream(error)),
        }
    }

    async fn tags_ask(
        &self,
        repository: &RepositoryName,
        after: String,
        limit: u32,
    ) -> Result<Option<Vec<String>>, UpstreamError> {
        let reference = self.reference_or_absent(repository)?;
        // What is not a tag is behind no tag: an upstream would not know what to do with it.
        let mut last: Option<Tag> = after.parse().ok();
        let mut tags: Vec<String> = Vec::new();
        for _ in 0..TAG_REQUESTS_MAX {
            let missing = limit.saturating_sub(u32::try_from(tags.len()).unwrap_or(u32::MAX));
            if missing == 0 {
                break;
            }
            let question = self.client.tag_list(&reference, last.as_ref(), missing);
            let page = self.ask(LIST_WAIT, question).await?;
            // An upstream that takes no notice of what was asked gives all tags each time.
            let behind = page.iter().position(|tag| Some(tag) == last.as_ref()).map_or(0, |at| at + 1);
            let new = page.get(behind..).unwrap_or_default();
            let Some(newest) = new.last() else { break };
            last = Some(newest.clone());
            tags.extend(new.iter().take(missing as usize).map(ToString::to_string));
        }
        Ok(Some(tags))
    }

    /// What refers to a manifest, by digest, those after `after`, at most `limit`.
    pub(crate) async fn referrers(
        self: &Arc<Self>,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Referrer>, Error> {
        let all = match self.referrers_all(repository, subject).await {
            Ok(all) => all,
            Err(UpstreamError::NotFound { .. }) => Arc::default(),
            Err(error) if error.passes() => {
                tracing::warn!(%repository, %subject, %error, "referrers are listed as they are known here");
                return self.store.referrers(repository, subject, artifact_type, after, limit).await;
            }
            Err(error) => return Err(Error::Upstream(error)),
        };
        let wanted = |entry: &&Descriptor| {
            artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted))
                && entry.digest.to_string().as_str() > after
        };
        all.iter().filter(wanted).take(limit as usize).map(referrer).collect()
    }

    async fn referrers_all(
        self: &Arc<Self>,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Arc<Vec<Descriptor>>, UpstreamError> {
        let key = (repository.clone(), *subject);
        if let Some(known) = self.referrer_lists.get(&key) {
            return Ok(known);
        }
        let ask = || {
            let (upstream, (repository, subject)) = (Arc::clone(self), key.clone());
            async move {
                let reference = upstream.reference_or_absent(&repository)?;
                let question = upstream.client.referrers(&reference, &subject, None);
                let mut all = upstream.ask(LIST_WAIT, question).await?;
                all.sort_by_cached_key(|entry| entry.digest.to_string());
                all.dedup_by_key(|entry| entry.digest);
                let all = Arc::new(all);
                if all.len() <= REFERRERS_REMEMBERED_MAX {
                    upstream.referrer_lists.put((repository, subject), Arc::clone(&all), upstream.revalidate);
                }
                Ok(all)
            }
        };
        self.referrers_asked.join(key.clone(), ask).await.unwrap_or_else(|| Err(self.not_asked()))
    }
}

fn referrer(entry: &Descriptor) -> Result<Referrer, Error> {
    let annotations = serde_json::to_string(&entry.annotations)
        .map_err(|error| Error::Damaged { what: format!("annotations: {error}") })?;
    Ok(Referrer {
        digest: entry.digest,
        media_type: entry.media_type.clone(),
        size: entry.size,
        artifact_type: entry.artifact_type.clone(),
        annotations,
    })
}
