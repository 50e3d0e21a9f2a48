//! Why an image cannot be inspected at all.

use std::io;

use oci::{Digest, ManifestError};

/// Why an image cannot be inspected at all.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file cannot be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// The archive around it is broken.
    #[error("the archive cannot be read: {0}")]
    Archive(#[from] crate::tar::Error),
    /// A document of it is no valid JSON of its kind.
    #[error("{what} cannot be understood: {why}")]
    Document {
        /// Which.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A bill of materials cannot be read.
    #[error("the bill of materials cannot be understood: {0}")]
    Bill(#[from] crate::document::read::ReadError),
    /// A manifest is not valid.
    #[error("the manifest {digest} is refused: {why}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        why: ManifestError,
    },
    /// Something that it names is not there.
    #[error("{0} is not there")]
    Missing(String),
    /// A document is not what its digest says.
    #[error("{digest} has other bytes than its digest says")]
    Digest {
        /// What it should be.
        digest: Digest,
    },
    /// Manifest and configuration contradict one another.
    #[error("the manifest has {manifest} layers, and the configuration {config}")]
    Layers {
        /// Layers in the manifest.
        manifest: usize,
        /// Layers in the configuration.
        config: usize,
    },
    /// It has too many of something.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// None of its images runs on the platform that was asked for.
    #[error("none of its images is for {asked}; there are: {there}")]
    Platform {
        /// What was asked for.
        asked: String,
        /// What there is.
        there: String,
    },
}

impl ImageError {
    pub(super) fn document(what: &str, error: serde_json::Error) -> Self {
        Self::Document { what: what.to_owned(), why: error.to_string() }
    }
}
