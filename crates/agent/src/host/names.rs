//! What a host's objects on the engine are called, and the labels that they are found by.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use api::delivery::ReleaseId;
use api::{AppName, EnvName, HostName, ServiceName};
use engine::wanted::STOP_GRACE_DEFAULT;
use engine::{Container, ContainerState, Labels};
use oci::Digest;

/// Label: the host that an object belongs to. Several agents share one engine, each touches only its own.
pub const LABEL_HOST: &str = "dev.longshore.host";
/// Whose host it is: the beginning of the fingerprint of the hub's CA. Two hubs may each have a host of the same name.
pub const LABEL_HUB: &str = "dev.longshore.hub";
/// Label: the environment.
pub const LABEL_ENV: &str = "dev.longshore.env";
/// Label: the app.
pub const LABEL_APP: &str = "dev.longshore.app";
/// Label: the service.
pub const LABEL_SERVICE: &str = "dev.longshore.service";
/// Label: the release that a container was made from.
pub const LABEL_RELEASE: &str = "dev.longshore.release";
/// Label: the digest of the image that was asked for.
pub const LABEL_DIGEST: &str = "dev.longshore.digest";
/// Label: which of the service's instances on the host.
pub const LABEL_SLOT: &str = "dev.longshore.slot";
/// Label: the run of a job.
pub const LABEL_JOB: &str = "dev.longshore.job";
/// Label: hash of all that a container is, without its slot and the names of others that it knows.
pub const LABEL_SPEC: &str = "dev.longshore.spec";
/// Label: the names of other services that a container knows, as `name=address,…`.
pub const LABEL_NAMES: &str = "dev.longshore.names";
/// Label: how long a container may take to stop, in milliseconds.
pub const LABEL_GRACE: &str = "dev.longshore.grace";

/// How many digits of a hash tell two containers of one slot apart.
const SUFFIX_DIGITS: usize = 10;

/// An app in an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectKey {
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
}

/// A service of an app in an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The app and its environment.
    pub project: ProjectKey,
    /// The service.
    pub service: ServiceName,
}

impl fmt::Display for ProjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.env, self.app)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.service)
    }
}

/// What a container of Longshore is there for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// One of a service's instances.
    Slot(u32),
    /// A run of a job.
    Job(String),
}

/// A container that this host made, read back from its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its service.
    pub key: ServiceKey,
    /// What it is there for.
    pub role: Role,
    /// The release it was made from.
    pub release: ReleaseId,
    /// The digest that was asked for.
    pub digest: Digest,
    /// Hash of what it is.
    pub spec: String,
    /// Names of other services that it knows.
    pub names: BTreeMap<String, IpAddr>,
    /// How long it may take to stop.
    pub grace: Duration,
    /// What the engine says of it.
    pub container: Container,
}

impl Member {
    /// Reads a container's labels. `None` when this host did not make it: labels alone do not do, since a container has
    /// those of its image too, so its name must be one that this host gives.
    pub fn read(host: &HostName, container: Container) -> Option<Self> {
        let label = |name: &str| container.labels.get(name).map(String::as_str);
        if label(LABEL_HOST) != Some(host.as_str()) || !container.name.starts_with(&prefix(host)) {
            return None;
        }
        let project = ProjectKey { env: label(LABEL_ENV)?.parse().ok()?, app: label(LABEL_APP)?.parse().ok()? };
        let key = ServiceKey { project, service: label(LABEL_SERVICE)?.parse().ok()? };
        let role = match (label(LABEL_JOB), label(LABEL_SLOT)) {
            (Some(run), _) => Role::Job(run.to_owned()),
            (None, slot) => Role::Slot(slot?.parse().ok()?),
        };
        Some(Self {
            key,
            role,
            release: label(LABEL_RELEASE)?.parse().ok()?,
            digest: label(LABEL_DIGEST)?.parse().ok()?,
            spec: label(LABEL_SPEC)?.to_owned(),
            names: names_from_label(label(LABEL_NAMES).unwrap_or_default()),
            grace: label(LABEL_GRACE)
                .and_then(|millis| millis.parse().ok())
                .map_or(STOP_GRACE_DEFAULT, Duration::from_millis),
            container,
        })
    }

    /// The engine's id of it.
    pub fn id(&self) -> &str {
        &self.container.id
    }

    /// Whether processes of it may run now, and so whether it holds its volumes.
    pub fn is_running(&self) -> bool {
        holds_volumes(self.container.state)
    }
}

/// Whether a container in this state may have processes.
pub fn holds_volumes(state: ContainerState) -> bool {
    match state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting | ContainerState::Removing => {
            true
        }
        ContainerState::Created | ContainerState::Exited | ContainerState::Dead => false,
    }
}

fn prefix(host: &HostName) -> String {
    format!("longshore-{host}-")
}

/// The engine's name of a project's network.
pub fn network_name(host: &HostName, project: &ProjectKey, network: &str) -> String {
    format!("{}{}-{}-{network}", prefix(host), project.env, project.app)
}

/// The engine's name of a project's volume.
pub fn volume_name(host: &HostName, project: &ProjectKey, volume: &str) -> String {
    format!("{}{}-{}-{volume}", prefix(host), project.env, project.app)
}

/// The name of a container; `hash` tells a successor from its predecessor.
pub fn container_name(host: &HostName, key: &ServiceKey, role: &Role, hash: &str) -> String {
    let slot = match role {
        Role::Slot(slot) => slot.to_string(),
        Role::Job(_) => "job".to_owned(),
    };
    let suffix = hash.get(..SUFFIX_DIGITS).unwrap_or(hash);
    format!("{}{}-{}-{}-{slot}-{suffix}", prefix(host), key.project.env, key.project.app, key.service)
}

/// The labels that everything of a host carries, and nothing else: what an agent looks at and touches.
pub fn owner_labels(host: &HostName, extra: &Labels) -> Labels {
    let hub = extra.get_key_value(LABEL_HUB).map(|(label, hub)| (label.clone(), hub.clone()));
    std::iter::once((LABEL_HOST.to_owned(), host.to_string())).chain(hub).collect()
}

/// The labels of everything that belongs to a project on a host, with the configured ones.
pub fn project_labels(host: &HostName, project: &ProjectKey, extra: &Labels) -> Labels {
    let mut labels = extra.clone();
    labels.insert(LABEL_HOST.to_owned(), host.to_string());
    labels.insert(LABEL_ENV.to_owned(), project.env.to_string());
    labels.insert(LABEL_APP.to_owned(), project.app.to_string());
    labels
}

/// Names as they stand in [`LABEL_NAMES`].
pub fn names_to_label(names: &BTreeMap<String, IpAddr>) -> String {
    names.iter().map(|(name, address)| format!("{name}={address}")).collect::<Vec<_>>().join(",")
}

fn names_from_label(label: &str) -> BTreeMap<String, IpAddr> {
    label
        .split(',')
        .filter_map(|entry| entry.split_once('='))
        .filter_map(|(name, address)| Some((name.to_owned(), address.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_survive_the_label(names in prop::collection::btree_map("[a-z][a-z0-9-]{0,8}", any::<[u8; 4]>(), 0..8)) {
            let names: BTreeMap<String, IpAddr> =
                names.into_iter().map(|(name, bytes)| (name, IpAddr::from(bytes))).collect();
            prop_assert_eq!(names_from_label(&names_to_label(&names)), names);
        }
    }
}
