//! The agent's pieces on disk: blobs by digest, whole or on their way, with their trees, and what is known of images.
//!
//! Invariants:
//! - No piece is kept before the tree has verified it, and no blob counts as whole before its own digest has been verified.
//! - What this process has not seen right itself is verified before it is given to anyone: pieces after a restart, too.
//! - A blob is fetched once, whichever images have it. What is pinned, read or fetched never goes; of the rest the least
//!   recently used goes first.
//! - `kill -9` costs no piece, a loss of power those that were not yet on disk. Opening repairs, and may be killed meanwhile.
//! - Every path is made from a digest.

mod blob;
mod error;
mod fill;
mod folders;
mod images;
mod journal;
mod open;
mod read;
mod shelf;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oci::{Digest, RepositoryName, Tag};
use tokio::sync::watch;

use self::blob::{At, Blob};
pub use self::error::StoreError;
pub use self::fill::{Fill, FillBegun};
pub use self::images::{ImageHeld, ImageRecord};
pub use self::read::{BlobRead, HELD_BACK_BYTES, STALL_SECONDS_MAX};
use self::shelf::Inner;
use crate::piece::{PieceSet, PieceTree};

/// How often it is tried to make a blob whole whose pieces are all there, and the pause between, in seconds: together as long
/// as readers wait for what does not come.
const FINISH_TRIES_MAX: u64 = STALL_SECONDS_MAX / FINISH_PAUSE_SECONDS;
const FINISH_PAUSE_SECONDS: u64 = 5;

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Another agent.
    Peer,
    /// The hub.
    Hub,
}

/// Bytes by where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// From other agents.
    pub peers: u64,
    /// From the hub.
    pub hub: u64,
    /// They were here already.
    pub disk: u64,
}

impl Counts {
    fn add(&mut self, source: Source, bytes: u64) {
        match source {
            Source::Peer => self.peers += bytes,
            Source::Hub => self.hub += bytes,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.peers + self.hub + self.disk
    }
}

/// How far a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Nobody fetches it.
    Dormant,
    /// It is being fetched.
    Arriving,
    /// It is there, its digest verified.
    Whole,
    /// It was being fetched, and is not any more; this is why.
    GivenUp(Arc<str>),
}

/// What is there of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Pieces that are there.
    pub pieces: u32,
    /// Bytes that are there.
    pub bytes: u64,
    /// How far it is.
    pub stage: Stage,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKept {
    /// It is not that piece: whoever gave it lied. Nothing was kept.
    Wrong,
    /// It was there already.
    Already,
    /// It is kept, others are missing.
    Kept,
    /// It is kept, and was the last one: what is left is to verify the digest and to have all of it on disk.
    Last,
    /// It was the last one: the blob is whole, its digest verified, and on disk.
    Whole,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What it may hold, in bytes.
    pub budget_bytes: u64,
    /// What it holds and has promised room for, in bytes.
    pub used_bytes: u64,
    /// Of that, what may not go now.
    pub kept_bytes: u64,
    /// Blobs that are whole.
    pub blobs_whole: usize,
    /// Blobs that are not.
    pub blobs_unfinished: usize,
}

/// A blob does not go as long as this is there.
#[derive(Clone)]
pub struct Hold(Arc<Blob>);

impl Hold {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.0.length
    }

    /// What is there of it now.
    pub fn progress(&self) -> Progress {
        self.0.progress.borrow().clone()
    }

    /// Follows it.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }
}

/// The pieces on disk. One process uses a folder at a time, which is the caller's care.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Opens a folder, which is made when it is missing, and repairs what a crash left. Keeps at most `budget_bytes`, trees
    /// and manifests aside.
    ///
    /// # Errors
    /// The folder cannot be used, or is of a later version.
    pub async fn open(folder: &Path, budget_bytes: u64) -> Result<Self, StoreError> {
        let folder = folder.to_owned();
        let inner = tokio::task::spawn_blocking(move || open::open(&folder, budget_bytes)).await;
        Ok(Self(Arc::new(inner.map_err(|_| StoreError::Interrupted)??)))
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| StoreError::Interrupted)?
    }

    fn blob(&self, digest: &Digest) -> Result<Arc<Blob>, StoreError> {
        self.0.find(digest).ok_or(StoreError::NotFound { digest: *digest })
    }

    /// Begins a blob, or goes on with what is there of it, every piece verified by `tree`. Look at the hold's progress:
    /// the blob may be whole already, or come from the hub in one run ([`Store::fill`]), which ends by itself.
    ///
    /// # Errors
    /// [`StoreError::BudgetFull`]; [`StoreError::OtherTree`] while another tree is in use for the blob, or when this one
    /// is of another length than the blob that is there.
    pub async fn begin(&self, digest: Digest, tree: PieceTree) -> Result<Hold, StoreError> {
        self.blocking(move |inner| {
            let blob = inner.room_for(digest, tree.layout().length())?;
            let begun = {
                let _turn = blob.turn();
                match blob.at() {
                    At::Arriving(arriving) if arriving.tree.root() != tree.root() => {
                        Err(StoreError::OtherTree { digest })
                    }
                    At::Arriving(_) | At::Filling | At::Whole(_) => Ok(()),
                    At::Dormant => blob.begin(&inner.folders, tree),
                }
            };
            begun.inspect_err(|_error| inner.forget(&blob))?;
            inner.touch(&blob);
            Ok(Hold(blob))
        })
        .await
    }

    /// Holds a blob that is whole or on its way.
    pub fn hold(&self, digest: &Digest) -> Option<Hold> {
        self.0.find(digest).filter(|blob| !matches!(blob.at(), At::Dormant)).map(Hold)
    }

    /// Keeps a piece of a blob that was begun, after the tree has verified it, so that it can be given on at once. After the
    /// last one the blob becomes whole by itself, or is given up: look at its progress.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the blob was not begun; [`StoreError::NoSpace`], after which the same piece may come
    /// again.
    pub async fn piece_keep(
        &self,
        digest: Digest,
        piece: u32,
        bytes: Bytes,
        source: Source,
    ) -> Result<PieceKept, StoreError> {
        let blob = self.blob(&digest)?;
        let kept = self.keep(&blob, piece, bytes, source).await?;
        if kept == PieceKept::Last {
            tokio::spawn(self.clone().finish_by_itself(Hold(blob)));
        }
        Ok(kept)
    }

    async fn keep(&self, blob: &Arc<Blob>, piece: u32, bytes: Bytes, source: Source) -> Result<PieceKept, StoreError> {
        let kept = Arc::clone(blob);
        let (kept, due) = self.blocking(move |inner| kept.piece_keep(&inner.folders, piece, &bytes, source)).await?;
        if let Some(arriving) = due {
            let blob = Arc::clone(blob);
            // Its outcome is in the blob.
            drop(tokio::task::spawn_blocking(move || blob.sync(&arriving)));
        }
        Ok(kept)
    }

    /// Tries until it is whole, given up, or the disk has failed for so long that those who read it would wait no more.
    async fn finish_by_itself(self, held: Hold) {
        let digest = held.digest();
        for _ in 0..FINISH_TRIES_MAX {
            match self.finish(held.0.clone()).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => return,
                Err(error) => tracing::warn!(%digest, %error, "a blob whose pieces are all here is not whole"),
            }
            tokio::time::sleep(Duration::from_secs(FINISH_PAUSE_SECONDS)).await;
        }
        if let At::Arriving(arriving) = held.0.at() {
            held.0.arriving_end(&arriving, "the disk does not take it");
        }
    }

    async fn finish(&self, blob: Arc<Blob>) -> Result<(), StoreError> {
        self.blocking(move |inner| blob.finish_full(&inner.folders)).await
    }

    /// As [`Store::piece_keep`], but waits until the blob is whole after its last piece: its digest is verified then, always.
    ///
    /// # Errors
    /// As there, also where all pieces are there and the blob was not whole yet; [`StoreError::DigestMismatch`] when the tree
    /// was of other bytes: the blob is then begun no more.
    pub async fn piece_write(
        &self,
        digest: Digest,
        piece: u32,
        bytes: Bytes,
        source: Source,
    ) -> Result<PieceKept, StoreError> {
        let blob = self.blob(&digest)?;
        match self.keep(&blob, piece, bytes, source).await? {
            PieceKept::Last => {}
            // Also after an end that failed for want of room.
            PieceKept::Already if blob.is_full() => {}
            kept => return Ok(kept),
        }
        self.finish(blob).await?;
        Ok(PieceKept::Whole)
    }

    /// A piece that is there.
    ///
    /// # Errors
    /// [`StoreError::PieceMissing`], [`StoreError::NotFound`]; [`StoreError::Damaged`] when the disk gave other bytes than
    /// were kept: the blob has to be begun again.
    pub async fn piece_read(&self, digest: Digest, piece: u32) -> Result<Bytes, StoreError> {
        let blob = self.blob(&digest)?;
        self.blocking(move |inner| blob.run_read(&inner.folders, piece, 0)).await
    }

    /// The pieces that can be read of a blob that was begun or is whole.
    pub fn pieces(&self, digest: &Digest) -> Option<PieceSet> {
        self.0.find(digest)?.pieces()
    }

    /// The tree of a blob that was begun or is whole. That of a blob that came without one was made from its verified bytes:
    /// compare roots before anything is given on.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn tree(&self, digest: Digest) -> Result<Arc<PieceTree>, StoreError> {
        let blob = self.blob(&digest)?;
        self.blocking(move |inner| blob.tree(&inner.folders)).await
    }

    /// What is there of a blob; none when nothing is known of it.
    pub fn progress(&self, digest: &Digest) -> Option<Progress> {
        Some(self.0.find(digest)?.progress.borrow().clone())
    }

    /// Follows a blob.
    pub fn watch(&self, digest: &Digest) -> Option<watch::Receiver<Progress>> {
        Some(self.0.find(digest)?.progress.subscribe())
    }

    /// Whether the blob is there, its digest verified.
    pub fn is_whole(&self, digest: &Digest) -> bool {
        self.0.find(digest).is_some_and(|blob| blob.is_whole())
    }

    /// Says that nobody fetches a blob any more: those who wait for it are told `why`. What is there of it stays, until it is
    /// begun again or has to make room.
    pub async fn give_up(&self, digest: Digest, why: String) -> Result<(), StoreError> {
        let Some(blob) = self.0.find(&digest) else { return Ok(()) };
        self.blocking(move |_inner| {
            let _turn = blob.turn();
            if matches!(blob.at(), At::Arriving(_)) {
                blob.dormant_set(&why);
            }
            Ok(())
        })
        .await
    }

    /// Bytes of a blob by where they came from, since this process opened the store.
    pub fn counts(&self, digest: &Digest) -> Option<Counts> {
        Some(self.0.find(digest)?.counts())
    }

    /// What the store holds.
    pub fn usage(&self) -> Usage {
        self.0.usage()
    }

    /// How long a blob is, in bytes: as it is here, or as a manifest says that is known.
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        self.0
            .find(digest)
            .map(|blob| blob.length)
            .or_else(|| self.0.image_with(digest, None).map(|(_, length)| length))
    }

    /// An image of the repository that has the blob, the one that was used last.
    pub fn image_of(&self, blob: &Digest, repository: &RepositoryName) -> Option<Digest> {
        self.0.image_with(blob, Some(repository)).map(|(image, _length)| image)
    }

    /// Keeps what is known of an image, in place of what was kept before; a grant stays until another comes.
    ///
    /// # Errors
    /// [`StoreError::Manifest`] when the manifest is not what its digest says; [`StoreError::NoSpace`].
    pub async fn image_keep(&self, record: ImageRecord) -> Result<(), StoreError> {
        self.blocking(move |inner| inner.image_keep(record)).await
    }

    /// What is known of an image or an index.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub async fn image(&self, digest: Digest) -> Result<Option<ImageRecord>, StoreError> {
        self.blocking(move |inner| inner.image(&digest)).await
    }

    /// All images, with what is there of them; by digest.
    pub fn images(&self) -> Vec<ImageHeld> {
        self.0.images()
    }

    /// These images, and all that belongs to them, do not go: what runs and what may be rolled back to. Replaces what was
    /// pinned before, and outlives the process.
    ///
    /// # Errors
    /// It cannot be written down; what was pinned before still is.
    pub async fn pin(&self, images: BTreeSet<Digest>) -> Result<(), StoreError> {
        self.blocking(move |inner| inner.pin(images)).await
    }

    /// Remembers which image a tag was, for when the hub is away.
    ///
    /// # Errors
    /// It cannot be written down.
    pub async fn tag_keep(&self, repository: RepositoryName, tag: Tag, digest: Digest) -> Result<(), StoreError> {
        self.blocking(move |inner| inner.tag_keep(&repository, &tag, digest)).await
    }

    /// Which image a tag was when the hub was asked last.
    pub fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Option<Digest> {
        self.0.tag(repository, tag)
    }
}
