//! What retention would remove now, without removing it: the same judges, asked by those who look.

use api::registry::Going;
use api::{Micros, Page, Problem};
use base::page::PageRequest;
use oci::{Digest, RepositoryName, Tag};

use crate::expiry::{TagsGoing, UntaggedGoing};
use crate::policy::Rule;
use crate::{Error, Service};

/// Repositories looked at for one page: a page may have nothing on it, and still be followed by others.
const REPOSITORIES_PER_PAGE_MAX: u32 = 256;

/// Where a page begins: behind this, in the order of repositories, their tags by age, their manifests by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    repository: RepositoryName,
    within: Within,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Start,
    Tag(Micros, Tag),
    Manifest(Digest),
    End,
}

impl Place {
    fn of(going: &Going) -> Self {
        let within = match &going.tag {
            Some(tag) => Within::Tag(going.since, tag.clone()),
            None => Within::Manifest(going.digest),
        };
        Self { repository: going.repository.clone(), within }
    }

    /// `REPOSITORY`, `REPOSITORY:MICROS:TAG` or `REPOSITORY@DIGEST`.
    fn cursor(&self) -> String {
        let Self { repository, within } = self;
        match within {
            Within::Start | Within::End => repository.to_string(),
            Within::Tag(at, tag) => format!("{repository}:{}:{tag}", at.0),
            Within::Manifest(digest) => format!("{repository}@{digest}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (repository, within) = if let Some((repository, digest)) = text.split_once('@') {
            (repository, Within::Manifest(digest.parse().ok()?))
        } else if let Some((repository, rest)) = text.split_once(':') {
            let (at, tag) = rest.split_once(':')?;
            (repository, Within::Tag(Micros(at.parse().ok()?), tag.parse().ok()?))
        } else {
            (text, Within::End)
        };
        Some(Self { repository: repository.parse().ok()?, within })
    }
}

impl Service {
    /// What retention would remove at this time: of one repository or of all, in their order, page by page. What a tag
    /// that goes led to is not named apart: it goes with the last tag unless something else needs it.
    ///
    /// # Errors
    /// 400 when the page begins nowhere; those of the database.
    pub async fn retention_preview(
        &self,
        only: Option<&RepositoryName>,
        page: &PageRequest,
        now: Micros,
    ) -> Result<Page<Going>, Problem> {
        let after = match &page.after {
            None => only.map(|repository| Place { repository: repository.clone(), within: Within::Start }),
            Some(text) => Some(Place::parse(text).ok_or_else(|| {
                Problem::new(400, "page-cursor-invalid", "The list cannot go on there")
                    .detail(format!("`{text}` is not the `next` of a page of this list"))
            })?),
        };
        if after.as_ref().is_some_and(|after| only.is_some_and(|only| *only != after.repository)) {
            return Err(Problem::new(400, "page-cursor-invalid", "The list cannot go on there")
                .detail("the page before was of another repository"));
        }
        Ok(self.going(only.is_some(), after, page.limit as usize, now).await?)
    }

    async fn going(
        &self,
        is_only: bool,
        after: Option<Place>,
        limit: usize,
        now: Micros,
    ) -> Result<Page<Going>, Error> {
        let (mut items, mut name) = (Vec::new(), String::new());
        if let Some(Place { repository, within }) = after {
            self.going_of(&repository, &within, limit, now, &mut items).await?;
            name = repository.to_string();
        }
        let mut next = None;
        if !is_only && items.len() <= limit {
            let names = self.store.repositories(&name, REPOSITORIES_PER_PAGE_MAX).await?;
            let is_full = names.len() == REPOSITORIES_PER_PAGE_MAX as usize;
            next = names.last().filter(|_| is_full).cloned();
            for name in names {
                let repository: RepositoryName =
                    name.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })?;
                self.going_of(&repository, &Within::Start, limit, now, &mut items).await?;
                if items.len() > limit {
                    break;
                }
            }
        }
        if items.len() > limit {
            items.truncate(limit);
            next = items.last().map(|last| Place::of(last).cursor());
        }
        Ok(Page { items, next })
    }

    /// Adds what goes from a repository behind a place in it, until there is one more than the limit.
    async fn going_of(
        &self,
        repository: &RepositoryName,
        after: &Within,
        limit: usize,
        now: Micros,
        items: &mut Vec<Going>,
    ) -> Result<(), Error> {
        let Some((_, rule)) = self.rules.find(repository.as_str()) else { return Ok(()) };
        if *after == Within::End {
            return Ok(());
        }
        let going = |tag, digest, since, why| Going {
            repository: repository.clone(),
            tag,
            digest,
            since,
            rule: rule_name(rule),
            why,
        };
        if !matches!(after, Within::Manifest(_)) && !rule.retain.is_empty() {
            let mut tags = TagsGoing::new(&self.store, repository, rule, now);
            while let Some(page) = tags.next().await? {
                for (tag, why) in page {
                    let is_behind = match after {
                        Within::Tag(at, name) => (tag.pushed_at, tag.tag.as_str()) < (*at, name.as_str()),
                        _ => true,
                    };
                    if is_behind {
                        items.push(going(Some(tag.tag), tag.digest, tag.pushed_at, why));
                    }
                }
                if items.len() > limit {
                    return Ok(());
                }
            }
        }
        let after = match after {
            Within::Manifest(digest) => digest.to_string(),
            _ => String::new(),
        };
        let mut manifests = UntaggedGoing::new(&self.store, repository, rule, now, after);
        while items.len() <= limit
            && let Some(page) = manifests.next().await?
        {
            items.extend(page.into_iter().map(|(manifest, why)| going(None, manifest.digest, manifest.since, why)));
        }
        Ok(())
    }
}

fn rule_name(rule: &Rule) -> String {
    rule.repositories.as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again() {
        let digest = Digest::sha256_of(b"");
        for within in [Within::Tag(Micros(-5), "v1".parse().unwrap()), Within::Manifest(digest), Within::End] {
            let place = Place { repository: "team/app".parse().unwrap(), within };
            assert_eq!(Place::parse(&place.cursor()), Some(place));
        }
        for text in ["", "A", "a:v1", "a:x:v1", "a@sha256:1", "a:1:", "a:1:x:y"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
