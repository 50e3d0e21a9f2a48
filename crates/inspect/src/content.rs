//! The bytes of one file, wherever they are.
//!
//! Nothing is mapped into memory: whoever inspects a file of their own may truncate it meanwhile, and pages that were
//! touched would count as memory in use.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A file's bytes: in memory, or a range of an open file.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a>(Place<'a>);

#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Memory(&'a [u8]),
    File { file: &'a File, start: u64, length: u64 },
}

impl<'a> Content<'a> {
    /// Bytes in memory.
    pub const fn memory(bytes: &'a [u8]) -> Self {
        Self(Place::Memory(bytes))
    }

    /// `length` bytes of `file` from `start`.
    pub const fn file(file: &'a File, start: u64, length: u64) -> Self {
        Self(Place::File { file, start, length })
    }

    /// How many bytes there are.
    pub const fn len(&self) -> u64 {
        match self.0 {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::File { length, .. } => length,
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `length` bytes from `at`. What lies past the end is an error of kind `UnexpectedEof`, before anything is
    /// allocated; the caller bounds `length`.
    pub fn read(&self, at: u64, length: usize) -> io::Result<Cow<'a, [u8]>> {
        let end = at.checked_add(length as u64).filter(|end| *end <= self.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        match self.0 {
            Place::Memory(bytes) => {
                Ok(Cow::Borrowed(bytes.get(at as usize..end as usize).ok_or(io::ErrorKind::UnexpectedEof)?))
            }
            Place::File { file, start, .. } => {
                let mut buffer = vec![0; length];
                file.read_exact_at(&mut buffer, start.checked_add(at).ok_or(io::ErrorKind::UnexpectedEof)?)?;
                Ok(Cow::Owned(buffer))
            }
        }
    }

    /// All bytes where there are at most `limit` of them, and otherwise an error of kind `FileTooLarge`.
    pub fn whole(&self, limit: usize) -> io::Result<Cow<'a, [u8]>> {
        match usize::try_from(self.len()) {
            Ok(length) if length <= limit => self.read(0, length),
            _ => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    /// The part from `at`, of `length` bytes; `None` where that is past the end.
    pub fn part(&self, at: u64, length: u64) -> Option<Self> {
        at.checked_add(length).filter(|end| *end <= self.len())?;
        Some(Self(match self.0 {
            Place::Memory(bytes) => Place::Memory(bytes.get(at as usize..(at + length) as usize)?),
            Place::File { file, start, .. } => Place::File { file, start: start.checked_add(at)?, length },
        }))
    }

    /// Reads from the start to the end, in the caller's steps.
    pub const fn reader(self) -> Reader<'a> {
        Reader { content: self, at: 0 }
    }
}

/// Reads a [`Content`] from its start.
#[derive(Debug)]
pub struct Reader<'a> {
    content: Content<'a>,
    at: u64,
}

impl io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.content.len() - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..length) else { return Ok(0) };
        let read = match self.content.0 {
            Place::Memory(bytes) => {
                buffer.copy_from_slice(bytes.get(self.at as usize..self.at as usize + length).unwrap_or_default());
                length
            }
            Place::File { file, start, .. } => file.read_at(buffer, start + self.at)?,
        };
        self.at += read as u64;
        Ok(read)
    }
}
