//! What tells one state of a file from another without reading it.

use std::fmt;

use rustix::fs::{FileType, Stat};

/// A file's kind, rights, size, times and inode, folded into one number: equal stamps are the same state. The time of its
/// last change of any kind is part of it, so that content which is replaced under the same size and time counts, too. Of a
/// folder, kind and rights alone: what is in it is told by stamps of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Stamp {
    /// There is nothing.
    pub const NONE: Self = Self(0);
    /// There is something, and nobody knows which state of it. No state of a file is equal to this.
    pub const UNSURE: Self = Self(1);
    /// There is what an image has, and it is to be copied all the same. No state of a file is equal to this.
    pub(super) const IMAGE: Self = Self(2);

    /// Of a regular file, a folder or a symbolic link; `None` for what is neither (sockets, pipes, devices).
    pub fn of(stat: &Stat) -> Option<Self> {
        let rights = u64::from(stat.st_mode & 0o7777);
        // Kernels count sizes, inodes and seconds differently wide; only equality matters here.
        let parts = |kind| {
            let words = [
                rights,
                stat.st_size.cast_unsigned(),
                stat.st_mtime.cast_unsigned(),
                stat.st_mtime_nsec,
                stat.st_ctime.cast_unsigned(),
                stat.st_ctime_nsec,
                stat.st_ino,
                stat.st_dev,
            ];
            Some(Self::fold(kind, &words))
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => parts(Kind::File),
            FileType::Symlink => parts(Kind::Link),
            FileType::Directory => Some(Self::fold(Kind::Folder, &[rights])),
            _ => None,
        }
    }

    /// The same words give the same stamp in every process: stamps are kept across restarts.
    pub(super) fn fold(kind: Kind, words: &[u64]) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for word in words {
            // The finalizer of SplitMix64 (Steele, Lea, Flood 2014), over what came before and the word.
            state = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            state ^= state >> 31;
        }
        Self((state >> 2) | ((kind as u64) << 62))
    }

    /// Whether it is a folder's.
    pub fn is_folder(self) -> bool {
        self.0 >> 62 == Kind::Folder as u64
    }

    /// Whether there is something.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    pub(super) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// What a path is; the numbers are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File = 1,
    Folder = 2,
    Link = 3,
}

impl fmt::Debug for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => formatter.write_str("none"),
            Self::UNSURE => formatter.write_str("unsure"),
            Self::IMAGE => formatter.write_str("image"),
            Self(number) => write!(formatter, "{number:016x}"),
        }
    }
}
