//! Advisories in the OSV format, schema 1.x.
//!
//! Unknown fields pass. A field of the wrong type, a limit that is passed, or an event that is none is an error that names
//! the field: half an advisory could say that nothing is affected.

use jiff::Timestamp;
use serde::Deserialize;

use super::cvss::Vector;
use super::place::{Place, UnknownEcosystem};
use super::severity::{Assessment, Severity};

mod locate;
mod wire;

#[cfg(test)]
mod tests;

/// The largest advisory that is read, in bytes.
pub const MAX_ADVISORY_BYTES: usize = 16 << 20;
/// The most packages of one advisory.
pub const MAX_AFFECTED: usize = 20_000;
/// The most ranges of one package.
pub const MAX_RANGES: usize = 1_000;
/// The most events of one range.
pub const MAX_EVENTS: usize = 10_000;
/// The most versions that are listed for one package.
pub const MAX_VERSIONS: usize = 100_000;
/// The most aliases, and of each other list of identifiers.
pub const MAX_IDS: usize = 10_000;
/// The longest identifier, in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// The longest package name, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// One advisory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advisory {
    /// Its identifier: `GHSA-jfh8-c2jp-5v3q`.
    pub id: String,
    /// Identifiers of the same vulnerability in other databases.
    pub aliases: Vec<String>,
    /// Vulnerabilities of which this is about; there may be several, as in a distribution's notice.
    pub upstream: Vec<String>,
    /// Closely related ones, which are not the same.
    pub related: Vec<String>,
    /// When it was last changed.
    pub modified: Timestamp,
    /// When it was first published.
    pub published: Option<Timestamp>,
    /// Since when it counts as withdrawn. Nothing is affected by one that is.
    pub withdrawn: Option<Timestamp>,
    /// One line on what it is about; may be empty.
    pub summary: String,
    /// More of it, in Markdown; may be empty.
    pub details: String,
    /// Where to read on.
    pub references: Vec<Reference>,
    /// Ratings of the whole.
    pub severity: Vec<Rating>,
    /// A rating in a word that the database gives beside the format.
    pub word: Option<String>,
    /// The packages that it affects.
    pub affected: Vec<Affected>,
}

/// An address that an advisory refers to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reference {
    /// What is there: `FIX`, `ADVISORY`, `WEB`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The address; whatever the advisory's author wrote.
    pub url: String,
}

/// A rating as the advisory states it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rating {
    /// `CVSS_V2`, `CVSS_V3`, `CVSS_V4`, `Ubuntu`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A vector, or a word.
    pub score: String,
}

/// One package that is affected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// The ecosystem as it was written; empty where no package is named.
    pub ecosystem: String,
    /// The package's name as it was written.
    pub name: String,
    /// What the ecosystem means.
    pub place: Result<Place, UnknownEcosystem>,
    /// Ranges of affected versions.
    pub ranges: Vec<Range>,
    /// Single affected versions.
    pub versions: Vec<String>,
    /// Ratings of this package alone.
    pub severity: Vec<Rating>,
    /// A rating of this package in a word, or a vector beside the format.
    pub word: Option<String>,
}

/// How a range's bounds are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Semantic versions.
    SemVer,
    /// The ecosystem's own versions.
    Ecosystem,
    /// Commits. These need the repository and are not evaluated.
    Git,
    /// A kind that is not known, and not evaluated.
    Other(String),
}

/// A range of affected versions: a timeline of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// How to read the bounds.
    pub kind: RangeKind,
    /// The events, in no certain order.
    pub events: Vec<Event>,
}

/// What happens at a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// From here on versions are affected; `0` is before all.
    Introduced(String),
    /// From here on they are not.
    Fixed(String),
    /// After here they are not, as far as was known.
    LastAffected(String),
    /// The range says nothing of versions from here on.
    Limit(String),
}

/// Why an advisory cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdvisoryError {
    /// It is larger than [`MAX_ADVISORY_BYTES`].
    #[error("an advisory of {length} bytes; at most {MAX_ADVISORY_BYTES} are read")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// It is not JSON.
    #[error("the advisory is not JSON: {0}")]
    Json(String),
    /// A field is missing, of the wrong type, or otherwise not as the format has it.
    #[error("the advisory's field {field}: {problem}")]
    Field {
        /// Which: `affected[2].ranges[0].events[1]`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl AdvisoryError {
    fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }
}

impl Advisory {
    /// Reads an advisory.
    ///
    /// # Errors
    /// Where it is not JSON, a field is not as the format has it, or a limit of this module is passed.
    pub fn parse(bytes: &[u8]) -> Result<Self, AdvisoryError> {
        if bytes.len() > MAX_ADVISORY_BYTES {
            return Err(AdvisoryError::TooLarge { length: bytes.len() });
        }
        match serde_json::from_slice::<wire::Advisory>(bytes) {
            Ok(advisory) => advisory.checked(),
            Err(error) if error.is_data() => Err(locate::field(bytes, &error)),
            Err(error) => Err(AdvisoryError::Json(error.to_string())),
        }
    }

    /// Whether it was withdrawn at `now`.
    pub fn is_withdrawn(&self, now: Timestamp) -> bool {
        self.withdrawn.is_some_and(|since| since <= now)
    }

    /// How bad it is for the package `affected[index]`: the package's own rating before the whole one, a later version of
    /// CVSS before an earlier, a vector before a word. A vector that cannot be read counts as none; see
    /// [`Advisory::unreadable_vectors`].
    pub fn assessment(&self, index: usize) -> Assessment {
        let package = self.affected.get(index);
        let ratings = [package.map(|package| package.severity.as_slice()).unwrap_or_default(), &self.severity];
        let words = [package.and_then(|package| package.word.as_deref()), self.word.as_deref()];
        let vector_in_word = words.iter().flatten().find_map(|word| word.parse::<Vector>().ok());
        let best = |ratings: &[Rating]| ratings.iter().filter_map(Rating::vector).max_by_key(Vector::version);
        if let Some(vector) = ratings.iter().find_map(|ratings| best(ratings)).or(vector_in_word) {
            return Assessment { severity: vector.score().into(), vector: Some(vector) };
        }
        let stated = ratings.iter().flat_map(|ratings| ratings.iter()).map(|rating| rating.score.as_str());
        let severity = words.into_iter().flatten().chain(stated).find_map(Severity::from_word).unwrap_or_default();
        Assessment { severity, vector: None }
    }

    /// The ratings whose vectors cannot be read.
    pub fn unreadable_vectors(&self) -> impl Iterator<Item = &Rating> {
        let packages = self.affected.iter().flat_map(|affected| &affected.severity);
        self.severity
            .iter()
            .chain(packages)
            .filter(|rating| rating.kind.starts_with("CVSS") && rating.vector().is_none())
    }
}

impl Rating {
    /// The vector, where it is one that can be read.
    pub fn vector(&self) -> Option<Vector> {
        if self.kind.starts_with("CVSS") { self.score.parse().ok() } else { None }
    }
}

impl Event {
    /// The version that it happens at.
    pub fn version(&self) -> &str {
        let (Self::Introduced(version) | Self::Fixed(version) | Self::LastAffected(version) | Self::Limit(version)) =
            self;
        version
    }
}
