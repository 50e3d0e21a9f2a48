//! Archives that are read from their start to their end, a member at a time.

use std::io::{self, BufRead, Read};

use super::error::{Error, Format};
use super::source::Counted;

/// Bytes of a table for which memory is taken before they were read.
const CHUNK_BYTES: usize = 64 * 1024;

/// An archive's bytes, and what is left of the member that is being read.
#[derive(Debug)]
pub(super) struct Stream<R> {
    format: Format,
    input: Counted<R>,
    /// Bytes of the member that were not taken.
    left: u64,
    /// Bytes behind it until the next.
    padding: u64,
}

impl<R: BufRead> Stream<R> {
    pub(super) const fn new(format: Format, input: R) -> Self {
        Self { format, input: Counted::new(input), left: 0, padding: 0 }
    }

    /// Bytes that were taken of the archive.
    pub(super) const fn at(&self) -> u64 {
        self.input.taken()
    }

    pub(super) const fn broken(&self, why: &'static str) -> Error {
        Error::broken(self.format, self.at(), why)
    }

    /// What is there to be taken; nothing only at the end.
    pub(super) fn fill(&mut self) -> Result<&[u8], Error> {
        self.input.fill(self.format)
    }

    pub(super) fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&mut self) -> Result<bool, Error> {
        Ok(self.fill()?.is_empty())
    }

    pub(super) fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Error> {
        let mut taken = [0; LENGTH];
        let at = self.at();
        self.input.read_exact(&mut taken).map_err(|error| Error::of_read(&error, self.format, at))?;
        Ok(taken)
    }

    /// `length` bytes, which the caller bounds. Memory is taken as they come.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut taken = Vec::with_capacity(length.min(CHUNK_BYTES));
        while taken.len() < length {
            let missing = length - taken.len();
            let there = self.fill()?;
            if there.is_empty() {
                return Err(self.broken("it ends too early"));
            }
            let amount = missing.min(there.len());
            taken.extend_from_slice(there.get(..amount).unwrap_or_default());
            self.consume(amount);
        }
        Ok(taken)
    }

    pub(super) fn skip(&mut self, mut length: u64) -> Result<(), Error> {
        while length > 0 {
            let there = self.fill()?.len();
            if there == 0 {
                return Err(self.broken("it ends too early"));
            }
            let amount = usize::try_from(length).unwrap_or(usize::MAX).min(there);
            self.consume(amount);
            length -= amount as u64;
        }
        Ok(())
    }

    /// Begins a member of `length` bytes, with `padding` behind it.
    pub(super) const fn begin(&mut self, length: u64, padding: u64) {
        self.left = length;
        self.padding = padding;
    }

    /// Shortens the member by `length` bytes that were taken from its start, where it has as many.
    pub(super) const fn shorten(&mut self, length: u64) -> bool {
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Goes behind the member that was begun.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let left = std::mem::take(&mut self.left);
        self.skip(left)?;
        // Behind the last member tools leave the padding out.
        for _ in 0..std::mem::take(&mut self.padding) {
            if self.is_at_end()? {
                break;
            }
            self.consume(1);
        }
        Ok(())
    }

    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    pub(super) const fn member(&mut self) -> Member<'_, R> {
        Member { stream: self }
    }
}

/// The bytes of a member, or what is left of them. They end with an error where the archive ends before them. What is not
/// read is skipped.
#[derive(Debug)]
pub struct Member<'s, R> {
    stream: &'s mut Stream<R>,
}

impl<R: BufRead> Member<'_, R> {
    /// Bytes that were not read yet.
    pub const fn left(&self) -> u64 {
        self.stream.left
    }
}

impl<R: BufRead> BufRead for Member<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = usize::try_from(self.stream.left).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let early = self.stream.broken("it ends too early");
        let there = self.stream.fill()?;
        if there.is_empty() { Err(early.into()) } else { Ok(there.get(..left).unwrap_or(there)) }
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(usize::try_from(self.stream.left).unwrap_or(usize::MAX));
        self.stream.left -= amount as u64;
        self.stream.consume(amount);
    }
}

impl<R: BufRead> Read for Member<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
