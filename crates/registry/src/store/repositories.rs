//! Repositories: they are there from their first blob or manifest on.

use api::Micros;
use base::db::{DbError, Tx, sql};
use oci::RepositoryName;

use super::Store;
use crate::Error;

impl Store {
    /// Repositories in lexical order, those after `after`.
    pub(crate) async fn repositories(&self, after: &str, limit: u32) -> Result<Vec<String>, Error> {
        let rows = sql("SELECT name FROM repositories WHERE name > $1 ORDER BY name LIMIT $2")
            .bind(after)
            .bind(limit)
            .all(&self.db)
            .await?;
        Ok(rows.iter().map(|row| row.get("name")).collect::<Result<_, DbError>>()?)
    }

    pub(super) async fn repository_exists(&self, repository: &RepositoryName) -> Result<bool, Error> {
        let row = sql("SELECT 1 AS one FROM repositories WHERE name = $1")
            .bind(repository.as_str())
            .optional(&self.db)
            .await?;
        Ok(row.is_some())
    }
}

pub(super) async fn repository_make(tx: &mut Tx, repository: &RepositoryName, now: Micros) -> Result<(), Error> {
    sql("INSERT INTO repositories (name, created_at) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET empty_since = NULL WHERE repositories.empty_since IS NOT NULL")
    .bind(repository.as_str())
    .bind(now)
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes since when nothing is in a repository, if nothing is.
pub(super) async fn repository_empty_mark(tx: &mut Tx, repository: &RepositoryName, now: Micros) -> Result<(), Error> {
    sql("UPDATE repositories SET empty_since = $1 WHERE name = $2 AND empty_since IS NULL \
         AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = $2) \
         AND NOT EXISTS (SELECT 1 FROM repository_blobs r WHERE r.repository = $2)")
    .bind(now)
    .bind(repository.as_str())
    .execute(tx)
    .await?;
    Ok(())
}
