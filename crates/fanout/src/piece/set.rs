//! Which pieces of a blob are there.

use super::layout::PIECES_MAX;

/// Why bytes are no set of pieces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceSetError {
    /// Too many, or too few bytes.
    #[error("a set of {pieces} pieces has {expected} bytes, this one has {found}")]
    Length {
        /// Pieces of the blob.
        pieces: u32,
        /// Bytes that it has.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A bit is set that stands for no piece.
    #[error("a set of {pieces} pieces has bits for others")]
    Foreign {
        /// Pieces of the blob.
        pieces: u32,
    },
}

/// A set of the pieces of one blob, a bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceSet {
    pieces: u32,
    count: u32,
    words: Box<[u64]>,
}

const BITS: u32 = u64::BITS;

impl PieceSet {
    /// None of `pieces`; more than [`PIECES_MAX`] are cut down to that.
    pub fn empty(pieces: u32) -> Self {
        let pieces = pieces.min(PIECES_MAX);
        Self { pieces, count: 0, words: vec![0; pieces.div_ceil(BITS) as usize].into_boxed_slice() }
    }

    /// All of `pieces`.
    pub fn full(pieces: u32) -> Self {
        let mut set = Self::empty(pieces);
        for piece in 0..set.pieces {
            set.insert(piece);
        }
        set
    }

    /// How many pieces the blob has.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// How many of them are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether all are.
    pub fn is_full(&self) -> bool {
        self.count == self.pieces
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a piece is in the set.
    pub fn contains(&self, piece: u32) -> bool {
        self.words.get((piece / BITS) as usize).is_some_and(|word| word >> (piece % BITS) & 1 == 1)
    }

    /// Adds a piece; gives whether it was missing. One that the blob does not have is not added.
    pub fn insert(&mut self, piece: u32) -> bool {
        if piece >= self.pieces || self.contains(piece) {
            return false;
        }
        if let Some(word) = self.words.get_mut((piece / BITS) as usize) {
            *word |= 1 << (piece % BITS);
            self.count += 1;
        }
        true
    }

    /// Takes a piece out; gives whether it was there.
    pub fn remove(&mut self, piece: u32) -> bool {
        if !self.contains(piece) {
            return false;
        }
        if let Some(word) = self.words.get_mut((piece / BITS) as usize) {
            *word &= !(1 << (piece % BITS));
            self.count -= 1;
        }
        true
    }

    /// The pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0_u32..).flat_map(|(word, at)| bits(*word).map(move |bit| at * BITS + bit))
    }

    /// The pieces that `self` has and `other` lacks, in order. Both are of the same blob.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let pairs = self.words.iter().zip(other.words.iter()).zip(0_u32..);
        pairs.flat_map(|((mine, theirs), at)| bits(mine & !theirs).map(move |bit| at * BITS + bit))
    }

    /// The set as bytes: the bit of piece 0 is the lowest of the first byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(self.pieces.div_ceil(8) as usize);
        bytes
    }

    /// Reads what [`PieceSet::to_bytes`] wrote for a blob of so many pieces.
    ///
    /// # Errors
    /// The length is another, or there are bits for pieces that the blob does not have.
    pub fn from_bytes(pieces: u32, bytes: &[u8]) -> Result<Self, PieceSetError> {
        let mut set = Self::empty(pieces);
        let expected = set.pieces.div_ceil(8) as usize;
        if bytes.len() != expected || set.pieces != pieces {
            return Err(PieceSetError::Length { pieces, expected, found: bytes.len() });
        }
        for (word, chunk) in set.words.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(eight);
            set.count += word.count_ones();
        }
        let beyond = set.words.last().map_or(0, |word| match pieces % BITS {
            0 => 0,
            used => word >> used,
        });
        if beyond != 0 { Err(PieceSetError::Foreign { pieces }) } else { Ok(set) }
    }
}

fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros();
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_set_of_numbers(
            pieces in 0..300_u32,
            changes in proptest::collection::vec((any::<bool>(), 0..310_u32), 0..200),
            others in proptest::collection::btree_set(0..300_u32, 0..100),
        ) {
            let (mut set, mut model) = (PieceSet::empty(pieces), BTreeSet::new());
            for (is_added, piece) in changes {
                if is_added {
                    prop_assert_eq!(set.insert(piece), piece < pieces && model.insert(piece));
                } else {
                    prop_assert_eq!(set.remove(piece), model.remove(&piece));
                }
            }
            let mut other = PieceSet::empty(pieces);
            for piece in &others {
                other.insert(*piece);
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.count() as usize, model.len());
            prop_assert_eq!(set.is_full(), model.len() == pieces as usize);
            prop_assert_eq!(set.without(&other).collect::<Vec<_>>(), model.difference(&others).copied().collect::<Vec<_>>());
            prop_assert_eq!(PieceSet::from_bytes(pieces, &set.to_bytes()), Ok(set));
        }

        #[test]
        fn any_bytes(pieces in 0..100_u32, bytes in proptest::collection::vec(any::<u8>(), 0..14)) {
            if let Ok(set) = PieceSet::from_bytes(pieces, &bytes) {
                prop_assert_eq!(set.iter().count(), set.count() as usize);
                prop_assert!(set.iter().all(|piece| piece < pieces));
                prop_assert_eq!(set.to_bytes(), bytes);
            }
        }
    }
}
