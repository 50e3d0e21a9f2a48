//! What can go wrong between Longshore and an engine: what was tried, why it failed, what to do next.

/// The cases that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The engine's address makes no sense or asks for a transport that is not supported.
    Address,
    /// Nothing answers at the engine's address.
    Unreachable,
    /// The engine may not be used by this user.
    Forbidden,
    /// The engine speaks an API older than the oldest supported one.
    TooOld,
    /// The object asked for is not there.
    NotFound,
    /// The object is there already, is in use, or another holds what was asked for.
    Conflict,
    /// Somebody else on the engine's machine listens on a port that is to be published.
    PortTaken,
    /// The engine called the request wrong.
    Invalid,
    /// The image could not be had from its registry.
    Pull,
    /// The registry did not take the image.
    Push,
    /// Asked for something that would reach the host and is never produced here.
    Policy,
    /// The engine did not answer in time.
    Timeout,
    /// The engine failed, or said something that could not be read.
    Engine,
}

/// A call to the engine that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}")]
pub struct EngineError {
    /// The case, for callers that react to it.
    pub kind: ErrorKind,
    /// What was tried, as a sentence without a full stop: `cannot start container web-1`.
    pub what: String,
    /// Why it failed, in the engine's words where it said some.
    pub why: String,
    /// What a person can do next.
    pub hint: Option<String>,
}

impl EngineError {
    /// An error of this kind; the hint is the kind's usual one, if it has one.
    pub fn new(kind: ErrorKind, what: impl Into<String>, why: impl Into<String>) -> Self {
        let hint = match kind {
            ErrorKind::Unreachable => {
                Some("start the engine (`systemctl start docker`), or set DOCKER_HOST to where it listens")
            }
            ErrorKind::Forbidden => Some("run as root, or as a user of the group `docker`"),
            ErrorKind::TooOld => Some("upgrade the engine to Docker 20.10 or later"),
            ErrorKind::Pull => Some("check that the registry can be reached from the engine and has this digest"),
            ErrorKind::Push => Some("check that the registry can be reached from the engine and takes pushes"),
            _ => None,
        };
        Self { kind, what: what.into(), why: why.into(), hint: hint.map(str::to_owned) }
    }

    /// The same error with another next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether trying again later, unchanged, may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Pull | ErrorKind::Push)
    }
}
