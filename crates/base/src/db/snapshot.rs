//! Several reads that see one moment.

use sqlx::postgres::Postgres;
use sqlx::sqlite::Sqlite;
use tokio::sync::Mutex;

use super::error::DbError;
use super::statement::{Queryable, Sql, postgres_rows, sqlite_rows};
use super::value::Row;
use super::{Backend, Db};

const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The data as it is when the first read of this begins: all reads see the same, whatever is written meanwhile. It has a
/// connection of its own until it is dropped, so it is to be short, and nothing is to be read from the [`Db`] beside it.
pub struct Snapshot {
    connection: Mutex<Connection>,
}

enum Connection {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Db {
    /// Reads that see one moment: every write that was acknowledged before the first of them, and no other.
    ///
    /// # Errors
    /// Any [`DbError`]; [`DbErrorKind::Unavailable`](super::DbErrorKind::Unavailable) when no connection became free in
    /// time.
    pub async fn snapshot(&self) -> Result<Snapshot, DbError> {
        let connection = match &*self.backend {
            Backend::Sqlite { reads, .. } => Connection::Sqlite(reads.begin().await?),
            Backend::Postgres { pool } => Connection::Postgres(pool.begin_with(BEGIN_POSTGRES).await?),
        };
        Ok(Snapshot { connection: Mutex::new(connection) })
    }
}

impl Queryable for Snapshot {
    async fn fetch(&self, statement: Sql) -> Result<Vec<Row>, DbError> {
        match &mut *self.connection.lock().await {
            Connection::Sqlite(connection) => sqlite_rows(statement, &mut **connection).await,
            Connection::Postgres(connection) => postgres_rows(statement, &mut **connection).await,
        }
    }
}
