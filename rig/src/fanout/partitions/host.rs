//! A host's process on the simulated network: the real exchange of pieces, and announcements as an agent makes them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::HostName;
use api::fanout::{Announce, PeerPlan, SignedGrant};
use async_trait::async_trait;
use base::shutdown::Shutdown;
use base::tls::SharedIdentity;
use fanout::peers::{Dialler, Happened, Peers, PeersConfig, PeersStatus, Plan, Role, Stream, Surroundings, Who};
use fanout::piece::PieceTree;
use futures::{SinkExt as _, StreamExt as _};
use oci::Digest;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

use super::tracker::{self, Hail, Lines};
use super::{HUB, PORT, TRACKER};
use crate::fanout::memory::Memory;

/// How long an announcement is held open while something arrives, and otherwise, in seconds: as agents have it.
const ARRIVING_SECONDS: u64 = 1;
const IDLE_SECONDS: u64 = 5;
/// How long the answer may take beyond that, in seconds.
const ANSWER_SECONDS_MAX: u64 = 5;
/// The pause after the tracker did not answer, in seconds.
const AWAY_SECONDS: u64 = 2;
/// How often it is looked how the exchange stands, in milliseconds.
const LOOK_MILLIS: u64 = 100;

/// What of a host outlives its process.
pub(super) struct Node {
    pub(super) config: PeersConfig,
    pub(super) identity: SharedIdentity,
    pub(super) memory: Arc<Memory>,
    /// The blob that is exchanged, and what the host may have of it; the hub needs no grant.
    pub(super) digest: Digest,
    pub(super) tree: Arc<PieceTree>,
    pub(super) grant: Option<SignedGrant>,
    /// Where chance begins in its first life.
    pub(super) seed: u64,
    pub(super) seen: Mutex<Seen>,
}

/// What was seen of a host from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// When it had all, in simulated time.
    pub(super) completed: Option<Duration>,
    /// How the exchange stood last in each of its lives.
    pub(super) lives: Vec<PeersStatus>,
}

/// Dials on the simulated network.
struct Simulated;

#[async_trait]
impl Dialler for Simulated {
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(TcpStream::connect(address).await?))
    }
}

impl Node {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that it has sent in all its lives.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.seen().lives.iter().map(|life| life.sent_bytes).sum()
    }

    /// Lives until it is killed.
    pub(super) async fn live(self: Arc<Self>) -> turmoil::Result {
        let life = {
            let mut seen = self.seen();
            seen.lives.push(PeersStatus::default());
            seen.lives.len() as u64
        };
        let surroundings =
            Surroundings { dialler: Arc::new(Simulated), seed: self.seed.wrapping_mul(31).wrapping_add(life) };
        let (pieces, shutdown) = (Arc::clone(&self.memory), Shutdown::new());
        let (peers, happened) = Peers::start_in(surroundings, self.config.clone(), &self.identity, pieces, shutdown)?;
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        if let Some(grant) = &self.grant {
            peers.grant(grant.clone()).await;
            peers.blob(self.digest, self.tree.root(), self.tree.layout(), self.memory.have()).await;
        }
        let news = Notify::new();
        tokio::select! {
            biased;
            () = self.watch(&peers, happened, &news) => {}
            () = self.announce(&peers, &news) => {}
            result = listen(&peers, listener) => result?,
        }
        Ok(())
    }

    /// Keeps what is seen from outside up to date.
    async fn watch(&self, peers: &Peers, mut happened: mpsc::UnboundedReceiver<Happened>, news: &Notify) {
        loop {
            tokio::select! {
                biased;
                Some(what) = happened.recv() => {
                    if matches!(what, Happened::Complete(_)) {
                        self.seen().completed.get_or_insert_with(|| turmoil::sim_elapsed().unwrap_or_default());
                    }
                    // An agent that starves gives its engine an error, and goes on when that asks again; here it goes on.
                    if !matches!(what, Happened::Starving(_)) {
                        news.notify_one();
                    }
                }
                () = sleep(Duration::from_millis(LOOK_MILLIS)) => {}
            }
            let status = peers.status().await;
            if let Some(life) = self.seen().lives.last_mut() {
                *life = status;
            }
        }
    }

    /// Says how the image stands here, and does what the tracker says.
    async fn announce(&self, peers: &Peers, news: &Notify) {
        let Role::Agent(host) = &self.config.role else { return std::future::pending().await };
        let mut seen = 0;
        loop {
            if let Err(why) = self.converse(host, peers, news, &mut seen).await {
                tracing::debug!(%host, %why, "the tracker is away");
            }
            sleep(Duration::from_secs(AWAY_SECONDS)).await;
        }
    }

    async fn converse(&self, host: &HostName, peers: &Peers, news: &Notify, seen: &mut u64) -> anyhow::Result<()> {
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
        let mut lines = tracker::lines(timeout(limit, TcpStream::connect((TRACKER, PORT))).await??);
        loop {
            let announce = self.standing(peers, *seen).await;
            let limit = limit + Duration::from_secs(announce.wait_seconds);
            let hail = serde_json::to_string(&Hail { host: host.clone(), announce })?;
            let answer = timeout(limit, async {
                lines.send(hail).await?;
                answer(&mut lines).await
            });
            tokio::select! {
                biased;
                plan = answer => {
                    let plan = plan??;
                    *seen = plan.number;
                    follow(peers, &plan).await;
                }
                // What was said is out of date; it is said anew on another connection, as with HTTP on another stream.
                () = news.notified() => {
                    lines = tracker::lines(timeout(limit, TcpStream::connect((TRACKER, PORT))).await??);
                }
            }
        }
    }

    async fn standing(&self, peers: &Peers, seen: u64) -> Announce {
        let have = self.memory.have();
        let complaints = peers.status().await.complaints.into_iter().filter_map(|who| match who {
            Who::Host(host) => Some(host),
            Who::Hub => None,
        });
        let is_whole = have.is_full();
        Announce {
            seen,
            wait_seconds: if is_whole { IDLE_SECONDS } else { ARRIVING_SECONDS },
            address: SocketAddr::from(([0, 0, 0, 0], PORT)),
            is_edge: false,
            is_slow: false,
            complaints: complaints.collect(),
            images: Vec::new(),
            fetching: (!is_whole).then_some(self.digest).into_iter().collect(),
            whole: is_whole.then_some(self.digest).into_iter().collect(),
            warnings: Vec::new(),
        }
    }
}

async fn answer(lines: &mut Lines) -> anyhow::Result<PeerPlan> {
    let line = lines.next().await.ok_or_else(|| anyhow::anyhow!("the tracker hung up"))??;
    Ok(serde_json::from_str(&line)?)
}

async fn follow(peers: &Peers, plan: &PeerPlan) {
    let hub = SocketAddr::from((turmoil::lookup(HUB), PORT));
    peers.plan(Plan::said(plan, Some(hub))).await;
}

/// Takes connections in, as a port does that shares them out by protocol.
async fn listen(peers: &Peers, listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let peers = peers.clone();
        tokio::spawn(async move {
            match peers.tls().accept(stream).await {
                Ok((stream, _)) => peers.speak(stream).await,
                Err(error) => tracing::debug!(%error, "a peer did not get in"),
            }
        });
    }
}
