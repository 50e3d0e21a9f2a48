//! What nothing needs any more, and since when: candidates are marked in the transaction that takes their last need away,
//! and found again by the time of that mark.

use api::Micros;
use base::db::{Row, Tx, sql};
use base::lease::Fence;
use futures::FutureExt;
use oci::{Digest, RepositoryName};

use super::blobs::unlinked_mark;
use super::manifests::{manifest_exists, remove};
use super::repositories::repository_empty_mark;
use super::usage::usage_change;
use super::{Store, digest, tag};
use crate::retention::subject_of;
use crate::{Error, Rules};

/// A manifest with more tags than this has some that are about nothing else.
const SPEAKING_TAGS_MAX: u32 = 8;

/// What became of the blobs that were condemned.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// No repository has them, and no row speaks of them any more.
    pub(crate) gone: Vec<Digest>,
    /// Someone pushed them meanwhile: they stay condemned until their bytes are back.
    pub(crate) rescued: Vec<Digest>,
}

impl Store {
    /// The earliest time since when something lacks what it was there for: long ago, when a collector stopped half way.
    pub(crate) async fn marked_first(&self) -> Result<Option<Micros>, Error> {
        let row = sql("SELECT MIN(since) AS since FROM \
             (SELECT MIN(orphaned_since) AS since FROM manifests WHERE orphaned_since IS NOT NULL \
             UNION ALL SELECT MIN(unneeded_since) FROM repository_blobs WHERE unneeded_since IS NOT NULL \
             UNION ALL SELECT MIN(unlinked_at) FROM blobs WHERE unlinked_at IS NOT NULL \
             UNION ALL SELECT MIN(CAST(0 AS BIGINT)) FROM blobs WHERE state = 'condemned' \
             UNION ALL SELECT MIN(empty_since) FROM repositories WHERE empty_since IS NOT NULL) marks")
        .one(&self.db)
        .await?;
        Ok(row.get("since")?)
    }

    /// Manifests that lost their last index, or their subject, by `cutoff`.
    pub(crate) async fn manifests_orphaned(
        &self,
        cutoff: Micros,
        limit: u32,
    ) -> Result<Vec<(RepositoryName, Digest)>, Error> {
        let rows = sql("SELECT repository, digest FROM manifests WHERE orphaned_since <= $1 \
             ORDER BY orphaned_since LIMIT $2")
        .bind(cutoff)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(place).collect()
    }

    /// Removes those of a repository's orphaned manifests that are orphans still. A tag or a pin keeps one for another
    /// grace, then it is asked again. What goes takes its own children and referrers along at once: they had the same
    /// time. Gives the number of those that went.
    pub(crate) async fn manifests_collect(
        &self,
        fence: &Fence,
        repository: &RepositoryName,
        digests: Vec<Digest>,
        cutoff: Micros,
        now: Micros,
    ) -> Result<u64, Error> {
        let with = (fence.clone(), repository.clone(), digests, self.rules.clone());
        self.manifests_write(repository, with, move |tx, (fence, repository, digests, rules)| {
            async move {
                fence.check(tx).await?;
                let mut removed = 0;
                for digest in digests {
                    let row = sql("SELECT m.orphaned_since AS since, \
                         EXISTS (SELECT 1 FROM manifest_needs n WHERE n.repository = $1 AND n.digest = $2) AS is_needed, \
                         EXISTS (SELECT 1 FROM manifests s WHERE s.repository = $1 AND s.digest = m.subject) AS has_subject, \
                         EXISTS (SELECT 1 FROM pins p WHERE p.repository = $1 AND p.digest = $2) AS is_pinned \
                         FROM manifests m WHERE m.repository = $1 AND m.digest = $2 AND m.orphaned_since <= $3")
                    .bind(repository.as_str())
                    .bind(digest.to_string())
                    .bind(cutoff)
                    .optional(tx)
                    .await?;
                    let Some(row) = row else { continue };
                    let is = |column: &str| row.get::<bool>(column);
                    let since = if is("is_needed")? || is("has_subject")? {
                        None
                    } else if is("is_pinned")? || is_tagged(tx, rules, repository, digest).await? {
                        // Behind the cutoff also without a grace, or it would come up for ever.
                        Some(Micros(now.0.saturating_add(1)))
                    } else {
                        remove(tx, repository, digest, row.get("since")?, now).await?;
                        removed += 1;
                        continue;
                    };
                    sql("UPDATE manifests SET orphaned_since = $1 WHERE repository = $2 AND digest = $3")
                        .bind(since)
                        .bind(repository.as_str())
                        .bind(digest.to_string())
                        .execute(tx)
                        .await?;
                }
                Ok(removed)
            }
            .boxed()
        })
        .await
    }

    /// Blobs that no manifest of a repository that has them needs since `cutoff` or longer.
    pub(crate) async fn links_unneeded(
        &self,
        cutoff: Micros,
        limit: u32,
    ) -> Result<Vec<(RepositoryName, Digest)>, Error> {
        let rows = sql("SELECT repository, digest FROM repository_blobs WHERE unneeded_since <= $1 \
             ORDER BY unneeded_since LIMIT $2")
        .bind(cutoff)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(place).collect()
    }

    /// Takes those blobs from their repositories that are unneeded still. A blob that no repository has then has had
    /// none since it was last needed: it does not wait a second time.
    pub(crate) async fn links_collect(
        &self,
        fence: &Fence,
        links: Vec<(RepositoryName, Digest)>,
        cutoff: Micros,
        now: Micros,
    ) -> Result<u64, Error> {
        self.write((fence.clone(), links), move |tx, (fence, links)| {
            async move {
                fence.check(tx).await?;
                let mut removed = 0;
                for (repository, digest) in links {
                    let row = sql("DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2 \
                         AND unneeded_since <= $3 AND NOT EXISTS (SELECT 1 FROM manifest_needs n \
                         WHERE n.repository = $1 AND n.digest = $2) RETURNING unneeded_since, size")
                    .bind(repository.as_str())
                    .bind(digest.to_string())
                    .bind(cutoff)
                    .optional(tx)
                    .await?;
                    let Some(row) = row else {
                        sql("UPDATE repository_blobs SET unneeded_since = NULL WHERE repository = $1 AND digest = $2 \
                             AND EXISTS (SELECT 1 FROM manifest_needs n WHERE n.repository = $1 AND n.digest = $2)")
                        .bind(repository.as_str())
                        .bind(digest.to_string())
                        .execute(tx)
                        .await?;
                        continue;
                    };
                    removed += 1;
                    usage_change(tx, repository, -row.get::<i64>("size")?).await?;
                    unlinked_mark(tx, digest, row.get("unneeded_since")?).await?;
                    repository_empty_mark(tx, repository, now).await?;
                }
                Ok(removed)
            }
            .boxed()
        })
        .await
    }

    /// Removes repositories that were empty since `cutoff` or longer and are so still.
    pub(crate) async fn repositories_collect(&self, fence: &Fence, cutoff: Micros, limit: u32) -> Result<u64, Error> {
        let due = sql("SELECT 1 AS one FROM repositories WHERE empty_since <= $1 LIMIT 1")
            .bind(cutoff)
            .optional(&self.db)
            .await?;
        if due.is_none() {
            return Ok(0);
        }
        self.write(fence.clone(), move |tx, fence| {
            async move {
                fence.check(tx).await?;
                let text = "DELETE FROM repositories WHERE name IN (SELECT name FROM repositories WHERE empty_since <= $1 \
                     ORDER BY empty_since LIMIT $2)";
                Ok(sql(text).bind(cutoff).bind(limit).execute(tx).await?)
            }
            .boxed()
        })
        .await
    }

    /// Blobs that no repository has since `cutoff` or longer.
    pub(crate) async fn blobs_unlinked(&self, cutoff: Micros, limit: u32) -> Result<Vec<Digest>, Error> {
        let rows = sql("SELECT digest FROM blobs WHERE unlinked_at <= $1 AND state <> 'condemned' \
             ORDER BY unlinked_at LIMIT $2")
        .bind(cutoff)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(|row| digest(row, "digest")).collect()
    }

    /// Condemns those of these blobs that no repository has since `cutoff` or longer, and says which they are.
    ///
    /// Every link ends a blob's `unlinked_at` in its own transaction. This and the decision therefore look at that row
    /// alone: on PostgreSQL, reading links here would have them aborted whenever anyone pushes anything.
    pub(crate) async fn blobs_condemn(
        &self,
        fence: &Fence,
        digests: Vec<Digest>,
        cutoff: Micros,
    ) -> Result<Vec<Digest>, Error> {
        self.write((fence.clone(), digests), move |tx, (fence, digests)| {
            async move {
                fence.check(tx).await?;
                let mut condemned = Vec::new();
                for digest in digests {
                    let touched =
                        sql("UPDATE blobs SET state = 'condemned' WHERE digest = $1 AND state <> 'condemned' \
                         AND unlinked_at <= $2")
                        .bind(digest.to_string())
                        .bind(cutoff)
                        .execute(tx)
                        .await?;
                    if touched > 0 {
                        condemned.push(*digest);
                    }
                }
                Ok(condemned)
            }
            .boxed()
        })
        .await
    }

    /// Decides over condemned blobs whose bytes are aside: the rows of those that no repository has go.
    pub(crate) async fn blobs_decide(&self, fence: &Fence, condemned: Vec<Digest>) -> Result<Decided, Error> {
        self.write((fence.clone(), condemned), |tx, (fence, condemned)| {
            async move {
                fence.check(tx).await?;
                let mut decided = Decided::default();
                for digest in condemned {
                    let touched = sql("DELETE FROM blobs WHERE digest = $1 AND state = 'condemned' \
                         AND unlinked_at IS NOT NULL")
                    .bind(digest.to_string())
                    .execute(tx)
                    .await?;
                    if touched > 0 { decided.gone.push(*digest) } else { decided.rescued.push(*digest) }
                }
                Ok(decided)
            }
            .boxed()
        })
        .await
    }

    /// Condemned blobs whose bytes are in their place again, or are not to be found.
    pub(crate) async fn blobs_absolve(&self, fence: &Fence, blobs: Vec<(Digest, bool)>) -> Result<(), Error> {
        self.write((fence.clone(), blobs), |tx, (fence, blobs)| {
            async move {
                fence.check(tx).await?;
                for (digest, is_there) in blobs {
                    sql("UPDATE blobs SET state = $1 WHERE digest = $2 AND state = 'condemned'")
                        .bind(if *is_there { "kept" } else { "damaged" })
                        .bind(digest.to_string())
                        .execute(tx)
                        .await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// Blobs over which nobody has decided: a collector stopped half way.
    pub(crate) async fn blobs_condemned(&self, limit: u32) -> Result<Vec<Digest>, Error> {
        let rows = sql("SELECT digest FROM blobs WHERE state = 'condemned' ORDER BY digest LIMIT $1")
            .bind(limit)
            .all(&self.db)
            .await?;
        rows.iter().map(|row| digest(row, "digest")).collect()
    }

    /// The state of a blob that is kept; none when no row speaks of it.
    pub(crate) async fn blob_state(&self, digest: &Digest) -> Result<Option<String>, Error> {
        let row = sql("SELECT state FROM blobs WHERE digest = $1").bind(digest.to_string()).optional(&self.db).await?;
        Ok(row.map(|row| row.get("state")).transpose()?)
    }
}

/// Whether a manifest has a tag, besides those that say by their name that they speak of a manifest, which is gone.
async fn is_tagged(tx: &mut Tx, rules: &Rules, repository: &RepositoryName, manifest: &Digest) -> Result<bool, Error> {
    let rows = sql("SELECT tag FROM tags WHERE repository = $1 AND digest = $2 ORDER BY tag LIMIT $3")
        .bind(repository.as_str())
        .bind(manifest.to_string())
        .bind(SPEAKING_TAGS_MAX)
        .all(tx)
        .await?;
    for row in &rows {
        let tag = tag(row, "tag")?;
        let is_immutable = rules.of(repository).is_some_and(|rule| rule.is_immutable(&tag));
        match subject_of(&tag).filter(|_| !is_immutable) {
            Some(subject) if !manifest_exists(tx, repository, &subject).await? => {}
            _ => return Ok(true),
        }
    }
    Ok(rows.len() >= SPEAKING_TAGS_MAX as usize)
}

fn place(row: &Row) -> Result<(RepositoryName, Digest), Error> {
    let name: String = row.get("repository")?;
    let repository = name.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })?;
    Ok((repository, digest(row, "digest")?))
}
