//! The tracker as agents meet it: announcements that are held open until the plan for a host is another.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use api::HostName;
use api::access::HostIdentity;
use api::delivery::ImageAddress;
use api::fanout::{
    ANNOUNCE_SECONDS_MAX, Announce, BlobTrees, NEIGHBOURS_MAX, Neighbour, PREFETCH_MAX, Parent, PeerPlan,
};
use base::tasks::{Progress, Tasks, Wake};
use base::tls::Revoked;
use oci::{Digest, RepositoryName};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Service;
use super::board::{Announced, Board};
use super::edges::Edges;
use super::error::Error;
use crate::core::{HostStanding, Source, Tracker, TrackerConfig, Zone};

/// How long announcements are collected before the tracker looks at them.
const COLLECT: Duration = Duration::from_millis(20);
/// How often the tracker looks by itself: at hosts that are gone.
const LOOK_SECONDS: u64 = 1;
/// Images that are remembered because they were asked for.
const ASKED_MAX: usize = 50_000;
/// The labels that say where a host is.
const REGION_LABEL: &str = "region";
const RACK_LABEL: &str = "rack";

/// What hosts announced, and what they are told.
pub(super) struct Tracking {
    state: Mutex<State>,
    /// Counts changes of plans.
    planned: watch::Sender<u64>,
    /// Counts announcements, for those who look.
    announced: watch::Sender<u64>,
    wake: Wake,
    started: Instant,
    /// Where the hub's own exchange looks for certificates that are void, once there is one.
    revoked: OnceLock<Revoked>,
}

/// Behind the lock, which is never held across a wait.
pub(super) struct State {
    pub(super) board: Board,
    tracker: Tracker<HostName, Digest>,
    /// Whether this hub is the one that tracks.
    is_tracker: bool,
    outlook: Outlook,
    edges: Edges,
    /// Images that were asked for, for those that hosts announce.
    asked: BTreeMap<Digest, Asked>,
}

/// An image that was asked for.
#[derive(Debug, Clone)]
struct Asked {
    /// Where, the last time.
    repository: RepositoryName,
    /// Its blobs, as far as hosts exchange them.
    blobs: Vec<Digest>,
}

/// What hosts are told that does not come from announcements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Serial numbers of certificates that are void.
    pub(super) revoked: Arc<Vec<String>>,
    /// Images that hosts are to have soon.
    pub(super) prefetch: BTreeMap<HostName, Vec<ImageAddress>>,
    /// Labels of hosts.
    pub(super) labels: BTreeMap<HostName, BTreeMap<String, String>>,
}

impl Tracking {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            board: Board::default(),
            tracker: Tracker::new(TrackerConfig { seed, ..TrackerConfig::default() }, Duration::ZERO, 0),
            is_tracker: false,
            outlook: Outlook::default(),
            edges: Edges::default(),
            asked: BTreeMap::new(),
        };
        Self {
            state: Mutex::new(state),
            planned: watch::Sender::new(0),
            announced: watch::Sender::new(0),
            wake: Wake::default(),
            started: Instant::now(),
            revoked: OnceLock::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each change of what is behind it is whole by itself, and agents announce everything anew all the time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.announced.subscribe()
    }

    /// An image with these blobs was asked for in this repository.
    pub(super) fn asked(&self, digest: Digest, repository: RepositoryName, blobs: Vec<Digest>) {
        let mut state = self.state();
        if state.asked.len() >= ASKED_MAX {
            let known: BTreeSet<Digest> =
                state.board.hosts().values().flat_map(|known| &known.images).map(|image| image.digest).collect();
            state.asked.retain(|digest, _| known.contains(digest));
        }
        if state.asked.len() < ASKED_MAX {
            state.asked.insert(digest, Asked { repository, blobs });
        }
    }

    /// What is revoked is told to the hub's own exchange of pieces, too.
    pub(super) fn revoked_shared(&self, revoked: Revoked) {
        revoked.replace(self.state().outlook.revoked.iter().cloned());
        self.revoked.get_or_init(|| revoked);
    }

    /// Takes a new outlook; who waits is told if it is another.
    pub(super) fn outlook_set(&self, outlook: Outlook, is_tracker: bool) {
        if let Some(revoked) = self.revoked.get() {
            revoked.replace(outlook.revoked.iter().cloned());
        }
        let mut state = self.state();
        if state.outlook != outlook || state.is_tracker != is_tracker {
            (state.outlook, state.is_tracker) = (outlook, is_tracker);
            drop(state);
            self.planned.send_modify(|count| *count += 1);
            self.wake.wake();
        }
    }
}

impl Service {
    pub(super) fn tracking_spawn(&self, tasks: &Tasks) {
        let (service, wake) = (self.clone(), self.inner.tracking.wake.clone());
        tasks.spawn("fanout-tracker", Duration::from_secs(LOOK_SECONDS), wake, move || {
            let service = service.clone();
            async move {
                tokio::time::sleep(COLLECT).await;
                Ok::<_, Error>(service.track())
            }
        });
    }

    /// Takes what a host announces and answers as soon as its plan is another than the one it has seen, or after its wait.
    pub(super) async fn announce(
        &self,
        host: &HostIdentity,
        from: SocketAddr,
        announce: Announce,
    ) -> Result<PeerPlan, Error> {
        let tracking = &self.inner.tracking;
        let until = Instant::now() + Duration::from_secs(announce.wait_seconds.min(ANNOUNCE_SECONDS_MAX));
        let (seen, mut planned) = (announce.seen, tracking.planned.subscribe());
        tracking.state().board.announced(host, from, announce, (self.inner.clock)())?;
        let _held = Held { service: self, host: &host.host };
        tracking.announced.send_modify(|count| *count += 1);
        tracking.wake.wake();
        loop {
            planned.mark_unchanged();
            let plan = tracking.state().plan(&host.host);
            if plan.number != seen || Instant::now() >= until {
                return Ok(plan);
            }
            tokio::select! {
                _ = planned.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Lets the tracker plan with what is announced now.
    pub(super) fn track(&self) -> Progress {
        let (tracking, now) = (&self.inner.tracking, (self.inner.clock)());
        let elapsed = tracking.started.elapsed();
        let mut state = tracking.state();
        let State { board, tracker, outlook, edges, asked, is_tracker } = &mut *state;
        let revoked: BTreeSet<&str> = outlook.revoked.iter().map(String::as_str).collect();
        for host in board.expire(&revoked, now) {
            tracker.forget(elapsed, &host);
        }
        if !*is_tracker {
            return Progress::Done;
        }
        // What everybody has and nobody fetches needs no tree.
        let wanted: BTreeSet<Digest> = board.hosts().values().flat_map(|known| &known.fetching).copied().collect();
        let labels = &outlook.labels;
        let may = |host: &HostIdentity, image: &Digest| {
            let asked = asked.get(image)?;
            Some(self.inner.registry.host_check(host, &asked.repository).is_ok())
        };
        let is_other = edges.look(board.hosts(), |host| region(labels, host), may, now);
        for (host, known) in board.hosts() {
            let mut standing = standing(known, labels.get(host), &wanted);
            edges.complete(host, &mut standing, |image| asked.get(image).map(|asked| asked.blobs.as_slice()));
            tracker.announce(elapsed, host.clone(), standing);
        }
        let changed = tracker.settle(elapsed);
        let due = tracker.next_timer().map(|due| due.saturating_sub(elapsed));
        drop(state);
        if is_other || !changed.is_empty() {
            tracking.planned.send_modify(|count| *count += 1);
        }
        due.map_or(Progress::Done, Progress::After)
    }
}

/// What the tracker needs to know of a host.
fn standing(
    known: &Announced,
    labels: Option<&BTreeMap<String, String>>,
    wanted: &BTreeSet<Digest>,
) -> HostStanding<HostName, Digest> {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default();
    HostStanding {
        zone: Zone { region: label(REGION_LABEL), rack: label(RACK_LABEL) },
        // Of which region it is one is not known before its labels are.
        is_edge: known.is_edge && labels.is_some(),
        is_slow: known.is_slow,
        fetching: known.fetching.clone(),
        whole: known.whole.intersection(wanted).copied().collect(),
        complaints: known.complaints.clone(),
    }
}

/// Where a host is: nowhere is a place, too. None where its labels are not known yet.
fn region<'a>(labels: &'a BTreeMap<HostName, BTreeMap<String, String>>, host: &HostName) -> Option<&'a str> {
    labels.get(host).map(|labels| labels.get(REGION_LABEL).map_or("", String::as_str))
}

impl State {
    /// In which repository an image was asked for last.
    pub(super) fn repository(&self, image: &Digest) -> Option<RepositoryName> {
        self.asked.get(image).map(|asked| asked.repository.clone())
    }

    /// What a host is told now.
    fn plan(&self, host: &HostName) -> PeerPlan {
        let rack = |host: &HostName| self.outlook.labels.get(host).and_then(|labels| labels.get(RACK_LABEL));
        let region = |host: &HostName| region(&self.outlook.labels, host);
        let hosts = self.board.hosts();
        let here = self.is_tracker.then(|| hosts.get(host)).flatten();
        let served = here.map(|known| self.edges.served(known, region(host))).unwrap_or_default();
        let mut plan = PeerPlan {
            number: 0,
            neighbours: Vec::new(),
            // Where the tracker is elsewhere, pieces come from the hub and not from nobody.
            hub_is_neighbour: !served.is_whole,
            edge: served.edge.cloned(),
            note: served.note,
            trees: Vec::new(),
            revoked: self.outlook.revoked.to_vec(),
            prefetch: self.outlook.prefetch.get(host).cloned().unwrap_or_default(),
        };
        for digest in self.edges.fetches(host) {
            let known = self.asked.get(&digest);
            if let Some(Asked { repository, .. }) =
                known.filter(|_| plan.prefetch.iter().all(|image| image.digest != digest))
            {
                plan.prefetch.push(ImageAddress { repository: repository.clone(), digest });
            }
        }
        plan.prefetch.truncate(PREFETCH_MAX);
        if let Some(planned) = self.tracker.plan(host).filter(|_| self.is_tracker) {
            let mut others: Vec<&HostName> = Vec::new();
            for (digest, parents) in &planned.trees {
                let parents = parents.iter().map(|parent| match parent {
                    None => None,
                    Some(Source::Hub) => {
                        // As where the edge is one that others complain of.
                        plan.hub_is_neighbour = true;
                        Some(Parent::Hub)
                    }
                    Some(Source::Host(parent)) => {
                        others.push(parent);
                        Some(Parent::Host(parent.clone()))
                    }
                });
                let parents = parents.collect();
                plan.trees.push(BlobTrees { digest: *digest, parents });
            }
            others.extend(&planned.neighbours);
            let mut told = BTreeSet::new();
            // Parents come first, so that a bound leaves out no one who is planned with.
            for other in others {
                let Some(known) = hosts.get(other).filter(|_| other != host) else { continue };
                if plan.neighbours.len() < NEIGHBOURS_MAX && told.insert(other) {
                    let is_near = region(host) == region(other) && rack(host) == rack(other);
                    plan.neighbours.push(Neighbour { host: other.clone(), address: known.address, is_near });
                }
            }
        }
        plan.number = number(&plan);
        plan
    }
}

/// A number that two plans share if they say the same. Never 0, which stands for none.
fn number(plan: &PeerPlan) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&plan.neighbours, plan.hub_is_neighbour, &plan.trees, &plan.revoked).hash(&mut hasher);
    (&plan.edge, &plan.note).hash(&mut hasher);
    for image in &plan.prefetch {
        (image.repository.as_str(), image.digest.as_bytes()).hash(&mut hasher);
    }
    hasher.finish().max(1)
}

/// An announcement that is held open; ends with the answer, or when the agent goes away.
struct Held<'a> {
    service: &'a Service,
    host: &'a HostName,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.service.inner.tracking.state().board.released(self.host, (self.service.inner.clock)());
    }
}
