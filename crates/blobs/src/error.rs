//! What can go wrong with a blob.

use std::io;
use std::path::PathBuf;

use oci::{Digest, UploadName};

use crate::{BLOB_BYTES_MAX, UPLOADS_OPEN_MAX};

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("blob {digest} is not there")]
    NotFound {
        /// The blob asked for.
        digest: Digest,
    },
    /// The bytes are others than were announced.
    #[error("the bytes sent have the digest {found}, not {expected}; nothing was kept, send them again")]
    DigestMismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Box<Digest>,
    },
    /// There is no such upload.
    #[error("upload {upload} is not there: it ended, expired or never was; begin a new one")]
    UploadUnknown {
        /// The upload asked for.
        upload: UploadName,
    },
    /// Two at once.
    #[error("upload {upload} is being written by another request; wait for it, then ask where to go on")]
    UploadBusy {
        /// The upload.
        upload: UploadName,
    },
    /// A gap or an overlap.
    #[error("upload {upload} has {size} bytes, the chunk begins at {offset}; go on at {size}")]
    OffsetMismatch {
        /// The upload.
        upload: UploadName,
        /// Where the chunk begins.
        offset: u64,
        /// Where it must begin.
        size: u64,
    },
    /// Nothing of the range is there.
    #[error("blob {digest} has {size} bytes, the range begins behind them")]
    RangeUnsatisfiable {
        /// The blob.
        digest: Digest,
        /// Its length.
        size: u64,
    },
    /// Over [`BLOB_BYTES_MAX`].
    #[error("a blob has at most {BLOB_BYTES_MAX} bytes")]
    TooLarge,
    /// Over [`UPLOADS_OPEN_MAX`].
    #[error("{UPLOADS_OPEN_MAX} uploads are under way, which is the most; try again when some have ended")]
    TooManyUploads,
    /// The bytes stopped coming.
    #[error("the bytes stopped coming; what arrived is kept where the upload can be resumed")]
    Body(#[source] io::Error),
    /// The disk is full.
    #[error("there is no space left for {}; make room on that file system and push again", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A later version wrote this folder.
    #[error("{} is of the format \"{found}\", which this version cannot read; start the version that wrote it", path.display())]
    UnknownFormat {
        /// The store's folder.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// The file system failed.
    #[error("could not {action} {}; see to that file system's health and rights, then try again", path.display())]
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

/// What an error means to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobErrorKind {
    /// A blob or upload is not there.
    NotFound,
    /// The request cannot be right.
    Invalid,
    /// It does not fit what is there now.
    Conflict,
    /// Over a limit.
    Limit,
    /// The sender failed.
    Client,
    /// The store failed.
    Storage,
}

impl BlobError {
    /// What it means to a caller.
    pub fn kind(&self) -> BlobErrorKind {
        match self {
            BlobError::NotFound { .. } | BlobError::UploadUnknown { .. } => BlobErrorKind::NotFound,
            BlobError::DigestMismatch { .. } => BlobErrorKind::Invalid,
            BlobError::UploadBusy { .. } | BlobError::OffsetMismatch { .. } | BlobError::RangeUnsatisfiable { .. } => {
                BlobErrorKind::Conflict
            }
            BlobError::TooLarge | BlobError::TooManyUploads => BlobErrorKind::Limit,
            BlobError::Body(_) => BlobErrorKind::Client,
            BlobError::NoSpace { .. }
            | BlobError::UnknownFormat { .. }
            | BlobError::Io { .. }
            | BlobError::Interrupted => BlobErrorKind::Storage,
        }
    }

    /// An error of the file system at `path`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> BlobError {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::NoSpace { path, source },
            _ => BlobError::Io { action, path, source },
        }
    }
}
