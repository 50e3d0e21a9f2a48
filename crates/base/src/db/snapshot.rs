//! Several reads that see one moment.

use std::sync::{Mutex as Lock, PoisonError};

use futures::future::BoxFuture;
use sqlx::postgres::Postgres;
use tokio::sync::Mutex;

use super::error::DbError;
use super::job::caught;
use super::statement::{Queryable, Sql, postgres_rows};
use super::value::Row;
use super::{Backend, Db};

const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The data as it is when the first read of this begins: all reads see the same, whatever is written meanwhile.
pub struct Snapshot {
    connection: Connection,
}

enum Connection {
    Sqlite(Lock<rusqlite::Connection>),
    Postgres(Mutex<sqlx::Transaction<'static, Postgres>>),
}

impl Snapshot {
    pub(super) fn sqlite(connection: rusqlite::Connection) -> Self {
        Self { connection: Connection::Sqlite(Lock::new(connection)) }
    }

    pub(super) async fn run<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: for<'s> FnOnce(&'s Self) -> BoxFuture<'s, Result<T, E>>,
        E: From<DbError>,
    {
        caught("a read", async { job(self).await }).await?
    }

    pub(super) fn into_sqlite(self) -> Option<rusqlite::Connection> {
        match self.connection {
            Connection::Sqlite(connection) => Some(connection.into_inner().unwrap_or_else(PoisonError::into_inner)),
            Connection::Postgres(_) => None,
        }
    }
}

impl Db {
    /// Runs a job that reads one moment: every write that was acknowledged before its first read, and no other. It has a
    /// connection of its own and, on SQLite, a thread, where each statement is a mere call; so it is to be short, is to
    /// wait for nothing but its statements, and is not to read from the [`Db`] beside it.
    ///
    /// # Errors
    /// Whatever the job gives, and any [`DbError`]; [`DbErrorKind::Unavailable`](super::DbErrorKind::Unavailable) when no
    /// connection became free in time.
    pub async fn read<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: for<'s> FnOnce(&'s Snapshot) -> BoxFuture<'s, Result<T, E>> + Send + 'static,
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        match &*self.backend {
            Backend::Sqlite { reads, .. } => reads.read(job).await,
            Backend::Postgres { pool } => {
                let transaction = pool.begin_with(BEGIN_POSTGRES).await.map_err(DbError::from)?;
                Snapshot { connection: Connection::Postgres(Mutex::new(transaction)) }.run(job).await
            }
        }
    }
}

impl Queryable for Snapshot {
    async fn fetch(&self, statement: Sql) -> Result<Vec<Row>, DbError> {
        match &self.connection {
            Connection::Sqlite(connection) => {
                statement.sqlite_rows(&connection.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Connection::Postgres(connection) => Ok(postgres_rows(statement, &mut **connection.lock().await).await?),
        }
    }
}
