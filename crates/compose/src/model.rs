//! The resolved form of a Compose project: one typed shape whatever syntax the file used.
//!
//! Every type here is stored, hashed and sent to hosts as JSON. The form is canonical: maps are sorted, what is absent
//! is left out, sizes are bytes, durations are microseconds and processors are billionths of one (the units stand in
//! the names). Two files that mean the same give the same bytes.

mod build;
mod deploy;
mod develop;
mod files;
mod laptop;
mod project;
mod service;
mod settings;

pub use build::Build;
pub(crate) use build::is_address;

pub use deploy::{
    Attribute, Constraint, Deploy, FailureAction, Mode, Operator, Placement, ResourceSet, Resources, RestartCondition,
    RestartPolicy, UpdateConfig, UpdateOrder,
};
pub use develop::{Hook, WatchAction, WatchRule};
pub use files::{FileGrant, FileSource};
pub use project::{CycleError, Ipam, IpamPool, Network, ProfileError, Project, ServiceDefinition, Volume};
pub use service::{
    Condition, Dependency, HealthTest, Healthcheck, Logging, Mount, Port, Protocol, Restart, Service, ServiceNetwork,
    Ulimit,
};
pub use settings::{
    Blkio, Cpu, Device, DeviceRequest, EndpointOptions, ExternalLink, MountOptions, MountOwner, Namespace, Namespaces,
    PullPolicy, Recursive, Selinux, Settings, VolumesFrom,
};

/// Name of the network that a service joins when it names none.
pub const DEFAULT_NETWORK: &str = "default";

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
