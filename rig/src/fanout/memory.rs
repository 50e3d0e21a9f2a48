//! A blob that all hosts of a rig share: each has a set of its pieces, whose bytes are in memory once.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use fanout::peers::{Pieces, Who, Written};
use fanout::piece::{Layout, LayoutError, PieceSet, PieceTree, Root, TreeBuilder};
use oci::Digest;

/// A blob with its tree.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes.
    pub bytes: Bytes,
    /// Their digest.
    pub digest: Digest,
    /// The hashes of its pieces.
    pub tree: PieceTree,
}

impl Blob {
    /// A blob of these bytes.
    ///
    /// # Errors
    /// They are too many.
    pub fn new(bytes: Bytes) -> Result<Self, LayoutError> {
        let layout = Layout::of(bytes.len() as u64)?;
        let mut tree = TreeBuilder::new(layout);
        tree.update(&bytes);
        let tree = tree.finish().map_err(|_| LayoutError { length: bytes.len() as u64 })?;
        Ok(Self { digest: Digest::sha256_of(&bytes), bytes, tree })
    }

    /// One of its pieces.
    pub fn piece(&self, piece: u32) -> Option<Bytes> {
        let range = self.tree.layout().range(piece)?;
        Some(self.bytes.slice(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?))
    }
}

/// How a host treats the pieces that it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// As they are.
    Right,
    /// With a wrong byte.
    Wrong,
    /// Never.
    Nothing,
}

/// The pieces of one host.
#[derive(Debug)]
pub struct Memory {
    blob: Arc<Blob>,
    have: Mutex<PieceSet>,
    gives: Gives,
}

impl Memory {
    /// A host that has these pieces of a blob.
    pub fn new(blob: Arc<Blob>, have: PieceSet, gives: Gives) -> Self {
        Self { blob, have: Mutex::new(have), gives }
    }

    /// What it has now.
    pub fn have(&self) -> PieceSet {
        self.have.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Pieces for Memory {
    async fn read(&self, digest: Digest, piece: u32) -> io::Result<Bytes> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        if digest != self.blob.digest || !self.have().contains(piece) {
            return Err(missing());
        }
        let bytes = self.blob.piece(piece).ok_or_else(missing)?;
        match self.gives {
            Gives::Right => Ok(bytes),
            Gives::Wrong => {
                let mut wrong = bytes.to_vec();
                wrong.iter_mut().take(1).for_each(|byte| *byte ^= 1);
                Ok(wrong.into())
            }
            Gives::Nothing => std::future::pending().await,
        }
    }

    async fn write(&self, digest: Digest, piece: u32, bytes: Bytes, _: &Who) -> io::Result<Written> {
        if digest != self.blob.digest || !self.blob.tree.verifies(piece, &bytes) {
            return Ok(Written::Wrong);
        }
        self.have.lock().unwrap_or_else(PoisonError::into_inner).insert(piece);
        Ok(Written::Kept)
    }

    async fn tree(&self, digest: Digest) -> io::Result<Bytes> {
        if digest != self.blob.digest {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(self.blob.tree.to_bytes().into())
    }

    async fn offered(&self, digest: Digest, root: Root, layout: Layout) -> Option<PieceSet> {
        let is_it = (digest, root, layout) == (self.blob.digest, self.blob.tree.root(), self.blob.tree.layout());
        is_it.then(|| self.have())
    }
}
