//! Values that go into statements and columns that come out, the same on both databases.

use std::sync::Arc;

use rusqlite::types::Value as Cell;
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

use super::error::{DbError, DbErrorKind};
use crate::clock::Micros;

/// A bound value: one of the three column types BIGINT, TEXT and BYTEA, each of them typed even when NULL, because
/// PostgreSQL wants to know; or a list of one of them, for `= ANY($1)`.
#[derive(Clone, Debug)]
pub enum Value {
    /// BIGINT.
    Integer(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// BYTEA.
    Bytes(Option<Vec<u8>>),
    /// Several, for `= ANY($1)`.
    List(List),
}

/// Values of one type.
#[derive(Clone, Debug)]
pub enum List {
    /// BIGINT.
    Integers(Vec<i64>),
    /// TEXT.
    Texts(Vec<String>),
    /// BYTEA.
    Bytes(Vec<Vec<u8>>),
}

impl List {
    /// The list as SQLite gets it, which has none of its own: as a text in JSON.
    pub(super) fn json(&self) -> String {
        match self {
            Self::Integers(list) => serde_json::json!(list),
            Self::Texts(list) => serde_json::json!(list),
            Self::Bytes(list) => list.iter().map(hex::encode).collect(),
        }
        .to_string()
    }

    /// How a value comes out of that text.
    pub(super) const fn json_value(&self) -> &'static str {
        match self {
            Self::Integers(_) | Self::Texts(_) => "value",
            Self::Bytes(_) => "unhex(value)",
        }
    }
}

impl From<&[i64]> for Value {
    fn from(list: &[i64]) -> Self {
        Self::List(List::Integers(list.to_vec()))
    }
}

impl From<&[String]> for Value {
    fn from(list: &[String]) -> Self {
        Self::List(List::Texts(list.to_vec()))
    }
}

impl From<&[Vec<u8>]> for Value {
    fn from(list: &[Vec<u8>]) -> Self {
        Self::List(List::Bytes(list.to_vec()))
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident $convert:expr;)*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(Some($convert(value)))
            }
        }
        impl From<Option<$from>> for Value {
            fn from(value: Option<$from>) -> Self {
                Self::$variant(value.map($convert))
            }
        }
    )*};
}

value_from! {
    i64 => Integer std::convert::identity;
    i32 => Integer i64::from;
    u32 => Integer i64::from;
    u16 => Integer i64::from;
    bool => Integer i64::from;
    Micros => Integer |time: Micros| time.0;
    &str => Text str::to_owned;
    String => Text std::convert::identity;
    &String => Text String::clone;
    Vec<u8> => Bytes std::convert::identity;
    &[u8] => Bytes <[u8]>::to_vec;
}

/// One row of an answer.
#[derive(Debug)]
pub struct Row(pub(super) Inner);

pub(super) enum Inner {
    Sqlite(SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

/// A row as it was read from SQLite.
pub(super) struct SqliteRow {
    /// The names of the columns, the same for all rows of an answer.
    pub(super) names: Arc<[String]>,
    /// As many as there are names.
    pub(super) cells: Vec<Cell>,
}

impl SqliteRow {
    fn cell(&self, name: &str) -> Result<&Cell, DbError> {
        let at = self.names.iter().position(|known| known == name);
        at.and_then(|at| self.cells.get(at))
            .ok_or_else(|| DbError::new(DbErrorKind::Decode, format!("there is no column `{name}`")))
    }
}

fn not_as_asked(name: &str, cell: &Cell) -> DbError {
    DbError::new(DbErrorKind::Decode, format!("the column `{name}` is of the type {}", cell.data_type()))
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "SQLite row",
            Self::Postgres(_) => "PostgreSQL row",
        })
    }
}

impl Row {
    /// The column with this name.
    ///
    /// # Errors
    /// [`DbErrorKind::Decode`] when there is no such column, it has another type, or is NULL and `T` is not an `Option`.
    pub fn get<T: Column>(&self, name: &str) -> Result<T, DbError> {
        T::from_row(self, name)
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, DbError> {
        match &self.0 {
            Inner::Sqlite(row) => match row.cell(name)? {
                Cell::Null => Ok(None),
                Cell::Integer(value) => Ok(Some(*value)),
                other => Err(not_as_asked(name, other)),
            },
            Inner::Postgres(row) => {
                let raw = row.try_get_raw(name)?;
                if raw.is_null() {
                    return Ok(None);
                }
                let kind = raw.type_info().name().to_owned();
                // Literals and some functions are narrower than BIGINT.
                Ok(Some(match kind.as_str() {
                    "INT2" => i64::from(row.try_get::<i16, _>(name)?),
                    "INT4" => i64::from(row.try_get::<i32, _>(name)?),
                    "BOOL" => i64::from(row.try_get::<bool, _>(name)?),
                    _ => row.try_get::<i64, _>(name)?,
                }))
            }
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, DbError> {
        match &self.0 {
            Inner::Sqlite(row) => match row.cell(name)? {
                Cell::Null => Ok(None),
                Cell::Text(text) => Ok(Some(text.clone())),
                other => Err(not_as_asked(name, other)),
            },
            Inner::Postgres(row) => Ok(row.try_get(name)?),
        }
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, DbError> {
        match &self.0 {
            Inner::Sqlite(row) => match row.cell(name)? {
                Cell::Null => Ok(None),
                Cell::Blob(bytes) => Ok(Some(bytes.clone())),
                other => Err(not_as_asked(name, other)),
            },
            Inner::Postgres(row) => Ok(row.try_get(name)?),
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Types that a column can be read as.
pub trait Column: Sized + sealed::Sealed {
    /// Reads the column.
    ///
    /// # Errors
    /// See [`Row::get`].
    fn from_row(row: &Row, name: &str) -> Result<Self, DbError>;
}

fn null(name: &str) -> DbError {
    DbError::new(DbErrorKind::Decode, format!("the column `{name}` is NULL"))
}

macro_rules! column {
    ($($into:ty => $read:ident $convert:expr;)*) => {$(
        impl sealed::Sealed for $into {}
        impl sealed::Sealed for Option<$into> {}
        impl Column for $into {
            fn from_row(row: &Row, name: &str) -> Result<Self, DbError> {
                Option::<$into>::from_row(row, name)?.ok_or_else(|| null(name))
            }
        }
        impl Column for Option<$into> {
            fn from_row(row: &Row, name: &str) -> Result<Self, DbError> {
                row.$read(name)?.map(|value| $convert(value, name)).transpose()
            }
        }
    )*};
}

fn narrow<T: TryFrom<i64>>(value: i64, name: &str) -> Result<T, DbError> {
    T::try_from(value).map_err(|_| {
        DbError::new(DbErrorKind::Decode, format!("the column `{name}` holds {value}, which is out of range"))
    })
}

column! {
    i64 => integer |value, _: &str| Ok::<_, DbError>(value);
    u64 => integer narrow;
    u32 => integer narrow;
    u16 => integer narrow;
    bool => integer |value, _: &str| Ok::<_, DbError>(value != 0);
    Micros => integer |value, _: &str| Ok::<_, DbError>(Micros(value));
    String => text |value, _: &str| Ok::<_, DbError>(value);
    Vec<u8> => bytes |value, _: &str| Ok::<_, DbError>(value);
}
