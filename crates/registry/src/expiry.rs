//! Carries retention out: repository by repository, in small transactions, each of which looks again at what it removes.

use std::time::Duration;

use api::Micros;
use oci::RepositoryName;

use crate::policy::Rule;
use crate::retention::{Judge, untagged};
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
        let (mut judge, mut after, mut removed) = (Judge::new(rule, now), None, 0);
        loop {
            let page = self.store.tags_by_age(repository, after.as_ref(), ITEMS_PER_PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(removed) };
            after = Some(last.clone());
            let mut going = Vec::new();
            for tag in page {
                if let Some(why) = judge.tag(&tag) {
                    tracing::info!(%repository, tag = %tag.tag, digest = %tag.digest, why, "retention removes a tag");
                    going.push(tag);
                }
            }
            if !going.is_empty() {
                removed += self.store.tags_expire(repository, going, now).await?;
            }
        }
    }

    async fn untagged_retain(&self, repository: &RepositoryName, rule: &Rule, now: Micros) -> Result<u64, Error> {
        let Some(stays) = rule.retain_untagged else { return Ok(0) };
        let before = Micros(now.0.saturating_sub(micros(stays)));
        let (mut after, mut removed) = (String::new(), 0);
        loop {
            let page = self.store.untagged(repository, before, &after, ITEMS_PER_PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(removed) };
            after = last.digest.to_string();
            let mut going = page;
            going.retain(|manifest| untagged(rule, manifest.since, now).is_some());
            if !going.is_empty() {
                tracing::info!(%repository, manifests = going.len(), "retention removes manifests without a tag");
                removed += self.store.untagged_expire(repository, going, now).await?;
            }
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
