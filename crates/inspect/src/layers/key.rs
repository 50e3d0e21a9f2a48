//! The keyed hash of paths.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;

/// Bits of a value that say something other than the path.
pub(super) const STATE_BITS: u32 = 3;

/// The key of a layer's path hashes. It is a secret: whoever has it can make paths that hide others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PathKey([u8; 16]);

impl PathKey {
    /// A new one from the operating system's randomness, which the standard library hands out through its own keyed hash.
    pub fn random() -> Self {
        let mut key = [0; 16];
        for half in key.as_chunks_mut::<8>().0 {
            *half = RandomState::new().hash_one(0_u64).to_le_bytes();
        }
        Self(key)
    }

    /// One that was kept.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// To be kept beside the tree, where no one else reads it.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    pub(super) fn hasher(self) -> PathHasher {
        PathHasher(SipHasher13::new_with_key(&self.0))
    }
}

impl fmt::Debug for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PathKey(…)")
    }
}

/// Hashes a path piece by piece; what has been hashed so far can be asked for at each.
#[derive(Clone)]
pub(super) struct PathHasher(SipHasher13);

impl PathHasher {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The hash, with the lowest bits free.
    pub(super) fn value(&self) -> u64 {
        self.0.finish() >> STATE_BITS << STATE_BITS
    }
}
