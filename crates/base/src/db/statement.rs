//! Statements, and what they can be run on: the database for single reads, a transaction for everything.

use std::sync::Arc;

use futures::TryStreamExt as _;
use rusqlite::CachedStatement;
use rusqlite::types::Value as Cell;
use sqlx::postgres::{PgArguments, Postgres};
use tokio::sync::Mutex;
use tracing::Instrument as _;

use super::error::{DbError, DbErrorKind, is_serialization_failure};
use super::value::{Inner, List, Row, SqliteRow, Value};
use super::{Backend, Db};

/// Rows of one answer at most: statements that could give more have to be paged.
pub const ROWS_MAX: usize = 100_000;
/// Values of one list at most.
pub const LIST_MAX: usize = 1000;

/// A statement with its values. The text is one for both databases: `$1` placeholders in ascending order, `BIGINT`,
/// `TEXT` and `BYTEA` columns, sums cast back to `BIGINT`. A list is bound to `= ANY($1)`, written in this very way.
#[derive(Clone, Debug)]
#[must_use = "a statement does nothing until it is run"]
pub struct Sql {
    text: &'static str,
    values: Vec<Value>,
}

/// Starts a statement.
pub fn sql(text: &'static str) -> Sql {
    Sql { text, values: Vec::new() }
}

impl Sql {
    /// Binds the next placeholder.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs a statement that changes something and gives the number of rows that it touched.
    ///
    /// # Errors
    /// Any [`DbError`]; after one the transaction is lost on both databases: whatever the job answers, it is rolled
    /// back. Where a conflict is expected, use `ON CONFLICT DO NOTHING` and look at the count.
    pub async fn execute(self, tx: &mut Tx) -> Result<u64, DbError> {
        let mut state = tx.state.lock().await;
        state.check()?;
        let outcome = match &mut state.connection {
            Connection::Sqlite(connection) => self.sqlite_run(connection),
            Connection::Postgres(connection) => match self.postgres().execute(&mut **connection).await {
                Ok(done) => Ok(done.rows_affected()),
                Err(error) => return Err(state.fail_postgres(error)),
            },
        };
        outcome.map_err(|error| state.fail(error))
    }

    /// All rows of the answer.
    ///
    /// # Errors
    /// Any [`DbError`]; [`DbErrorKind::RowCount`] above [`ROWS_MAX`].
    pub async fn all<Q: Queryable + ?Sized>(self, on: &Q) -> Result<Vec<Row>, DbError> {
        on.fetch(self).await
    }

    /// The only row of the answer, or none.
    ///
    /// # Errors
    /// Any [`DbError`]; [`DbErrorKind::RowCount`] when there are several.
    pub async fn optional<Q: Queryable + ?Sized>(self, on: &Q) -> Result<Option<Row>, DbError> {
        let text = self.text;
        let mut rows = on.fetch(self).await?;
        if rows.len() > 1 {
            return Err(DbError::new(
                DbErrorKind::RowCount,
                format!("{} rows where one was expected: {text}", rows.len()),
            ));
        }
        Ok(rows.pop())
    }

    /// The only row of the answer.
    ///
    /// # Errors
    /// Any [`DbError`]; [`DbErrorKind::RowCount`] when there is none or several.
    pub async fn one<Q: Queryable + ?Sized>(self, on: &Q) -> Result<Row, DbError> {
        let text = self.text;
        let row = self.optional(on).await?;
        row.ok_or_else(|| DbError::new(DbErrorKind::RowCount, format!("no row where one was expected: {text}")))
    }

    /// The statement on SQLite, with its values.
    fn sqlite<'c>(&self, on: &'c rusqlite::Connection) -> Result<CachedStatement<'c>, DbError> {
        let text = self.with_json_lists();
        let mut statement = on.prepare_cached(text.as_deref().unwrap_or(self.text))?;
        for slot in 1..=statement.parameter_count() {
            // To SQLite `$2` is a name, and the place of a name is where it first stands.
            let named = statement.parameter_name(slot).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
            let value = named.and_then(|number| self.values.get(number.checked_sub(1)?));
            match value {
                Some(Value::Integer(value)) => statement.raw_bind_parameter(slot, value)?,
                Some(Value::Text(value)) => statement.raw_bind_parameter(slot, value)?,
                Some(Value::Bytes(value)) => statement.raw_bind_parameter(slot, value)?,
                Some(Value::List(list)) => statement.raw_bind_parameter(slot, list.json())?,
                None => {
                    let what = format!("no value is bound to placeholder {slot} of: {}", self.text);
                    return Err(DbError::new(DbErrorKind::Query, what));
                }
            }
        }
        Ok(statement)
    }

    /// Runs it on SQLite and gives the number of rows that it touched.
    fn sqlite_run(&self, on: &rusqlite::Connection) -> Result<u64, DbError> {
        let mut statement = self.sqlite(on)?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        Ok(on.changes())
    }

    /// Runs it on SQLite and gives its rows.
    pub(super) fn sqlite_rows(&self, on: &rusqlite::Connection) -> Result<Vec<Row>, DbError> {
        let mut statement = self.sqlite(on)?;
        let names: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.raw_query();
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            if all.len() == ROWS_MAX {
                return Err(too_many());
            }
            let cells =
                (0..names.len()).map(|at| Ok(Cell::try_from(row.get_ref(at)?)?)).collect::<Result<_, DbError>>()?;
            all.push(Row(Inner::Sqlite(SqliteRow { names: Arc::clone(&names), cells })));
        }
        Ok(all)
    }

    /// The text with what stands for lists in it as SQLite takes it; none when there are no lists.
    fn with_json_lists(&self) -> Option<String> {
        let mut text = None;
        for (at, value) in self.values.iter().enumerate() {
            if let Value::List(list) = value {
                let slot = at + 1;
                let json = format!("IN (SELECT {} FROM json_each(${slot}))", list.json_value());
                text = Some(text.as_deref().unwrap_or(self.text).replace(&format!("= ANY(${slot})"), &json));
            }
        }
        text
    }

    fn postgres(self) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        self.values.into_iter().fold(sqlx::query(self.text), |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::List(List::Integers(list)) => query.bind(list),
            Value::List(List::Texts(list)) => query.bind(list),
            Value::List(List::Bytes(list)) => query.bind(list),
        })
    }
}

/// The rows of a statement that is run on PostgreSQL.
pub(super) async fn postgres_rows<'c, E>(statement: Sql, on: E) -> Result<Vec<Row>, Fetch>
where
    E: sqlx::Executor<'c, Database = Postgres> + 'c,
{
    let mut rows = statement.postgres().fetch(on);
    let mut all = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(Fetch::Database)? {
        if all.len() == ROWS_MAX {
            return Err(Fetch::TooMany);
        }
        all.push(Row(Inner::Postgres(row)));
    }
    Ok(all)
}

pub(super) enum Fetch {
    Database(sqlx::Error),
    TooMany,
}

fn too_many() -> DbError {
    DbError::new(DbErrorKind::RowCount, format!("the answer has more than {ROWS_MAX} rows"))
}

impl From<Fetch> for DbError {
    fn from(fetch: Fetch) -> Self {
        match fetch {
            Fetch::Database(error) => error.into(),
            Fetch::TooMany => too_many(),
        }
    }
}

/// What a read can run on: [`Db`] (a connection of the pool), [`Snapshot`](super::Snapshot) (sees one moment) or [`Tx`]
/// (sees the transaction's own changes).
pub trait Queryable: Sync {
    /// Runs the statement and gives its rows.
    fn fetch(&self, statement: Sql) -> impl Future<Output = Result<Vec<Row>, DbError>> + Send;
}

impl<Q: Queryable + ?Sized> Queryable for &Q {
    fn fetch(&self, statement: Sql) -> impl Future<Output = Result<Vec<Row>, DbError>> + Send {
        (**self).fetch(statement)
    }
}

impl<Q: Queryable + Send + ?Sized> Queryable for &mut Q {
    fn fetch(&self, statement: Sql) -> impl Future<Output = Result<Vec<Row>, DbError>> + Send {
        (**self).fetch(statement)
    }
}

impl Queryable for Db {
    async fn fetch(&self, statement: Sql) -> Result<Vec<Row>, DbError> {
        let span = tracing::trace_span!(
            "database read",
            otel.kind = "client",
            db.system.name = self.backend.name(),
            db.namespace = self.writes.context(),
            db.query.text = statement.text
        );
        let read = async {
            match &*self.backend {
                Backend::Sqlite { reads, .. } => reads.fetch(statement).await,
                Backend::Postgres { pool } => Ok(postgres_rows(statement, pool).await?),
            }
        };
        read.instrument(span).await
    }
}

/// A transaction, as a job of [`Db::write`] gets it.
pub struct Tx {
    pub(super) state: Mutex<TxState>,
}

pub(super) struct TxState {
    pub(super) connection: Connection,
    failed: Option<DbError>,
    serialization_failure: bool,
}

pub(super) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl TxState {
    /// PostgreSQL refuses every statement after a failed one. SQLite would go on; being stricter than it keeps a job
    /// from working on one database and failing on the other.
    fn check(&self) -> Result<(), DbError> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    fn fail(&mut self, error: DbError) -> DbError {
        self.failed = Some(error.clone());
        error
    }

    fn fail_postgres(&mut self, error: sqlx::Error) -> DbError {
        self.serialization_failure |= is_serialization_failure(&error);
        self.fail(error.into())
    }
}

impl Tx {
    pub(super) fn new(connection: Connection) -> Self {
        Self { state: Mutex::new(TxState { connection, failed: None, serialization_failure: false }) }
    }

    pub(super) fn into_connection(self) -> Connection {
        self.state.into_inner().connection
    }

    /// The first error of a statement since the last call.
    pub(super) fn failure_take(&mut self) -> Option<DbError> {
        self.state.get_mut().failed.take()
    }

    pub(super) fn serialization_failed(&mut self) -> bool {
        self.state.get_mut().serialization_failure
    }
}

impl Queryable for Tx {
    async fn fetch(&self, statement: Sql) -> Result<Vec<Row>, DbError> {
        let mut state = self.state.lock().await;
        state.check()?;
        match &mut state.connection {
            Connection::Sqlite(connection) => statement.sqlite_rows(connection).map_err(|error| match error.kind() {
                DbErrorKind::RowCount => error,
                _ => state.fail(error),
            }),
            Connection::Postgres(connection) => {
                postgres_rows(statement, &mut **connection).await.map_err(|fetch| match fetch {
                    Fetch::Database(error) => state.fail_postgres(error),
                    Fetch::TooMany => too_many(),
                })
            }
        }
    }
}
