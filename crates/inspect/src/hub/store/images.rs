//! Images and layers: what entered the registry, and how far each is.

use api::Micros;
use base::db::{Row, Tx, sql};
use futures::FutureExt as _;
use oci::{Digest, RepositoryName};

use super::super::stored;
use super::{Changing, Store, damaged, digest, numbers_take, parsed, progress_set, raise};
use crate::hub::error::Error;

/// The name under which the progress of the look at all that enters is kept.
const PUSHED: &str = "pushed";

/// How an image stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum State {
    Waiting,
    Done,
    Failed,
    /// It is no image after all, but something that is written like one.
    Other,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Other => "other",
        }
    }

    fn of(word: &str) -> Result<Self, Error> {
        [Self::Waiting, Self::Done, Self::Failed, Self::Other]
            .into_iter()
            .find(|state| state.word() == word)
            .ok_or_else(|| damaged("state", word))
    }
}

/// An image in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct ImageRow {
    pub(in crate::hub) number: i64,
    pub(in crate::hub) digest: Digest,
    pub(in crate::hub) state: State,
    pub(in crate::hub) at: Micros,
    pub(in crate::hub) why: String,
    pub(in crate::hub) system: Option<String>,
    pub(in crate::hub) unexamined: u64,
    /// Keys and tokens in its layers; none where they were not looked for.
    pub(in crate::hub) secrets: Option<u64>,
    pub(in crate::hub) components: u64,
}

pub(super) fn image(row: &Row) -> Result<ImageRow, Error> {
    Ok(ImageRow {
        number: row.get("number")?,
        digest: digest(row, "digest")?,
        state: State::of(&row.get::<String>("state")?)?,
        at: row.get("at")?,
        why: row.get("why")?,
        system: row.get("system")?,
        unexamined: row.get("unexamined")?,
        secrets: row.get("secrets")?,
        components: row.get("components")?,
    })
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct LayerRow {
    pub(in crate::hub) digest: Digest,
    pub(in crate::hub) diff_id: Digest,
}

/// An image that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Due {
    pub(in crate::hub) number: i64,
    pub(in crate::hub) digest: Digest,
    pub(in crate::hub) tries: u32,
    pub(in crate::hub) repositories: Vec<RepositoryName>,
}

/// What came of reading, where nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Outcome {
    /// It cannot be read.
    Failed(String),
    /// It is no image.
    Other,
    /// Not now, but later.
    Later(Micros, String),
}

impl Store {
    /// Where the look at all that enters goes on: after that time, repository and digest.
    pub(in crate::hub) async fn pushed_after(&self) -> Result<(Micros, String, String), Error> {
        let Some(text) = self.progress(PUSHED).await? else { return Ok((Micros(0), String::new(), String::new())) };
        let mut parts = text.splitn(3, ' ');
        let at = parts.next().and_then(|at| at.parse().ok()).ok_or_else(|| damaged(PUSHED, &text))?;
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Ok((Micros(at), part(), part()))
    }

    /// Notes images that are in repositories, and manifests of indexes; and how far the look is. Says how many of these
    /// images were not known.
    pub(in crate::hub) async fn entered(
        &self,
        images: Vec<(RepositoryName, Digest, String)>,
        children: Vec<(Digest, Digest)>,
        after: (Micros, String, String),
        now: Micros,
    ) -> Result<u64, Error> {
        self.db
            .write(move |tx| {
                let (images, children, (at, repository, digest)) = (images.clone(), children.clone(), after.clone());
                async move {
                    // What the hub attaches to images is pushed, too, and changes none of them.
                    let is_changed = !images.is_empty() || !children.is_empty();
                    let mut new = 0;
                    for (repository, digest, tag) in images {
                        new += u64::from(image_note(tx, &repository, &digest, &tag, now).await?);
                    }
                    for (parent, child) in children {
                        sql("INSERT INTO index_child (child, parent) VALUES ($1, $2) ON CONFLICT (child, parent) DO NOTHING")
                            .bind(child.to_string())
                            .bind(parent.to_string())
                            .execute(tx)
                            .await?;
                    }
                    progress_set(tx, PUSHED, &format!("{} {repository} {digest}", at.0)).await?;
                    if is_changed {
                        raise(tx, Changing::Images).await?;
                    }
                    Ok::<_, Error>(new)
                }
                .boxed()
            })
            .await
    }

    /// Has images read again that another way of looking has read, at most `limit`; says how many.
    pub(in crate::hub) async fn outdated_wait(&self, limit: u32, now: Micros) -> Result<u64, Error> {
        self.db
            .write(move |tx| {
                async move {
                    let count =
                        sql("UPDATE image SET state = 'waiting', tries = 0, due_at = $1, at = $1, format = $2 \
                         WHERE number IN (SELECT number FROM image WHERE format < $2 AND state <> 'waiting' LIMIT $3)")
                        .bind(now)
                        .bind(stored::FORMAT)
                        .bind(limit)
                        .execute(tx)
                        .await?;
                    if count > 0 {
                        raise(tx, Changing::Images).await?;
                    }
                    Ok(count)
                }
                .boxed()
            })
            .await
    }

    /// Has images read again in which secrets were not looked for, at most `limit`; says how many.
    pub(in crate::hub) async fn unsearched_wait(&self, limit: u32, now: Micros) -> Result<u64, Error> {
        self.db
            .write(move |tx| {
                async move {
                    Ok(sql("UPDATE image SET state = 'waiting', tries = 0, due_at = $1, at = $1 WHERE number IN \
                         (SELECT number FROM image WHERE state = 'done' AND secrets IS NULL ORDER BY number LIMIT $2)")
                    .bind(now)
                    .bind(limit)
                    .execute(tx)
                    .await?)
                }
                .boxed()
            })
            .await
    }

    /// Images that wait and are due, the first that came first.
    pub(in crate::hub) async fn due(&self, now: Micros, limit: u32) -> Result<Vec<Due>, Error> {
        let rows = sql("SELECT number, digest, tries FROM image WHERE state = 'waiting' AND due_at <= $1 \
             ORDER BY due_at, number LIMIT $2")
        .bind(now)
        .bind(limit)
        .all(&self.db)
        .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            let of = digest(row, "digest")?;
            due.push(Due {
                number: row.get("number")?,
                digest: of,
                tries: row.get("tries")?,
                repositories: self.repositories_of(&of).await?,
            });
        }
        Ok(due)
    }

    /// Counts a reading that begins: one that ends with the hub is counted, too.
    pub(in crate::hub) async fn begin(&self, number: i64, again_at: Micros) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                async move {
                    sql("UPDATE image SET tries = tries + 1, due_at = $1 WHERE number = $2")
                        .bind(again_at)
                        .bind(number)
                        .execute(tx)
                        .await?;
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// Notes what came of reading an image of which nothing was found.
    pub(in crate::hub) async fn outcome(&self, number: i64, outcome: Outcome, now: Micros) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let outcome = outcome.clone();
                async move {
                    let (state, due_at, why) = match outcome {
                        Outcome::Failed(why) => (State::Failed, now, why),
                        Outcome::Other => (State::Other, now, String::new()),
                        Outcome::Later(at, why) => (State::Waiting, at, why),
                    };
                    sql("UPDATE image SET state = $1, due_at = $2, why = $3, at = $4, format = $5, tries = 0 WHERE number = $6")
                        .bind(state.word())
                        .bind(due_at)
                        .bind(why)
                        .bind(now)
                        .bind(stored::FORMAT)
                        .bind(number)
                        .execute(tx)
                        .await?;
                    raise(tx, Changing::Images).await
                }
                .boxed()
            })
            .await
    }

    /// An image.
    pub(in crate::hub) async fn image(&self, of: &Digest) -> Result<Option<ImageRow>, Error> {
        let row = sql(
            "SELECT number, digest, state, at, why, system, unexamined, secrets, components FROM image WHERE digest = $1",
        );
        row.bind(of.to_string()).optional(&self.db).await?.map(|row| image(&row)).transpose()
    }

    /// Where an image is, by name.
    pub(in crate::hub) async fn repositories_of(&self, of: &Digest) -> Result<Vec<RepositoryName>, Error> {
        let rows = sql("SELECT repository FROM image_repository WHERE digest = $1 ORDER BY repository LIMIT 100")
            .bind(of.to_string())
            .all(&self.db)
            .await?;
        rows.iter().map(|row| parsed(row, "repository")).collect()
    }

    /// Where images are, from after this digest and repository on.
    pub(in crate::hub) async fn repositories_page(
        &self,
        after: &(String, String),
        limit: u32,
    ) -> Result<Vec<(Digest, RepositoryName)>, Error> {
        let rows = sql("SELECT digest, repository FROM image_repository WHERE (digest, repository) > ($1, $2) \
             ORDER BY digest, repository LIMIT $3")
        .bind(&after.0)
        .bind(&after.1)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(|row| Ok((digest(row, "digest")?, parsed(row, "repository")?))).collect()
    }

    /// Notes that an image is in a repository no longer.
    pub(in crate::hub) async fn left(&self, of: Digest, repository: RepositoryName) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let repository = repository.clone();
                async move {
                    for text in [
                        "DELETE FROM image_repository WHERE digest = $1 AND repository = $2",
                        "DELETE FROM attachment WHERE subject = $1 AND repository = $2",
                    ] {
                        sql(text).bind(of.to_string()).bind(repository.as_str()).execute(tx).await?;
                    }
                    raise(tx, Changing::Images).await
                }
                .boxed()
            })
            .await
    }

    /// The layers of an image, from the lowest, by the digests of what they unpack to.
    pub(in crate::hub) async fn diff_ids(&self, number: i64) -> Result<Vec<Digest>, Error> {
        let rows = sql("SELECT diff_id FROM image_layer WHERE image = $1 ORDER BY position").bind(number);
        rows.all(&self.db).await?.iter().map(|row| digest(row, "diff_id")).collect()
    }

    /// Images whose highest layer is this one, with so many below it; at most `limit`.
    pub(in crate::hub) async fn images_that_end(
        &self,
        diff_id: &Digest,
        position: usize,
        limit: u32,
    ) -> Result<Vec<i64>, Error> {
        let position = i64::try_from(position).map_err(|error| damaged("position", error))?;
        let rows = sql("SELECT image FROM image_layer WHERE is_last = 1 AND diff_id = $1 AND position = $2 \
             ORDER BY image LIMIT $3")
        .bind(diff_id.to_string())
        .bind(position)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(|row| Ok(row.get("image")?)).collect()
    }

    /// Where an image is, and the tag that it entered with.
    pub(in crate::hub) async fn entered_as(&self, of: &Digest) -> Result<Option<(RepositoryName, String)>, Error> {
        let row =
            sql("SELECT repository, tag FROM image_repository WHERE digest = $1 ORDER BY tag = '', repository LIMIT 1")
                .bind(of.to_string())
                .optional(&self.db)
                .await?;
        row.map(|row| Ok((parsed(&row, "repository")?, row.get("tag")?))).transpose()
    }

    /// Images that are in no repository, at most `limit`.
    pub(in crate::hub) async fn images_gone(&self, limit: u32) -> Result<Vec<ImageRow>, Error> {
        let rows = sql("SELECT number, digest, state, at, why, system, unexamined, secrets, components FROM image i \
             WHERE NOT EXISTS (SELECT 1 FROM image_repository r WHERE r.digest = i.digest) LIMIT $1")
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(image).collect()
    }
}

/// Notes an image in a repository; says whether it was not known at all.
async fn image_note(
    tx: &mut Tx,
    repository: &RepositoryName,
    of: &Digest,
    tag: &str,
    now: Micros,
) -> Result<bool, Error> {
    sql("INSERT INTO image_repository (digest, repository, tag) VALUES ($1, $2, $3) ON CONFLICT (digest, repository) \
         DO UPDATE SET tag = CASE WHEN excluded.tag = '' THEN image_repository.tag ELSE excluded.tag END")
    .bind(of.to_string())
    .bind(repository.as_str())
    .bind(tag)
    .execute(tx)
    .await?;
    let known = sql("SELECT 1 AS one FROM image WHERE digest = $1").bind(of.to_string()).optional(tx).await?;
    if known.is_some() {
        return Ok(false);
    }
    let number = numbers_take(tx, "image", 1).await?;
    sql("INSERT INTO image (number, digest, state, format, tries, due_at, at, why, unexamined, components)
         VALUES ($1, $2, 'waiting', $3, 0, $4, $5, '', 0, 0)")
    .bind(number)
    .bind(of.to_string())
    .bind(stored::FORMAT)
    .bind(now)
    .bind(now)
    .execute(tx)
    .await?;
    Ok(true)
}
