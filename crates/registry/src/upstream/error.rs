//! Why an upstream did not give what was asked of it.

use std::sync::Arc;

use client::ClientError;

use crate::Error;

/// Why an upstream did not give what was asked of it. Many who wait for one answer share it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    /// It is down, slow or broken.
    #[error(
        "the upstream {host} cannot be used now: {reason}; what was pulled before is still served, try again later"
    )]
    Unavailable {
        /// The upstream.
        host: String,
        /// What happened.
        reason: String,
    },
    /// It wants fewer requests.
    #[error("the upstream {host} asks to be left alone for {seconds} s; what was pulled before is still served")]
    Busy {
        /// The upstream.
        host: String,
        /// For how long.
        seconds: u64,
    },
    /// It does not let the hub in.
    #[error("the upstream {host} refuses this hub; see to username and password_file of its [[registry.upstreams]]")]
    Denied {
        /// The upstream.
        host: String,
    },
    /// It does not have it.
    #[error("the upstream {host} does not have it")]
    NotFound {
        /// The upstream.
        host: String,
    },
    /// What it sent cannot be right, and nothing of it was kept.
    #[error("the upstream {host} sent what cannot be right, and nothing of it was kept: {reason}")]
    Wrong {
        /// The upstream.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The hub could not keep what came.
    #[error(transparent)]
    Here(Arc<Error>),
}

/// A pause where an upstream asks for one without saying how long.
const BUSY_SECONDS_DEFAULT: u64 = 30;
/// The longest pause that an upstream is granted: an hour.
const BUSY_SECONDS_MAX: u64 = 3600;

impl UpstreamError {
    pub(super) fn of(host: &str, error: ClientError) -> Self {
        let host = host.to_owned();
        match error {
            ClientError::NotFound { .. } => Self::NotFound { host },
            ClientError::Denied { .. } => Self::Denied { host },
            ClientError::Busy { seconds, .. } => {
                Self::Busy { host, seconds: seconds.unwrap_or(BUSY_SECONDS_DEFAULT).clamp(1, BUSY_SECONDS_MAX) }
            }
            ClientError::Unreachable { .. } | ClientError::Setup(_) | ClientError::Source(_) => {
                Self::Unavailable { host, reason: error.whole() }
            }
            ClientError::Status { status, .. } if status >= 500 || status == 408 => {
                Self::Unavailable { host, reason: error.whole() }
            }
            _ => Self::Wrong { host, reason: error.whole() },
        }
    }

    /// Whether the same question may have an answer later, so that an old answer is better than none.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. })
    }
}

impl From<Error> for UpstreamError {
    fn from(error: Error) -> Self {
        match error {
            Error::Upstream(error) => error,
            error => Self::Here(Arc::new(error)),
        }
    }
}

impl From<blobs::BlobError> for UpstreamError {
    fn from(error: blobs::BlobError) -> Self {
        Self::Here(Arc::new(error.into()))
    }
}
