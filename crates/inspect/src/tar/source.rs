//! Where an archive's bytes come from: a place that can be read from anywhere, or a stream.

use std::io::{self, BufRead, Read};

use crate::content::Content;

/// Bytes that are read ahead at most.
const WINDOW_BYTES_MAX: usize = 256 * 1024;
/// Bytes that are read ahead at least: where files are large, little more than their headers is wanted.
const WINDOW_BYTES_MIN: usize = 4 * 1024;

/// An archive's bytes, from the first to the last.
pub trait Source: Read {
    /// Skips up to `length` bytes and returns how many there were.
    fn skip(&mut self, length: u64) -> io::Result<u64>;

    /// How many bytes are left, where that is known.
    fn left(&self) -> Option<u64>;
}

/// An archive in memory or in a file: what is skipped is not read.
#[derive(Debug)]
pub struct Window<'a> {
    content: Content<'a>,
    buffer: Vec<u8>,
    /// Where in `content` the buffer begins.
    start: u64,
    /// How much of the buffer has been read.
    used: usize,
    /// How much to read ahead next time.
    ahead: usize,
}

impl<'a> Window<'a> {
    /// Reads from the start of `content`.
    pub const fn new(content: Content<'a>) -> Self {
        Self { content, buffer: Vec::new(), start: 0, used: 0, ahead: WINDOW_BYTES_MIN }
    }

    /// `length` bytes of the archive from `at`.
    pub(super) fn part(&self, at: u64, length: u64) -> Option<Content<'a>> {
        self.content.part(at, length)
    }

    fn at(&self) -> u64 {
        self.start + self.used as u64
    }

    /// The next `length` bytes, or all that are left, without taking them.
    pub(super) fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(self.content.len() - self.at()).unwrap_or(usize::MAX));
        if self.buffer.len() - self.used < length {
            self.refill(length)?;
        }
        self.buffer.get(self.used..self.used + length).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads ahead from where it is, at least `needed` bytes where there are as many.
    fn refill(&mut self, needed: usize) -> io::Result<()> {
        self.start = self.at();
        self.used = 0;
        let left = usize::try_from(self.content.len() - self.start).unwrap_or(usize::MAX);
        let length = self.ahead.max(needed).min(left);
        self.buffer.resize(length, 0);
        let part = self.content.part(self.start, length as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        let read = part.reader().read_exact(&mut self.buffer);
        if read.is_err() {
            self.buffer.clear();
        }
        read
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            self.ahead = (self.ahead * 2).min(WINDOW_BYTES_MAX);
            self.refill(0)?;
        }
        let read = self.buffer.get(self.used..).unwrap_or_default().read(buffer)?;
        self.used += read;
        Ok(read)
    }
}

impl Source for Window<'_> {
    fn skip(&mut self, length: u64) -> io::Result<u64> {
        let length = length.min(self.content.len() - self.at());
        let buffered = (self.buffer.len() - self.used) as u64;
        // Where much is skipped, little of what is read ahead is wanted.
        if length >= self.ahead as u64 / 2 {
            self.ahead = (self.ahead / 4).max(WINDOW_BYTES_MIN / 2);
        }
        if length <= buffered {
            self.used += length as usize;
            return Ok(length);
        }
        self.start = self.at() + length;
        self.used = 0;
        self.buffer.clear();
        Ok(length)
    }

    fn left(&self) -> Option<u64> {
        Some(self.content.len() - self.at())
    }
}

/// An archive that comes from a decompressor.
#[derive(Debug)]
pub struct Stream<R>(pub R);

impl<R: BufRead> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: BufRead> Source for Stream<R> {
    fn skip(&mut self, length: u64) -> io::Result<u64> {
        let mut skipped = 0;
        while skipped < length {
            let there = match self.0.fill_buf() {
                Ok([]) => break,
                Ok(there) => there.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let step = usize::try_from(length - skipped).unwrap_or(usize::MAX).min(there);
            self.0.consume(step);
            skipped += step as u64;
        }
        Ok(skipped)
    }

    fn left(&self) -> Option<u64> {
        None
    }
}
