//! The hub's plan of who sends what to whom: for each blob a tree a stripe, and neighbours. Blobs, not images: a layer that
//! some hosts have from another image comes from them.
//!
//! Trees change as little as they can: a host that leaves is replaced by the one that was planted last, and one that comes is
//! planted at the end. A region with an edge has trees of its own for what the edge has or wants, whose roots have the edge as
//! their parent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Now;

mod forest;

use forest::Forest;
pub use forest::{Parents, Source};

/// A host that was not heard of for so long is gone.
const SILENT_MAX: Duration = Duration::from_secs(15);
/// How long changes are collected before trees change.
const SETTLE: Duration = Duration::from_millis(100);
/// Hosts that must complain of a host before it is an inner node no more.
const COMPLAINTS_MIN: usize = 2;
/// How long a complaint counts.
const COMPLAINT_LIFE: Duration = Duration::from_secs(60);
/// How long a host of whom enough complain gets what neighbours give and nothing more, and how long nobody depends on it:
/// whoever came back soon would harm a slow exchange again and again.
const SHUNNED: Duration = Duration::from_secs(600);
const PROBATION: Duration = Duration::from_secs(3600);
/// Where more hosts than one of so many are complained of, something else is wrong, and nobody is shunned.
const BLAMED_SHARE: usize = 2;
/// Where more hosts than one of so many are slow, that is how lines are there, and all have to give what they can.
const SLOW_SHARE: usize = 2;
/// Blobs that a host may fetch, and have, at most: what is above is not planned.
const BLOBS_PER_HOST_MAX: usize = 4096;

/// Where a host is. Empty text is a place, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Zone {
    /// Places with a long line between them.
    pub region: String,
    /// Hosts beside one another.
    pub rack: String,
}

/// What does not change.
#[derive(Debug, Clone)]
pub struct TrackerConfig {
    /// Hosts at most.
    pub hosts_max: usize,
    /// How long it listens before it plans: one that was started again must not plan for the first who speak.
    pub warm_up: Duration,
    /// Where chance begins.
    pub seed: u64,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self { hosts_max: 20_000, warm_up: Duration::from_secs(2), seed: 0 }
    }
}

/// What a host says of itself, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStanding<H, B: Ord> {
    /// Where it is.
    pub zone: Zone,
    /// Whether it serves its region.
    pub is_edge: bool,
    /// Whether it gives away too slowly to be an inner node.
    pub is_slow: bool,
    /// Blobs that it fetches.
    pub fetching: BTreeSet<B>,
    /// Blobs that it has whole, as far as others fetch them.
    pub whole: BTreeSet<B>,
    /// Hosts that sent it wrong pieces, or none that they promised.
    pub complaints: Vec<H>,
}

/// Whom a host deals with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan<H, B> {
    /// Rises when the plan changes.
    pub number: u64,
    /// Hosts to be connected with.
    pub neighbours: Vec<H>,
    /// For each blob that it fetches, the parents stripe by stripe.
    pub trees: Vec<(B, Parents<H>)>,
}

#[derive(Debug)]
struct Host<H, B: Ord> {
    standing: HostStanding<H, B>,
    heard: Now,
    plan: HostPlan<H, B>,
}

/// The hosts that exchange a blob: those of a region that has an edge for it, or of all others.
type Key<B> = (B, Option<String>);

/// The tracker. `H` names hosts, `B` blobs.
#[derive(Debug)]
pub struct Tracker<H: Ord, B: Ord> {
    config: TrackerConfig,
    hosts: BTreeMap<H, Host<H, B>>,
    swarms: BTreeMap<Key<B>, Forest<H>>,
    /// Who knows whom in some swarm: blobs of one image have nearly the same hosts, and they need few connections.
    acquainted: BTreeMap<H, BTreeSet<H>>,
    /// Regions that have an edge, with the blobs that the edge has or fetches.
    edges: BTreeSet<(String, B)>,
    /// Who complains of whom, and when last.
    complaints: BTreeMap<H, BTreeMap<H, Now>>,
    /// Of whom enough hosts complained, since when, and whether it is still shunned for it.
    blamed: BTreeMap<H, (Now, bool)>,
    dirty: BTreeSet<Key<B>>,
    /// When what changed is to be planned.
    due: Option<Now>,
    /// When it may begin to plan.
    warm_at: Now,
    number: u64,
}

impl<H: Ord + Clone, B: Ord + Clone> Tracker<H, B> {
    /// A tracker that knows of nobody. It plans nothing before [`TrackerConfig::warm_up`] is over, counted from `now`. Its
    /// plans are numbered from `number` on: a time, so that those of a tracker that was started again are later.
    pub fn new(config: TrackerConfig, now: Now, number: u64) -> Self {
        let warm_at = now + config.warm_up;
        Self {
            config,
            hosts: BTreeMap::new(),
            swarms: BTreeMap::new(),
            acquainted: BTreeMap::new(),
            edges: BTreeSet::new(),
            complaints: BTreeMap::new(),
            blamed: BTreeMap::new(),
            dirty: BTreeSet::new(),
            due: None,
            warm_at,
            number,
        }
    }

    /// A host says how it stands; false where there are too many hosts.
    pub fn announce(&mut self, now: Now, host: H, mut standing: HostStanding<H, B>) -> bool {
        if self.hosts.len() >= self.config.hosts_max && !self.hosts.contains_key(&host) {
            return false;
        }
        for blobs in [&mut standing.fetching, &mut standing.whole] {
            while blobs.len() > BLOBS_PER_HOST_MAX {
                blobs.pop_last();
            }
        }
        for blamed in std::mem::take(&mut standing.complaints) {
            // Nobody is heard on himself, and nobody who is not here is spoken of.
            if blamed == host {
                continue;
            }
            let Some(its) = self.hosts.get(&blamed).map(|blamed| self.keys(&blamed.standing).collect::<Vec<_>>())
            else {
                continue;
            };
            self.complaints.entry(blamed.clone()).or_default().insert(host.clone(), now);
            if self.blame(now, &blamed) {
                self.touch(now, its);
            }
        }
        if let Some(known) = self.hosts.get_mut(&host)
            && known.standing == standing
        {
            known.heard = now;
            return true;
        }
        let plan = HostPlan { number: self.number, neighbours: Vec::new(), trees: Vec::new() };
        let (had, plan) = self.hosts.remove(&host).map_or((None, plan), |known| (Some(known.standing), known.plan));
        let is_edges = standing.is_edge || had.as_ref().is_some_and(|had| had.is_edge);
        let before: BTreeSet<(Key<B>, bool)> = had.iter().flat_map(|had| self.stands(had)).collect();
        self.hosts.insert(host, Host { standing: standing.clone(), heard: now, plan });
        self.edges_changed(now, is_edges);
        let after = self.stands(&standing).collect();
        let is_moved = had.is_some_and(|had| (&had.zone, had.is_slow) != (&standing.zone, standing.is_slow));
        let changed = if is_moved { &before | &after } else { &before ^ &after };
        self.touch(now, changed.into_iter().map(|(key, _is_whole)| key));
        true
    }

    /// A host is gone.
    pub fn forget(&mut self, now: Now, host: &H) {
        if let Some(gone) = self.hosts.remove(host) {
            let keys: Vec<Key<B>> = self.keys(&gone.standing).collect();
            self.touch(now, keys);
            self.edges_changed(now, gone.standing.is_edge);
            for known in self.acquainted.remove(host).unwrap_or_default() {
                self.acquainted.entry(known).or_default().remove(host);
            }
        }
        self.complaints.remove(host);
    }

    /// An edge that comes or goes takes its region along.
    fn edges_changed(&mut self, now: Now, is_one: bool) {
        if !is_one {
            return;
        }
        let mut edges = BTreeSet::new();
        for standing in self.hosts.values().map(|host| &host.standing).filter(|standing| standing.is_edge) {
            let blobs = standing.fetching.iter().chain(&standing.whole);
            edges.extend(blobs.map(|blob| (standing.zone.region.clone(), blob.clone())));
        }
        let changed: Vec<(String, B)> = edges.symmetric_difference(&self.edges).cloned().collect();
        self.edges = edges;
        let keys = changed.into_iter().flat_map(|(region, blob)| [(blob.clone(), None), (blob, Some(region))]);
        self.touch(now, keys);
    }

    /// Takes time in: plans what changed. Gives the hosts whose plan is another now.
    pub fn settle(&mut self, now: Now) -> Vec<H> {
        let silent = |host: &Host<H, B>| now >= host.heard + SILENT_MAX;
        let gone: Vec<H> = self.hosts.iter().filter(|(_, host)| silent(host)).map(|(name, _)| name.clone()).collect();
        for host in &gone {
            self.forget(now, host);
        }
        for blamed in self.complaints.values_mut() {
            blamed.retain(|_, at| now < *at + COMPLAINT_LIFE);
        }
        self.forgive(now);
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        let mut touched = BTreeSet::new();
        for key in std::mem::take(&mut self.dirty) {
            touched.extend(self.plant(&key));
        }
        self.number += 1;
        let mut changed = Vec::new();
        for name in touched {
            let Some(host) = self.hosts.get(&name) else { continue };
            let (neighbours, trees) = self.plan_of(&name, &host.standing);
            let number = self.number;
            if let Some(host) = self.hosts.get_mut(&name)
                && (host.plan.neighbours != neighbours || host.plan.trees != trees)
            {
                host.plan = HostPlan { number, neighbours, trees };
                changed.push(name);
            }
        }
        changed
    }

    /// When [`Tracker::settle`] is due.
    pub fn next_timer(&self) -> Option<Now> {
        let silent = self.hosts.values().map(|host| host.heard + SILENT_MAX).min();
        let forgiven = self.blamed.values().filter(|(_, is_shunned)| *is_shunned).map(|(at, _)| *at + SHUNNED).min();
        self.due.into_iter().chain(silent).chain(forgiven).min()
    }

    /// A host's plan as it was settled last.
    pub fn plan(&self, host: &H) -> Option<&HostPlan<H, B>> {
        self.hosts.get(host).map(|host| &host.plan)
    }

    /// Hosts that are heard of.
    pub fn hosts(&self) -> impl Iterator<Item = (&H, &HostStanding<H, B>)> {
        self.hosts.iter().map(|(name, host)| (name, &host.standing))
    }

    fn touch(&mut self, now: Now, keys: impl IntoIterator<Item = Key<B>>) {
        self.dirty.extend(keys);
        self.due.get_or_insert((now + SETTLE).max(self.warm_at));
    }

    /// The regions in whose swarms a host stands for a blob: an edge in that of the others as well as in its own.
    fn regions(&self, standing: &HostStanding<H, B>, blob: &B) -> impl Iterator<Item = Option<String>> + use<H, B> {
        let region = &standing.zone.region;
        let is_served = standing.is_edge || self.edges.contains(&(region.clone(), blob.clone()));
        let outer = (standing.is_edge || !is_served).then_some(None);
        outer.into_iter().chain(is_served.then(|| Some(region.clone())))
    }

    /// The swarms that a host stands in, and whether it has the blob whole.
    fn stands(&self, standing: &HostStanding<H, B>) -> impl Iterator<Item = (Key<B>, bool)> {
        let fetching = standing.fetching.iter().map(|blob| (blob, false));
        fetching.chain(standing.whole.iter().map(|blob| (blob, true))).flat_map(move |(blob, is_whole)| {
            self.regions(standing, blob).map(move |region| ((blob.clone(), region), is_whole))
        })
    }

    fn keys(&self, standing: &HostStanding<H, B>) -> impl Iterator<Item = Key<B>> {
        self.stands(standing).map(|(key, _is_whole)| key)
    }

    /// Blames a host that enough others complain of; gives whether it was not shunned before.
    fn blame(&mut self, now: Now, host: &H) -> bool {
        let is_enough = self.complaints.get(host).is_some_and(|by| by.len() >= COMPLAINTS_MIN);
        let is_shunned = self.blamed.get(host).is_some_and(|(_, is_shunned)| *is_shunned);
        if is_enough && !is_shunned {
            self.blamed.insert(host.clone(), (now, true));
        }
        is_enough && !is_shunned
    }

    /// Lets those get from trees again, and in the end give, who were blamed long enough.
    fn forgive(&mut self, now: Now) {
        let mut forgiven = Vec::new();
        for (host, (since, is_shunned)) in &mut self.blamed {
            if *is_shunned && now >= *since + SHUNNED {
                *is_shunned = false;
                forgiven.push(host.clone());
            }
        }
        forgiven.extend(self.blamed.extract_if(.., |_, (since, _)| now >= *since + PROBATION).map(|(host, _)| host));
        for host in forgiven.iter().filter_map(|host| self.hosts.get(host)) {
            self.dirty.extend(self.keys(&host.standing).collect::<Vec<_>>());
            self.due.get_or_insert(now);
        }
    }

    /// Plants a swarm's trees anew, changing what must change; gives who stands in it. Those who have the blob when the swarm
    /// begins are its sources; who completes later stays where it is, and feeds its children on.
    fn plant(&mut self, key: &Key<B>) -> Vec<H> {
        let (blob, region) = key;
        let mut hosts = Vec::new();
        let (mut is_wanted, mut slow) = (false, 0);
        for (name, host) in &self.hosts {
            let standing = &host.standing;
            let is_complete = standing.whole.contains(blob);
            let stands = is_complete || standing.fetching.contains(blob);
            if !stands || !self.regions(standing, blob).any(|its| its == *region) {
                continue;
            }
            let is_regions = standing.is_edge && region.is_some();
            is_wanted |= !is_complete && !is_regions;
            slow += usize::from(standing.is_slow);
            hosts.push(forest::Host {
                host: name.clone(),
                rack: standing.zone.rack.clone(),
                is_inner: !standing.is_slow && !self.blamed.contains_key(name),
                is_shunned: self.blamed.get(name).is_some_and(|(_, is_shunned)| *is_shunned),
                is_complete,
                is_source: is_regions,
            });
        }
        if slow * SLOW_SHARE > hosts.len() {
            hosts.iter_mut().for_each(|host| host.is_inner = !self.blamed.contains_key(&host.host));
        }
        if hosts.iter().filter(|host| host.is_shunned).count() * BLAMED_SHARE > hosts.len() {
            hosts.iter_mut().for_each(|host| (host.is_inner, host.is_shunned) = (true, false));
        }
        let names = hosts.iter().map(|host| host.host.clone()).collect();
        if is_wanted {
            let seed = self.config.seed;
            let forest = self.swarms.entry(key.clone()).or_insert_with(|| Forest::new(seed));
            forest.plant(hosts, &mut self.acquainted);
        } else {
            self.swarms.remove(key);
        }
        names
    }

    fn plan_of(&self, name: &H, standing: &HostStanding<H, B>) -> (Vec<H>, Vec<(B, Parents<H>)>) {
        let (mut neighbours, mut trees) = (BTreeSet::new(), Vec::new());
        for key in self.keys(standing) {
            let Some(forest) = self.swarms.get(&key) else { continue };
            neighbours.extend(forest.neighbours(name));
            if let Some(parents) = forest.parents(name) {
                trees.push((key.0, parents));
            }
        }
        neighbours.remove(name);
        (neighbours.into_iter().collect(), trees)
    }
}

#[cfg(test)]
mod tests;
