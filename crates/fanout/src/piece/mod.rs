//! A blob in pieces: how it is cut, which of them are there, and the tree of hashes that tells a right piece from a
//! wrong one before the whole blob is there.

mod layout;
mod set;
mod tree;

pub use layout::{BLOB_BYTES_MAX, Layout, LayoutError, PIECE_BYTES_MAX, PIECES_MAX};
pub use set::{PieceSet, PieceSetError};
pub use tree::{HASH_BYTES, PieceTree, Root, TreeBuilder, TreeError};
