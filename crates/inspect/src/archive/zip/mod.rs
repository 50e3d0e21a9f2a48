//! Zip (APPNOTE 6.3.10): jar, war, ear, whl, nupkg and Android's apk are zip, too.
//!
//! What the central directory says counts. An entry that its own header contradicts is refused, since another reader
//! would see something else.

mod directory;
mod end;
mod entry;
mod ranges;
mod reader;

#[cfg(test)]
mod tests;

pub use self::directory::Entries;
pub use self::entry::{Entry, Refusal};
pub use self::reader::Reader;

use self::end::End;
use super::budget::{Budget, Level};
use super::error::{Error, Format};
use crate::content::Content;

/// A zip archive.
pub struct Archive<'a> {
    content: Content<'a>,
    end: End,
}

impl<'a> Archive<'a> {
    /// Finds the central directory of `content`. What stands before the archive, as the script of one that runs itself,
    /// is passed over.
    ///
    /// # Errors
    /// There is none, there could be two, or it is in parts.
    pub fn open(content: Content<'a>) -> Result<Self, Error> {
        Ok(Self { end: End::find(content)?, content })
    }

    /// Entries that the archive says it has; from hostile hands, any number.
    pub const fn stated(&self) -> u64 {
        self.end.entries
    }

    /// Bytes before the archive, which are not part of it.
    pub const fn prefix_bytes(&self) -> u64 {
        self.end.base
    }

    /// Bytes behind the archive, which are not part of it.
    pub const fn trailing_bytes(&self) -> u64 {
        self.end.trailing
    }

    /// Its entries, in the directory's order.
    ///
    /// # Errors
    /// It is within too many others.
    pub fn entries<'b>(&'b self, budget: &'b Budget) -> Result<Entries<'a, 'b>, Error> {
        let level: Level<'b> = budget.enter()?;
        Ok(Entries::new(self, budget, level))
    }
}

/// Whether a zip archive ends where `content` ends: so it is told that a script or program has one behind it.
///
/// # Errors
/// `content` cannot be read.
pub fn is_behind(content: Content<'_>) -> Result<bool, Error> {
    match End::find(content) {
        Ok(end) => Ok(end.base > 0 && end.entries > 0 && end.trailing == 0),
        Err(Error::Read(kind)) => Err(Error::Read(kind)),
        Err(_) => Ok(false),
    }
}

/// Little-endian numbers, one after the other.
#[derive(Clone, Copy)]
struct Fields<'r>(&'r [u8]);

impl<'r> Fields<'r> {
    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, length: usize) -> Option<&'r [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }
}

const fn broken(at: u64, why: &'static str) -> Error {
    Error::broken(Format::Zip, at, why)
}

/// `length` bytes from `at`; what is past the end is a broken archive.
fn read(content: Content<'_>, at: u64, length: usize) -> Result<std::borrow::Cow<'_, [u8]>, Error> {
    content.read(at, length).map_err(|error| Error::of_read(&error, Format::Zip, at))
}
