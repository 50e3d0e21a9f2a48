//! One service of a project.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    Build, Deploy, EndpointOptions, ExternalLink, FileGrant, Hook, MountOptions, MountOwner, Namespace, Namespaces,
    PullPolicy, ResourceSet, RestartCondition, Settings, VolumesFrom, WatchRule, is_default, is_false,
};

/// A service: how its image comes about and how its containers run.
///
/// `None` and an empty collection mean "as the image or the engine has it", except where a field says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Image reference as written. At least one of `image` and `build` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How the image is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Arguments; `Some(vec![])` clears the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Entrypoint; `Some(vec![])` clears the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Variables; `None` takes a variable of the image away (`- NAME` with no such variable around).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
    /// Published ports, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Ports other services may use, beyond those published. TCP.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub expose: BTreeSet<u16>,
    /// Mounts, one for each target, sorted by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// In-memory file systems: target to the mount options as written (`size=64m,mode=1777`), which may be empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// Networks joined: the implicit `default` is made explicit. Empty only with a network namespace of another kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, ServiceNetwork>,
    /// Services awaited before this one starts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<String, Dependency>,
    /// Healthcheck; laid over the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Copies, placement, limits, updates. `scale`, `cpus`, `mem_limit`, `mem_reservation` and `pids_limit` are folded in.
    #[serde(skip_serializing_if = "is_default")]
    pub deploy: Deploy,
    /// `restart` as written; see [`Service::restart_effective`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Signal that asks the container to stop, such as `SIGTERM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Time between that signal and the kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period_micros: Option<u64>,
    /// `user[:group]`, names or numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Host name inside the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Whether an init process reaps children and passes signals on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Whether the root file system is read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Capabilities added.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_add: BTreeSet<String>,
    /// Capabilities dropped.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_drop: BTreeSet<String>,
    /// Asks for every capability and device. Read so that policy can refuse it.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Security options as written, such as `no-new-privileges:true`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub security_opt: BTreeSet<String>,
    /// Resource limits of processes, by name (`nofile`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of the container's namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Labels of the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Log driver and its options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// Names added to the container's hosts file; an address is an IP address or `host-gateway`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Name servers, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Size of `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size_bytes: Option<u64>,
    /// Profiles that switch the service on; with none it is always on. See [`super::Project::select`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub profiles: BTreeSet<String>,
    /// Ports of other protocols than TCP that other services may use, as `53/udp`. Workspaces only, as is all that
    /// follows; a release has none of it (see [`super::ServiceDefinition::workspace_only`]).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub expose_other: BTreeSet<String>,
    /// The one name that its container has on the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Its lines are left out where those of all services are shown (`attach: false`).
    #[serde(skip_serializing_if = "is_false")]
    pub detached: bool,
    /// When its image is pulled; the workspace's way when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// What it shares with the machine or with other containers.
    #[serde(skip_serializing_if = "is_default")]
    pub namespaces: Namespaces,
    /// What the engine is told as it stands.
    #[serde(skip_serializing_if = "is_default")]
    pub settings: Settings,
    /// Configs as files, one for each target, sorted by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileGrant>,
    /// Secrets as files, one for each target, sorted by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileGrant>,
    /// Further names, for this service alone, of services it awaits: name to service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Names for containers that no project of ours has made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_links: Vec<ExternalLink>,
    /// Containers whose mounts it has as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<VolumesFrom>,
    /// What is run in the container once it has started, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Hook>,
    /// What is run in the container before it is stopped, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Hook>,
    /// What follows changes of its sources (`develop.watch`), in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<WatchRule>,
}

impl Service {
    /// Whether a container of the service writes to a volume, so that two of them must never run at once.
    pub fn has_writable_volume(&self) -> bool {
        self.volumes.iter().any(|mount| match mount {
            Mount::Volume { read_only, .. } | Mount::Bind { read_only, .. } => !read_only,
            Mount::Tmpfs { .. } | Mount::Image { .. } => false,
        })
    }

    /// Paths of the host that the service mounts. Read so that policy can refuse them.
    pub fn host_paths(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|mount| match mount {
            Mount::Bind { source, .. } => Some(source.as_str()),
            Mount::Volume { .. } | Mount::Tmpfs { .. } | Mount::Image { .. } => None,
        })
    }

    /// The restart rule that holds: `deploy.restart_policy` where given (as Compose has it), else `restart`.
    pub fn restart_effective(&self) -> Option<Restart> {
        match &self.deploy.restart_policy {
            Some(policy) => Some(match policy.condition {
                RestartCondition::None => Restart::No,
                RestartCondition::OnFailure => Restart::OnFailure { retries: policy.max_attempts },
                RestartCondition::Any => Restart::Always,
            }),
            None => self.restart.clone(),
        }
    }

    /// Services whose namespaces or mounts it shares, or that it links to.
    pub fn services_shared(&self) -> BTreeSet<String> {
        let Namespaces { network, pid, ipc, uts, user, cgroup } = &self.namespaces;
        let namespaces =
            [network, pid, ipc, uts, user, cgroup].into_iter().flatten().filter_map(|namespace| match namespace {
                Namespace::Service(name) => Some(name),
                _ => None,
            });
        let mounts = self.volumes_from.iter().filter_map(|volumes| match &volumes.from {
            MountOwner::Service(name) => Some(name),
            MountOwner::Container(_) => None,
        });
        namespaces.chain(mounts).chain(self.links.values()).cloned().collect()
    }

    /// Limits on processors, memory and processes.
    pub fn limits(&self) -> &ResourceSet {
        &self.deploy.resources.limits
    }

    /// TCP ports that other services may reach: the targets of `ports` and `expose`.
    pub fn ports_declared(&self) -> BTreeSet<u16> {
        let published = self.ports.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| port.target);
        published.chain(self.expose.iter().copied()).collect()
    }
}

/// A port of the container that is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Port inside the container.
    pub target: u16,
    /// Port on the host; absent when any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u16>,
    /// Address of the host; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// TCP in a release.
    pub protocol: Protocol,
    /// Name given in the long syntax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The last of a range that begins with `published`, of which any free one will do. Workspaces only, as is all that
    /// follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_last: Option<u16>,
    /// What is spoken on it, such as `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// `mode: host`; on one machine the same as the other mode.
    #[serde(default, skip_serializing_if = "is_false")]
    pub host_mode: bool,
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP. Workspaces only.
    Udp,
    /// SCTP. Workspaces only.
    Sctp,
}

impl Protocol {
    /// Its name as the engine and Compose write it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// Something mounted into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Mount {
    /// A volume of the engine.
    Volume {
        /// Key in the project's `volumes`; absent for an anonymous volume.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Path in the container.
        target: String,
        /// Whether the container may only read.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// Whether an empty volume stays empty instead of taking what the image has at the path.
        #[serde(default, skip_serializing_if = "is_false")]
        no_copy: bool,
        /// What only workspaces can say of it.
        #[serde(default, skip_serializing_if = "is_default")]
        options: MountOptions,
    },
    /// A path of the host. Read so that laptops can use it and policy can refuse it elsewhere.
    Bind {
        /// Path on the host as written: absolute, `~…`, or relative to the first Compose file.
        source: String,
        /// Path in the container.
        target: String,
        /// Whether the container may only read.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// What only workspaces can say of it.
        #[serde(default, skip_serializing_if = "is_default")]
        options: MountOptions,
    },
    /// The files of an image, which cannot be written. Workspaces only (engines from 28 on).
    Image {
        /// The image's reference.
        source: String,
        /// Path in the container.
        target: String,
        /// The part of the image that is mounted; all of it when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// An in-memory file system.
    Tmpfs {
        /// Path in the container.
        target: String,
        /// Size limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
        /// Permission bits, such as 0o1777.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
}

impl Mount {
    /// Path in the container.
    pub fn target(&self) -> &str {
        match self {
            Mount::Volume { target, .. }
            | Mount::Bind { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::Image { target, .. } => target,
        }
    }
}

/// A service's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceNetwork {
    /// Further names of the service there, beside its own.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// What only workspaces can say of it.
    #[serde(skip_serializing_if = "is_default")]
    pub options: EndpointOptions,
}

/// Why and how a service awaits another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What must hold of the other.
    pub condition: Condition,
    /// Whether this service restarts after the other was replaced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restart: bool,
    /// Whether the other may be missing (switched off by its profile).
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
}

/// What must hold of a service that is awaited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its container runs.
    #[default]
    ServiceStarted,
    /// Its healthcheck passes.
    ServiceHealthy,
    /// It ended with status 0: it is a job.
    ServiceCompletedSuccessfully,
}

/// A healthcheck. Fields that are absent are the image's, else the engine's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// What is run; absent means the image's own test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<HealthTest>,
    /// Time between two probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_micros: Option<u64>,
    /// Time after which a probe has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_micros: Option<u64>,
    /// Time after the start in which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period_micros: Option<u64>,
    /// Time between two probes within the start period (engines from 25 on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval_micros: Option<u64>,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

/// What a healthcheck runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthTest {
    /// No healthcheck, not even the image's (`disable: true`, `["NONE"]`).
    Disabled,
    /// A command line for the container's shell (`CMD-SHELL`, or a plain string).
    Shell(String),
    /// A program and its arguments (`CMD`).
    Exec(Vec<String>),
}

/// `restart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// Whenever it ends.
    Always,
    /// When it ends with another status than 0.
    OnFailure {
        /// At most so many times; without bound when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retries: Option<u32>,
    },
    /// Whenever it ends, unless somebody stopped it.
    UnlessStopped,
}

/// A limit of processes; -1 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Where the kernel begins to refuse.
    pub soft: i64,
    /// How far a process may raise the soft one.
    pub hard: i64,
}

/// A log driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Driver; the engine's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}
