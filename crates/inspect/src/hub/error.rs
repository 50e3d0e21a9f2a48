//! What the hub's side of inspection refuses, each with cause and next step.

use api::Problem;
use base::db::DbError;
use oci::{Digest, ManifestError};

use super::packed::Damaged;
use crate::document::WriteError;
use crate::document::read::ReadError;

/// A refusal or failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No repository has such an image.
    #[error("the hub has no image {digest}")]
    ImageUnknown {
        /// The digest that was asked for.
        digest: Digest,
    },
    /// It was not read yet, or cannot be.
    #[error("{digest} was not examined: {why}")]
    NotExamined {
        /// The image.
        digest: Digest,
        /// Why not.
        why: String,
    },
    /// A cursor, or what is sought, cannot be read.
    #[error("{0}")]
    Request(String),
    /// A file of advisories cannot be used.
    #[error("the advisories cannot be used: {0}")]
    Advisories(String),
    /// A manifest cannot be read.
    #[error("the manifest cannot be read: {0}")]
    Manifest(#[from] ManifestError),
    /// What is stored is damaged.
    #[error("what is stored is damaged: {what}")]
    Damaged {
        /// What, and how.
        what: String,
    },
    /// Work in the background ended before its time, or a temporary file failed.
    #[error("{0}")]
    Work(String),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Another context refused.
    #[error("{0}")]
    Other(#[from] Problem),
}

impl From<Damaged> for Error {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged { what: damaged.to_string() }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Damaged { what: error.to_string() }
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        Self::Work(error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Work(error.to_string())
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Work(error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, kind, title, hint) = match error {
            Error::Db(error) => return error.into(),
            Error::Other(problem) => return problem,
            Error::Damaged { .. } | Error::Work(_) => return Problem::internal(&error),
            Error::ImageUnknown { .. } => (
                404,
                "image-unknown",
                "There is no such image",
                "Name the manifest of one platform; the pages under /images list what there is.",
            ),
            Error::NotExamined { .. } => (
                409,
                "image-not-examined",
                "The image was not examined",
                "An image that was pushed just now takes seconds; of others the reason says what is to be done.",
            ),
            Error::Request(_) => (
                400,
                "request-invalid",
                "The request is not valid",
                "`longshore where --help` shows what can be sought; cursors are given back unchanged.",
            ),
            Error::Advisories(_) => (
                422,
                "advisories-invalid",
                "This is no file of advisories",
                "`longshore advisories update` writes one.",
            ),
            Error::Manifest(_) => {
                (422, "manifest-invalid", "The manifest cannot be read", "Push the image again with a current client.")
            }
        };
        Problem::new(status, kind, title).detail(error.to_string()).hint(hint)
    }
}
