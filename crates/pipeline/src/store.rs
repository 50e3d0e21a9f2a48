//! Runs, their logs, and the images built so far: the only SQL of this context.

use api::pipeline::{Provenance, Run, RunLogLine, RunState};
use api::{AppName, Micros, ServiceName};
use base::db::{Db, DbError, Migration, Row, sql};
use base::lease::Fence;
use futures::FutureExt as _;
use oci::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The migrations of this context, for [`base::db::open`].
pub const MIGRATIONS: &[Migration] =
    &[Migration { number: 1, name: "runs", sql: include_str!("../migrations/0001_runs.sql") }];

/// Batches of a log that are read at once.
const BATCHES_READ: u32 = 16;

/// An image that was built and pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Its digest in the registry.
    pub digest: Digest,
    /// The context's folder in the repository.
    pub context: String,
    /// The Dockerfile in the context.
    pub dockerfile: String,
    /// How it was built.
    pub provenance: Provenance,
}

/// The tables.
#[derive(Clone)]
pub struct Store {
    db: Db,
}

impl Store {
    /// On an opened database with [`MIGRATIONS`].
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The database, for leases.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Queues a run.
    ///
    /// # Errors
    /// [`Error::QueueFull`] when `queue_runs_max` are waiting.
    pub async fn run_queue(&self, run: &Run, queue_runs_max: u32) -> Result<(), Error> {
        let (id, document) = (run.id.clone(), encode(run));
        self.db
            .write(move |tx| {
                let (id, document) = (id.clone(), document.clone());
                async move {
                    let queued = sql("SELECT COUNT(*) AS queued FROM runs WHERE state = 'queued'").one(tx).await?;
                    if queued.get::<i64>("queued")? >= i64::from(queue_runs_max) {
                        return Err(Error::QueueFull { runs_max: queue_runs_max });
                    }
                    sql("INSERT INTO runs (id, app, state, attempts, document) VALUES ($1, NULL, 'queued', 0, $2)")
                        .bind(id)
                        .bind(document)
                        .execute(tx)
                        .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// Takes the oldest queued run to work on, with how often it was begun, this time included.
    ///
    /// # Errors
    /// The database fails, or somebody else holds the lease now.
    pub async fn run_claim(&self, fence: &Fence) -> Result<Option<(Run, u32)>, Error> {
        let fence = fence.clone();
        self.db
            .write(move |tx| {
                let fence = fence.clone();
                async move {
                    fence.check(tx).await?;
                    let row = sql("SELECT document, attempts FROM runs WHERE state = 'queued' ORDER BY id LIMIT 1");
                    let Some(row) = row.optional(tx).await? else { return Ok(None) };
                    let mut run: Run = decode(&row)?;
                    let attempts = row.get::<u32>("attempts")?.saturating_add(1);
                    run.state = RunState::Running;
                    sql("UPDATE runs SET state = 'running', attempts = $1, document = $2 WHERE id = $3")
                        .bind(attempts)
                        .bind(encode(&run))
                        .bind(&run.id)
                        .execute(tx)
                        .await?;
                    Ok::<_, Error>(Some((run, attempts)))
                }
                .boxed()
            })
            .await
    }

    /// Queues again what counts as running though nobody works on it: `working` are the runs that are worked on.
    ///
    /// # Errors
    /// The database fails, or somebody else holds the lease now.
    pub async fn runs_requeue(&self, fence: &Fence, working: Vec<String>) -> Result<u64, Error> {
        let stuck = |rows: &[Row]| -> Result<Vec<Run>, Error> {
            let runs: Result<Vec<Run>, Error> = rows.iter().map(decode).collect();
            Ok(runs?.into_iter().filter(|run| !working.contains(&run.id)).collect())
        };
        let running = sql("SELECT document FROM runs WHERE state = 'running' ORDER BY id").all(&self.db).await?;
        let runs = stuck(&running)?;
        let count = u64::try_from(runs.len()).unwrap_or(u64::MAX);
        for mut run in runs {
            run.state = RunState::Queued;
            let fence = fence.clone();
            self.db
                .write(move |tx| {
                    let (fence, id, document) = (fence.clone(), run.id.clone(), encode(&run));
                    async move {
                        fence.check(tx).await?;
                        sql("UPDATE runs SET state = 'queued', document = $1 WHERE id = $2 AND state = 'running'")
                            .bind(document)
                            .bind(id)
                            .execute(tx)
                            .await
                    }
                    .boxed()
                })
                .await?;
        }
        Ok(count)
    }

    /// Writes a run as it stands, as long as it is being worked on.
    ///
    /// # Errors
    /// The database fails.
    pub async fn run_save(&self, run: &Run) -> Result<(), DbError> {
        let run = run.clone();
        self.db
            .write(move |tx| {
                let run = run.clone();
                async move {
                    sql("UPDATE runs SET app = $1, state = $2, document = $3 WHERE id = $4 AND state = 'running'")
                        .bind(run.app.as_ref().map(AppName::to_string))
                        .bind(state_text(run.state))
                        .bind(encode(&run))
                        .bind(&run.id)
                        .execute(tx)
                        .await
                        .map(drop)
                }
                .boxed()
            })
            .await
    }

    /// A run.
    ///
    /// # Errors
    /// The database fails.
    pub async fn run_get(&self, id: &str) -> Result<Option<Run>, Error> {
        let row = sql("SELECT document FROM runs WHERE id = $1").bind(id).optional(&self.db).await?;
        row.as_ref().map(decode).transpose()
    }

    /// Up to `count` runs, newest first, older than `after`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn run_list(&self, app: Option<&AppName>, after: Option<&str>, count: u32) -> Result<Vec<Run>, Error> {
        // Ids are UUIDv7, so their order is that of time; `~` lies behind all of them.
        let after = after.unwrap_or("~");
        let rows = match app {
            Some(app) => sql("SELECT document FROM runs WHERE app = $1 AND id < $2 ORDER BY id DESC LIMIT $3")
                .bind(app.as_str())
                .bind(after)
                .bind(count),
            None => sql("SELECT document FROM runs WHERE id < $1 ORDER BY id DESC LIMIT $2").bind(after).bind(count),
        };
        rows.all(&self.db).await?.iter().map(decode).collect()
    }

    /// Adds lines to a log. Their numbers follow one another and what is there.
    ///
    /// # Errors
    /// The database fails.
    pub async fn log_append(&self, run: &str, lines: &[RunLogLine]) -> Result<(), DbError> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
        let (first, end) = (number(first.number), number(last.number.saturating_add(1)));
        let (run, text) = (run.to_owned(), encode(&lines));
        self.db
            .write(move |tx| {
                let (run, text) = (run.clone(), text.clone());
                async move {
                    sql("INSERT INTO log_batches (run, first_number, end_number, lines) VALUES ($1, $2, $3, $4)")
                        .bind(run)
                        .bind(first)
                        .bind(end)
                        .bind(text)
                        .execute(tx)
                        .await
                        .map(drop)
                }
                .boxed()
            })
            .await
    }

    /// The number that the next line of a log gets.
    ///
    /// # Errors
    /// The database fails.
    pub async fn log_end(&self, run: &str) -> Result<u64, DbError> {
        let row =
            sql("SELECT MAX(end_number) AS end_number FROM log_batches WHERE run = $1").bind(run).one(&self.db).await?;
        Ok(row.get::<Option<u64>>("end_number")?.unwrap_or(0))
    }

    /// Some lines of a log from a number on; none when there are none yet.
    ///
    /// # Errors
    /// The database fails.
    pub async fn log_read(&self, run: &str, from: u64) -> Result<Vec<RunLogLine>, Error> {
        let rows =
            sql("SELECT lines FROM log_batches WHERE run = $1 AND end_number > $2 ORDER BY first_number LIMIT $3")
                .bind(run)
                .bind(number(from))
                .bind(BATCHES_READ)
                .all(&self.db)
                .await?;
        let mut lines = Vec::new();
        for row in &rows {
            let batch: Vec<RunLogLine> = decode_column(row, "lines")?;
            lines.extend(batch.into_iter().filter(|line| line.number >= from));
        }
        Ok(lines)
    }

    /// The image of a service that was built from these inputs.
    ///
    /// # Errors
    /// The database fails.
    pub async fn image_get(
        &self,
        app: &AppName,
        service: &ServiceName,
        inputs: &Digest,
    ) -> Result<Option<BuiltImage>, Error> {
        let row = sql("SELECT document FROM images WHERE app = $1 AND service = $2 AND inputs_digest = $3")
            .bind(app.as_str())
            .bind(service.as_str())
            .bind(inputs.to_string())
            .optional(&self.db)
            .await?;
        row.as_ref().map(decode).transpose()
    }

    /// The image of a service that was built or reused last.
    ///
    /// # Errors
    /// The database fails.
    pub async fn image_latest(&self, app: &AppName, service: &ServiceName) -> Result<Option<BuiltImage>, Error> {
        let row = sql(
            "SELECT document FROM images WHERE app = $1 AND service = $2 ORDER BY used_at DESC, inputs_digest LIMIT 1",
        )
        .bind(app.as_str())
        .bind(service.as_str())
        .optional(&self.db)
        .await?;
        row.as_ref().map(decode).transpose()
    }

    /// Remembers an image by its inputs, as the one used last.
    ///
    /// # Errors
    /// The database fails.
    pub async fn image_put(
        &self,
        app: &AppName,
        service: &ServiceName,
        image: &BuiltImage,
        now: Micros,
    ) -> Result<(), DbError> {
        let (app, service, image) = (app.clone(), service.clone(), image.clone());
        self.db
            .write(move |tx| {
                let statement = sql(
                    "INSERT INTO images (app, service, inputs_digest, used_at, document) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (app, service, inputs_digest)
                     DO UPDATE SET used_at = excluded.used_at, document = excluded.document",
                )
                .bind(app.as_str())
                .bind(service.as_str())
                .bind(image.provenance.inputs_digest.to_string())
                .bind(now)
                .bind(encode(&image));
                async move { statement.execute(tx).await.map(drop) }.boxed()
            })
            .await
    }
}

fn state_text(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Every type that is stored here has a JSON form, so this does not fail.
fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn decode<T: DeserializeOwned>(row: &Row) -> Result<T, Error> {
    decode_column(row, "document")
}

fn decode_column<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, Error> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| Error::Stored { column, why: error.to_string() })
}
