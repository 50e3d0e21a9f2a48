//! What decides, without IO: a host's [`Peer`] and the hub's [`Tracker`]. Messages and the clock go in, messages come out,
//! so that the same code runs in the agent, in the hub and in the simulator.
//!
//! # How a blob spreads
//!
//! Pieces are dealt into [`STRIPES`] stripes. For each the tracker plants a tree over all hosts that fetch the blob: its root
//! has the hub, or a host that has the blob already, as its parent. Every host is an inner node of one tree and a leaf of
//! the others, so that each gives away about as much as it gets, and no host's upload lies idle (the forest of SplitStream,
//! Castro et al., SOSP 2003). A host **subscribes** to a stripe at its parent there, and is sent every piece that it lacks
//! as soon as the parent has verified it. The last host is done after `S/d` and the time of some 20 pieces.
//!
//! What trees do not bring, because a parent is slow, gone, or lies, is **requested** piece by piece, rarest first, from
//! neighbours: hosts at random, which say what they have. What no neighbour has is requested from the hub in the end. So
//! hosts go on by themselves when the tracker is away, and the hub sends about one copy.

mod blob;
mod link;
mod peer;
mod tracker;
mod trust;

use std::time::Duration;

use crate::piece::PieceSet;

pub use peer::{Config, Counts, Peer};
pub use tracker::{HostPlan, HostStanding, Parents, Source, Tracker, TrackerConfig, Zone};

/// How many stripes the pieces of a blob are dealt into, and so how many trees there are for it.
pub const STRIPES: usize = 3;

/// Time since some beginning; it never goes back.
pub type Now = Duration;

/// Another host, or the hub, as its driver numbers it. Never used again for another within one [`Peer`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u32);

/// A blob, as the driver of one host numbers it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob(pub u32);

/// A set of stripes, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stripes(u8);

impl Stripes {
    /// Reads the bits; those above [`STRIPES`] are passed over.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & ((1 << STRIPES) - 1))
    }

    /// A bit for each stripe.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// With another stripe.
    pub fn with(self, stripe: usize) -> Self {
        Self::from_bits(self.0 | 1 << stripe.min(STRIPES))
    }

    /// Whether the stripe is in it.
    pub fn contains(self, stripe: usize) -> bool {
        stripe < STRIPES && self.0 >> stripe & 1 == 1
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What two connected hosts say to each other. Pieces themselves go beside: see [`Output::Upload`] and [`Input::Arrived`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Here this blob is wanted or there, and these pieces are there.
    Open {
        /// The blob.
        blob: Blob,
        /// What is there.
        pieces: PieceSet,
    },
    /// The blob is given up; nothing of it is wanted or given any more.
    Close {
        /// The blob.
        blob: Blob,
    },
    /// These pieces came.
    Have {
        /// The blob.
        blob: Blob,
        /// What came, [`HAVE_PIECES_MAX`] at most.
        pieces: Vec<u32>,
    },
    /// Send every piece of these stripes that I lack as soon as you have it. Replaces what was said before.
    Subscribe {
        /// The blob.
        blob: Blob,
        /// The stripes.
        stripes: Stripes,
    },
    /// Send this piece.
    Request {
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
    },
    /// Do not send this piece: it came from elsewhere.
    Cancel {
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
    },
    /// A piece that was requested is not sent.
    Refuse {
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
    },
}

/// Pieces in one [`Message::Have`] at most.
pub const HAVE_PIECES_MAX: usize = 512;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Whom to be connected with, whole: it replaces what was said before.
    Neighbours {
        /// Other hosts.
        nodes: Vec<Node>,
        /// The hub, where it may be asked for pieces.
        origin: Option<Node>,
    },
    /// A blob that is wanted, or there.
    Blob {
        /// The blob.
        blob: Blob,
        /// What of it is there: all pieces of a blob that is given away only.
        pieces: PieceSet,
        /// From which number on its pieces are dealt into stripes, the same on all hosts: something of its digest.
        stripe_shift: u32,
    },
    /// A blob is neither wanted nor given away any more.
    Forget {
        /// The blob.
        blob: Blob,
    },
    /// Who sends the stripes of a blob: the parents in the tracker's trees.
    Parents {
        /// The blob.
        blob: Blob,
        /// For each stripe.
        parents: [Option<Node>; STRIPES],
    },
    /// A connection stands, whoever opened it.
    Connected {
        /// With whom.
        node: Node,
    },
    /// A connection is gone, or could not be made.
    Disconnected {
        /// With whom.
        node: Node,
    },
    /// The other side said something.
    Message {
        /// Who.
        node: Node,
        /// What.
        message: Message,
    },
    /// A part of a piece came, and not its last. It counts until some pieces came: later their pace says what to expect.
    Coming {
        /// From whom.
        node: Node,
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
    },
    /// A piece came.
    Arrived {
        /// From whom.
        node: Node,
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
        /// Whether it is what the hub's tree says.
        is_right: bool,
    },
    /// A piece came some other way: from the hub's registry, or from the disk.
    Kept {
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
    },
    /// An upload was written, or given up with its connection.
    Sent {
        /// To whom.
        node: Node,
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
    },
    /// Some time has passed; see [`Peer::next_timer`].
    Timer,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a connection; answered by [`Input::Connected`] or [`Input::Disconnected`].
    Connect {
        /// With whom.
        node: Node,
    },
    /// Close a connection. It is closed as far as the core knows.
    Disconnect {
        /// With whom.
        node: Node,
        /// Until when no connection of this host is to be taken, for one that sent wrong pieces.
        avoid_until: Option<Now>,
    },
    /// Say something.
    Send {
        /// To whom.
        node: Node,
        /// What.
        message: Message,
    },
    /// Read a piece and send it; answered by [`Input::Sent`].
    Upload {
        /// To whom.
        node: Node,
        /// The blob.
        blob: Blob,
        /// The piece.
        piece: u32,
    },
    /// All pieces of a blob are there.
    Complete {
        /// The blob.
        blob: Blob,
    },
    /// [`Peer::complaints`] has grown: the tracker is to hear of it soon.
    Complaints,
    /// Nobody sends what is missing of a blob, and the hub is no neighbour: it is to be fetched from the hub's registry.
    Starving {
        /// The blob.
        blob: Blob,
    },
}
