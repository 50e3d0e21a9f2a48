//! What the files of an operating system's package databases say, in one form for dpkg, RPM and apk.
//!
//! One package is spoken of by several files, in layers of their own. Each file gives its facts alone; which file is
//! visible, and what belongs together, is found out where the image's whole tree is known.

use std::fmt;
use std::io;

use crate::cataloger::{apk, dpkg, rpm};
use crate::component::Component;
use crate::content::Content;

pub(crate) mod records;

/// Notes on unexamined parts that one file may cause; what goes beyond is counted in one last note.
pub const NOTES_MAX: u64 = 64;
/// Packages that one database may have.
pub const PACKAGES_MAX: usize = 200_000;
/// Bytes of a package's name, version, architecture or source.
pub const FIELD_BYTES_MAX: usize = 4 << 10;
/// Bytes of a licence as stated.
pub const LICENCE_BYTES_MAX: usize = 64 << 10;

/// One thing that a file of a package database says. What is borrowed lives as long as the call that hands it over.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A package is installed.
    Package(Component),
    /// The database counts these paths as the package's own. Directories that many packages share may be among them.
    Owns {
        /// Which package.
        package: Package<'a>,
        /// Its paths.
        paths: Paths<'a>,
    },
    /// The package's licences, from another file than the database.
    Licence {
        /// Which package.
        package: Package<'a>,
        /// Each as stated, without repetition, in the order of the file.
        licences: Vec<String>,
    },
    /// Where an RPM comes from, as far as it says so.
    Origin {
        /// Which package.
        package: Package<'a>,
        /// Who made it: `Red Hat, Inc.`
        vendor: Option<&'a str>,
        /// The module that it belongs to, `name:stream:version:context`: advisories speak of modules.
        module: Option<&'a str>,
    },
    /// A part of the file that could not be read, or the whole of it.
    Unexamined {
        /// Which part, with its place in the file.
        what: String,
        /// Why not.
        why: Error,
    },
}

/// Names a package of the database that a fact is about. What is `None` is not said by the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Package<'a> {
    /// Its name.
    pub name: &'a str,
    /// As in [`Component::version`].
    pub version: Option<&'a str>,
    /// Its architecture.
    pub architecture: Option<&'a str>,
}

impl<'a> Package<'a> {
    /// Names the package of a component.
    pub fn of(component: &'a Component) -> Self {
        Self {
            name: &component.name,
            version: Some(&component.version),
            architecture: component.architecture.as_deref(),
        }
    }
}

/// Paths inside the image, without leading or trailing slash, as the database writes them: symbolic links on the way
/// (`lib` to `usr/lib`) are not followed.
#[derive(Clone, Copy)]
pub struct Paths<'a>(&'a dyn EachPath);

impl<'a> Paths<'a> {
    pub(crate) fn new(paths: &'a dyn EachPath) -> Self {
        Self(paths)
    }

    /// Hands over one path after the other; none is kept.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        self.0.each_path(&mut |path| {
            if let Some(path) = inside(path) {
                visit(path);
            }
        });
    }
}

impl fmt::Debug for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut count = 0_u64;
        self.for_each(|_| count += 1);
        write!(f, "Paths({count})")
    }
}

/// Whoever can list paths as the file writes them, slashes and all.
pub(crate) trait EachPath {
    fn each_path(&self, visit: &mut dyn FnMut(&[u8]));
}

/// A path without what stands for the root before it and without slashes at its end; `None` for the root itself.
pub(crate) fn inside(mut path: &[u8]) -> Option<&[u8]> {
    loop {
        path = match path {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] => rest,
            [rest @ .., b'/'] => rest,
            [] | [b'.'] => return None,
            _ => return Some(path),
        };
    }
}

/// Why a part of a package database could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Reading the bytes failed, or they end too early.
    #[error("{length} bytes at byte {at} cannot be read: {kind}")]
    Read {
        /// Offset of the first.
        at: u64,
        /// How many.
        length: usize,
        /// What went wrong.
        kind: io::ErrorKind,
    },
    /// The file is larger than it may be.
    #[error("{length} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Its bytes.
        length: u64,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A record is larger than it may be.
    #[error("the record is larger than {limit} bytes")]
    RecordTooLarge {
        /// Bytes that it may have.
        limit: usize,
    },
    /// More packages than a database may have.
    #[error("more than {limit} packages")]
    TooManyPackages {
        /// Packages that it may have.
        limit: usize,
    },
    /// More went wrong than is told one by one.
    #[error("{count} more parts cannot be read")]
    More {
        /// How many.
        count: u64,
    },
    /// In a file of dpkg.
    #[error(transparent)]
    Dpkg(#[from] dpkg::Error),
    /// In an RPM database.
    #[error(transparent)]
    Rpm(#[from] rpm::Error),
    /// In an apk database.
    #[error(transparent)]
    Apk(#[from] apk::Error),
}

/// Reads a range, and says which one where that fails.
pub(crate) fn read_range<'a>(
    content: &Content<'a>,
    at: u64,
    length: usize,
) -> Result<std::borrow::Cow<'a, [u8]>, Error> {
    content.read(at, length).map_err(|error| Error::Read { at, length, kind: error.kind() })
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_whole<'a>(content: &Content<'a>, limit: usize) -> Result<std::borrow::Cow<'a, [u8]>, Error> {
    let length = content.len();
    match usize::try_from(length) {
        Ok(length) if length <= limit => read_range(content, 0, length),
        _ => Err(Error::TooLarge { length, limit }),
    }
}

/// The whole of a file, as the part that could not be read.
pub(crate) const WHOLE: &str = "the file";

/// Hands facts on and keeps the number of notes within [`NOTES_MAX`].
pub(crate) struct Reporter<'f> {
    facts: &'f mut dyn FnMut(Fact<'_>),
    notes: u64,
}

impl<'f> Reporter<'f> {
    pub(crate) fn new(facts: &'f mut dyn FnMut(Fact<'_>)) -> Self {
        Self { facts, notes: 0 }
    }

    pub(crate) fn fact(&mut self, fact: Fact<'_>) {
        (self.facts)(fact);
    }

    /// `what` is asked only where the note is told by itself.
    pub(crate) fn unexamined(&mut self, what: impl FnOnce() -> String, why: impl Into<Error>) {
        self.notes += 1;
        if self.notes <= NOTES_MAX {
            (self.facts)(Fact::Unexamined { what: what(), why: why.into() });
        }
    }

    /// Tells of the notes that were not told one by one.
    pub(crate) fn finish(self) {
        if let Some(count) = self.notes.checked_sub(NOTES_MAX).filter(|count| *count > 0) {
            (self.facts)(Fact::Unexamined { what: "other parts".to_owned(), why: Error::More { count } });
        }
    }
}

/// Text of at most `limit` bytes, without control characters and with something in it.
pub(crate) fn text(bytes: &[u8], limit: usize) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty() && text.len() <= limit && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
