//! The host's edge as the converge loop uses it: the proxy, which is kept running, and the kernel's routes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use engine::Subnet;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::proxy::client::{ClientError, ProxyClient};
use crate::proxy::status::Status;
use crate::proxy::table::Table;
use crate::routes::{self, RouteError};

/// How long a proxy may take from its start until it answers.
const ANSWER_SECONDS_MAX: u64 = 5;
/// How long lies between two attempts to start it.
const SPAWN_PAUSE_SECONDS: u64 = 2;
const ANSWER_POLL_MILLIS: u64 = 50;
/// How often routes that are there are looked at again.
const ROUTES_SECONDS: u64 = 30;

/// Why the edge cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ClientError),
    /// The proxy could not be started.
    #[error("cannot start the proxy {}: {source}; see {}", program.display(), log.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Where its output goes.
        log: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel's routes.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// The seam between the converge loop and what carries the host's traffic.
#[async_trait]
pub trait Edge: Send + Sync + 'static {
    /// The proxy's state; the proxy is started when it does not run.
    async fn status(&self) -> Result<Status, EdgeError>;
    /// Gives the proxy its table; its state afterwards.
    async fn table_put(&self, table: &Table) -> Result<Status, EdgeError>;
    /// Makes the upper halves of these subnets addresses of this machine.
    async fn routes_ensure(&self, subnets: &BTreeSet<Subnet>) -> Result<(), EdgeError>;
    /// Takes back what [`Edge::routes_ensure`] did for a subnet.
    async fn route_remove(&self, subnet: Subnet) -> Result<(), EdgeError>;
}

/// How the proxy of a host is started.
#[derive(Debug, Clone)]
pub struct ProxyProgram {
    /// The `longshore` binary.
    pub program: PathBuf,
    /// The proxy's control socket.
    pub control: PathBuf,
    /// Where the proxy keeps its table.
    pub state: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
}

/// The proxy process of this host and the kernel's routes.
pub struct HostEdge {
    client: ProxyClient,
    program: ProxyProgram,
    spawned: Mutex<Option<Instant>>,
    routed: Mutex<(BTreeSet<Subnet>, Option<Instant>)>,
}

impl HostEdge {
    /// Looks after the proxy that is started like this.
    pub fn new(program: ProxyProgram) -> Self {
        Self {
            client: ProxyClient::new(&program.control),
            program,
            spawned: Mutex::new(None),
            routed: Mutex::new((BTreeSet::new(), None)),
        }
    }

    /// Starts the proxy in a process group of its own, so that neither the agent's end nor a signal to the agent's group
    /// is the proxy's end.
    async fn spawn(&self) -> Result<(), EdgeError> {
        let mut spawned = self.spawned.lock().await;
        if spawned.is_some_and(|at| at.elapsed() < Duration::from_secs(SPAWN_PAUSE_SECONDS)) {
            return Ok(());
        }
        *spawned = Some(Instant::now());
        let ProxyProgram { program, control, state, log } = &self.program;
        let failed = |source| EdgeError::Spawn { program: program.clone(), log: log.clone(), source };
        let output = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
        let child = tokio::process::Command::new(program)
            .arg("proxy")
            .arg("--control")
            .arg(control)
            .arg("--state")
            .arg(state)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(failed)?;
        tracing::info!(pid = child.id(), control = %control.display(), "started the proxy");
        Ok(())
    }
}

#[async_trait]
impl Edge for HostEdge {
    async fn status(&self) -> Result<Status, EdgeError> {
        match self.client.status().await {
            Err(ClientError::Absent { .. }) => {}
            answered => return Ok(answered?),
        }
        self.spawn().await?;
        let deadline = Instant::now() + Duration::from_secs(ANSWER_SECONDS_MAX);
        loop {
            tokio::time::sleep(Duration::from_millis(ANSWER_POLL_MILLIS)).await;
            match self.client.status().await {
                Err(ClientError::Absent { .. }) if Instant::now() < deadline => {}
                answered => return Ok(answered?),
            }
        }
    }

    async fn table_put(&self, table: &Table) -> Result<Status, EdgeError> {
        Ok(self.client.put_table(table).await?)
    }

    async fn routes_ensure(&self, subnets: &BTreeSet<Subnet>) -> Result<(), EdgeError> {
        let mut routed = self.routed.lock().await;
        let (known, at) = &*routed;
        let recent = at.is_some_and(|at| at.elapsed() < Duration::from_secs(ROUTES_SECONDS));
        if known == subnets && recent {
            return Ok(());
        }
        // A look that was older than a network's removal may have put its route back.
        for gone in known.difference(subnets) {
            routes::remove(*gone).await?;
        }
        routes::ensure(subnets).await?;
        *routed = (subnets.clone(), Some(Instant::now()));
        Ok(())
    }

    async fn route_remove(&self, subnet: Subnet) -> Result<(), EdgeError> {
        self.routed.lock().await.1 = None;
        Ok(routes::remove(subnet).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at the engine that is older than a network's removal must not leave the network's route behind.
    #[tokio::test]
    async fn a_late_look_does_not_bring_a_route_back_for_good() {
        let nowhere = PathBuf::from("/nonexistent");
        let edge = HostEdge::new(ProxyProgram {
            program: nowhere.clone(),
            control: nowhere.clone(),
            state: nowhere.clone(),
            log: nowhere,
        });
        // TEST-NET-3 of RFC 5737: in nobody's use.
        let subnet: Subnet = "203.0.113.0/24".parse().unwrap();
        let (before, after) = (BTreeSet::from([subnet]), BTreeSet::new());
        let bound = || std::net::TcpListener::bind((subnet.virtual_address(3).unwrap(), 0)).is_ok();
        edge.routes_ensure(&before).await.unwrap();
        assert!(bound());
        edge.route_remove(subnet).await.unwrap();
        assert!(!bound());
        edge.routes_ensure(&before).await.unwrap();
        edge.routes_ensure(&after).await.unwrap();
        assert!(!bound());
    }
}
