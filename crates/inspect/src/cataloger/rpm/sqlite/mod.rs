//! RPM databases in SQLite's format: the table `Packages`, with or without a write-ahead log.
//!
//! <https://www.sqlite.org/fileformat2.html>

use std::borrow::Cow;

use crate::cataloger::os;
use crate::content::Content;

use super::pages::{Used, bytes};
use super::{Each, Error};
use log::Log;
use record::Value;

mod log;
mod record;
mod tree;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEAD_BYTES: usize = 100;

/// Whether bytes begin as an SQLite database.
pub(super) fn is(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// A database as the last transaction left it.
struct Database<'a> {
    main: Content<'a>,
    log: Option<Log<'a>>,
    page_size: usize,
    /// Bytes of a page without those reserved at its end.
    usable: usize,
    pages: u64,
}

/// Hands over each package's header. `log` is the write-ahead log beside the database, empty or not.
pub(super) fn each(main: Content<'_>, log: Option<Content<'_>>, visit: &mut Each<'_>) -> Result<(), os::Error> {
    let log = match log.filter(|log| !log.is_empty()).map(Log::open) {
        None => None,
        Some(Ok(log)) => Some(log),
        // SQLite goes on without such a log. What was in it is missing, though.
        Some(Err(why)) => {
            visit(Err(why));
            None
        }
    };
    let database = Database::open(main, log.filter(|log| !log.is_empty()))?;
    let mut used = Used::new(database.pages + 1)?;
    let (mut root, mut others) = (None, Vec::new());
    database.rows(1, &mut used, &mut |row| match row.and_then(|row| root_of(&row)) {
        Ok((page, true)) => root = root.or(Some(page)),
        Ok((page, false)) => others.push(page),
        Err(why) => visit(Err(why)),
    });
    let root = root.ok_or(Error::Table)?;
    if others.contains(&root) {
        visit(Err(Error::PageTwice { page: root }.into()));
    }
    database.rows(root, &mut used, &mut |row| visit(row.and_then(header)));
    Ok(())
}

/// The first page of the table or index that a row of the schema speaks of, 0 where there is none; and whether that is
/// the table of packages.
fn root_of(row: &[u8]) -> Result<(u64, bool), os::Error> {
    let mut values = record::values(row);
    let mut next = || values.next().ok_or(Error::Header { what: "a row of the schema has too few columns" })?;
    let (kind, name, _, root) = (next()?, next()?, next()?, next()?);
    let is_packages = matches!((kind, name), (Value::Text(b"table"), Value::Text(b"Packages")));
    match root {
        Value::Integer(root) if root > 0 => Ok((root.unsigned_abs(), is_packages)),
        _ if is_packages => Err(Error::Table.into()),
        _ => Ok((0, false)),
    }
}

/// The second column of a row of `Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)`.
fn header(row: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, os::Error> {
    let range = {
        let mut values = record::values(&row);
        match (values.next().transpose()?, values.next().transpose()?, values.next()) {
            (Some(Value::Null | Value::Integer(_)), Some(Value::Blob(blob)), None) => {
                // The blob is what the row ends with.
                row.len() - blob.len()..row.len()
            }
            _ => return Err(Error::Header { what: "the row is not a number and a header" }.into()),
        }
    };
    let broken = Error::Header { what: "the row ends too early" };
    Ok(match row {
        Cow::Borrowed(row) => Cow::Borrowed(row.get(range).ok_or(broken)?),
        Cow::Owned(mut row) => {
            row.drain(..range.start);
            Cow::Owned(row)
        }
    })
}

impl<'a> Database<'a> {
    fn open(main: Content<'a>, log: Option<Log<'a>>) -> Result<Self, os::Error> {
        let first = match log.as_ref().map(|log| log.page(1)).transpose()?.flatten() {
            Some(page) => page,
            None if main.is_empty() => return Err(Error::Empty.into()),
            None => os::read_range(&main, 0, HEAD_BYTES)?,
        };
        let head = first.get(..HEAD_BYTES).filter(|head| is(head)).ok_or(Error::Form)?;
        let half = |at| u16::from_be_bytes(bytes(head, at).unwrap_or_default());
        let word = |at| u32::from_be_bytes(bytes(head, at).unwrap_or_default());
        let byte = |at: usize| usize::from(head.get(at).copied().unwrap_or_default());
        let page_size = match half(16) {
            1 => 65536,
            size if size.is_power_of_two() && size >= 512 => usize::from(size),
            size => return Err(Error::Head { what: "page size", found: size.into() }.into()),
        };
        let usable = page_size - byte(20);
        if usable < 480 {
            return Err(Error::Head { what: "number of reserved bytes", found: byte(20) as u64 }.into());
        }
        if byte(19) > 2 {
            return Err(Error::Head { what: "version to read it", found: byte(19) as u64 }.into());
        }
        if word(56) > 1 {
            return Err(Error::Foreign { what: "text in UTF-16" }.into());
        }
        let there = main.len() / page_size as u64;
        let pages = match &log {
            Some(log) if log.page_size() != page_size => {
                return Err(Error::Log { what: "its pages have another size than the database's" }.into());
            }
            Some(log) => log.pages(),
            // The number of pages counts only where the last writer kept it.
            None if word(24) == word(92) && word(28) > 0 => word(28).into(),
            None => there,
        };
        Ok(Self { main, log, page_size, usable, pages })
    }

    fn page(&self, page: u64) -> Result<Cow<'a, [u8]>, os::Error> {
        if page == 0 || page > self.pages {
            return Err(Error::NoPage { page, pages: self.pages }.into());
        }
        match self.log.as_ref().map(|log| log.page(page)).transpose()?.flatten() {
            Some(page) => Ok(page),
            None => os::read_range(&self.main, (page - 1) * self.page_size as u64, self.page_size),
        }
    }

    /// Bytes of the database and its log.
    fn capacity(&self) -> u64 {
        self.main.len().saturating_add(self.log.as_ref().map_or(0, Log::len))
    }
}

#[cfg(test)]
mod tests;
