//! Bytes on their way out: mapped, so that they go from the page cache to the socket without a copy of our own.

use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use memmap2::{Advice, Mmap};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::{BlobError, Body, MappedFile, body_of};

/// Below this a read into memory is cheaper than a mapping.
const MAPPED_BYTES_MIN: u64 = 64 << 10;
/// What is handed to the socket at once.
const PIECE_BYTES: usize = 2 << 20;
/// How far ahead of the socket the kernel is asked to read.
const AHEAD_BYTES: usize = 8 << 20;

struct Mapped {
    /// Goes before the mapping: as long as it can be reached, its addresses mean nothing else.
    _file: Arc<File>,
    map: Arc<Mmap>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// The bytes of `range`, which lies within the file, and the mapping that they are slices of.
pub(crate) fn body(file: File, range: Range<u64>) -> std::io::Result<(Body, Option<MappedFile>)> {
    let length = range.end - range.start;
    if length < MAPPED_BYTES_MIN {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, range.start)?;
        return Ok((body_of(bytes), None));
    }
    // SAFETY: a blob's file is never written or truncated once it has its name: another push of it renames a new file
    // into its place, and a deletion unlinks it, both of which leave this file as it is until the mapping goes. An
    // upload's file only grows behind the range, until it gets its name or is unlinked.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file)? };
    let (map, file) = (Arc::new(map), Arc::new(file));
    let first = map.as_ptr().addr();
    let mapped = MappedFile { file: Arc::downgrade(&file), addresses: first..first + map.len() };
    let (start, end) = (range.start as usize, range.end as usize);
    let whole = Bytes::from_owner(Mapped { _file: Arc::clone(&file), map: Arc::clone(&map) });
    let pieces = (start..end).step_by(PIECE_BYTES).map(move |at| {
        let ahead = (at + PIECE_BYTES).min(end);
        let length = AHEAD_BYTES.min(end - ahead);
        let is_due = length > 0 && (at - start).is_multiple_of(AHEAD_BYTES / 2);
        // Advice costs as much as a tenth of what is sent, also on what is in memory.
        if is_due && !is_in_memory(&file, ahead + length - 1) {
            // Advice that is not taken costs time alone.
            let _ = map.advise_range(Advice::WillNeed, ahead, length);
        }
        Ok(whole.slice(at..ahead))
    });
    // A socket may take pieces as fast as they come, for as long as they come: others must have their turn in between.
    let in_turn = |piece| async {
        tokio::task::yield_now().await;
        piece
    };
    Ok((futures::stream::iter(pieces).then(in_turn).boxed(), Some(mapped)))
}

/// Whether the byte at an offset can be had without waiting for the disk.
fn is_in_memory(file: &File, at: usize) -> bool {
    let mut byte = [0];
    preadv2(file, &mut [IoSliceMut::new(&mut byte)], at as u64, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
}

/// The part of `range` that lies within `size` bytes; nothing when it begins behind them.
pub(crate) fn clip(range: Option<Range<u64>>, size: u64) -> Option<Range<u64>> {
    let range = range.unwrap_or(0..size);
    let clipped = range.start..range.end.min(size);
    (clipped.start < clipped.end || (size == 0 && range.start == 0)).then_some(clipped)
}

/// The error of a failed read.
pub(crate) fn failed(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> BlobError {
    BlobError::io("read", path)
}
