//! What only a workspace's service may say: settings that the engine is told as they stand, and what is shared.
//!
//! In a release every value of this module is the default one, which is left out of its JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{is_default, is_false};

/// What the engine is told of a container as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Annotations for the runtime.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Weights and limits of block devices.
    #[serde(skip_serializing_if = "is_default")]
    pub blkio: Blkio,
    /// Parent of its cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// Shares and periods of processors.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu: Cpu,
    /// Devices of the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Rules of the device cgroup, such as `c 1:3 mr`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_cgroup_rules: Vec<String>,
    /// Devices that a driver chooses: GPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_requests: Vec<DeviceRequest>,
    /// Options of its resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_options: Vec<String>,
    /// Domains that its resolver searches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Its domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Further groups of its user, names or numbers.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub group_add: BTreeSet<String>,
    /// How readily its anonymous pages are swapped out, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<u8>,
    /// Memory and swap together; -1 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap_bytes: Option<i64>,
    /// Whether the kernel leaves it alone when memory runs out.
    #[serde(skip_serializing_if = "is_false")]
    pub oom_kill_disable: bool,
    /// How readily the kernel kills it then, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i16>,
    /// Platform of its image, such as `linux/arm64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Runtime, such as `runc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Whether its standard input stays open.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin_open: bool,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_options: BTreeMap<String, String>,
    /// Whether it has a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
}

/// Weights and limits of block devices, by the device's path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blkio {
    /// Its share of the bandwidth, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The same for one device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weight_device: BTreeMap<String, u16>,
    /// Bytes read in a second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub read_bytes: BTreeMap<String, u64>,
    /// Reads in a second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub read_operations: BTreeMap<String, u64>,
    /// Bytes written in a second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub write_bytes: BTreeMap<String, u64>,
    /// Writes in a second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub write_operations: BTreeMap<String, u64>,
}

/// Shares and periods of processors; limits in whole are in [`super::ResourceSet`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Its weight against other containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Period of the CFS scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_micros: Option<u64>,
    /// What it may use of that period; -1 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_micros: Option<i64>,
    /// Period of the real-time scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rt_period_micros: Option<u64>,
    /// What it may use of that period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rt_runtime_micros: Option<u64>,
    /// The processors it runs on, such as `0-3` or `0,1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

/// A device of the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    /// Path on the machine.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Of `r`, `w` and `m` (mknod) what is allowed.
    pub permissions: String,
}

/// Devices that a driver chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// The driver, such as `nvidia` or `cdi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How many; -1 is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_ids: Vec<String>,
    /// What they all can do, such as `gpu`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Options of the driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// What a container shares with the machine or with other containers; `None` is the engine's way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// `network_mode`, in place of networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Namespace>,
    /// `pid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<Namespace>,
    /// `ipc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<Namespace>,
    /// `uts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<Namespace>,
    /// `userns_mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Namespace>,
    /// `cgroup`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Namespace>,
}

/// Whose namespace a container is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// The machine's.
    Host,
    /// None at all: no networks but loopback, no shared memory.
    None,
    /// Its own.
    Private,
    /// Its own, which others may share.
    Shareable,
    /// Its own, on the engine's own bridge.
    Bridge,
    /// That of a service of the project.
    Service(String),
    /// That of a container by its name on the engine.
    Container(String),
}

/// What more is said of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountOptions {
    /// The part of the volume that is mounted; all of it when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// Labels of an anonymous volume.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How mounts within a path of the machine pass to and fro, such as `rslave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<String>,
    /// Whether mounts within a path of the machine come along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursive: Option<Recursive>,
    /// How a path of the machine is labelled for SELinux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Selinux>,
    /// Whether a path of the machine has to be there; otherwise it is made (`create_host_path`).
    #[serde(skip_serializing_if = "is_false")]
    pub must_exist: bool,
    /// How exactly both sides agree, for engines in a virtual machine: `cached`, `consistent`, `delegated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
}

/// Whether mounts within a mounted path come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursive {
    /// They do.
    Enabled,
    /// They do not.
    Disabled,
    /// They do, and can be written though the mount is read-only.
    Writable,
    /// They do, and cannot be written; an error where the kernel has no such thing.
    Readonly,
}

/// How a mounted path is labelled for SELinux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selinux {
    /// `z`: several containers use it.
    Shared,
    /// `Z`: one container uses it.
    Private,
}

/// What more is said of a service's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointOptions {
    /// Its address there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<Ipv4Addr>,
    /// Its address there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Further addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<IpAddr>,
    /// Its hardware address, as `02:42:ac:11:65:43`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Name of the interface in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// Options of the driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// The network with the highest is the way out; 0 when absent.
    #[serde(skip_serializing_if = "is_default")]
    pub gateway_priority: i32,
    /// Networks are joined from the highest down; 0 when absent.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i32,
}

/// A name for a container that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalLink {
    /// Its name on the engine.
    pub container: String,
    /// The name that the service knows it by.
    pub alias: String,
}

/// A container whose mounts are taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// Whose they are.
    pub from: MountOwner,
    /// Whether they are only read.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

/// Who has mounts that another takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountOwner {
    /// A service of the project.
    Service(String),
    /// A container by its name on the engine.
    Container(String),
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// Never: the engine has it, or the service fails.
    Never,
    /// When the engine does not have it.
    Missing,
    /// Never: it is built, each time.
    Build,
    /// When so much time has passed since the last time.
    Every {
        /// That time.
        micros: u64,
    },
}
