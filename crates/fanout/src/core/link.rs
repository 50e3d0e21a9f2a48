//! A connection with another host: what the other side has and wants, and what is on its way there.

use std::collections::{BTreeMap, VecDeque};

use super::{Blob, STRIPES, Stripes};
use crate::piece::PieceSet;

/// Pieces that are handed to the driver at once for one connection: one is being written, and the next is ready.
const UPLOADS_MAX: usize = 2;
/// Requests of one host that wait at once.
const REQUESTS_WAITING_MAX: usize = 8;
/// Requests that are taken from one host for one blob: so many times its pieces, and some.
const REQUESTS_SHARE: u32 = 2;
const REQUESTS_MORE: u32 = 64;

/// A blob as the other side has it.
#[derive(Debug)]
pub(super) struct Remote {
    /// What it says it has.
    pub(super) has: PieceSet,
    /// How many of these pieces are of each stripe; none for one that has had all since it was connected.
    pub(super) counts: [u32; STRIPES],
    /// What it was sent from here, or gets elsewhere.
    given: PieceSet,
    /// What it wants as it comes.
    pub(super) subscribed: Stripes,
    /// What is wanted of it as it comes.
    pub(super) asked: Stripes,
    /// Requests of its that were taken.
    requests: u32,
    /// What is to be sent, in order.
    queue: VecDeque<u32>,
    /// Of these, or of what is being sent: what is not to be queued again.
    queued: PieceSet,
}

impl Remote {
    /// It says that it has a piece; gives whether that is new.
    pub(super) fn announced(&mut self, piece: u32, stripe: usize) -> bool {
        let is_new = self.has.insert(piece);
        if let Some(count) = self.counts.get_mut(stripe).filter(|_| is_new) {
            *count += 1;
        }
        is_new
    }

    /// It did not send a piece that it said it has.
    pub(super) fn denies(&mut self, piece: u32) {
        self.has.remove(piece);
    }
}

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Blobs that the other side opened.
    pub(super) remotes: BTreeMap<Blob, Remote>,
    /// What came here and was not said there yet.
    pub(super) unsaid: BTreeMap<Blob, Vec<u32>>,
    /// Requests of the other side that wait.
    waiting: usize,
    /// Uploads of what was subscribed to, in the driver's hands.
    uploads: usize,
    /// Requests to the other side that are under way.
    pub(super) requests: usize,
    /// Where the next upload is looked for first.
    turn: Blob,
}

impl Link {
    /// The other side opened a blob.
    pub(super) fn open(&mut self, blob: Blob, has: PieceSet, counts: [u32; STRIPES]) {
        let none = PieceSet::empty(has.pieces());
        let remote = Remote {
            has,
            counts,
            given: none.clone(),
            subscribed: Stripes::default(),
            asked: Stripes::default(),
            requests: 0,
            queue: VecDeque::new(),
            queued: none,
        };
        self.remotes.insert(blob, remote);
    }

    /// Takes a request for a piece that is here; false where the other side asks for too much.
    pub(super) fn request(&mut self, blob: Blob, piece: u32) -> bool {
        let Some(remote) = self.remotes.get_mut(&blob) else { return false };
        let is_much = remote.requests >= remote.has.pieces() * REQUESTS_SHARE + REQUESTS_MORE;
        if is_much || self.waiting >= REQUESTS_WAITING_MAX {
            return false;
        }
        remote.requests += 1;
        self.waiting += 1;
        // Whoever asks lacks it, whatever was said before.
        remote.given.remove(piece);
        true
    }

    /// The turn of a request that was taken has come; gives whether the piece is still wanted.
    pub(super) fn request_begins(&mut self, blob: Blob, piece: u32) -> bool {
        self.waiting = self.waiting.saturating_sub(1);
        let Some(remote) = self.remotes.get_mut(&blob) else { return false };
        !remote.given.contains(piece) && remote.queued.insert(piece)
    }

    /// Whether something that was subscribed to waits, or is being sent.
    pub(super) fn is_pushing(&self) -> bool {
        self.uploads > 0 || self.remotes.values().any(|remote| !remote.queue.is_empty())
    }

    /// Whether something waits to be sent, subscribed to or requested.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting > 0 || self.remotes.values().any(|remote| !remote.queue.is_empty())
    }

    /// Queues a piece that the other side subscribed to, if it lacks it.
    pub(super) fn push(&mut self, blob: Blob, piece: u32) {
        let Some(remote) = self.remotes.get_mut(&blob) else { return };
        if !remote.has.contains(piece) && !remote.given.contains(piece) && remote.queued.insert(piece) {
            remote.queue.push_back(piece);
        }
    }

    /// The other side gets a piece elsewhere.
    pub(super) fn cancelled(&mut self, blob: Blob, piece: u32) {
        let Some(remote) = self.remotes.get_mut(&blob) else { return };
        remote.given.insert(piece);
    }

    /// What of a stripe still waits is not sent.
    pub(super) fn unsubscribe(&mut self, blob: Blob, is_of: impl Fn(u32) -> bool) {
        let Some(remote) = self.remotes.get_mut(&blob) else { return };
        let Remote { queue, queued, .. } = remote;
        queue.retain(|piece| {
            let stays = !is_of(*piece);
            if !stays {
                queued.remove(*piece);
            }
            stays
        });
    }

    /// The next piece to be handed to the driver: blobs take turns.
    pub(super) fn next_upload(&mut self) -> Option<(Blob, u32)> {
        if self.uploads >= UPLOADS_MAX {
            return None;
        }
        let turn = self.turn;
        let order = self.remotes.range(turn..).chain(self.remotes.range(..turn)).map(|(blob, _)| *blob);
        let order: Vec<Blob> =
            order.filter(|blob| self.remotes.get(blob).is_some_and(|it| !it.queue.is_empty())).collect();
        for blob in order {
            let Some(remote) = self.remotes.get_mut(&blob) else { continue };
            while let Some(piece) = remote.queue.pop_front() {
                if remote.given.contains(piece) {
                    remote.queued.remove(piece);
                    continue;
                }
                self.uploads += 1;
                self.turn = Blob(blob.0.wrapping_add(1));
                return Some((blob, piece));
            }
        }
        None
    }

    /// An upload has ended: the other side will have the piece.
    pub(super) fn sent(&mut self, blob: Blob, piece: u32, is_request: bool) {
        self.uploads = self.uploads.saturating_sub(usize::from(!is_request));
        if let Some(remote) = self.remotes.get_mut(&blob) {
            remote.queued.remove(piece);
            remote.given.insert(piece);
        }
    }
}
