//! What a workspace should be: containers with what they await and where their image comes from. Plain values, made by
//! [`crate::resolve`] and compared with what is by [`crate::plan`].

use std::collections::{BTreeMap, BTreeSet};

use crate::contents::Contents;
use crate::fill::Fill;
use crate::policy::is_asked_each_time;
use api::delivery::{ImageAddress, ReleaseId};
use compose::model::{Build, Dependency, PullPolicy};
use engine::{Labels, NetworkSpec, VolumeSpec, WantedContainer};

/// The workspace that something on the engine belongs to.
pub const LABEL_WORKSPACE: &str = "dev.longshore.workspace";
/// The service that a container is of.
pub const LABEL_SERVICE: &str = "dev.longshore.service";
/// Which of the service's containers it is, from 1.
pub const LABEL_SLOT: &str = "dev.longshore.slot";
/// Hash of the checkout's path: a workspace of the same name that belongs to another checkout is not touched.
pub const LABEL_CHECKOUT: &str = "dev.longshore.checkout";
/// The release that a container was made from; source has none.
pub const LABEL_RELEASE: &str = "dev.longshore.release";
/// Digest of what its image was built from; a release has none.
pub const LABEL_SOURCE: &str = "dev.longshore.source";
/// Services that this one awaits, with commas between them: what stops after what is known without any file.
pub const LABEL_AWAITS: &str = "dev.longshore.awaits";
/// How long a container may take to stop, in milliseconds: known without any file.
pub const LABEL_GRACE: &str = "dev.longshore.grace";
/// A container of `longshore run` or `longshore debug`: no part of what should be.
pub const LABEL_ONCE: &str = "dev.longshore.once";

/// All that a workspace should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Networks.
    pub networks: Vec<NetworkSpec>,
    /// Volumes.
    pub volumes: Vec<VolumeSpec>,
    /// Services that are to run, by name.
    pub services: BTreeMap<String, WantedService>,
    /// All services of the project. A container of one that is not to run now is left alone; one of a service that is not
    /// among these is in nobody's way and removed.
    pub known: BTreeSet<String>,
    /// What configs and secrets are made of.
    pub contents: Contents,
    /// What fills services whose volumes are new.
    pub fills: BTreeMap<String, Fill>,
}

/// A service that is to run.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedService {
    /// Where it comes from.
    pub origin: Origin,
    /// Its containers, in the order of their slots.
    pub containers: Vec<WantedContainer>,
    /// Services awaited before it starts, all of them in [`Wanted::services`].
    pub awaits: BTreeMap<String, Dependency>,
    /// Whether others await its end.
    pub is_job: bool,
    /// When its image is pulled, or built, where the project says so.
    pub pull_policy: Option<PullPolicy>,
}

/// Where a service comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// The release that the environment has.
    Release {
        /// Its id.
        id: ReleaseId,
        /// Its image.
        image: ImageAddress,
    },
    /// Built from the checkout.
    Source(Box<SourceBuild>),
    /// An image that the project names, for which the environment has no release yet.
    Image {
        /// The reference, as written.
        reference: String,
    },
}

/// An image that is to be built from the checkout.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceBuild {
    /// How.
    pub build: Build,
    /// Digest of all that goes into it, in hex.
    pub inputs: String,
}

/// Labels that find everything of a workspace.
pub fn labels_of(workspace: &str) -> Labels {
    Labels::from([(LABEL_WORKSPACE.to_owned(), workspace.to_owned())])
}

impl WantedService {
    /// The image's name on the engine, by which its containers are created.
    pub fn reference(&self) -> Option<&str> {
        self.containers.first().map(|container| container.image.as_str())
    }

    /// Whether its image is looked at with every `up`, whatever runs already.
    pub fn asks_image(&self) -> bool {
        is_asked_each_time(&self.origin, self.pull_policy)
    }
}

/// The place of a container within its workspace, from its labels.
pub fn place_of(labels: &Labels) -> Option<(&str, usize)> {
    if labels.contains_key(LABEL_ONCE) {
        return None;
    }
    let slot = labels.get(LABEL_SLOT)?.parse().ok()?;
    Some((labels.get(LABEL_SERVICE)?, slot))
}
