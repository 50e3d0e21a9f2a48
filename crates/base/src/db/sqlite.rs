//! SQLite: one file per context, a few read-only connections, and one writer that commits for many at once.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rusqlite::{ErrorCode, OpenFlags};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::error::{DbError, DbErrorKind};
use super::job::attempt;
use super::migrate::{Migration, migrate_sqlite};
use super::statement::{Connection, Sql, Tx};
use super::value::Row;
use super::{Backend, Snapshot};

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
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Statements that a connection keeps ready.
const STATEMENTS_KEPT: usize = 256;
/// The WAL file is cut back to 64 MiB after a burst.
const WRITING: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
     PRAGMA journal_size_limit = 67108864";
const READING: &str = "PRAGMA query_only = ON";
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

pub(super) async fn open(
    folder: &Path,
    context: &'static str,
    migrations: &'static [Migration],
) -> Result<Backend, DbError> {
    let path = folder.join(format!("{context}.sqlite"));
    let file = path.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let connection = writing(&file)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        match migrate_sqlite(&connection, context, migrations) {
            Ok(()) => connection.execute_batch("COMMIT")?,
            Err(error) => {
                connection.execute_batch("ROLLBACK")?;
                return Err(error);
            }
        }
        Ok((connection, Readers::open(&file, context)?))
    });
    let opened = opened.await.map_err(|_| DbError::new(DbErrorKind::Panicked, "opening the database panicked"));
    let (connection, reads) = opened??;
    let (writer, queue) = mpsc::channel(WRITE_QUEUE_JOBS_MAX);
    let runtime = Handle::current();
    // A thread of its own: statements run where their job does.
    std::thread::Builder::new()
        .name(format!("write-{context}"))
        .spawn(move || runtime.block_on(write_loop(connection, &path, queue)))
        .map_err(no_thread)?;
    Ok(Backend::Sqlite { reads, writer })
}

fn cannot_open(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> DbError {
    DbError::new(DbErrorKind::Unavailable, format!("the database {} cannot be opened", path.display()))
        .with_source(error)
        .with_hint("check that the folder exists, is writable and is on a local disk")
}

fn no_thread(error: std::io::Error) -> DbError {
    DbError::new(DbErrorKind::Unavailable, "the database gets no thread")
        .with_source(error)
        .with_hint("check how many threads this machine and this user may have")
}

/// The connection that writes; makes the file and its folder where they are missing.
fn writing(path: &Path) -> Result<rusqlite::Connection, DbError> {
    if let Some(folder) = path.parent() {
        folder_make(folder)?;
    }
    // SQLite gives its other files the rights of this one, and secrets may be in them.
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|error| cannot_open(path, error))?;
    let begun = Instant::now();
    loop {
        match connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITING) {
            // Another process may just be opening it: SQLite does not wait while the journal's mode changes.
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begun.elapsed() < Duration::from_secs(BUSY_TIMEOUT_SECONDS) =>
            {
                std::thread::sleep(BUSY_PAUSE);
            }
            outcome => return outcome.map_err(|error| cannot_open(path, error)),
        }
    }
}

fn connect(path: &Path, flags: OpenFlags, settings: &str) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(BUSY_TIMEOUT_SECONDS))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.execute_batch(settings)?;
    Ok(connection)
}

/// Threads that read, each with a connection of its own; they end with this. Work that takes long elsewhere does not keep
/// them from reading.
pub(super) struct Readers {
    threads: Mutex<Vec<Reader>>,
    turns: Arc<Semaphore>,
    free: Arc<Free>,
}

struct Reader {
    work: std::sync::mpsc::Sender<Work>,
    thread: JoinHandle<()>,
}

/// What a reader is to do: it gets the connection, or why there is none, and gives it back unless that is in doubt. Beside it
/// the turn, which ends with it.
type Work = (
    Box<dyn FnOnce(Result<rusqlite::Connection, DbError>) -> Option<rusqlite::Connection> + Send>,
    OwnedSemaphorePermit,
);

/// Readers that have nothing to do, by position. There are as many as there are turns left.
#[derive(Default)]
struct Free(Mutex<Vec<usize>>);

impl Free {
    fn all(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    fn open(path: &Path, context: &'static str) -> Result<Self, DbError> {
        let free = Arc::new(Free::default());
        let mut threads = Vec::new();
        for at in 0..READERS_MAX as usize {
            let (work, waiting) = std::sync::mpsc::channel();
            let (path, free) = (path.to_owned(), Arc::clone(&free));
            let thread = std::thread::Builder::new().name(format!("read-{context}"));
            let thread = thread.spawn(move || read_loop(&path, &waiting, || free.all().push(at))).map_err(no_thread)?;
            threads.push(Reader { work, thread });
        }
        free.all().extend((0..READERS_MAX as usize).rev());
        let turns = Arc::new(Semaphore::new(READERS_MAX as usize));
        Ok(Self { threads: Mutex::new(threads), turns, free })
    }

    fn threads(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something with a connection; it gives the connection back, unless that is in doubt.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(rusqlite::Connection) -> (T, Option<rusqlite::Connection>) + Send + 'static,
    ) -> Result<T, DbError> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let turn = match tokio::time::timeout(Duration::from_secs(WRITE_WAIT_SECONDS_MAX), turn).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                let what = "no connection to the database became free in time";
                return Err(DbError::new(DbErrorKind::Unavailable, what)
                    .with_hint("check its load; the operation can be tried again"));
            }
        };
        let (answer, answered) = oneshot::channel();
        let work = move |connection| {
            let (outcome, connection) = match connection {
                Ok(connection) => {
                    let (given, connection) = work(connection);
                    (Ok(given), connection)
                }
                Err(error) => (Err(error), None),
            };
            // Nobody waits any more when the caller was cancelled.
            let _ = answer.send(outcome);
            connection
        };
        let reader = self.free.all().pop().ok_or_else(closed)?;
        let is_taken = self.threads().get(reader).map(|reader| reader.work.send((Box::new(work), turn)).is_ok());
        if is_taken != Some(true) {
            return Err(closed());
        }
        answered.await.map_err(|_| DbError::new(DbErrorKind::Panicked, "a read panicked"))?
    }

    pub(super) async fn fetch(&self, statement: Sql) -> Result<Vec<Row>, DbError> {
        self.with(move |connection| (statement.sqlite_rows(&connection), Some(connection))).await?
    }

    pub(super) async fn read<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: for<'s> FnOnce(&'s Snapshot) -> BoxFuture<'s, Result<T, E>> + Send + 'static,
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        let runtime = Handle::current();
        let read = self.with(move |connection| {
            if let Err(error) = connection.execute_batch("BEGIN") {
                return (Err(DbError::from(error).into()), None);
            }
            let snapshot = Snapshot::sqlite(connection);
            let outcome = runtime.block_on(snapshot.run(job));
            let connection = snapshot.into_sqlite();
            (outcome, connection.filter(|connection| connection.execute_batch("ROLLBACK").is_ok()))
        });
        read.await?
    }

    /// Waits until nobody reads any more.
    pub(super) async fn close(&self) {
        let all = self.turns.acquire_many(READERS_MAX).await;
        self.turns.close();
        drop(all);
        let threads: Vec<JoinHandle<()>> = self.threads().drain(..).map(|reader| reader.thread).collect();
        // One that panicked has ended, too.
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
    }
}

/// Does what comes until nothing can come any more. The connection is opened when it is wanted first.
fn read_loop(path: &Path, waiting: &std::sync::mpsc::Receiver<Work>, is_free: impl Fn()) {
    let mut known = None;
    while let Ok((work, turn)) = waiting.recv() {
        let open =
            || connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READING).map_err(|error| cannot_open(path, error));
        let connection = known.take().map_or_else(open, Ok);
        known = catch_unwind(AssertUnwindSafe(|| work(connection))).unwrap_or_default();
        is_free();
        drop(turn);
    }
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
        let Self { job, outcome, reply, .. } = *self;
        // Whoever hears of the outcome may rely on it that nothing that the job held is held any more.
        drop(job);
        let outcome = match (error, outcome) {
            (Some(error), _) => Err(error.into()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(waited_too_long().into()),
        };
        // Nobody waits any more when the caller was cancelled.
        let _ = reply.send(outcome);
    }
}

fn waited_too_long() -> DbError {
    DbError::new(
        DbErrorKind::Busy,
        format!("more is being written than the database can take: no turn within {WRITE_WAIT_SECONDS_MAX} seconds"),
    )
    .with_hint("try again later; check the disk's load")
}

fn closed() -> DbError {
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
        Ok(Err(_)) => return Err(closed().into()),
        Ok(Ok(())) => {}
    }
    answer.await.unwrap_or_else(|_| Err(closed().into()))
}

pub(super) async fn close(writer: &mpsc::Sender<Waiting>) {
    let (reply, closed) = oneshot::channel();
    if writer.send(Waiting::Close(reply)).await.is_ok() {
        let _ = closed.await;
    }
}

async fn write_loop(connection: rusqlite::Connection, path: &Path, mut queue: mpsc::Receiver<Waiting>) {
    let mut connection = Some(connection);
    loop {
        let first = match queue.recv().await {
            None => break,
            Some(Waiting::Close(reply)) => {
                queue.close();
                // A connection that cannot be closed has nothing left to lose: all answers were durable.
                drop(connection.take());
                let _ = reply.send(());
                break;
            }
            Some(Waiting::Job(job)) => job,
        };
        let open = connection.take().map_or_else(|| writing(path), Ok);
        match open {
            Err(error) => first.answer(Some(error)),
            Ok(open) => connection = group(open, first, &mut queue).await,
        }
    }
}

/// Runs the first job and all that wait behind it in one transaction, each in a savepoint of its own, commits once, and
/// only then answers them. Gives the connection back unless it is in doubt.
async fn group(
    connection: rusqlite::Connection,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Waiting>,
) -> Option<rusqlite::Connection> {
    let mut tx = Tx::new(Connection::Sqlite(connection));
    let mut done: Vec<Box<dyn Job>> = Vec::new();
    let mut closing = None;
    let outcome = async {
        control(&mut tx, "BEGIN IMMEDIATE")?;
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
        control(&mut tx, "COMMIT")
    }
    .await;
    let outcome = outcome.err();
    for job in done {
        job.answer(outcome.clone());
    }
    let Connection::Sqlite(connection) = tx.into_connection() else { return None };
    if let Some(reply) = closing {
        queue.close();
        drop(connection);
        let _ = reply.send(());
        return None;
    }
    // After a failed BEGIN, savepoint or COMMIT it is not certain what the connection still holds: dropping it rolls back.
    if outcome.is_some() { None } else { Some(connection) }
}

async fn run_in_savepoint(tx: &mut Tx, job: &mut dyn Job) -> Result<(), DbError> {
    control(tx, "SAVEPOINT job")?;
    if !job.run(tx).await {
        control(tx, "ROLLBACK TO job")?;
    }
    control(tx, "RELEASE job")
}

fn control(tx: &mut Tx, statement: &'static str) -> Result<(), DbError> {
    match &tx.state.get_mut().connection {
        Connection::Sqlite(connection) => Ok(connection.prepare_cached(statement)?.execute([]).map(drop)?),
        Connection::Postgres(_) => Err(DbError::new(DbErrorKind::Query, "not a SQLite transaction")),
    }
}
