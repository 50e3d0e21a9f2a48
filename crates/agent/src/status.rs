//! What a running agent says of its images to whoever asks on its machine: one JSON document for each connection to a socket
//! in its data folder, which is its owner's alone.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::HostName;
use fanout::local::Fallbacks;
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::registry::HostRegistry;

const SOCKET_FILE: &str = "agent.sock";
/// Questions at once; more wait.
const ASKED_MAX: usize = 8;
/// How long an answer may take, in seconds.
const ANSWER_SECONDS_MAX: u64 = 15;
/// The longest answer, in bytes.
const STATUS_BYTES_MAX: u64 = 64 << 20;
/// The pause after the system refused a connection, in milliseconds.
const ACCEPT_PAUSE_MILLIS: u64 = 100;

/// What an agent says of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The host.
    pub host: HostName,
    /// The agent's version.
    pub agent_version: String,
    /// Where its registry listens, `ADDRESS:PORT`.
    pub registry: String,
    /// The registries that it answers for as a mirror, as `--mirror` has them.
    pub mirrored: Vec<String>,
    /// Which of its ports are not those that were asked for, and why.
    pub ports: Vec<String>,
    /// Manifests and blobs that its registry was asked for since it was started.
    pub answers: u64,
    /// Its store of pieces.
    pub store: StoreStatus,
    /// Its images, by digest.
    pub images: Vec<ImageStatus>,
    /// Bytes of blobs that the store has and the engine, too, in its own form.
    pub held_twice_bytes: u64,
    /// Blobs for which the hub had to do.
    pub fallbacks: Fallbacks,
    /// Its part in the exchange of pieces; none when it takes none.
    pub exchange: Option<ExchangeStatus>,
    /// Why the store is not used and images come from the hub alone.
    pub trouble: Option<String>,
}

/// A host's part in the exchange of pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeStatus {
    /// Other hosts that it has a connection with.
    pub connected: usize,
    /// Bytes that were sent to other hosts since the agent was started.
    pub sent_bytes: u64,
    /// Whether it serves its region.
    pub is_edge: bool,
    /// The edge that serves its region, as the hub says.
    pub edge: Option<HostName>,
    /// Why others had better not depend on it, if it has said so.
    pub slow: Option<String>,
    /// What a person should know of it.
    pub warnings: Vec<String>,
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Where it is.
    pub folder: PathBuf,
    /// What it may hold, in bytes.
    pub budget_bytes: u64,
    /// What it holds, in bytes.
    pub used_bytes: u64,
    /// Of that, what may not go now: it runs, may be rolled back to, or is being pulled.
    pub kept_bytes: u64,
}

/// How an image stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatus {
    /// Its repository on the hub.
    pub repository: RepositoryName,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Bytes that are here.
    pub bytes_there: u64,
    /// Bytes that came from other agents.
    pub from_peers: u64,
    /// Bytes that came from the hub.
    pub from_hub: u64,
    /// Bytes that were here already.
    pub from_disk: u64,
    /// How fast it arrives.
    pub bytes_per_second: u64,
    /// How long the rest takes at that rate, in seconds.
    pub seconds_left: Option<u64>,
    /// Whether it stays whatever is short: it runs, or may be rolled back to.
    pub is_kept: bool,
    /// Whether the engine has it, too.
    pub is_on_engine: bool,
}

/// Why an agent does not say how it stands.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody listens.
    #[error("no agent answers at {}: {source}; start one, or name its data folder with --data", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its answer makes no sense.
    #[error("the agent's answer cannot be understood: {why}; agent and command may be of versions too far apart")]
    Answer {
        /// What is wrong.
        why: String,
    },
}

/// Asks the agent of this data folder.
///
/// # Errors
/// [`StatusError`].
pub async fn ask(data: &Path) -> Result<AgentStatus, StatusError> {
    let path = data.join(SOCKET_FILE);
    let answer = async {
        let stream = UnixStream::connect(&path).await?;
        let mut text = Vec::new();
        stream.take(STATUS_BYTES_MAX).read_to_end(&mut text).await?;
        io::Result::Ok(text)
    };
    let text = match tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), answer).await {
        Ok(Ok(text)) => text,
        Ok(Err(source)) => return Err(StatusError::NotRunning { path, source }),
        Err(_) => return Err(StatusError::Answer { why: format!("none came for {ANSWER_SECONDS_MAX} s") }),
    };
    serde_json::from_slice(&text).map_err(|error| StatusError::Answer { why: error.to_string() })
}

/// Opens the socket in a data folder that is this process's, in place of one that an earlier process left.
///
/// # Errors
/// It cannot be made.
pub fn listen(data: &Path) -> io::Result<UnixListener> {
    let path = data.join(SOCKET_FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until it is aborted. `ports` are those that are not as they were asked for.
pub async fn serve(listener: UnixListener, registry: Arc<HostRegistry>, ports: Vec<String>) {
    let places = Arc::new(Semaphore::new(ASKED_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let mut stream = match listener.accept().await {
            Ok((stream, _address)) => stream,
            Err(error) => {
                tracing::warn!(%error, "somebody who asks how the agent stands could not be answered");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await;
                continue;
            }
        };
        let (registry, ports) = (registry.clone(), ports.clone());
        tokio::spawn(async move {
            let answer = async {
                let status = AgentStatus { ports, ..registry.status().await };
                let text = serde_json::to_vec(&status).map_err(io::Error::other)?;
                stream.write_all(&text).await?;
                stream.shutdown().await
            };
            match tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), answer).await {
                Ok(Err(error)) => tracing::debug!(%error, "whoever asked how the agent stands went away"),
                Err(_) => tracing::warn!("how the agent stands could not be said in time"),
                Ok(Ok(())) => {}
            }
            drop(place);
        });
    }
}
