//! Tags.

use base::db::{DbError, Tx, sql};
use futures::FutureExt;
use oci::{Digest, RepositoryName, Tag};

use super::{Store, digest};
use crate::{Error, Rules};

impl Store {
    /// Removes a tag and nothing else. Fails when it is immutable.
    pub(crate) async fn tag_delete(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool, Error> {
        let with = (repository.clone(), tag.clone(), self.rules.clone());
        self.manifests_write(repository, with, |tx, (repository, tag, rules)| {
            async move {
                tag_change_check(tx, rules, repository, tag, None).await?;
                let removed = sql("DELETE FROM tags WHERE repository = $1 AND tag = $2")
                    .bind(repository.as_str())
                    .bind(tag.as_str())
                    .execute(tx)
                    .await?;
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

/// Fails when a tag is there, immutable, and leads to something else than it is to lead to (`None`: it is to go). In the
/// transaction of the change, so that of two writers of a new tag one sees the other's.
pub(super) async fn tag_change_check(
    tx: &mut Tx,
    rules: &Rules,
    repository: &RepositoryName,
    tag: &Tag,
    to: Option<Digest>,
) -> Result<(), Error> {
    let Some(rule) = rules.of(repository).filter(|rule| rule.is_immutable(tag)) else { return Ok(()) };
    let row = sql("SELECT digest FROM tags WHERE repository = $1 AND tag = $2")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .optional(tx)
        .await?;
    match row.map(|row| digest(&row, "digest")).transpose()? {
        Some(digest) if to != Some(digest) => Err(Error::TagImmutable {
            repository: repository.clone(),
            tag: tag.clone(),
            digest: Box::new(digest),
            rule: rule.repositories.as_str().to_owned(),
        }),
        _ => Ok(()),
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
