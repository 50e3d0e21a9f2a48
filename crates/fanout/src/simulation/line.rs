//! A host's line: what it sends and receives, chunk by chunk.

use std::collections::{BTreeMap, VecDeque};

use crate::core::{Blob, Node};

/// Chunks that a piece is sent in.
pub(super) const CHUNKS: u32 = 4;
/// Chunks of one connection that the receiver has not taken yet.
const WINDOW_CHUNKS: u32 = 4;

/// A part of a piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) from: Node,
    pub(super) to: Node,
    pub(super) blob: Blob,
    pub(super) piece: u32,
    pub(super) is_last: bool,
    /// The connection that it belongs to: what was under way when that broke is lost.
    pub(super) connection: u64,
}

#[derive(Debug, Default)]
struct Out {
    connection: u64,
    pieces: VecDeque<(Blob, u32)>,
    chunks_left: u32,
    under_way: u32,
}

/// A line.
#[derive(Debug, Default)]
pub(super) struct Line {
    outs: BTreeMap<Node, Out>,
    turn: Node,
    pub(super) sending: Option<Chunk>,
    pub(super) received: VecDeque<Chunk>,
}

impl Line {
    pub(super) fn open(&mut self, node: Node, connection: u64) {
        self.outs.insert(node, Out { connection, ..Out::default() });
    }

    pub(super) fn close(&mut self, node: Node) {
        self.outs.remove(&node);
    }

    pub(super) fn connection(&self, node: Node) -> Option<u64> {
        self.outs.get(&node).map(|out| out.connection)
    }

    pub(super) fn others(&self) -> Vec<Node> {
        self.outs.keys().copied().collect()
    }

    pub(super) fn upload(&mut self, node: Node, blob: Blob, piece: u32) {
        if let Some(out) = self.outs.get_mut(&node) {
            out.pieces.push_back((blob, piece));
        }
    }

    /// Begins to send the next chunk, if nothing is being sent and something can be: connections take turns.
    pub(super) fn begin(&mut self, from: Node) -> bool {
        if self.sending.is_some() {
            return false;
        }
        let can = |out: &Out| !out.pieces.is_empty() && out.under_way < WINDOW_CHUNKS;
        let after = std::ops::Bound::Excluded(self.turn);
        let next = self.outs.range((after, std::ops::Bound::Unbounded)).chain(self.outs.range(..=self.turn));
        let Some(to) = next.into_iter().find(|(_, out)| can(out)).map(|(node, _)| *node) else { return false };
        let Some(out) = self.outs.get_mut(&to) else { return false };
        let Some((blob, piece)) = out.pieces.front().copied() else { return false };
        if out.chunks_left == 0 {
            out.chunks_left = CHUNKS;
        }
        out.chunks_left -= 1;
        out.under_way += 1;
        let is_last = out.chunks_left == 0;
        if is_last {
            out.pieces.pop_front();
        }
        self.turn = to;
        self.sending = Some(Chunk { from, to, blob, piece, is_last, connection: out.connection });
        true
    }

    /// A chunk was taken by its receiver.
    pub(super) fn taken(&mut self, chunk: &Chunk) {
        if let Some(out) = self.outs.get_mut(&chunk.to).filter(|out| out.connection == chunk.connection) {
            out.under_way = out.under_way.saturating_sub(1);
        }
    }
}
