//! How a blob is cut into pieces: a pure function of its length, so that all who know the length cut alike.

use std::ops::Range;

/// Pieces that a blob is cut into at least, where it is long enough: what a host must have before it can give something on
/// is one piece, so that few pieces make a fleet wait.
const PIECES_WANTED: u64 = 512;
/// The shortest piece, in bytes; shorter ones would cost more in messages than they save in time.
const PIECE_BYTES_MIN: u64 = 64 * 1024;
/// The longest piece, in bytes.
pub const PIECE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Pieces of one blob at most.
pub const PIECES_MAX: u32 = 65_536;
/// The longest blob that is cut into pieces, in bytes (256 GiB).
pub const BLOB_BYTES_MAX: u64 = PIECE_BYTES_MAX * PIECES_MAX as u64;

/// A blob is too long to be cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a blob of {length} bytes is too long to be given on in pieces ({BLOB_BYTES_MAX} at most); pull it from the hub"
)]
pub struct LayoutError {
    /// Its length in bytes.
    pub length: u64,
}

/// How a blob of a given length is cut: pieces of equal length, the last one shorter. An empty blob has no piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    length: u64,
    piece_bytes: u32,
}

impl Layout {
    /// The layout of a blob of `length` bytes: pieces of a power of two bytes, from 64 KiB to 4 MiB, at least 512 of them
    /// where the blob is longer than 32 MiB.
    ///
    /// # Errors
    /// It is longer than [`BLOB_BYTES_MAX`].
    pub fn of(length: u64) -> Result<Self, LayoutError> {
        if length > BLOB_BYTES_MAX {
            return Err(LayoutError { length });
        }
        let wanted = (length / PIECES_WANTED).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        // The greatest power of two that is not above what is wanted.
        let piece_bytes = 1_u32 << wanted.ilog2();
        Ok(Self { length, piece_bytes })
    }

    /// The blob's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of every piece but the last.
    pub fn piece_bytes(&self) -> u32 {
        self.piece_bytes
    }

    /// How many pieces there are.
    pub fn pieces(&self) -> u32 {
        u32::try_from(self.length.div_ceil(u64::from(self.piece_bytes))).unwrap_or(PIECES_MAX)
    }

    /// Where a piece lies in the blob; none when there is no such piece.
    pub fn range(&self, piece: u32) -> Option<Range<u64>> {
        let start = u64::from(piece) * u64::from(self.piece_bytes);
        let end = (start + u64::from(self.piece_bytes)).min(self.length);
        (start < end).then_some(start..end)
    }

    /// How long a piece is, in bytes; none when there is no such piece.
    pub fn bytes_of(&self, piece: u32) -> Option<u32> {
        let range = self.range(piece)?;
        u32::try_from(range.end - range.start).ok()
    }

    /// The piece that has the byte at `offset`; none behind the blob's end.
    pub fn piece_at(&self, offset: u64) -> Option<u32> {
        if offset >= self.length {
            return None;
        }
        u32::try_from(offset / u64::from(self.piece_bytes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_of_pieces() {
        let cut = |length| Layout::of(length).map(|layout| (layout.pieces(), layout.piece_bytes()));
        let mib = 1024 * 1024;
        assert_eq!(cut(0), Ok((0, 65_536)));
        assert_eq!(cut(1), Ok((1, 65_536)));
        assert_eq!(cut(64 * mib), Ok((512, 131_072)));
        assert_eq!(cut(1024 * mib), Ok((512, 2_097_152)));
        assert_eq!(cut(BLOB_BYTES_MAX), Ok((PIECES_MAX, 4_194_304)));
        assert_eq!(cut(BLOB_BYTES_MAX + 1), Err(LayoutError { length: BLOB_BYTES_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn pieces_lie_side_by_side(length in prop_oneof![0..3_000_000_u64, 0..=BLOB_BYTES_MAX], at in any::<u64>()) {
            let layout = Layout::of(length).unwrap();
            let (pieces, mut end) = (layout.pieces(), 0);
            for piece in 0..pieces.min(2_000) {
                let range = layout.range(piece).unwrap();
                prop_assert_eq!(range.start, end);
                prop_assert_eq!(u64::from(layout.bytes_of(piece).unwrap()), range.end - range.start);
                end = range.end;
            }
            prop_assert!(pieces > 2_000 || end == length);
            prop_assert_eq!(layout.range(pieces), None);
            let at = at % (length + 1);
            prop_assert_eq!(layout.piece_at(at).map(|piece| layout.range(piece).unwrap().contains(&at)), (at < length).then_some(true));
        }
    }
}
