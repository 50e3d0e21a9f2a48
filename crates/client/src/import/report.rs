//! What an import says while it goes on, and at its end.

use oci::Reference;
use serde::{Deserialize, Serialize};

use crate::{ClientError, Done};

/// What happens while things are brought in.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// So many repositories were found; their tags are listed next.
    Repositories(usize),
    /// So many more tags are to be brought.
    Tags(u64),
    /// So many bytes of blobs came from the source.
    Bytes(u64),
    /// A tag is dealt with, one way or the other.
    Tag,
    /// Something could not be brought, or is not equal.
    Failed(&'a Failure),
    /// A repository is dealt with.
    Repository(&'a RepositoryReport),
}

/// What could not be brought, or is not equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The image at the source.
    pub image: String,
    /// Which sort of failure, as one word that stays the same.
    pub kind: String,
    /// What happened, why, and what to do next.
    pub reason: String,
}

impl Failure {
    pub(crate) fn new(image: &Reference, error: &ClientError) -> Self {
        Self { image: image.to_string(), kind: error.kind().to_owned(), reason: error.whole() }
    }
}

/// What was brought into one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryReport {
    /// At the source.
    pub source: String,
    /// On the target.
    pub target: String,
    /// Tags that were to be brought, with those that belong to images: signatures, attestations.
    pub tags: u64,
    /// Of these, those whose digest was read again on both sides and is equal.
    pub equal: u64,
    /// What failed or differs.
    pub failed: u64,
    /// What was done.
    pub done: Done,
}

/// What was brought in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Where from.
    pub source: String,
    /// Where to.
    pub target: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Whether everything that was meant is there with the same digests; in a dry run, whether it could be read.
    pub complete: bool,
    /// Whether the registry lists its repositories. Where it does not, only the one that was named was looked at.
    pub has_catalog: bool,
    /// Every repository, in the source's order.
    pub repositories: Vec<RepositoryReport>,
    /// What was done, in all.
    pub total: Done,
    /// What failed or differs, the first of them.
    pub failures: Vec<Failure>,
    /// How many failed or differ.
    pub failed: u64,
    /// Why the rest was not tried, where it was not.
    pub stopped: Option<String>,
}
