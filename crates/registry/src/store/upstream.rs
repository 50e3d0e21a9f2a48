//! What upstreams' repositories have besides the rows of any repository: when a manifest was last pulled.

use api::Micros;
use base::db::{Row, sql};
use bytes::Bytes;
use futures::FutureExt;
use oci::{Digest, Document, RepositoryName, Tag};

use super::manifests::{Put, manifest_remove};
use super::{Store, digest};
use crate::Error;

/// When a manifest of an upstream was last pulled. In the order in which they are looked through.
#[derive(Debug, Clone)]
pub(crate) struct LastUse {
    pub(crate) used_at: Micros,
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
}

impl Store {
    /// Takes a manifest from an upstream, which was verified. What it needs may be at the upstream alone.
    pub(crate) async fn manifest_mirror(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        document: &Document,
        bytes: Bytes,
        tags: Vec<Tag>,
        now: Micros,
    ) -> Result<(), Error> {
        let put = Put::new(repository, digest, document, bytes, tags, (self.rules.clone(), now))?;
        self.manifests_write(repository, put, |tx, put| {
            async move {
                put.write_rows(tx).await?;
                sql("INSERT INTO upstream_manifests (repository, digest, used_at) VALUES ($1, $2, $3) \
                     ON CONFLICT (repository, digest) DO UPDATE SET used_at = excluded.used_at")
                .bind(put.repository.as_str())
                .bind(put.digest.to_string())
                .bind(put.now)
                .execute(tx)
                .await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// Notes when manifests were pulled.
    pub(crate) async fn upstream_used(&self, used: Vec<(RepositoryName, Digest)>, now: Micros) -> Result<(), Error> {
        self.write(used, move |tx, used| {
            async move {
                for (repository, digest) in used {
                    sql("UPDATE upstream_manifests SET used_at = $1 WHERE repository = $2 AND digest = $3")
                        .bind(now)
                        .bind(repository.as_str())
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

    /// Manifests of an upstream that were last pulled before a time, those after `after`.
    pub(crate) async fn upstream_unused(
        &self,
        prefix: &RepositoryName,
        before: Micros,
        after: Option<&LastUse>,
        limit: u32,
    ) -> Result<Vec<LastUse>, Error> {
        let (from, to) = under(prefix);
        let rows = sql("SELECT repository, digest, used_at FROM upstream_manifests \
             WHERE repository > $1 AND repository < $2 AND used_at < $3 \
             AND (used_at, repository, digest) > ($4, $5, $6) \
             ORDER BY used_at, repository, digest LIMIT $7")
        .bind(from)
        .bind(to)
        .bind(before)
        .bind(after.map_or(Micros(i64::MIN), |after| after.used_at))
        .bind(after.map(|after| after.repository.to_string()).unwrap_or_default())
        .bind(after.map(|after| after.digest.to_string()).unwrap_or_default())
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(last_use).collect()
    }

    /// Removes a manifest of an upstream, and when it was last pulled, unless that is no longer before a time: another hub
    /// may have fetched or pulled it since it was looked for. Fails as [`Store::manifest_delete`] does.
    pub(crate) async fn upstream_evict(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        before: Micros,
        now: Micros,
    ) -> Result<bool, Error> {
        let with = (repository.clone(), self.rules.clone());
        let removed = self
            .manifests_write(repository, with, move |tx, (repository, rules)| {
                async move {
                    let text = "DELETE FROM upstream_manifests WHERE repository = $1 AND digest = $2 AND used_at < $3";
                    let unused =
                        sql(text).bind(repository.as_str()).bind(digest.to_string()).bind(before).execute(tx).await?;
                    Ok(unused > 0 && manifest_remove(tx, rules, repository, digest, now).await?)
                }
                .boxed()
            })
            .await?;
        self.deleted.wake();
        Ok(removed)
    }

    /// Some repository under a prefix that has a blob.
    pub(crate) async fn blob_repository_under(
        &self,
        prefix: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RepositoryName>, Error> {
        let (from, to) = under(prefix);
        let row =
            sql("SELECT repository FROM repository_blobs WHERE digest = $1 AND repository > $2 AND repository < $3 \
             ORDER BY repository LIMIT 1")
            .bind(digest.to_string())
            .bind(from)
            .bind(to)
            .optional(&self.db)
            .await?;
        row.as_ref().map(repository).transpose()
    }
}

/// The names under a prefix lie between these two: a slash is followed by the digit 0.
fn under(prefix: &RepositoryName) -> (String, String) {
    (format!("{prefix}/"), format!("{prefix}0"))
}

fn repository(row: &Row) -> Result<RepositoryName, Error> {
    let text: String = row.get("repository")?;
    text.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })
}

fn last_use(row: &Row) -> Result<LastUse, Error> {
    Ok(LastUse { used_at: row.get("used_at")?, repository: repository(row)?, digest: digest(row, "digest")? })
}
