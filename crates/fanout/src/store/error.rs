//! What can go wrong with the pieces on disk.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

use crate::piece::LayoutError;

/// Why a blob, a piece or an image could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such blob, or nothing is done about it now.
    #[error("blob {digest} is not there; it has to be fetched first")]
    NotFound {
        /// The blob.
        digest: Digest,
    },
    /// The blob is there in part, and this piece is not.
    #[error("piece {piece} of blob {digest} is not there yet")]
    PieceMissing {
        /// The blob.
        digest: Digest,
        /// The piece.
        piece: u32,
    },
    /// Nothing of the range is in the blob.
    #[error("blob {digest} has {length} bytes, the range begins behind them")]
    RangeUnsatisfiable {
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        length: u64,
    },
    /// Two trees of one blob differ, so one of them is wrong.
    #[error("blob {digest} is being fetched by another tree of hashes than this one; ask the hub for a new grant")]
    OtherTree {
        /// The blob.
        digest: Digest,
    },
    /// Every piece was the tree's, and the whole is not what its digest says: the tree is wrong.
    #[error(
        "the bytes fetched for {digest} have the digest {found}: the tree of hashes was of another blob; nothing was kept, \
         pull it from the hub"
    )]
    DigestMismatch {
        /// What was wanted.
        digest: Digest,
        /// What came.
        found: Box<Digest>,
    },
    /// More or fewer bytes came than the blob has.
    #[error("blob {digest} has {length} bytes, {found} came; nothing was kept, fetch it again")]
    LengthMismatch {
        /// The blob.
        digest: Digest,
        /// The length that was announced.
        length: u64,
        /// What came.
        found: u64,
    },
    /// The disk gave other bytes than were kept.
    #[error("blob {digest} is damaged on this disk at piece {piece}; that piece is fetched again with the next pull")]
    Damaged {
        /// The blob.
        digest: Digest,
        /// The first piece that is wrong.
        piece: u32,
    },
    /// A blob that cannot be cut.
    #[error(transparent)]
    TooLong(#[from] LayoutError),
    /// What may not go leaves no room.
    #[error(
        "a blob of {length} bytes does not fit: of {budget} bytes that the agent may keep, {kept} are in use by what runs, \
         may be rolled back to, or is being pulled; give it more with --store-bytes-max"
    )]
    BudgetFull {
        /// The blob's length in bytes.
        length: u64,
        /// What the store may keep, in bytes.
        budget: u64,
        /// Bytes that cannot go.
        kept: u64,
    },
    /// The disk is full.
    #[error("there is no space left for {}; make room on that file system, the pull then goes on", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A manifest that is none, or not the one that its digest says.
    #[error("the manifest {digest} cannot be kept: {why}")]
    Manifest {
        /// The image.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// A later version wrote this folder.
    #[error(
        "{} is of the format \"{found}\", which this version cannot read; start the version that wrote it, or remove the \
         folder: what it holds is fetched again", path.display()
    )]
    UnknownFormat {
        /// The store's folder.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// The file system failed.
    #[error("could not {action} {}: {source}; see to that file system's health and rights, then try again", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A thread of the store ended early.
    #[error("the store could not finish its work; see the log for the cause, then try again")]
    Interrupted,
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, source },
            _ => Self::Io { action, path, source },
        }
    }
}
