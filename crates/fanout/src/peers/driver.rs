//! The one task that owns the core: it is told what happens on connections, on disk and by the clock, and does what it says.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oci::Digest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::link::Link;
use super::other::Other;
use super::{AGENT_LINKS_MAX, Command, Happened, ORIGIN_LINKS_MAX, PeersStatus, Plan, Role, Shared, Who, Written};
use crate::core::{Blob, Config, Input, Node, Now, Peer, Stripes};
use crate::grant::Grant;
use crate::piece::{Layout, PieceSet, Root};
use crate::wire::{Frame, Refusal};

/// How often connections with neighbours that were lost are looked for, in seconds, also while nothing is wanted.
const NEIGHBOURS_SECONDS: u64 = 2;
/// Trees are not sent to a peer that has so many bytes of short frames to read first.
pub(super) const TREE_WAITING_BYTES_MAX: usize = 1 << 20;
/// Questions for trees that are open at once.
pub(super) const TREES_WANTED_MAX: usize = 256;

/// What the other side of a connection said.
#[derive(Debug)]
pub(super) enum Said {
    Granted(Box<Grant>),
    Open { digest: Digest, pieces: PieceSet },
    Close { digest: Digest },
    Have { digest: Digest, pieces: Vec<u32> },
    Subscribe { digest: Digest, stripes: Stripes },
    Request { digest: Digest, piece: u32 },
    Cancel { digest: Digest, piece: u32 },
    Refuse { digest: Digest, piece: u32 },
    TreeWanted { digest: Digest },
    Tree { digest: Digest, leaves: Bytes },
}

/// What happened on a connection.
pub(super) enum Event {
    /// A connection stands; whoever made it goes on with it once it is `taken`.
    Met {
        link: Arc<Link>,
        taken: oneshot::Sender<()>,
    },
    /// None could be made.
    Unreached {
        who: Who,
    },
    Ended {
        link: Arc<Link>,
    },
    Said {
        link: Arc<Link>,
        said: Said,
    },
    /// A piece is on its way, and takes its time.
    Coming {
        link: Arc<Link>,
        digest: Digest,
        piece: u32,
    },
    Arrived {
        link: Arc<Link>,
        digest: Digest,
        piece: u32,
        bytes: u64,
        written: io::Result<Written>,
    },
    Sent {
        link: Arc<Link>,
        digest: Digest,
        piece: u32,
        bytes: u64,
    },
    /// What there is of a blob that a host has shown a grant for.
    Offered {
        digest: Digest,
        root: Root,
        layout: Layout,
        pieces: PieceSet,
    },
}

/// A blob that is exchanged.
pub(super) struct Exchanged {
    pub(super) digest: Digest,
    pub(super) root: Root,
    pub(super) layout: Layout,
    /// What can be read.
    pub(super) have: PieceSet,
}

/// A grant of this host.
pub(super) struct Own {
    pub(super) frame: Frame,
    pub(super) grant: Grant,
}

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) core: Peer,
    begun: Instant,
    pub(super) nodes: HashMap<Who, Node>,
    pub(super) others: Vec<Other>,
    pub(super) numbers: HashMap<Digest, Blob>,
    pub(super) blobs: BTreeMap<Blob, Exchanged>,
    pub(super) blob_next: u32,
    /// This host's grants by image.
    pub(super) own: BTreeMap<Digest, Own>,
    pub(super) plan: Plan,
    pub(super) neighbours: Vec<Node>,
    pub(super) origin: Option<Node>,
    pub(super) trees: Vec<(Digest, oneshot::Sender<Bytes>)>,
    pub(super) happened: mpsc::UnboundedSender<Happened>,
    pub(super) status: PeersStatus,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, seed: u64, happened: mpsc::UnboundedSender<Happened>) -> Self {
        let config = Config { seed, links_max: links_max(&shared.role) };
        Self {
            shared,
            core: Peer::new(config),
            begun: Instant::now(),
            nodes: HashMap::new(),
            others: Vec::new(),
            numbers: HashMap::new(),
            blobs: BTreeMap::new(),
            blob_next: 0,
            own: BTreeMap::new(),
            plan: Plan::default(),
            neighbours: Vec::new(),
            origin: None,
            trees: Vec::new(),
            happened,
            status: PeersStatus::default(),
        }
    }

    /// Goes on until the shutdown.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, mut commands: mpsc::Receiver<Command>) {
        let shutdown = self.shared.shutdown.clone();
        let mut looks = tokio::time::interval(Duration::from_secs(NEIGHBOURS_SECONDS));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.core.next_timer();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(self.begun + due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // In order, and what others can send much of is last: they hold up neither commands nor the clock.
                biased;
                () = shutdown.begun() => return,
                Some(command) = commands.recv() => self.command(command),
                () = timer => self.tell(Input::Timer),
                _ = looks.tick() => self.neighbours_keep(),
                Some(event) = events.recv() => self.event(event),
            }
            while let Some(output) = self.core.next_output() {
                self.carry_out(output);
            }
        }
    }

    pub(super) fn now(&self) -> Now {
        self.begun.elapsed()
    }

    pub(super) fn tell(&mut self, input: Input) {
        let now = self.now();
        self.core.handle(now, input);
    }

    /// Neighbours that are not connected are dialled again, so that connections stand when something is wanted.
    fn neighbours_keep(&mut self) {
        let is_lost = |node: &Node| self.others.get(node.0 as usize).is_some_and(|other| other.link.is_none());
        if self.neighbours.iter().any(is_lost) {
            let (nodes, origin) = (self.neighbours.clone(), self.origin);
            self.tell(Input::Neighbours { nodes, origin });
        }
    }

    /// The number of a host; the first time it gets one.
    pub(super) fn node(&mut self, who: &Who) -> Node {
        if let Some(node) = self.nodes.get(who) {
            return *node;
        }
        let node = Node(u32::try_from(self.others.len()).unwrap_or(u32::MAX));
        self.nodes.insert(who.clone(), node);
        self.others.push(Other::new(who.clone()));
        node
    }

    pub(super) fn other(&mut self, node: Node) -> Option<&mut Other> {
        self.others.get_mut(node.0 as usize)
    }

    /// Its number, if this is still the connection with it.
    fn current(&self, link: &Link) -> Option<Node> {
        let node = *self.nodes.get(&link.who)?;
        self.others.get(node.0 as usize).filter(|other| other.is_current(link)).map(|_| node)
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Met { link, taken } => self.met(link, taken),
            Event::Unreached { who } => {
                let (node, now) = (self.node(&who), self.now());
                if let Some(other) = self.other(node) {
                    other.failed(now);
                    // The other side may have got through meanwhile.
                    if other.link.is_none() {
                        self.tell(Input::Disconnected { node });
                    }
                }
            }
            Event::Ended { link } => {
                if let Some(node) = self.current(&link) {
                    self.unlink(node);
                    self.tell(Input::Disconnected { node });
                    self.forget_unshown();
                }
            }
            Event::Said { link, said } => {
                if let Some(node) = self.current(&link) {
                    self.said(node, said);
                }
            }
            Event::Coming { link, digest, piece } => {
                if let (Some(node), Some(blob)) = (self.current(&link), self.numbers.get(&digest).copied()) {
                    self.tell(Input::Coming { node, blob, piece });
                }
            }
            Event::Arrived { link, digest, piece, bytes, written } => {
                self.arrived(&link, digest, piece, bytes, written)
            }
            Event::Sent { link, digest, piece, bytes } => {
                self.status.sent_bytes += bytes;
                if let (Some(node), Some(blob)) = (self.current(&link), self.numbers.get(&digest).copied()) {
                    self.tell(Input::Sent { node, blob, piece });
                }
            }
            Event::Offered { digest, root, layout, pieces } => self.blob(digest, root, layout, pieces),
        }
    }

    pub(super) fn unlink(&mut self, node: Node) {
        if let Some(other) = self.other(node) {
            other.link_set(None);
        }
    }

    /// A connection stands. Of two with one host that were dialled from both sides, the one stays that was dialled by the
    /// host whose name is first; both sides see it so. Of two that the same side dialled the later one stays: whoever dials
    /// again has lost the earlier one.
    fn met(&mut self, link: Arc<Link>, taken: oneshot::Sender<()>) {
        let (node, now) = (self.node(&link.who), self.now());
        let me = match &self.shared.role {
            Role::Agent(host) => Who::Host(host.clone()),
            Role::Origin => Who::Hub,
        };
        let is_avoided = self.core.is_avoided(node, now);
        let is_full = self.others.iter().filter(|other| other.link.is_some()).count() >= links_max(&self.shared.role);
        let Some(other) = self.other(node) else { return };
        if link.is_ours {
            other.is_dialled = false;
        }
        if let Some(before) = other.link.clone() {
            let first_is_ours = me < link.who;
            if before.is_ours != link.is_ours && link.is_ours != first_is_ours {
                return;
            }
            before.cut();
        } else if is_avoided || link.who == me || (is_full && !self.make_room()) {
            if link.is_ours {
                self.tell(Input::Disconnected { node });
            }
            return;
        }
        if taken.send(()).is_err() {
            return;
        }
        for own in self.own.values() {
            // The hub has issued them itself, and asks for none; but it gives nothing without.
            link.send(own.frame.clone());
        }
        if let Some(other) = self.other(node) {
            other.link_set(Some(link));
        }
        self.tell(Input::Connected { node });
    }

    /// Ends a connection with somebody who has shown no grant that is good now (a45).
    fn make_room(&mut self) -> bool {
        let now = (self.shared.now)();
        let idle = |other: &Other| other.who != Who::Hub && !other.rights.is_any(now);
        let link = self.others.iter().filter(|other| idle(other)).find_map(|other| other.link.clone());
        let Some(link) = link else { return false };
        link.cut();
        if let Some(node) = self.current(&link) {
            self.unlink(node);
            self.tell(Input::Disconnected { node });
        }
        true
    }

    /// Whether a host may hear of a blob, and have it. The hub has issued the grants itself.
    pub(super) fn may_have(&self, node: Node, blob: Blob) -> bool {
        let now = (self.shared.now)();
        let (Some(other), Some(exchanged)) = (self.others.get(node.0 as usize), self.blobs.get(&blob)) else {
            return false;
        };
        other.who == Who::Hub || other.rights.allow(exchanged.digest, exchanged.root, now)
    }

    fn said(&mut self, node: Node, said: Said) {
        let Some(other) = self.other(node) else { return };
        match &said {
            Said::Granted(grant) => {
                other.rights.shown(grant);
                return self.granted(node);
            }
            Said::Open { digest, pieces } => other.opened(*digest, pieces),
            Said::Have { digest, pieces } => other.has(digest, pieces),
            Said::Close { digest } => other.closed(digest),
            Said::TreeWanted { digest } => return self.tree_send(node, *digest),
            Said::Tree { digest, leaves } => return self.tree_came(node, *digest, leaves),
            _ => {}
        }
        let (Said::Open { digest, .. }
        | Said::Close { digest }
        | Said::Have { digest, .. }
        | Said::Subscribe { digest, .. }
        | Said::Request { digest, .. }
        | Said::Cancel { digest, .. }
        | Said::Refuse { digest, .. }) = &said
        else {
            return;
        };
        let Some(blob) = self.numbers.get(digest).copied() else { return };
        match said {
            Said::Request { digest, piece } if !self.may_have(node, blob) => {
                if let Some(other) = self.other(node)
                    && let (Some(channel), Some(link)) = (other.channel(&digest), &other.link)
                {
                    link.send(Frame::Refuse { channel, piece, why: Refusal::NotGranted });
                }
            }
            Said::Subscribe { .. } if !self.may_have(node, blob) => {}
            said => {
                if let Some(message) = said.message(blob) {
                    self.tell(Input::Message { node, message });
                }
            }
        }
    }

    /// A host has shown a grant: it hears of what is exchanged here and is granted there.
    fn granted(&mut self, node: Node) {
        for blob in self.blobs.keys().copied().collect::<Vec<_>>() {
            self.open(node, blob);
        }
        if self.shared.role != Role::Origin {
            return;
        }
        let now = (self.shared.now)();
        let Some(other) = self.others.get(node.0 as usize) else { return };
        let known = |digest: &Digest| self.numbers.contains_key(digest);
        let fresh: Vec<_> = other.rights.all(now).filter(|(digest, _)| !known(digest)).collect();
        let shared = Arc::clone(&self.shared);
        self.shared.shutdown.spawn(async move {
            for (digest, right) in fresh {
                let (root, layout) = (right.root, right.layout);
                if let Some(pieces) = shared.pieces.offered(digest, root, layout).await {
                    let _ = shared.events.send(Event::Offered { digest, root, layout, pieces }).await;
                }
            }
        });
    }

    /// Says what is here of a blob to a host that may hear it and has not heard.
    pub(super) fn open(&mut self, node: Node, blob: Blob) {
        if !self.may_have(node, blob) {
            return;
        }
        let Some(exchanged) = self.blobs.get(&blob) else { return };
        let (digest, pieces) = (exchanged.digest, exchanged.have.clone());
        let Some(other) = self.other(node) else { return };
        if other.channel(&digest).is_some() {
            return;
        }
        let Some(link) = other.link.clone() else { return };
        if let Some(channel) = other.channel_open(digest) {
            link.send(Frame::Open { channel, digest, pieces });
        }
    }

    fn arrived(&mut self, link: &Link, digest: Digest, piece: u32, bytes: u64, written: io::Result<Written>) {
        let Some(blob) = self.numbers.get(&digest).copied() else { return };
        let is_right = match written {
            Ok(written) => written == Written::Kept,
            Err(error) => {
                tracing::warn!(%digest, piece, %error, "a piece that came cannot be kept");
                return;
            }
        };
        if is_right {
            self.have(blob, piece);
            match link.who {
                Who::Hub => self.status.from_hub_bytes += bytes,
                Who::Host(_) => self.status.from_hosts_bytes += bytes,
            }
        } else {
            tracing::warn!(peer = %link.who, %digest, piece, "a peer sent a wrong piece; it was not kept");
        }
        match self.nodes.get(&link.who).copied() {
            // A wrong piece counts against its sender though the connection is gone.
            Some(node) if !is_right || self.current(link).is_some() => {
                self.tell(Input::Arrived { node, blob, piece, is_right });
            }
            _ => self.tell(Input::Kept { blob, piece }),
        }
    }

    pub(super) fn have(&mut self, blob: Blob, piece: u32) {
        if let Some(exchanged) = self.blobs.get_mut(&blob) {
            exchanged.have.insert(piece);
        }
    }
}

fn links_max(role: &Role) -> usize {
    match role {
        Role::Agent(_) => AGENT_LINKS_MAX,
        Role::Origin => ORIGIN_LINKS_MAX,
    }
}
