//! Migrations: which are applied, whether they still say the same, and which are to come.

use rusqlite::params;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Row as _};

use super::error::{DbError, DbErrorKind};
use crate::clock::Micros;

/// One step of a schema. `sql` may hold several statements; it is the text of a file `migrations/0001_name.sql`.
#[derive(Copy, Clone, Debug)]
pub struct Migration {
    /// 1, 2, 3, …
    pub number: u32,
    /// For people; part of the file's name.
    pub name: &'static str,
    /// The statements, valid on both databases.
    pub sql: &'static str,
}

/// Tables that this crate keeps in every context's database, for the outbox and for leases.
const OWN: &[Migration] =
    &[Migration { number: 1, name: "outbox_and_lease", sql: include_str!("migrations/0001_outbox_and_lease.sql") }];

const TABLE: &str = "CREATE TABLE IF NOT EXISTS base_migration (
    owner TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at BIGINT NOT NULL,
    PRIMARY KEY (owner, number)
)";
const OWNER_SELF: &str = "base";
const OWNER_CONTEXT: &str = "context";

pub(super) fn check_numbers(migrations: &[Migration]) -> Result<(), DbError> {
    for (wanted, migration) in (1u32..).zip(migrations) {
        if migration.number != wanted {
            return Err(DbError::new(
                DbErrorKind::Migration,
                format!("migration {} ({}) stands where {wanted} was expected", migration.number, migration.name),
            ));
        }
    }
    Ok(())
}

struct Applied {
    owner: String,
    number: u32,
    sha256: String,
}

fn sha256(migration: &Migration) -> String {
    hex::encode(Sha256::digest(migration.sql.as_bytes()))
}

/// The migrations that are still to be applied.
fn pending(
    context: &str,
    owner: &str,
    known: &'static [Migration],
    applied: &[Applied],
) -> Result<Vec<Migration>, DbError> {
    let mut done = 0u32;
    for row in applied.iter().filter(|row| row.owner == owner) {
        match known.iter().find(|migration| migration.number == row.number) {
            None => {
                return Err(DbError::new(
                    DbErrorKind::NewerSchema,
                    format!(
                        "the data of `{context}` has schema {}, and this version of the program knows only {}",
                        row.number,
                        known.len()
                    ),
                )
                .with_hint(
                    "start the newer version that wrote the data, or restore a backup from before the upgrade",
                ));
            }
            Some(migration) if sha256(migration) != row.sha256 => {
                return Err(DbError::new(
                    DbErrorKind::ChangedMigration,
                    format!(
                        "migration {} ({}) of `{context}` was applied with another text",
                        row.number, migration.name
                    ),
                )
                .with_hint("use the build of the program that wrote the data; a released migration is never changed"));
            }
            Some(_) => done = done.max(row.number),
        }
    }
    Ok(known.iter().filter(|migration| migration.number > done).copied().collect())
}

fn failed(context: &str, migration: &Migration, error: impl std::error::Error + Send + Sync + 'static) -> DbError {
    DbError::new(
        DbErrorKind::Migration,
        format!("migration {} ({}) of `{context}` failed and was undone", migration.number, migration.name),
    )
    .with_source(error)
}

const APPLIED: &str = "SELECT owner, number, sha256 FROM base_migration ORDER BY owner, number";
const NOTE: &str = "INSERT INTO base_migration (owner, number, name, sha256, applied_at) VALUES ($1, $2, $3, $4, $5)";

/// What is to be applied, in this order, with whose it is.
fn steps(
    context: &str,
    migrations: &'static [Migration],
    applied: &[Applied],
) -> Result<Vec<(&'static str, Migration)>, DbError> {
    let mut steps = Vec::new();
    for (owner, known) in [(OWNER_SELF, OWN), (OWNER_CONTEXT, migrations)] {
        steps.extend(pending(context, owner, known, applied)?.into_iter().map(|migration| (owner, migration)));
    }
    Ok(steps)
}

/// Applies what is pending within the open transaction of the connection.
pub(super) fn migrate_sqlite(
    connection: &rusqlite::Connection,
    context: &str,
    migrations: &'static [Migration],
) -> Result<(), DbError> {
    connection.execute_batch(TABLE)?;
    let applied = connection
        .prepare(APPLIED)?
        .query_map([], |row| Ok(Applied { owner: row.get(0)?, number: row.get(1)?, sha256: row.get(2)? }))?
        .collect::<Result<Vec<Applied>, _>>()?;
    for (owner, migration) in steps(context, migrations, &applied)? {
        connection.execute_batch(migration.sql).map_err(|error| failed(context, &migration, error))?;
        connection
            .execute(NOTE, params![owner, migration.number, migration.name, sha256(&migration), Micros::now().0])?;
    }
    Ok(())
}

/// Applies what is pending within the open transaction of the connection.
pub(super) async fn migrate_postgres(
    connection: &mut sqlx::PgConnection,
    context: &str,
    migrations: &'static [Migration],
) -> Result<(), DbError> {
    sqlx::query(TABLE).execute(&mut *connection).await?;
    let mut applied = Vec::new();
    for row in sqlx::query(APPLIED).fetch_all(&mut *connection).await? {
        let number: i64 = row.try_get("number")?;
        applied.push(Applied {
            owner: row.try_get("owner")?,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            sha256: row.try_get("sha256")?,
        });
    }
    for (owner, migration) in steps(context, migrations, &applied)? {
        sqlx::raw_sql(AssertSqlSafe(migration.sql))
            .execute(&mut *connection)
            .await
            .map_err(|error| failed(context, &migration, error))?;
        sqlx::query(NOTE)
            .bind(owner)
            .bind(i64::from(migration.number))
            .bind(migration.name)
            .bind(sha256(&migration))
            .bind(Micros::now().0)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
