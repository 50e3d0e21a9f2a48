//! What the hub lets the other side of a connection have, as far as it has shown it there.

use std::collections::BTreeMap;

use api::Micros;
use oci::Digest;

use crate::grant::Grant;
use crate::piece::{Layout, Root};

/// Blobs that one connection may have rights to; what is beyond that is not exchanged on it.
const BLOBS_MAX: usize = 16_384;

/// What a grant says of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) root: Root,
    pub(super) layout: Layout,
    expires_at: Micros,
}

/// Rights by blob, and by the image whose grant gave them.
#[derive(Debug, Default)]
pub(super) struct Rights(BTreeMap<Digest, BTreeMap<Digest, Right>>);

impl Rights {
    /// A grant was verified and is its holder's. It replaces an earlier one for the same image.
    pub(super) fn shown(&mut self, grant: &Grant) {
        self.0.retain(|_, rights| {
            rights.retain(|image, right| *image != grant.image.digest && right.expires_at > grant.issued_at);
            !rights.is_empty()
        });
        for blob in &grant.blobs {
            let Ok(layout) = blob.layout() else { continue };
            if self.0.len() < BLOBS_MAX || self.0.contains_key(&blob.digest) {
                let right = Right { root: blob.root, layout, expires_at: grant.expires_at };
                self.0.entry(blob.digest).or_default().insert(grant.image.digest, right);
            }
        }
    }

    /// Whether a blob with this root is granted now.
    pub(super) fn allow(&self, digest: Digest, root: Root, now: Micros) -> bool {
        let rights = self.0.get(&digest);
        rights.is_some_and(|rights| rights.values().any(|right| right.root == root && now < right.expires_at))
    }

    /// All that is granted now.
    pub(super) fn all(&self, now: Micros) -> impl Iterator<Item = (Digest, Right)> + '_ {
        let rights = self.0.iter().flat_map(|(digest, rights)| rights.values().map(|right| (*digest, *right)));
        rights.filter(move |(_, right)| now < right.expires_at)
    }

    /// Whether anything is.
    pub(super) fn is_any(&self, now: Micros) -> bool {
        self.all(now).next().is_some()
    }
}
