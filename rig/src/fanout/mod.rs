//! Many agents' exchange of one image in a process: the real code with real sockets, TLS and rates, without an engine. The
//! hub's tracker plans, in process.

pub mod authority;
pub mod memory;
pub mod partitions;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::HostName;
use base::shutdown::Shutdown;
use base::tls::SharedIdentity;
use fanout::core::{HostStanding, Source, Tracker, TrackerConfig, Zone};
use fanout::grant::GrantedBlob;
use fanout::peers::{Happened, Peers, PeersConfig, PeersStatus, Plan, Role};
use fanout::piece::PieceSet;
use oci::Digest;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use authority::Authority;
use memory::{Blob, Gives, Memory};

/// How long a grant of the rig is good, in seconds.
const GRANT_SECONDS: i64 = 3600;
/// How often hosts announce themselves to the tracker, in milliseconds.
const ANNOUNCE_MILLIS: u64 = 1000;
/// How long the connections may take to stand before it begins, in seconds.
const CONNECTED_SECONDS_MAX: u64 = 300;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts that want the image.
    pub hosts: usize,
    /// Bytes of the image, one blob.
    pub image_bytes: u64,
    /// What each host may send, in bytes a second.
    pub upload_bytes_per_second: Option<NonZeroU64>,
    /// What each host may receive, in bytes a second.
    pub download_bytes_per_second: Option<NonZeroU64>,
    /// What the hub may send, in bytes a second.
    pub hub_bytes_per_second: Option<NonZeroU64>,
    /// The first hosts of the list that do not give pieces as they are.
    pub liars: Vec<Gives>,
    /// How long it may take at most.
    pub limit: Duration,
    /// Where chance begins.
    pub seed: u64,
}

/// How it went for one host.
#[derive(Debug, Clone)]
pub struct HostOutcome {
    /// The host.
    pub host: HostName,
    /// When it had all; none when it never had.
    pub completed: Option<Duration>,
    /// The pieces that it has.
    pub have: PieceSet,
    /// Bytes by where they came from and went to.
    pub status: PeersStatus,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// By host; liars first.
    pub hosts: Vec<HostOutcome>,
    /// Bytes that the hub sent.
    pub hub_sent_bytes: u64,
    /// Bytes of the image.
    pub image_bytes: u64,
}

impl Outcome {
    /// How many copies left the hub.
    pub fn copies(&self) -> f64 {
        self.hub_sent_bytes as f64 / self.image_bytes as f64
    }
}

/// A host of the rig.
pub struct Agent {
    /// Its name.
    pub host: HostName,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Who it is.
    pub identity: SharedIdentity,
    /// Its side of the exchange.
    pub peers: Peers,
    /// Its pieces.
    pub memory: Arc<Memory>,
    /// What happens there.
    pub happened: mpsc::UnboundedReceiver<Happened>,
    /// Ends it.
    pub shutdown: Shutdown,
}

/// A hub and hosts that are connected with nobody yet.
pub struct Fleet {
    /// The hub's CA.
    pub authority: Authority,
    /// What is exchanged.
    pub blob: Arc<Blob>,
    /// The hub.
    pub hub: Agent,
    /// The hosts.
    pub agents: Vec<Agent>,
    addresses: HashMap<HostName, SocketAddr>,
}

/// The digest by which the rig's image is known.
pub fn image() -> Digest {
    Digest::sha256_of(b"rig")
}

impl Fleet {
    /// Starts all of them.
    ///
    /// # Errors
    /// A socket or an identity cannot be made.
    pub async fn start(settings: &Settings) -> Result<Self> {
        descriptors_raise();
        let authority = Authority::new()?;
        let mut bytes = vec![0; usize::try_from(settings.image_bytes)?];
        StdRng::seed_from_u64(settings.seed).fill_bytes(&mut bytes);
        let blob = Arc::new(Blob::new(bytes.into())?);
        let pieces = blob.tree.layout().pieces();
        let memory = |have, gives| Arc::new(Memory::new(Arc::clone(&blob), have, gives));
        let config = PeersConfig {
            role: Role::Origin,
            upload_bytes_per_second: settings.hub_bytes_per_second,
            download_bytes_per_second: None,
        };
        let hub = memory(PieceSet::full(pieces), Gives::Right);
        let hub = agent("hub".parse()?, config, &authority.hub()?, hub).await?;
        let mut agents = Vec::with_capacity(settings.hosts);
        for at in 0..settings.hosts {
            let host: HostName = format!("host-{at}").parse()?;
            let config = PeersConfig {
                role: Role::Agent(host.clone()),
                upload_bytes_per_second: settings.upload_bytes_per_second,
                download_bytes_per_second: settings.download_bytes_per_second,
            };
            let gives = settings.liars.get(at).copied().unwrap_or(Gives::Right);
            // Whoever lies says that it has everything.
            let have = if gives == Gives::Right { PieceSet::empty(pieces) } else { PieceSet::full(pieces) };
            let identity = authority.host(&host)?;
            agents.push(agent(host, config, &identity, memory(have, gives)).await?);
        }
        let addresses = agents.iter().map(|agent| (agent.host.clone(), agent.address)).collect();
        Ok(Self { authority, blob, hub, agents, addresses })
    }

    /// Where a host is reached.
    fn address(&self, host: &HostName) -> Option<SocketAddr> {
        self.addresses.get(host).copied()
    }

    /// What a grant of the image lists.
    pub fn granted(&self) -> Vec<GrantedBlob> {
        vec![GrantedBlob {
            digest: self.blob.digest,
            length_bytes: self.blob.bytes.len() as u64,
            root: self.blob.tree.root(),
        }]
    }

    /// Gives a host its grant and says what of the image it has: it begins.
    ///
    /// # Errors
    /// The grant cannot be signed.
    pub async fn begin(&self, agent: &Agent) -> Result<()> {
        agent.peers.grant(self.authority.grant(&agent.host, image(), self.granted(), GRANT_SECONDS)?).await;
        let tree = &self.blob.tree;
        agent.peers.blob(self.blob.digest, tree.root(), tree.layout(), agent.memory.have()).await;
        Ok(())
    }
}

/// The hub's tracker, as hosts hear of it.
pub struct Tracking {
    tracker: Tracker<HostName, Digest>,
    begun: Instant,
}

impl Tracking {
    /// A tracker that knows of nobody.
    pub fn new(seed: u64) -> Self {
        let config = TrackerConfig { seed, warm_up: Duration::ZERO, ..TrackerConfig::default() };
        Self { tracker: Tracker::new(config, Duration::ZERO, 1), begun: Instant::now() }
    }

    /// All hosts announce themselves, and those whose plan has changed are told.
    pub async fn round(&mut self, fleet: &Fleet) {
        for agent in &fleet.agents {
            self.tracker.announce(self.begun.elapsed(), agent.host.clone(), standing(agent, fleet.blob.digest).await);
        }
        let hosts: BTreeSet<HostName> = self.tracker.settle(self.begun.elapsed()).into_iter().collect();
        for agent in fleet.agents.iter().filter(|agent| hosts.contains(&agent.host)) {
            let Some(plan) = self.tracker.plan(&agent.host) else { continue };
            let parents = plan.trees.iter().flat_map(|(_, parents)| parents.iter().flatten());
            let parents = parents.filter_map(|source| match source {
                Source::Host(host) => Some(host),
                Source::Hub => None,
            });
            let hosts = plan.neighbours.iter().chain(parents);
            let neighbours = hosts.filter_map(|host| Some((host.clone(), fleet.address(host)?))).collect();
            let (hub, parents) = (Some(fleet.hub.address), plan.trees.clone());
            agent.peers.plan(Plan { neighbours, hub, parents }).await;
        }
    }

    /// Plans for hosts that want the image and have not begun, and waits until every one is connected with its neighbours.
    ///
    /// # Errors
    /// The connections do not come to stand in time.
    pub async fn warm(&mut self, fleet: &Fleet) -> Result<()> {
        self.round(fleet).await;
        // Changes are collected for a moment before they are planned.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.round(fleet).await;
        for agent in &fleet.agents {
            let wanted = self.tracker.plan(&agent.host).map_or(0, |plan| plan.neighbours.len());
            crate::until("connections of a host", Duration::from_secs(CONNECTED_SECONDS_MAX), || async {
                (agent.peers.status().await.connected.len() >= wanted).then_some(())
            })
            .await?;
        }
        Ok(())
    }
}

/// Lets the process have as many sockets as it may.
fn descriptors_raise() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // Where it is not allowed, sockets say so when they are too many.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

async fn agent(host: HostName, config: PeersConfig, identity: &SharedIdentity, memory: Arc<Memory>) -> Result<Agent> {
    let shutdown = Shutdown::new();
    let (peers, happened) = Peers::start(config, identity, Arc::clone(&memory) as _, shutdown.clone())?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no socket for a host")?;
    let address = listener.local_addr()?;
    shutdown.spawn(peers.clone().listen(listener));
    Ok(Agent { host, address, identity: identity.clone(), peers, memory, happened, shutdown })
}

/// How a host stands, as it announces it.
async fn standing(agent: &Agent, blob: Digest) -> HostStanding<HostName, Digest> {
    let complaints = agent.peers.status().await.complaints.into_iter().filter_map(|who| match who {
        fanout::peers::Who::Host(host) => Some(host),
        fanout::peers::Who::Hub => None,
    });
    let is_whole = agent.memory.have().is_full();
    HostStanding {
        zone: Zone::default(),
        is_edge: false,
        is_slow: false,
        fetching: (!is_whole).then_some(blob).into_iter().collect(),
        whole: is_whole.then_some(blob).into_iter().collect(),
        complaints: complaints.collect(),
    }
}

/// All hosts want the image at once, from cold, with connections that stand already.
///
/// # Errors
/// The rig cannot be made, or connections do not come to stand. Hosts that do not complete are no error.
pub async fn run(settings: &Settings) -> Result<Outcome> {
    let mut fleet = Fleet::start(settings).await?;
    let mut tracking = Tracking::new(settings.seed);
    tracking.warm(&fleet).await?;

    let started = Instant::now();
    for agent in &fleet.agents {
        fleet.begin(agent).await?;
    }
    let (mut ends, mut tasks) = (Vec::new(), Vec::new());
    for agent in &mut fleet.agents {
        let mut happened = std::mem::replace(&mut agent.happened, mpsc::unbounded_channel().1);
        let end = Arc::new(OnceLock::new());
        ends.push(Arc::clone(&end));
        tasks.push(tokio::spawn(async move {
            while let Some(what) = happened.recv().await {
                if matches!(what, Happened::Complete(_)) {
                    return end.set(started.elapsed()).unwrap_or_default();
                }
            }
        }));
    }
    let honest = tasks.into_iter().skip(settings.liars.len());
    let mut wait = Box::pin(futures::future::join_all(honest));
    loop {
        tokio::select! {
            _ = &mut wait => break,
            () = tokio::time::sleep_until(started + settings.limit) => break,
            () = tokio::time::sleep(Duration::from_millis(ANNOUNCE_MILLIS)) => {
                tracking.round(&fleet).await;
            }
        }
    }
    Ok(finish(fleet, &ends, settings).await)
}

async fn finish(fleet: Fleet, ends: &[Arc<OnceLock<Duration>>], settings: &Settings) -> Outcome {
    let mut hosts = Vec::with_capacity(fleet.agents.len());
    for (agent, end) in fleet.agents.iter().zip(ends) {
        let (have, status) = (agent.memory.have(), agent.peers.status().await);
        hosts.push(HostOutcome { host: agent.host.clone(), completed: end.get().copied(), have, status });
    }
    let hub_sent_bytes = fleet.hub.peers.status().await.sent_bytes;
    for agent in fleet.agents.iter().chain([&fleet.hub]) {
        agent.shutdown.begin();
    }
    Outcome { hosts, hub_sent_bytes, image_bytes: settings.image_bytes }
}
