//! Why an archive, or a part of it, cannot be read.

use std::{fmt, io};

use super::budget::OverLimit;

/// What was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A zip archive.
    Zip,
    /// An ar archive.
    Ar,
    /// A cpio archive.
    Cpio,
    /// An RPM package file.
    Rpm,
    /// A Debian package file.
    Deb,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with xz.
    Xz,
    /// Compressed with LZMA, in the form that came before xz.
    Lzma,
    /// Compressed with zstd.
    Zstd,
    /// Compressed with bzip2.
    Bzip2,
    /// Deflate data without a frame, as in zip.
    Deflate,
    /// Not compressed, as in zip.
    Stored,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "zip",
            Self::Ar => "ar",
            Self::Cpio => "cpio",
            Self::Rpm => "rpm",
            Self::Deb => "deb",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Deflate => "deflate",
            Self::Stored => "stored",
        })
    }
}

/// Why something was not read, or not to its end. Whatever it is, what it was about counts as unexamined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not what its format says.
    #[error("{format}: {why}, at byte {at}")]
    Broken {
        /// What was being read.
        format: Format,
        /// Where, in bytes from its start; of compressed data, in its compressed bytes.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// It may be right, but is of a kind that is not read.
    #[error("{format}: {what} {number} is not read")]
    Unsupported {
        /// What was being read.
        format: Format,
        /// What is unknown, as in "compression method".
        what: &'static str,
        /// Its number in the format.
        number: u64,
    },
    /// It is encrypted.
    #[error("{format}: it is encrypted")]
    Encrypted {
        /// What was being read.
        format: Format,
    },
    /// It would cost more than is allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The bytes themselves could not be had.
    #[error("reading failed: {0}")]
    Read(io::ErrorKind),
}

impl Error {
    pub(super) const fn broken(format: Format, at: u64, why: &'static str) -> Self {
        Self::Broken { format, at, why }
    }

    /// What a read of `format` failed with: an [`Error`] of this module that came through unchanged, and otherwise the
    /// end of the bytes or the failure to read them.
    pub(super) fn of_read(error: &io::Error, format: Format, at: u64) -> Self {
        match Self::within(error) {
            Some(error) => error,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::broken(format, at, "it ends too early"),
            None => Self::Read(error.kind()),
        }
    }

    fn within(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).cloned()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// What a reader of this module ended with comes out as it was; of any other error, the kind.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::within(&error).unwrap_or(Self::Read(error.kind()))
    }
}
