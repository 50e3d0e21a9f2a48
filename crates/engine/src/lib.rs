//! One host's container engine: what Longshore asks of it, Docker's answer, and the way from a service's definition to
//! the containers that should run.
//!
//! - [`Engine`] is the seam: the converge loop of a host is tested against [`fake::FakeEngine`] and runs on [`Docker`].
//! - [`build`] streams a context to BuildKit and turns its progress into typed events.
//! - [`wanted`] is a container as it should be, a plain value with a stable hash; [`definition`] makes it from a Compose
//!   service, and on a hub's host refuses what would reach it (privileged, host namespaces, devices, host mounts);
//!   [`machine`] is what a developer's own machine gives.
//! - [`difference`] compares wanted and observed without touching an engine; [`ensure`] makes one thing so.
//!
//! Invariants: nothing here knows of releases, environments or the hub; every object is found again by its labels; on
//! a hub's host no port is ever published through the engine, because published ports belong to the proxy.

pub mod build;
pub mod definition;
pub mod difference;
mod docker;
pub mod ensure;
mod error;
pub mod fake;
pub mod machine;
mod model;
mod seam;
mod session;
mod subnet;
pub mod wanted;

pub use docker::{Address, Docker, TlsAddress};
pub use error::{EngineError, ErrorKind};
pub use model::{
    Container, ContainerState, ContainerStats, ContainerSummary, EngineEvent, EngineVersion, EventKind, Health, Image,
    Labels, LogLine, LogOptions, LogStream, Network, NetworkSpec, Place, Progress, PullProgress, Volume, VolumeSpec,
};
pub use seam::Engine;
pub use session::{ExecOptions, Session, SessionInput, SessionOutput, TerminalSize};
pub use subnet::Subnet;
pub use wanted::WantedContainer;
