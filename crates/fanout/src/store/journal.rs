//! Which pieces of an unfinished blob are worth reading after a restart: their numbers one after the other, four bytes each
//! (little-endian), appended once a piece is written. Nothing it says is believed: each piece is verified with the tree
//! again, so that it may be torn, of an earlier tree, or ahead of the bytes that a loss of power took.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use super::StoreError;
use super::blob::locked;
use super::folders::replace;
use crate::piece::PieceSet;

const ENTRY_BYTES: u64 = 4;
/// Bytes of pieces after which the disk is waited for: what a loss of power costs at most, and what was under way.
const SYNC_BYTES: u64 = 64 << 20;

pub(super) struct Journal {
    file: File,
    written: Mutex<Written>,
    /// Whoever waits for the disk holds it; whether the disk has failed.
    has_failed: Mutex<bool>,
}

struct Written {
    entries: u64,
    /// Bytes of pieces that may not be on disk.
    unsynced_bytes: u64,
}

impl Journal {
    /// A journal that says these pieces, in place of what was there.
    pub(super) fn begin(path: &Path, pieces: &PieceSet) -> Result<Self, StoreError> {
        let entries: Vec<u8> = pieces.iter().flat_map(u32::to_le_bytes).collect();
        replace(path, &entries)?;
        let file = File::options().write(true).open(path).map_err(StoreError::io("open", path))?;
        let written = Written { entries: u64::from(pieces.count()), unsynced_bytes: 0 };
        Ok(Self { file, written: Mutex::new(written), has_failed: Mutex::default() })
    }

    /// Notes a piece whose bytes were written; gives whether [`Journal::sync`] is due. Waits where the disk is behind.
    pub(super) fn append(&self, piece: u32, bytes: u64) -> io::Result<bool> {
        let is_due = {
            let mut written = locked(&self.written);
            // At its place, so that an entry that a full disk cut is written over.
            self.file.write_all_at(&piece.to_le_bytes(), written.entries * ENTRY_BYTES)?;
            written.entries += 1;
            written.unsynced_bytes += bytes;
            let is_due = written.unsynced_bytes >= SYNC_BYTES;
            if is_due {
                written.unsynced_bytes = 0;
            }
            is_due
        };
        if is_due {
            drop(locked(&self.has_failed));
        }
        Ok(is_due)
    }

    /// Has the pieces of `blob` on disk, and that they are there. A disk that failed once is not believed again: it tells of
    /// what it lost one time only.
    pub(super) fn sync(&self, blob: &File) -> io::Result<()> {
        let mut has_failed = locked(&self.has_failed);
        if *has_failed {
            return Err(io::Error::other("the disk failed before"));
        }
        let synced = blob.sync_all().and_then(|()| self.file.sync_data());
        *has_failed = synced.is_err();
        synced
    }
}

/// The pieces that a journal says, each once; none when there is no journal.
pub(super) fn claimed(path: &Path, pieces: u32) -> Result<Vec<u32>, StoreError> {
    // A piece that two gave at once stands there twice.
    let bytes_max = u64::from(pieces) * ENTRY_BYTES * 4;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, bytes_max), &mut bytes).map_err(StoreError::io("read", path))?;
    let mut set = PieceSet::empty(pieces);
    for entry in bytes.as_chunks::<4>().0 {
        set.insert(u32::from_le_bytes(*entry));
    }
    Ok(set.iter().collect())
}
