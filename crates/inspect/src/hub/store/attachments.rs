//! What is attached to images, and when that is looked at next.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Micros;
use base::db::{LIST_MAX, Row, sql};
use futures::FutureExt as _;
use oci::{Digest, RepositoryName};

use super::{Store, damaged, digest, parsed};
use crate::hub::error::Error;
use crate::hub::numbers::Numbers;

/// Indexes of an image that are looked at.
const PARENTS_MAX: u32 = 20;
/// Images of which somebody states something that are known to be so at once.
const VOICED_MAX: u32 = 50_000;

/// Why findings of an image are lifted, by vulnerability and component.
pub(in crate::hub) type Lifted = BTreeMap<(String, String), String>;

/// What is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Kind {
    Cyclonedx,
    Spdx,
    Evidence,
}

impl Kind {
    pub(in crate::hub) const ALL: [Self; 3] = [Self::Cyclonedx, Self::Spdx, Self::Evidence];

    const fn word(self) -> &'static str {
        match self {
            Self::Cyclonedx => "cyclonedx",
            Self::Spdx => "spdx",
            Self::Evidence => "evidence",
        }
    }

    fn of(word: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| damaged("kind", word))
    }
}

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Standing {
    /// Its digest is known; whether the registry has it is not.
    Writing,
    There,
    /// Another took its place.
    Leaving,
}

impl Standing {
    const fn word(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::There => "there",
            Self::Leaving => "leaving",
        }
    }

    fn of(word: &str) -> Result<Self, Error> {
        [Self::Writing, Self::There, Self::Leaving]
            .into_iter()
            .find(|standing| standing.word() == word)
            .ok_or_else(|| damaged("state", word))
    }
}

/// Something that the hub attached to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Attachment {
    pub(in crate::hub) repository: RepositoryName,
    pub(in crate::hub) manifest: Digest,
    pub(in crate::hub) subject: Digest,
    pub(in crate::hub) kind: Kind,
    /// What it was made from.
    pub(in crate::hub) says: String,
    pub(in crate::hub) standing: Standing,
    pub(in crate::hub) at: Micros,
}

/// An image to which something may have to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Attaching {
    pub(in crate::hub) image: i64,
    pub(in crate::hub) digest: Digest,
    pub(in crate::hub) due_at: Micros,
    pub(in crate::hub) tries: u32,
    pub(in crate::hub) is_entered: bool,
}

impl Store {
    /// Has images looked at: these, and those of these indexes. With `is_entered`, they were pushed.
    pub(in crate::hub) async fn attaching_now(
        &self,
        digests: Vec<Digest>,
        is_entered: bool,
        now: Micros,
    ) -> Result<u64, Error> {
        if digests.is_empty() {
            return Ok(0);
        }
        self.db
            .write(move |tx| {
                let digests = digests.clone();
                async move {
                    let mut count = 0;
                    for digest in digests {
                        count += sql("UPDATE attaching SET due_at = $1, tries = 0, \
                             is_entered = CASE WHEN CAST($2 AS BIGINT) = 1 THEN 1 ELSE is_entered END WHERE image IN \
                             (SELECT number FROM image WHERE digest = $3 UNION \
                             SELECT i.number FROM index_child c JOIN image i ON i.digest = c.child WHERE c.parent = $3)")
                        .bind(now)
                        .bind(is_entered)
                        .bind(digest.to_string())
                        .execute(tx)
                        .await?;
                    }
                    Ok::<_, Error>(count)
                }
                .boxed()
            })
            .await
    }

    /// Components of which something else is known than before, whose images are not yet to be looked at.
    pub(in crate::hub) async fn attaching_components(&self, limit: u32) -> Result<Vec<i64>, Error> {
        let rows = sql("SELECT component FROM attaching_component ORDER BY component LIMIT $1").bind(limit);
        rows.all(&self.db).await?.iter().map(|row| Ok(row.get("component")?)).collect()
    }

    /// Has the images looked at that have these components.
    pub(in crate::hub) async fn attaching_images(
        &self,
        images: Vec<i64>,
        components: Vec<i64>,
        now: Micros,
    ) -> Result<(), Error> {
        let all = Arc::new((images, components));
        self.db
            .write(move |tx| {
                let all = Arc::clone(&all);
                async move {
                    let (images, components) = &*all;
                    for chunk in images.chunks(LIST_MAX) {
                        let statement = sql("UPDATE attaching SET due_at = $2, tries = 0 WHERE image = ANY($1) \
                             AND due_at > $2");
                        statement.bind(chunk).bind(now).execute(tx).await?;
                    }
                    for chunk in components.chunks(LIST_MAX) {
                        let statement = sql("DELETE FROM attaching_component WHERE component = ANY($1)");
                        statement.bind(chunk).execute(tx).await?;
                    }
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Keeps which findings of an image are lifted: a vulnerability, the component and why; and whether anything is
    /// stated of it at all.
    pub(in crate::hub) async fn lifted_keep(&self, image: i64, lifted: Lifted, is_voiced: bool) -> Result<(), Error> {
        if self.lifted_of(image).await? == lifted && self.is_voiced(image).await? == is_voiced {
            return Ok(());
        }
        let lifted = Arc::new(lifted);
        self.db
            .write(move |tx| {
                let lifted = Arc::clone(&lifted);
                async move {
                    sql("DELETE FROM lifted WHERE image = $1").bind(image).execute(tx).await?;
                    sql("DELETE FROM voiced WHERE image = $1").bind(image).execute(tx).await?;
                    if is_voiced {
                        sql("INSERT INTO voiced (image) VALUES ($1)").bind(image).execute(tx).await?;
                    }
                    for ((id, component), why) in lifted.iter() {
                        sql("INSERT INTO lifted (image, id, component, why) VALUES ($1, $2, $3, $4)")
                            .bind(image)
                            .bind(id)
                            .bind(component)
                            .bind(why)
                            .execute(tx)
                            .await?;
                    }
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    async fn lifted_of(&self, image: i64) -> Result<Lifted, Error> {
        let rows = sql("SELECT id, component, why FROM lifted WHERE image = $1").bind(image).all(&self.db).await?;
        rows.iter().map(|row| Ok(((row.get("id")?, row.get("component")?), row.get("why")?))).collect()
    }

    async fn is_voiced(&self, image: i64) -> Result<bool, Error> {
        let row = sql("SELECT image FROM voiced WHERE image = $1").bind(image).optional(&self.db).await?;
        Ok(row.is_some())
    }

    /// Images of which somebody stated something when they were last looked at.
    pub(in crate::hub) async fn voiced(&self) -> Result<Numbers, Error> {
        let rows = sql("SELECT image FROM voiced ORDER BY image LIMIT $1").bind(VOICED_MAX).all(&self.db).await?;
        rows.iter().map(|row| Ok(row.get("image")?)).collect()
    }

    /// Images that are to be looked at, the newest first: whoever pushes one waits for it.
    pub(in crate::hub) async fn attaching_due(&self, now: Micros, limit: u32) -> Result<Vec<Attaching>, Error> {
        let rows = sql("SELECT a.image AS image, a.due_at AS due_at, a.tries AS tries, a.is_entered AS is_entered, \
             i.digest AS digest FROM attaching a JOIN image i ON i.number = a.image \
             WHERE a.due_at <= $1 AND i.state = 'done' ORDER BY a.image DESC LIMIT $2")
        .bind(now)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Attaching {
                    image: row.get("image")?,
                    digest: digest(row, "digest")?,
                    due_at: row.get("due_at")?,
                    tries: row.get("tries")?,
                    is_entered: row.get("is_entered")?,
                })
            })
            .collect()
    }

    /// Notes when an image is looked at again, unless it was told meanwhile that it is to be looked at now.
    pub(in crate::hub) async fn attaching_next(&self, of: Attaching, next: Micros, tries: u32) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                async move {
                    // After a failure, whether all is there is still to be seen.
                    sql("UPDATE attaching SET due_at = $1, tries = $2, \
                         is_entered = CASE WHEN $2 = 0 THEN 0 ELSE is_entered END WHERE image = $3 AND due_at = $4")
                    .bind(next)
                    .bind(tries)
                    .bind(of.image)
                    .bind(of.due_at)
                    .execute(tx)
                    .await?;
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// What was attached to an image, in all repositories.
    pub(in crate::hub) async fn attachments(&self, subject: &Digest) -> Result<Vec<Attachment>, Error> {
        let rows =
            sql("SELECT repository, manifest, subject, kind, says, state, at FROM attachment WHERE subject = $1 \
             ORDER BY repository, at, manifest LIMIT 10000");
        rows.bind(subject.to_string()).all(&self.db).await?.iter().map(attachment).collect()
    }

    /// Whether the hub attached this itself.
    pub(in crate::hub) async fn is_attachment(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
    ) -> Result<bool, Error> {
        let row = sql("SELECT 1 AS one FROM attachment WHERE repository = $1 AND manifest = $2")
            .bind(repository.as_str())
            .bind(manifest.to_string());
        Ok(row.optional(&self.db).await?.is_some())
    }

    /// Notes what is about to be attached.
    pub(in crate::hub) async fn attachment_begin(&self, of: Attachment) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let of = of.clone();
                async move {
                    sql("INSERT INTO attachment (repository, manifest, subject, kind, says, state, at) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (repository, manifest) \
                         DO UPDATE SET says = excluded.says, state = excluded.state, at = excluded.at")
                    .bind(of.repository.as_str())
                    .bind(of.manifest.to_string())
                    .bind(of.subject.to_string())
                    .bind(of.kind.word())
                    .bind(of.says.as_str())
                    .bind(of.standing.word())
                    .bind(of.at)
                    .execute(tx)
                    .await?;
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Notes that it is attached, in the place of all others of its kind. False where it is not known any more.
    pub(in crate::hub) async fn attachment_done(&self, of: Attachment) -> Result<bool, Error> {
        self.db
            .write(move |tx| {
                let of = of.clone();
                async move {
                    let done = sql("UPDATE attachment SET state = $1, says = $2, at = $3 \
                         WHERE repository = $4 AND manifest = $5")
                    .bind(Standing::There.word())
                    .bind(of.says.as_str())
                    .bind(of.at)
                    .bind(of.repository.as_str())
                    .bind(of.manifest.to_string())
                    .execute(tx)
                    .await?;
                    if done == 0 {
                        return Ok(false);
                    }
                    sql("UPDATE attachment SET state = $1 WHERE repository = $2 AND subject = $3 AND kind = $4 \
                         AND manifest <> $5")
                    .bind(Standing::Leaving.word())
                    .bind(of.repository.as_str())
                    .bind(of.subject.to_string())
                    .bind(of.kind.word())
                    .bind(of.manifest.to_string())
                    .execute(tx)
                    .await?;
                    Ok::<_, Error>(true)
                }
                .boxed()
            })
            .await
    }

    /// Forgets an attachment, unless it went further than it was known to be.
    pub(in crate::hub) async fn attachment_gone(&self, of: Attachment) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let of = of.clone();
                async move {
                    sql("DELETE FROM attachment WHERE repository = $1 AND manifest = $2 AND state = $3")
                        .bind(of.repository.as_str())
                        .bind(of.manifest.to_string())
                        .bind(of.standing.word())
                        .execute(tx)
                        .await?;
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Indexes that have an image.
    pub(in crate::hub) async fn parents_of(&self, child: &Digest) -> Result<Vec<Digest>, Error> {
        let rows = sql("SELECT parent FROM index_child WHERE child = $1 ORDER BY parent LIMIT $2")
            .bind(child.to_string())
            .bind(PARENTS_MAX);
        rows.all(&self.db).await?.iter().map(|row| digest(row, "parent")).collect()
    }
}

fn attachment(row: &Row) -> Result<Attachment, Error> {
    Ok(Attachment {
        repository: parsed(row, "repository")?,
        manifest: digest(row, "manifest")?,
        subject: digest(row, "subject")?,
        kind: Kind::of(&row.get::<String>("kind")?)?,
        says: row.get("says")?,
        standing: Standing::of(&row.get::<String>("state")?)?,
        at: row.get("at")?,
    })
}
