//! What the pipeline refuses and what fails: what, why, and the next step.

use api::Problem;
use base::db::DbError;
use compose::ComposeError;
use engine::EngineError;
use engine::build::BuildError;

use crate::git::GitError;
use crate::model::OverlayError;
use engine::build::IgnoreError;

/// Why a request was refused or a run failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// As many runs wait as may wait.
    #[error("{runs_max} runs are waiting already")]
    QueueFull {
        /// The bound.
        runs_max: u32,
    },
    /// No run has this id.
    #[error("no run has the id {id:?}")]
    RunUnknown {
        /// As given.
        id: String,
    },
    /// A request's field is not valid.
    #[error("{what}")]
    RequestInvalid {
        /// Which, and why.
        what: String,
    },
    /// As many logs are followed as may be.
    #[error("{readers_max} logs are being read already")]
    ReadersFull {
        /// The bound.
        readers_max: usize,
    },
    /// The repository or the ref.
    #[error(transparent)]
    Git(#[from] GitError),
    /// There is no Compose file.
    #[error("there is no compose.yaml in {folder} at commit {commit}")]
    ComposeMissing {
        /// Where it was looked for.
        folder: String,
        /// At which commit.
        commit: String,
    },
    /// A Compose file is wrong; the text has a line for each finding.
    #[error(transparent)]
    ComposeInvalid(#[from] ComposeError),
    /// The Compose files are right but cannot become releases.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The Compose file describes something that has no place here.
    #[error("{what}")]
    ProjectUnsuitable {
        /// What.
        what: String,
        /// What to do next.
        hint: &'static str,
    },
    /// A service was named that the app has not.
    #[error("{app} has no service {service:?}")]
    ServiceUnknown {
        /// The app.
        app: String,
        /// The service.
        service: String,
        /// Its services.
        known: Vec<String>,
    },
    /// A service's context cannot be made.
    #[error("the build context of {service} cannot be used: {why}")]
    ContextInvalid {
        /// The service.
        service: String,
        /// Why.
        why: String,
        /// What to do next.
        hint: &'static str,
    },
    /// `.dockerignore` is wrong.
    #[error("{path}: {error}")]
    IgnoreInvalid {
        /// Where it is in the repository.
        path: String,
        /// What is wrong.
        error: IgnoreError,
    },
    /// A base image is neither on the build engine nor to be had.
    #[error("{service} is built from {base}, which the build engine neither has nor can pull: {error}")]
    BaseMissing {
        /// The service.
        service: String,
        /// The reference.
        base: String,
        /// Why.
        error: Box<EngineError>,
    },
    /// A base image was replaced while it was built upon.
    #[error("the base {base} of {service} was replaced while the build ran")]
    BaseMoved {
        /// The service.
        service: String,
        /// The reference.
        base: String,
    },
    /// The build failed: the step and its last lines.
    #[error("{service}: {error}")]
    BuildFailed {
        /// The service.
        service: String,
        /// The failure.
        error: BuildError,
    },
    /// The build engine cannot be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A pushed image is not in the registry.
    #[error("the image of {service} was pushed as {digest}, and the registry does not have it")]
    PushLost {
        /// The service.
        service: String,
        /// What the engine said.
        digest: String,
    },
    /// An image of others cannot be had.
    #[error("{service} uses {image}, which cannot be had: {why}")]
    ImageUnavailable {
        /// The service.
        service: String,
        /// The reference.
        image: String,
        /// Why.
        why: String,
    },
    /// Another context refused or failed.
    #[error("{0}")]
    Context(Problem),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// What the database holds cannot be read.
    #[error("the column {column} of the pipeline's database cannot be read: {why}")]
    Stored {
        /// Which column.
        column: &'static str,
        /// Why.
        why: String,
    },
    /// The hub was stopped during the run, again and again.
    #[error("the hub was stopped {attempts} times while this ran")]
    HubStopped {
        /// How often it was begun.
        attempts: u32,
    },
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Context(problem)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        let (status, kind, title) = error.parts();
        let hint = error.hint();
        match error {
            Error::Context(problem) => problem,
            Error::Db(ref cause) if status >= 500 => {
                tracing::error!(error = %cause, "the pipeline's database failed");
                Problem::new(status, kind, title)
                    .hint(hint.unwrap_or_else(|| "the hub's log says what; try again".to_owned()))
            }
            _ => {
                let problem = Problem::new(status, kind, title).detail(detail);
                match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }
        }
    }
}

impl Error {
    /// HTTP status, stable code and title.
    fn parts(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::QueueFull { .. } => (503, "build-queue-full", "The build server is busy"),
            Self::RunUnknown { .. } => (404, "run-unknown", "There is no such run"),
            Self::RequestInvalid { .. } => (400, "build-request-invalid", "The build request is not valid"),
            Self::ReadersFull { .. } => (503, "log-readers-full", "Too many logs are being read"),
            Self::Git(error) => match error {
                GitError::RepositoryInvalid { .. } => {
                    (400, "repository-invalid", "The repository's address is not valid")
                }
                GitError::Unreachable { .. } => (502, "repository-unreachable", "The repository cannot be fetched"),
                GitError::ReferenceInvalid { .. } => (400, "reference-invalid", "The ref is not valid"),
                GitError::ReferenceUnknown { .. } => (404, "reference-unknown", "The repository has no such ref"),
                GitError::ReferenceAmbiguous { .. } => (409, "reference-ambiguous", "The ref has several meanings"),
                GitError::FolderUnknown { .. } => (404, "folder-unknown", "The commit has no such folder"),
                GitError::Failed { .. } => (500, "git-failed", "Git failed"),
            },
            Self::ComposeMissing { .. } => (422, "compose-missing", "The commit has no Compose file"),
            Self::ComposeInvalid(_) => (422, "compose-invalid", "The Compose file is not valid"),
            Self::Overlay(_) => (422, "overlay-unsuitable", "An overlay changes what it may not"),
            Self::ProjectUnsuitable { .. } => (422, "project-unsuitable", "The Compose project cannot become releases"),
            Self::ServiceUnknown { .. } => (404, "service-unknown", "The app has no such service"),
            Self::ContextInvalid { .. } => (422, "context-invalid", "A build context cannot be used"),
            Self::IgnoreInvalid { .. } => (422, "dockerignore-invalid", "A .dockerignore is not valid"),
            Self::BaseMissing { .. } => (422, "base-missing", "A base image cannot be had"),
            Self::BaseMoved { .. } => (409, "base-moved", "A base image changed during the build"),
            Self::BuildFailed { error: BuildError::Failed(_), .. } => (422, "build-failed", "The build failed"),
            Self::BuildFailed { error: BuildError::Engine(_), .. } | Self::Engine(_) => {
                (503, "build-engine-failed", "The build engine cannot be used")
            }
            Self::PushLost { .. } => (502, "push-lost", "A pushed image is not in the registry"),
            Self::ImageUnavailable { .. } => (422, "image-unavailable", "An image cannot be had"),
            Self::Context(_) => (500, "internal", "Another part of the hub failed"),
            Self::Db(_) | Self::Stored { .. } => (500, "internal", "The pipeline's database failed"),
            Self::HubStopped { .. } => (500, "hub-stopped", "The hub was stopped"),
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::QueueFull { .. } | Self::ReadersFull { .. } => "try again when one of them has ended".to_owned(),
            Self::RunUnknown { .. } => "run ids are shown when a build begins".to_owned(),
            Self::RequestInvalid { .. } => return None,
            Self::Git(error) => match error {
                GitError::RepositoryInvalid { .. } => {
                    "give a URL (https://HOST/PATH, ssh://…, git@HOST:PATH) without a password, or an absolute path on the \
                     hub's machine; credentials belong into git's credential helper or an SSH key there"
                        .to_owned()
                }
                GitError::Unreachable { .. } => {
                    "check the address with `git ls-remote` on the hub's machine, as the user that runs the hub".to_owned()
                }
                GitError::ReferenceInvalid { .. } => "name a branch, a tag or a commit".to_owned(),
                GitError::ReferenceUnknown { near, .. } if near.is_empty() => {
                    "was it pushed? `git ls-remote` lists what the repository has".to_owned()
                }
                GitError::ReferenceUnknown { near, .. } => format!("did you mean {}?", near.join(", ")),
                GitError::ReferenceAmbiguous { .. } => "write refs/heads/…, refs/tags/… or the full commit".to_owned(),
                GitError::FolderUnknown { .. } => "the folder is relative to the repository's root".to_owned(),
                GitError::Failed { .. } => "the hub's machine needs git, and space in its data folder".to_owned(),
            },
            Self::ComposeMissing { .. } => "commit one, or name the folder it is in".to_owned(),
            Self::ComposeInvalid(_) => "correct it, commit, and build again".to_owned(),
            Self::Overlay(OverlayError::ServiceOnlyInOverlay { base, .. }) => {
                format!("describe the service in {base}, and what differs in the overlay")
            }
            Self::Overlay(OverlayError::ImageChanged { .. }) => {
                "what differs by environment belongs into configuration, not into the image".to_owned()
            }
            Self::ProjectUnsuitable { hint, .. } | Self::ContextInvalid { hint, .. } => (*hint).to_owned(),
            Self::ServiceUnknown { known, .. } => format!("it has {}", known.join(", ")),
            Self::IgnoreInvalid { .. } => "correct that line".to_owned(),
            Self::BaseMissing { .. } => {
                "check the name in FROM, and that the engine can reach its registry (`docker pull` on the build machine)"
                    .to_owned()
            }
            Self::BaseMoved { .. } => "build again".to_owned(),
            Self::BuildFailed { error, .. } => return error.hint().map(str::to_owned),
            Self::Engine(error) => return error.hint.clone(),
            Self::PushLost { .. } => {
                "does the hub's registry_address lead the engine to this hub, and not to another registry?".to_owned()
            }
            Self::ImageUnavailable { .. } => {
                "check the name, that the hub can reach its registry, or load the image into the build engine".to_owned()
            }
            Self::Context(_) => return None,
            Self::Db(error) => return error.hint().map(str::to_owned),
            Self::Stored { .. } => "was it written by a newer version of the hub?".to_owned(),
            Self::HubStopped { .. } => "look into the hub's log for the cause, then build again".to_owned(),
        })
    }
}
