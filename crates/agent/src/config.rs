//! What an agent is told when it is started.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;

use api::HostName;
use engine::{Address, Labels};

/// What an agent is told when it is started.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// `HOST:PORT` of the hub's agent port.
    pub hub: String,
    /// Folder for identity, memory and the proxy's state; made if needed, for this process alone.
    pub data: PathBuf,
    /// One-time token; needed until the host is enrolled, not looked at afterwards.
    pub token: Option<String>,
    /// The host's name.
    pub host: HostName,
    /// What the host says of itself at enrolment; the token's labels win.
    pub labels: BTreeMap<String, String>,
    /// Where published ports are bound.
    pub publish: IpAddr,
    /// Where other hosts reach this host's proxy.
    pub mesh: SocketAddr,
    /// Where the host's own registry listens for its engine: loopback, since the engine trusts that without TLS.
    pub registry: SocketAddr,
    /// Where other agents reach this one; none when the host takes no part in the exchange of pieces.
    pub peers: Option<SocketAddr>,
    /// Whether it serves its region: fetches what hosts there want, so that they need not ask the hub.
    pub is_edge: bool,
    /// Bytes of pieces a second that may be sent to others.
    pub upload_bytes_per_second: Option<NonZeroU64>,
    /// Bytes of pieces a second that may be received.
    pub download_bytes_per_second: Option<NonZeroU64>,
    /// What the host's store of pieces may hold, in bytes.
    pub store_bytes_max: u64,
    /// The registries that the host's own answers for when a runtime uses it as their mirror.
    pub mirrored: fanout::local::Names,
    /// The container engine.
    pub engine: Address,
    /// Labels on everything that is made on the engine, beside Longshore's own.
    pub docker_labels: Labels,
    /// The `longshore` binary, to start the proxy with.
    pub program: PathBuf,
    /// The proxy's control socket.
    pub control: PathBuf,
}
