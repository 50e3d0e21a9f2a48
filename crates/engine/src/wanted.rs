//! A container as it should be: a plain value that can be compared, hashed and handed to an engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::machine::WantedMachine;
use crate::{EngineError, ErrorKind, Labels};

/// Label that keeps [`WantedContainer::hash`] on the container made from it.
pub const LABEL_WANTED: &str = "dev.longshore.wanted";

/// Where containers' output is kept unless the definition says otherwise: what the engine can read back.
pub const LOG_DRIVER_DEFAULT: &str = "json-file";

/// Log files are rotated at this size unless the definition says otherwise: json-file never rotates by itself.
pub const LOG_FILE_SIZE: &str = "10m";

/// How many rotated log files are kept unless the definition says otherwise.
pub const LOG_FILES: &str = "3";

/// How long a container may take to stop unless its definition says otherwise, as Compose has it.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// Everything that decides what a container is. The engine is told exactly this and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WantedContainer {
    /// Its name on the engine. Not part of the hash: a successor runs beside its predecessor under another name.
    pub name: String,
    /// The image as `host/repo@sha256:…`.
    pub image: String,
    /// Labels, identity included, without [`LABEL_WANTED`].
    pub labels: Labels,
    /// In place of the image's CMD; empty means none at all.
    pub command: Option<Vec<String>>,
    /// In place of the image's ENTRYPOINT (and its CMD); empty means none at all.
    pub entrypoint: Option<Vec<String>>,
    /// Environment variables; `None` takes one of the image's away.
    pub environment: BTreeMap<String, Option<String>>,
    /// In place of, or against, the image's healthcheck.
    pub healthcheck: Option<WantedHealthcheck>,
    /// User and group, `name`, `uid` or `uid:gid`.
    pub user: Option<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Its own name for itself.
    pub hostname: Option<String>,
    /// Networks and the names it has on them, by network name. At least one, unless its machine gives it a network.
    pub networks: BTreeMap<String, Vec<String>>,
    /// Further names in its hosts file; an address is an IP address or `host-gateway`.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Name servers in place of the host's, in order.
    pub dns: Vec<IpAddr>,
    /// Named volumes.
    pub volumes: Vec<WantedVolume>,
    /// In-memory file systems: mount options by path.
    pub tmpfs: BTreeMap<String, String>,
    /// The image's files cannot be written.
    pub read_only: bool,
    /// Capabilities beyond the engine's usual ones.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Security options such as `no-new-privileges`.
    pub security_opt: Vec<String>,
    /// Limits by name: soft, hard.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Size of /dev/shm.
    pub shm_bytes: Option<u64>,
    /// Billionths of a CPU that it may use.
    pub cpu_nanos: Option<u64>,
    /// Memory that it may use.
    pub memory_bytes: Option<u64>,
    /// Memory that it is left with when the host runs short.
    pub memory_reservation_bytes: Option<u64>,
    /// Processes that it may have; -1 is unlimited.
    pub pids: Option<i64>,
    /// Signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// How long it may take to stop.
    pub stop_grace: Duration,
    /// An init process reaps its children.
    pub init: Option<bool>,
    /// When it is started again.
    pub restart: WantedRestart,
    /// Log driver.
    pub log_driver: String,
    /// Options of the log driver.
    pub log_options: BTreeMap<String, String>,
    /// What it has of the machine that it runs on; `None` on a host of a hub, where it has nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Box<WantedMachine>>,
}

/// How a container's health is found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WantedHealthcheck {
    /// The image's healthcheck is not run.
    Disabled,
    /// Runs a test; what is `None` is the image's or the engine's.
    Test {
        /// The test in the engine's form (`CMD`, … or `CMD-SHELL`, …); `None` is the image's.
        test: Option<Vec<String>>,
        /// Time between two tests.
        interval: Option<Duration>,
        /// Time that one test may take.
        timeout: Option<Duration>,
        /// How many must fail in a row.
        retries: Option<u32>,
        /// Time in which failures do not count.
        start_period: Option<Duration>,
        /// Time between two tests within that period (engines from 25 on; older ones take no notice).
        start_interval: Option<Duration>,
    },
}

/// A named volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedVolume {
    /// Name of the volume on the engine; `None` is an anonymous one that goes with the container.
    pub volume: Option<String>,
    /// Path in the container.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// The image's files at the path are not copied into a new volume.
    pub no_copy: bool,
}

/// When the engine starts a container again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WantedRestart {
    /// Never.
    No,
    /// Whenever it ends, and when the engine starts.
    Always,
    /// The same, except after a stop.
    UnlessStopped,
    /// When it ends with an error, at most so often (0: without end).
    OnFailure(u32),
}

impl WantedContainer {
    /// A container of this name and image on this network, and nothing else said of it.
    pub fn new(name: impl Into<String>, image: impl Into<String>, network: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            labels: Labels::new(),
            command: None,
            entrypoint: None,
            environment: BTreeMap::new(),
            healthcheck: None,
            user: None,
            working_dir: None,
            hostname: None,
            networks: BTreeMap::from([(network.into(), Vec::new())]),
            extra_hosts: BTreeMap::new(),
            dns: Vec::new(),
            volumes: Vec::new(),
            tmpfs: BTreeMap::new(),
            read_only: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            security_opt: Vec::new(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            shm_bytes: None,
            cpu_nanos: None,
            memory_bytes: None,
            memory_reservation_bytes: None,
            pids: None,
            stop_signal: None,
            stop_grace: STOP_GRACE_DEFAULT,
            init: None,
            restart: WantedRestart::UnlessStopped,
            log_driver: LOG_DRIVER_DEFAULT.to_owned(),
            log_options: log_options(LOG_DRIVER_DEFAULT, BTreeMap::new()),
            machine: None,
        }
    }

    /// SHA-256, in hex, of everything but the name. Two containers with one hash are interchangeable, so "is it already
    /// what it should be" is a comparison of this with the label of the one that runs.
    pub fn hash(&self) -> String {
        let mut nameless = self.clone();
        nameless.name = String::new();
        nameless.labels.remove(LABEL_WANTED);
        // Every map is ordered and no float is kept, so that equal values have equal text; a value of this type always
        // has a text, and `null` would only make the container look changed.
        let text = serde_json::to_vec(&nameless).unwrap_or_else(|_| b"null".to_vec());
        hex::encode(Sha256::digest(&text))
    }

    /// Labels as they are put on the container, the hash included.
    pub fn labels_with_hash(&self) -> Labels {
        let mut labels = self.labels.clone();
        labels.insert(LABEL_WANTED.to_owned(), self.hash());
        labels
    }

    /// Refuses what would reach the host through a value: a host path where a volume's name belongs, or a network that
    /// is the host's or another container's. For privileged mode, devices, host namespaces and published ports there is no
    /// place but [`WantedContainer::machine`], which only a workspace's container has; what it says is the developer's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Policy`] names the offending value.
    pub fn check(&self) -> Result<(), EngineError> {
        let refuse =
            |why: String| Err(EngineError::new(ErrorKind::Policy, format!("container {} is refused", self.name), why));
        let machine = self.machine.as_deref();
        match (self.networks.is_empty(), machine.and_then(|machine| machine.network_mode.as_deref())) {
            (true, None) => return refuse("it is on no network".to_owned()),
            (false, Some(mode)) => return refuse(format!("it is on networks, and has the network {mode}")),
            _ => {}
        }
        for network in self.networks.keys() {
            if matches!(network.as_str(), "host" | "none" | "default") || network.starts_with("container:") {
                return refuse(format!("network {network:?} is not one of its own"));
            }
        }
        for mount in &self.volumes {
            if let Some(volume) = &mount.volume
                && !is_volume_name(volume)
            {
                return refuse(format!("{volume:?} is not a volume's name; host paths and sockets are not mounted"));
            }
            if !mount.target.starts_with('/') {
                return refuse(format!("a volume has the target {:?}, which is not absolute", mount.target));
            }
        }
        for option in self.security_opt.iter().filter(|_| machine.is_none()) {
            let option = option.to_ascii_lowercase();
            if option.contains("unconfined") || option.contains("disable") || option.starts_with("systempaths") {
                return refuse(format!("security option {option:?} takes the container's confinement away"));
            }
        }
        Ok(())
    }
}

/// Options of a log driver, with the rotation that json-file lacks by itself laid under what is said.
pub fn log_options(driver: &str, said: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    if driver == LOG_DRIVER_DEFAULT {
        options.insert("max-file".to_owned(), LOG_FILES.to_owned());
        options.insert("max-size".to_owned(), LOG_FILE_SIZE.to_owned());
    }
    options.extend(said);
    options
}

/// Docker's rule for a volume's name, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`; whatever else is a path.
fn is_volume_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}
