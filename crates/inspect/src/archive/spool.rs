//! Streams that must be read out of order: kept in memory, or in a file without a name.

use std::fs::File;
use std::io::{self, BufRead, Write as _};
use std::path::Path;

use super::budget::{Budget, Held};
use super::error::Error;
use crate::content::Content;

/// Bytes that are kept in memory.
const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// All bytes of a stream. The file, where there is one, never had a name, and is gone with this.
#[derive(Debug)]
pub struct Spool<'b> {
    place: Place,
    budget: &'b Budget,
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
    pub fn new(mut reader: impl BufRead, folder: &Path, budget: &'b Budget) -> Result<Self, Error> {
        let mut held = budget.spool();
        let mut memory = budget.spare().buffer();
        memory.clear();
        let mut keep = |there: &[u8]| {
            memory.extend_from_slice(there);
            Ok(())
        };
        let mut length = 0;
        while let Some(kept) = step(&mut reader, &mut keep)? {
            length += kept;
            if length > MEMORY_BYTES_MAX {
                let place = Self::file(reader, &memory, folder, budget, &mut held);
                budget.spare().keep_buffer(memory);
                return Ok(Self { place: place?, budget, _held: held });
            }
        }
        Ok(Self { place: Place::Memory(memory), budget, _held: held })
    }

    fn file(
        mut reader: impl BufRead,
        first: &[u8],
        folder: &Path,
        budget: &'b Budget,
        held: &mut Held<'b>,
    ) -> Result<Place, Error> {
        let mut file = tempfile::tempfile_in(folder)?;
        budget.spend_spool(held, first.len() as u64)?;
        file.write_all(first)?;
        let mut length = first.len() as u64;
        let mut write = |there: &[u8]| {
            budget.spend_spool(held, there.len() as u64)?;
            Ok(file.write_all(there)?)
        };
        while let Some(written) = step(&mut reader, &mut write)? {
            length += written as u64;
        }
        Ok(Place::File { file, length })
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

/// Hands over what is there; how much that was, and nothing at the end.
fn step(reader: &mut impl BufRead, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<Option<usize>, Error> {
    let length = loop {
        match reader.fill_buf() {
            Ok([]) => return Ok(None),
            Ok(there) => {
                take(there)?;
                break there.len();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    };
    reader.consume(length);
    Ok(Some(length))
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        if let Place::Memory(memory) = &mut self.place {
            self.budget.spare().keep_buffer(std::mem::take(memory));
        }
    }
}
