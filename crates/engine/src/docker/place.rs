//! Whether an engine runs on this machine: found out, not guessed from its name.

use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{Address, Connection, images};
use crate::{EngineError, Place, Progress};

/// An engine whose pull takes longer than this to fail, or to get here, does not share the network.
const PULL_MAX: Duration = Duration::from_secs(5);

/// The part of `GET /info` that tells whose kernel the engine runs on.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    kernel_version: String,
    #[serde(default)]
    operating_system: String,
    #[serde(default)]
    mem_total: u64,
}

pub(super) async fn place(docker: &Connection, address: &Address) -> Result<Place, EngineError> {
    // Over TCP, a forwarded port looks like an engine on this machine.
    if !matches!(address, Address::Unix(_)) {
        return Ok(Place::ELSEWHERE);
    }
    let info: Info = docker.raw.get_json("/info", "cannot ask the container engine where it runs").await?;
    let kernel = rustix::system::uname();
    let shares_files = info.kernel_version == kernel.release().to_string_lossy()
        && info.mem_total == memory_total_bytes()
        // Beside WSL2 it has the same kernel, and files of its own.
        && !info.operating_system.contains("Docker Desktop");
    Ok(Place { shares_network: shares_files && shares_network(docker).await, shares_files })
}

fn memory_total_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let (total, unit) = (info.totalram, info.mem_unit);
    total.saturating_mul(u64::from(unit))
}

/// Asks the engine to pull from a port that is open on this machine's loopback for that time: an engine in a network
/// namespace of its own, or without rights to reach it, never gets here.
async fn shares_network(docker: &Connection) -> bool {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { return false };
    let Ok(address) = listener.local_addr() else { return false };
    let (heard, hears) = tokio::sync::oneshot::channel();
    let listening = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut heard = Some(heard);
        // Each connection is closed at once: what is asked of it does not matter, and the pull fails quickly.
        while let Ok((_connection, _from)) = listener.accept().await {
            if let Some(heard) = heard.take() {
                let _unheard = heard.send(());
            }
        }
    }));
    let reference = format!("{address}/longshore/here:or-not");
    let pull = images::pull(docker, &reference, Progress::none());
    let pull = tokio::time::timeout(PULL_MAX, pull);
    let reached = tokio::select! {
        biased;
        reached = hears => reached.is_ok(),
        _failed = pull => false,
    };
    drop(listening);
    reached
}
