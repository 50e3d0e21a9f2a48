//! Records of lines, set apart by empty lines: the form of dpkg's status file and of apk's database.

use memchr::{memchr, memchr_iter};

use super::{Error, read_range};
use crate::content::Content;

/// Bytes of one record. The largest apk packages have a few MiB.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;
const STEP_BYTES: usize = 256 << 10;

/// Reads a file record by record and holds one of them in memory.
pub(crate) struct Records<'a> {
    content: Content<'a>,
    limit: usize,
    step: usize,
    /// Offset in the file of what comes after the buffer.
    at: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next record begins, or an empty line before it.
    begin: usize,
    is_failed: bool,
}

/// A record: its bytes without the empty line after it, and where it begins in the file.
pub(crate) struct Record<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) at: u64,
}

/// A record that could not be read, and where it begins. Reading goes on behind it where that is possible.
pub(crate) struct Unreadable {
    pub(crate) at: u64,
    pub(crate) why: Error,
}

impl<'a> Records<'a> {
    pub(crate) fn new(content: Content<'a>) -> Self {
        Self::with(content, RECORD_BYTES_MAX, STEP_BYTES)
    }

    /// Records of `limit` bytes at most, read in steps of `step`.
    fn with(content: Content<'a>, limit: usize, step: usize) -> Self {
        Self { content, limit, step, at: 0, buffer: Vec::new(), begin: 0, is_failed: false }
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Result<Record<'_>, Unreadable>> {
        if self.is_failed {
            return None;
        }
        match self.advance() {
            Ok(None) => None,
            Ok(Some((range, at))) => Some(Ok(Record { bytes: self.buffer.get(range).unwrap_or_default(), at })),
            Err(unreadable) => Some(Err(unreadable)),
        }
    }

    fn offset(&self) -> u64 {
        self.at - (self.buffer.len() - self.begin) as u64
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.begin..).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<Option<(std::ops::Range<usize>, u64)>, Unreadable> {
        loop {
            while let Some(blank) = blank_line(self.rest()) {
                self.begin += blank;
            }
            // A carriage return at the end of the buffer may be the first half of an empty line.
            if !matches!(self.rest(), b"" | b"\r") || !self.fill()? {
                break;
            }
        }
        let at = self.offset();
        let mut searched = 0;
        let mut is_too_large = false;
        loop {
            let rest = self.rest();
            if let Some(end) = record_end(rest, searched) {
                let begin = self.begin;
                self.begin += end;
                if is_too_large || end > self.limit {
                    return Err(Unreadable { at, why: Error::RecordTooLarge { limit: self.limit } });
                }
                return Ok(Some((begin..begin + end, at)));
            }
            // The end takes up to three bytes to be seen.
            searched = rest.len().saturating_sub(2);
            if rest.len() > self.limit {
                is_too_large = true;
                self.begin += searched;
                searched = 0;
            }
            if !self.fill()? {
                let range = self.begin..self.buffer.len();
                self.begin = self.buffer.len();
                return match (is_too_large || range.len() > self.limit, range.is_empty()) {
                    (true, _) => Err(Unreadable { at, why: Error::RecordTooLarge { limit: self.limit } }),
                    (false, true) => Ok(None),
                    (false, false) => Ok(Some((range, at))),
                };
            }
        }
    }

    /// Reads on; false at the end of the file.
    fn fill(&mut self) -> Result<bool, Unreadable> {
        let left = self.content.len() - self.at;
        if left == 0 {
            return Ok(false);
        }
        self.buffer.drain(..self.begin);
        self.begin = 0;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.step);
        let read = read_range(&self.content, self.at, length).map_err(|why| {
            self.is_failed = true;
            Unreadable { at: self.at, why }
        })?;
        self.buffer.extend_from_slice(&read);
        self.at += length as u64;
        Ok(true)
    }
}

/// The length of an empty line at the beginning.
fn blank_line(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

/// Where the record ends: behind the line feed that an empty line follows.
fn record_end(bytes: &[u8], from: usize) -> Option<usize> {
    let searched = bytes.get(from..)?;
    memchr_iter(b'\n', searched)
        .map(|feed| from + feed + 1)
        .find(|after| bytes.get(*after..).is_some_and(|rest| blank_line(rest).is_some()))
}

/// The lines without their ends.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines_at(bytes).map(|(_, line)| line)
}

/// The lines without their ends, each with the offset of its beginning.
pub(crate) fn lines_at(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = (bytes.len() - rest.len()) as u64;
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end)?;
        rest = after.get(1..).unwrap_or_default();
        Some((at, line.strip_suffix(b"\r").unwrap_or(line)))
    })
}

#[cfg(test)]
mod tests;
