//! The registry's rows: the only SQL of this context.

mod blobs;
mod collect;
mod manifests;
#[cfg(test)]
mod model;
mod pins;
mod repositories;
mod retention;
mod scrub;
mod tags;
mod uploads;
mod upstream;
mod usage;
pub(crate) mod views;

use std::sync::Arc;

use base::db::{Db, Migration, Row, Tx, sql};
use base::tasks::Wake;
use futures::FutureExt;
use futures::future::BoxFuture;
use oci::{Digest, RepositoryName, Tag};

use crate::cache::{CACHE_BYTES_MAX, Cache};
use crate::{Error, Rules};

pub(crate) use blobs::Linked;
pub(crate) use manifests::Referrer;
pub(crate) use retention::Untagged;
pub(crate) use scrub::{Kept, Pass, Written};
pub(crate) use upstream::LastUse;

/// The schema, step by step.
pub const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "registry", sql: include_str!("../../migrations/0001_registry.sql") },
    Migration { number: 2, name: "collection", sql: include_str!("../../migrations/0002_collection.sql") },
    Migration { number: 3, name: "scrub", sql: include_str!("../../migrations/0003_scrub.sql") },
    Migration { number: 4, name: "views", sql: include_str!("../../migrations/0004_views.sql") },
    Migration { number: 5, name: "usage", sql: include_str!("../../migrations/0005_usage.sql") },
    Migration { number: 6, name: "upstreams", sql: include_str!("../../migrations/0006_upstreams.sql") },
    Migration { number: 7, name: "damaged", sql: include_str!("../../migrations/0007_damaged_manifests.sql") },
    Migration { number: 8, name: "needs", sql: include_str!("../../migrations/0008_needs_index.sql") },
    Migration { number: 9, name: "pushed", sql: include_str!("../../migrations/0009_pushed_index.sql") },
];

#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
    cache: Arc<Cache>,
    /// What every change of rows is held against, within its transaction.
    rules: Rules,
    /// Is woken when something was deleted.
    deleted: Wake,
    /// Is woken when something was found damaged.
    damaged: Wake,
    /// Is woken when a manifest was pushed or pulled through.
    pushed: Wake,
}

impl Store {
    pub(crate) fn new(db: Db, rules: Rules) -> Self {
        // Other hubs write to a shared database, and nobody tells this one.
        let bytes_max = if db.is_shared() { 0 } else { CACHE_BYTES_MAX };
        Self {
            db,
            cache: Arc::new(Cache::new(bytes_max)),
            rules,
            deleted: Wake::default(),
            damaged: Wake::default(),
            pushed: Wake::default(),
        }
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// Is woken when something was deleted.
    pub(crate) fn deleted(&self) -> &Wake {
        &self.deleted
    }

    /// Is woken when a manifest was pushed or pulled through.
    pub(crate) fn pushed(&self) -> &Wake {
        &self.pushed
    }

    /// Is woken when something was found damaged.
    pub(crate) fn damaged(&self) -> &Wake {
        &self.damaged
    }

    /// Runs a job that changes rows of `manifests` or `tags` of a repository; every such job goes this way. The job
    /// itself holds the cache's mark: it may outlive the one who asked for it.
    async fn manifests_write<A, T, F>(&self, repository: &RepositoryName, with: A, job: F) -> Result<T, Error>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t A) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    {
        let changing = self.cache.changing(repository);
        self.write((changing, with), move |tx, (_until_done, with)| job(tx, with)).await
    }

    /// Runs a job in a transaction. It may run more than once, so what it works with is lent to it.
    async fn write<A, T, F>(&self, with: A, job: F) -> Result<T, Error>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t A) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    {
        let shared = Arc::new((with, job));
        self.db
            .write(move |tx| {
                let shared = Arc::clone(&shared);
                async move {
                    let (with, job) = &*shared;
                    job(tx, with).await
                }
                .boxed()
            })
            .await
    }
}

/// Fails when something is pinned or needed by a manifest of its repository.
async fn kept_check(tx: &mut Tx, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
    let pin = sql("SELECT holder FROM pins WHERE repository = $1 AND digest = $2 ORDER BY holder LIMIT 1")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .optional(tx)
        .await?;
    if let Some(row) = pin {
        let holder: String = row.get("holder")?;
        return Err(Error::Kept { digest, reason: format!("{holder} holds it") });
    }
    let need =
        sql("SELECT manifest FROM manifest_needs WHERE repository = $1 AND digest = $2 ORDER BY manifest LIMIT 1")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .optional(tx)
            .await?;
    match need {
        Some(row) => {
            let manifest: String = row.get("manifest")?;
            Err(Error::Kept { digest, reason: format!("manifest {manifest} needs it; delete that first") })
        }
        None => Ok(()),
    }
}

fn digest(row: &Row, column: &'static str) -> Result<Digest, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Error::Damaged { what: format!("{column}: {error}") })
}

fn tag(row: &Row, column: &'static str) -> Result<Tag, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Error::Damaged { what: format!("{column}: {error}") })
}

fn unsigned(row: &Row, column: &'static str) -> Result<u64, Error> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| Error::Damaged { what: format!("{column} is {number}") })
}
