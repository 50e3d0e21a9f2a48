//! Reads software bills of materials that others wrote: CycloneDX 1.2 to 1.7 in JSON, SPDX 2.2 and 2.3 in JSON and as
//! tag-value, Syft's own JSON.
//!
//! The whole document must be well-formed and within the limits; one record in it that cannot be read is told as a
//! note and the others are read all the same.

mod cyclonedx;
mod join;
mod spdx;
mod syft;
mod tag_value;
#[cfg(test)]
mod tests;
pub(super) mod tree;

use crate::component::Component;
use crate::document::{Hash, Licence};

/// The longest document that is read, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most values (objects, arrays, texts, numbers) that one document may hold.
pub const VALUES_MAX: usize = 4 * 1024 * 1024;
/// How deep values may lie within one another.
pub const DEPTH_MAX: usize = 64;
/// The most components that one document may list.
pub const COMPONENTS_MAX: usize = 200_000;
/// The most notes that are kept; a last one says how many more there were.
pub const NOTES_MAX: usize = 1_000;

/// Why a document was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Longer than [`DOCUMENT_BYTES_MAX`].
    #[error("the document has {bytes} bytes, at most {DOCUMENT_BYTES_MAX} are read")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not well-formed.
    #[error("at \"{at}\": {why}")]
    Malformed {
        /// A JSON pointer, or a line.
        at: String,
        /// What is wrong there.
        why: String,
    },
    /// Over one of the limits.
    #[error("at \"{at}\": more than {limit} {what}")]
    Limit {
        /// A JSON pointer, or a line.
        at: String,
        /// Of what there is too much.
        what: &'static str,
        /// How much is read.
        limit: usize,
    },
    /// None of the formats that are read here.
    #[error("the document is none of {known}")]
    Format {
        /// Those that are.
        known: &'static str,
    },
    /// A version that is not read.
    #[error("{format} version \"{version}\" is not read")]
    Version {
        /// The format.
        format: &'static str,
        /// What it states.
        version: String,
    },
    /// A member that must be there is not, or is of another type.
    #[error("at \"{at}\": {what} is missing or of the wrong type")]
    Missing {
        /// A JSON pointer.
        at: String,
        /// What should be there.
        what: &'static str,
    },
}

/// A part of a document that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A JSON pointer, or a line.
    pub at: String,
    /// Why not.
    pub why: String,
}

/// What a bill of materials lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// The format with its version: `CycloneDX 1.6`.
    pub format: String,
    /// What it is about, as it names that.
    pub subject: Option<String>,
    /// The digests and package URLs that the subject is stated to have.
    pub subject_identifiers: Vec<String>,
    /// The components.
    pub components: Vec<Listed>,
    /// Whether it states itself to be complete; `None` where it says nothing.
    pub complete: Option<bool>,
    /// What was not read, and why.
    pub notes: Vec<Note>,
}

/// One component of a bill of materials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What the document calls it; empty for nothing.
    pub reference: String,
    /// What it is.
    pub component: Component,
    /// Its package URL as stated.
    pub purl: Option<String>,
    /// Its other names.
    pub further: Vec<Component>,
    /// Where it lies, as stated.
    pub places: Vec<String>,
    /// The hashes of its file.
    pub hashes: Vec<Hash>,
    /// The references of what it needs.
    pub depends_on: Vec<String>,
    /// Its licences.
    pub licences: Vec<Licence>,
    /// Where in the document it stands: a JSON pointer, or a line.
    pub at: String,
}

/// Reads a bill of materials of any of the formats.
pub fn read(bytes: &[u8]) -> Result<Bill, ReadError> {
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
    if first == Some(&b'{') {
        let tree = tree::parse(bytes)?;
        let root = tree.root();
        if root.text("bomFormat") == Some("CycloneDX") {
            cyclonedx::read(&root)
        } else if root.text("spdxVersion").is_some() {
            spdx::read(&root)
        } else if root.get("artifacts").is_some() && root.get("descriptor").is_some() {
            syft::read(&root)
        } else {
            Err(ReadError::Format { known: KNOWN })
        }
    } else {
        tag_value::read(bytes)
    }
}

const KNOWN: &str = "CycloneDX JSON, SPDX 2 JSON, SPDX 2 tag-value and Syft JSON";

/// The notes of one document: the first ones, and how many more there were.
#[derive(Debug, Default)]
pub(super) struct Notes {
    kept: Vec<Note>,
    more: usize,
}

impl Notes {
    pub(super) fn add(&mut self, at: String, why: impl Into<String>) {
        if self.kept.len() < NOTES_MAX {
            self.kept.push(Note { at, why: why.into() });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn into_kept(mut self) -> Vec<Note> {
        if self.more > 0 {
            self.kept.push(Note { at: String::new(), why: format!("{} more parts were not read", self.more) });
        }
        self.kept
    }
}
