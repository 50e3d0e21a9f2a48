//! The rig's hosts on a simulated network (turmoil): the real exchange with its TLS, rates and timers, the real tracker on a
//! host of its own, and a clock that is moved from outside, so that lines break and processes die when a scenario says.
//!
//! A segment that is lost on this network is never sent again: a connection over which one was lost hears nothing any more
//! until one side gives it up. That is harder than TCP, which sends it again for a minute; [`Trouble::Hold`] is as gentle.
//!
//! The seed decides the image, what goes wrong, latencies, and all choices of the core and the tracker. Keys, and with them
//! the lengths of signatures, are new in each run: two runs with one seed go the same way but for some milliseconds.

mod host;
pub mod scenario;
mod tracker;

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::HostName;
use fanout::grant::GrantedBlob;
use fanout::peers::{PeersConfig, Role};
use fanout::piece::PieceSet;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use turmoil::{Builder, Sim};

use super::authority::Authority;
use super::memory::{Blob, Gives, Memory};
use super::{GRANT_SECONDS, image};
use host::Node;
use scenario::{Moment, Scenario, Trouble};

/// The port of every process.
const PORT: u16 = 5101;
const HUB: &str = "hub";
const TRACKER: &str = "tracker";
/// How far the clock is moved at once, in milliseconds.
const TICK_MILLIS: u64 = 10;
/// How long a message is under way, in milliseconds.
const LATENCY_MILLIS_MIN: u64 = 1;
const LATENCY_MILLIS_MAX: u64 = 20;
/// Segments of a connection that are under way or unread.
const SEGMENTS_MAX: usize = 256;
/// What is still looked at after the last host is done, in milliseconds: what was on its way to it.
const AFTERWARDS_MILLIS: u64 = 500;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts that want the image.
    pub hosts: usize,
    /// Bytes of the image, one blob.
    pub image_bytes: u64,
    /// What every host and the hub may send, and every host receive, in bytes a second.
    pub bytes_per_second: NonZeroU64,
    /// How long it may take at most, in simulated time.
    pub limit: Duration,
    /// Where chance begins.
    pub seed: u64,
}

/// How it went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// For each host, when it had all, in simulated time; none if it never had.
    pub completed: Vec<Option<Duration>>,
    /// How many copies left the hub.
    pub copies: f64,
    /// Pieces that came and were not what they should be. None of them is kept.
    pub wrong: u64,
    /// Pieces that came although they were there, as copies over all hosts.
    pub twice: f64,
}

impl Outcome {
    /// When the slowest host was done; none when one never was.
    pub fn slowest(&self) -> Option<Duration> {
        self.completed.iter().try_fold(Duration::ZERO, |slowest, done| Some(slowest.max((*done)?)))
    }
}

struct Stage<'a> {
    sim: Sim<'a>,
    hub: Arc<Node>,
    hosts: Vec<Arc<Node>>,
    /// Lines that are broken, and whether what is sent on them is kept.
    broken: Vec<(IpAddr, IpAddr, bool)>,
}

/// Lets all hosts want the image at once, from cold, and things go wrong as the scenario says.
///
/// # Errors
/// The hosts cannot be made, or a process fails. Hosts that do not complete are no error.
pub fn run(scenario: &Scenario, settings: &Settings) -> Result<Outcome> {
    let mut stage = Stage::new(settings)?;
    let mut steps = scenario.steps.iter().peekable();
    let (mut last, mut end) = (Duration::ZERO, settings.limit);
    while stage.sim.elapsed() < end {
        stage.sim.step().map_err(|error| anyhow::anyhow!("{}: {error}", scenario.name))?;
        let now = stage.sim.elapsed();
        while let Some((_, trouble)) = steps.next_if(|(when, _)| match when {
            Moment::Copies(copies) => stage.hub.sent_bytes() as f64 >= copies * settings.image_bytes as f64,
            Moment::After(pause) => now >= last + *pause,
        }) {
            stage.trouble(trouble);
            last = now;
        }
        let is_done = steps.peek().is_none() && stage.hosts.iter().all(|host| host.seen().completed.is_some());
        if is_done && end == settings.limit {
            end = now + Duration::from_millis(AFTERWARDS_MILLIS);
        }
    }
    let image_bytes = settings.image_bytes as f64;
    let lives = |node: &Arc<Node>| node.seen().lives.clone();
    let (mut wrong, mut twice) = (0, 0);
    for counts in stage.hosts.iter().flat_map(lives).map(|life| life.pieces) {
        wrong += counts.wrong;
        twice += counts.twice;
    }
    let pieces = stage.hub.tree.layout().pieces();
    Ok(Outcome {
        completed: stage.hosts.iter().map(|host| host.seen().completed).collect(),
        copies: stage.hub.sent_bytes() as f64 / image_bytes,
        wrong,
        twice: twice as f64 / f64::from(pieces) / settings.hosts as f64,
    })
}

impl Stage<'_> {
    fn new(settings: &Settings) -> Result<Self> {
        let authority = Authority::new()?;
        let mut bytes = vec![0; usize::try_from(settings.image_bytes)?];
        StdRng::seed_from_u64(settings.seed).fill_bytes(&mut bytes);
        let blob = Arc::new(Blob::new(bytes.into())?);
        let (tree, rate) = (Arc::new(blob.tree.clone()), Some(settings.bytes_per_second));
        let node = |role: Role, seed: u64| -> Result<Arc<Node>> {
            let pieces = tree.layout().pieces();
            let (identity, have, grant, download) = match &role {
                Role::Origin => (authority.hub()?, PieceSet::full(pieces), None, None),
                Role::Agent(host) => {
                    let length_bytes = blob.bytes.len() as u64;
                    let granted = vec![GrantedBlob { digest: blob.digest, length_bytes, root: tree.root() }];
                    let grant = authority.grant(host, image(), granted, GRANT_SECONDS)?;
                    (authority.host(host)?, PieceSet::empty(pieces), Some(grant), rate)
                }
            };
            Ok(Arc::new(Node {
                config: PeersConfig { role, upload_bytes_per_second: rate, download_bytes_per_second: download },
                identity,
                memory: Arc::new(Memory::new(Arc::clone(&blob), have, Gives::Right)),
                digest: blob.digest,
                tree: Arc::clone(&tree),
                grant,
                seed: settings.seed.wrapping_mul(1_000).wrapping_add(seed),
                seen: Default::default(),
            }))
        };
        let mut sim = Builder::new()
            .rng_seed(settings.seed)
            .tick_duration(Duration::from_millis(TICK_MILLIS))
            .min_message_latency(Duration::from_millis(LATENCY_MILLIS_MIN))
            .max_message_latency(Duration::from_millis(LATENCY_MILLIS_MAX))
            .simulation_duration(settings.limit)
            .tcp_capacity(SEGMENTS_MAX)
            .build();
        let seed = settings.seed;
        sim.host(TRACKER, move || tracker::serve(seed));
        let hub = node(Role::Origin, 0)?;
        let software = Arc::clone(&hub);
        sim.host(HUB, move || Arc::clone(&software).live());
        let mut hosts = Vec::with_capacity(settings.hosts);
        for at in 0..settings.hosts {
            let host: HostName = name(at).parse().context("a host's name")?;
            let node = node(Role::Agent(host), at as u64 + 1)?;
            let software = Arc::clone(&node);
            sim.host(name(at), move || Arc::clone(&software).live());
            hosts.push(node);
        }
        Ok(Self { sim, hub, hosts, broken: Vec::new() })
    }

    /// The addresses of hosts.
    fn addresses(&self, hosts: &[usize]) -> Vec<IpAddr> {
        hosts.iter().map(|host| self.sim.lookup(name(*host))).collect()
    }

    /// Those of all others, hub and tracker among them.
    fn others(&self, hosts: &[usize]) -> Vec<IpAddr> {
        let rest: Vec<usize> = (0..self.hosts.len()).filter(|host| !hosts.contains(host)).collect();
        let mut others = self.addresses(&rest);
        others.extend([self.sim.lookup(HUB), self.sim.lookup(TRACKER)]);
        others
    }

    fn cut(&mut self, hosts: Vec<IpAddr>, others: Vec<IpAddr>, is_held: bool) {
        for host in hosts {
            for other in &others {
                match is_held {
                    true => self.sim.hold(host, *other),
                    false => self.sim.partition(host, *other),
                }
                self.broken.push((host, *other, is_held));
            }
        }
    }

    fn trouble(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Cut(hosts) => self.cut(self.addresses(hosts), self.others(hosts), false),
            Trouble::Hold(hosts) => self.cut(self.addresses(hosts), self.others(hosts), true),
            Trouble::Apart(host, others) => self.cut(self.addresses(&[*host]), self.addresses(others), false),
            Trouble::Deaf(from, to) => {
                for to in self.addresses(to) {
                    self.sim.partition_oneway(self.sim.lookup(name(*from)), to);
                }
            }
            Trouble::Heal => {
                for (host, other, is_held) in std::mem::take(&mut self.broken) {
                    match is_held {
                        true => self.sim.release(host, other),
                        false => self.sim.repair(host, other),
                    }
                }
            }
            Trouble::Kill(hosts) => hosts.iter().for_each(|host| self.sim.crash(name(*host))),
            Trouble::PowerOff(hosts) => {
                for host in hosts {
                    let others = self.others(&[*host]);
                    for other in &others {
                        self.sim.partition(self.sim.lookup(name(*host)), *other);
                    }
                    self.sim.crash(name(*host));
                    for other in others {
                        self.sim.repair(self.sim.lookup(name(*host)), other);
                    }
                }
            }
            Trouble::Start(hosts) => hosts.iter().for_each(|host| self.sim.bounce(name(*host))),
            Trouble::TrackerKill => self.sim.crash(TRACKER),
            Trouble::TrackerStart => self.sim.bounce(TRACKER),
            Trouble::HubKill => {
                self.sim.crash(TRACKER);
                self.sim.crash(HUB);
            }
        }
    }
}

fn name(host: usize) -> String {
    format!("host-{host}")
}
