//! The data of the hub's side of fan-out: the only SQL of this context.

use api::Micros;
use api::delivery::ImageAddress;
use base::db::{Db, Migration, Row, sql};
use futures::FutureExt as _;
use oci::{Digest, RepositoryName};

use super::error::Error;
use crate::piece::{HASH_BYTES, Layout, PieceTree, Root};

/// The context's name, and that of its database.
pub const CONTEXT: &str = "fanout";
/// The schema, step by step.
pub const MIGRATIONS: &[Migration] =
    &[Migration { number: 1, name: "trees", sql: include_str!("../../migrations/0001_trees.sql") }];

/// What a grant says of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeBrief {
    pub(super) length_bytes: u64,
    pub(super) root: Root,
}

/// An order to have an image on all hosts of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PreheatRow {
    pub(super) env: String,
    pub(super) image: ImageAddress,
    pub(super) release: String,
    pub(super) requested_by: String,
    pub(super) requested_at: Micros,
    pub(super) ends_at: Micros,
}

/// The rows. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store {
    db: Db,
}

fn damaged(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Damaged { what: format!("{what}: {why}") }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(row: &Row, column: &'static str) -> Result<T, Error> {
    row.get::<String>(column)?.parse().map_err(|error| damaged(column, error))
}

fn brief(row: &Row) -> Result<TreeBrief, Error> {
    let root: Vec<u8> = row.get("root")?;
    let root: [u8; HASH_BYTES] = root.try_into().map_err(|_| damaged("root", "it has another length"))?;
    Ok(TreeBrief { length_bytes: row.get("length_bytes")?, root: Root(root) })
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Length and root of a blob's tree that is asked for in this repository; none while it was not made for it.
    pub(super) async fn tree_brief(
        &self,
        digest: &Digest,
        repository: &RepositoryName,
    ) -> Result<Option<TreeBrief>, Error> {
        let row = sql("SELECT t.length_bytes AS length_bytes, t.root AS root FROM blob_tree t
             JOIN blob_tree_repository r ON r.digest = t.digest WHERE t.digest = $1 AND r.repository = $2")
        .bind(digest.to_string())
        .bind(repository.as_str())
        .optional(&self.db)
        .await?;
        row.map(|row| brief(&row)).transpose()
    }

    /// Length and root of a blob's tree, whichever repository it was made for.
    pub(super) async fn tree_root(&self, digest: &Digest) -> Result<Option<TreeBrief>, Error> {
        let row = sql("SELECT length_bytes, root FROM blob_tree WHERE digest = $1")
            .bind(digest.to_string())
            .optional(&self.db)
            .await?;
        row.map(|row| brief(&row)).transpose()
    }

    /// The whole tree.
    pub(super) async fn tree(&self, digest: &Digest) -> Result<Option<PieceTree>, Error> {
        let row = sql("SELECT length_bytes, root, leaves FROM blob_tree WHERE digest = $1")
            .bind(digest.to_string())
            .optional(&self.db)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let TreeBrief { length_bytes, root } = brief(&row)?;
        let layout = Layout::of(length_bytes).map_err(|error| damaged("length", error))?;
        let leaves: Vec<u8> = row.get("leaves")?;
        PieceTree::from_bytes(layout, root, &leaves).map(Some).map_err(|error| damaged("leaves", error))
    }

    /// The repositories for which a blob's tree was asked for, at most `limit`.
    pub(super) async fn tree_repositories(&self, digest: &Digest, limit: u32) -> Result<Vec<RepositoryName>, Error> {
        let rows = sql("SELECT repository FROM blob_tree_repository WHERE digest = $1 ORDER BY repository LIMIT $2")
            .bind(digest.to_string())
            .bind(limit)
            .all(&self.db)
            .await?;
        rows.iter().map(|row| parsed(row, "repository")).collect()
    }

    /// Keeps a tree for a repository; one that is there stays, and is kept for this repository, too. Without a tree only
    /// the latter, which says whether there is one.
    pub(super) async fn tree_keep(
        &self,
        digest: &Digest,
        repository: &RepositoryName,
        tree: Option<&PieceTree>,
        now: Micros,
    ) -> Result<bool, Error> {
        let (digest, repository, tree) = (digest.to_string(), repository.to_string(), tree.cloned());
        self.db
            .write(move |tx| {
                let (digest, repository, tree) = (digest.clone(), repository.clone(), tree.clone());
                async move {
                    if let Some(tree) = tree {
                        let length = i64::try_from(tree.layout().length())
                            .map_err(|_| damaged("length", "it does not fit into the database"))?;
                        sql("INSERT INTO blob_tree (digest, length_bytes, root, leaves, made_at)
                             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (digest) DO NOTHING")
                        .bind(&digest)
                        .bind(length)
                        .bind(tree.root().0.to_vec())
                        .bind(tree.to_bytes())
                        .bind(now)
                        .execute(tx)
                        .await?;
                    } else {
                        let row = sql("SELECT 1 AS one FROM blob_tree WHERE digest = $1");
                        if row.bind(&digest).optional(tx).await?.is_none() {
                            return Ok(false);
                        }
                    }
                    sql("INSERT INTO blob_tree_repository (digest, repository) VALUES ($1, $2)
                         ON CONFLICT (digest, repository) DO NOTHING")
                    .bind(&digest)
                    .bind(&repository)
                    .execute(tx)
                    .await?;
                    Ok::<_, Error>(true)
                }
                .boxed()
            })
            .await
    }

    /// Blobs that have a tree which was made before `made_before`, by digest, after this one.
    pub(super) async fn tree_page(
        &self,
        after: Option<&Digest>,
        made_before: Micros,
        limit: u32,
    ) -> Result<Vec<Digest>, Error> {
        let rows = sql("SELECT digest FROM blob_tree WHERE digest > $1 AND made_at < $2 ORDER BY digest LIMIT $3")
            .bind(after.map(ToString::to_string).unwrap_or_default())
            .bind(made_before)
            .bind(limit)
            .all(&self.db)
            .await?;
        rows.iter().map(|row| parsed(row, "digest")).collect()
    }

    /// Lets these trees go.
    pub(super) async fn trees_remove(&self, digests: Vec<Digest>) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let digests = digests.clone();
                async move {
                    for digest in digests {
                        let digest = digest.to_string();
                        sql("DELETE FROM blob_tree_repository WHERE digest = $1").bind(&digest).execute(tx).await?;
                        sql("DELETE FROM blob_tree WHERE digest = $1").bind(&digest).execute(tx).await?;
                    }
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Keeps an order; a later one about the same image and environment takes its place.
    pub(super) async fn preheat_keep(&self, rows: Vec<PreheatRow>) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let rows = rows.clone();
                async move {
                    for row in rows {
                        sql("INSERT INTO preheat (env, repository, digest, release, requested_by, requested_at, ends_at)
                             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (env, repository, digest) DO UPDATE SET
                             release = excluded.release, requested_by = excluded.requested_by,
                             requested_at = excluded.requested_at, ends_at = excluded.ends_at")
                        .bind(&row.env)
                        .bind(row.image.repository.as_str())
                        .bind(row.image.digest.to_string())
                        .bind(&row.release)
                        .bind(&row.requested_by)
                        .bind(row.requested_at)
                        .bind(row.ends_at)
                        .execute(tx)
                        .await?;
                    }
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Orders that have not ended, the newest first, at most `limit`.
    pub(super) async fn preheats(&self, now: Micros, limit: u32) -> Result<Vec<PreheatRow>, Error> {
        let rows = sql("SELECT env, repository, digest, release, requested_by, requested_at, ends_at FROM preheat
             WHERE ends_at > $1 ORDER BY requested_at DESC, env, repository, digest LIMIT $2")
        .bind(now)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PreheatRow {
                    env: row.get("env")?,
                    image: ImageAddress { repository: parsed(row, "repository")?, digest: parsed(row, "digest")? },
                    release: row.get("release")?,
                    requested_by: row.get("requested_by")?,
                    requested_at: row.get("requested_at")?,
                    ends_at: row.get("ends_at")?,
                })
            })
            .collect()
    }

    /// Removes orders that have ended.
    pub(super) async fn preheats_sweep(&self, now: Micros) -> Result<u64, Error> {
        self.db
            .write(move |tx| {
                async move { Ok(sql("DELETE FROM preheat WHERE ends_at <= $1").bind(now).execute(tx).await?) }.boxed()
            })
            .await
    }
}
