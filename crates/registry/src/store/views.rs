//! What pages show: repositories, tags in three orders, and what is known of one manifest. Every list goes on after the
//! last item of the page before, by an index: the last page of 100,000 tags costs what the first does.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::Micros;
use api::images::{LISTED_MAX, ManifestKind, RepositoryBrief, TagBrief, TagOrder};
use api::registry::PushedManifest;
use base::db::{Db, DbError, Row, Sql, Tx, sql};
use futures::FutureExt as _;
use oci::{Digest, RepositoryName, Tag, media};

use super::{Store, digest, unsigned};
use crate::Error;

/// A repository's columns; `$1` is how far tags are counted.
macro_rules! repository_columns {
    () => {
        "SELECT r.name AS name, \
         (SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT 1 AS one FROM tags c WHERE c.repository = r.name LIMIT $1) counted) AS tags, \
         (SELECT t.tag FROM tags t WHERE t.repository = r.name ORDER BY t.updated_at DESC, t.tag DESC LIMIT 1) AS newest, \
         (SELECT MAX(t.updated_at) FROM tags t WHERE t.repository = r.name) AS tagged_at \
         FROM repositories r "
    };
}

const REPOSITORIES: &str =
    concat!(repository_columns!(), "WHERE r.name > $2 AND r.name LIKE $3 ESCAPE '!' ORDER BY r.name LIMIT $4");
const REPOSITORY: &str = concat!(repository_columns!(), "WHERE r.name = $2");

/// A tag's columns. A signature is a referrer whose type is one, or cosign's tag that is named after the digest.
macro_rules! tag_columns {
    () => {
        "SELECT t.tag AS tag, t.digest AS digest, t.updated_at AS updated_at, t.size AS size, \
         (SELECT m.media_type FROM manifests m WHERE m.repository = t.repository AND m.digest = t.digest) AS media_type, \
         (SELECT m.artifact_type FROM manifests m WHERE m.repository = t.repository AND m.digest = t.digest) AS artifact_type, \
         CAST(CASE WHEN EXISTS (SELECT 1 FROM tags s WHERE s.repository = t.repository AND s.tag = REPLACE(t.digest, ':', '-') || '.sig') \
         OR EXISTS (SELECT 1 FROM manifests s WHERE s.repository = t.repository AND s.subject = t.digest AND (\
         s.artifact_type IN ('application/vnd.cncf.notary.signature', 'application/vnd.dev.cosign.artifact.sig.v1+json') \
         OR (s.artifact_type LIKE 'application/vnd.dev.sigstore.bundle%' AND s.annotations LIKE '%sigstore.dev/cosign/sign%'))) \
         THEN 1 ELSE 0 END AS BIGINT) AS has_signature FROM tags t WHERE t.repository = $1 "
    };
}

const TAGS_NEWEST: &str =
    concat!(tag_columns!(), "AND (t.updated_at, t.tag) < ($2, $3) ORDER BY t.updated_at DESC, t.tag DESC LIMIT $4");
const TAGS_LARGEST: &str =
    concat!(tag_columns!(), "AND (t.size, t.tag) < ($2, $3) ORDER BY t.size DESC, t.tag DESC LIMIT $4");
const TAGS_BY_NAME: &str = concat!(tag_columns!(), "AND t.tag > $2 ORDER BY t.tag LIMIT $3");

/// Tags that lead to those of one list at most.
const LEADING_MAX: u32 = 10 * LISTED_MAX;
/// Manifests of one list in a statement.
const SLOTS: usize = 10;

/// The tags of [`SLOTS`] repositories and digests, and those of indexes that have them. Joined from what is sought: a
/// database that knows nothing of how many rows there are would rather read all tags.
static TAGS_LEADING_TO: LazyLock<String> = LazyLock::new(|| {
    let (slots, limit) = (slots(), 2 * SLOTS + 1);
    format!(
        "WITH sought (repository, digest) AS (VALUES {slots}) \
         SELECT t.repository AS repository, t.digest AS digest, t.tag AS tag FROM sought s CROSS JOIN tags t \
         WHERE t.repository = s.repository AND t.digest = s.digest \
         UNION SELECT n.repository AS repository, n.digest AS digest, t.tag AS tag \
         FROM sought s CROSS JOIN manifest_needs n CROSS JOIN tags t \
         WHERE n.repository = s.repository AND n.digest = s.digest AND t.repository = n.repository \
         AND t.digest = n.manifest ORDER BY tag LIMIT ${limit}"
    )
});

fn slots() -> String {
    (0..SLOTS).map(|slot| format!("(${}, ${})", 2 * slot + 1, 2 * slot + 2)).collect::<Vec<_>>().join(", ")
}

/// What the rows say of a manifest besides its bytes.
pub(crate) struct ManifestFacts {
    pub(crate) size: u64,
    pub(crate) pushed_at: Micros,
    pub(crate) tags: Vec<Tag>,
    pub(crate) pins: Vec<String>,
}

/// How much there is.
pub(crate) struct Figures {
    pub(crate) repositories: u64,
    pub(crate) tags: u64,
    pub(crate) manifests: u64,
    pub(crate) blobs: u64,
    pub(crate) blob_bytes: u64,
    pub(crate) uploads: u64,
}

/// A manifest that speaks of another.
pub(crate) struct Speaker {
    pub(crate) digest: Digest,
    pub(crate) artifact_type: Option<String>,
    /// The manifest's annotations as JSON.
    pub(crate) annotations: String,
    pub(crate) tag: Option<Tag>,
    pub(crate) pushed_at: Micros,
}

/// Where a page of tags goes on, as text: what it is ordered by, a dot, the tag.
pub(crate) fn tag_cursor(order: TagOrder, tag: &TagBrief) -> String {
    match order {
        TagOrder::Newest => format!("{}.{}", tag.tagged_at.0, tag.tag),
        TagOrder::Largest => format!("{}.{}", tag.size, tag.tag),
        TagOrder::Name => tag.tag.to_string(),
    }
}

impl Store {
    /// Repositories whose name holds `search`, in upper or lower case, by name, those after `after`.
    pub(crate) async fn repositories_found(
        &self,
        search: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<RepositoryBrief>, Error> {
        let mut pattern = String::from("%");
        for letter in search.to_lowercase().chars() {
            if matches!(letter, '%' | '_' | '!') {
                pattern.push('!');
            }
            pattern.push(letter);
        }
        pattern.push('%');
        let rows = sql(REPOSITORIES).bind(LISTED_MAX).bind(after).bind(pattern).bind(limit).all(&self.db).await?;
        rows.iter().map(repository_brief).collect()
    }

    /// A repository; none when there is none of that name.
    pub(crate) async fn repository_found(&self, name: &RepositoryName) -> Result<Option<RepositoryBrief>, Error> {
        let row = sql(REPOSITORY).bind(LISTED_MAX).bind(name.as_str()).optional(&self.db).await?;
        row.as_ref().map(repository_brief).transpose()
    }

    /// A repository's tags in an order, those after a cursor of [`tag_cursor`].
    pub(crate) async fn tags_found(
        &self,
        repository: &RepositoryName,
        order: TagOrder,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<TagBrief>, Error> {
        let rows = tags_sql(repository, order, after)?.bind(limit).all(&self.db).await?;
        rows.iter().map(tag_brief).collect()
    }

    /// What the rows say of a manifest; none when it is not there.
    pub(crate) async fn manifest_facts(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestFacts>, Error> {
        let of = |text| sql(text).bind(repository.as_str()).bind(digest.to_string());
        let row = of("SELECT content_size, pushed_at FROM manifests WHERE repository = $1 AND digest = $2");
        let Some(row) = row.optional(&self.db).await? else { return Ok(None) };
        let tags = of("SELECT tag FROM tags WHERE repository = $1 AND digest = $2 ORDER BY tag LIMIT $3");
        let pins = of("SELECT holder FROM pins WHERE repository = $1 AND digest = $2 ORDER BY holder LIMIT $3");
        Ok(Some(ManifestFacts {
            size: unsigned(&row, "content_size")?,
            pushed_at: row.get("pushed_at")?,
            tags: tags.bind(LISTED_MAX).all(&self.db).await?.iter().map(tag).collect::<Result<_, _>>()?,
            pins: names(&self.db, pins.bind(LISTED_MAX), "holder").await?,
        }))
    }

    /// How much there is.
    pub(crate) async fn figures(&self) -> Result<Figures, Error> {
        let count = async |text| unsigned(&sql(text).one(&self.db).await?, "count");
        Ok(Figures {
            repositories: count("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM repositories").await?,
            tags: count("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM tags").await?,
            manifests: count("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM manifests").await?,
            blobs: count("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM blobs").await?,
            blob_bytes: count("SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS count FROM blobs").await?,
            uploads: count("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM uploads").await?,
        })
    }

    /// Manifests by the time of their push, those after this one.
    pub(crate) async fn manifests_pushed(
        &self,
        (at, repository, digest_after): &(Micros, String, String),
        limit: u32,
    ) -> Result<Vec<PushedManifest>, Error> {
        let rows = sql("SELECT pushed_at, repository, digest, media_type, artifact_type FROM manifests \
             WHERE (pushed_at, repository, digest) > ($1, $2, $3) ORDER BY pushed_at, repository, digest LIMIT $4")
        .bind(*at)
        .bind(repository)
        .bind(digest_after)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(pushed).collect()
    }

    /// Tags that lead to manifests, or to an index that has one.
    pub(crate) async fn tags_leading_to(
        &self,
        manifests: &[(RepositoryName, Digest)],
    ) -> Result<BTreeMap<(RepositoryName, Digest), Vec<Tag>>, Error> {
        let manifests = manifests.to_vec();
        let rows = self.db.read(move |at| {
            async move {
                let mut rows = Vec::new();
                for chunk in manifests.chunks(SLOTS) {
                    let mut statement = sql(&TAGS_LEADING_TO);
                    for slot in 0..SLOTS {
                        let Some((repository, digest)) = chunk.get(slot).or(chunk.last()) else { break };
                        statement = statement.bind(repository.as_str()).bind(digest.to_string());
                    }
                    rows.extend(statement.bind(LEADING_MAX).all(at).await?);
                }
                Ok::<_, Error>(rows)
            }
            .boxed()
        });
        let mut tags: BTreeMap<(RepositoryName, Digest), Vec<Tag>> = BTreeMap::new();
        for row in rows.await? {
            let repository: String = row.get("repository")?;
            let repository =
                repository.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })?;
            tags.entry((repository, digest(&row, "digest")?)).or_default().push(tag(&row)?);
        }
        // Databases sort text in ways of their own, and a list may name a manifest twice.
        for tags in tags.values_mut() {
            tags.sort_unstable();
            tags.dedup();
        }
        Ok(tags)
    }

    /// The bytes of all that a manifest refers to; none when it is not there.
    pub(crate) async fn content_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let row = sql("SELECT content_size FROM manifests WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .optional(&self.db)
            .await?;
        row.map(|row| unsigned(&row, "content_size")).transpose()
    }

    /// What speaks of a manifest: those that name it as their subject, and those under cosign's tags for it.
    pub(crate) async fn speakers(&self, repository: &RepositoryName, subject: &Digest) -> Result<Vec<Speaker>, Error> {
        let named = sql("SELECT digest, artifact_type, annotations, '' AS tag, pushed_at FROM manifests \
             WHERE repository = $1 AND subject = $2 ORDER BY digest LIMIT $3")
        .bind(repository.as_str())
        .bind(subject.to_string())
        .bind(LISTED_MAX)
        .all(&self.db)
        .await?;
        let stem = subject.to_string().replace(':', "-");
        let tagged = sql("SELECT m.digest AS digest, m.artifact_type AS artifact_type, m.annotations AS annotations, \
             t.tag AS tag, m.pushed_at AS pushed_at FROM tags t \
             JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest \
             WHERE t.repository = $1 AND t.tag IN ($2, $3, $4) ORDER BY t.tag")
        .bind(repository.as_str())
        .bind(format!("{stem}.att"))
        .bind(format!("{stem}.sbom"))
        .bind(format!("{stem}.sig"))
        .all(&self.db)
        .await?;
        named.iter().chain(&tagged).map(speaker).collect()
    }
}

/// Writes down the bytes of all that a manifest refers to, and of its tags, once it and its needs are rows. `blobs` are
/// those that it names with their sizes; what an index's manifests refer to is known from their own pushes.
pub(super) async fn sizes_set(
    tx: &mut Tx,
    repository: &RepositoryName,
    digest: &Digest,
    blobs: &[(Digest, u64)],
    tags: &[Tag],
) -> Result<(), Error> {
    // What is named twice is transferred once.
    let blobs: BTreeMap<&Digest, u64> = blobs.iter().map(|(digest, size)| (digest, *size)).collect();
    let size = blobs.values().fold(0u64, |sum, size| sum.saturating_add(*size));
    sql("UPDATE manifests SET content_size = $1 + COALESCE((SELECT CAST(SUM(c.content_size) AS BIGINT) \
         FROM manifest_needs n JOIN manifests c ON c.repository = n.repository AND c.digest = n.digest \
         WHERE n.repository = $2 AND n.manifest = $3), 0) WHERE repository = $2 AND digest = $3")
    .bind(i64::try_from(size).unwrap_or(i64::MAX / 2))
    .bind(repository.as_str())
    .bind(digest.to_string())
    .execute(tx)
    .await?;
    for tag in tags {
        sql("UPDATE tags SET size = COALESCE((SELECT content_size FROM manifests WHERE repository = $1 AND digest = $2), 0) \
             WHERE repository = $1 AND tag = $3")
        .bind(repository.as_str())
        .bind(digest.to_string())
        .bind(tag.as_str())
        .execute(tx)
        .await?;
    }
    Ok(())
}

fn tags_sql(repository: &RepositoryName, order: TagOrder, after: Option<&str>) -> Result<Sql, Error> {
    let (text, first) = match order {
        TagOrder::Newest => (TAGS_NEWEST, i64::MAX),
        TagOrder::Largest => (TAGS_LARGEST, i64::MAX),
        TagOrder::Name => {
            let after = after.unwrap_or_default();
            return Ok(sql(TAGS_BY_NAME).bind(repository.as_str()).bind(after));
        }
    };
    let (number, tag) = match after {
        None => (first, ""),
        Some(cursor) => {
            let parts = cursor.split_once('.').and_then(|(number, tag)| Some((number.parse().ok()?, tag)));
            parts.ok_or(Error::Cursor)?
        }
    };
    Ok(sql(text).bind(repository.as_str()).bind(number).bind(tag))
}

async fn names(db: &Db, statement: Sql, column: &'static str) -> Result<Vec<String>, Error> {
    let rows = statement.all(db).await?;
    Ok(rows.iter().map(|row| row.get(column)).collect::<Result<_, DbError>>()?)
}

fn repository_brief(row: &Row) -> Result<RepositoryBrief, Error> {
    let name: String = row.get("name")?;
    let newest: Option<String> = row.get("newest")?;
    Ok(RepositoryBrief {
        name: name.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })?,
        tags: unsigned(row, "tags")?,
        newest: newest.map(|tag| tag_parse(&tag)).transpose()?,
        tagged_at: row.get("tagged_at")?,
    })
}

fn tag_brief(row: &Row) -> Result<TagBrief, Error> {
    let media_type: Option<String> = row.get("media_type")?;
    let artifact_type: Option<String> = row.get("artifact_type")?;
    let kind = kind(media_type.as_deref().unwrap_or_default(), artifact_type.as_deref());
    let has_signature: i64 = row.get("has_signature")?;
    Ok(TagBrief {
        tag: tag(row)?,
        digest: digest(row, "digest")?,
        kind,
        artifact_type: artifact_type.filter(|_| kind == ManifestKind::Artifact),
        size: unsigned(row, "size")?,
        tagged_at: row.get("updated_at")?,
        has_signature: has_signature != 0,
    })
}

fn pushed(row: &Row) -> Result<PushedManifest, Error> {
    let repository: String = row.get("repository")?;
    let (media_type, artifact_type): (String, Option<String>) = (row.get("media_type")?, row.get("artifact_type")?);
    Ok(PushedManifest {
        pushed_at: row.get("pushed_at")?,
        repository: repository.parse().map_err(|error| Error::Damaged { what: format!("repository: {error}") })?,
        digest: digest(row, "digest")?,
        kind: kind(&media_type, artifact_type.as_deref()),
    })
}

fn speaker(row: &Row) -> Result<Speaker, Error> {
    let tag: String = row.get("tag")?;
    Ok(Speaker {
        digest: digest(row, "digest")?,
        artifact_type: row.get("artifact_type")?,
        annotations: row.get("annotations")?,
        tag: if tag.is_empty() { None } else { Some(tag_parse(&tag)?) },
        pushed_at: row.get("pushed_at")?,
    })
}

/// What a manifest is, by its types.
pub(crate) fn kind(media_type: &str, artifact_type: Option<&str>) -> ManifestKind {
    match (media_type, artifact_type) {
        (media::OCI_INDEX | media::DOCKER_LIST, _) => ManifestKind::Index,
        (_, None | Some(media::OCI_CONFIG | media::DOCKER_CONFIG)) => ManifestKind::Image,
        _ => ManifestKind::Artifact,
    }
}

fn tag(row: &Row) -> Result<Tag, Error> {
    tag_parse(&row.get::<String>("tag")?)
}

fn tag_parse(text: &str) -> Result<Tag, Error> {
    text.parse().map_err(|error| Error::Damaged { what: format!("tag: {error}") })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use base::db::testing::for_each_backend;
    use futures::FutureExt;

    use super::*;
    use crate::{CONTEXT, MIGRATIONS, Rules};

    /// How many tags a large repository has.
    const TAGS: u32 = 100_000;
    const PAGE: u32 = 100;
    /// What a page may take where the machine is busy with other tests and nothing is optimised.
    const PAGE_TIME_MAX: Duration = Duration::from_secs(1);

    /// Tags `t1`, `t2`, …, each with a manifest of its own, and as many as are counted in another repository. Times and sizes are in no
    /// order, and many are alike.
    async fn filled(db: &Db) {
        db.write(|tx| {
            async move {
                for (name, tags) in [("large", TAGS), ("larger", LISTED_MAX)] {
                    sql("INSERT INTO repositories (name, created_at) VALUES ($1, 0)").bind(name).execute(tx).await?;
                    sql("INSERT INTO manifests (repository, digest, media_type, bytes, size, annotations, pushed_at, content_size) \
                         WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
                         SELECT $2, 'sha256:' || SUBSTR($3 || CAST(i AS TEXT), LENGTH(CAST(i AS TEXT)) + 1), \
                         'application/vnd.oci.image.manifest.v1+json', $4, 2, '{}', 0, (i * 7919) % 1000 FROM n")
                    .bind(tags)
                    .bind(name)
                    .bind("0".repeat(64))
                    .bind(b"{}".as_slice())
                    .execute(tx)
                    .await?;
                    sql("INSERT INTO tags (repository, tag, digest, updated_at, size) \
                         WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
                         SELECT $2, 't' || CAST(i AS TEXT), 'sha256:' || SUBSTR($3 || CAST(i AS TEXT), LENGTH(CAST(i AS TEXT)) + 1), \
                         (i * 104729) % 50000, (i * 7919) % 1000 FROM n")
                    .bind(tags)
                    .bind(name)
                    .bind("0".repeat(64))
                    .execute(tx)
                    .await?;
                }
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await
        .unwrap();
    }

    /// A page, and how long it took at best: others' tests hold the machine up for a second now and then.
    async fn timed(
        store: &Store,
        name: &RepositoryName,
        order: TagOrder,
        after: Option<&str>,
        limit: u32,
    ) -> (Vec<TagBrief>, Duration) {
        let mut best = Duration::MAX;
        let mut page = Vec::new();
        for _ in 0..if limit <= 1000 { 3 } else { 1 } {
            let began = Instant::now();
            page = store.tags_found(name, order, after, limit).await.unwrap();
            best = best.min(began.elapsed());
        }
        (page, best)
    }

    #[tokio::test]
    async fn every_page_of_100_000_tags_comes_quickly_in_every_order() {
        for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
            filled(&db).await;
            let store = Store::new(db, Rules::default());
            let name: RepositoryName = "large".parse().unwrap();
            for order in [TagOrder::Newest, TagOrder::Name, TagOrder::Largest] {
                let mut all: Vec<TagBrief> = Vec::new();
                let mut slowest = Duration::ZERO;
                let mut after = None;
                // Large steps in between; every small one is timed like a page.
                for limit in [PAGE, PAGE, 1000].into_iter().chain(std::iter::repeat(20_000)) {
                    let (page, took) = timed(&store, &name, order, after.as_deref(), limit).await;
                    if limit <= 1000 {
                        slowest = slowest.max(took);
                    }
                    let Some(last) = page.last() else { break };
                    after = Some(tag_cursor(order, last));
                    all.extend(page);
                }
                let last = tag_cursor(order, &all[all.len() - PAGE as usize - 1]);
                let (end, took) = timed(&store, &name, order, Some(&last), PAGE).await;
                slowest = slowest.max(took);
                assert_eq!(end, all[all.len() - PAGE as usize..]);
                assert_eq!(all.len(), TAGS as usize);
                let key = |tag: &TagBrief| match order {
                    TagOrder::Newest => (-tag.tagged_at.0, String::new()),
                    TagOrder::Name => (0, tag.tag.to_string()),
                    TagOrder::Largest => (-(tag.size as i64), String::new()),
                };
                assert!(all.is_sorted_by_key(key), "{order:?}");
                let tags: std::collections::BTreeSet<&Tag> = all.iter().map(|tag| &tag.tag).collect();
                assert_eq!(tags.len(), TAGS as usize, "none twice");
                assert!(slowest < PAGE_TIME_MAX, "{order:?}: {slowest:?}");
                println!("{order:?}: the slowest page took {slowest:?}");
            }
            let began = Instant::now();
            let found = store.repositories_found("aRgE", "", PAGE).await.unwrap();
            assert_eq!(found.iter().map(|found| found.tags).collect::<Vec<_>>(), [u64::from(LISTED_MAX); 2]);
            assert!(began.elapsed() < PAGE_TIME_MAX, "{:?}", began.elapsed());
            for nonsense in ["_", "%", "!", "large%"] {
                assert!(store.repositories_found(nonsense, "", PAGE).await.unwrap().is_empty(), "{nonsense}");
            }
            for nonsense in ["", "x", "1", "x.t1"] {
                assert!(store.tags_found(&name, TagOrder::Newest, Some(nonsense), PAGE).await.is_err(), "{nonsense}");
            }
        })
        .await;
    }
}
