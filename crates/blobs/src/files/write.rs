//! Bytes on their way in: hashed and written on blocking threads while the next ones arrive.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use oci::{Algorithm, Digest, Hasher};
use rustix::fs::{Advice, fadvise};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::{BLOB_BYTES_MAX, BlobError, Body};

/// Gathered while a thread writes what came before: large enough that the hand-over costs nothing.
const BATCH_BYTES: usize = 512 << 10;
/// Batches that are being gathered, over all uploads. One that finds no place passes on piece by piece: so memory is
/// bounded however many push at once, and who sends too fast waits.
const BATCHES_MAX: usize = 8;
/// How long a batch with a place waits to be full: whoever sends slowly keeps no place.
const GATHER_MAX: Duration = Duration::from_millis(20);
/// Where batches end, but for the last: the larger and the better aligned a write is, the larger are the folios of the page
/// cache, and the less it costs the kernel to send them later.
const ALIGNED_BYTES: u64 = 64 << 10;
/// Threads that write or wait for the disk at once; the others are left to those who read.
const WRITERS_MAX: usize = 32;
/// The disk is asked to begin writing whenever so much is new, so that the last wait is short.
const WRITE_BEHIND_BYTES: u64 = 8 << 20;
const READ_BYTES: usize = 1 << 20;

/// What all uploads of a store share.
#[derive(Clone)]
pub(crate) struct Budget {
    batches: Arc<Semaphore>,
    writers: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Budget { batches: Arc::new(Semaphore::new(BATCHES_MAX)), writers: Arc::new(Semaphore::new(WRITERS_MAX)) }
    }

    /// Runs work that writes or waits for the disk to its end, once it is its turn, even when nobody waits any more.
    pub(crate) async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let turn = Arc::clone(&self.writers).acquire_owned().await.map_err(|_| BlobError::Interrupted)?;
        let working = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        working.await.unwrap_or(Err(BlobError::Interrupted))
    }
}

/// A file being written at its end.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) file: File,
    pub(crate) size: u64,
    /// Of all that is in the file; none when an earlier process wrote part of it.
    pub(crate) hasher: Option<Hasher>,
    /// Is told what can be read.
    pub(crate) grown: Option<watch::Sender<u64>>,
    /// Up to where the disk was asked to write.
    behind: u64,
}

/// What became of a body: the writer, unless its thread was lost, and how it ended.
pub(crate) struct Pumped {
    pub(crate) writer: Option<Writer>,
    pub(crate) result: Result<(), BlobError>,
}

/// Pieces that wait to be written.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    place: Option<OwnedSemaphorePermit>,
}

impl Batch {
    /// Whether another piece may be asked for before these are written.
    fn has_room(&mut self, budget: &Budget) -> bool {
        if self.place.is_none() {
            self.place = Arc::clone(&budget.batches).try_acquire_owned().ok();
        }
        self.place.is_some() && self.bytes < BATCH_BYTES
    }

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push(piece);
        self.since.get_or_insert_with(Instant::now);
    }

    /// What is to be written at `at`: all that ends where batches end, or else all.
    fn cut(&mut self, at: u64, is_last: bool) -> Batch {
        let mut cut = std::mem::take(self);
        let end = at + cut.bytes as u64;
        let kept = (end % ALIGNED_BYTES) as usize;
        if !is_last
            && end - kept as u64 > at
            && let Some(last) = cut.pieces.last_mut().filter(|last| last.len() > kept)
            && kept > 0
        {
            self.push(last.split_off(last.len() - kept));
            cut.bytes -= kept;
        }
        cut
    }
}

impl Writer {
    pub(crate) fn new(file: File, hasher: Hasher) -> Self {
        Writer { file, size: 0, hasher: Some(hasher), grown: None, behind: 0 }
    }

    pub(crate) fn open_at(path: &Path, size: u64, hasher: Option<Hasher>) -> io::Result<Self> {
        let mut file = File::options().write(true).open(path)?;
        file.seek(SeekFrom::Start(size))?;
        Ok(Writer { file, size, hasher, grown: None, behind: size })
    }

    /// Writes all pieces as one. After an error nothing of them counts.
    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = slices.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        for bytes in pieces {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(bytes);
            }
            self.size += bytes.len() as u64;
        }
        if let Some(grown) = &self.grown {
            grown.send_replace(self.size);
        }
        if let Some(length) = NonZeroU64::new(self.size - self.behind).filter(|new| new.get() >= WRITE_BEHIND_BYTES) {
            // Begins to write what is dirty, and forgets what is not. Advice that is not taken costs time alone.
            let _ = fadvise(&self.file, self.behind, Some(length), Advice::DontNeed);
            self.behind = self.size;
        }
        Ok(())
    }

    /// Takes everything from `body` until it ends or breaks off. What came before a break is written. Bytes are taken
    /// while others are hashed and written.
    pub(crate) async fn pump(self, mut body: Body, path: &Path, budget: &Budget) -> Pumped {
        let mut announced = self.size;
        let mut idle = Some(self);
        let mut working: Option<BoxFuture<'_, Result<Written, BlobError>>> = None;
        let mut batch = Batch::default();
        let mut result = Ok(());
        let mut has_ended = false;
        loop {
            let waits_until = batch.since.map(|since| since + GATHER_MAX).filter(|until| {
                let is_watched = idle.as_ref().is_none_or(|writer| writer.grown.is_some());
                !has_ended && !is_watched && Instant::now() < *until && batch.has_room(budget)
            });
            if !batch.pieces.is_empty()
                && waits_until.is_none()
                && let Some(mut writer) = idle.take()
            {
                let Batch { pieces, place, .. } = batch.cut(writer.size, has_ended || writer.grown.is_some());
                let writing = budget.turn(move || {
                    let outcome = writer.write(&pieces);
                    drop((pieces, place));
                    Ok((writer, outcome))
                });
                working = Some(writing.boxed());
            }
            // A place is for those who have begun: it would be lost to whoever sends nothing.
            let takes_more = !has_ended && working.is_some() && batch.has_room(budget);
            let event = match &mut working {
                None if has_ended => return Pumped { writer: idle, result },
                None => match waits_until {
                    None => Event::Piece(body.next().await),
                    Some(until) => match tokio::time::timeout_at(until, body.next()).await {
                        Ok(piece) => Event::Piece(piece),
                        Err(_) => continue,
                    },
                },
                Some(writing) if takes_more => tokio::select! {
                    written = writing => Event::Written(Box::new(written)),
                    piece = body.next() => Event::Piece(piece),
                },
                Some(writing) => Event::Written(Box::new(writing.await)),
            };
            match event {
                Event::Piece(Some(Ok(piece))) if announced + piece.len() as u64 > BLOB_BYTES_MAX => {
                    result = Err(BlobError::TooLarge);
                    has_ended = true;
                }
                Event::Piece(Some(Ok(piece))) => {
                    announced += piece.len() as u64;
                    batch.push(piece);
                }
                Event::Piece(Some(Err(error))) => {
                    result = Err(BlobError::Body(error));
                    has_ended = true;
                }
                Event::Piece(None) => has_ended = true,
                Event::Written(written) => match *written {
                    Ok((writer, Ok(()))) => {
                        idle = Some(writer);
                        working = None;
                        if batch.pieces.is_empty() {
                            batch.place = None;
                        }
                    }
                    Ok((writer, Err(error))) => {
                        return Pumped { writer: Some(writer), result: Err(BlobError::io("write", path)(error)) };
                    }
                    Err(error) => return Pumped { writer: None, result: Err(error) },
                },
            }
        }
    }
}

/// A writer back from its thread, and how that went.
type Written = (Writer, io::Result<()>);

enum Event {
    Piece(Option<io::Result<Bytes>>),
    Written(Box<Result<Written, BlobError>>),
}

/// The digest of a whole file.
pub(crate) fn hash_file(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn batches_end_where_they_are_aligned_and_lose_nothing(
            lengths in prop::collection::vec(1_usize..200_000, 1..12),
            at in 0_u64..1 << 20,
            is_last: bool,
        ) {
            let pieces = lengths.iter().zip(1_u8..).map(|(length, byte)| Bytes::from(vec![byte; *length]));
            let all: Vec<Bytes> = pieces.collect();
            let mut batch = Batch::default();
            all.iter().for_each(|piece| batch.push(piece.clone()));
            let cut = batch.cut(at, is_last);
            let written: usize = cut.pieces.iter().map(Bytes::len).sum();
            let kept: usize = batch.pieces.iter().map(Bytes::len).sum();
            prop_assert_eq!((cut.bytes, batch.bytes), (written, kept));
            prop_assert_eq!([cut.pieces.concat(), batch.pieces.concat()].concat(), all.concat());
            prop_assert!(written > 0 && (!is_last || kept == 0));
            // The end is aligned wherever the last piece reaches over such a place.
            let end = at + written as u64;
            let last = all.last().map_or(0, Bytes::len) as u64;
            let whole = at + (written + kept) as u64;
            let reaches = whole % ALIGNED_BYTES < last && whole - whole % ALIGNED_BYTES > at;
            let is_end = whole.is_multiple_of(ALIGNED_BYTES);
            prop_assert_eq!(end.is_multiple_of(ALIGNED_BYTES), is_end || (!is_last && reaches));
        }
    }
}
