//! What the agent can do on its host, as plain values: decided in one place, carried out in another.

use std::time::Duration;

use api::delivery::ImageAddress;
use engine::{NetworkSpec, VolumeSpec, WantedContainer};

use super::memory::Work;

/// Something to do now. Each can be done twice, or be interrupted anywhere, without harm.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Makes a network.
    NetworkEnsure(NetworkSpec),
    /// Removes a network that nothing uses.
    NetworkRemove {
        /// Its name on the engine.
        name: String,
        /// The engine's id of it.
        id: String,
    },
    /// Makes sure that the image and the volumes are there, before anything is stopped for them.
    Prepare {
        /// For what.
        work: Work,
        /// The image.
        image: ImageAddress,
        /// The volumes.
        volumes: Vec<VolumeSpec>,
    },
    /// Creates a container without starting it.
    Create {
        /// For what.
        work: Work,
        /// The container.
        container: Box<WantedContainer>,
    },
    /// Starts a container, unless another holds one of its volumes.
    Start {
        /// For what.
        work: Work,
        /// The engine's id of it.
        container: String,
    },
    /// Reads the last lines of a container that failed, so that the failure can be kept before the container goes.
    Autopsy {
        /// For what.
        work: Work,
        /// The specification that failed.
        spec: String,
        /// The engine's id of the container.
        container: String,
        /// Why it counts as failed.
        cause: String,
    },
    /// Stops a container and keeps it.
    Stop {
        /// For what.
        work: Work,
        /// The engine's id of it.
        container: String,
        /// How long it may take until it is killed.
        grace: Duration,
    },
    /// Kills and removes a container; named volumes stay.
    Remove {
        /// For what.
        work: Work,
        /// The engine's id of it.
        container: String,
    },
}

impl Action {
    /// What it works on.
    pub fn work(&self) -> Work {
        match self {
            Self::NetworkEnsure(network) => Work::Network(network.name.clone()),
            Self::NetworkRemove { name, .. } => Work::Network(name.clone()),
            Self::Prepare { work, .. }
            | Self::Create { work, .. }
            | Self::Start { work, .. }
            | Self::Autopsy { work, .. }
            | Self::Stop { work, .. }
            | Self::Remove { work, .. } => work.clone(),
        }
    }
}
