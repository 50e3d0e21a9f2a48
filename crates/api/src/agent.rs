//! The agent protocol: what the hub says a host should be, and what the agent says it is.
//!
//! Level-triggered: [`Desired`] is a numbered whole, [`Report`] is what is. There are no commands, so none can be lost
//! or done twice. Only the agent opens connections: HTTP/2 with mutual TLS to the hub's agent port.
//!
//! | call | body | answer |
//! | --- | --- | --- |
//! | `POST /agent/v1/enrol` (no client certificate) | [`crate::access::EnrolRequest`] | [`crate::access::HostCertificate`] |
//! | `POST /agent/v1/renew` | [`crate::access::RenewRequest`] | [`crate::access::HostCertificate`] |
//! | `GET /agent/v1/desired?number=N&streams=M&wait_seconds=S` | | [`Desired`], at once if it is not N and M, else when it changes or after S |
//! | `POST /agent/v1/report` | [`Report`] | 204 |
//! | `POST /agent/v1/logs/STREAM` | [`crate::delivery::LogLine`] as JSON lines | 204 when either side ended it |
//! | `GET`, `HEAD /v2/…` | | the registry, read only |

use std::collections::BTreeMap;

use compose::ServiceDefinition;
use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::delivery::{ImageAddress, ReleaseId};
use crate::{AppName, EnvName, HostName, Micros, ServiceName};

/// The protocol's version. A hub speaks with agents of its own version and of the one before.
pub const PROTOCOL_VERSION: u32 = 1;
/// The header that carries [`PROTOCOL_VERSION`] in every call.
pub const PROTOCOL_HEADER: &str = "longshore-protocol";
/// The longest that `desired` is held open, in seconds.
pub const WAIT_SECONDS_MAX: u64 = 30;
/// How often an agent reports when nothing changes, in seconds.
pub const REPORT_SECONDS: u64 = 5;
/// A host that has not reported for so long counts as down, in seconds.
pub const HOST_DOWN_SECONDS: u64 = 20;
/// The most bytes of a report or a desired state.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many log lines a failure carries.
pub const FAILURE_LOG_LINES: usize = 100;
/// The longest log line in a failure, in bytes; longer ones are cut.
pub const FAILURE_LOG_LINE_BYTES_MAX: usize = 4096;

/// What an agent has already seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredSeen {
    /// The number of the state it has.
    pub number: u64,
    /// The number of the log streams it has.
    pub streams: u64,
}

/// What a host should be: the whole of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Which hub says so. An agent does not change hubs by itself.
    pub hub: String,
    /// Rises with every change, for ever. An agent refuses a lower number than it has had.
    pub number: u64,
    /// The host.
    pub host: HostName,
    /// One for each app in each environment of which this host runs or reaches something.
    pub projects: Vec<DesiredProject>,
    /// Whose output is wanted now. Not part of the numbered state.
    pub streams: DesiredStreams,
}

/// An app of an environment on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredProject {
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
    /// Containers that are to be kept running here.
    pub services: Vec<DesiredService>,
    /// Jobs that are to run here once.
    pub jobs: Vec<DesiredJob>,
    /// All services of the app that can be reached, here and elsewhere.
    pub routes: Vec<Route>,
}

/// A service that is to run on this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredService {
    /// The service.
    pub service: ServiceName,
    /// The release.
    pub release: ReleaseId,
    /// Its image.
    pub image: ImageAddress,
    /// Its definition in this environment.
    pub definition: ServiceDefinition,
    /// How many containers of it.
    pub instances: u32,
    /// How long a container may take until it is healthy, in seconds, the pull not included.
    pub healthy_seconds_max: u64,
}

/// A job that is to run on this host once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredJob {
    /// Unique for each run: the plan and the service. A run that has ended is never repeated.
    pub run: String,
    /// The service.
    pub service: ServiceName,
    /// The release.
    pub release: ReleaseId,
    /// Its image.
    pub image: ImageAddress,
    /// Its definition in this environment.
    pub definition: ServiceDefinition,
    /// How long it may run, in seconds.
    pub seconds_max: u64,
}

/// How a service of an app is reached from this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The service.
    pub service: ServiceName,
    /// Its number in this app and environment, from 0, never given to another: the source of its virtual addresses.
    pub number: u32,
    /// The networks (by their name in the Compose file) on which it has a name, with its aliases there.
    pub networks: BTreeMap<String, Vec<String>>,
    /// The TCP ports on which its name answers.
    pub ports: Vec<u16>,
    /// The ports of the host that lead to it.
    pub published: Vec<PublishedPort>,
    /// Other hosts that run it, in a stable order.
    pub remotes: Vec<RemoteHost>,
}

/// A port of the host that leads to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's port.
    pub published: u16,
    /// The container's port.
    pub target: u16,
    /// Only on this address of the host; none means the address that the agent publishes on.
    pub host_ip: Option<std::net::IpAddr>,
}

/// Another host, and where its proxy takes connections from other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteHost {
    /// The host: its proxy's certificate must name it.
    pub host: HostName,
    /// `ADDRESS:PORT` of its proxy.
    pub mesh: String,
}

/// Whose output is wanted now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredStreams {
    /// Changes with the list.
    pub number: u64,
    /// The streams.
    pub wanted: Vec<LogStreamRequest>,
}

/// A service's output, wanted by someone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStreamRequest {
    /// Its id, to send it under.
    pub id: String,
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
    /// The service; none means all of the app.
    pub service: Option<ServiceName>,
    /// Go on as lines come.
    pub follow: bool,
    /// How many lines of the past, for each container.
    pub tail_lines: u32,
}

/// What a host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The number of the desired state that this report measures itself against; 0 before the first.
    pub number: u64,
    /// The agent's clock when it wrote this.
    pub clock: Micros,
    /// The agent's version.
    pub agent_version: String,
    /// Where other hosts reach this host's proxy, `ADDRESS:PORT`.
    pub mesh: String,
    /// The engine's name and version, or why it cannot be reached.
    pub engine: EngineState,
    /// What the engine itself says runs: every container with this host's label.
    pub instances: Vec<ReportedInstance>,
    /// How each desired service stands.
    pub services: Vec<ServiceReport>,
    /// How each desired job stands.
    pub jobs: Vec<JobReport>,
    /// The proxy's own counts.
    pub proxy: ProxyReport,
    /// Anything else that a person should know, worst first; bounded.
    pub warnings: Vec<String>,
}

/// The engine on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// It answers.
    Up {
        /// Its version, as it says it.
        version: String,
    },
    /// It does not.
    Down {
        /// Why.
        error: String,
    },
}

/// A container as the engine says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedInstance {
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// Which of the host's instances.
    pub slot: u32,
    /// The release it was made from.
    pub release: ReleaseId,
    /// The digest of the image it runs from.
    pub digest: Digest,
    /// The engine's id of it.
    pub container: String,
    /// How it is.
    pub state: InstanceState,
    /// Since when.
    pub since: Micros,
    /// How often it was started again by the engine.
    pub restarts: u32,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Made, or running and not healthy yet.
    Starting,
    /// Running, and healthy if it has a healthcheck.
    Healthy,
    /// Running, and its healthcheck fails.
    Unhealthy,
    /// Takes no new requests and ends.
    Draining,
    /// Ended.
    Exited,
}

/// How a desired service stands on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// The release that is desired.
    pub release: ReleaseId,
    /// How it stands.
    pub progress: Progress,
}

/// How something desired stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Not begun.
    Waiting {
        /// For what.
        detail: String,
    },
    /// Under way: pulling, starting, waiting to become healthy, draining.
    Working {
        /// With what, for a person.
        detail: String,
    },
    /// As desired: all instances are this release and healthy, none of another is left.
    Done,
    /// It did not work, and what ran before goes on. The agent tries no more until something else is desired.
    Failed {
        /// What happened.
        error: String,
        /// The last lines of the container, oldest first; at most [`FAILURE_LOG_LINES`].
        log: Vec<String>,
    },
}

/// How a desired job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// The run.
    pub run: String,
    /// How it stands.
    pub progress: Progress,
}

/// The proxy's own counts since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyReport {
    /// Its process id; none when it does not answer.
    pub pid: Option<u32>,
    /// One for each listener.
    pub listeners: Vec<ListenerReport>,
}

/// A proxy's listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerReport {
    /// `ENV/APP/SERVICE`.
    pub service: String,
    /// `ADDRESS:PORT` on which it listens.
    pub address: String,
    /// Whether it is a published port of the host (and not a name's virtual address).
    pub published: bool,
    /// Why it does not listen, if it does not.
    pub error: Option<String>,
    /// HTTP requests that it answered.
    pub requests: u64,
    /// Of those, answered by the proxy itself because no container did, or cut short.
    pub failed: u64,
    /// Connections that it took.
    pub connections: u64,
}
