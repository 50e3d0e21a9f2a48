//! The tar of a build's context, streamed: it is never whole in memory or on disk on its way to the engine.

use std::fmt;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

/// Bytes that are handed on at once: small pieces cost ten times the CPU.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces that may wait for the engine; with the one being filled, this is the bound on memory.
const PIECES_WAITING_MAX: usize = 4;

/// The bytes of a tar, as they come. An error among them cancels the build.
pub struct TarBody(BoxStream<'static, io::Result<Bytes>>);

impl TarBody {
    /// From pieces that are made elsewhere; pieces of 256 KiB are the cheapest to send.
    pub fn from_stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// From what `write` writes (a `tar::Builder` wants just that). It runs on a thread that may block, waits while the
    /// engine is slower than it is, and gets an error from the writer once the build is over.
    pub fn from_writer<F>(write: F) -> Self
    where
        F: FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        tokio::task::spawn_blocking(move || {
            let mut writer = PieceWriter { buffer: BytesMut::with_capacity(PIECE_BYTES), sender };
            let ending = write(&mut writer).and_then(|()| writer.flush());
            if let Err(error) = ending {
                // When the receiver is gone the build is over and nobody waits for the error.
                let _gone = writer.sender.blocking_send(Err(error));
            }
        });
        Self(tokio_stream::wrappers::ReceiverStream::new(receiver).boxed())
    }

    /// From a reader of tar bytes, read on a thread that may block.
    pub fn from_reader(mut reader: impl Read + Send + 'static) -> Self {
        Self::from_writer(move |writer| io::copy(&mut reader, writer).map(|_bytes| ()))
    }
}

impl Stream for TarBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl fmt::Debug for TarBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TarBody")
    }
}

/// Cuts what is written into pieces and waits while too many are under way.
struct PieceWriter {
    buffer: BytesMut,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl PieceWriter {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE_BYTES)).freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_gone| io::Error::new(io::ErrorKind::BrokenPipe, "the build is over"))
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.send() }
    }
}
