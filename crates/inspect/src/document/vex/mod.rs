//! Statements on exploitability (VEX): OpenVEX, CycloneDX and CSAF documents as one model, and whether a statement
//! speaks of a given component in a given image.
//!
//! Whoever can hand in a statement can make a finding disappear: which documents to trust is for the caller to say.

mod apply;
mod csaf;
mod cyclonedx;
mod openvex;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::document::Hash;
use crate::document::read::tree::{self, Node};
use crate::document::read::{Note, ReadError};
use crate::purl::Purl;

pub use apply::{Applies, Reason, Subject, Target, applies, prevailing};

/// The most statements that one document may make.
pub const STATEMENTS_MAX: usize = 100_000;
/// The most bytes that all statements of a document may take together, about.
pub const STATEMENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Whether a vulnerability affects a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It does not.
    NotAffected,
    /// This version has the fix.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
    /// It does.
    Affected,
}

impl Status {
    /// The word for it, as OpenVEX writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAffected => "not_affected",
            Self::Fixed => "fixed",
            Self::UnderInvestigation => "under_investigation",
            Self::Affected => "affected",
        }
    }

    /// The status of a word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::NotAffected, Self::Fixed, Self::UnderInvestigation, Self::Affected]
            .into_iter()
            .find(|status| status.word() == word)
    }
}

/// Why a product is not affected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Justification {
    /// The component is not in the product.
    ComponentNotPresent,
    /// The component is, the vulnerable code is not.
    VulnerableCodeNotPresent,
    /// The code is never run.
    VulnerableCodeNotInExecutePath,
    /// An adversary cannot steer the code.
    VulnerableCodeCannotBeControlledByAdversary,
    /// Something else stops the attack.
    InlineMitigationsAlreadyExist,
    /// A format's own word that has no counterpart among these.
    Stated(String),
}

impl Justification {
    /// The word for it, as OpenVEX and CSAF write it.
    pub fn word(&self) -> &str {
        match self {
            Self::ComponentNotPresent => "component_not_present",
            Self::VulnerableCodeNotPresent => "vulnerable_code_not_present",
            Self::VulnerableCodeNotInExecutePath => "vulnerable_code_not_in_execute_path",
            Self::VulnerableCodeCannotBeControlledByAdversary => "vulnerable_code_cannot_be_controlled_by_adversary",
            Self::InlineMitigationsAlreadyExist => "inline_mitigations_already_exist",
            Self::Stated(word) => word,
        }
    }

    /// The justification of a word.
    pub fn of(word: &str) -> Self {
        [
            Self::ComponentNotPresent,
            Self::VulnerableCodeNotPresent,
            Self::VulnerableCodeNotInExecutePath,
            Self::VulnerableCodeCannotBeControlledByAdversary,
            Self::InlineMitigationsAlreadyExist,
        ]
        .into_iter()
        .find(|known| known.word() == word)
        .unwrap_or_else(|| Self::Stated(word.to_owned()))
    }
}

/// What names a product or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// A package URL, of a package or of an image.
    Purl(Purl),
    /// The digest of an image or the hash of a file.
    Hash(Hash),
    /// A CPE, an address or a name, which nothing is compared with.
    Other(String),
}

impl Identifier {
    /// What a text names: a package URL, a digest `sha256:…`, or something else.
    pub(super) fn of(text: &str) -> Self {
        if let Ok(purl) = text.parse() {
            return Self::Purl(purl);
        }
        match text.split_once(':').and_then(|(algorithm, digits)| Hash::of(algorithm, digits)) {
            Some(hash) => Self::Hash(hash),
            None => Self::Other(text.to_owned()),
        }
    }
}

/// A product that a statement speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// What names it; any of these is enough.
    pub identifiers: Vec<Identifier>,
    /// The parts of it that the statement is about, each with what names it; none for the product as a whole.
    pub subcomponents: Vec<Vec<Identifier>>,
}

/// What somebody states on a vulnerability in some products.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The vulnerability's identifiers, aliases included.
    pub vulnerabilities: Vec<String>,
    /// What it speaks of.
    pub products: Vec<Product>,
    /// Whether they are affected.
    pub status: Status,
    /// Why not.
    pub justification: Option<Justification>,
    /// Why not, in words.
    pub impact: Option<String>,
    /// What to do about it, in words.
    pub action: Option<String>,
    /// Who states it.
    pub author: Option<String>,
    /// When it was known to be so.
    pub timestamp: Option<Timestamp>,
    /// The version of the document, as a number that grows.
    pub version: u64,
    /// The document's own identifier.
    pub document: String,
    /// Where in the document it stands, as a JSON pointer.
    pub at: String,
}

/// The statements of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vex {
    /// The statements that could be read.
    pub statements: Vec<Statement>,
    /// What could not, and why.
    pub notes: Vec<Note>,
}

/// Reads a VEX document: OpenVEX 0.0.1 and 0.2.0, CycloneDX, or CSAF 2.0.
pub fn read(bytes: &[u8]) -> Result<Vex, ReadError> {
    read_within(bytes, STATEMENT_BYTES_MAX)
}

/// The same, where the statements of the document may together take so many bytes, about.
///
/// # Errors
/// As with [`read`].
pub fn read_within(bytes: &[u8], bytes_max: usize) -> Result<Vex, ReadError> {
    let budget = Budget { bytes: 0, bytes_max };
    let tree = tree::parse(bytes)?;
    let root = tree.root();
    if root.get("@context").is_some() && root.get("statements").is_some() {
        openvex::read(&root, budget)
    } else if root.text("bomFormat") == Some("CycloneDX") {
        cyclonedx::read(&root, budget)
    } else if root.get("document").and_then(|document| document.text("csaf_version")).is_some() {
        csaf::read(&root, budget)
    } else {
        Err(ReadError::Format { known: "OpenVEX, CycloneDX and CSAF" })
    }
}

/// Counts the bytes of what is copied into statements, so that a small document that refers to the same things again
/// and again does not make something large.
#[derive(Debug)]
struct Budget {
    bytes: usize,
    bytes_max: usize,
}

impl Budget {
    /// Takes as many bytes from what is left, before they are copied.
    fn spend(&mut self, bytes: usize, at: &Node<'_>) -> Result<(), ReadError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(ReadError::Limit { at: at.at(), what: "bytes of statements", limit: self.bytes_max });
        }
        Ok(())
    }
}

/// About how many bytes a copy takes.
fn bytes_of(identifiers: &[Identifier]) -> usize {
    const EACH: usize = 160;
    let text = |identifier: &Identifier| match identifier {
        Identifier::Purl(purl) => {
            let parts = [purl.namespace(), Some(purl.name()), purl.version(), purl.subpath()];
            let qualifiers: usize = purl.qualifiers().map(|(key, value)| EACH + key.len() + value.len()).sum();
            parts.into_iter().flatten().map(str::len).sum::<usize>() + qualifiers
        }
        Identifier::Hash(hash) => hash.hex.len(),
        Identifier::Other(text) => text.len(),
    };
    identifiers.iter().map(|identifier| EACH + text(identifier)).sum()
}

fn timestamp(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}
