//! A blob that is read while it arrives. The last bytes are held back until all were verified: what a client takes for
//! the whole blob is the blob.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::blobs::{BlobError, BlobStore, Body};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;

use super::UpstreamError;
use super::fetch::{Fetch, Growing, State};

/// So many bytes at a blob's end are held back. A smaller blob is not answered for at all before it was verified.
pub(super) const HELD_BACK_BYTES: u64 = 64 << 10;

/// One reader's share of a fetch.
pub(crate) struct Arriving {
    fetch: Arc<Fetch>,
    blobs: Arc<dyn BlobStore>,
    state: watch::Receiver<State>,
    size: u64,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.fetch.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Arriving {
    pub(super) fn new(fetch: Arc<Fetch>, blobs: Arc<dyn BlobStore>) -> Self {
        fetch.readers.fetch_add(1, Ordering::SeqCst);
        let state = fetch.state.subscribe();
        Self { fetch, blobs, state, size: 0 }
    }

    /// Waits until it can be answered for.
    pub(super) async fn open(&mut self) -> Result<(), UpstreamError> {
        let answered = |state: &State| match state {
            State::Asking => false,
            State::Open(growing) => growing.size > HELD_BACK_BYTES,
            State::Whole { .. } | State::Failed(_) => true,
        };
        // The sender is the fetch, which is held here.
        let state = match self.state.wait_for(answered).await {
            Ok(state) => state.clone(),
            Err(_) => State::Asking,
        };
        match state {
            State::Open(Growing { size, .. }) | State::Whole { size } => self.size = size,
            State::Failed(error) => return Err(error),
            State::Asking => return Err(UpstreamError::Here(Arc::new(BlobError::Interrupted.into()))),
        }
        Ok(())
    }

    /// The length of the whole blob.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range that lies within the blob, as they arrive. They break off when the blob is not to be had.
    pub(crate) fn body(self, range: Range<u64>) -> Body {
        let reader = Reader { arriving: self, at: range.start, end: range.end, piece: None };
        futures::stream::try_unfold(reader, Reader::next).boxed()
    }
}

struct Reader {
    arriving: Arriving,
    at: u64,
    end: u64,
    piece: Option<Body>,
}

impl Reader {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            if let Some(piece) = &mut self.piece {
                match piece.next().await {
                    Some(bytes) => {
                        let bytes = bytes?;
                        self.at += bytes.len() as u64;
                        return Ok(Some((bytes, self)));
                    }
                    None => self.piece = None,
                }
            }
            if self.at >= self.end {
                return Ok(None);
            }
            let state = self.arriving.state.borrow_and_update().clone();
            let (blobs, digest) = (&self.arriving.blobs, &self.arriving.fetch.digest);
            match state {
                State::Whole { .. } => {
                    let read = blobs.read(digest, Some(self.at..self.end)).await.map_err(io::Error::other)?;
                    self.piece = Some(read.body);
                }
                State::Failed(error) => return Err(io::Error::other(error)),
                State::Open(growing) => self.grown(growing).await?,
                State::Asking => self.changed().await?,
            }
        }
    }

    /// Takes what has arrived, or waits for more.
    async fn grown(&mut self, mut growing: Growing) -> io::Result<()> {
        let held_back = growing.size.saturating_sub(HELD_BACK_BYTES);
        let (at, end) = (self.at, self.end.min(held_back));
        if at >= end {
            return self.changed().await;
        }
        let readable = tokio::select! {
            grown = growing.grown.wait_for(|grown| *grown > at) => grown.ok().map(|grown| *grown),
            changed = self.arriving.state.changed() => return changed.map_err(io::Error::other),
        };
        // The upload has ended: what became of it is said next.
        let Some(readable) = readable else { return self.changed().await };
        match self.arriving.blobs.upload_read(&growing.upload, at..readable.min(end)).await {
            Ok(piece) => self.piece = Some(piece),
            Err(BlobError::UploadUnknown { .. }) => self.changed().await?,
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    async fn changed(&mut self) -> io::Result<()> {
        self.arriving.state.changed().await.map_err(io::Error::other)
    }
}
