//! The data of the hub's side of inspection: the only SQL of this context.

mod advisories;
mod alerts;
mod contents;
mod deployments;
mod images;
mod lookup;
mod postings;

use base::db::{Db, Migration, Row, Tx, sql};
use oci::Digest;

use super::error::Error;

pub(super) use advisories::{Change, Match, Vulnerability};
pub(super) use alerts::{Message, Pending, Reason, Sent, Worse};
pub(super) use contents::{Entry, Kept};
pub(super) use deployments::{Exposed, ReleaseRow};
pub(super) use images::{Due, ImageRow, LayerRow, Outcome, State};
pub(super) use lookup::{Holder, Key, Seek};
pub(super) use postings::Held;

#[cfg(test)]
mod tests;

/// The context's name, and that of its database.
pub const CONTEXT: &str = "inspect";
/// The schema, step by step.
pub const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "contents", sql: include_str!("../../../migrations/0001_contents.sql") },
    Migration { number: 2, name: "deployments", sql: include_str!("../../../migrations/0002_deployments.sql") },
    Migration { number: 3, name: "advisories", sql: include_str!("../../../migrations/0003_advisories.sql") },
    Migration { number: 4, name: "alerts", sql: include_str!("../../../migrations/0004_alerts.sql") },
];

/// Values of one list in a statement: longer lists are asked for in several.
pub(super) const SLOTS: usize = 20;

/// The rows. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store {
    db: Db,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// How far something is.
    pub(super) async fn progress(&self, name: &str) -> Result<Option<String>, Error> {
        let row = sql("SELECT value FROM progress WHERE name = $1").bind(name).optional(&self.db).await?;
        Ok(row.map(|row| row.get("value")).transpose()?)
    }
}

async fn progress_set(tx: &mut Tx, name: &str, value: &str) -> Result<(), Error> {
    sql("INSERT INTO progress (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
        .bind(name)
        .bind(value)
        .execute(tx)
        .await?;
    Ok(())
}

/// The first of `count` new numbers.
async fn numbers_take(tx: &mut Tx, name: &str, count: usize) -> Result<i64, Error> {
    let count = i64::try_from(count).map_err(|_| damaged("count", "it is too large"))?;
    let row = sql("UPDATE numbers SET last = last + $1 WHERE name = $2 RETURNING last");
    let last: i64 = row.bind(count).bind(name).one(tx).await?.get("last")?;
    Ok(last - count + 1)
}

fn damaged(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Damaged { what: format!("{what}: {why}") }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(row: &Row, column: &'static str) -> Result<T, Error> {
    row.get::<String>(column)?.parse().map_err(|error| damaged(column, error))
}

fn digest(row: &Row, column: &'static str) -> Result<Digest, Error> {
    parsed(row, column)
}

/// The statement with a list bound, the last value repeated in slots that are left over.
fn slots(mut statement: base::db::Sql, values: &[String]) -> base::db::Sql {
    for slot in 0..SLOTS {
        statement = statement.bind(values.get(slot).or(values.last()).map_or("", String::as_str));
    }
    statement
}

/// The same for numbers.
fn slots_number(mut statement: base::db::Sql, values: &[i64]) -> base::db::Sql {
    for slot in 0..SLOTS {
        statement = statement.bind(values.get(slot).or(values.last()).copied().unwrap_or_default());
    }
    statement
}
