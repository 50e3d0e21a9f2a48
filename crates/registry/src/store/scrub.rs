//! What the scrubber goes by: when a blob was last known to be right, what is damaged, and how far its passes are.

use std::sync::Arc;

use api::Micros;
use base::db::{Row, Tx, sql};
use base::lease::Fence;
use blobs::BlobInfo;
use bytes::Bytes;
use futures::FutureExt;
use oci::{Digest, ManifestReference, RepositoryName};

use super::{Store, digest, unsigned};
use crate::Error;
use crate::cache::{Lookup, Ready};

/// A blob of which a row says that it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) blob: BlobInfo,
    /// When its bytes were last known to be right; another push moves it.
    pub(crate) scrubbed_at: Micros,
}

/// A pass over everything of a kind, a page at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Empty at the beginning.
    pub(crate) position: String,
    pub(crate) began_at: Micros,
}

/// A manifest for the scrubber.
pub(crate) struct Written {
    pub(crate) repository: String,
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Store {
    /// Blobs whose bytes were last known to be right at `before` or earlier, those of the longest time first.
    pub(crate) async fn blobs_to_scrub(&self, before: Micros, limit: u32) -> Result<Vec<Kept>, Error> {
        let rows = sql("SELECT digest, size, scrubbed_at FROM blobs WHERE scrubbed_at <= $1 AND state = 'kept' \
             ORDER BY scrubbed_at LIMIT $2")
        .bind(before)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(kept).collect()
    }

    /// Notes that a blob's bytes are right, unless it was pushed since the scrubber saw its row.
    pub(crate) async fn blob_scrubbed(&self, seen: Kept, now: Micros) -> Result<(), Error> {
        self.write((), move |tx, ()| {
            async move {
                sql("UPDATE blobs SET scrubbed_at = $1 WHERE digest = $2 AND scrubbed_at = $3")
                    .bind(now)
                    .bind(seen.blob.digest.to_string())
                    .bind(seen.scrubbed_at)
                    .execute(tx)
                    .await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// Condemns a blob whose bytes are wrong or lost, unless it was pushed since the scrubber saw its row. A push waits
    /// until [`Store::blobs_absolve`].
    pub(crate) async fn blob_suspect(&self, fence: &Fence, seen: Kept) -> Result<bool, Error> {
        self.write(fence.clone(), move |tx, fence| {
            async move {
                fence.check(tx).await?;
                let text =
                    "UPDATE blobs SET state = 'condemned' WHERE digest = $1 AND state = 'kept' AND scrubbed_at = $2";
                let touched = sql(text).bind(seen.blob.digest.to_string()).bind(seen.scrubbed_at).execute(tx).await?;
                Ok(touched > 0)
            }
            .boxed()
        })
        .await
    }

    /// Notes that a damaged blob's bytes were stored anew.
    pub(crate) async fn blob_healed(&self, digest: Digest, now: Micros) -> Result<bool, Error> {
        self.write((), move |tx, ()| {
            async move {
                let text = "UPDATE blobs SET state = 'kept', scrubbed_at = $1 WHERE digest = $2 AND state = 'damaged'";
                Ok(sql(text).bind(now).bind(digest.to_string()).execute(tx).await? > 0)
            }
            .boxed()
        })
        .await
    }

    /// Damaged blobs in order, those after `after`.
    pub(crate) async fn blobs_damaged(&self, after: &str, limit: u32) -> Result<Vec<BlobInfo>, Error> {
        let rows =
            sql("SELECT digest, size FROM blobs WHERE state = 'damaged' AND digest > $1 ORDER BY digest LIMIT $2")
                .bind(after)
                .bind(limit)
                .all(&self.db)
                .await?;
        rows.iter().map(|row| Ok(BlobInfo { digest: digest(row, "digest")?, size: unsigned(row, "size")? })).collect()
    }

    /// Repositories that have a blob.
    pub(crate) async fn blob_repositories(&self, digest: &Digest, limit: u32) -> Result<Vec<RepositoryName>, Error> {
        let rows = sql("SELECT repository FROM repository_blobs WHERE digest = $1 LIMIT $2")
            .bind(digest.to_string())
            .bind(limit)
            .all(&self.db)
            .await?;
        rows.iter().map(repository_of).collect()
    }

    /// Rows of blobs in order, those after `after`, with whether the blob is kept.
    pub(crate) async fn blobs_after(&self, after: &str, limit: u32) -> Result<Vec<(Kept, bool)>, Error> {
        let rows = sql("SELECT digest, size, scrubbed_at, state FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2")
            .bind(after)
            .bind(limit)
            .all(&self.db)
            .await?;
        rows.iter().map(|row| Ok((kept(row)?, row.get::<String>("state")? == "kept"))).collect()
    }

    /// Takes up blobs that no row speaks of: no repository has them since now.
    pub(crate) async fn blobs_found(&self, blobs: Vec<BlobInfo>, now: Micros) -> Result<(), Error> {
        self.write(blobs, move |tx, blobs| {
            async move {
                for blob in blobs {
                    sql("INSERT INTO blobs (digest, size, state, unlinked_at, scrubbed_at) VALUES ($1, $2, 'kept', $3, $3) \
                         ON CONFLICT (digest) DO NOTHING")
                    .bind(blob.digest.to_string())
                    .bind(i64::try_from(blob.size).unwrap_or(i64::MAX))
                    .bind(now)
                    .execute(tx)
                    .await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
    }

    /// Manifests in the order of repository and digest, those after these.
    pub(crate) async fn manifests_after(
        &self,
        repository: &str,
        digest: &str,
        limit: u32,
    ) -> Result<Vec<Written>, Error> {
        let rows = sql("SELECT repository, digest, bytes FROM manifests WHERE (repository, digest) > ($1, $2) \
             ORDER BY repository, digest LIMIT $3")
        .bind(repository)
        .bind(digest)
        .bind(limit)
        .all(&self.db)
        .await?;
        let written = |row: &Row| {
            Ok(Written { repository: row.get("repository")?, digest: row.get("digest")?, bytes: row.get("bytes")? })
        };
        rows.iter().map(written).collect()
    }

    /// A manifest as it was read before, if it is at hand still.
    pub(crate) fn manifest_at_hand(&self, repository: &RepositoryName, digest: Digest) -> Option<Arc<Ready>> {
        match self.cache.find(repository, &ManifestReference::Digest(digest)) {
            Lookup::Hit(ready) => Some(ready),
            Lookup::Miss(_) => None,
        }
    }

    /// Notes that a manifest's bytes are wrong, unless it was pushed again since that was seen, or is gone.
    pub(crate) async fn manifest_damaged(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        now: Micros,
    ) -> Result<bool, Error> {
        self.manifests_write(repository, repository.clone(), move |tx, repository| {
            async move {
                let row = sql("SELECT bytes FROM manifests WHERE repository = $1 AND digest = $2")
                    .bind(repository.as_str())
                    .bind(digest.to_string())
                    .optional(tx)
                    .await?;
                let Some(row) = row else { return Ok(false) };
                if digest.matches(&row.get::<Vec<u8>>("bytes")?) {
                    return Ok(false);
                }
                sql("INSERT INTO damaged_manifests (repository, digest, found_at) VALUES ($1, $2, $3) \
                         ON CONFLICT (repository, digest) DO NOTHING")
                .bind(repository.as_str())
                .bind(digest.to_string())
                .bind(now)
                .execute(tx)
                .await?;
                Ok(true)
            }
            .boxed()
        })
        .await
    }

    /// Gives a manifest its bytes again, which were verified; says whether it is there.
    pub(crate) async fn manifest_restore(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<bool, Error> {
        self.manifests_write(repository, (repository.clone(), bytes), move |tx, (repository, bytes)| {
            async move {
                let restored = sql("UPDATE manifests SET bytes = $1 WHERE repository = $2 AND digest = $3")
                    .bind(bytes.as_ref())
                    .bind(repository.as_str())
                    .bind(digest.to_string())
                    .execute(tx)
                    .await?;
                whole_mark(tx, repository, &digest).await?;
                Ok(restored > 0)
            }
            .boxed()
        })
        .await
    }

    /// Damaged manifests in order, those after this one.
    pub(crate) async fn manifests_damaged(
        &self,
        after: Option<&(RepositoryName, Digest)>,
        limit: u32,
    ) -> Result<Vec<(RepositoryName, Digest)>, Error> {
        let (repository, digest) =
            after.map(|(repository, digest)| (repository.to_string(), digest.to_string())).unwrap_or_default();
        let rows = sql("SELECT repository, digest FROM damaged_manifests WHERE (repository, digest) > ($1, $2) \
             ORDER BY repository, digest LIMIT $3")
        .bind(repository)
        .bind(digest)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(|row| Ok((repository_of(row)?, super::digest(row, "digest")?))).collect()
    }

    /// How far a pass is; none before the first.
    pub(crate) async fn pass(&self, name: &str) -> Result<Option<Pass>, Error> {
        let row = sql("SELECT position, began_at FROM passes WHERE name = $1").bind(name).optional(&self.db).await?;
        row.map(|row| Ok(Pass { position: row.get("position")?, began_at: row.get("began_at")? })).transpose()
    }

    /// Notes how far a pass is.
    pub(crate) async fn pass_set(&self, name: &'static str, pass: Pass) -> Result<(), Error> {
        self.write(pass, move |tx, pass| {
            async move {
                sql("INSERT INTO passes (name, position, began_at) VALUES ($1, $2, $3) \
                     ON CONFLICT (name) DO UPDATE SET position = excluded.position, began_at = excluded.began_at")
                .bind(name)
                .bind(&pass.position)
                .bind(pass.began_at)
                .execute(tx)
                .await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }
}

/// Notes that a manifest's bytes are right, or gone.
pub(super) async fn whole_mark(tx: &mut Tx, repository: &RepositoryName, digest: &Digest) -> Result<(), Error> {
    sql("DELETE FROM damaged_manifests WHERE repository = $1 AND digest = $2")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

fn repository_of(row: &Row) -> Result<RepositoryName, Error> {
    let text: String = row.get("repository")?;
    text.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })
}

#[cfg(test)]
impl Store {
    /// What a disk may do to every manifest.
    pub(crate) async fn manifests_damage(&self) {
        let damage = self.write((), |tx, ()| {
            async move {
                sql("UPDATE manifests SET bytes = $1").bind(&b"others"[..]).execute(tx).await?;
                Ok(())
            }
            .boxed()
        });
        damage.await.unwrap();
    }
}

fn kept(row: &Row) -> Result<Kept, Error> {
    let blob = BlobInfo { digest: digest(row, "digest")?, size: unsigned(row, "size")? };
    Ok(Kept { blob, scrubbed_at: row.get("scrubbed_at")? })
}
