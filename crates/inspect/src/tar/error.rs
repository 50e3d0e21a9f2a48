//! Why an archive is not read further, and where that is.

use std::io;

/// What is wrong, and where. Nothing from there on has been examined.
#[derive(Debug, thiserror::Error)]
#[error("tar archive, at byte {offset}: {fault}")]
pub struct Error {
    /// Bytes from the start of the archive to the header (or trailing data) that is at fault.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong. Most faults are not damage alone: they are what makes two readers list two different archives.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The source could not be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// There is not one byte.
    #[error("it is empty; even an archive without entries has a block of zeros")]
    Empty,
    /// It ends within a header, an extension or an entry's content.
    #[error("it ends too early")]
    Truncated,
    /// The sum over the header is not the one written in it.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// A number field that holds none, or one that readers understand differently.
    #[error("the field {field} is not a number that every reader reads alike")]
    Number {
        /// The field's name in the ustar format.
        field: &'static str,
    },
    /// A number that is negative or larger than the field's type allows.
    #[error("the value of {field} is out of range")]
    Range {
        /// The field's or the PAX record's name.
        field: &'static str,
    },
    /// A type flag that is not one of the formats', or one that only some readers know.
    #[error("the type flag {flag:#04x} is unknown, or is not read alike by all")]
    Type {
        /// The byte in the header.
        flag: u8,
    },
    /// The prefix field is in use, though the header is not in the ustar format.
    #[error("a name prefix in a header that is not in the ustar format")]
    Prefix,
    /// The entry has no name.
    #[error("the entry's name is empty")]
    NoName,
    /// A hard link without a target, or a GNU long name without one for a symlink.
    #[error("the link's target is empty")]
    NoTarget,
    /// A name or link target of a PAX record with a NUL inside.
    #[error("the PAX record \"{key}\" has a NUL inside")]
    Nul {
        /// The record's key.
        key: &'static str,
    },
    /// A regular file whose name ends in a slash, which some take for a directory.
    #[error("the name ends in a slash and the type is that of a file")]
    Slash,
    /// An entry of a type without content has a size.
    #[error("an entry of the type {flag:?} has a size, and readers differ about its content")]
    SizeOfLink {
        /// The type flag.
        flag: char,
    },
    /// The size in the PAX header and the one in the entry's own header differ (CVE-2025-62518).
    #[error("the PAX header says {pax} bytes, the entry's own header {header}")]
    Size {
        /// As the PAX record has it.
        pax: u64,
        /// As the header has it.
        header: u64,
    },
    /// A PAX header that speaks of what a GNU long name speaks of too, or that precedes a GNU long name with a size
    /// that could be taken for the long name's own (CVE-2026-53655).
    #[error("the PAX record \"{key}\" and a GNU long name before the same entry")]
    PaxAndLongName {
        /// The record's key.
        key: &'static str,
    },
    /// Two extension headers of one kind before one entry that differ: some take the first, some the last.
    #[error("two different extension headers of the type {flag:?} before one entry")]
    Twice {
        /// The type flag.
        flag: char,
    },
    /// A global PAX header between an extension header and its entry.
    #[error("a global PAX header between an extension header and its entry")]
    GlobalBetween,
    /// An extension header with no entry after it.
    #[error("an extension header with no entry after it")]
    NoEntry,
    /// An extension header over its limit.
    #[error("an extension header of {size} bytes; the most that is taken is {limit}")]
    ExtensionSize {
        /// What it has.
        size: u64,
        /// What is taken.
        limit: u64,
    },
    /// A GNU long name that goes on behind its size.
    #[error("a GNU long name that has no end within its size")]
    LongName,
    /// A PAX record that is not `LENGTH KEY=VALUE\n`, or data after the last one.
    #[error("the PAX record at byte {at} of its header is malformed")]
    Record {
        /// Bytes from the start of the PAX header's content.
        at: usize,
    },
    /// A PAX record whose value is not of the form that all readers take.
    #[error("the value of the PAX record \"{key}\" is malformed")]
    Value {
        /// The record's key.
        key: &'static str,
    },
    /// A PAX record that some readers apply and others do not.
    #[error("the PAX record \"{key}\" is not read alike by all here")]
    Key {
        /// The record's key.
        key: String,
    },
    /// A sparse file whose map is malformed, over the limit of [`super::SPARSE_MAP_BYTES_MAX`], or in a form that no
    /// known writer makes.
    #[error("a sparse file whose map is malformed or not of a known form")]
    Sparse,
    /// Something other than zeros after the archive's end.
    #[error("data after the end of the archive")]
    AfterEnd,
}
