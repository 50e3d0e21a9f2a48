//! A host: what it subscribes to, requests and gives away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::blob::{Local, Request};
use super::link::Link;
use super::trust::Trust;
use super::{Blob, HAVE_PIECES_MAX, Input, Message, Node, Now, Output, STRIPES, Stripes};
use crate::piece::PieceSet;

/// How often a host looks whether something has to be requested, or said to others.
const LOOK: Duration = Duration::from_millis(100);
/// Requests under way to one host.
const REQUESTS_PER_LINK_MAX: usize = 2;
/// Requests under way for one blob.
const REQUESTS_PER_BLOB_MAX: usize = 8;
/// How long a connection that could not be made is not tried again.
const RECONNECT: Duration = Duration::from_secs(2);
/// How many pieces of a stripe a host may be behind most of its neighbours until it does not wait for its parent.
const LAG_PIECES: u32 = 16;
/// Requests of others that are served at once beside what was subscribed to, and where nothing was: whoever is behind must
/// not stop those who depend on this host.
const SERVED_BESIDE_MAX: usize = 1;
const SERVED_MAX: usize = 6;
/// Requests under way to the hub.
const REQUESTS_TO_HUB_MAX: usize = 2;

/// What does not change.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections at most, those that others opened included.
    pub links_max: usize,
    /// Where chance begins: two hosts should differ.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { links_max: 64, seed: 0 }
    }
}

/// Pieces that came and went since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Right pieces that were missing.
    pub right: u64,
    /// Right pieces that were there already.
    pub twice: u64,
    /// Wrong pieces.
    pub wrong: u64,
    /// Requests that ran out or were refused.
    pub stalled: u64,
}

/// The state of a host.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    blobs: BTreeMap<Blob, Local>,
    links: BTreeMap<Node, Link>,
    /// Connections that are being made.
    dialled: BTreeSet<Node>,
    /// Hosts that could not be reached, and when to try again.
    unreached: BTreeMap<Node, Now>,
    neighbours: Vec<Node>,
    origin: Option<Node>,
    /// Requests of others that wait, in order, and those that are served.
    asked: VecDeque<(Node, Blob, u32)>,
    served: BTreeSet<(Node, Blob, u32)>,
    trust: Trust,
    outputs: VecDeque<Output>,
    next_look: Option<Now>,
    random: StdRng,
    counts: Counts,
}

impl Peer {
    /// A host without blobs and neighbours.
    pub fn new(config: Config) -> Self {
        let random = StdRng::seed_from_u64(config.seed);
        Self {
            config,
            blobs: BTreeMap::new(),
            links: BTreeMap::new(),
            dialled: BTreeSet::new(),
            unreached: BTreeMap::new(),
            neighbours: Vec::new(),
            origin: None,
            asked: VecDeque::new(),
            served: BTreeSet::new(),
            trust: Trust::default(),
            outputs: VecDeque::new(),
            next_look: None,
            random,
            counts: Counts::default(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Neighbours { nodes, origin } => {
                (self.neighbours, self.origin) = (nodes, origin);
                self.connect(now);
            }
            Input::Blob { blob, pieces, stripe_shift } => self.blob_open(now, blob, pieces, stripe_shift),
            Input::Forget { blob } => self.blob_forget(blob),
            Input::Parents { blob, parents } => self.parents(now, blob, parents),
            Input::Connected { node } => self.connected(now, node),
            Input::Disconnected { node } => {
                self.dialled.remove(&node);
                self.unreached.insert(node, now + RECONNECT);
                self.unlink(node);
            }
            Input::Message { node, message } => self.message(now, node, message),
            Input::Coming { node, blob, piece } => {
                if let Some(local) = self.blobs.get_mut(&blob) {
                    local.coming(now, node, piece);
                }
            }
            Input::Arrived { node, blob, piece, is_right } => self.arrived(now, node, blob, piece, is_right),
            Input::Kept { blob, piece } => self.keep(now, blob, piece, None),
            Input::Sent { node, blob, piece } => {
                let is_request = self.served.remove(&(node, blob, piece));
                if let Some(link) = self.links.get_mut(&node) {
                    link.sent(blob, piece, is_request);
                }
                self.upload(node);
            }
            Input::Timer => {}
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.look(now);
        }
        if self.next_look.is_none() && self.blobs.values().any(|local| !local.have.is_full()) {
            self.next_look = Some(now + LOOK);
        }
    }

    /// What is to be done next.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due.
    pub fn next_timer(&self) -> Option<Now> {
        self.next_look
    }

    /// What came.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a connection of this host is not to be taken.
    pub fn is_avoided(&self, node: Node, now: Now) -> bool {
        self.trust.is_avoided(node, now)
    }

    /// Hosts for which something waits that is to be sent.
    pub fn waiting(&self) -> usize {
        self.links.values().filter(|link| link.is_waiting()).count()
    }

    /// Hosts that sent wrong pieces, or did not send what they promised: for the tracker.
    pub fn complaints(&self, now: Now) -> Vec<Node> {
        self.trust.complaints(now).collect()
    }

    fn send(&mut self, node: Node, message: Message) {
        self.outputs.push_back(Output::Send { node, message });
    }

    fn blob_open(&mut self, now: Now, blob: Blob, pieces: PieceSet, stripe_shift: u32) {
        if self.blobs.contains_key(&blob) {
            return;
        }
        let is_full = pieces.is_full();
        self.blobs.insert(blob, Local::new(pieces.clone(), stripe_shift));
        let nodes: Vec<Node> = self.links.keys().copied().collect();
        for node in nodes {
            self.send(node, Message::Open { blob, pieces: pieces.clone() });
        }
        if is_full {
            self.outputs.push_back(Output::Complete { blob });
        }
        self.connect(now);
    }

    fn blob_forget(&mut self, blob: Blob) {
        if self.blobs.remove(&blob).is_none() {
            return;
        }
        for (node, link) in &mut self.links {
            link.remotes.remove(&blob);
            link.unsaid.remove(&blob);
            self.outputs.push_back(Output::Send { node: *node, message: Message::Close { blob } });
        }
    }

    fn parents(&mut self, now: Now, blob: Blob, parents: [Option<Node>; STRIPES]) {
        let Some(local) = self.blobs.get_mut(&blob) else { return };
        let mut left = BTreeSet::new();
        for (parent, node) in local.parents.iter_mut().zip(parents) {
            if parent.node != node {
                left.extend(parent.node.filter(|_| parent.is_subscribed));
                (parent.node, parent.is_subscribed) = (node, false);
            }
        }
        for node in left {
            self.subscribe(now, node, blob);
        }
        for node in parents.into_iter().flatten().collect::<BTreeSet<_>>() {
            self.subscribe(now, node, blob);
        }
        self.connect(now);
    }

    /// Says to a parent, or to one that was, which stripes it is to send.
    fn subscribe(&mut self, now: Now, node: Node, blob: Blob) {
        let (Some(local), Some(link)) = (self.blobs.get_mut(&blob), self.links.get_mut(&node)) else { return };
        let Some(remote) = link.remotes.get_mut(&blob).filter(|_| !local.have.is_full()) else { return };
        let mut stripes = Stripes::default();
        for (stripe, parent) in local.parents.iter_mut().enumerate().filter(|(_, parent)| parent.node == Some(node)) {
            stripes = stripes.with(stripe);
            if !parent.is_subscribed {
                (parent.is_subscribed, parent.heard, parent.owes, parent.coming) = (true, now, None, None);
            }
        }
        if std::mem::replace(&mut remote.asked, stripes) != stripes {
            self.send(node, Message::Subscribe { blob, stripes });
        }
    }

    /// Whom this host is to be connected with: parents first, then neighbours; the hub only where it is a parent, or nobody
    /// else has what is missing.
    fn connect(&mut self, now: Now) {
        self.unreached.retain(|_, at| *at > now);
        let wanted = self.blobs.values().filter(|local| !local.have.is_full());
        let parents = wanted.flat_map(|local| local.parents.iter().filter_map(|parent| parent.node));
        let starving = self.blobs.values().any(|local| local.starving.is_some_and(|until| now >= until));
        let nodes: Vec<Node> =
            parents.chain(self.neighbours.iter().copied()).chain(self.origin.filter(|_| starving)).collect();
        for node in nodes {
            let is_there = self.links.contains_key(&node) || self.dialled.contains(&node);
            let is_out = self.unreached.contains_key(&node) || self.trust.is_avoided(node, now);
            if !is_there && !is_out && self.links.len() + self.dialled.len() < self.config.links_max {
                self.dialled.insert(node);
                self.outputs.push_back(Output::Connect { node });
            }
        }
    }

    fn connected(&mut self, now: Now, node: Node) {
        self.dialled.remove(&node);
        if self.trust.is_avoided(node, now) {
            return self.outputs.push_back(Output::Disconnect { node, avoid_until: None });
        }
        self.unlink(node);
        self.links.insert(node, Link::default());
        for (blob, local) in &self.blobs {
            let message = Message::Open { blob: *blob, pieces: local.have.clone() };
            self.outputs.push_back(Output::Send { node, message });
        }
    }

    /// Forgets a connection and all that was expected from it.
    fn unlink(&mut self, node: Node) {
        let Some(link) = self.links.remove(&node) else { return };
        self.asked.retain(|(asking, ..)| *asking != node);
        self.served.retain(|(asking, ..)| *asking != node);
        for (blob, remote) in link.remotes.iter().filter(|_| Some(node) != self.origin) {
            if let Some(local) = self.blobs.get_mut(blob) {
                local.lost(&remote.has);
            }
        }
        for local in self.blobs.values_mut() {
            local.requests.retain(|_, request| request.node != node);
            for parent in local.parents.iter_mut().filter(|parent| parent.node == Some(node)) {
                parent.is_subscribed = false;
            }
        }
    }

    fn drop_link(&mut self, node: Node, avoid_until: Option<Now>) {
        self.unlink(node);
        self.outputs.push_back(Output::Disconnect { node, avoid_until });
    }

    fn message(&mut self, now: Now, node: Node, message: Message) {
        if !self.links.contains_key(&node) {
            return;
        }
        match message {
            Message::Open { blob, pieces } => self.remote_open(now, node, blob, pieces),
            Message::Close { blob } => {
                let gone = self.links.get_mut(&node).and_then(|link| link.remotes.remove(&blob));
                if let (Some(remote), Some(local)) = (gone, self.blobs.get_mut(&blob)) {
                    if Some(node) != self.origin {
                        local.lost(&remote.has);
                    }
                    local.requests.retain(|_, request| request.node != node);
                    local.parents.iter_mut().filter(|it| it.node == Some(node)).for_each(|it| it.is_subscribed = false);
                }
            }
            Message::Have { blob, pieces } => {
                let Some(remote) = self.links.get_mut(&node).and_then(|link| link.remotes.get_mut(&blob)) else {
                    return;
                };
                let Some(local) = self.blobs.get_mut(&blob) else { return };
                let is_hub = Some(node) == self.origin;
                for piece in pieces.into_iter().take(HAVE_PIECES_MAX) {
                    if remote.announced(piece, local.stripe_of(piece)) && !is_hub {
                        local.told(piece, now);
                    }
                }
            }
            Message::Subscribe { blob, stripes } => self.subscribed(node, blob, stripes),
            Message::Request { blob, piece } => {
                let is_here = self.blobs.get(&blob).is_some_and(|local| local.have.contains(piece));
                if is_here && self.links.get_mut(&node).is_some_and(|link| link.request(blob, piece)) {
                    self.asked.push_back((node, blob, piece));
                    self.upload(node);
                } else {
                    self.send(node, Message::Refuse { blob, piece });
                }
            }
            Message::Cancel { blob, piece } => {
                if let Some(link) = self.links.get_mut(&node) {
                    link.cancelled(blob, piece);
                }
            }
            Message::Refuse { blob, piece } => {
                let Some(local) = self.blobs.get_mut(&blob) else { return };
                if local.requests.get(&piece).is_some_and(|request| request.node == node) {
                    self.request_ended(blob, piece);
                    self.stalled(now, node);
                    self.denied(node, blob, piece);
                }
            }
        }
    }

    fn remote_open(&mut self, now: Now, node: Node, blob: Blob, pieces: PieceSet) {
        let (Some(local), Some(link)) = (self.blobs.get_mut(&blob), self.links.get_mut(&node)) else { return };
        if pieces.pieces() != local.have.pieces() {
            return;
        }
        let is_hub = Some(node) == self.origin;
        if let Some(before) = link.remotes.get(&blob).filter(|_| !is_hub) {
            local.lost(&before.has);
        }
        let mut counts = [0; STRIPES];
        for piece in pieces.iter().filter(|_| !is_hub) {
            local.held(piece);
            if let Some(count) = counts.get_mut(local.stripe_of(piece)).filter(|_| !pieces.is_full()) {
                *count += 1;
            }
        }
        link.open(blob, pieces, counts);
        self.subscribe(now, node, blob);
    }

    /// The other side wants these stripes: all of them that are here and not there are queued.
    fn subscribed(&mut self, node: Node, blob: Blob, stripes: Stripes) {
        let (Some(local), Some(link)) = (self.blobs.get(&blob), self.links.get_mut(&node)) else { return };
        let Some(remote) = link.remotes.get_mut(&blob) else { return };
        remote.subscribed = stripes;
        let missing: Vec<u32> = local.have.without(&remote.has).collect();
        link.unsubscribe(blob, |piece| !stripes.contains(local.stripe_of(piece)));
        for piece in missing.into_iter().filter(|piece| stripes.contains(local.stripe_of(*piece))) {
            link.push(blob, piece);
        }
        self.upload(node);
    }

    fn upload(&mut self, node: Node) {
        let Some(link) = self.links.get_mut(&node) else { return };
        while let Some((blob, piece)) = link.next_upload() {
            self.outputs.push_back(Output::Upload { node, blob, piece });
        }
        let is_pushing = self.links.values().any(Link::is_pushing);
        let most = if is_pushing { SERVED_BESIDE_MAX } else { SERVED_MAX };
        while self.served.len() < most {
            let Some((node, blob, piece)) = self.asked.pop_front() else { return };
            if self.links.get_mut(&node).is_some_and(|link| link.request_begins(blob, piece)) {
                self.served.insert((node, blob, piece));
                self.outputs.push_back(Output::Upload { node, blob, piece });
            }
        }
    }

    fn arrived(&mut self, now: Now, node: Node, blob: Blob, piece: u32, is_right: bool) {
        if !is_right {
            self.counts.wrong += 1;
            let until = self.trust.strike(node, now);
            self.outputs.push_back(Output::Complaints);
            return self.drop_link(node, Some(until));
        }
        self.trust.delivered(node);
        if let Some(local) = self.blobs.get_mut(&blob) {
            let stripe = local.stripe_of(piece);
            if let Some(parent) = local.parents.get_mut(stripe).filter(|parent| parent.node == Some(node)) {
                (parent.heard, parent.owes, parent.coming) = (now, None, None);
            }
        }
        self.keep(now, blob, piece, Some(node));
    }

    /// A piece is there: it is said, and goes to those who wait for it.
    fn keep(&mut self, now: Now, blob: Blob, piece: u32, from: Option<Node>) {
        let asked = self.request_ended(blob, piece);
        let Some(local) = self.blobs.get_mut(&blob) else { return };
        if !local.insert(piece) {
            self.counts.twice += 1;
            return;
        }
        self.counts.right += 1;
        local.came(now, asked.is_some() && asked == self.origin);
        let (stripe, is_full) = (local.stripe_of(piece), local.have.is_full());
        // Whoever else was asked for it need not send it, nor its parent.
        let parent = local.parents.get(stripe).filter(|parent| parent.is_subscribed).and_then(|parent| parent.node);
        for node in
            asked.into_iter().chain(parent.filter(|parent| asked != Some(*parent))).filter(|node| Some(*node) != from)
        {
            self.outputs.push_back(Output::Send { node, message: Message::Cancel { blob, piece } });
        }
        for (node, link) in &mut self.links {
            // Also to one that has not opened the blob yet: what it heard when the blob was opened here lacks this piece.
            link.unsaid.entry(blob).or_default().push(piece);
            let Some(remote) = link.remotes.get_mut(&blob) else { continue };
            // Whoever sent it has it.
            if Some(*node) == from && remote.announced(piece, stripe) && from != self.origin {
                local.held(piece);
            }
            if remote.subscribed.contains(stripe) {
                link.push(blob, piece);
                while let Some((blob, piece)) = link.next_upload() {
                    self.outputs.push_back(Output::Upload { node: *node, blob, piece });
                }
            }
        }
        if is_full {
            self.outputs.push_back(Output::Complete { blob });
            self.say();
        }
    }

    fn request_ended(&mut self, blob: Blob, piece: u32) -> Option<Node> {
        let request = self.blobs.get_mut(&blob)?.requests.remove(&piece)?;
        if let Some(link) = self.links.get_mut(&request.node) {
            link.requests = link.requests.saturating_sub(1);
        }
        Some(request.node)
    }

    fn stalled(&mut self, now: Now, node: Node) {
        self.counts.stalled += 1;
        self.trust.stall(node, now);
    }

    /// A host does not have a piece that it said it has.
    fn denied(&mut self, node: Node, blob: Blob, piece: u32) {
        let remote = self.links.get_mut(&node).and_then(|link| link.remotes.get_mut(&blob));
        if let (Some(remote), Some(local)) = (remote, self.blobs.get_mut(&blob)) {
            remote.denies(piece);
            let mut one = PieceSet::empty(local.have.pieces());
            one.insert(piece);
            local.lost(&one);
        }
    }

    /// What is looked at from time to time.
    fn look(&mut self, now: Now) {
        self.next_look = None;
        self.say();
        let blobs: Vec<Blob> =
            self.blobs.iter().filter(|(_, local)| !local.have.is_full()).map(|(blob, _)| *blob).collect();
        for blob in blobs {
            self.requests_expire(now, blob);
            self.debts(now, blob);
            self.requests_make(now, blob);
        }
        self.connect(now);
        if self.links.values().any(|link| !link.unsaid.is_empty()) {
            self.next_look = Some(now + LOOK);
        }
    }

    /// Says what came since the last time, to those who lack it.
    fn say(&mut self) {
        for (node, link) in &mut self.links {
            for (blob, pieces) in std::mem::take(&mut link.unsaid) {
                for pieces in pieces.chunks(HAVE_PIECES_MAX) {
                    let message = Message::Have { blob, pieces: pieces.to_vec() };
                    self.outputs.push_back(Output::Send { node: *node, message });
                }
            }
        }
    }

    fn requests_expire(&mut self, now: Now, blob: Blob) {
        let Some(local) = self.blobs.get(&blob) else { return };
        let expired: Vec<(u32, Node)> =
            local.requests.iter().filter(|(_, it)| it.until <= now).map(|(piece, it)| (*piece, it.node)).collect();
        for (piece, node) in expired {
            self.request_ended(blob, piece);
            self.send(node, Message::Cancel { blob, piece });
            // It is slow, or its line is: that it does not have the piece was not said.
            self.stalled(now, node);
        }
    }

    /// Requests what does not come by itself: the rarest pieces first, from whoever is asked for the least.
    fn requests_make(&mut self, now: Now, blob: Blob) {
        let Some(local) = self.blobs.get(&blob) else { return };
        let fed: [bool; STRIPES] = std::array::from_fn(|stripe| local.is_fed(stripe, now));
        let behind: [u32; STRIPES] = std::array::from_fn(|stripe| self.behind(blob, local, stripe));
        // Of a stripe whose parent is slow, what it will send next is left to it.
        let mut left: [usize; STRIPES] = std::array::from_fn(|stripe| match (fed.get(stripe), behind.get(stripe)) {
            (Some(true), Some(..LAG_PIECES)) => usize::MAX,
            (Some(true), _) => LAG_PIECES as usize / 2,
            _ => 0,
        });
        if left.iter().all(|left| *left == usize::MAX) {
            return;
        }
        let mut wanted: Vec<(u16, u32, u32)> = Vec::new();
        for piece in local.known.without(&local.have) {
            let stripe = local.stripe_of(piece);
            let Some(left) = left.get_mut(stripe) else { continue };
            if *left > 0 {
                *left -= 1;
            } else if !local.requests.contains_key(&piece) {
                wanted.push((local.holders(piece), self.random.random(), piece));
            }
        }
        // One that has had all from the beginning has nothing to wait for.
        let is_source = |node: &Node| {
            let remote = self.links.get(node).and_then(|link| link.remotes.get(&blob));
            remote.is_some_and(|remote| remote.has.is_full() && remote.counts == [0; STRIPES])
        };
        let silent = (0..STRIPES).filter_map(|stripe| local.silent(stripe, now));
        let silent = silent.filter(|(node, times)| *times >= if is_source(node) { 1 } else { 2 });
        let mut silent: Vec<Node> = silent.map(|(node, _)| node).collect();
        silent.sort_unstable();
        silent.dedup();
        let mut room = REQUESTS_PER_BLOB_MAX.saturating_sub(local.requests.len());
        let until = now + local.request_max(now);
        let mut is_starving = local.requests.is_empty();
        // It has what it was asked for, and does not send it.
        for node in silent.into_iter().filter(|node| Some(*node) != self.origin) {
            self.trust.silent(node, now);
            self.outputs.push_back(Output::Complaints);
        }
        wanted.sort_unstable();
        for (_, _, piece) in wanted {
            if room == 0 {
                break;
            }
            if let Some(node) = self.holder(now, blob, piece) {
                self.request(now, blob, piece, node, until);
                (room, is_starving) = (room - 1, false);
            }
        }
        if is_starving {
            self.starve(now, blob, until);
        }
    }

    /// How many pieces of a stripe most neighbours have more than this host.
    fn behind(&self, blob: Blob, local: &Local, stripe: usize) -> u32 {
        let others = self.links.values().filter_map(|link| link.remotes.get(&blob));
        let mut counts: Vec<u32> =
            others.filter_map(|remote| remote.counts.get(stripe).copied()).filter(|it| *it > 0).collect();
        counts.sort_unstable();
        let median = counts.get(counts.len() / 2).copied().unwrap_or_default();
        median.saturating_sub(local.counts.get(stripe).copied().unwrap_or_default())
    }

    /// Looks which parents have something that they were to send.
    fn debts(&mut self, now: Now, blob: Blob) {
        let Some(local) = self.blobs.get_mut(&blob) else { return };
        for stripe in 0..STRIPES {
            let node = local.parents.get(stripe).and_then(|parent| parent.node);
            let remote = node.and_then(|node| self.links.get(&node)).and_then(|link| link.remotes.get(&blob));
            let owes =
                remote.is_some_and(|it| it.has.without(&local.have).any(|piece| local.stripe_of(piece) == stripe));
            if let Some(parent) = local.parents.get_mut(stripe) {
                parent.owes = owes.then(|| parent.owes.unwrap_or(now));
            }
        }
    }

    fn request(&mut self, now: Now, blob: Blob, piece: u32, node: Node, until: Now) {
        let Some(local) = self.blobs.get_mut(&blob) else { return };
        local.requests.insert(piece, Request { node, begun: now, until });
        if let Some(link) = self.links.get_mut(&node) {
            link.requests += 1;
        }
        self.send(node, Message::Request { blob, piece });
    }

    /// Whom to ask for a piece.
    fn holder(&mut self, now: Now, blob: Blob, piece: u32) -> Option<Node> {
        let mut best: Option<((u32, usize, u32), Node)> = None;
        for (node, link) in &self.links {
            let has = link.remotes.get(&blob).is_some_and(|remote| remote.has.contains(piece));
            let is_asked = has && link.requests < REQUESTS_PER_LINK_MAX && Some(*node) != self.origin;
            if !is_asked || self.trust.is_resting(*node, now) {
                continue;
            }
            let rank = (self.trust.stalls(*node), link.requests, self.random.random());
            if best.as_ref().is_none_or(|(before, _)| rank < *before) {
                best = Some((rank, *node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Nobody sends what is missing, and no neighbour has it: in the end the hub is asked for some of it at random.
    fn starve(&mut self, now: Now, blob: Blob, until: Now) {
        let Some(local) = self.blobs.get_mut(&blob) else { return };
        // Whoever is first gives it to the others.
        let later = local.patience(now).mul_f64(self.random.random_range(1.0..2.5));
        if now < *local.starving.get_or_insert(now + later) {
            return;
        }
        let Some(hub) = self.origin.filter(|hub| !self.unreached.contains_key(hub)) else {
            local.starving = Some(now + later);
            // Somebody has some of it: that is waited for, or asked for again, and not given up.
            if local.known.without(&local.have).next().is_some() {
                return;
            }
            return self.outputs.push_back(Output::Starving { blob });
        };
        let Some(remote) = self.links.get(&hub).and_then(|link| link.remotes.get(&blob)) else { return };
        let missing: Vec<u32> = remote.has.without(&local.have).collect();
        for _ in 0..REQUESTS_TO_HUB_MAX.min(missing.len()) {
            let at = self.random.random_range(0..missing.len());
            if let Some(piece) = missing.get(at) {
                self.request(now, blob, *piece, hub, until);
            }
        }
    }
}

#[cfg(test)]
mod tests;
