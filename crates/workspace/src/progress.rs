//! What a workspace says while it works. Whoever shows it decides how.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Something worth knowing that stops nothing.
    Note(String),
    /// A release's image is being pulled.
    Pulling {
        /// The service.
        service: String,
    },
    /// How far it is.
    PullBytes {
        /// The service.
        service: String,
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all of the layers that were begun.
        total_bytes: u64,
    },
    /// It is there.
    Pulled {
        /// The service.
        service: String,
    },
    /// A build began.
    Building {
        /// The service.
        service: String,
    },
    /// A step of it began.
    BuildStep {
        /// The service.
        service: String,
        /// BuildKit's name of the step.
        step: String,
    },
    /// A step wrote something.
    BuildLog {
        /// The service.
        service: String,
        /// What it wrote; not always whole lines.
        text: String,
    },
    /// A build ended well.
    Built {
        /// The service.
        service: String,
    },
    /// A container was started.
    Started {
        /// The service.
        service: String,
    },
    /// It runs, and is healthy where it has a healthcheck.
    Ready {
        /// The service.
        service: String,
    },
    /// It ended with status 0.
    Completed {
        /// The service.
        service: String,
    },
    /// Its new volumes are being filled, as `longshore.yaml` says.
    Filling {
        /// The service.
        service: String,
    },
    /// They are filled.
    Filled {
        /// The service.
        service: String,
    },
    /// A container is stopped, or was found so.
    Stopped {
        /// The service.
        service: String,
    },
    /// A container was removed.
    Removed {
        /// The container's name.
        name: String,
    },
    /// Something about a service did not work.
    Failed {
        /// The service.
        service: String,
        /// Why.
        why: String,
    },
    /// What was saved is in its containers.
    Synced {
        /// The service.
        service: String,
    },
    /// The engine went away, or came back.
    Engine {
        /// Whether it answers.
        up: bool,
        /// In what words.
        why: String,
    },
}

/// Takes what is told. Nobody may be listening, or too slowly: work goes on, and what cannot be kept is lost.
#[derive(Debug, Clone)]
pub struct Voice(mpsc::Sender<Told>);

/// What may wait to be shown.
const WAITING_MAX: usize = 4096;

impl Voice {
    /// A voice and its listener.
    pub fn new() -> (Self, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Says something.
    pub fn tell(&self, told: Told) {
        let _lost = self.0.try_send(told);
    }
}
