//! Delivery's tables: the only SQL of the context.

pub(crate) mod desired;
pub(crate) mod environments;
pub(crate) mod events;
pub(crate) mod hosts;
pub(crate) mod plans;
pub(crate) mod releases;

use std::str::FromStr;

use base::db::{Migration, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The schema's history.
pub const MIGRATIONS: &[Migration] =
    &[Migration { number: 1, name: "delivery", sql: include_str!("../../migrations/0001_delivery.sql") }];

fn name<T: FromStr>(row: &Row, column: &'static str) -> Result<T, Error>
where
    T::Err: std::fmt::Display,
{
    let text: String = row.get(column)?;
    parsed(&text, column)
}

fn parsed<T: FromStr>(text: &str, what: &'static str) -> Result<T, Error>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Error::Stored { what, error: error.to_string() })
}

fn document<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, Error> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(Error::stored(column))
}

fn document_option<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<Option<T>, Error> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(Error::stored(column))).transpose()
}

fn text<T: Serialize>(value: &T, what: &'static str) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::stored(what))
}

/// An enum of the wire types as its bare word.
fn word<T: Serialize>(value: &T, what: &'static str) -> Result<String, Error> {
    Ok(text(value, what)?.trim_matches('"').to_owned())
}

fn from_word<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, Error> {
    let word: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(word)).map_err(Error::stored(column))
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
