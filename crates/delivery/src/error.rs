//! What delivery refuses and what fails, each kind with a status, a stable code and a title of its own.

use api::Problem;
use base::db::DbError;

/// Why something was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No release has this id.
    ReleaseUnknown,
    /// Several releases begin with these digits.
    ReleaseAmbiguous,
    /// The text cannot begin a release id.
    ReleaseInvalid,
    /// A run handed over releases that contradict each other.
    ReleaseInconsistent,
    /// No environment has this name.
    EnvironmentUnknown,
    /// The environment is for other apps.
    EnvironmentNotForApp,
    /// A file of environments cannot be used.
    EnvironmentsInvalid,
    /// The app was never built.
    NoBuild,
    /// The app has no such service.
    ServiceUnknown,
    /// The environment before does not run what is to be promoted.
    NotInEnvironmentBefore,
    /// Everything is as wanted already. The command line takes it for success.
    NothingToPromote,
    /// The environment ran nothing before.
    NothingToRollBack,
    /// Another plan of the app works on the environment.
    PlanUnderWay,
    /// No plan has this id.
    PlanUnknown,
    /// No host of the environment is known.
    NoHost,
    /// A host that the plan needs does not report.
    HostDown,
    /// The engine of a host that the plan needs does not answer.
    EngineDown,
    /// No host was enrolled under this name.
    HostUnknown,
    /// No host satisfies a service's placement constraints.
    NoHostMatches,
    /// A service's volume lies on a host where the service may no longer run.
    VolumeHostExcluded,
    /// More containers of a service than hosts for its volume, or two services on one volume.
    VolumeShared,
    /// A service awaits one that is not part of what is deployed.
    DependencyMissing,
    /// Services await each other in a circle.
    DependencyCycle,
    /// A definition asks for what environments do not allow.
    DefinitionRefused,
    /// Two services publish one port of a host, or take one named volume of its engine.
    PortTaken,
    /// A request's field is not valid.
    RequestInvalid,
    /// Too many log streams are open.
    LogStreamsFull,
    /// Nobody asked for this log stream, or nobody reads it any more.
    LogStreamUnknown,
    /// A report or request is larger than the protocol allows.
    TooLarge,
}

impl ErrorKind {
    /// HTTP status, stable code and title.
    fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::ReleaseUnknown => (404, "release-unknown", "There is no such release"),
            Self::ReleaseAmbiguous => (409, "release-ambiguous", "Several releases begin with these digits"),
            Self::ReleaseInvalid => (400, "release-invalid", "This cannot be a release id"),
            Self::ReleaseInconsistent => (400, "release-inconsistent", "The releases of the run contradict each other"),
            Self::EnvironmentUnknown => (404, "environment-unknown", "There is no such environment"),
            Self::EnvironmentNotForApp => (409, "environment-not-for-app", "The environment is not for this app"),
            Self::EnvironmentsInvalid => (400, "environments-invalid", "The file of environments cannot be used"),
            Self::NoBuild => (409, "no-build", "There is nothing to promote yet"),
            Self::ServiceUnknown => (404, "service-unknown", "The app has no such service"),
            Self::NotInEnvironmentBefore => {
                (409, "not-in-environment-before", "The environment before does not run this")
            }
            Self::NothingToPromote => (409, "nothing-to-promote", "The environment is up to date"),
            Self::NothingToRollBack => (409, "nothing-to-roll-back", "The environment ran nothing before"),
            Self::PlanUnderWay => (409, "plan-under-way", "Another plan works on the environment"),
            Self::PlanUnknown => (404, "plan-unknown", "There is no such plan"),
            Self::NoHost => (409, "no-host", "The environment has no host"),
            Self::HostDown => (409, "host-down", "A host of the environment is down"),
            Self::EngineDown => (409, "engine-down", "The engine of a host does not answer"),
            Self::HostUnknown => (404, "host-unknown", "There is no such host"),
            Self::NoHostMatches => (409, "no-host-matches", "No host may run the service"),
            Self::VolumeHostExcluded => (409, "volume-host-excluded", "A service would have to leave its volume"),
            Self::VolumeShared => (409, "volume-shared", "Two containers would use one volume"),
            Self::DependencyMissing => (409, "dependency-missing", "A service awaits one that is not deployed"),
            Self::DependencyCycle => (409, "dependency-cycle", "Services await each other in a circle"),
            Self::DefinitionRefused => (409, "definition-refused", "The definition asks for what environments refuse"),
            Self::PortTaken => (409, "port-taken", "Two services want one port or volume of a host"),
            Self::RequestInvalid => (400, "request-invalid", "The request is not valid"),
            Self::LogStreamsFull => (503, "log-streams-full", "Too many log streams are open"),
            Self::LogStreamUnknown => (404, "log-stream-unknown", "Nobody reads this log stream"),
            Self::TooLarge => (413, "body-too-large", "The message is too large"),
        }
    }
}

/// Anything that keeps delivery from doing what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It was refused: nothing was changed.
    #[error("{}: {detail}", kind.parts().2)]
    Refused {
        /// The kind.
        kind: ErrorKind,
        /// Why, this time.
        detail: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// What the database holds cannot be read.
    #[error("a stored {what} cannot be read: {error}")]
    Stored {
        /// What it is.
        what: &'static str,
        /// The decoder's message.
        error: String,
    },
    /// Another context refused.
    #[error("{0}")]
    Other(Problem),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { kind, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// The kind, when it was refused by delivery itself.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Refused { kind, .. } => Some(*kind),
            Self::Database(_) | Self::Stored { .. } | Self::Other(_) => None,
        }
    }

    pub(crate) fn stored(what: &'static str) -> impl Fn(serde_json::Error) -> Self {
        move |error| Self::Stored { what, error: error.to_string() }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused { kind, detail, hint } => {
                let (status, code, title) = kind.parts();
                problem(status, code, title, &detail, hint)
            }
            Error::Database(error) if error.is_temporary() => problem(
                503,
                "database-unavailable",
                "The hub's database does not answer",
                &error.to_string(),
                Some(error.hint().unwrap_or("Try again in a moment.").to_owned()),
            ),
            Error::Database(error) => problem(
                500,
                "database-failed",
                "The hub's database failed",
                &error.to_string(),
                error.hint().map(str::to_owned),
            ),
            Error::Stored { .. } => problem(
                500,
                "stored-unreadable",
                "Something the hub stored cannot be read",
                &error.to_string(),
                Some("Was the data folder used by a newer version? `longshore version` shows this one.".to_owned()),
            ),
            Error::Other(problem) => problem,
        }
    }
}

pub(crate) fn problem(status: u16, kind: &str, title: &str, detail: &str, hint: Option<String>) -> Problem {
    let mut problem = Problem::new(status, kind, title).detail(detail);
    problem.hint = hint;
    problem
}
