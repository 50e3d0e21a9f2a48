//! Commands of a workspace: what they share.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ::workspace::workspace::{Choice, Variable, Workspace};
use api::{Problem, Result};
use engine::{Docker, Engine};

use crate::reach::{self, Global};

pub(super) mod develop;
pub(super) mod down;
pub(super) mod exec;
pub(super) mod logs;
pub(super) mod once;
pub(super) mod ps;
mod show;
mod terminal;
pub(super) mod up;
mod view;
pub(super) mod volume;

/// Which workspace is meant.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    /// A Compose file, in place of compose.yaml and its overlays; may be given several times
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The app's name, in place of the project's; with another name one checkout has another workspace
    #[arg(short, long, value_name = "NAME")]
    project: Option<String>,
    /// Switch on services of this profile; may be given several times
    #[arg(long, value_name = "PROFILE")]
    profile: Vec<String>,
}

/// The same for a command whose `-f` means something else.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PlaceLong {
    /// A Compose file of the workspace, in place of compose.yaml and its overlays; may be given several times
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The app's name, in place of the project's
    #[arg(short, long, value_name = "NAME")]
    project: Option<String>,
    /// Switch on services of this profile; may be given several times
    #[arg(long, value_name = "PROFILE")]
    profile: Vec<String>,
}

impl From<PlaceLong> for Place {
    fn from(place: PlaceLong) -> Self {
        Self { file: place.file, project: place.project, profile: place.profile }
    }
}

impl Place {
    /// The workspace of the current folder.
    fn open(self, global: &Global) -> Result<Workspace> {
        let folder = std::env::current_dir().map_err(|error| {
            Problem::new(400, "folder-gone", "The current folder cannot be used").detail(error.to_string())
        })?;
        let address = reach::engine_address(None)?;
        let machine = address.machine().map(str::to_owned);
        let docker = Docker::new(address);
        let engine: Arc<dyn Engine> = Arc::new(docker);
        let profiles: BTreeSet<String> = self.profile.into_iter().collect();
        let variable: Variable = Arc::new(|name| std::env::var(name).ok());
        let choice = Choice { folder, files: self.file, name: self.project, profiles, machine };
        Ok(Workspace::open(choice, &state_root()?, engine, global.client()?, variable)?)
    }
}

/// Where workspaces keep what they know.
fn state_root() -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("longshore/workspaces")).ok_or_else(|| {
        Problem::new(400, "home-missing", "There is no place for the workspace's state")
            .detail("neither XDG_STATE_HOME nor HOME is set")
            .hint("Set HOME.")
    })
}

/// What to do when another process holds the workspace.
fn in_use(error: base::folder::FolderError) -> Problem {
    match error {
        base::folder::FolderError::InUse { holder, .. } => {
            let holder = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Problem::new(409, "workspace-in-use", "The workspace is attended to already")
                .detail(format!("by {holder}"))
                .hint("Use the terminal where `longshore up` runs, end it with Ctrl-C, or take it down with `longshore down`.")
        }
        error => ::workspace::Error::from(error).into(),
    }
}
