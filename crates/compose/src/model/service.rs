//! One service of a project.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Deploy, ResourceSet, RestartCondition, is_default, is_false};

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
    /// Networks joined, never empty in a loaded project: the implicit `default` is made explicit.
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
}

impl Service {
    /// Whether a container of the service writes to a volume, so that two of them must never run at once.
    pub fn has_writable_volume(&self) -> bool {
        self.volumes.iter().any(|mount| match mount {
            Mount::Volume { read_only, .. } | Mount::Bind { read_only, .. } => !read_only,
            Mount::Tmpfs { .. } => false,
        })
    }

    /// Paths of the host that the service mounts. Read so that policy can refuse them.
    pub fn host_paths(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|mount| match mount {
            Mount::Bind { source, .. } => Some(source.as_str()),
            Mount::Volume { .. } | Mount::Tmpfs { .. } => None,
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

    /// Limits on processors, memory and processes.
    pub fn limits(&self) -> &ResourceSet {
        &self.deploy.resources.limits
    }

    /// TCP ports that other services may reach: the targets of `ports` and `expose`.
    pub fn ports_declared(&self) -> BTreeSet<u16> {
        self.ports.iter().map(|port| port.target).chain(self.expose.iter().copied()).collect()
    }
}

/// How an image is built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Folder relative to the first Compose file, without `./` and `x/..`; `.` is the folder itself. May begin with
    /// `../`: whoever builds decides how far out it may lead.
    pub context: String,
    /// Dockerfile relative to the context; the engine's `Dockerfile` when absent.
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
}

/// A port of the container that is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Port inside the container.
    pub target: u16,
    /// Port on the host; absent when any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u16>,
    /// Address of the host; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// Always TCP so far.
    pub protocol: Protocol,
    /// Name given in the long syntax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
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
            Mount::Volume { target, .. } | Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } => target,
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
