//! How many bytes each repository holds: its blobs, each counted once, and its manifests.
//!
//! Each change is a row of its own, written in the transaction that makes it, so that no two pushes touch one row. A task
//! folds those rows into one a repository. What is held is the sum of both: exact at every moment, also after a crash.

use std::collections::BTreeMap;

use base::db::{Row, Tx, sql};
use futures::FutureExt;
use oci::RepositoryName;
use uuid::Uuid;

use super::Store;
use crate::Error;

/// Changes that are folded in one transaction at most.
pub(crate) const FOLD_ROWS_MAX: u32 = 1000;

/// What a repository holds, as far as it is folded.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) repository: String,
    pub(crate) bytes: i64,
    /// Rises with each fold: who knows all up to one version asks for those after it.
    pub(crate) version: i64,
}

impl Store {
    /// Folds some changes; whether there may be more.
    pub(crate) async fn usage_fold(&self) -> Result<bool, Error> {
        self.db
            .write(|tx| {
                async move {
                    let rows = sql("DELETE FROM usage_changes WHERE id IN \
                         (SELECT id FROM usage_changes ORDER BY id LIMIT $1) RETURNING repository, bytes")
                    .bind(FOLD_ROWS_MAX)
                    .all(tx)
                    .await?;
                    if rows.is_empty() {
                        return Ok(false);
                    }
                    let mut sums = BTreeMap::<String, i64>::new();
                    for row in &rows {
                        *sums.entry(row.get("repository")?).or_default() += row.get::<i64>("bytes")?;
                    }
                    let last = sql("SELECT COALESCE(MAX(version), 0) AS version FROM repository_usage").one(tx).await?;
                    let version = last.get::<i64>("version")? + 1;
                    for (repository, bytes) in sums {
                        sql("INSERT INTO repository_usage (repository, bytes, version) VALUES ($1, $2, $3) \
                             ON CONFLICT (repository) DO UPDATE SET bytes = repository_usage.bytes + excluded.bytes, \
                             version = excluded.version")
                        .bind(repository)
                        .bind(bytes)
                        .bind(version)
                        .execute(tx)
                        .await?;
                    }
                    Ok(rows.len() as u64 >= u64::from(FOLD_ROWS_MAX))
                }
                .boxed()
            })
            .await
    }

    /// What repositories hold that changed after a version, or at it and come after `after`; in that order.
    pub(crate) async fn usage_after(&self, version: i64, after: &str, limit: u32) -> Result<Vec<Held>, Error> {
        let rows = sql("SELECT repository, bytes, version FROM repository_usage \
             WHERE version > $1 OR (version = $1 AND repository > $2) ORDER BY version, repository LIMIT $3")
        .bind(version)
        .bind(after)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(held).collect()
    }

    /// What repositories hold that changed after a version, and, with version 0, the sums of what is not yet folded: both
    /// as of one moment.
    pub(crate) async fn usage_now(&self, version: i64) -> Result<Vec<Held>, Error> {
        let rows = sql("SELECT repository, bytes, version FROM repository_usage WHERE version > $1 \
             UNION ALL SELECT repository, CAST(SUM(bytes) AS BIGINT) AS bytes, CAST(0 AS BIGINT) AS version \
             FROM usage_changes GROUP BY repository")
        .bind(version)
        .all(&self.db)
        .await?;
        rows.iter().map(held).collect()
    }
}

/// Notes that a repository holds so many bytes more, or fewer.
pub(super) async fn usage_change(tx: &mut Tx, repository: &RepositoryName, bytes: i64) -> Result<(), Error> {
    sql("INSERT INTO usage_changes (id, repository, bytes) VALUES ($1, $2, $3)")
        .bind(Uuid::now_v7().to_string())
        .bind(repository.as_str())
        .bind(bytes)
        .execute(tx)
        .await?;
    Ok(())
}

fn held(row: &Row) -> Result<Held, Error> {
    Ok(Held { repository: row.get("repository")?, bytes: row.get("bytes")?, version: row.get("version")? })
}
