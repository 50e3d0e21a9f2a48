//! Which blobs are kept, and which repository has which.

use api::Micros;
use base::db::{Tx, sql};
use blobs::BlobInfo;
use futures::FutureExt;
use oci::{Digest, RepositoryName};

use super::repositories::{repository_empty_mark, repository_make};
use super::usage::usage_change;
use super::{Store, kept_check, unsigned};
use crate::Error;

/// A link that was made, for the one who makes sure that the bytes are in their place.
#[derive(Debug, Clone, Copy)]
#[must_use = "the bytes may have been collected while they came"]
pub(crate) struct Linked {
    pub(crate) blob: BlobInfo,
    /// When its bytes were last known to be right.
    pub(crate) scrubbed_at: Micros,
    /// Its bytes are aside until the collector has seen this link.
    pub(crate) is_condemned: bool,
}

impl Store {
    /// The size of a blob that the repository has.
    pub(crate) async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Error> {
        let row = sql("SELECT size FROM repository_blobs WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .optional(&self.db)
            .await?;
        row.map(|row| unsigned(&row, "size")).transpose()
    }

    /// Whether any repository has the blob.
    pub(crate) async fn blob_is_linked(&self, digest: &Digest) -> Result<bool, Error> {
        let row = sql("SELECT 1 AS one FROM repository_blobs WHERE digest = $1 LIMIT 1")
            .bind(digest.to_string())
            .optional(&self.db)
            .await?;
        Ok(row.is_some())
    }

    /// Lets a repository have a blob whose verified bytes were just stored.
    pub(crate) async fn blob_link(
        &self,
        repository: &RepositoryName,
        blob: BlobInfo,
        now: Micros,
    ) -> Result<Linked, Error> {
        self.write((repository.clone(), blob), move |tx, (repository, blob)| {
            async move { link(tx, repository, *blob, now).await }.boxed()
        })
        .await
    }

    /// Lets a repository have a blob that another one has; none when that one does not.
    pub(crate) async fn blob_mount(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: Digest,
        now: Micros,
    ) -> Result<Option<Linked>, Error> {
        self.write((from.clone(), to.clone()), move |tx, (from, to)| {
            async move {
                let row = sql("SELECT b.size AS size, b.state AS state, b.scrubbed_at AS scrubbed_at \
                     FROM repository_blobs r JOIN blobs b ON b.digest = r.digest \
                     WHERE r.repository = $1 AND r.digest = $2 AND b.state <> 'damaged'")
                .bind(from.as_str())
                .bind(digest.to_string())
                .optional(tx)
                .await?;
                let Some(row) = row else { return Ok(None) };
                sql("UPDATE blobs SET unlinked_at = NULL WHERE digest = $1 AND unlinked_at IS NOT NULL")
                    .bind(digest.to_string())
                    .execute(tx)
                    .await?;
                let blob = BlobInfo { digest, size: unsigned(&row, "size")? };
                repository_link(tx, to, blob, now).await?;
                let is_condemned = row.get::<String>("state")? == "condemned";
                Ok(Some(Linked { blob, scrubbed_at: row.get("scrubbed_at")?, is_condemned }))
            }
            .boxed()
        })
        .await
    }

    /// Whether it is being decided if a blob goes.
    pub(crate) async fn blob_is_condemned(&self, digest: &Digest) -> Result<bool, Error> {
        let row = sql("SELECT 1 AS one FROM blobs WHERE digest = $1 AND state = 'condemned'")
            .bind(digest.to_string())
            .optional(&self.db)
            .await?;
        Ok(row.is_some())
    }

    /// Notes that a blob's bytes are lost or wrong, unless it was pushed since they were known to be right at
    /// `scrubbed_at`.
    pub(crate) async fn blob_damaged(&self, digest: Digest, scrubbed_at: Micros) -> Result<bool, Error> {
        self.write((), move |tx, ()| {
            async move {
                let text =
                    "UPDATE blobs SET state = 'damaged' WHERE digest = $1 AND state = 'kept' AND scrubbed_at = $2";
                Ok(sql(text).bind(digest.to_string()).bind(scrubbed_at).execute(tx).await? > 0)
            }
            .boxed()
        })
        .await
    }

    /// A client that was told that a blob is there may lean on it for as long as the grace: one that no manifest needs
    /// since `before` or longer counts as new again. Says whether the repository still has it.
    pub(crate) async fn blob_renew(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        before: Micros,
        now: Micros,
    ) -> Result<bool, Error> {
        let due =
            sql("SELECT 1 AS one FROM repository_blobs WHERE repository = $1 AND digest = $2 AND unneeded_since <= $3")
                .bind(repository.as_str())
                .bind(digest.to_string())
                .bind(before)
                .optional(&self.db)
                .await?;
        if due.is_none() {
            return Ok(true);
        }
        self.write(repository.clone(), move |tx, repository| {
            async move {
                let text = "UPDATE repository_blobs SET unneeded_since = CASE WHEN unneeded_since IS NULL THEN NULL ELSE $1 END \
                     WHERE repository = $2 AND digest = $3";
                let touched =
                    sql(text).bind(now).bind(repository.as_str()).bind(digest.to_string()).execute(tx).await?;
                Ok(touched > 0)
            }
            .boxed()
        })
        .await
    }

    /// Takes a blob from a repository. Fails while one of its manifests needs it.
    pub(crate) async fn blob_unlink(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        now: Micros,
    ) -> Result<bool, Error> {
        let removed = self
            .write(repository.clone(), move |tx, repository| {
                async move {
                    kept_check(tx, repository, digest).await?;
                    let removed =
                        sql("DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2 RETURNING size")
                            .bind(repository.as_str())
                            .bind(digest.to_string())
                            .optional(tx)
                            .await?;
                    if let Some(row) = &removed {
                        usage_change(tx, repository, -row.get::<i64>("size")?).await?;
                    }
                    unlinked_mark(tx, &digest, now).await?;
                    repository_empty_mark(tx, repository, now).await?;
                    Ok(removed.is_some())
                }
                .boxed()
            })
            .await?;
        self.deleted.wake();
        Ok(removed)
    }
}

/// Every reference to a blob whose bytes were stored is made here: it ends the blob's condemnation and its damage.
pub(super) async fn link(
    tx: &mut Tx,
    repository: &RepositoryName,
    blob: BlobInfo,
    now: Micros,
) -> Result<Linked, Error> {
    let row = sql("INSERT INTO blobs (digest, size, state, scrubbed_at) VALUES ($1, $2, 'kept', $3) \
         ON CONFLICT (digest) DO UPDATE SET size = excluded.size, unlinked_at = NULL, scrubbed_at = excluded.scrubbed_at, \
         state = CASE WHEN blobs.state = 'damaged' THEN 'kept' ELSE blobs.state END \
         RETURNING state")
    .bind(blob.digest.to_string())
    .bind(signed(blob)?)
    .bind(now)
    .one(tx)
    .await?;
    repository_link(tx, repository, blob, now).await?;
    Ok(Linked { blob, scrubbed_at: now, is_condemned: row.get::<String>("state")? == "condemned" })
}

/// A link is unneeded until a manifest needs it; what is pulled through comes after its manifest.
async fn repository_link(tx: &mut Tx, repository: &RepositoryName, blob: BlobInfo, now: Micros) -> Result<(), Error> {
    repository_make(tx, repository, now).await?;
    let size = signed(blob)?;
    let added = sql("INSERT INTO repository_blobs (repository, digest, size, linked_at, unneeded_since) VALUES ($1, $2, $3, $4, \
         CASE WHEN EXISTS (SELECT 1 FROM manifest_needs n WHERE n.repository = $1 AND n.digest = $2) THEN NULL ELSE $4 END) \
         ON CONFLICT (repository, digest) DO NOTHING")
    .bind(repository.as_str())
    .bind(blob.digest.to_string())
    .bind(size)
    .bind(now)
    .execute(tx)
    .await?;
    if added > 0 {
        return usage_change(tx, repository, size).await;
    }
    sql("UPDATE repository_blobs SET linked_at = $1, \
         unneeded_since = CASE WHEN unneeded_since IS NULL THEN NULL ELSE $1 END WHERE repository = $2 AND digest = $3")
    .bind(now)
    .bind(repository.as_str())
    .bind(blob.digest.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes since when no repository has a blob, if none has.
pub(super) async fn unlinked_mark(tx: &mut Tx, digest: &Digest, since: Micros) -> Result<(), Error> {
    sql("UPDATE blobs SET unlinked_at = $1 WHERE digest = $2 AND unlinked_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM repository_blobs r WHERE r.digest = blobs.digest)")
    .bind(since)
    .bind(digest.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

fn signed(blob: BlobInfo) -> Result<i64, Error> {
    i64::try_from(blob.size).map_err(|_| Error::Damaged { what: format!("the size of {}", blob.digest) })
}
