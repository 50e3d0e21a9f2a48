//! Which bytes of an archive belong to an entry already, in bounded memory.

use std::collections::BTreeMap;

/// Ranges that are kept apart: 3 MiB. An archive in its directory's order, as all usual tools write it, needs no more
/// however many entries it has.
const RANGES_MAX: usize = 65_536;
/// No entry fits into less: the fixed part of its own header.
const GAP_BYTES: u64 = 30;

/// Ranges that do not overlap. Neighbours with no room for an entry between them are one.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// From the start of each to its end, exclusive.
    ends: BTreeMap<u64, u64>,
}

/// Why a range is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It overlaps another.
    Overlaps,
    /// There are too many to say whether it does.
    TooMany,
}

impl Ranges {
    /// Takes the bytes from `start` to `end`, exclusive. They are at least one.
    pub(super) fn take(&mut self, start: u64, end: u64) -> Result<(), Taken> {
        let before = self.ends.range(..=start).next_back().map(|(start, end)| (*start, *end));
        let after = self.ends.range(start..).next().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, before)| before > start) || after.is_some_and(|(after, _)| after < end) {
            return Err(Taken::Overlaps);
        }
        let is_full = self.ends.len() >= RANGES_MAX;
        let joins_before = before.filter(|(_, before)| {
            // When full, the last one grows over a gap: what is listed later and lies there is refused.
            start - before < GAP_BYTES || (is_full && after.is_none())
        });
        let joins_after = after.filter(|(after, _)| after - end < GAP_BYTES);
        if joins_before.is_none() && joins_after.is_none() && is_full {
            return Err(Taken::TooMany);
        }
        let end = match joins_after {
            Some((after, after_end)) => {
                self.ends.remove(&after);
                after_end
            }
            None => end,
        };
        self.ends.insert(joins_before.map_or(start, |(before, _)| before), end);
        Ok(())
    }
}
