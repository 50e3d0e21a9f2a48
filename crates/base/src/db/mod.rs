//! One way to keep data in SQLite or PostgreSQL, with one SQL text for both.
//!
//! Invariants:
//! - A write is answered only after it is durable (SQLite: WAL with `synchronous=FULL`; PostgreSQL: `synchronous_commit=on`).
//! - Writes are serialisable on both, so a job may read, decide and write without locks of its own. A job may run more than once.
//! - Text is compared and ordered by its bytes on both, so that a page can go on after the last name of the one before.
//! - Every queue, wait and retry has a bound.
//!
//! Reads that do not belong to a write run on [`Db`] itself, each on its own; the latest acknowledged write is visible.
//! Those that must agree with one another run on a [`Snapshot`].

mod error;
mod job;
mod migrate;
mod observed;
mod postgres;
mod snapshot;
mod sqlite;
mod statement;
#[doc(hidden)]
pub mod testing;
mod value;

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::Instrument as _;

pub use error::{DbError, DbErrorKind};
pub use job::JOB_SECONDS_MAX;
pub use migrate::Migration;
pub use postgres::{CONNECTIONS_MAX, TRANSACTION_ATTEMPTS_MAX};
pub use snapshot::Snapshot;
pub use sqlite::{GROUP_JOBS_MAX, GROUP_MILLIS_MAX, READERS_MAX, WRITE_QUEUE_JOBS_MAX, WRITE_WAIT_SECONDS_MAX};
pub use statement::{LIST_MAX, Queryable, ROWS_MAX, Sql, Tx, sql};
pub use value::{Column, List, Row, Value};

/// Where the data is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseConfig {
    /// A folder with one SQLite file per context. It must be on a local file system.
    Sqlite {
        /// The folder; made when missing.
        folder: PathBuf,
    },
    /// One PostgreSQL database with one schema per context.
    Postgres {
        /// `postgres://USER:PASSWORD@HOST/DATABASE`, or with `?host=/FOLDER` for a Unix socket.
        url: String,
    },
}

impl std::fmt::Debug for DatabaseConfig {
    // The URL holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite { folder } => write!(f, "Sqlite({})", folder.display()),
            Self::Postgres { .. } => f.write_str("Postgres"),
        }
    }
}

/// The data of one context. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    backend: Arc<Backend>,
    writes: observed::Writes,
}

enum Backend {
    Sqlite { reads: sqlite::Readers, writer: mpsc::Sender<sqlite::Waiting> },
    Postgres { pool: sqlx::PgPool },
}

impl Backend {
    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgresql",
        }
    }
}

/// Opens the data of a context and brings its tables up to date.
///
/// `context` is the name of the file or schema: lowercase letters, digits and `_`, beginning with a letter. `migrations`
/// are numbered 1, 2, 3, … and are never changed once they are released; all pending ones are applied in one
/// transaction, so being killed half way leaves the old state.
///
/// # Errors
/// [`DbErrorKind::NewerSchema`] and [`DbErrorKind::ChangedMigration`] when the data does not fit the program,
/// [`DbErrorKind::Unavailable`] when it cannot be opened.
pub async fn open(
    config: &DatabaseConfig,
    context: &'static str,
    migrations: &'static [Migration],
) -> Result<Db, DbError> {
    let named = context.starts_with(|first: char| first.is_ascii_lowercase())
        && !context.starts_with("pg_")
        && context.len() <= 40
        && context.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !named {
        return Err(DbError::new(DbErrorKind::Query, format!("`{context}` is not the name of a context")));
    }
    migrate::check_numbers(migrations)?;
    let backend = match config {
        DatabaseConfig::Sqlite { folder } => sqlite::open(folder, context, migrations).await?,
        DatabaseConfig::Postgres { url } => postgres::open(url, context, migrations).await?,
    };
    Ok(Db { backend: Arc::new(backend), writes: observed::Writes::new(context) })
}

impl Db {
    /// Runs a job in a transaction and answers when its changes are durable. When the job gives an error, panics, takes
    /// longer than [`JOB_SECONDS_MAX`] or ignores the failure of a statement, all its changes are undone.
    ///
    /// The job sees all writes acknowledged before and no others half done. It may run more than once, so what it does
    /// besides its statements must not matter. It must not call `write` itself: on SQLite that would wait for itself.
    ///
    /// # Errors
    /// Whatever the job gives, and any [`DbError`]; after an error of kind [`DbErrorKind::Unavailable`] or
    /// [`DbErrorKind::Timeout`] it is not known whether the changes were kept.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        let _under_way = self.writes.begin();
        let span = tracing::trace_span!(
            "database write",
            otel.kind = "client",
            db.system.name = self.backend.name(),
            db.namespace = self.writes.context()
        );
        let write = async {
            match &*self.backend {
                Backend::Sqlite { writer, .. } => sqlite::write(writer, job).await,
                Backend::Postgres { pool } => postgres::write(pool, job).await,
            }
        };
        write.instrument(span).await
    }

    /// Whether other processes may write to the same data. A folder of SQLite files has one hub.
    pub fn is_shared(&self) -> bool {
        matches!(*self.backend, Backend::Postgres { .. })
    }

    /// Waits until open statements have ended and closes the connections. Without it they close by themselves, later.
    pub async fn close(&self) {
        match &*self.backend {
            Backend::Sqlite { reads, writer } => {
                reads.close().await;
                sqlite::close(writer).await;
            }
            Backend::Postgres { pool } => pool.close().await,
        }
    }
}
