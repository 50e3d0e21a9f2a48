//! Reads tar archives entry by entry, and refuses those that two readers would list differently.
//!
//! Known are v7, ustar, GNU and PAX archives, as GNU tar, Python's tarfile and the tar reader of container engines
//! understand them. Where those agree the archive is read; where they do not it is an [`Error`] at the header in
//! question, and nothing behind it counts as examined (a16, a17). Names are bytes, never cleaned here: see
//! [`crate::path`].
//!
//! [`Archive`] reads from a [`Window`], which skips contents without reading them and hands them out as [`Content`], or
//! from a [`Stream`], where a content is read or skipped in passing.

mod archive;
mod error;
mod header;
mod pax;
mod source;
mod sparse;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Read};

pub use archive::Archive;
pub use error::{Error, Fault};
pub use source::{Source, Stream, Window};

use crate::content::Content;

/// Bytes of a GNU long name at most.
pub const LONG_NAME_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a PAX header's content at most; container engines have the same limit.
pub const PAX_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a sparse file's map at most.
pub const SPARSE_MAP_BYTES_MAX: u64 = 1024 * 1024;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A regular file that was to be stored contiguously; a file like any other today.
    Contiguous,
    /// Another name of an entry before it, usually.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry. It lasts until the next one is asked for.
#[derive(Debug)]
pub struct Entry<'e, S> {
    /// What it is.
    pub kind: Kind,
    /// The name as written, never empty and without NUL. Slashes in front and behind, `.` and `..` are kept.
    pub path: &'e [u8],
    /// What a hard link or symlink points to, as written; empty for all others.
    pub link: &'e [u8],
    /// Bytes of the file; of a sparse one, with its holes.
    pub size: u64,
    /// Whether holes are left out of the content. It is not put together here: list such a file as not examined.
    pub is_sparse: bool,
    /// The twelve bits of permissions, setuid, setgid and sticky.
    pub mode: u16,
    /// Seconds since 1970, rounded down.
    pub mtime: i64,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Bytes from the archive's start to the entry's first header, extension headers included.
    pub offset: u64,
    /// Names of extended attributes, each with a NUL behind it.
    attributes: &'e [u8],
    /// Where the content begins, and how much of the archive it takes up without padding.
    start: u64,
    stored: u64,
    /// What the archive must still skip: content, then padding.
    unread: &'e mut u64,
    source: &'e mut S,
}

impl<S> Entry<'_, S> {
    /// Names of the extended attributes (`security.capability`), in the order of the PAX records.
    pub fn attributes(&self) -> impl Iterator<Item = &[u8]> {
        self.attributes.split(|byte| *byte == 0).filter(|name| !name.is_empty())
    }

    /// Whether this is a file that has its content with it.
    pub const fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File | Kind::Contiguous)
    }
}

impl<'a> Entry<'_, Window<'a>> {
    /// Where in the archive the content begins, in bytes.
    pub const fn content_offset(&self) -> u64 {
        self.start
    }

    /// The first `length` bytes of a file that is not sparse, or all of it.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn head(&mut self, length: usize) -> io::Result<&[u8]> {
        self.source.peek(length.min(usize::try_from(self.stored).unwrap_or(usize::MAX)))
    }

    /// The content of a file; `None` where it is sparse.
    pub fn content(&self) -> Option<Content<'a>> {
        if self.is_sparse { None } else { self.source.part(self.start, self.stored) }
    }
}

impl<R: BufRead> Entry<'_, Stream<R>> {
    /// Reads what is left of a file's content; `None` where it is sparse. An archive that ends before is an error of
    /// kind `UnexpectedEof`.
    pub fn reader(&mut self) -> Option<EntryReader<'_, R>> {
        let padding = self.stored.next_multiple_of(header::BLOCK as u64) - self.stored;
        if self.is_sparse {
            return None;
        }
        Some(EntryReader { unread: &mut *self.unread, padding, source: &mut *self.source })
    }
}

/// Reads an entry's content from a stream, and not a byte more.
#[derive(Debug)]
pub struct EntryReader<'e, R> {
    unread: &'e mut u64,
    padding: u64,
    source: &'e mut Stream<R>,
}

impl<R: BufRead> BufRead for EntryReader<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = usize::try_from(self.unread.saturating_sub(self.padding)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(&[]);
        }
        let there = self.source.0.fill_buf()?;
        if there.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(there.get(..left).unwrap_or(there)) }
    }

    fn consume(&mut self, amount: usize) {
        let left = usize::try_from(self.unread.saturating_sub(self.padding)).unwrap_or(usize::MAX);
        let amount = amount.min(left);
        *self.unread -= amount as u64;
        self.source.0.consume(amount);
    }
}

impl<R: BufRead> Read for EntryReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.unread.saturating_sub(self.padding)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..length).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.source.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *self.unread -= read as u64;
        Ok(read)
    }
}
