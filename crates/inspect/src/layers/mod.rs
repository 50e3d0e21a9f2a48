//! What of a layer the layers above it leave visible.
//!
//! Each layer comes down to one sorted list of 64-bit values, one for each path that it touches, so that a layer of three
//! million files takes 24 MB and none of them an allocation. Layers are walked independently of each other and put
//! together afterwards, by asking for the paths where something was found.
//!
//! The rules are those of overlayfs with each layer unpacked into its own directory, as Docker and containerd do it:
//! - A path that a layer has is the layer's, whatever the layers below have there; directories are merged.
//! - What is no directory hides all that layers below have under its path. A whiteout is such a thing too. Where the same
//!   layer has a directory of that name, there is no whiteout.
//! - An opaque directory hides all that layers below have in it.
//! - Directories above an entry that have no entry of their own are made.
//!
//! Within a layer the last entry of a name counts (a18: a symlink, then a directory of the same name). A directory that
//! is replaced by something else and then made anew, or a path that leads through what is no directory, leaves a state
//! that depends on the unpacker: such a path is unsettled, and hides nothing of what lies below it. Where it is doubtful
//! whether something is hidden, it is visible.
//!
//! # Hashes
//!
//! A path stands for itself by 61 bits of SipHash-1-3 under a key. Two paths with one hash would let a layer hide a path
//! that it does not have, so whoever makes an image must not be able to find such paths: with a key that is known that
//! takes 2^31 trials. The key is therefore chosen at random, kept with the tree and never shown ([`PathKey::random`]).
//! What is left is chance: that any of a million findings in a path of ten components meets any of three million paths
//! of another layer happens once in 75,000 images.

mod key;
#[cfg(test)]
mod tests;
mod tree;

pub use key::PathKey;
pub use tree::{LayerError, LayerTree, PATHS_MAX, Recorded, TreeBuilder};

use crate::path::CleanPath;

/// The first of the layers above, lowest first, that hides what a layer has at `path`, which is not a directory.
pub fn hidden_by<'t>(path: &CleanPath<'_>, above: impl IntoIterator<Item = &'t LayerTree>) -> Option<usize> {
    above.into_iter().position(|layer| layer.hides(path))
}

/// Whether what a layer has at `path`, which is not a directory, is still there under the layers above.
pub fn visible<'t>(path: &CleanPath<'_>, above: impl IntoIterator<Item = &'t LayerTree>) -> bool {
    hidden_by(path, above).is_none()
}
