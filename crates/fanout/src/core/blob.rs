//! A blob as this host has it: pieces that are there or under way, where the missing ones can be had, and how fast they come.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Node, Now, STRIPES};
use crate::piece::PieceSet;

/// A parent that has sent nothing for so long is not relied on: at least, and in times between two pieces of a stripe.
const SILENCE_MIN: Duration = Duration::from_secs(1);
const SILENCE_INTERVALS: u32 = 8;
/// A request runs out after so long: at least, and in times between two pieces of the blob.
const REQUEST_MIN: Duration = Duration::from_secs(1);
const REQUEST_INTERVALS: u32 = 60;
/// How much a new interval counts against those before it, as one of so many.
const INTERVAL_SHARE: u32 = 8;
/// The longest time between two pieces that still counts as their pace.
const INTERVAL_MAX: Duration = Duration::from_secs(10);

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) node: Node,
    pub(super) until: Now,
}

/// Who sends a stripe.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parent {
    /// Whom the tracker named.
    pub(super) node: Option<Node>,
    /// Whether it was asked to.
    pub(super) is_subscribed: bool,
    /// When it sent something last, or was asked.
    pub(super) heard: Now,
}

/// A blob.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) have: PieceSet,
    /// How many pieces of each stripe are there.
    pub(super) counts: [u32; STRIPES],
    stripe_shift: u32,
    pub(super) parents: [Parent; STRIPES],
    /// Requests by piece.
    pub(super) requests: BTreeMap<u32, Request>,
    /// How many of the hosts that are connected have each piece.
    holders: Vec<u16>,
    /// The pieces that somebody has.
    pub(super) known: PieceSet,
    /// The time between two pieces.
    interval: Option<Duration>,
    last: Option<Now>,
    /// When the hub is asked for what is missing and nobody has or sends.
    pub(super) starving: Option<Now>,
}

impl Local {
    pub(super) fn new(have: PieceSet, stripe_shift: u32) -> Self {
        let pieces = have.pieces();
        let mut local = Self {
            counts: [0; STRIPES],
            stripe_shift: stripe_shift % STRIPES as u32,
            parents: [Parent::default(); STRIPES],
            requests: BTreeMap::new(),
            holders: vec![0; pieces as usize],
            known: PieceSet::empty(pieces),
            interval: None,
            last: None,
            starving: None,
            have: PieceSet::empty(pieces),
        };
        have.iter().for_each(|piece| drop(local.insert(piece)));
        local
    }

    /// A piece is there; gives whether it was missing.
    pub(super) fn insert(&mut self, piece: u32) -> bool {
        let (is_new, stripe) = (self.have.insert(piece), self.stripe_of(piece));
        if let Some(count) = self.counts.get_mut(stripe).filter(|_| is_new) {
            *count += 1;
        }
        is_new
    }

    /// The stripe that a piece is dealt into.
    pub(super) fn stripe_of(&self, piece: u32) -> usize {
        (piece + self.stripe_shift) as usize % STRIPES
    }

    /// A host that is connected has a piece.
    pub(super) fn held(&mut self, piece: u32) {
        if let Some(count) = self.holders.get_mut(piece as usize) {
            *count = count.saturating_add(1);
            self.known.insert(piece);
        }
    }

    /// A host that has these pieces is no longer connected.
    pub(super) fn lost(&mut self, pieces: &PieceSet) {
        for piece in pieces.iter() {
            if let Some(count) = self.holders.get_mut(piece as usize) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.known.remove(piece);
                }
            }
        }
    }

    /// How many hosts have a piece.
    pub(super) fn holders(&self, piece: u32) -> u16 {
        self.holders.get(piece as usize).copied().unwrap_or_default()
    }

    /// A piece came: takes its time into the pace.
    pub(super) fn came(&mut self, now: Now) {
        if let Some(last) = self.last.replace(now) {
            let interval = now.saturating_sub(last).min(INTERVAL_MAX);
            self.interval = Some(match self.interval {
                None => interval,
                Some(before) => (before * (INTERVAL_SHARE - 1) + interval) / INTERVAL_SHARE,
            });
        }
        self.starving = None;
    }

    fn pace(&self) -> Duration {
        self.interval.unwrap_or_default()
    }

    /// How long a parent may be silent.
    pub(super) fn silence_max(&self) -> Duration {
        (self.pace() * STRIPES as u32 * SILENCE_INTERVALS).max(SILENCE_MIN)
    }

    /// How long a request may take.
    pub(super) fn request_max(&self) -> Duration {
        (self.pace() * REQUEST_INTERVALS).max(REQUEST_MIN)
    }

    /// Whether a stripe comes by itself.
    pub(super) fn is_fed(&self, stripe: usize, now: Now) -> bool {
        let Some(parent) = self.parents.get(stripe) else { return false };
        parent.is_subscribed && now < parent.heard + self.silence_max()
    }
}
