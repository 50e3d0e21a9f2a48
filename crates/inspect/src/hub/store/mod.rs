//! The data of the hub's side of inspection: the only SQL of this context.

mod advisories;
mod alerts;
mod attachments;
mod contents;
mod deployments;
mod held;
mod images;
mod layers;
mod lookup;
mod postings;

use base::db::{Db, Migration, Queryable, Row, Snapshot, Tx, sql};
use futures::future::BoxFuture;
use oci::Digest;

use super::error::Error;

pub(super) use advisories::{Change, Match, Vulnerability};
pub(super) use alerts::{Message, Pending, Reason, Sent, Worse};
pub(super) use attachments::{Attaching, Attachment, Kind, Lifted, Standing};
pub(super) use contents::{Entry, Kept};
pub(super) use deployments::{Exposed, ReleaseRow};
pub(super) use images::{Due, ImageRow, LayerRow, Outcome, State};
pub(super) use lookup::{Holders, Holding, Key, OwnedIn, Seek, platform_of};

#[cfg(test)]
mod tests;

/// The context's name, and that of its database.
pub const CONTEXT: &str = "inspect";
/// The schema, step by step.
pub const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "contents", sql: include_str!("../../../migrations/0001_contents.sql") },
    Migration { number: 2, name: "deployments", sql: include_str!("../../../migrations/0002_deployments.sql") },
    Migration { number: 3, name: "advisories", sql: include_str!("../../../migrations/0003_advisories.sql") },
    Migration { number: 4, name: "changes", sql: include_str!("../../../migrations/0004_changes.sql") },
    Migration { number: 5, name: "impact", sql: include_str!("../../../migrations/0005_impact.sql") },
    Migration { number: 6, name: "attached", sql: include_str!("../../../migrations/0006_attached.sql") },
    Migration { number: 7, name: "files-secrets", sql: include_str!("../../../migrations/0007_files_secrets.sql") },
    Migration { number: 8, name: "alerts", sql: include_str!("../../../migrations/0008_alerts.sql") },
    Migration { number: 9, name: "buckets", sql: include_str!("../../../migrations/0009_buckets.sql") },
    Migration { number: 10, name: "lifted", sql: include_str!("../../../migrations/0010_lifted.sql") },
    Migration { number: 11, name: "held", sql: include_str!("../../../migrations/0011_held.sql") },
    Migration { number: 12, name: "voiced", sql: include_str!("../../../migrations/0012_voiced.sql") },
];

/// The rows.
#[derive(Clone)]
pub(super) struct Store<Q = Db> {
    db: Q,
}

/// The rows of one moment, which can be read alone.
pub(super) type Moment<'s> = Store<&'s Snapshot>;

/// What [`raise`] counts changes of.
#[derive(Clone, Copy, Debug)]
enum Changing {
    /// Images: which there are, how each stands, where they are, which index has them.
    Images,
    /// Releases, what environments have, and what hosts run.
    Deployments,
}

impl Changing {
    const fn word(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Deployments => "deployments",
        }
    }
}

/// How often things changed: two that are equal were read of the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Changes {
    pub(super) images: i64,
    pub(super) deployments: i64,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Reads the rows of one moment: that of the first read.
    pub(super) async fn read<T, F>(&self, job: F) -> Result<T, Error>
    where
        F: for<'s> FnOnce(Moment<'s>) -> BoxFuture<'s, Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        self.db.read(move |snapshot| job(Store { db: snapshot })).await
    }

    /// How far something is.
    pub(super) async fn progress(&self, name: &str) -> Result<Option<String>, Error> {
        let row = sql("SELECT value FROM progress WHERE name = $1").bind(name).optional(&self.db).await?;
        Ok(row.map(|row| row.get("value")).transpose()?)
    }
}

impl<Q: Queryable> Store<Q> {
    /// How often things changed.
    pub(super) async fn changes(&self) -> Result<Changes, Error> {
        let mut changes = Changes::default();
        for row in sql("SELECT name, count FROM change").all(&self.db).await? {
            let (name, count): (String, i64) = (row.get("name")?, row.get("count")?);
            match name.as_str() {
                name if name == Changing::Images.word() => changes.images = count,
                name if name == Changing::Deployments.word() => changes.deployments = count,
                _ => {}
            }
        }
        Ok(changes)
    }
}

/// Counts a change. To be the last of a transaction that changes such rows: others wait for it from here on.
async fn raise(tx: &mut Tx, what: Changing) -> Result<(), Error> {
    sql("UPDATE change SET count = count + 1 WHERE name = $1").bind(what.word()).execute(tx).await?;
    Ok(())
}

/// Rows that one statement writes where many are to be written.
const ROWS: usize = 16;

/// The text of a statement with so many rows of values.
fn rows_text(head: &str, columns: usize, rows: usize, tail: &str) -> String {
    let row = |row: usize| {
        let slots: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", slots.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("{head} VALUES {} {tail}", rows.join(", "))
}

/// Rows with the text of the statement that writes them: [`ROWS`] of them at once, fewer one by one.
fn whole<'r, T>(rows: &'r [T], many: &'static str, one: &'static str) -> impl Iterator<Item = (&'static str, &'r [T])> {
    let (text, count) = if rows.len() == ROWS { (many, ROWS) } else { (one, 1) };
    rows.chunks(count).map(move |rows| (text, rows))
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
