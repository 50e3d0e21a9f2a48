//! What an engine says of its objects, in Longshore's words. Times are microseconds since the epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base::clock::Micros;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::Subnet;

/// Labels of an object: what it is found by.
pub type Labels = BTreeMap<String, String>;

/// Who answers at the engine's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineVersion {
    /// The engine's own version, such as `20.10.24`.
    pub engine: String,
    /// The API version that was agreed on, such as `1.41`.
    pub api: String,
    /// Operating system of the images it runs, such as `linux`.
    pub os: String,
    /// Architecture in the words of OCI images, such as `amd64`.
    pub architecture: String,
}

/// Where an engine runs, seen from this process: what can be handed to it by name, and what must be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// 127.0.0.1 of the engine is 127.0.0.1 of this process: it can pull from a registry that listens here alone.
    pub shares_network: bool,
    /// A path means the same file to both, as for a bind mount. Engines in virtual machines often see some folders.
    pub shares_files: bool,
}

impl Place {
    /// An engine on this machine.
    pub const HERE: Self = Self { shares_network: true, shares_files: true };
    /// One in a virtual machine, or far away.
    pub const ELSEWHERE: Self = Self { shares_network: false, shares_files: false };
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the configuration, `sha256:…`.
    pub id: String,
    /// References `host/repo:tag`.
    pub tags: Vec<String>,
    /// References `host/repo@sha256:…` under which it was pulled or pushed.
    pub digests: Vec<String>,
    /// Labels of the image's configuration.
    pub labels: Labels,
    /// Digests of its layers, uncompressed and lowest first, where the engine loads another image on the same layers
    /// without being sent them again. Empty where it does not: images that containerd keeps, say.
    pub layers: Vec<String>,
    /// Ports that the image declares with EXPOSE, as `8080/tcp`.
    pub exposed: BTreeSet<String>,
    /// Paths that the image declares with VOLUME.
    pub volumes: BTreeSet<String>,
    /// Its ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// Whether the image has a healthcheck of its own.
    pub healthcheck: bool,
    /// Architecture, such as `amd64`.
    pub architecture: String,
    /// When the engine last gave it a reference; not every engine says so of an image that was pulled.
    pub tagged: Option<Micros>,
    /// Bytes on disk, shared layers included.
    pub size_bytes: u64,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// Created and never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Between two runs, by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Half removed; only removal is left.
    Dead,
}

/// What a container's healthcheck says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// There is no healthcheck.
    None,
    /// Not known yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks in a row failed as it takes.
    Unhealthy,
}

/// A container that the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's id, 64 hex digits.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// Digest of the image's configuration.
    pub image_id: String,
    /// Its labels (with those of its image).
    pub labels: Labels,
    /// What it is doing.
    pub state: ContainerState,
    /// What its healthcheck says.
    pub health: Health,
    /// Output of the last healthcheck, if there was one.
    pub health_output: Option<String>,
    /// Exit code of the last run, once it ended.
    pub exit_code: Option<i64>,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// Why the engine could not start it.
    pub error: Option<String>,
    /// When it was created.
    pub created: Option<Micros>,
    /// When it last started.
    pub started: Option<Micros>,
    /// When it last ended.
    pub finished: Option<Micros>,
    /// How often the restart policy started it again.
    pub restarts: u32,
    /// Networks it is on, running or not.
    pub networks: BTreeSet<String>,
    /// Its address on each network, by network name; empty while it does not run.
    pub addresses: BTreeMap<String, IpAddr>,
    /// Named volumes that it mounts.
    pub volumes: BTreeSet<String>,
    /// The user that it runs as, in the words of its definition or its image; empty is root.
    pub user: String,
}

impl Container {
    /// Hash of what it was created from (see [`crate::wanted::LABEL_WANTED`]); `None` when Longshore did not make it.
    pub fn wanted_hash(&self) -> Option<&str> {
        self.labels.get(crate::wanted::LABEL_WANTED).map(String::as_str)
    }

    /// Whether it can take traffic: running, and healthy where it has a healthcheck.
    pub fn is_ready(&self) -> bool {
        self.state == ContainerState::Running && matches!(self.health, Health::None | Health::Healthy)
    }
}

/// A container as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// The engine's id, 64 hex digits.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// Digest of the image's configuration (or what else the engine knows images by).
    pub image_id: String,
    /// Its labels (with those of its image).
    pub labels: Labels,
    /// What it is doing.
    pub state: ContainerState,
    /// What its healthcheck says; [`Health::None`] while it does not run.
    pub health: Health,
    /// Exit code of the last run, once it ended.
    pub exit_code: Option<i64>,
    /// Networks it is on, running or not.
    pub networks: BTreeSet<String>,
    /// Ports of the host that lead to TCP ports of the container (published, target); empty while it does not run.
    pub ports: BTreeSet<(u16, u16)>,
    /// When it was created, to the second.
    pub created: Micros,
}

impl ContainerSummary {
    /// Hash of what it was created from (see [`crate::wanted::LABEL_WANTED`]); `None` when Longshore did not make it.
    pub fn wanted_hash(&self) -> Option<&str> {
        self.labels.get(crate::wanted::LABEL_WANTED).map(String::as_str)
    }
}

/// What a container takes. All zero for one that does not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    /// When the engine looked.
    pub at: Micros,
    /// CPU time used since its start, over all CPUs.
    pub cpu_used: Duration,
    /// Memory in use, without what the kernel only keeps of files and would give back.
    pub memory_bytes: u64,
    /// Memory that it may use: its limit, or the machine's.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
}

impl ContainerStats {
    /// Percent of one CPU used since an earlier look at the same run: 200 is two CPUs. `None` when there is no time
    /// between the two, or the container began anew.
    pub fn cpu_percent_since(&self, earlier: &Self) -> Option<f64> {
        let micros = u64::try_from(self.at.0 - earlier.at.0).ok().filter(|micros| *micros > 0)?;
        let used = self.cpu_used.checked_sub(earlier.cpu_used)?;
        Some(100.0 * used.as_secs_f64() / Duration::from_micros(micros).as_secs_f64())
    }
}

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// No way out to other networks.
    pub internal: bool,
    /// The subnet, gateway and range to hand out; `None` lets the engine choose.
    pub subnet: Option<Subnet>,
    /// What more a workspace's Compose file says of it: driver, options, addresses. `None` on a host of a hub.
    pub workspace: Option<Box<compose::model::Network>>,
}

/// A volume to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Its driver, such as `local`.
    pub driver: String,
    /// Its labels.
    pub labels: Labels,
    /// Somebody else makes it: it must be there already.
    pub external: bool,
    /// Options of the driver. Empty on a host of a hub.
    pub driver_opts: BTreeMap<String, String>,
}

/// A network that the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// No way out to other networks.
    pub internal: bool,
    /// Its IPv4 subnet.
    pub subnet: Option<Subnet>,
    /// The part of the subnet that the engine hands out, if it was told one, as `10.0.0.0/17`.
    pub range: Option<String>,
    /// The host's own address on it.
    pub gateway: Option<Ipv4Addr>,
    /// Ids of the containers on it (running ones; empty in lists).
    pub containers: BTreeSet<String>,
}

/// A volume that the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver, such as `local`.
    pub driver: String,
    /// Its labels.
    pub labels: Labels,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only the last so many lines; `None` is all that is kept.
    pub tail_lines: Option<u32>,
    /// Only lines since then.
    pub since: Option<Micros>,
    /// Go on as new lines come, until the container ends. Engines before 23 can leave out what is written in its last
    /// instant; reading again without following gives all of it.
    pub follow: bool,
}

/// Where a container wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where it was written.
    pub stream: LogStream,
    /// When the engine took it.
    pub at: Micros,
    /// The line without its end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineEvent {
    /// What happened.
    pub kind: EventKind,
    /// The container's id.
    pub container: String,
    /// The container's labels (and the engine's own attributes).
    pub labels: Labels,
    /// When it happened.
    pub at: Micros,
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// It was created.
    Create,
    /// It started.
    Start,
    /// It ended with this code.
    Die(i64),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// Its healthcheck changed its mind.
    Health(Health),
    /// It was removed.
    Destroy,
}

/// How far a pull or a push of one layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// The layer's short id, where the message is of a layer.
    pub layer: Option<String>,
    /// What is being done, in the engine's words: `Downloading`.
    pub status: String,
    /// Bytes done, where known.
    pub done_bytes: Option<u64>,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
}

/// Where progress is told. A receiver that is slow slows the work down (that is the bound); one that is gone does not
/// stop it.
#[derive(Debug, Clone)]
pub struct Progress<T>(Option<mpsc::Sender<T>>);

impl<T> Progress<T> {
    /// Tells nobody.
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells this receiver, which must be read while the work is under way.
    pub fn to(sender: mpsc::Sender<T>) -> Self {
        Self(Some(sender))
    }

    /// Tells one thing.
    pub async fn tell(&self, value: T) {
        if let Some(sender) = &self.0 {
            // A receiver that went away does not want to know; the work itself goes on.
            let _gone = sender.send(value).await;
        }
    }
}
