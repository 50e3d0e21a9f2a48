//! Another host as the driver knows it: where it is, the connection with it, and what both sides have said on that.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use oci::Digest;

use super::Who;
use super::link::Link;
use super::rights::Rights;
use crate::core::Now;
use crate::piece::PieceSet;
use crate::wire::CHANNELS_MAX;

/// Bytes of what one peer says that it has. What is beyond that is passed over.
const OPENED_BYTES_MAX: usize = 256 * 1024;
/// What a blob takes beside its pieces' bits.
const OPENED_COST_BYTES: usize = 64;
/// The first pause before a host that could not be reached is dialled again; each further one is twice as long.
const REDIAL_MIN: Duration = Duration::from_millis(500);
/// The longest.
const REDIAL_MAX: Duration = Duration::from_secs(60);

/// Another host, or the hub.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) who: Who,
    pub(super) address: Option<SocketAddr>,
    pub(super) link: Option<Arc<Link>>,
    pub(super) is_dialled: bool,
    /// What it has shown on the connection.
    pub(super) rights: Rights,
    /// What is open on this side of it.
    channels: HashMap<Digest, u16>,
    channel_next: u16,
    /// What is open on the other side, also of blobs that are not known here yet.
    opened: HashMap<Digest, PieceSet>,
    opened_bytes: usize,
    failures: u32,
    redial_at: Now,
}

impl Other {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            address: None,
            link: None,
            is_dialled: false,
            rights: Rights::default(),
            channels: HashMap::new(),
            channel_next: 0,
            opened: HashMap::new(),
            opened_bytes: 0,
            failures: 0,
            redial_at: Now::ZERO,
        }
    }

    /// There is another connection, or none any more: nothing that was said before counts.
    pub(super) fn link_set(&mut self, link: Option<Arc<Link>>) {
        if link.is_some() {
            self.failures = 0;
        }
        self.rights = Rights::default();
        self.channels.clear();
        self.opened.clear();
        (self.opened_bytes, self.link) = (0, link);
    }

    /// The connection, if it is this one.
    pub(super) fn is_current(&self, link: &Link) -> bool {
        self.link.as_ref().is_some_and(|current| current.id == link.id)
    }

    /// It could not be reached.
    pub(super) fn failed(&mut self, now: Now) {
        self.is_dialled = false;
        let pause = REDIAL_MIN.saturating_mul(1 << self.failures.min(10)).min(REDIAL_MAX);
        self.failures = self.failures.saturating_add(1);
        self.redial_at = now + pause;
    }

    /// Where to dial it now.
    pub(super) fn dial(&mut self, now: Now) -> Option<SocketAddr> {
        let address = self.address.filter(|_| self.link.is_none() && !self.is_dialled && now >= self.redial_at);
        self.is_dialled |= address.is_some();
        address
    }

    /// The number of a blob on this side of the connection.
    pub(super) fn channel(&self, digest: &Digest) -> Option<u16> {
        self.channels.get(digest).copied()
    }

    /// A number for a blob; none when all are taken. Numbers come back as late as they can.
    pub(super) fn channel_open(&mut self, digest: Digest) -> Option<u16> {
        if self.channels.len() >= usize::from(CHANNELS_MAX) {
            return None;
        }
        while self.channels.values().any(|channel| *channel == self.channel_next) {
            self.channel_next = (self.channel_next + 1) % CHANNELS_MAX;
        }
        let channel = self.channel_next;
        self.channel_next = (channel + 1) % CHANNELS_MAX;
        self.channels.insert(digest, channel);
        Some(channel)
    }

    /// A blob is closed on this side.
    pub(super) fn channel_close(&mut self, digest: &Digest) -> Option<u16> {
        self.channels.remove(digest)
    }

    /// It says what it has of a blob.
    pub(super) fn opened(&mut self, digest: Digest, pieces: &PieceSet) {
        let bytes = OPENED_COST_BYTES + pieces.pieces().div_ceil(8) as usize;
        if self.opened_bytes + bytes <= OPENED_BYTES_MAX {
            self.opened_bytes += bytes;
            self.opened.insert(digest, pieces.clone());
        }
    }

    /// It has more of it.
    pub(super) fn has(&mut self, digest: &Digest, pieces: &[u32]) {
        if let Some(set) = self.opened.get_mut(digest) {
            for piece in pieces {
                set.insert(*piece);
            }
        }
    }

    /// It takes no part any more.
    pub(super) fn closed(&mut self, digest: &Digest) {
        if let Some(pieces) = self.opened.remove(digest) {
            self.opened_bytes -= OPENED_COST_BYTES + pieces.pieces().div_ceil(8) as usize;
        }
    }

    /// What it has of a blob.
    pub(super) fn pieces(&self, digest: &Digest) -> Option<&PieceSet> {
        self.opened.get(digest)
    }
}
