//! The tree of hashes over a blob's pieces: RFC 6962's Merkle tree (section 2.1) with SHA-256, a leaf for each piece. The
//! hub makes it from bytes whose digest it has verified, and binds its root to that digest by its signature in grants.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::layout::{Layout, PIECES_MAX};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;
/// What stands before a piece, so that no node can be taken for a leaf.
const LEAF: u8 = 0;
/// What stands before two hashes.
const NODE: u8 = 1;

/// The hash at a tree's root.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Root(pub [u8; HASH_BYTES]);

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why leaves are no tree of a blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Too many leaves or too few.
    #[error("a blob of {pieces} pieces has as many hashes, not {found} bytes of them")]
    Length {
        /// Pieces of the blob.
        pieces: u32,
        /// Bytes found.
        found: usize,
    },
    /// The leaves lead to another root.
    #[error("the hashes are not those that the hub signed")]
    Root,
}

/// The hashes of a blob's pieces.
#[derive(Clone, PartialEq, Eq)]
pub struct PieceTree {
    layout: Layout,
    leaves: Box<[[u8; HASH_BYTES]]>,
    root: Root,
}

impl fmt::Debug for PieceTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceTree({} pieces, {:?})", self.leaves.len(), self.root)
    }
}

impl PieceTree {
    /// A tree from its leaves one after the other, as [`PieceTree::to_bytes`] gives them.
    ///
    /// # Errors
    /// They are too many or too few, or do not lead to `root`.
    pub fn from_bytes(layout: Layout, root: Root, bytes: &[u8]) -> Result<Self, TreeError> {
        let (leaves, rest) = bytes.as_chunks::<HASH_BYTES>();
        if leaves.len() != layout.pieces() as usize || !rest.is_empty() {
            return Err(TreeError::Length { pieces: layout.pieces(), found: bytes.len() });
        }
        let tree = Self::new(layout, leaves.into());
        if tree.root == root { Ok(tree) } else { Err(TreeError::Root) }
    }

    fn new(layout: Layout, leaves: Box<[[u8; HASH_BYTES]]>) -> Self {
        let root = Root(root_of(&leaves));
        Self { layout, leaves, root }
    }

    /// How the blob is cut.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The root.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The leaves one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.leaves.concat()
    }

    /// Whether these bytes are that piece.
    pub fn verifies(&self, piece: u32, bytes: &[u8]) -> bool {
        let is_long_enough = self.layout.bytes_of(piece).is_some_and(|length| length as usize == bytes.len());
        is_long_enough && self.leaves.get(piece as usize).is_some_and(|leaf| *leaf == leaf_of(bytes))
    }
}

/// Makes a tree of a blob that is read from its beginning to its end.
#[derive(Debug)]
pub struct TreeBuilder {
    layout: Layout,
    leaves: Vec<[u8; HASH_BYTES]>,
    current: Sha256,
    /// Bytes in `current`.
    filled: u64,
}

impl TreeBuilder {
    /// For a blob of this layout.
    pub fn new(layout: Layout) -> Self {
        let leaves = Vec::with_capacity(layout.pieces().min(PIECES_MAX) as usize);
        Self { layout, leaves, current: leaf_begin(), filled: 0 }
    }

    /// The next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let piece_bytes = u64::from(self.layout.piece_bytes());
        while !bytes.is_empty() {
            let room = usize::try_from(piece_bytes - self.filled).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.current.update(now);
            self.filled += now.len() as u64;
            bytes = rest;
            if self.filled == piece_bytes {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let done = std::mem::replace(&mut self.current, leaf_begin());
        self.filled = 0;
        // One more than the layout has is enough to tell that the blob is too long.
        if self.leaves.len() <= self.layout.pieces() as usize {
            self.leaves.push(done.finalize().into());
        }
    }

    /// The tree.
    ///
    /// # Errors
    /// The blob had another length than the layout's.
    pub fn finish(mut self) -> Result<PieceTree, TreeError> {
        let last = self.layout.length() % u64::from(self.layout.piece_bytes());
        let is_whole = self.filled == last;
        if self.filled > 0 {
            self.close();
        }
        let pieces = self.layout.pieces();
        if !is_whole || self.leaves.len() != pieces as usize {
            return Err(TreeError::Length { pieces, found: self.leaves.len() * HASH_BYTES });
        }
        Ok(PieceTree::new(self.layout, self.leaves.into_boxed_slice()))
    }
}

fn leaf_begin() -> Sha256 {
    let mut hasher = Sha256::new();
    hasher.update([LEAF]);
    hasher
}

fn leaf_of(bytes: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = leaf_begin();
    hasher.update(bytes);
    hasher.finalize().into()
}

/// RFC 6962: the left half is the largest power of two of leaves that is less than all.
fn root_of(leaves: &[[u8; HASH_BYTES]]) -> [u8; HASH_BYTES] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            let mut hasher = Sha256::new();
            hasher.update([NODE]);
            hasher.update(root_of(left));
            hasher.update(root_of(right));
            hasher.finalize().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The roots of the first leaves of RFC 6962's reference implementation: empty, then of the leaves "", 00, 10.
    #[test]
    fn roots_as_certificate_transparency_has_them() {
        let hex = |bytes: [u8; 32]| format!("{:?}", Root(bytes));
        assert_eq!(hex(root_of(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let leaves = [leaf_of(b""), leaf_of(b"\x00"), leaf_of(b"\x10")];
        assert_eq!(hex(root_of(&leaves[..1])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(hex(root_of(&leaves[..2])), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        assert_eq!(hex(root_of(&leaves)), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
    }

    proptest! {
        #[test]
        fn only_the_right_bytes_are_a_piece(
            length in 0..700_000_usize, chunk in 1..200_000_usize, wrong in any::<(usize, u8)>(),
        ) {
            let blob: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let layout = Layout::of(length as u64).unwrap();
            let mut builder = TreeBuilder::new(layout);
            blob.chunks(chunk).for_each(|chunk| builder.update(chunk));
            let tree = builder.finish().unwrap();
            for piece in 0..layout.pieces() {
                let range = layout.range(piece).unwrap();
                let mut bytes = blob[range.start as usize..range.end as usize].to_vec();
                prop_assert!(tree.verifies(piece, &bytes));
                prop_assert!(!tree.verifies(piece, &bytes[1..]));
                let at = wrong.0 % bytes.len();
                bytes[at] ^= wrong.1.max(1);
                prop_assert!(!tree.verifies(piece, &bytes));
            }
            prop_assert!(!tree.verifies(layout.pieces(), &[]));
            let bytes = tree.to_bytes();
            prop_assert_eq!(PieceTree::from_bytes(layout, tree.root(), &bytes).unwrap(), tree.clone());
            if length > 0 {
                let mut other = bytes.clone();
                let at = wrong.0 % other.len();
                other[at] ^= wrong.1.max(1);
                prop_assert_eq!(PieceTree::from_bytes(layout, tree.root(), &other), Err(TreeError::Root));
                prop_assert!(PieceTree::from_bytes(layout, tree.root(), &bytes[1..]).is_err());
            }
        }

        #[test]
        fn a_blob_of_another_length_has_no_tree(length in 1..400_000_u64, given in 0..400_000_usize) {
            let mut builder = TreeBuilder::new(Layout::of(length).unwrap());
            builder.update(&vec![7; given]);
            prop_assert_eq!(builder.finish().is_ok(), given as u64 == length);
        }
    }
}
