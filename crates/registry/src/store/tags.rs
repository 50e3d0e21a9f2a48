//! Tags.

use api::Micros;
use base::db::{DbError, Tx, sql};
use futures::FutureExt;
use oci::{Digest, RepositoryName, Tag};

use super::retention::untagged_mark;
use super::{Store, digest};
use crate::{Error, Rules};

impl Store {
    /// Removes a tag and nothing else. Fails when it is immutable.
    pub(crate) async fn tag_delete(&self, repository: &RepositoryName, tag: &Tag, now: Micros) -> Result<bool, Error> {
        let with = (repository.clone(), tag.clone(), self.rules.clone());
        self.manifests_write(repository, with, move |tx, (repository, tag, rules)| {
            async move {
                let old = tag_change_check(tx, rules, repository, tag, None).await?;
                let removed = sql("DELETE FROM tags WHERE repository = $1 AND tag = $2")
                    .bind(repository.as_str())
                    .bind(tag.as_str())
                    .execute(tx)
                    .await?;
                if let Some(old) = old {
                    untagged_mark(tx, repository, &old, now).await?;
                }
                Ok(removed > 0)
            }
            .boxed()
        })
        .await
    }

    /// Tags in lexical order, those after `after`; none when the repository does not exist.
    pub(crate) async fn tags(
        &self,
        repository: &RepositoryName,
        after: &str,
        limit: u32,
    ) -> Result<Option<Vec<String>>, Error> {
        if !self.repository_exists(repository).await? {
            return Ok(None);
        }
        let rows = sql("SELECT tag FROM tags WHERE repository = $1 AND tag > $2 ORDER BY tag LIMIT $3")
            .bind(repository.as_str())
            .bind(after)
            .bind(limit)
            .all(&self.db)
            .await?;
        Ok(Some(rows.iter().map(|row| row.get("tag")).collect::<Result<_, DbError>>()?))
    }
}

/// Lets a tag lead to a manifest from now on. Fails when it is immutable and leads to another one.
pub(super) async fn tag_put(
    tx: &mut Tx,
    rules: &Rules,
    repository: &RepositoryName,
    tag: &Tag,
    to: Digest,
    now: Micros,
) -> Result<(), Error> {
    let old = tag_change_check(tx, rules, repository, tag, Some(to)).await?;
    sql("INSERT INTO tags (repository, tag, digest, updated_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at")
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(to.to_string())
    .bind(now)
    .execute(tx)
    .await?;
    match old.filter(|old| *old != to) {
        Some(old) => untagged_mark(tx, repository, &old, now).await,
        None => Ok(()),
    }
}

/// What a tag leads to. Fails when it is immutable and is to lead to something else (`None`: it is to go). In the
/// transaction of the change, so that of two writers of a new tag one sees the other's.
async fn tag_change_check(
    tx: &mut Tx,
    rules: &Rules,
    repository: &RepositoryName,
    tag: &Tag,
    to: Option<Digest>,
) -> Result<Option<Digest>, Error> {
    let row = sql("SELECT digest FROM tags WHERE repository = $1 AND tag = $2")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .optional(tx)
        .await?;
    let old = row.map(|row| digest(&row, "digest")).transpose()?;
    let rule = rules.of(repository).filter(|rule| rule.is_immutable(tag));
    match (old, rule) {
        (Some(digest), Some(rule)) if to != Some(digest) => Err(Error::TagImmutable {
            repository: repository.clone(),
            tag: tag.clone(),
            digest: Box::new(digest),
            rule: rule.repositories.as_str().to_owned(),
        }),
        _ => Ok(old),
    }
}

/// Fails when an immutable tag leads to a manifest that is to go.
pub(super) async fn tags_of_check(
    tx: &mut Tx,
    rules: &Rules,
    repository: &RepositoryName,
    manifest: Digest,
) -> Result<(), Error> {
    let Some(rule) = rules.of(repository).filter(|rule| !rule.immutable_tags.is_empty()) else { return Ok(()) };
    let rows = sql("SELECT tag FROM tags WHERE repository = $1 AND digest = $2 ORDER BY tag")
        .bind(repository.as_str())
        .bind(manifest.to_string())
        .all(tx)
        .await?;
    for row in rows {
        let tag = super::tag(&row, "tag")?;
        if rule.is_immutable(&tag) {
            let rule = rule.repositories.as_str().to_owned();
            return Err(Error::TagImmutable { repository: repository.clone(), tag, digest: Box::new(manifest), rule });
        }
    }
    Ok(())
}
