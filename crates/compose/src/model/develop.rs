//! Commands that are run in a service's containers, and rules for changes of its sources. Workspaces only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_false;

/// A command that is run in a container that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Program and arguments; never empty in a loaded project.
    pub command: Vec<String>,
    /// Its user; the service's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether it has every capability.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Where it is run; the service's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Variables laid over the service's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
}

/// What is done when files change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRule {
    /// File or folder that is watched: relative to the first Compose file, absolute, or from `~`.
    pub path: String,
    /// What is done.
    pub action: WatchAction,
    /// Where in the container changed files go; there for every action that syncs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Patterns, as in `.dockerignore`, of paths below `path` that do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Patterns of the paths below `path` that alone count; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Whether files are brought in line when watching begins.
    #[serde(default, skip_serializing_if = "is_false")]
    pub initial_sync: bool,
    /// What is run after a sync; there for [`WatchAction::SyncExec`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Hook>,
}

/// What is done when files change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchAction {
    /// The image is built again and the container replaced.
    #[serde(rename = "rebuild")]
    Rebuild,
    /// The container is started again.
    #[serde(rename = "restart")]
    Restart,
    /// Changed files are copied into the container.
    #[serde(rename = "sync")]
    Sync,
    /// The same, and the container is started again.
    #[serde(rename = "sync+restart")]
    SyncRestart,
    /// The same, and a command is run in the container.
    #[serde(rename = "sync+exec")]
    SyncExec,
}

impl WatchAction {
    /// Whether it copies files into the container.
    pub fn syncs(self) -> bool {
        match self {
            WatchAction::Sync | WatchAction::SyncRestart | WatchAction::SyncExec => true,
            WatchAction::Rebuild | WatchAction::Restart => false,
        }
    }
}
