//! Why an RPM database, or a part of it, could not be read.

use super::{HEADER_BYTES_MAX, PATHS_BYTES_MAX};

/// What is wrong in an RPM database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None of the three forms.
    #[error("this is neither a Berkeley DB hash, nor an ndb, nor an SQLite database")]
    Form,
    /// A feature that RPM's own databases do not use.
    #[error("the database uses what RPM's do not: {what}")]
    Foreign {
        /// Which feature.
        what: &'static str,
    },
    /// A value of the database's own header that cannot be.
    #[error("the database's header has an impossible {what}: {found}")]
    Head {
        /// Which value.
        what: &'static str,
        /// The value.
        found: u64,
    },
    /// There is nothing in the file.
    #[error("the file is empty")]
    Empty,
    /// SQLite without RPM's table.
    #[error("the database has no table of packages")]
    Table,
    /// A page number past the end, or page 0.
    #[error("page {page} is not within the database's {pages} pages")]
    NoPage {
        /// The number.
        page: u64,
        /// How many there are.
        pages: u64,
    },
    /// A page that is reached in two ways: a cycle, or pages that share.
    #[error("page {page} is used twice")]
    PageTwice {
        /// Its number.
        page: u64,
    },
    /// A page that is not what refers to it says.
    #[error("page {page} is broken: {what}")]
    Page {
        /// Its number.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A tree deeper than SQLite itself makes them.
    #[error("the tree at page {page} is too deep")]
    Depth {
        /// Where it became too deep.
        page: u64,
    },
    /// A slot of an ndb database that cannot be.
    #[error("slot {slot} is broken: {what}")]
    Slot {
        /// Its number.
        slot: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A package header that is larger than one may be.
    #[error("the package's header has {length} bytes, more than the {HEADER_BYTES_MAX} that are read")]
    HeaderTooLarge {
        /// Its bytes.
        length: u64,
    },
    /// A package header that is not in RPM's format.
    #[error("the package's header is broken: {what}")]
    Header {
        /// What is wrong.
        what: &'static str,
    },
    /// A tag of a package's header that cannot be used.
    #[error("the package's tag {tag} is broken")]
    Tag {
        /// Its name.
        tag: &'static str,
    },
    /// Paths that are longer, or more, than are listed.
    #[error("the package's paths are too long, or have more than {PATHS_BYTES_MAX} bytes together")]
    Paths,
    /// A write-ahead log that is not one.
    #[error("the write-ahead log is broken: {what}")]
    Log {
        /// What is wrong.
        what: &'static str,
    },
    /// A line of a container manifest that cannot be used.
    #[error("line {line} is not a package of a container manifest")]
    Line {
        /// Counted from 1.
        line: u64,
    },
}
