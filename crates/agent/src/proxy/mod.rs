//! The proxy of a host: owns published ports and the names of services, and outlives the agent that steers it.
//!
//! It is controlled by a whole [`table::Table`] put over a unix socket ([`client::ProxyClient`]) and knows nothing of
//! apps beyond the names in that table. Invariants:
//!
//! - **A request is bound to an upstream under the same lock that swaps tables.** Once a table without an upstream was
//!   put, nothing new goes there, and the numbers in the status cover all that still does.
//! - **An upstream is dialled before a byte of a request is sent**, so that a refused connection is never the client's.
//! - **The table is on disk before the put is answered**, so that a restarted proxy serves the last table at once.

mod accept;
mod body;
pub mod client;
mod connection;
mod control;
mod counters;
mod dial;
mod exchange;
mod headers;
mod identity;
mod listeners;
mod lock;
mod mesh;
mod mesh_listener;
mod routes;
mod sniff;
mod state;
pub mod status;
mod streams;
pub mod table;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::control::Control;
use self::counters::MeshCounters;
use self::identity::Identity;
use self::lock::Lock;
use self::routes::Routes;

/// Requests and connections that may wait at once for an upstream to appear; more are refused at once.
const HELD_MAX: usize = 8_192;

/// Where the proxy is controlled from, where it keeps its table, and what it bounds.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Unix socket that is made (mode 0600); `SOCKET.lock` beside it keeps a second proxy out.
    pub control_socket: PathBuf,
    /// File that keeps the last table over restarts.
    pub state_file: PathBuf,
    /// What a peer may take.
    pub limits: Limits,
}

impl ProxyConfig {
    /// A configuration with the ordinary limits.
    pub fn new(control_socket: impl Into<PathBuf>, state_file: impl Into<PathBuf>) -> Self {
        Self { control_socket: control_socket.into(), state_file: state_file.into(), limits: Limits::default() }
    }
}

/// Bounds on what clients, upstreams and other hosts may take of the proxy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections on one listener; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Time for one upstream to take a connection; twice that through another host.
    pub dial_time_max: Duration,
    /// Time from the first byte of a request to the end of its header.
    pub header_time_max: Duration,
    /// Time an HTTP client may stay without a request.
    pub idle_time_max: Duration,
    /// Time a request body, or a client that is sent a response, may stay without any progress.
    pub stall_time_max: Duration,
    /// Time that requests and connections under way have to finish after the stop was asked for.
    pub drain_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            dial_time_max: Duration::from_secs(2),
            header_time_max: Duration::from_secs(30),
            idle_time_max: Duration::from_secs(75),
            stall_time_max: Duration::from_secs(300),
            drain_time_max: Duration::from_secs(30),
        }
    }
}

/// Why the proxy did not start, or stopped.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// Another process holds the lock beside the control socket.
    #[error(
        "a proxy already runs on {} (process {pid}); stop that one first, or give this one another --control socket", 
        socket.display()
    )]
    AlreadyRunning {
        /// The control socket both want.
        socket: PathBuf,
        /// The holder's process id as it wrote it down, or "unknown".
        pid: String,
    },
    /// The control socket or its lock could not be made.
    #[error("cannot open the control socket {}: {source}; its folder must exist and be writable, and its path be shorter than 108 bytes", path.display())]
    ControlSocket {
        /// The socket or its lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state file exists but cannot be read.
    #[error("cannot read the last table from {}: {source}; make it readable, or remove it to start empty", path.display())]
    StateFile {
        /// The state file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What every connection of this process shares.
pub(crate) struct Shared {
    pub(crate) routes: Routes,
    pub(crate) limits: Limits,
    /// Certificates for connections between hosts; `None` until a table names them.
    pub(crate) identity: RwLock<Option<Arc<Identity>>>,
    pub(crate) mesh_counters: MeshCounters,
    pub(crate) held: Semaphore,
    /// Cancelled when the time to finish is over: everything left is cut.
    pub(crate) cut: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs the proxy until `shutdown` is cancelled and what was under way has finished, or had its time.
///
/// Published ports and the control socket are free again as soon as the shutdown begins, so that a successor may start
/// while this process still finishes. Fails when another proxy runs on the same control socket, or when socket or state
/// file cannot be used; a port that cannot be bound is no failure but reported in the status and tried again.
pub async fn run(config: ProxyConfig, shutdown: CancellationToken) -> Result<(), ProxyError> {
    let lock = Lock::acquire(&config.control_socket)?;
    let table = state::load(&config.state_file)?;
    let shared = Arc::new(Shared {
        routes: Routes::new(),
        limits: config.limits,
        identity: RwLock::new(None),
        mesh_counters: MeshCounters::default(),
        held: Semaphore::new(HELD_MAX),
        cut: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let control = Control::start(&config, shared.clone(), table).await?;
    shutdown.cancelled().await;

    tracing::info!("stopping: no new connections are taken");
    control.stop().await;
    drop(lock);
    shared.tasks.close();
    if tokio::time::timeout(config.limits.drain_time_max, shared.tasks.wait()).await.is_err() {
        tracing::warn!(left = shared.tasks.len(), "time to finish is over: cutting what is left");
        shared.cut.cancel();
        shared.tasks.wait().await;
    }
    Ok(())
}
