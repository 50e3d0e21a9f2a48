//! Blobs on their way out: mapped when they are whole and were seen right, piece by piece otherwise, also while they are
//! still arriving.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use blobs::{Body, MappedFile};
use bytes::Bytes;
use futures::StreamExt as _;
use oci::Digest;
use tokio::sync::watch;

use super::blob::{At, Blob, locked};
use super::folders::Kind;
use super::shelf::Inner;
use super::{Progress, Stage, Store, StoreError};
use crate::piece::Layout;

/// How long a reader waits for the next piece while nothing at all comes of the blob, in seconds.
pub const STALL_SECONDS_MAX: u64 = 120;
/// The end of a blob that comes without a tree is held back until its digest is verified, in bytes: nobody has the whole of
/// a wrong one.
pub const HELD_BACK_BYTES: u64 = 64 << 10;
/// What is read at once of a blob that is not mapped, in bytes.
const RUN_BYTES: usize = 2 << 20;

/// A blob, or a range of it, on its way out.
pub struct BlobRead {
    /// The length of the whole blob in bytes.
    pub length: u64,
    /// The range that the body holds.
    pub range: Range<u64>,
    /// The bytes, in large slices. Ends with an error when what is missing does not come.
    pub body: Body,
    /// Where the slices come from, when they are of a file.
    pub mapped: Option<MappedFile>,
    /// Whether all of it was here when the read began.
    pub is_whole: bool,
}

impl Store {
    /// Reads a blob, or the part of `range` that lies within it. Of a blob that is arriving, the body waits for the pieces.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is neither there nor on its way; [`StoreError::RangeUnsatisfiable`].
    pub async fn read(&self, digest: Digest, range: Option<Range<u64>>) -> Result<BlobRead, StoreError> {
        let blob = self.blob(&digest)?;
        let length = blob.length;
        let range = range.unwrap_or(0..length);
        let range = range.start..range.end.min(length);
        if range.start >= range.end && !(length == 0 && range.start == 0) {
            return Err(StoreError::RangeUnsatisfiable { digest, length });
        }
        let at = blob.at();
        if matches!(at, At::Dormant) {
            return Err(StoreError::NotFound { digest });
        }
        let is_whole = matches!(at, At::Whole(_));
        let reader =
            Reader { inner: self.0.clone(), changes: blob.progress.subscribe(), blob, at: range.start, end: range.end };
        let (body, mapped) = if reader.is_checked()? {
            let wanted = range.clone();
            self.blocking(move |inner| {
                inner.touch(&reader.blob);
                reader.mapped(wanted)
            })
            .await?
        } else {
            let reader = self.blocking(move |inner| {
                inner.touch(&reader.blob);
                Ok(reader)
            });
            (follow(reader.await?), None)
        };
        Ok(BlobRead { length, range, body, mapped, is_whole })
    }
}

/// Somebody who reads a range of a blob; as long as there is one, the blob stays.
struct Reader {
    inner: Arc<Inner>,
    blob: Arc<Blob>,
    changes: watch::Receiver<Progress>,
    at: u64,
    end: u64,
}

impl Reader {
    /// Whether this process has seen all of the range right, and it can be mapped.
    fn is_checked(&self) -> Result<bool, StoreError> {
        let At::Whole(whole) = self.blob.at() else { return Ok(false) };
        let layout = Layout::of(self.blob.length)?;
        let first = layout.piece_at(self.at).unwrap_or(0);
        let end = self.end.checked_sub(1).and_then(|last| layout.piece_at(last)).map_or(0, |last| last + 1);
        let checked = locked(&whole.checked);
        Ok((first..end).all(|piece| checked.contains(piece)))
    }

    fn mapped(self, range: Range<u64>) -> Result<(Body, Option<MappedFile>), StoreError> {
        let file = self.blob.open(&self.inner.folders)?;
        let path = self.inner.folders.file(Kind::Blob, &self.blob.digest);
        let (body, mapped) = blobs::file_body(file, range).map_err(StoreError::io("read", path))?;
        // The reader goes with the body.
        let body = body.map(move |bytes| {
            let _held = &self.blob;
            bytes
        });
        Ok((body.boxed(), mapped))
    }

    /// What comes next; nothing at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.at >= self.end {
            return Ok(None);
        }
        loop {
            // Noted before looking, so that what changes meanwhile is seen.
            let progress = self.changes.borrow_and_update().clone();
            match self.look(&progress).await {
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) => {}
                // It was given up, or became whole, while it was read: the next look knows.
                Err(_) if self.changes.has_changed().unwrap_or_default() => continue,
                Err(error) => return Err(error),
            }
            let wait = tokio::time::timeout(Duration::from_secs(STALL_SECONDS_MAX), self.changes.changed());
            match wait.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(io::Error::other("the store was closed")),
                Err(_) => {
                    let digest = self.blob.digest;
                    let what = format!("nothing came of blob {digest} for {STALL_SECONDS_MAX} s; pull again");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
            }
        }
    }

    async fn look(&self, progress: &Progress) -> io::Result<Option<Bytes>> {
        let digest = self.blob.digest;
        match self.blob.at() {
            At::Dormant => {
                let why = match &progress.stage {
                    Stage::GivenUp(why) => why.to_string(),
                    _ => "nobody fetches it".to_owned(),
                };
                Err(io::Error::other(format!("blob {digest} was given up: {why}; pull again")))
            }
            At::Filling => {
                let end = progress.bytes.saturating_sub(HELD_BACK_BYTES).min(self.end);
                if end <= self.at {
                    return Ok(None);
                }
                let (inner, at) = (self.inner.clone(), self.at);
                let length = usize::try_from(end - at).unwrap_or(RUN_BYTES).min(RUN_BYTES);
                blocking(move || {
                    let mut bytes = vec![0; length];
                    let fill = File::open(inner.folders.file(Kind::Fill, &digest));
                    // It may have become a blob meanwhile.
                    let file = fill.or_else(|_| File::open(inner.folders.file(Kind::Blob, &digest)))?;
                    file.read_exact_at(&mut bytes, at)?;
                    Ok(Some(bytes.into()))
                })
                .await
            }
            At::Arriving(arriving) => {
                let layout = arriving.tree.layout();
                match layout.piece_at(self.at).filter(|piece| locked(&arriving.pieces).contains(*piece)) {
                    Some(piece) => self.run(layout, piece).await.map(Some),
                    None => Ok(None),
                }
            }
            At::Whole(_) => {
                let layout = Layout::of(self.blob.length).map_err(io::Error::other)?;
                let piece = layout.piece_at(self.at).ok_or(io::ErrorKind::UnexpectedEof)?;
                self.run(layout, piece).await.map(Some)
            }
        }
    }

    /// Pieces from the one on that has the next byte, as far as they are wanted.
    async fn run(&self, layout: Layout, piece: u32) -> io::Result<Bytes> {
        let (inner, blob) = (self.inner.clone(), self.blob.clone());
        let start = layout.range(piece).map_or(0, |range| range.start);
        let skipped = usize::try_from(self.at - start).map_err(io::Error::other)?;
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        blocking(move || {
            let read = blob.run_read(&inner.folders, piece, RUN_BYTES).map_err(io::Error::other)?;
            Ok(read.slice(skipped.min(read.len())..read.len().min(skipped.saturating_add(left))))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn follow(reader: Reader) -> Body {
    futures::stream::try_unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Ok(bytes.map(|bytes| (bytes, reader)))
    })
    .boxed()
}
