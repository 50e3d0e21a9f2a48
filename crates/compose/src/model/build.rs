//! How a service's image is built.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Ulimit, is_false};

/// How an image is built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Folder relative to the first Compose file, without `./` and `x/..`; `.` is the folder itself. May begin with
    /// `../`: whoever builds decides how far out it may lead. In a workspace also an absolute path, one from `~`, or an
    /// address (see [`Build::is_remote`]).
    pub context: String,
    /// Dockerfile relative to the context, and within it unless it is a workspace's; the engine's `Dockerfile` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// Build arguments. One that is written without a value and is not in the environment is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Stage to build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Labels of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Network of `RUN` instructions, such as `host` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The Dockerfile's text, in place of a file. Workspaces only, as is all that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// Names that `RUN` instructions find, as [`super::Service::extra_hosts`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Whether every step runs again.
    #[serde(skip_serializing_if = "is_false")]
    pub no_cache: bool,
    /// Whether bases are asked for again, though the engine has them.
    #[serde(skip_serializing_if = "is_false")]
    pub pull: bool,
    /// The platform to build for, such as `linux/arm64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Images whose steps may be taken over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<String>,
    /// Size of `/dev/shm` for `RUN` instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size_bytes: Option<u64>,
    /// Further references that the image is given.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Resource limits of `RUN` instructions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
}

impl Build {
    /// Whether the context is an address that the engine fetches, and no folder.
    pub fn is_remote(&self) -> bool {
        is_address(&self.context)
    }
}

/// Whether a context is an address: `https://…`, `git@…`, `git://…`.
pub(crate) fn is_address(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@")
}
