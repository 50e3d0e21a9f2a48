//! What can be wrong with an executable.

use std::io;

/// Why an executable, or a part of it, was not read.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    /// It is another kind of file.
    #[error("not an ELF, PE or Mach-O file")]
    Format,
    /// A table or a section is not in the file.
    #[error("{what}: {length} bytes at byte {at} are past the end of the file")]
    Truncated {
        /// What was wanted.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// Its bytes.
        length: u64,
    },
    /// More than is read.
    #[error("{what}: {count}, over the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        count: u64,
        /// How much is read.
        limit: u64,
    },
    /// A header has a value that its format does not have.
    #[error("{what} at byte {at}: {value} is not a valid value")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// Where it stands.
        at: u64,
        /// Its value.
        value: u64,
    },
    /// No segment of the file holds an address.
    #[error("{length} bytes at address {address:#x} are in no segment of the file")]
    Address {
        /// The address.
        address: u64,
        /// The bytes wanted there.
        length: u64,
    },
    /// A section is compressed, which is not read.
    #[error("section {name:?} is compressed")]
    Compressed {
        /// The section.
        name: String,
    },
    /// The file could not be read.
    #[error("reading {what} at byte {at}: {error}")]
    Read {
        /// What was wanted.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// What the system says.
        error: io::Error,
    },
}
