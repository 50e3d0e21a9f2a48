//! Manifests with what they need, and their referrers.

use std::sync::Arc;

use api::Micros;
use api::registry::StoredManifest;
use base::db::{Row, Tx, sql};
use bytes::Bytes;
use futures::FutureExt;
use oci::{Digest, Document, ManifestReference, RepositoryName, Tag, media};

use super::repositories::{repository_empty_mark, repository_make};
use super::scrub::whole_mark;
use super::tags::{tag_put, tags_of_check};
use super::usage::usage_change;
use super::views::sizes_set;
use super::{Store, digest, kept_check, unsigned};
use crate::cache::{Lookup, Ready};
use crate::retention::tags_about;
use crate::{Error, Rules};

/// Manifests of one repository that say something about one subject at most (a10).
const REFERRERS_PER_SUBJECT_MAX: u64 = 10_000;

/// A manifest that says something about another, as the referrers API lists it.
#[derive(Debug, Clone)]
pub(crate) struct Referrer {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) artifact_type: Option<String>,
    /// The manifest's annotations as JSON.
    pub(crate) annotations: String,
}

impl Store {
    /// A manifest that the repository has.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &ManifestReference,
    ) -> Result<Option<Arc<Ready>>, Error> {
        let miss = match self.cache.find(repository, reference) {
            Lookup::Hit(ready) => return Ok(Some(ready)),
            Lookup::Miss(miss) => miss,
        };
        let query = match reference {
            ManifestReference::Digest(digest) => {
                sql("SELECT digest, media_type, bytes FROM manifests WHERE repository = $1 AND digest = $2")
                    .bind(repository.as_str())
                    .bind(digest.to_string())
            }
            ManifestReference::Tag(tag) => {
                sql("SELECT m.digest AS digest, m.media_type AS media_type, m.bytes AS bytes FROM tags t \
                     JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest \
                     WHERE t.repository = $1 AND t.tag = $2")
                .bind(repository.as_str())
                .bind(tag.as_str())
            }
        };
        let Some(row) = query.optional(&self.db).await? else { return Ok(None) };
        let ready = Arc::new(Ready::of(stored_manifest(row)?)?);
        self.cache.keep(miss, &ready);
        Ok(Some(ready))
    }

    /// Takes a manifest, its needs and its tags, all or nothing. Fails when something that it needs is not there.
    pub(crate) async fn manifest_put(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        document: &Document,
        bytes: Bytes,
        tags: Vec<Tag>,
        now: Micros,
    ) -> Result<(), Error> {
        let put = Put::new(repository, digest, document, bytes, tags, (self.rules.clone(), now))?;
        self.manifests_write(repository, put, |tx, put| async move { put.write(tx).await }.boxed()).await?;
        self.pushed.wake();
        Ok(())
    }

    /// Removes a manifest with its tags. Fails when it is pinned, an index needs it or one of its tags is immutable; none
    /// when it is not there. What it needed and what was said about it goes later, unless something else needs it.
    pub(crate) async fn manifest_delete(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        now: Micros,
    ) -> Result<bool, Error> {
        let with = (repository.clone(), self.rules.clone());
        let removed = self
            .manifests_write(repository, with, move |tx, (repository, rules)| {
                manifest_remove(tx, rules, repository, digest, now).boxed()
            })
            .await?;
        self.deleted.wake();
        Ok(removed)
    }

    /// A client that was told that a manifest is there may lean on it for as long as the grace, like on a blob
    /// ([`Store::blob_renew`]).
    pub(crate) async fn manifest_renew(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        before: Micros,
        now: Micros,
    ) -> Result<bool, Error> {
        let due = sql("SELECT 1 AS one FROM manifests WHERE repository = $1 AND digest = $2 AND orphaned_since <= $3")
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
                let text = "UPDATE manifests SET orphaned_since = CASE WHEN orphaned_since IS NULL THEN NULL ELSE $1 END \
                     WHERE repository = $2 AND digest = $3";
                let touched =
                    sql(text).bind(now).bind(repository.as_str()).bind(digest.to_string()).execute(tx).await?;
                Ok(touched > 0)
            }
            .boxed()
        })
        .await
    }

    /// Manifests that say something about `subject`, by digest, those after `after`.
    pub(crate) async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Referrer>, Error> {
        let rows = sql("SELECT digest, media_type, size, artifact_type, annotations FROM manifests \
             WHERE repository = $1 AND subject = $2 AND digest > $3 AND ($4 = '' OR artifact_type = $4) \
             ORDER BY digest LIMIT $5")
        .bind(repository.as_str())
        .bind(subject.to_string())
        .bind(after)
        .bind(artifact_type.unwrap_or_default())
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(referrer).collect()
    }
}

/// A manifest on its way into the rows. A transaction may run more than once.
pub(super) struct Put {
    pub(super) repository: RepositoryName,
    pub(super) digest: Digest,
    media_type: &'static str,
    bytes: Bytes,
    artifact_type: Option<String>,
    subject: Option<Digest>,
    annotations: String,
    /// With the sizes that the manifest says.
    blobs: Vec<(Digest, u64)>,
    manifests: Vec<(Digest, u64)>,
    tags: Vec<Tag>,
    rules: Rules,
    pub(super) now: Micros,
}

impl Put {
    pub(super) fn new(
        repository: &RepositoryName,
        digest: Digest,
        document: &Document,
        bytes: Bytes,
        tags: Vec<Tag>,
        (rules, now): (Rules, Micros),
    ) -> Result<Self, Error> {
        let annotations = serde_json::to_string(document.annotations())
            .map_err(|error| Error::Damaged { what: format!("annotations: {error}") })?;
        let blobs = document.blobs().filter(|blob| !media::is_foreign_layer(&blob.media_type));
        Ok(Put {
            repository: repository.clone(),
            digest,
            media_type: document.media_type,
            bytes,
            artifact_type: document.artifact_type().map(str::to_owned),
            subject: document.subject().map(|subject| subject.digest),
            annotations,
            blobs: blobs.map(|blob| (blob.digest, blob.size)).collect(),
            manifests: document.manifests().iter().map(|manifest| (manifest.digest, manifest.size)).collect(),
            tags,
            rules,
            now,
        })
    }

    /// With all that it needs already there.
    async fn write(&self, tx: &mut Tx) -> Result<(), Error> {
        for (needs, text) in [
            (
                &self.blobs,
                "SELECT r.size AS size FROM repository_blobs r JOIN blobs b ON b.digest = r.digest \
                 WHERE r.repository = $1 AND r.digest = $2 AND b.state <> 'damaged'",
            ),
            (&self.manifests, "SELECT size FROM manifests WHERE repository = $1 AND digest = $2"),
        ] {
            for (digest, said) in needs {
                let row = sql(text).bind(self.repository.as_str()).bind(digest.to_string()).optional(tx).await?;
                let missing = || Error::NeedMissing { repository: self.repository.clone(), digest: *digest };
                let size = unsigned(&row.ok_or_else(missing)?, "size")?;
                if size != *said {
                    return Err(Error::NeedSize { digest: *digest, said: *said, size });
                }
            }
        }
        self.write_rows(tx).await
    }

    /// Whatever of what it needs is there.
    pub(super) async fn write_rows(&self, tx: &mut Tx) -> Result<(), Error> {
        if let Some(subject) = self.subject {
            let row =
                sql("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM manifests WHERE repository = $1 AND subject = $2")
                    .bind(self.repository.as_str())
                    .bind(subject.to_string())
                    .one(tx)
                    .await?;
            if unsigned(&row, "count")? >= REFERRERS_PER_SUBJECT_MAX {
                return Err(Error::TooManyReferrers { subject });
            }
        }
        repository_make(tx, &self.repository, self.now).await?;
        let size = i64::try_from(self.bytes.len()).unwrap_or(i64::MAX);
        // A push without a tag leaves the manifest the tags that it has.
        let untagged_since = self.tags.is_empty().then_some(self.now);
        let added = sql(
            "INSERT INTO manifests (repository, digest, media_type, bytes, size, artifact_type, subject, annotations, \
             pushed_at, untagged_since) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (repository, digest) DO NOTHING",
        )
        .bind(self.repository.as_str())
        .bind(self.digest.to_string())
        .bind(self.media_type)
        .bind(self.bytes.as_ref())
        .bind(size)
        .bind(self.artifact_type.clone())
        .bind(self.subject.map(|subject| subject.to_string()))
        .bind(self.annotations.as_str())
        .bind(self.now)
        .bind(untagged_since)
        .execute(tx)
        .await?;
        if added > 0 {
            usage_change(tx, &self.repository, size).await?;
        } else {
            sql("UPDATE manifests SET media_type = $1, bytes = $2, pushed_at = $3, orphaned_since = NULL, \
                 untagged_since = CASE WHEN untagged_since IS NULL THEN NULL ELSE $4 END \
                 WHERE repository = $5 AND digest = $6")
            .bind(self.media_type)
            .bind(self.bytes.as_ref())
            .bind(self.now)
            .bind(untagged_since)
            .bind(self.repository.as_str())
            .bind(self.digest.to_string())
            .execute(tx)
            .await?;
            whole_mark(tx, &self.repository, &self.digest).await?;
        }
        for (need, _) in self.blobs.iter().chain(&self.manifests) {
            sql("INSERT INTO manifest_needs (repository, manifest, digest) VALUES ($1, $2, $3) \
                 ON CONFLICT (repository, manifest, digest) DO NOTHING")
            .bind(self.repository.as_str())
            .bind(self.digest.to_string())
            .bind(need.to_string())
            .execute(tx)
            .await?;
        }
        self.needed_mark(tx).await?;
        for tag in &self.tags {
            tag_put(tx, &self.rules, &self.repository, tag, self.digest, self.now).await?;
        }
        sizes_set(tx, &self.repository, &self.digest, &self.blobs, &self.tags).await
    }

    /// What it needs, and what was said about it before it came, has something to be there for again.
    async fn needed_mark(&self, tx: &mut Tx) -> Result<(), Error> {
        for text in [
            "UPDATE repository_blobs SET unneeded_since = NULL WHERE repository = $1 AND unneeded_since IS NOT NULL \
             AND digest IN (SELECT n.digest FROM manifest_needs n WHERE n.repository = $1 AND n.manifest = $2)",
            "UPDATE manifests SET orphaned_since = NULL WHERE repository = $1 AND orphaned_since IS NOT NULL \
             AND digest IN (SELECT n.digest FROM manifest_needs n WHERE n.repository = $1 AND n.manifest = $2)",
            "UPDATE manifests SET orphaned_since = NULL WHERE repository = $1 AND subject = $2 AND orphaned_since IS NOT NULL",
        ] {
            sql(text).bind(self.repository.as_str()).bind(self.digest.to_string()).execute(tx).await?;
        }
        let [referrers, signature, attestation, sbom] = tags_about(&self.digest);
        sql("UPDATE manifests SET orphaned_since = NULL WHERE repository = $1 AND orphaned_since IS NOT NULL \
             AND digest IN (SELECT t.digest FROM tags t WHERE t.repository = $1 AND t.tag IN ($2, $3, $4, $5))")
        .bind(self.repository.as_str())
        .bind(referrers)
        .bind(signature)
        .bind(attestation)
        .bind(sbom)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Removes a manifest with its tags, unless it has to stay.
pub(super) async fn manifest_remove(
    tx: &mut Tx,
    rules: &Rules,
    repository: &RepositoryName,
    digest: Digest,
    now: Micros,
) -> Result<bool, Error> {
    kept_check(tx, repository, digest).await?;
    tags_of_check(tx, rules, repository, digest).await?;
    remove(tx, repository, &digest, now, now).await
}

/// Removes a manifest's rows, and notes of what it leaves since when that lacks what it was there for: blobs that no
/// other manifest needs since `blobs_since`; children without another index and referrers since `manifests_since`.
pub(super) async fn remove(
    tx: &mut Tx,
    repository: &RepositoryName,
    digest: &Digest,
    manifests_since: Micros,
    blobs_since: Micros,
) -> Result<bool, Error> {
    let removed = sql("DELETE FROM manifests WHERE repository = $1 AND digest = $2 RETURNING size")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .optional(tx)
        .await?;
    let Some(row) = removed else { return Ok(false) };
    usage_change(tx, repository, -row.get::<i64>("size")?).await?;
    for (since, text) in [
        (
            blobs_since,
            "UPDATE repository_blobs SET unneeded_since = $1 WHERE repository = $2 AND unneeded_since IS NULL \
             AND digest IN (SELECT n.digest FROM manifest_needs n WHERE n.repository = $2 AND n.manifest = $3) \
             AND NOT EXISTS (SELECT 1 FROM manifest_needs o WHERE o.repository = $2 \
             AND o.digest = repository_blobs.digest AND o.manifest <> $3)",
        ),
        (
            manifests_since,
            "UPDATE manifests SET orphaned_since = $1 WHERE repository = $2 AND orphaned_since IS NULL \
             AND digest IN (SELECT n.digest FROM manifest_needs n WHERE n.repository = $2 AND n.manifest = $3) \
             AND NOT EXISTS (SELECT 1 FROM manifest_needs o WHERE o.repository = $2 \
             AND o.digest = manifests.digest AND o.manifest <> $3) \
             AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository = $2 AND s.digest = manifests.subject)",
        ),
        (
            manifests_since,
            "UPDATE manifests SET orphaned_since = $1 WHERE repository = $2 AND orphaned_since IS NULL AND subject = $3 \
             AND NOT EXISTS (SELECT 1 FROM manifest_needs o WHERE o.repository = $2 \
             AND o.digest = manifests.digest AND o.manifest <> $3)",
        ),
    ] {
        sql(text).bind(since).bind(repository.as_str()).bind(digest.to_string()).execute(tx).await?;
    }
    // What speaks of it by the name of its tag is a referrer, too.
    let [referrers, signature, attestation, sbom] = tags_about(digest);
    sql("UPDATE manifests SET orphaned_since = $1 WHERE repository = $2 AND orphaned_since IS NULL \
         AND digest IN (SELECT t.digest FROM tags t WHERE t.repository = $2 AND t.tag IN ($4, $5, $6, $7)) \
         AND NOT EXISTS (SELECT 1 FROM manifest_needs o WHERE o.repository = $2 \
         AND o.digest = manifests.digest AND o.manifest <> $3) \
         AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository = $2 AND s.digest = manifests.subject)")
    .bind(manifests_since)
    .bind(repository.as_str())
    .bind(digest.to_string())
    .bind(referrers)
    .bind(signature)
    .bind(attestation)
    .bind(sbom)
    .execute(tx)
    .await?;
    for text in [
        "DELETE FROM tags WHERE repository = $1 AND digest = $2",
        "DELETE FROM manifest_needs WHERE repository = $1 AND manifest = $2",
    ] {
        sql(text).bind(repository.as_str()).bind(digest.to_string()).execute(tx).await?;
    }
    whole_mark(tx, repository, digest).await?;
    repository_empty_mark(tx, repository, blobs_since).await?;
    Ok(true)
}

pub(super) async fn manifest_exists(tx: &mut Tx, repository: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
    let row = sql("SELECT 1 AS one FROM manifests WHERE repository = $1 AND digest = $2")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .optional(tx)
        .await?;
    Ok(row.is_some())
}

fn stored_manifest(row: Row) -> Result<StoredManifest, Error> {
    let bytes: Vec<u8> = row.get("bytes")?;
    let digest = digest(&row, "digest")?;
    if !digest.matches(&bytes) {
        return Err(Error::Damaged { what: format!("the bytes of manifest {digest} are others; push it again") });
    }
    Ok(StoredManifest { digest, media_type: row.get("media_type")?, bytes: Bytes::from(bytes) })
}

fn referrer(row: &Row) -> Result<Referrer, Error> {
    Ok(Referrer {
        digest: digest(row, "digest")?,
        media_type: row.get("media_type")?,
        size: unsigned(row, "size")?,
        artifact_type: row.get("artifact_type")?,
        annotations: row.get("annotations")?,
    })
}

#[cfg(test)]
mod tests {
    use base::db::testing::for_each_backend;

    use super::*;
    use crate::{CONTEXT, MIGRATIONS};

    /// Each removal asks so, of each of its blobs: read from all rows of a large repository, it took 80 ms.
    #[tokio::test]
    async fn who_else_needs_something_is_looked_up() {
        for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
            if db.is_shared() {
                return;
            }
            let text = "EXPLAIN QUERY PLAN SELECT digest FROM repository_blobs WHERE repository = $1 AND digest = $2 \
                 AND NOT EXISTS (SELECT 1 FROM manifest_needs o WHERE o.repository = $1 \
                 AND o.digest = repository_blobs.digest AND o.manifest <> $3)";
            let rows = sql(text).bind("team/app").bind("sha256:a").bind("sha256:b").all(&db).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail").unwrap()).collect();
            let asked = plan.iter().find(|step| step.starts_with("SEARCH o ")).unwrap();
            assert!(asked.contains("(repository=? AND digest=?)"), "{plan:#?}");
        })
        .await;
    }
}
