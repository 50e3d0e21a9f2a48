//! Answers whose bytes the kernel takes from a file, so that they are never copied through the program.
//!
//! A body is pieces of memory to everything between a handler and the socket. A handler that takes them from a mapped file
//! says so with a [`SentFile`] in its answer; where such a piece arrives at a socket without TLS, the file is sent in its
//! place. Whatever is not recognised is sent as the memory that it is.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Below this a copy is cheaper.
const SENT_BYTES_MIN: usize = 32 << 10;
/// Pieces that are looked at for one write.
const PIECES_MAX: usize = 64;

/// A file in memory, of which the pieces of an answer's body are slices; an extension of the answer.
#[derive(Clone, Debug)]
pub struct SentFile {
    /// Gone when the last of the pieces is.
    pub file: Weak<File>,
    /// The addresses of its bytes, from the first of the file on.
    pub addresses: Range<usize>,
}

/// The file that the answers of one connection were last taken from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Current(Arc<Mutex<Option<SentFile>>>);

impl Current {
    pub(crate) fn set(&self, file: SentFile) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// The file that holds these bytes, and where in it they begin.
    fn of(&self, piece: &[u8]) -> Option<(Arc<File>, u64)> {
        if piece.len() < SENT_BYTES_MIN {
            return None;
        }
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let SentFile { file, addresses } = current.as_ref()?;
        let first = piece.as_ptr().addr();
        if first < addresses.start || first + piece.len() > addresses.end {
            return None;
        }
        Some((file.upgrade()?, (first - addresses.start) as u64))
    }
}

/// A connection without TLS that sends files as files.
#[derive(Debug)]
pub(crate) struct Plain {
    stream: TcpStream,
    current: Current,
}

impl Plain {
    pub(crate) fn new(stream: TcpStream, current: Current) -> Self {
        Self { stream, current }
    }

    fn poll_send(&self, cx: &mut Context<'_>, file: &File, at: u64, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = at;
                Ok(sendfile(&self.stream, file, Some(&mut offset), length)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut files = pieces.iter().take(PIECES_MAX).enumerate();
        let found = files.find_map(|(place, piece)| Some((place, this.current.of(piece)?)));
        match found {
            None => Pin::new(&mut this.stream).poll_write_vectored(cx, pieces),
            Some((place, (file, at))) => {
                if pieces[..place].iter().all(|piece| piece.is_empty()) {
                    return this.poll_send(cx, &file, at, pieces[place].len());
                }
                Pin::new(&mut this.stream).poll_write_vectored(cx, &pieces[..place])
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const LENGTH: usize = 3 << 20;

    /// What arrives of `pieces`, which are written as hyper writes them.
    async fn arrives(current: &Current, pieces: &[&[u8]]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut plain = Plain::new(listener.accept().await.unwrap().0, current.clone());
        let write = async {
            let mut left: Vec<&[u8]> = pieces.to_vec();
            while !left.is_empty() {
                let slices: Vec<IoSlice<'_>> = left.iter().map(|piece| IoSlice::new(piece)).collect();
                let mut written = plain.write_vectored(&slices).await.unwrap();
                while let Some(first) = left.first_mut() {
                    let taken = written.min(first.len());
                    *first = &first[taken..];
                    written -= taken;
                    if !first.is_empty() {
                        break;
                    }
                    left.remove(0);
                }
            }
            plain.shutdown().await.unwrap();
        };
        let mut arrived = Vec::new();
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut arrived));
        read.unwrap();
        arrived
    }

    #[tokio::test]
    async fn pieces_of_a_file_are_sent_from_the_file_and_others_from_memory() {
        // The memory is told from the file by its bytes, which a mapping's are not.
        let bytes: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
        let memory: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(file);
        let current = Current::default();
        let first = memory.as_ptr().addr();
        current.set(SentFile { file: Arc::downgrade(&file), addresses: first..first + LENGTH });
        let (middle, small) = (1_000_003..LENGTH - 77, 10..20);
        let other = vec![7; SENT_BYTES_MIN * 2];
        let pieces = [b"head".as_slice(), &memory[middle.clone()], &other, &[], &memory, &memory[small.clone()]];
        let expected = [b"head".as_slice(), &bytes[middle.clone()], &other, &bytes, &memory[small]].concat();
        assert!(arrives(&current, &pieces).await == expected);

        // Behind its end a file has nothing that could be sent.
        file.set_len(LENGTH as u64 / 2).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut plain = Plain::new(listener.accept().await.unwrap().0, current.clone());
        let error = plain.write(&memory[LENGTH - SENT_BYTES_MIN..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

        drop(file);
        assert!(arrives(&current, &[&memory[middle.clone()]]).await == memory[middle]);
    }
}
