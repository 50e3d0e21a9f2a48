//! One budget for everything that one layer or file holds, however deep.
//!
//! It is not shared between threads on purpose: each layer has its own, so that what is over a limit does not depend on
//! which thread was quicker, and what was found in a layer stays true in every image that has it.

use std::cell::Cell;
use std::fmt;

use super::spare::Spare;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// What may be spent. The defaults are what is used; tests set less.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes decompressed in all, whatever the size of the input.
    pub bytes: u64,
    /// Bytes decompressed in all for each byte of the input, beyond [`Limits::expansion_free_bytes`].
    pub expansion: u64,
    /// Bytes that may be decompressed in all from an input of any size.
    pub expansion_free_bytes: u64,
    /// Bytes decompressed from one stream or member.
    pub member_bytes: u64,
    /// Decompressed for each compressed byte of one stream or member, beyond [`Limits::ratio_free_bytes`].
    pub ratio: u64,
    /// Bytes that one stream or member may give before its ratio counts.
    pub ratio_free_bytes: u64,
    /// Entries of all archives together.
    pub entries: u64,
    /// Archives and compressed streams within each other.
    pub depth: u64,
    /// Bytes of memory that all decompressors at work use for their windows and dictionaries.
    pub memory_bytes: u64,
    /// Bytes that are held in temporary files at a time.
    pub spool_bytes: u64,
}

impl Limits {
    /// Default of [`Limits::bytes`].
    pub const BYTES: u64 = 256 * GIB;
    /// Default of [`Limits::expansion`]. Each archive within another counts its bytes again.
    pub const EXPANSION: u64 = 200;
    /// Default of [`Limits::expansion_free_bytes`].
    pub const EXPANSION_FREE_BYTES: u64 = GIB;
    /// Default of [`Limits::member_bytes`].
    pub const MEMBER_BYTES: u64 = 64 * GIB;
    /// Default of [`Limits::ratio`]. Deflate reaches 1,032 with nothing but zeros; logs and tables stay below 100.
    pub const RATIO: u64 = 250;
    /// Default of [`Limits::ratio_free_bytes`].
    pub const RATIO_FREE_BYTES: u64 = 16 * MIB;
    /// Default of [`Limits::entries`].
    pub const ENTRIES: u64 = 20_000_000;
    /// Default of [`Limits::depth`].
    pub const DEPTH: u64 = 8;
    /// Default of [`Limits::memory_bytes`].
    pub const MEMORY_BYTES: u64 = 320 * MIB;
    /// Default of [`Limits::spool_bytes`].
    pub const SPOOL_BYTES: u64 = 8 * GIB;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: Self::BYTES,
            expansion: Self::EXPANSION,
            expansion_free_bytes: Self::EXPANSION_FREE_BYTES,
            member_bytes: Self::MEMBER_BYTES,
            ratio: Self::RATIO,
            ratio_free_bytes: Self::RATIO_FREE_BYTES,
            entries: Self::ENTRIES,
            depth: Self::DEPTH,
            memory_bytes: Self::MEMORY_BYTES,
            spool_bytes: Self::SPOOL_BYTES,
        }
    }
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes decompressed in all.
    Bytes,
    /// Bytes decompressed from one stream or member.
    MemberBytes,
    /// Decompressed bytes for one compressed byte.
    Ratio,
    /// Entries of all archives.
    Entries,
    /// Archives within archives.
    Depth,
    /// Bytes of memory that a decompressor asks for.
    MemoryBytes,
    /// Bytes in temporary files.
    SpoolBytes,
    /// Bytes of one header, table or name.
    HeaderBytes,
    /// Compressed streams or parts of a file, one behind the other or out of order.
    Parts,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes decompressed in all",
            Self::MemberBytes => "bytes decompressed from one file",
            Self::Ratio => "decompressed bytes for each compressed byte",
            Self::Entries => "entries in all",
            Self::Depth => "archives within each other",
            Self::MemoryBytes => "bytes of memory to decompress with",
            Self::SpoolBytes => "bytes in temporary files",
            Self::HeaderBytes => "bytes of a header",
            Self::Parts => "parts of one file",
        })
    }
}

/// It would cost more than is allowed: what is behind it is unexamined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over the limit of {limit} {what}")]
pub struct OverLimit {
    /// Which limit.
    pub what: Limit,
    /// How much is allowed, in the unit that `what` names.
    pub limit: u64,
}

/// What was spent, shared by all readers of one layer or file.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    bytes_max: u64,
    bytes: Cell<u64>,
    entries: Cell<u64>,
    depth: Cell<u64>,
    memory_bytes: Cell<u64>,
    spool_bytes: Cell<u64>,
    spare: Spare,
}

impl Budget {
    /// For a layer or file of `input_bytes`, as it is stored.
    pub fn new(limits: Limits, input_bytes: u64) -> Self {
        let expanded = input_bytes.saturating_mul(limits.expansion).saturating_add(limits.expansion_free_bytes);
        Self {
            bytes_max: limits.bytes.min(expanded),
            limits,
            bytes: Cell::new(0),
            entries: Cell::new(0),
            depth: Cell::new(0),
            memory_bytes: Cell::new(0),
            spool_bytes: Cell::new(0),
            spare: Spare::default(),
        }
    }

    /// The limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes that may be decompressed in all.
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes decompressed so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Entries seen so far.
    pub const fn entries(&self) -> u64 {
        self.entries.get()
    }

    /// Counts an entry of an archive. The readers of this module count their own.
    ///
    /// # Errors
    /// It is one too many; so is every further one.
    pub fn entry(&self) -> Result<(), OverLimit> {
        Self::spend(&self.entries, 1, self.limits.entries, Limit::Entries)
    }

    /// Goes into an archive or compressed stream, until what is given back is dropped.
    ///
    /// # Errors
    /// It is within too many others.
    pub fn enter(&self) -> Result<Level<'_>, OverLimit> {
        if self.depth.get() >= self.limits.depth {
            return Err(OverLimit { what: Limit::Depth, limit: self.limits.depth });
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Level { depth: &self.depth })
    }

    /// What readers leave to those after them.
    pub(super) const fn spare(&self) -> &Spare {
        &self.spare
    }

    /// Counts `count` decompressed bytes.
    pub(super) fn spend_bytes(&self, count: u64) -> Result<(), OverLimit> {
        Self::spend(&self.bytes, count, self.bytes_max, Limit::Bytes)
    }

    /// Memory for one more decompressor: half of what is left, and `most` at most, so that one within another still
    /// gets some.
    pub(super) fn memory(&self, most: u64) -> Held<'_> {
        let left = self.limits.memory_bytes.saturating_sub(self.memory_bytes.get());
        let mut held = Held { total: &self.memory_bytes, bytes: 0 };
        held.add(most.min(left / 2));
        held
    }

    /// A share of what may be in temporary files; nothing of it is taken yet.
    pub(super) const fn spool(&self) -> Held<'_> {
        Held { total: &self.spool_bytes, bytes: 0 }
    }

    /// Counts `count` bytes in temporary files, until `held` is dropped.
    pub(super) fn spend_spool(&self, held: &mut Held<'_>, count: u64) -> Result<(), OverLimit> {
        let limit = self.limits.spool_bytes;
        if self.spool_bytes.get().saturating_add(count) > limit {
            return Err(OverLimit { what: Limit::SpoolBytes, limit });
        }
        held.add(count);
        Ok(())
    }

    fn spend(total: &Cell<u64>, count: u64, limit: u64, what: Limit) -> Result<(), OverLimit> {
        total.set(total.get().saturating_add(count));
        if total.get() > limit { Err(OverLimit { what, limit }) } else { Ok(()) }
    }
}

/// One archive or stream that is being read within others.
#[derive(Debug)]
#[must_use = "the depth counts until this is dropped"]
pub struct Level<'b> {
    depth: &'b Cell<u64>,
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.depth.set(self.depth.get().saturating_sub(1));
    }
}

/// A part of a total, given back when dropped.
#[derive(Debug)]
pub(super) struct Held<'b> {
    total: &'b Cell<u64>,
    bytes: u64,
}

impl Held<'_> {
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.total.set(self.total.get().saturating_add(bytes));
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.total.set(self.total.get().saturating_sub(self.bytes));
    }
}

/// What one stream or member gave so far.
#[derive(Debug)]
pub(super) struct Meter<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl<'b> Meter<'b> {
    pub(super) const fn budget(&self) -> &'b Budget {
        self.budget
    }

    pub(super) const fn new(budget: &'b Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts `count` more bytes, after `compressed` bytes in all were taken for them and those before.
    pub(super) fn spend(&mut self, count: u64, compressed: u64) -> Result<(), OverLimit> {
        self.bytes = self.bytes.saturating_add(count);
        let limits = &self.budget.limits;
        if self.bytes > limits.member_bytes {
            return Err(OverLimit { what: Limit::MemberBytes, limit: limits.member_bytes });
        }
        let allowed = compressed.saturating_mul(limits.ratio).max(limits.ratio_free_bytes);
        if self.bytes > allowed {
            return Err(OverLimit { what: Limit::Ratio, limit: limits.ratio });
        }
        self.budget.spend_bytes(count)
    }
}
