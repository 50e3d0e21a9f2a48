//! What the hub's side of fan-out refuses, each with cause and next step.

use api::{HostName, Problem};
use base::db::DbError;
use oci::{Digest, ManifestError, RepositoryName};

/// A refusal or failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry has no such manifest.
    #[error("{repository} has no image {reference}")]
    ImageUnknown {
        /// The repository.
        repository: RepositoryName,
        /// What was asked for, cut to a readable length.
        reference: String,
    },
    /// A manifest that the registry has cannot be read.
    #[error("the manifest cannot be read: {0}")]
    Manifest(#[from] ManifestError),
    /// No host was granted this blob, or its tree is being made.
    #[error("there is no tree of hashes of {digest} for host {host}")]
    TreeUnknown {
        /// The blob.
        digest: Digest,
        /// Who asks.
        host: HostName,
    },
    /// The registry has another blob than its digest or length says.
    #[error("the blob {digest} cannot be cut into pieces: {why}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// An announcement that is out of bounds.
    #[error("{0}")]
    Announce(String),
    /// No host announced this image.
    #[error("no host has or fetches {digest}")]
    SwarmUnknown {
        /// The digest of its manifest.
        digest: Digest,
    },
    /// More hosts than a tracker keeps.
    #[error("{hosts} hosts announce themselves already")]
    TooManyHosts {
        /// How many there are.
        hosts: usize,
    },
    /// More announcements of a host than are held open.
    #[error("host {host} has too many announcements open")]
    TooManyHeld {
        /// The host.
        host: HostName,
    },
    /// A preheat that cannot be meant so.
    #[error("{0}")]
    Preheat(String),
    /// What is stored is damaged.
    #[error("what is stored is damaged: {what}")]
    Damaged {
        /// What, and how.
        what: String,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Another context refused.
    #[error("{0}")]
    Other(#[from] Problem),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, kind, title, hint) = match error {
            Error::Db(error) => return error.into(),
            Error::Other(problem) => return problem,
            Error::Damaged { .. } => return Problem::internal(&error),
            Error::ImageUnknown { .. } => (
                404,
                "image-unknown",
                "There is no such image",
                "The pages under /images list what there is. Was it pushed to another repository?",
            ),
            Error::Manifest(_) => {
                (422, "manifest-invalid", "The manifest cannot be read", "Push the image again with a current client.")
            }
            Error::TreeUnknown { .. } => (
                404,
                "tree-unknown",
                "There is no such tree of hashes",
                "Ask for the image first: its grant lists the blobs that have trees.",
            ),
            Error::Blob { .. } => (
                502,
                "blob-unreadable",
                "The blob cannot be read as a whole",
                "Hosts pull it from the hub meanwhile; `GET /api/v1/registry/damaged` says whether its bytes are lost.",
            ),
            Error::SwarmUnknown { .. } => (
                404,
                "swarm-unknown",
                "No host has this image",
                "`GET /api/v1/fanout` lists images that hosts have or fetch.",
            ),
            Error::Announce(_) => (
                400,
                "announce-invalid",
                "The announcement is not valid",
                "Hub and agent may be of versions too far apart: `longshore version` shows each.",
            ),
            Error::TooManyHosts { .. } => (
                429,
                "tracker-full",
                "The tracker has no room for another host",
                "The host pulls from the hub; spread the fleet over several hubs.",
            ),
            Error::TooManyHeld { .. } => (
                429,
                "announce-too-many",
                "The host has too many announcements open",
                "Wait for their answers: do several agents run under one host's certificate?",
            ),
            Error::Preheat(_) => (
                400,
                "preheat-invalid",
                "This cannot be fetched ahead of time",
                "`longshore preheat --help` shows how it is asked for.",
            ),
        };
        Problem::new(status, kind, title).detail(error.to_string()).hint(hint)
    }
}
