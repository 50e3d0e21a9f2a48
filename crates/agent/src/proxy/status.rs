//! What a proxy says of itself: which table it serves, who is busy, what was answered.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The state of a proxy at one moment. Counters start at zero with the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Number of the table that is served; 0 before the first.
    pub number: u64,
    /// Process id.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// Containers in the table, and those that left it but still have work. One that left and is missing here is done.
    pub upstreams: Vec<UpstreamStatus>,
    /// Listeners of the table.
    pub listeners: Vec<ListenerStatus>,
    /// The side that faces other hosts, when the table has one.
    pub mesh: Option<MeshStatus>,
}

/// How busy a container is, over all its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// The key it has in the table.
    pub key: String,
    /// HTTP requests whose response is not complete, and those being dialled.
    pub active_requests: u64,
    /// Other open connections: opaque, upgraded, and tunnels from other hosts (also those that carry a request).
    pub active_connections: u64,
    /// It left the table: nothing new goes there.
    pub draining: bool,
}

/// A listener and what went through it. Each request received is in exactly one of `requests_total`, `failed_total`
/// and `cancelled_total` once it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// The key it has in the table.
    pub key: String,
    /// The address it is for.
    pub address: SocketAddr,
    /// Whether the address is bound.
    pub bound: bool,
    /// Why it is not.
    pub error: Option<String>,
    /// HTTP requests answered completely by an upstream, whatever the answer's status.
    pub requests_total: u64,
    /// HTTP requests answered by the proxy itself (400, 405, 408, 431, 502, 503), and those whose answer was cut short by
    /// the upstream.
    pub failed_total: u64,
    /// HTTP requests whose client left before the answer was complete.
    pub cancelled_total: u64,
    /// Connections taken, of whatever protocol.
    pub connections_total: u64,
    /// Connections that were not HTTP and found no upstream.
    pub connections_failed_total: u64,
}

/// The listener for other hosts. What it carries is counted here and never with the published listeners of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshStatus {
    /// The address it is for.
    pub address: SocketAddr,
    /// Whether the address is bound.
    pub bound: bool,
    /// Why it is not, or why its certificates cannot be used.
    pub error: Option<String>,
    /// Tunnels opened for other hosts.
    pub tunnels_total: u64,
    /// Tunnels refused: no such service here, or none that answers.
    pub refused_total: u64,
    /// Connections without a valid certificate, or broken off before they asked for anything.
    pub handshakes_failed_total: u64,
}
