//! Numbers at places of a table, and tables at places of a file; nothing past the end.

use std::borrow::Cow;

use super::{Endian, ExecutableError};
use crate::content::Content;

/// Bytes with the order of their numbers.
#[derive(Clone, Copy)]
pub(super) struct Fields<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) endian: Endian,
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    pub(super) fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(|bytes| match self.endian {
            Endian::Little => u16::from_le_bytes(bytes),
            Endian::Big => u16::from_be_bytes(bytes),
        })
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(|bytes| match self.endian {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        })
    }

    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(|bytes| match self.endian {
            Endian::Little => u64::from_le_bytes(bytes),
            Endian::Big => u64::from_be_bytes(bytes),
        })
    }
}

/// `length` bytes of a file; their number is checked against the limit and the file before anything is allocated.
pub(super) fn fetch<'a>(
    content: &Content<'a>,
    at: u64,
    length: u64,
    limit: usize,
    what: &'static str,
) -> Result<Cow<'a, [u8]>, ExecutableError> {
    let Some(wanted) = usize::try_from(length).ok().filter(|wanted| *wanted <= limit) else {
        return Err(ExecutableError::Limit { what, count: length, limit: limit as u64 });
    };
    if at.checked_add(length).is_none_or(|end| end > content.len()) {
        return Err(ExecutableError::Truncated { what, at, length });
    }
    content.read(at, wanted).map_err(|error| ExecutableError::Read { what, at, error })
}

/// A table of records of one size, checked like [`fetch`].
pub(super) fn table<'a>(
    content: &Content<'a>,
    at: u64,
    (count, most): (u64, usize),
    record: usize,
    what: &'static str,
) -> Result<Cow<'a, [u8]>, ExecutableError> {
    if count > most as u64 {
        return Err(ExecutableError::Limit { what, count, limit: most as u64 });
    }
    fetch(content, at, count * record as u64, most * record, what)
}
