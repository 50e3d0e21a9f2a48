//! Carries retention out: repository by repository, in small transactions, each of which looks again at what it removes.

use std::time::Duration;

use api::Micros;
use oci::RepositoryName;

use crate::policy::Rule;
use crate::retention::{Judge, TagAge, untagged};
use crate::store::{Store, Untagged};
use crate::{Error, Service};

/// Repositories looked at in one go.
const REPOSITORIES_PER_PAGE_MAX: u32 = 256;
/// Tags or manifests that are judged, and removed, in one go.
const ITEMS_PER_PAGE_MAX: u32 = 100;

/// What retention removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Tags.
    pub tags: u64,
    /// Manifests that had no tag.
    pub manifests: u64,
}

impl Service {
    /// Removes what the rules let go. Idempotent: hubs that share a database may do it at once.
    ///
    /// # Errors
    /// Those of the database; what was removed until then stays removed.
    pub async fn retain(&self, now: Micros) -> Result<Expired, Error> {
        let mut expired = Expired::default();
        if !self.rules.iter().any(|rule| !rule.retain.is_empty() || rule.retain_untagged.is_some()) {
            return Ok(expired);
        }
        let mut after = String::new();
        loop {
            let page = self.store.repositories(&after, REPOSITORIES_PER_PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(expired) };
            after.clone_from(last);
            for name in &page {
                let Some((_, rule)) = self.rules.find(name) else { continue };
                let repository: RepositoryName =
                    name.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })?;
                expired.tags += self.tags_retain(&repository, rule, now).await?;
                expired.manifests += self.untagged_retain(&repository, rule, now).await?;
            }
        }
    }

    async fn tags_retain(&self, repository: &RepositoryName, rule: &Rule, now: Micros) -> Result<u64, Error> {
        if rule.retain.is_empty() {
            return Ok(0);
        }
        let (mut tags, mut removed) = (TagsGoing::new(&self.store, repository, rule, now), 0);
        while let Some(page) = tags.next().await? {
            for (tag, why) in &page {
                tracing::info!(%repository, tag = %tag.tag, digest = %tag.digest, why, "retention removes a tag");
            }
            if !page.is_empty() {
                let going = page.into_iter().map(|(tag, _)| tag).collect();
                removed += self.store.tags_expire(repository, going, now).await?;
            }
        }
        Ok(removed)
    }

    async fn untagged_retain(&self, repository: &RepositoryName, rule: &Rule, now: Micros) -> Result<u64, Error> {
        let (mut manifests, mut removed) = (UntaggedGoing::new(&self.store, repository, rule, now, String::new()), 0);
        while let Some(page) = manifests.next().await? {
            if !page.is_empty() {
                let going: Vec<Untagged> = page.into_iter().map(|(manifest, _)| manifest).collect();
                tracing::info!(%repository, manifests = going.len(), "retention removes manifests without a tag");
                removed += self.store.untagged_expire(repository, going, now).await?;
            }
        }
        Ok(removed)
    }
}

/// The tags of a repository that go, page by page, the one pushed last first.
pub(crate) struct TagsGoing<'a> {
    store: &'a Store,
    repository: &'a RepositoryName,
    judge: Judge<'a>,
    after: Option<TagAge>,
}

impl<'a> TagsGoing<'a> {
    pub(crate) fn new(store: &'a Store, repository: &'a RepositoryName, rule: &'a Rule, now: Micros) -> Self {
        Self { store, repository, judge: Judge::new(rule, now), after: None }
    }

    /// Those of the next page that go, with why; none when all were looked at.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<(TagAge, String)>>, Error> {
        let page = self.store.tags_by_age(self.repository, self.after.as_ref(), ITEMS_PER_PAGE_MAX).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = Some(last.clone());
        let judged = page.into_iter().filter_map(|tag| self.judge.tag(&tag).map(|why| (tag, why)));
        Ok(Some(judged.collect()))
    }
}

/// The manifests without a tag of a repository that go, page by page, by digest.
pub(crate) struct UntaggedGoing<'a> {
    store: &'a Store,
    repository: &'a RepositoryName,
    rule: &'a Rule,
    now: Micros,
    after: String,
}

impl<'a> UntaggedGoing<'a> {
    /// Those behind the digest `after`.
    pub(crate) fn new(
        store: &'a Store,
        repository: &'a RepositoryName,
        rule: &'a Rule,
        now: Micros,
        after: String,
    ) -> Self {
        Self { store, repository, rule, now, after }
    }

    /// Those of the next page that go, with why; none when all were looked at.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<(Untagged, String)>>, Error> {
        let Some(stays) = self.rule.retain_untagged else { return Ok(None) };
        let before = Micros(self.now.0.saturating_sub(micros(stays)));
        let page = self.store.untagged(self.repository, before, &self.after, ITEMS_PER_PAGE_MAX).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.digest.to_string();
        let judged = page
            .into_iter()
            .filter_map(|manifest| untagged(self.rule, manifest.since, self.now).map(|why| (manifest, why)));
        Ok(Some(judged.collect()))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
