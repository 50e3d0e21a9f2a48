//! The events of a simulated fleet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::line::{CHUNKS, Chunk, Line};
use super::{Behaviour, Fleet, Outcome};
use crate::core::{
    Blob, Config, HostStanding, Input, Message, Node, Now, Output, Peer, STRIPES, Source, Tracker, TrackerConfig, Zone,
};
use crate::piece::PieceSet;

/// How often a host says how it stands.
const ANNOUNCE: Duration = Duration::from_secs(5);
/// How soon all have come again when their connections broke.
const AGAIN: Duration = Duration::from_secs(1);
/// What a simulated fleet pulls.
const BLOB: Blob = Blob(0);
const HUB: usize = 0;

#[derive(Debug)]
enum Event {
    Start(usize),
    Kill(usize),
    TrackerRestart,
    Announce(usize, bool),
    Settle,
    Plan(usize),
    Timer(usize, Now),
    Dial(usize, usize),
    Message(usize, usize, u64, Message),
    Sent(usize),
    Chunk(Chunk),
    Taken(usize),
}

struct At(Now, u64, Event);

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A machine: the hub is the first, then the hosts.
struct Machine {
    /// None while it is down.
    peer: Option<Peer>,
    line: Line,
    upload: f64,
    download: f64,
    is_taking: bool,
    /// What is on its disk.
    disk: PieceSet,
    behaviour: Behaviour,
    timer: Option<Now>,
    sent_chunks: u64,
    completed: Option<Now>,
}

struct World<'a> {
    fleet: &'a Fleet,
    machines: Vec<Machine>,
    tracker: Option<Tracker<usize, u32>>,
    settle: Option<Now>,
    events: BinaryHeap<Reverse<At>>,
    now: Now,
    count: u64,
    connections: u64,
    outcome: Outcome,
    chunk_bytes: f64,
    unfinished: usize,
}

/// Simulates a fleet until all honest hosts that are not killed for good have the image, or its time is over.
pub fn run(fleet: &Fleet) -> Outcome {
    let machine = |upload, download, disk, behaviour| Machine {
        peer: None,
        line: Line::default(),
        upload,
        download,
        is_taking: false,
        disk,
        behaviour,
        timer: None,
        sent_chunks: 0,
        completed: None,
    };
    let hub = machine(fleet.hub_upload, fleet.hub_upload, PieceSet::full(fleet.pieces), Behaviour::Honest);
    let empty = PieceSet::empty(fleet.pieces);
    let hosts = fleet.hosts.iter().map(|host| machine(host.upload, host.download, empty.clone(), host.behaviour));
    let lasting = |host: &&super::SimulatedHost| {
        host.behaviour == Behaviour::Honest && host.killed.is_none_or(|(_, back)| back.is_some())
    };
    let mut world = World {
        fleet,
        machines: std::iter::once(hub).chain(hosts).collect(),
        tracker: None,
        settle: None,
        events: BinaryHeap::new(),
        now: Duration::ZERO,
        count: 0,
        connections: 0,
        outcome: Outcome::default(),
        chunk_bytes: f64::from(fleet.piece_bytes) / f64::from(CHUNKS),
        unfinished: fleet.hosts.iter().filter(lasting).count(),
    };
    world.begin();
    while let Some(Reverse(At(at, _, event))) = world.events.pop() {
        if at > fleet.until || world.unfinished == 0 {
            break;
        }
        world.now = at;
        world.outcome.events += 1;
        world.happen(event);
    }
    world.end()
}

impl World<'_> {
    fn begin(&mut self) {
        self.start(HUB);
        let fleet = self.fleet;
        let killed = fleet.hub_killed.map(|(at, back)| (HUB, at, back)).into_iter();
        let others = fleet
            .hosts
            .iter()
            .enumerate()
            .filter_map(|(at, host)| host.killed.map(|(when, back)| (at + 1, when, back)));
        for (machine, at, back) in killed.chain(others) {
            self.at(at, Event::Kill(machine));
            if let Some(back) = back {
                self.at(at + back, Event::Start(machine));
            }
        }
        for (at, host) in fleet.hosts.iter().enumerate() {
            self.at(host.from, Event::Start(at + 1));
        }
        for at in &fleet.tracker_restarts {
            self.at(*at, Event::TrackerRestart);
        }
    }

    fn end(mut self) -> Outcome {
        let since = |at: usize, done: Now| {
            done.saturating_sub(self.fleet.hosts.get(at).map_or(Duration::ZERO, |host| host.from))
        };
        let done = self.machines.iter().skip(1).enumerate();
        self.outcome.completed_seconds =
            done.map(|(at, machine)| machine.completed.map(|done| since(at, done).as_secs_f64())).collect();
        let bytes = |machine: &Machine| machine.sent_chunks as f64 * self.chunk_bytes;
        self.outcome.hub_bytes = self.machines.first().map_or(0.0, bytes);
        self.outcome.sent_bytes = self.machines.iter().skip(1).map(bytes).collect();
        for counts in self.machines.iter().filter_map(|machine| machine.peer.as_ref()).map(Peer::counts) {
            self.outcome.twice += counts.twice;
            self.outcome.wrong += counts.wrong;
            self.outcome.stalled += counts.stalled;
        }
        self.outcome
    }

    fn at(&mut self, at: Now, event: Event) {
        self.count += 1;
        self.events.push(Reverse(At(at, self.count, event)));
    }

    fn soon(&mut self, event: Event) {
        self.at(self.now + self.fleet.latency, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(machine) => self.start(machine),
            Event::Kill(machine) => self.kill(machine),
            Event::TrackerRestart => {
                self.tracker = Some(self.new_tracker(TrackerConfig::default().warm_up));
                // Their connections break, and they come again.
                for at in 1..self.machines.len() {
                    let pause = AGAIN.mul_f64(at as f64 / self.machines.len() as f64);
                    self.at(self.now + pause, Event::Announce(at, true));
                }
            }
            Event::Announce(machine, is_again) => self.announce(machine, is_again),
            Event::Settle => {
                self.settle = None;
                let changed = self.tracker.as_mut().map(|tracker| tracker.settle(self.now)).unwrap_or_default();
                for host in changed {
                    self.soon(Event::Plan(host));
                }
                self.settle_later();
            }
            Event::Plan(machine) => self.plan(machine),
            Event::Timer(machine, at) => {
                if self.machines.get(machine).is_some_and(|it| it.timer == Some(at)) {
                    self.input(machine, Input::Timer);
                }
            }
            Event::Dial(from, to) => self.dial(from, to),
            Event::Message(from, to, connection, message) => {
                if self.machines.get(to).and_then(|it| it.line.connection(node(from))) == Some(connection) {
                    self.input(to, Input::Message { node: node(from), message });
                }
            }
            Event::Sent(machine) => self.sent(machine),
            Event::Chunk(chunk) => {
                let to = index(chunk.to);
                if let Some(machine) = self.machines.get_mut(to) {
                    machine.line.received.push_back(chunk);
                }
                self.take(to);
            }
            Event::Taken(machine) => self.taken(machine),
        }
    }

    fn start(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        if machine.peer.is_some() {
            return;
        }
        let config =
            Config { links_max: if at == HUB { 4096 } else { 64 }, seed: self.fleet.seed * 1_000_003 + at as u64 };
        machine.peer = Some(Peer::new(config));
        machine.line = Line::default();
        machine.is_taking = false;
        let pieces = match machine.behaviour {
            Behaviour::Lies => PieceSet::full(self.fleet.pieces),
            _ => machine.disk.clone(),
        };
        if at == HUB {
            // The hub has been there for long when hosts begin.
            let warm_up = if self.now == Duration::ZERO { Duration::ZERO } else { TrackerConfig::default().warm_up };
            self.tracker = Some(self.new_tracker(warm_up));
        }
        self.input(at, Input::Blob { blob: BLOB, pieces, stripe_shift: 0 });
        if at != HUB {
            self.announce(at, false);
        }
    }

    fn kill(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        let counted = machine.peer.take().map(|peer| peer.counts()).unwrap_or_default();
        self.outcome.twice += counted.twice;
        self.outcome.wrong += counted.wrong;
        self.outcome.stalled += counted.stalled;
        let others = std::mem::take(&mut machine.line).others();
        machine.is_taking = false;
        machine.timer = None;
        if at == HUB {
            self.tracker = None;
        } else if let Some(tracker) = &mut self.tracker {
            // Its connection breaks.
            tracker.forget(self.now + self.fleet.latency, &at);
            self.settle_later();
        }
        for other in others {
            if let Some(machine) = self.machines.get_mut(index(other)) {
                machine.line.close(node(at));
            }
            self.input(index(other), Input::Disconnected { node: node(at) });
        }
    }

    fn new_tracker(&self, warm_up: Duration) -> Tracker<usize, u32> {
        let number = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        Tracker::new(TrackerConfig { seed: self.fleet.seed, warm_up, ..TrackerConfig::default() }, self.now, number)
    }

    fn announce(&mut self, at: usize, is_again: bool) {
        let Some(host) = at.checked_sub(1).and_then(|at| self.fleet.hosts.get(at)) else { return };
        let Some(peer) = self.machines.get(at).and_then(|machine| machine.peer.as_ref()) else { return };
        let complaints = peer.complaints(self.now).into_iter().map(index).filter(|blamed| *blamed != HUB).collect();
        let is_complete = self.machines.get(at).is_some_and(|it| it.disk.is_full() || it.behaviour == Behaviour::Lies);
        let standing = HostStanding {
            zone: Zone { region: String::new(), rack: host.rack.to_string() },
            is_edge: false,
            is_slow: host.is_slow,
            fetching: (!is_complete).then_some(0).into_iter().collect(),
            whole: is_complete.then_some(0).into_iter().collect(),
            complaints,
        };
        if let Some(tracker) = &mut self.tracker {
            tracker.announce(self.now + self.fleet.latency, at, standing);
            self.settle_later();
            // A plan that it missed, as after a restart of either side.
            self.soon(Event::Plan(at));
        }
        if !is_again {
            self.at(self.now + ANNOUNCE, Event::Announce(at, false));
        }
    }

    fn settle_later(&mut self) {
        let Some(at) = self.tracker.as_ref().and_then(Tracker::next_timer) else { return };
        if self.settle.is_none_or(|settle| at < settle) {
            self.settle = Some(at);
            self.at(at.max(self.now), Event::Settle);
        }
    }

    fn plan(&mut self, at: usize) {
        let Some(plan) = self.tracker.as_ref().and_then(|tracker| tracker.plan(&at)).cloned() else { return };
        let nodes = plan.neighbours.into_iter().map(node).collect();
        self.input(at, Input::Neighbours { nodes, origin: Some(node(HUB)) });
        let parents = plan.trees.into_iter().next().map(|(_, parents)| parents).unwrap_or([const { None }; STRIPES]);
        let parents = parents.map(|parent| {
            parent.map(|source| match source {
                Source::Hub => node(HUB),
                Source::Host(host) => node(host),
            })
        });
        self.input(at, Input::Parents { blob: BLOB, parents });
    }

    fn dial(&mut self, from: usize, to: usize) {
        let is_up = |at: usize| self.machines.get(at).is_some_and(|machine| machine.peer.is_some());
        if !is_up(from) {
            return;
        }
        let is_taken = self
            .machines
            .get(to)
            .and_then(|machine| machine.peer.as_ref())
            .is_some_and(|peer| !peer.is_avoided(node(from), self.now));
        if !is_taken {
            return self.input(from, Input::Disconnected { node: node(to) });
        }
        if self.machines.get(from).is_some_and(|machine| machine.line.connection(node(to)).is_some()) {
            return;
        }
        self.connections += 1;
        for (one, other) in [(from, to), (to, from)] {
            if let Some(machine) = self.machines.get_mut(one) {
                machine.line.open(node(other), self.connections);
            }
        }
        self.input(from, Input::Connected { node: node(to) });
        self.input(to, Input::Connected { node: node(from) });
    }

    fn input(&mut self, at: usize, input: Input) {
        let Some(peer) = self.machines.get_mut(at).and_then(|machine| machine.peer.as_mut()) else { return };
        peer.handle(self.now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| peer.next_output()).collect();
        let timer = peer.next_timer();
        if let Some(machine) = self.machines.get_mut(at)
            && machine.timer != timer
        {
            machine.timer = timer;
            if let Some(timer) = timer {
                self.at(timer.max(self.now), Event::Timer(at, timer));
            }
        }
        for output in outputs {
            self.output(at, output);
        }
    }

    fn output(&mut self, at: usize, output: Output) {
        match output {
            Output::Connect { node } => {
                // A handshake goes there and back.
                let when = self.now + self.fleet.latency * 2;
                self.at(when, Event::Dial(at, index(node)));
            }
            Output::Disconnect { node: other, .. } => {
                for (one, gone) in [(at, other), (index(other), node(at))] {
                    if let Some(machine) = self.machines.get_mut(one) {
                        machine.line.close(gone);
                    }
                }
                self.input(index(other), Input::Disconnected { node: node(at) });
            }
            Output::Send { node, message } => {
                let Some(machine) = self.machines.get(at) else { return };
                if let Some(connection) = machine.line.connection(node) {
                    self.soon(Event::Message(at, index(node), connection, message));
                }
            }
            Output::Upload { node, blob, piece } => {
                let Some(machine) = self.machines.get_mut(at) else { return };
                if matches!(machine.behaviour, Behaviour::Honest | Behaviour::Corrupts) {
                    machine.line.upload(node, blob, piece);
                    self.send(at);
                }
            }
            Output::Complete { .. } => self.complete(at),
            Output::Complaints => self.soon(Event::Announce(at, true)),
            Output::Starving { .. } => {}
        }
    }

    fn complete(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at).filter(|machine| machine.disk.is_full() && at != HUB) else {
            return;
        };
        if machine.completed.is_none() {
            machine.completed = Some(self.now);
            let host = at.checked_sub(1).and_then(|at| self.fleet.hosts.get(at));
            let is_lasting = host.is_some_and(|host| host.killed.is_none_or(|(_, back)| back.is_some()));
            if machine.behaviour == Behaviour::Honest && is_lasting {
                self.unfinished -= 1;
            }
        }
    }

    fn send(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        if machine.line.begin(node(at)) {
            let when = self.now + Duration::from_secs_f64(self.chunk_bytes / machine.upload);
            self.at(when, Event::Sent(at));
        }
    }

    fn sent(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        let Some(chunk) = machine.line.sending.take() else { return };
        machine.sent_chunks += 1;
        let is_connected = machine.line.connection(chunk.to) == Some(chunk.connection);
        let hub_bytes = machine.sent_chunks as f64 * self.chunk_bytes;
        if at == HUB && hub_bytes >= self.fleet.bytes() && self.outcome.one_copy_seconds.is_none() {
            self.outcome.one_copy_seconds = Some(self.now.as_secs_f64());
        }
        if is_connected {
            self.soon(Event::Chunk(chunk));
            if chunk.is_last {
                self.input(at, Input::Sent { node: chunk.to, blob: chunk.blob, piece: chunk.piece });
            }
        }
        self.send(at);
    }

    fn take(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        if !machine.is_taking && !machine.line.received.is_empty() {
            machine.is_taking = true;
            let when = self.now + Duration::from_secs_f64(self.chunk_bytes / machine.download);
            self.at(when, Event::Taken(at));
        }
    }

    fn taken(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        machine.is_taking = false;
        let Some(chunk) = machine.line.received.pop_front() else { return };
        let is_connected = machine.line.connection(chunk.from) == Some(chunk.connection);
        if is_connected {
            let from = index(chunk.from);
            let is_right = self.machines.get(from).is_some_and(|sender| sender.behaviour != Behaviour::Corrupts);
            if let Some(sender) = self.machines.get_mut(from) {
                sender.line.taken(&chunk);
            }
            self.send(from);
            if chunk.is_last {
                if let Some(machine) = self.machines.get_mut(at).filter(|_| is_right) {
                    machine.disk.insert(chunk.piece);
                }
                self.input(at, Input::Arrived { node: chunk.from, blob: chunk.blob, piece: chunk.piece, is_right });
            } else {
                self.input(at, Input::Coming { node: chunk.from, blob: chunk.blob, piece: chunk.piece });
            }
        }
        self.take(at);
    }
}

fn node(machine: usize) -> Node {
    Node(u32::try_from(machine).unwrap_or(u32::MAX))
}

fn index(node: Node) -> usize {
    node.0 as usize
}
