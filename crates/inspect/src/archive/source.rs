//! Buffered reading of a [`Content`].

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

use super::error::{Error, Format};
use crate::content::Content;

/// Bytes that are taken at once.
const CHUNK_BYTES: u64 = 64 * 1024;

/// Reads a [`Content`] from its start. What is in memory is not copied.
#[derive(Debug)]
pub struct Source<'a> {
    content: Content<'a>,
    /// Where the chunk begins.
    at: u64,
    chunk: Cow<'a, [u8]>,
    used: usize,
}

impl<'a> Source<'a> {
    /// At the start of `content`.
    pub const fn new(content: Content<'a>) -> Self {
        Self { content, at: 0, chunk: Cow::Borrowed(&[]), used: 0 }
    }

    /// Bytes that were taken.
    pub const fn position(&self) -> u64 {
        self.at + self.used as u64
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used >= self.chunk.len() {
            let at = self.at + self.chunk.len() as u64;
            let length = (self.content.len() - at).min(CHUNK_BYTES) as usize;
            self.chunk = self.content.read(at, length)?;
            self.at = at;
            self.used = 0;
        }
        Ok(self.chunk.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.used = (self.used + amount).min(self.chunk.len());
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Counts what is taken from a reader.
#[derive(Debug)]
pub(super) struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R> Counted<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self { inner, taken: 0 }
    }

    /// Bytes that were taken.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }
}

impl<R: BufRead> Counted<R> {
    /// What is there to be taken; nothing only at the end.
    pub(super) fn fill(&mut self, format: Format) -> Result<&[u8], Error> {
        // Asked twice, since what a loop returns stays borrowed in it.
        while let Err(error) = self.inner.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(Error::of_read(&error, format, self.taken));
            }
        }
        self.inner.fill_buf().map_err(|error| Error::of_read(&error, format, self.taken))
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
