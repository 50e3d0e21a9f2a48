//! The hub's tracker in a process of its own: the real one, to which hosts announce themselves with the types of the agents'
//! protocol, a line of JSON each. It answers when the plan is another than the host has seen, or after its wait, as the hub.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::HostName;
use api::fanout::{Announce, BlobTrees, Neighbour, Parent, PeerPlan};
use fanout::core::{HostStanding, Source, Tracker, TrackerConfig, Zone};
use futures::{SinkExt as _, StreamExt as _};
use oci::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::codec::{Framed, LinesCodec};
use turmoil::net::{TcpListener, TcpStream};

use super::PORT;

/// The longest announcement or plan, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How often the tracker plans what has changed, in milliseconds.
const SETTLE_MILLIS: u64 = 20;

/// A connection on which lines are said.
pub(super) type Lines = Framed<TcpStream, LinesCodec>;

pub(super) fn lines(stream: TcpStream) -> Lines {
    Framed::new(stream, LinesCodec::new_with_max_length(LINE_BYTES_MAX))
}

/// An announcement, and who makes it: there is no certificate on this connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hail {
    pub(super) host: HostName,
    pub(super) announce: Announce,
}

struct Desk {
    begun: Instant,
    state: Mutex<State>,
    planned: watch::Sender<u64>,
}

struct State {
    tracker: Tracker<HostName, Digest>,
    addresses: BTreeMap<HostName, SocketAddr>,
}

/// Tracks until it is killed.
pub(super) async fn serve(seed: u64) -> turmoil::Result {
    let tracker = Tracker::new(TrackerConfig { seed, ..TrackerConfig::default() }, Duration::ZERO, 0);
    let desk = Arc::new(Desk {
        begun: Instant::now(),
        state: Mutex::new(State { tracker, addresses: BTreeMap::new() }),
        planned: watch::Sender::new(0),
    });
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                let (stream, from) = accepted?;
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    if let Err(why) = desk.converse(stream, from).await {
                        tracing::debug!(%from, %why, "a host hung up");
                    }
                });
            }
            () = sleep(Duration::from_millis(SETTLE_MILLIS)) => desk.settle(),
        }
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self) {
        if !self.state().tracker.settle(self.begun.elapsed()).is_empty() {
            self.planned.send_modify(|count| *count += 1);
        }
    }

    async fn converse(&self, stream: TcpStream, from: SocketAddr) -> anyhow::Result<()> {
        let mut lines = lines(stream);
        while let Some(line) = lines.next().await {
            let Hail { host, announce } = serde_json::from_str(&line?)?;
            let (seen, until) = (announce.seen, Instant::now() + Duration::from_secs(announce.wait_seconds));
            self.state().announced(self.begun.elapsed(), host.clone(), from, announce);
            let mut planned = self.planned.subscribe();
            let plan = loop {
                planned.mark_unchanged();
                let plan = self.state().plan(&host);
                if plan.number != seen || Instant::now() >= until {
                    break plan;
                }
                tokio::select! {
                    biased;
                    _ = planned.changed() => {}
                    () = sleep_until(until) => {}
                }
            };
            lines.send(serde_json::to_string(&plan)?).await?;
        }
        Ok(())
    }
}

impl State {
    fn announced(&mut self, now: Duration, host: HostName, from: SocketAddr, announce: Announce) {
        let address = SocketAddr::from((from.ip(), announce.address.port()));
        self.addresses.insert(host.clone(), address);
        let standing = HostStanding {
            zone: Zone::default(),
            is_edge: announce.is_edge,
            is_slow: announce.is_slow,
            fetching: announce.fetching.into_iter().collect(),
            whole: announce.whole.into_iter().collect(),
            complaints: announce.complaints,
        };
        self.tracker.announce(now, host, standing);
    }

    fn plan(&self, host: &HostName) -> PeerPlan {
        let mut plan = PeerPlan { hub_is_neighbour: true, ..PeerPlan::default() };
        if let Some(planned) = self.tracker.plan(host) {
            let mut others: Vec<&HostName> = Vec::new();
            for (digest, parents) in &planned.trees {
                let parents = parents.iter().map(|parent| match parent.as_ref()? {
                    Source::Hub => Some(Parent::Hub),
                    Source::Host(parent) => {
                        others.push(parent);
                        Some(Parent::Host(parent.clone()))
                    }
                });
                let parents = parents.collect();
                plan.trees.push(BlobTrees { digest: *digest, parents });
            }
            others.extend(&planned.neighbours);
            others.sort();
            others.dedup();
            let neighbours = others.into_iter().filter_map(|other| {
                Some(Neighbour { host: other.clone(), address: *self.addresses.get(other)?, is_near: false })
            });
            plan.neighbours = neighbours.collect();
        }
        let mut hasher = DefaultHasher::new();
        (&plan.neighbours, &plan.trees).hash(&mut hasher);
        plan.number = hasher.finish().max(1);
        plan
    }
}
