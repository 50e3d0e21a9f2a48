//! Streams that must be read out of order: kept in memory, or in a file without a name.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use super::budget::{Budget, Held};
use super::error::Error;
use crate::content::Content;

/// Bytes that are kept in memory.
const MEMORY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that are written at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// All bytes of a stream. The file, where there is one, never had a name, and is gone with this.
#[derive(Debug)]
pub struct Spool<'b> {
    place: Place,
    _held: Held<'b>,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    File { file: File, length: u64 },
}

impl<'b> Spool<'b> {
    /// Takes all of `reader`; `folder` is on the filesystem that may take it.
    ///
    /// # Errors
    /// `reader` ended with an error, more would be in temporary files than is allowed, or they cannot be written.
    pub fn new(mut reader: impl Read, folder: &Path, budget: &'b Budget) -> Result<Self, Error> {
        let mut held = budget.spool();
        let mut memory = Vec::new();
        (&mut reader).take(MEMORY_BYTES_MAX as u64 + 1).read_to_end(&mut memory)?;
        if memory.len() <= MEMORY_BYTES_MAX {
            return Ok(Self { place: Place::Memory(memory), _held: held });
        }
        let mut file = tempfile::tempfile_in(folder)?;
        let mut length = 0_u64;
        let mut chunk = memory;
        while !chunk.is_empty() {
            budget.spend_spool(&mut held, chunk.len() as u64)?;
            file.write_all(&chunk)?;
            length += chunk.len() as u64;
            chunk.resize(CHUNK_BYTES, 0);
            let read = fill(&mut reader, &mut chunk)?;
            chunk.truncate(read);
        }
        Ok(Self { place: Place::File { file, length }, _held: held })
    }

    /// The bytes.
    pub fn content(&self) -> Content<'_> {
        match &self.place {
            Place::Memory(bytes) => Content::memory(bytes),
            Place::File { file, length } => Content::file(file, 0, *length),
        }
    }

    /// Whether they are in a file.
    pub const fn is_file(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }
}

/// Reads until `buffer` is full or the end; how many bytes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
