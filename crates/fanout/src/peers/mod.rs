//! The connections between hosts: who may be on the other end, what goes over them and how fast, and the driver that joins
//! the pure core with them and with the pieces on disk.
//!
//! ```text
//! listener ─┐                    ┌─▶ core::Peer ─┐
//!           ├─▶ link ─▶ events ─▶ driver         ├─▶ frames, uploads ─▶ link ─▶ bucket ─▶ socket
//! dialler ──┘    │               └──── blobs ◀───┘
//!                └─▶ pieces: read, verified, written; their bytes never pass the driver
//! ```
//!
//! Invariants:
//! - There is one connection with a host, and its certificate names that host and no other.
//! - Nothing of a blob is said or given to a host that has not shown, on this connection, a grant of its own that is good now
//!   and lists the blob with the root that is known here (a43, a33).
//! - Memory is bounded whatever others do: frames, what waits to be sent, pieces on their way in and out.

mod bucket;
mod commands;
mod dial;
mod driver;
mod link;
mod network;
mod other;
mod outputs;
mod reader;
mod rights;
mod stored;
mod writer;
pub(crate) mod yielding;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use api::access::{HUB_SERVER_NAME, host_server_name};
use api::fanout::{Parent, PeerPlan, SignedGrant};
use api::{HostName, Micros};
use async_trait::async_trait;
use base::shutdown::Shutdown;
use base::tls::{PeerTls, Revoked, SharedIdentity, TlsError};
use bytes::Bytes;
use oci::Digest;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_rustls::server::TlsStream;

use crate::core::{Counts, Parents, STRIPES, Source};
use crate::piece::{Layout, PieceSet, Root};

use bucket::Bucket;
use driver::Driver;
pub use network::{Dialler, Stream, Surroundings};

/// The protocol's name in TLS (ALPN).
pub const PROTOCOL: &[u8] = b"longshore-peer/1";
/// How long a connection may take until both sides have said who they are, in seconds.
const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// Connections that have not said yet who they are; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 256;
/// Connections of an agent at most, those that others opened included.
const AGENT_LINKS_MAX: usize = 128;
/// Connections of the hub at most.
const ORIGIN_LINKS_MAX: usize = 2048;
/// Bytes of pieces that are on their way in; what comes beyond them waits in the senders' buffers.
const INCOMING_BYTES_MAX: usize = 32 << 20;
/// Bytes of pieces that are on their way out.
const OUTGOING_BYTES_MAX: usize = 16 << 20;
/// What those budgets are counted in, in bytes.
const BUDGET_UNIT_BYTES: usize = 1024;
/// Commands that may wait for the driver.
const COMMANDS_MAX: usize = 1024;
/// Events of connections that may wait for the driver.
const EVENTS_MAX: usize = 4096;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The hub.
    Hub,
    /// Another host.
    Host(HostName),
}

impl Who {
    /// The name that its certificate must have.
    fn server_name(&self) -> String {
        match self {
            Who::Hub => HUB_SERVER_NAME.to_owned(),
            Who::Host(host) => host_server_name(host),
        }
    }

    /// Whose certificate has these names; none when they are those of nobody, or of more than one.
    fn certified(names: &[String]) -> Option<Self> {
        if names.iter().any(|name| name == HUB_SERVER_NAME) {
            return Some(Who::Hub);
        }
        let [name] = names else { return None };
        let host: HostName = name.split('.').next()?.parse().ok()?;
        (host_server_name(&host) == *name).then_some(Who::Host(host))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Hub => f.write_str("the hub"),
            Who::Host(host) => host.fmt(f),
        }
    }
}

/// What became of a piece that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is not that piece; nothing was kept.
    Wrong,
    /// It is there.
    Kept,
}

/// Where pieces are: the agent's store, or the hub's registry.
#[async_trait]
pub trait Pieces: Send + Sync + 'static {
    /// A piece that is there.
    async fn read(&self, digest: Digest, piece: u32) -> std::io::Result<Bytes>;

    /// Keeps a piece, if the tree says that it is that piece.
    async fn write(&self, digest: Digest, piece: u32, bytes: Bytes, from: &Who) -> std::io::Result<Written>;

    /// The hashes of a blob's pieces, one after the other.
    async fn tree(&self, digest: Digest) -> std::io::Result<Bytes>;

    /// Pieces of a blob with this root and layout that can be read; none when it is not here. The hub is asked when a host
    /// shows its grant; an agent says by itself what it has.
    async fn offered(&self, digest: Digest, root: Root, layout: Layout) -> Option<PieceSet>;
}

/// Who this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A host's agent.
    Agent(HostName),
    /// The hub: dials nobody, wants nothing, and offers what hosts have grants for.
    Origin,
}

/// What does not change.
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// Who this is.
    pub role: Role,
    /// Bytes of pieces a second that may be sent; none for no limit.
    pub upload_bytes_per_second: Option<NonZeroU64>,
    /// Bytes a second that may be received; none for no limit.
    pub download_bytes_per_second: Option<NonZeroU64>,
}

/// Whom to exchange pieces with, whole: it replaces what was said before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Other hosts, and where they are reached.
    pub neighbours: Vec<(HostName, SocketAddr)>,
    /// Where the hub is reached, when pieces may be asked of it.
    pub hub: Option<SocketAddr>,
    /// Who sends each stripe of a blob. They are among the neighbours.
    pub parents: Vec<(Digest, Parents<HostName>)>,
}

impl Plan {
    /// What the hub's tracker says, where the hub is reached at this address.
    pub fn said(plan: &PeerPlan, hub: Option<SocketAddr>) -> Self {
        let parents = plan.trees.iter().map(|trees| {
            let mut parents: Parents<HostName> = [const { None }; STRIPES];
            for (place, parent) in parents.iter_mut().zip(&trees.parents) {
                *place = parent.as_ref().map(|parent| match parent {
                    Parent::Hub => Source::Hub,
                    Parent::Host(host) => Source::Host(host.clone()),
                });
            }
            (trees.digest, parents)
        });
        Self {
            neighbours: plan.neighbours.iter().map(|other| (other.host.clone(), other.address)).collect(),
            hub: hub.filter(|_| plan.hub_is_neighbour),
            parents: parents.collect(),
        }
    }
}

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// All pieces of a blob are there.
    Complete(Digest),
    /// [`PeersStatus::complaints`] has grown: the tracker is to hear of it soon.
    Complaints,
    /// Nobody sends what is missing of a blob: it is to be fetched from the hub's registry.
    Starving(Digest),
}

/// How the exchange stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeersStatus {
    /// With whom there is a connection.
    pub connected: Vec<Who>,
    /// Bytes of pieces that were sent.
    pub sent_bytes: u64,
    /// Bytes of pieces that came, right ones, from other hosts.
    pub from_hosts_bytes: u64,
    /// Bytes of pieces that came, right ones, from the hub.
    pub from_hub_bytes: u64,
    /// Pieces that came.
    pub pieces: Counts,
    /// Hosts for which something waits that they are to be sent.
    pub waiting: usize,
    /// Hosts that sent wrong pieces, or did not send what they promised.
    pub complaints: Vec<Who>,
}

/// What the agent says to the driver.
enum Command {
    Plan(Plan),
    Grant(SignedGrant),
    Blob { digest: Digest, root: Root, layout: Layout, pieces: PieceSet },
    Forget(Digest),
    Kept { digest: Digest, pieces: PieceSet },
    Tree { digest: Digest, reply: oneshot::Sender<Bytes> },
    Status(oneshot::Sender<PeersStatus>),
}

/// What all connections of a host share.
struct Shared {
    role: Role,
    tls: PeerTls,
    dialler: Arc<dyn Dialler>,
    /// The CA's certificate: whose grants count.
    ca: CertificateDer<'static>,
    upload: Bucket,
    download: Bucket,
    /// Room for pieces on their way in, and out.
    incoming: Arc<Semaphore>,
    outgoing: Arc<Semaphore>,
    pieces: Arc<dyn Pieces>,
    events: mpsc::Sender<driver::Event>,
    now: fn() -> Micros,
    shutdown: Shutdown,
}

/// The exchange of pieces; cheap to clone. It ends with the shutdown.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers({:?})", self.shared.role)
    }
}

impl Peers {
    /// Begins. What happens is told by the second value, which must be read.
    ///
    /// # Errors
    /// The identity's CA cannot be used.
    pub fn start(
        config: PeersConfig,
        identity: &SharedIdentity,
        pieces: Arc<dyn Pieces>,
        shutdown: Shutdown,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Happened>), TlsError> {
        Self::start_in(Surroundings::default(), config, identity, pieces, shutdown)
    }

    /// The same in a simulation: what it brings is [`Surroundings`], and connections come in by [`Peers::speak`].
    ///
    /// # Errors
    /// See [`Peers::start`].
    pub fn start_in(
        surroundings: Surroundings,
        config: PeersConfig,
        identity: &SharedIdentity,
        pieces: Arc<dyn Pieces>,
        shutdown: Shutdown,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Happened>), TlsError> {
        let (events, incoming_events) = mpsc::channel(EVENTS_MAX);
        let (commands, incoming_commands) = mpsc::channel(COMMANDS_MAX);
        // What happens is bounded by the blobs: each is complete once, and starves at a bounded pace.
        let (happened, happenings) = mpsc::unbounded_channel();
        let room = |bytes| Arc::new(Semaphore::new(bytes / BUDGET_UNIT_BYTES));
        let shared = Arc::new(Shared {
            role: config.role,
            tls: PeerTls::new(identity, PROTOCOL, Revoked::default())?,
            dialler: surroundings.dialler,
            ca: identity.current().ca().clone(),
            upload: Bucket::new(config.upload_bytes_per_second),
            download: Bucket::new(config.download_bytes_per_second),
            incoming: room(INCOMING_BYTES_MAX),
            outgoing: room(OUTGOING_BYTES_MAX),
            pieces,
            events,
            now: Micros::now,
            shutdown: shutdown.clone(),
        });
        let driver = Driver::new(Arc::clone(&shared), surroundings.seed, happened);
        shutdown.spawn(driver.run(incoming_events, incoming_commands));
        Ok((Self { shared, commands }, happenings))
    }

    /// Takes connections in until the shutdown.
    pub async fn listen(self, listener: TcpListener) {
        dial::listen(self.shared, listener).await;
    }

    /// TLS as [`Peers::speak`] needs it, for a port that is shared with another protocol.
    pub fn tls(&self) -> &PeerTls {
        &self.shared.tls
    }

    /// Speaks with whoever came in on such a port, until the connection ends.
    pub async fn speak<S: Stream>(self, stream: TlsStream<S>) {
        dial::came_in(&self.shared, stream).await;
    }

    /// Serial numbers of certificates that count no more; connections with them are cut at once.
    pub fn revoked(&self) -> &Revoked {
        self.shared.tls.revoked()
    }

    async fn say(&self, command: Command) {
        // Without a driver the process is stopping.
        let _ = self.commands.send(command).await;
    }

    /// Whom to exchange pieces with from now on.
    pub async fn plan(&self, plan: Plan) {
        self.say(Command::Plan(plan)).await;
    }

    /// What the hub lets this host have; it is shown to all. A later one for the same image replaces it.
    pub async fn grant(&self, grant: SignedGrant) {
        self.say(Command::Grant(grant)).await;
    }

    /// A blob that is wanted, or whole and given away; a grant for it comes before. Its pieces can be written and read from
    /// now on.
    pub async fn blob(&self, digest: Digest, root: Root, layout: Layout, pieces: PieceSet) {
        self.say(Command::Blob { digest, root, layout, pieces }).await;
    }

    /// A blob is neither wanted nor given away any more.
    pub async fn forget(&self, digest: Digest) {
        self.say(Command::Forget(digest)).await;
    }

    /// These pieces are there, those among them that came some other way: others can have them from now on.
    pub async fn kept(&self, digest: Digest, pieces: PieceSet) {
        self.say(Command::Kept { digest, pieces }).await;
    }

    /// The hashes of a blob's pieces from whoever sends them first, for when the hub is away: to be checked against the root
    /// of the grant. None when nobody does in time.
    pub async fn tree(&self, digest: Digest, limit: std::time::Duration) -> Option<Bytes> {
        let (reply, answer) = oneshot::channel();
        self.say(Command::Tree { digest, reply }).await;
        tokio::time::timeout(limit, answer).await.ok()?.ok()
    }

    /// How it stands.
    pub async fn status(&self) -> PeersStatus {
        let (reply, answer) = oneshot::channel();
        self.say(Command::Status(reply)).await;
        answer.await.unwrap_or_default()
    }
}
