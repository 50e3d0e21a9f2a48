//! What retention looks at and takes away: tags by age, and manifests without one.

use api::Micros;
use base::db::{Row, Tx, sql};
use futures::FutureExt;
use oci::{Digest, RepositoryName};

use super::manifests::remove;
use super::{Store, digest, tag};
use crate::Error;
use crate::retention::{TagAge, subject_of};

/// A manifest without a tag that nothing else keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Untagged {
    pub(crate) digest: Digest,
    /// Since when it has none.
    pub(crate) since: Micros,
}

/// What keeps a manifest `m`, besides its being young: a tag, a pin, an index, and what it signs or describes.
macro_rules! kept {
    () => {
        "(EXISTS (SELECT 1 FROM tags t WHERE t.repository = m.repository AND t.digest = m.digest) \
         OR EXISTS (SELECT 1 FROM pins p WHERE p.repository = m.repository AND p.digest = m.digest) \
         OR EXISTS (SELECT 1 FROM manifest_needs n WHERE n.repository = m.repository AND n.digest = m.digest) \
         OR EXISTS (SELECT 1 FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject))"
    };
}

impl Store {
    /// Tags of a repository, the one pushed last first, those behind `after`.
    pub(crate) async fn tags_by_age(
        &self,
        repository: &RepositoryName,
        after: Option<&TagAge>,
        limit: u32,
    ) -> Result<Vec<TagAge>, Error> {
        let rows = sql("SELECT t.tag AS tag, t.digest AS digest, t.updated_at AS updated_at, \
             EXISTS (SELECT 1 FROM pins p WHERE p.repository = t.repository AND p.digest = t.digest) AS is_pinned \
             FROM tags t WHERE t.repository = $1 AND (t.updated_at, t.tag) < ($2, $3) \
             ORDER BY t.updated_at DESC, t.tag DESC LIMIT $4")
        .bind(repository.as_str())
        .bind(after.map_or(Micros(i64::MAX), |after| after.pushed_at))
        .bind(after.map_or("", |after| after.tag.as_str()))
        .bind(limit)
        .all(&self.db)
        .await?;
        let mut tags: Vec<TagAge> = rows.iter().map(tag_age).collect::<Result<_, Error>>()?;
        for tag in &mut tags {
            let Some(subject) = subject_of(&tag.tag) else { continue };
            let found = sql("SELECT 1 AS one FROM manifests WHERE repository = $1 AND digest = $2")
                .bind(repository.as_str())
                .bind(subject.to_string())
                .optional(&self.db)
                .await?;
            tag.has_subject = found.is_some();
        }
        Ok(tags)
    }

    /// Removes tags that are still as they were judged and not pinned, and of what they led to what nothing else keeps.
    /// Gives the number of tags that went.
    pub(crate) async fn tags_expire(
        &self,
        repository: &RepositoryName,
        tags: Vec<TagAge>,
        now: Micros,
    ) -> Result<u64, Error> {
        let removed = self
            .manifests_write(repository, (repository.clone(), tags), move |tx, (repository, tags)| {
                async move {
                    let mut removed = 0;
                    for tag in tags {
                        let gone = sql("DELETE FROM tags WHERE repository = $1 AND tag = $2 AND digest = $3 \
                             AND updated_at = $4 AND NOT EXISTS (SELECT 1 FROM pins p \
                             WHERE p.repository = $1 AND p.digest = $3)")
                        .bind(repository.as_str())
                        .bind(tag.tag.as_str())
                        .bind(tag.digest.to_string())
                        .bind(tag.pushed_at)
                        .execute(tx)
                        .await?;
                        if gone == 0 {
                            continue;
                        }
                        removed += gone;
                        if !expire(tx, repository, &tag.digest, now).await? {
                            untagged_mark(tx, repository, &tag.digest, now).await?;
                        }
                    }
                    Ok(removed)
                }
                .boxed()
            })
            .await?;
        self.deleted.wake();
        Ok(removed)
    }

    /// Manifests of a repository that nothing keeps and that have been without a tag since `before` or longer, by digest,
    /// those after `after`.
    pub(crate) async fn untagged(
        &self,
        repository: &RepositoryName,
        before: Micros,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Untagged>, Error> {
        let rows = sql(concat!(
            "SELECT m.digest AS digest, m.untagged_since AS since FROM manifests m \
             WHERE m.repository = $1 AND m.untagged_since <= $2 AND m.digest > $3 AND NOT ",
            kept!(),
            " ORDER BY m.digest LIMIT $4"
        ))
        .bind(repository.as_str())
        .bind(before)
        .bind(after)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(|row| Ok(Untagged { digest: digest(row, "digest")?, since: row.get("since")? })).collect()
    }

    /// Removes manifests that are still without a tag since then and kept by nothing. Gives the number of those that went.
    pub(crate) async fn untagged_expire(
        &self,
        repository: &RepositoryName,
        manifests: Vec<Untagged>,
        now: Micros,
    ) -> Result<u64, Error> {
        let removed = self
            .manifests_write(repository, (repository.clone(), manifests), move |tx, (repository, manifests)| {
                async move {
                    let mut removed = 0;
                    for Untagged { digest, since } in manifests {
                        let same = sql("SELECT 1 AS one FROM manifests \
                             WHERE repository = $1 AND digest = $2 AND untagged_since = $3")
                        .bind(repository.as_str())
                        .bind(digest.to_string())
                        .bind(*since)
                        .optional(tx)
                        .await?;
                        removed += u64::from(same.is_some() && expire(tx, repository, digest, now).await?);
                    }
                    Ok(removed)
                }
                .boxed()
            })
            .await?;
        self.deleted.wake();
        Ok(removed)
    }
}

/// Removes a manifest unless something keeps it.
async fn expire(tx: &mut Tx, repository: &RepositoryName, digest: &Digest, now: Micros) -> Result<bool, Error> {
    let loose =
        sql(concat!("SELECT 1 AS one FROM manifests m WHERE m.repository = $1 AND m.digest = $2 AND NOT ", kept!()))
            .bind(repository.as_str())
            .bind(digest.to_string())
            .optional(tx)
            .await?;
    match loose {
        Some(_) => remove(tx, repository, digest, now, now).await,
        None => Ok(false),
    }
}

/// Notes since when a manifest has no tag, if it has none.
pub(super) async fn untagged_mark(
    tx: &mut Tx,
    repository: &RepositoryName,
    digest: &Digest,
    since: Micros,
) -> Result<(), Error> {
    sql("UPDATE manifests SET untagged_since = $1 WHERE repository = $2 AND digest = $3 \
         AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = $2 AND t.digest = $3)")
    .bind(since)
    .bind(repository.as_str())
    .bind(digest.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

fn tag_age(row: &Row) -> Result<TagAge, Error> {
    Ok(TagAge {
        tag: tag(row, "tag")?,
        digest: digest(row, "digest")?,
        pushed_at: row.get("updated_at")?,
        is_pinned: row.get("is_pinned")?,
        has_subject: false,
    })
}
