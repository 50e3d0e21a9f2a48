//! What can go wrong with a registry.

use oci::{Digest, ManifestError};

/// Why a registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up; see to the machine's TLS certificates")]
    Setup(#[source] reqwest::Error),
    /// No answer.
    #[error("registry {host} does not answer; check its address and that it is up, then try again")]
    Unreachable {
        /// The registry.
        host: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// Not allowed.
    #[error("registry {host} refuses to {action}; give credentials for it that may, and check the name")]
    Denied {
        /// The registry.
        host: String,
        /// What was tried.
        action: &'static str,
    },
    /// Not there.
    #[error("{what} is not there; check its name, and that it was pushed")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Any other answer.
    #[error("registry {host} answered {status} when asked to {action}: {message}; see its log")]
    Status {
        /// The registry.
        host: String,
        /// What was tried.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it said, cut.
        message: String,
    },
    /// An answer that does not follow the specification.
    #[error("registry {host} answers against the distribution specification: {reason}; check that it is a registry")]
    Protocol {
        /// The registry.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// An answer that leads where it must not.
    #[error("registry {host} leads to {target}, which is not followed: {reason}; if it is yours, see to its setup")]
    Untrusted {
        /// The registry.
        host: String,
        /// Where it leads.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// Wrong bytes.
    #[error("registry {host} sent bytes with the digest {found} for {expected}; they were not used, try again")]
    DigestMismatch {
        /// The registry.
        host: String,
        /// What was asked for.
        expected: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// A manifest that cannot be taken.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Bytes to be sent stopped coming.
    #[error("the bytes to be pushed stopped coming; try again")]
    Source(#[source] std::io::Error),
}
