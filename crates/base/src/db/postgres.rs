//! PostgreSQL: one schema per context, serialisable transactions that are tried again when others got in between.

use std::str::FromStr as _;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, PgPool};

use super::Backend;
use super::error::{DbError, DbErrorKind, is_serialization_failure};
use super::job::attempt;
use super::migrate::{Migration, migrate_postgres};
use super::statement::{Connection, Tx};

/// Connections per context and process.
pub const CONNECTIONS_MAX: u32 = 8;
/// How often a transaction is tried when concurrent ones abort it.
pub const TRANSACTION_ATTEMPTS_MAX: u32 = 24;
const ACQUIRE_SECONDS_MAX: u64 = 15;
const STATEMENT_MILLIS_MAX: u32 = 30_000;
const CONNECTION_CHECK_MILLIS: u32 = 1000;
const RETRY_MILLIS_FIRST: u64 = 2;
const RETRY_MILLIS_MAX: u64 = 250;

const BEGIN: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE";

pub(super) async fn open(
    url: &str,
    context: &'static str,
    migrations: &'static [Migration],
) -> Result<Backend, DbError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(DbError::from)?
        .application_name("longshore")
        .disable_statement_logging()
        .options([
            ("search_path", context.to_owned()),
            ("synchronous_commit", "on".to_owned()),
            // Single reads cannot change anything by mistake, as on SQLite.
            ("default_transaction_read_only", "on".to_owned()),
            ("statement_timeout", STATEMENT_MILLIS_MAX.to_string()),
            // The work of a process that was killed ends and frees its locks; needs PostgreSQL 14.
            ("client_connection_check_interval", CONNECTION_CHECK_MILLIS.to_string()),
            ("idle_in_transaction_session_timeout", STATEMENT_MILLIS_MAX.to_string()),
        ]);
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS_MAX))
        .connect_with(options)
        .await
        .map_err(|error| {
            DbError::new(DbErrorKind::Unavailable, "the PostgreSQL database cannot be opened")
                .with_source(error)
                .with_hint("check that the server is up and that the URL's host, user, password and database are right")
        })?;
    let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    // Two processes that start at once must not migrate at once: the lock is held until the transaction ends.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("longshore migrations {context}"))
        .execute(&mut *transaction)
        .await?;
    sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {context}"))).execute(&mut *transaction).await?;
    migrate_postgres(&mut transaction, context, migrations).await?;
    text_order_set(&mut transaction, context).await?;
    transaction.commit().await?;
    Ok(Backend::Postgres { pool })
}

/// Statements, one a table, that give columns of text the order of bytes; none once they have it.
const TEXT_ORDER: &str = r#"
SELECT format('ALTER TABLE %I.%I %s', n.nspname, c.relname,
    string_agg(format('ALTER COLUMN %I TYPE %s COLLATE pg_catalog."C"', a.attname, format_type(a.atttypid, a.atttypmod)), ', '))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attcollation NOT IN (0, 'pg_catalog."C"'::regcollation)
GROUP BY n.nspname, c.relname"#;

/// Orders text by its bytes, as SQLite does, whatever the order of the database is. Here, and not in each migration,
/// because SQLite has no collation of that name, and a column where it was forgotten would make pages skip rows.
async fn text_order_set(connection: &mut PgConnection, context: &str) -> Result<(), DbError> {
    let statements: Vec<String> = sqlx::query_scalar(TEXT_ORDER).bind(context).fetch_all(&mut *connection).await?;
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn write<T, E, F>(pool: &PgPool, job: F) -> Result<T, E>
where
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    E: From<DbError> + Send + 'static,
    T: Send + 'static,
{
    let mut pause_millis_max = RETRY_MILLIS_FIRST;
    for _ in 0..TRANSACTION_ATTEMPTS_MAX {
        match try_once(pool, &job).await {
            Outcome::Done(outcome) => return outcome,
            Outcome::Again => {
                let pause_millis = rand::random_range(1..=pause_millis_max);
                tokio::time::sleep(Duration::from_millis(pause_millis)).await;
                pause_millis_max = (pause_millis_max * 2).min(RETRY_MILLIS_MAX);
            }
        }
    }
    Err(DbError::new(
        DbErrorKind::Contended,
        format!("concurrent changes got in between {TRANSACTION_ATTEMPTS_MAX} times in a row; nothing was changed"),
    )
    .with_hint("try again")
    .into())
}

enum Outcome<T, E> {
    Done(Result<T, E>),
    Again,
}

async fn try_once<T, E, F>(pool: &PgPool, job: &F) -> Outcome<T, E>
where
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync,
    E: From<DbError>,
{
    let transaction = match pool.begin_with(BEGIN).await {
        Ok(transaction) => transaction,
        Err(error) => return Outcome::Done(Err(DbError::from(error).into())),
    };
    let mut tx = Tx::new(Connection::Postgres(transaction));
    let outcome = attempt(job, &mut tx).await;
    let again = tx.serialization_failed();
    let Connection::Postgres(transaction) = tx.into_connection() else {
        return Outcome::Done(Err(DbError::new(DbErrorKind::Query, "not a PostgreSQL transaction").into()));
    };
    match outcome {
        Ok(value) => match transaction.commit().await {
            Ok(()) => Outcome::Done(Ok(value)),
            Err(error) if is_serialization_failure(&error) => Outcome::Again,
            Err(error) => Outcome::Done(Err(DbError::from(error).into())),
        },
        Err(error) => {
            // A connection that cannot roll back is broken and is not reused; the server rolls back by itself.
            let _ = transaction.rollback().await;
            if again { Outcome::Again } else { Outcome::Done(Err(error)) }
        }
    }
}
