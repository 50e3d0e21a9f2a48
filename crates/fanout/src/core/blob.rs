//! A blob as this host has it: pieces that are there or under way, where the missing ones can be had, and how fast they come.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Node, Now, STRIPES};
use crate::piece::PieceSet;

/// Pieces that must have come until their pace is known, and what is waited for until then: a little more than three pieces of
/// 128 KiB take side by side at 150 KiB/s.
const PACE_PIECES: u32 = 6;
const WAIT_FIRST: Duration = Duration::from_millis(2600);
/// The longest that anything is waited for.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// A parent that has sent nothing for so long is not relied on: at least, and in times between two pieces of a stripe.
const SILENCE_MIN: Duration = Duration::from_secs(1);
const SILENCE_INTERVALS: u32 = 8;
/// So many times as long is waited for a parent that has nothing to send yet: as its own begin to send, level by level of the
/// tree, and later.
const IDLE_FIRST: u32 = 8;
const IDLE: u32 = 2;
/// A request runs out after so long: at least, and in times between two pieces of the blob.
const REQUEST_MIN: Duration = Duration::from_secs(1);
const REQUEST_INTERVALS: u32 = 30;
/// What nobody sends and no neighbour has is asked of the hub after so long: at least, in times between two pieces, and
/// where nothing came yet.
const STARVING_MIN: Duration = Duration::from_secs(2);
const STARVING_INTERVALS: u32 = 60;
const STARVING_FIRST: Duration = Duration::from_secs(10);

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) node: Node,
    pub(super) begun: Now,
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
    /// Since when it has something that it was to send, and has not sent anything.
    pub(super) owes: Option<Now>,
    /// When a part of a piece came last that is not there yet, while the pace is not known.
    pub(super) coming: Option<Now>,
}

impl Parent {
    /// Since when it has sent nothing of what it owes. Parts count for a while: whoever sends them is not silent, and who
    /// never ends a piece is not to be waited for.
    fn quiet_since(&self) -> Option<Now> {
        let owes = self.owes?;
        Some(self.coming.map_or(owes, |at| at.clamp(owes, owes + WAIT_MAX)))
    }
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
    /// When a neighbour first said that it got a piece, and how many were new since.
    told: Option<(Now, u32)>,
    /// When the first piece came, and how long after it the last, and how many came since.
    first: Option<Now>,
    span: Duration,
    came: u32,
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
            told: None,
            first: None,
            span: Duration::ZERO,
            came: 0,
            starving: None,
            have: PieceSet::empty(pieces),
        };
        for piece in have.iter() {
            local.insert(piece);
        }
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

    /// A host that is connected got a piece: that is how fast it can go, before anything comes here.
    pub(super) fn told(&mut self, piece: u32, now: Now) {
        let is_new = !self.known.contains(piece);
        self.held(piece);
        let (_, count) = self.told.get_or_insert((now, 0));
        *count += u32::from(is_new);
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

    /// A part of a piece came: until the pace is known, that is what can be known of its sender.
    pub(super) fn coming(&mut self, now: Now, node: Node, piece: u32) {
        if self.came >= PACE_PIECES {
            return;
        }
        let stripe = self.stripe_of(piece);
        if let Some(parent) = self.parents.get_mut(stripe).filter(|parent| parent.node == Some(node)) {
            (parent.heard, parent.coming) = (now, Some(now));
        }
        if let Some(request) = self.requests.get_mut(&piece).filter(|request| request.node == node) {
            request.until = request.until.max(now + WAIT_FIRST).min(request.begun + WAIT_MAX);
        }
    }

    /// How many hosts have a piece.
    pub(super) fn holders(&self, piece: u32) -> u16 {
        self.holders.get(piece as usize).copied().unwrap_or_default()
    }

    /// A piece came: takes its time into the pace. Who lives on what the hub gives goes on asking it.
    pub(super) fn came(&mut self, now: Now, is_last_resort: bool) {
        match self.first {
            None => self.first = Some(now),
            Some(first) => (self.span, self.came) = (now.saturating_sub(first), self.came + 1),
        }
        if !is_last_resort {
            self.starving = None;
        }
    }

    /// So many times what lies between two pieces, within bounds.
    fn intervals(&self, now: Now, count: u32, least: Duration) -> Duration {
        let told = self.told.filter(|(_, count)| *count >= PACE_PIECES);
        let told = told.and_then(|(since, count)| now.saturating_sub(since).checked_div(count));
        let interval = self.span.checked_div(self.came).filter(|_| self.came >= PACE_PIECES).or(told);
        interval.map_or(WAIT_FIRST.max(least), |interval| (interval * count).clamp(least, WAIT_MAX))
    }

    /// How long to wait, at least, before the hub is asked for what nobody has.
    pub(super) fn patience(&self, now: Now) -> Duration {
        if self.first.is_none() { STARVING_FIRST } else { self.intervals(now, STARVING_INTERVALS, STARVING_MIN) }
    }

    /// How long a parent may be silent.
    fn silence_max(&self, now: Now) -> Duration {
        self.intervals(now, STRIPES as u32 * SILENCE_INTERVALS, SILENCE_MIN)
    }

    /// How long a request may take.
    pub(super) fn request_max(&self, now: Now) -> Duration {
        self.intervals(now, REQUEST_INTERVALS, REQUEST_MIN)
    }

    /// Whether a stripe comes by itself. A parent that has nothing to send waits for its own.
    pub(super) fn is_fed(&self, stripe: usize, now: Now) -> bool {
        let Some(parent) = self.parents.get(stripe).filter(|parent| parent.is_subscribed) else { return false };
        match parent.quiet_since() {
            Some(since) => now < since + self.silence_max(now),
            None => now < parent.heard + self.silence_max(now) * if self.first.is_none() { IDLE_FIRST } else { IDLE },
        }
    }

    /// The parent that has not sent what it has for so many times what it may take.
    pub(super) fn silent(&self, stripe: usize, now: Now) -> Option<(Node, u32)> {
        let parent = self.parents.get(stripe).filter(|parent| parent.is_subscribed)?;
        let owed = now.saturating_sub(parent.quiet_since()?);
        let times = owed.as_micros() / self.silence_max(now).as_micros().max(1);
        Some((parent.node?, u32::try_from(times).unwrap_or(u32::MAX)))
    }
}
