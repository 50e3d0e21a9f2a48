//! SQLite: one file per context, a few read-only connections, and one writer that commits for many at once.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::Backend;
use super::error::{DbError, DbErrorKind};
use super::job::attempt;
use super::migrate::{Migration, migrate_sqlite};
use super::statement::{Connection, Tx};

/// Read-only connections per context.
pub const READERS_MAX: u32 = 4;
/// Jobs that may wait for the writer; more wait for a place in the queue.
pub const WRITE_QUEUE_JOBS_MAX: usize = 1024;
/// How long a job waits for its turn before it is refused.
pub const WRITE_WAIT_SECONDS_MAX: u64 = 15;
/// Jobs that share one commit at most.
pub const GROUP_JOBS_MAX: usize = 128;
/// After this a group is committed even when more jobs wait.
pub const GROUP_MILLIS_MAX: u64 = 50;
/// Commands of the writer that another process may delay, such as a backup.
const BUSY_TIMEOUT_SECONDS: u64 = 10;
/// SQLite's code for a file that another connection holds, in the lowest byte of the codes that say why.
const CODE_BUSY: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// What the WAL file is cut back to after a burst.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// Rows that wait for whoever asked for them.
const ROWS_BUFFERED: usize = 500;
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

pub(super) async fn open(
    folder: &Path,
    context: &'static str,
    migrations: &'static [Migration],
) -> Result<Backend, DbError> {
    folder_make(folder)?;
    let path = folder.join(format!("{context}.sqlite"));
    let unavailable = |error: sqlx::Error| {
        DbError::new(DbErrorKind::Unavailable, format!("the database {} cannot be opened", path.display()))
            .with_source(error)
            .with_hint("check that the folder exists, is writable and is on a local disk")
    };
    // SQLite gives its other files the rights of this one, and secrets may be in them.
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(|error| unavailable(error.into()))?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(BUSY_TIMEOUT_SECONDS))
        .row_buffer_size(ROWS_BUFFERED)
        .disable_statement_logging();
    let writing = options
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES_MAX.to_string());
    let mut connection = connect(&writing).await.map_err(unavailable)?;
    run(&mut connection, "BEGIN IMMEDIATE").await?;
    match migrate_sqlite(&mut connection, context, migrations).await {
        Ok(()) => run(&mut connection, "COMMIT").await?,
        Err(error) => {
            run(&mut connection, "ROLLBACK").await?;
            return Err(error);
        }
    }
    let reads = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(Duration::from_secs(WRITE_WAIT_SECONDS_MAX))
        .connect_with(options.read_only(true))
        .await
        .map_err(unavailable)?;
    let (writer, queue) = mpsc::channel(WRITE_QUEUE_JOBS_MAX);
    tokio::spawn(write_loop(connection, writing, queue));
    Ok(Backend::Sqlite { reads, writer })
}

fn folder_make(folder: &Path) -> Result<(), DbError> {
    let unavailable = |error: std::io::Error| {
        DbError::new(DbErrorKind::Unavailable, format!("the data folder {} cannot be made", folder.display()))
            .with_source(error)
            .with_hint("check the path and the rights of its parent")
    };
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(unavailable)?;
    // A new folder survives a power loss only once its parents know of it; SQLite itself syncs the folder.
    for parent in folder.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        if File::open(parent).and_then(|parent| parent.sync_all()).is_err() {
            break;
        }
    }
    Ok(())
}

/// Opens the file, which another process may just be opening, too: SQLite does not wait while the journal's mode changes.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let begun = Instant::now();
    loop {
        match options.connect().await {
            Err(sqlx::Error::Database(error))
                if error
                    .code()
                    .and_then(|code| code.parse().ok())
                    .is_some_and(|code: u32| code & 0xff == CODE_BUSY)
                    && begun.elapsed() < Duration::from_secs(BUSY_TIMEOUT_SECONDS) =>
            {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn run(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), DbError> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}

/// What waits for the writer.
pub(super) enum Waiting {
    Job(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// A job of any type, with the one who waits for it.
pub(super) trait Job: Send {
    /// Whether it is still worth running; a job that waited too long is not.
    fn is_due(&self) -> bool;
    /// Runs it and keeps the outcome; `true` when its changes are to be kept.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool>;
    /// Hands the outcome over: the job's own, or the error of the commit it depended on.
    fn answer(self: Box<Self>, error: Option<DbError>);
}

struct TypedJob<T, E, F> {
    job: F,
    deadline: Instant,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for TypedJob<T, E, F>
where
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync,
    E: From<DbError> + Send,
    T: Send,
{
    fn is_due(&self) -> bool {
        !self.reply.is_closed() && Instant::now() < self.deadline
    }

    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool> {
        async move {
            let outcome = attempt(&self.job, tx).await;
            let keep = outcome.is_ok();
            self.outcome = Some(outcome);
            keep
        }
        .boxed()
    }

    fn answer(self: Box<Self>, error: Option<DbError>) {
        let outcome = match (error, self.outcome) {
            (Some(error), _) => Err(error.into()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(waited_too_long().into()),
        };
        // Nobody waits any more when the caller was cancelled.
        let _ = self.reply.send(outcome);
    }
}

fn waited_too_long() -> DbError {
    DbError::new(
        DbErrorKind::Busy,
        format!("more is being written than the database can take: no turn within {WRITE_WAIT_SECONDS_MAX} seconds"),
    )
    .with_hint("try again later; check the disk's load")
}

fn writer_gone() -> DbError {
    DbError::new(DbErrorKind::Unavailable, "the database is closed")
        .with_hint("the program is stopping; start it again")
}

pub(super) async fn write<T, E, F>(writer: &mpsc::Sender<Waiting>, job: F) -> Result<T, E>
where
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    E: From<DbError> + Send + 'static,
    T: Send + 'static,
{
    let wait = Duration::from_secs(WRITE_WAIT_SECONDS_MAX);
    let (reply, answer) = oneshot::channel();
    let job = TypedJob { job, deadline: Instant::now() + wait, outcome: None, reply };
    match tokio::time::timeout(wait, writer.send(Waiting::Job(Box::new(job)))).await {
        Err(_) => return Err(waited_too_long().into()),
        Ok(Err(_)) => return Err(writer_gone().into()),
        Ok(Ok(())) => {}
    }
    answer.await.unwrap_or_else(|_| Err(writer_gone().into()))
}

pub(super) async fn close(writer: &mpsc::Sender<Waiting>) {
    let (reply, closed) = oneshot::channel();
    if writer.send(Waiting::Close(reply)).await.is_ok() {
        let _ = closed.await;
    }
}

async fn write_loop(connection: SqliteConnection, options: SqliteConnectOptions, mut queue: mpsc::Receiver<Waiting>) {
    let mut connection = Some(connection);
    loop {
        let first = match queue.recv().await {
            None => break,
            Some(Waiting::Close(reply)) => {
                queue.close();
                if let Some(connection) = connection.take() {
                    // A connection that cannot be closed has nothing left to lose: all answers were durable.
                    let _ = connection.close().await;
                }
                let _ = reply.send(());
                break;
            }
            Some(Waiting::Job(job)) => job,
        };
        let open = match connection.take() {
            Some(connection) => Ok(connection),
            None => options.connect().await,
        };
        match open {
            Err(error) => first.answer(Some(error.into())),
            Ok(open) => connection = group(open, first, &mut queue).await,
        }
    }
}

/// Runs the first job and all that wait behind it in one transaction, each in a savepoint of its own, commits once, and
/// only then answers them. Gives the connection back unless it is in doubt.
async fn group(
    connection: SqliteConnection,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Waiting>,
) -> Option<SqliteConnection> {
    let mut tx = Tx::new(Connection::Sqlite(Box::new(connection)));
    let mut done: Vec<Box<dyn Job>> = Vec::new();
    let mut closing = None;
    let outcome = async {
        control(&mut tx, "BEGIN IMMEDIATE").await?;
        let began = Instant::now();
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            let mut saved = Ok(());
            if job.is_due() {
                saved = run_in_savepoint(&mut tx, &mut *job).await;
            }
            done.push(job);
            saved?;
            if done.len() < GROUP_JOBS_MAX && began.elapsed() < Duration::from_millis(GROUP_MILLIS_MAX) {
                match queue.try_recv() {
                    Ok(Waiting::Job(job)) => next = Some(job),
                    Ok(Waiting::Close(reply)) => closing = Some(reply),
                    Err(_) => {}
                }
            }
        }
        control(&mut tx, "COMMIT").await
    }
    .await;
    let outcome = outcome.err();
    for job in done {
        job.answer(outcome.clone());
    }
    let Connection::Sqlite(connection) = tx.into_connection() else { return None };
    if let Some(reply) = closing {
        queue.close();
        let _ = connection.close().await;
        let _ = reply.send(());
        return None;
    }
    // After a failed BEGIN, savepoint or COMMIT it is not certain what the connection still holds: dropping it rolls back.
    if outcome.is_some() { None } else { Some(*connection) }
}

async fn run_in_savepoint(tx: &mut Tx, job: &mut dyn Job) -> Result<(), DbError> {
    control(tx, "SAVEPOINT job").await?;
    if !job.run(tx).await {
        control(tx, "ROLLBACK TO job").await?;
    }
    control(tx, "RELEASE job").await
}

async fn control(tx: &mut Tx, statement: &'static str) -> Result<(), DbError> {
    match &mut tx.state.get_mut().connection {
        Connection::Sqlite(connection) => run(connection, statement).await,
        Connection::Postgres(_) => Err(DbError::new(DbErrorKind::Query, "not a SQLite transaction")),
    }
}
