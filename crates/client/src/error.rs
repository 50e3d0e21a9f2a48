//! What can go wrong with a registry.

use std::sync::Arc;

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
    #[error(
        "registry {host} refuses to {action}{}; give credentials for it that may, and check the name",
        said(message)
    )]
    Denied {
        /// The registry.
        host: String,
        /// What was tried.
        action: &'static str,
        /// What it said, cut; may be empty.
        message: String,
    },
    /// Not there.
    #[error("{what} is not there; check its name, and that it was pushed")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// Too many requests, or a service that asks for a pause.
    #[error("registry {host} is too busy to {action}{}; try again later", after(*seconds))]
    Busy {
        /// The registry.
        host: String,
        /// What was tried.
        action: &'static str,
        /// How long it asks to be left alone.
        seconds: Option<u64>,
    },
    /// A registry whose repositories have to be named.
    #[error(
        "registry {host} does not list its repositories to this caller, and {what} is not one that can be read; give \
         credentials that may, or name the repositories one by one"
    )]
    NoCatalog {
        /// The registry.
        host: String,
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
    /// A blob that could not be brought.
    #[error("blob {digest}: {source}")]
    Blob {
        /// The blob.
        digest: Box<Digest>,
        /// Why not.
        source: Arc<ClientError>,
    },
    /// An image of which a part is missing where it is copied from.
    #[error(
        "{repository} on {host} lists {digest} under {needed_by} and does not have it; push it there again, or leave it out"
    )]
    Incomplete {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// What is missing.
        digest: Box<Digest>,
        /// What it is part of, or says something about.
        needed_by: Box<Digest>,
    },
    /// A manifest that cannot be taken.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Bytes to be sent stopped coming.
    #[error("the bytes to be pushed stopped coming; try again")]
    Source(#[source] std::io::Error),
}

impl ClientError {
    /// Which sort of failure it is, in a word that programs may depend on.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Setup(_) => "setup",
            Self::Unreachable { .. } => "unreachable",
            Self::Denied { .. } => "denied",
            Self::NotFound { .. } => "not-found",
            Self::Busy { .. } => "busy",
            Self::NoCatalog { .. } => "no-catalog",
            Self::Status { .. } => "refused",
            Self::Protocol { .. } => "protocol",
            Self::Untrusted { .. } => "untrusted",
            Self::DigestMismatch { .. } => "digest",
            Self::Blob { source, .. } => source.kind(),
            Self::Incomplete { .. } => "incomplete",
            Self::Manifest(_) => "manifest",
            Self::Source(_) => "broken-off",
        }
    }

    /// What happened with its causes: of a connection that failed, the last cause says most.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut cause = match self {
            Self::Blob { source, .. } => std::error::Error::source(&**source),
            _ => std::error::Error::source(self),
        };
        while let Some(source) = cause {
            let said = source.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = source.source();
        }
        text
    }

    /// Whether a side does not answer, or no longer: then the next request would fare no better.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => true,
            Self::Blob { source, .. } => source.is_silence(),
            _ => false,
        }
    }

    /// Whether there is no room left.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == 507,
            Self::Blob { source, .. } => source.is_full(),
            _ => false,
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn after(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" and wants to be left alone for {seconds} s")).unwrap_or_default()
}
