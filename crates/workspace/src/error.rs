//! What can go wrong with a workspace: what was tried, why it failed, what to do next.

use api::Problem;
use base::folder::FolderError;
use compose::ComposeError;
use engine::build::BuildError;
use engine::{EngineError, ErrorKind as EngineErrorKind};

/// The cases that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no Compose file, or it cannot be read.
    ProjectMissing,
    /// A Compose file, or what it asks for, is wrong.
    ProjectInvalid,
    /// A service that the project does not have.
    ServiceUnknown,
    /// What is asked for does not go with how things stand.
    Refused,
    /// The hub is away, and what it would have said is not remembered.
    HubUnreachable,
    /// The container engine refuses or fails.
    Engine,
    /// The container engine does not answer.
    EngineAway,
    /// Somebody else took a port of this machine.
    PortTaken,
    /// A build from source failed.
    Build,
    /// A service did not start, or ended.
    ServiceFailed,
    /// The workspace's own folder.
    State,
}

impl ErrorKind {
    /// Status, stable code and title of the problem.
    fn problem(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::ProjectMissing => (404, "project-missing", "There is no Compose project here"),
            Self::ProjectInvalid => (422, "project-invalid", "The Compose project cannot be used"),
            Self::ServiceUnknown => (404, "service-unknown", "There is no such service"),
            Self::Refused => (409, "workspace-refused", "This cannot be done as things stand"),
            Self::HubUnreachable => (503, "hub-unreachable", "The hub cannot be reached"),
            Self::EngineAway => (503, "engine-unreachable", "The container engine cannot be reached"),
            Self::Engine => (502, "engine", "The container engine cannot do it"),
            Self::PortTaken => (409, "port-taken", "A port of this machine is taken"),
            Self::Build => (422, "build-failed", "A service could not be built from source"),
            Self::ServiceFailed => (500, "service-failed", "Not everything runs"),
            Self::State => (500, "workspace-state", "The workspace's folder cannot be used"),
        }
    }
}

/// Something that did not work.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct Error {
    /// The case.
    pub kind: ErrorKind,
    /// What was tried and why it failed.
    pub why: String,
    /// What a person can do next.
    pub hint: Option<String>,
}

impl Error {
    /// An error with a next step.
    pub fn new(kind: ErrorKind, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, why: why.into(), hint: Some(hint.into()) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, kind, title) = error.kind.problem();
        let problem = Self::new(status, kind, title).detail(error.why);
        match error.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        let kind = match error.kind {
            EngineErrorKind::Unreachable | EngineErrorKind::Timeout => ErrorKind::EngineAway,
            EngineErrorKind::PortTaken => ErrorKind::PortTaken,
            _ => ErrorKind::Engine,
        };
        Self { kind, why: error.to_string(), hint: error.hint }
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Engine(error) => error.into(),
            BuildError::Failed(failure) => {
                Self { kind: ErrorKind::Build, why: failure.to_string(), hint: failure.hint }
            }
        }
    }
}

impl From<ComposeError> for Error {
    fn from(error: ComposeError) -> Self {
        Self { kind: ErrorKind::ProjectInvalid, why: error.to_string(), hint: None }
    }
}

impl From<FolderError> for Error {
    fn from(error: FolderError) -> Self {
        Self { kind: ErrorKind::State, why: error.to_string(), hint: None }
    }
}
