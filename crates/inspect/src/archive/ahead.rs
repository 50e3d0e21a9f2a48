//! Reading ahead of what decompresses: little at first, since most files are only looked at, and then much.

use std::io::{self, BufRead, Read};

use super::budget::Budget;

/// Bytes that are read at once. Larger ones leave the processor's cache before they are used.
const BYTES: usize = 128 * 1024;
/// Bytes that are read at first: enough to see what a file is.
const FIRST_BYTES: usize = 1024;

/// A reader with a buffer that others use after it.
#[derive(Debug)]
pub struct Ahead<'b, R> {
    inner: R,
    /// As large as was needed so far.
    buffer: Vec<u8>,
    /// What of the buffer was not taken yet.
    used: usize,
    filled: usize,
    /// How much is read next.
    next: usize,
    budget: &'b Budget,
}

impl<'b, R> Ahead<'b, R> {
    /// Reads from the start of `inner`.
    pub fn new(inner: R, budget: &'b Budget) -> Self {
        Self { inner, buffer: budget.spare().buffer(), used: 0, filled: 0, next: FIRST_BYTES, budget }
    }

    pub(super) const fn inner(&self) -> &R {
        &self.inner
    }
}

impl<R: Read> Read for Ahead<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What is as large as a step need not be copied.
        if self.used >= self.filled && buffer.len() >= BYTES {
            return self.inner.read(buffer);
        }
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Ahead<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used >= self.filled {
            (self.used, self.filled) = (0, 0);
            if self.buffer.len() < self.next {
                self.buffer.resize(self.next, 0);
            }
            let place = self.buffer.get_mut(..self.next).unwrap_or_default();
            self.filled = self.inner.read(place)?;
            self.next = BYTES;
        }
        Ok(self.buffer.get(self.used..self.filled).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.used = (self.used + amount).min(self.filled);
    }
}

impl<R> Drop for Ahead<'_, R> {
    fn drop(&mut self) {
        self.budget.spare().keep_buffer(std::mem::take(&mut self.buffer));
    }
}
