//! What can go wrong with a database, by kind, with a cause and a next step.

use std::fmt;
use std::sync::Arc;

use rusqlite::ffi;

/// The kinds of [`DbError`]; callers decide by these and never by text.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum DbErrorKind {
    /// The database cannot be reached, opened or written (connection, disk, permissions).
    Unavailable,
    /// The database's disk is full.
    Full,
    /// Too much waits to be written, or another transaction holds what is needed for too long.
    Busy,
    /// A transaction was aborted again and again because of concurrent ones.
    Contended,
    /// A unique key exists already.
    UniqueViolation,
    /// A row that is referred to does not exist, or is still referred to.
    ForeignKeyViolation,
    /// A CHECK or NOT NULL constraint refused a value.
    CheckViolation,
    /// The data was written by a newer version of the program.
    NewerSchema,
    /// A migration that was applied has another text now.
    ChangedMigration,
    /// A migration could not be applied, or the list of migrations is not 1, 2, 3, ….
    Migration,
    /// A column does not exist or holds something else than asked for.
    Decode,
    /// One row was asked for and there is none, or there are several.
    RowCount,
    /// A job took too long and was rolled back.
    Timeout,
    /// A job panicked and was rolled back.
    Panicked,
    /// A lease that the transaction depends on belongs to someone else now.
    LeaseLost,
    /// The statement itself is wrong.
    Query,
}

/// An error of the database. The text says what and why; [`DbError::hint`] what to do next.
#[derive(Clone)]
pub struct DbError {
    kind: DbErrorKind,
    what: String,
    hint: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl DbError {
    pub(crate) fn new(kind: DbErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, source: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    fn of((kind, what, hint): Meaning, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let error = Self::new(kind, what).with_source(source);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// The kind of error.
    pub fn kind(&self) -> DbErrorKind {
        self.kind
    }

    /// What to do next, where something can be done.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether a unique key existed already.
    pub fn is_unique_violation(&self) -> bool {
        self.kind == DbErrorKind::UniqueViolation
    }

    /// Whether trying again later may succeed without anyone changing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.kind,
            DbErrorKind::Unavailable
                | DbErrorKind::Full
                | DbErrorKind::Busy
                | DbErrorKind::Contended
                | DbErrorKind::Timeout
        )
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

// The source is part of the text already; naming it again as `source()` would print it twice.
impl std::error::Error for DbError {}

/// Whether PostgreSQL aborted the transaction only because of concurrent ones: serialization_failure and
/// deadlock_detected (appendix A of its manual).
pub(super) fn is_serialization_failure(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        let meaning = match error.sqlite_error() {
            // SQLite's result codes: sqlite.org/rescode.html.
            Some(code) => match code.extended_code {
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => UNIQUE,
                ffi::SQLITE_CONSTRAINT_FOREIGNKEY => FOREIGN_KEY,
                ffi::SQLITE_CONSTRAINT_CHECK => CHECK,
                ffi::SQLITE_CONSTRAINT_NOTNULL => MISSING,
                // Its one cause is a full disk.
                ffi::SQLITE_IOERR_SHMSIZE => FULL,
                code => match code & 0xff {
                    ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => BUSY,
                    ffi::SQLITE_FULL => FULL,
                    ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN | ffi::SQLITE_PERM | ffi::SQLITE_AUTH => (
                        DbErrorKind::Unavailable,
                        "the database file cannot be opened or written",
                        Some("check the rights of the data folder"),
                    ),
                    ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => (
                        DbErrorKind::Unavailable,
                        "the database file is damaged",
                        Some("restore it from a backup; keep the damaged file"),
                    ),
                    ffi::SQLITE_IOERR => (
                        DbErrorKind::Unavailable,
                        "the database's disk failed",
                        Some("check the disk and the system's log"),
                    ),
                    _ => FAILED,
                },
            },
            None => FAILED,
        };
        Self::of(meaning, error)
    }
}

impl From<rusqlite::types::FromSqlError> for DbError {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::new(DbErrorKind::Decode, "a column cannot be read").with_source(error)
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let (kind, what, hint) = match &error {
            E::Database(database) if database.is_unique_violation() => UNIQUE,
            E::Database(database) if database.is_foreign_key_violation() => FOREIGN_KEY,
            E::Database(database) if database.is_check_violation() => CHECK,
            E::Database(database) => postgres_kind(database.code().as_deref().unwrap_or_default()),
            E::ColumnNotFound(_) | E::ColumnDecode { .. } | E::Decode(_) | E::TypeNotFound { .. } => {
                (DbErrorKind::Decode, "a column is not what was asked for", None)
            }
            E::RowNotFound => (DbErrorKind::RowCount, "the row does not exist", None),
            E::PoolTimedOut => (
                DbErrorKind::Unavailable,
                "no connection to the database became free in time",
                Some("check that the database is up and its load; the operation can be tried again"),
            ),
            E::Configuration(_) => {
                (DbErrorKind::Unavailable, "the database's address is not valid", Some("correct the database URL"))
            }
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolClosed | E::WorkerCrashed => {
                (DbErrorKind::Unavailable, "the database cannot be reached", Some(HINT_REACH))
            }
            _ => FAILED,
        };
        Self::of((kind, what, hint), error)
    }
}

const HINT_REACH: &str = "check that the database is up and that its address and rights are right";

/// What an error is: its kind, a text, and what to do.
type Meaning = (DbErrorKind, &'static str, Option<&'static str>);

const UNIQUE: Meaning = (DbErrorKind::UniqueViolation, "the key exists already", None);
const FOREIGN_KEY: Meaning =
    (DbErrorKind::ForeignKeyViolation, "a row that is referred to does not exist or is in use", None);
const CHECK: Meaning = (DbErrorKind::CheckViolation, "a value is outside of what the table allows", None);
const MISSING: Meaning = (DbErrorKind::CheckViolation, "a value is missing", None);
const BUSY: Meaning = (
    DbErrorKind::Busy,
    "the database is locked by another writer",
    Some("try again; only one hub may use a data folder"),
);
const FULL: Meaning = (DbErrorKind::Full, "the database's disk is full", Some("free some space; nothing was lost"));
const FAILED: Meaning = (DbErrorKind::Query, "the statement failed", None);

/// What PostgreSQL's codes mean: five characters, in appendix A of its manual.
fn postgres_kind(code: &str) -> Meaning {
    let begins = |start: &str| code.starts_with(start);
    match code {
        "23502" => MISSING,
        "55P03" => BUSY,
        "40001" | "40P01" => (DbErrorKind::Contended, "a concurrent transaction got in between", Some("try again")),
        "57014" => (DbErrorKind::Timeout, "a statement took too long", Some("try again; check the database's load")),
        "53100" => FULL,
        _ if begins("08") || begins("57P") || begins("53") || begins("28") || code == "3D000" => {
            (DbErrorKind::Unavailable, "the database refuses", Some(HINT_REACH))
        }
        _ => FAILED,
    }
}
