//! Streams that must be read out of order: kept in memory, or in a file without a name.

use std::fs::File;
use std::io::{self, BufRead, Write as _};
use std::path::Path;

use super::budget::{Budget, Held};
use super::error::Error;
use crate::content::Content;

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
        let mut memory = budget.spare().buffer();
        memory.clear();
        let mut held = budget.in_memory();
        let mut keep = |there: &[u8]| {
            let fits = budget.keeps(&mut held, there.len() as u64);
            if fits {
                memory.extend_from_slice(there);
            }
            Ok(fits)
        };
        loop {
            match step(&mut reader, &mut keep)? {
                Some(true) => {}
                Some(false) => break,
                None => return Ok(Self { place: Place::Memory(memory), budget, _held: held }),
            }
        }
        drop(held);
        let mut held = budget.spool();
        let place = Self::file(reader, &memory, folder, budget, &mut held);
        budget.spare().keep_buffer(memory);
        Ok(Self { place: place?, budget, _held: held })
    }

    fn file(
        mut reader: impl BufRead,
        first: &[u8],
        folder: &Path,
        budget: &'b Budget,
        held: &mut Held<'b>,
    ) -> Result<Place, Error> {
        let mut file = tempfile::tempfile_in(folder)?;
        let mut length = 0;
        let mut write = |there: &[u8]| {
            budget.spend_spool(held, there.len() as u64)?;
            length += there.len() as u64;
            file.write_all(there)?;
            Ok(true)
        };
        write(first)?;
        while step(&mut reader, &mut write)?.is_some() {}
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

/// Hands over what is there, and says whether it was taken; nothing at the end.
fn step(reader: &mut impl BufRead, mut take: impl FnMut(&[u8]) -> Result<bool, Error>) -> Result<Option<bool>, Error> {
    let (length, is_taken) = loop {
        match reader.fill_buf() {
            Ok([]) => return Ok(None),
            Ok(there) => break (there.len(), take(there)?),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    };
    if is_taken {
        reader.consume(length);
    }
    Ok(Some(is_taken))
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        if let Place::Memory(memory) = &mut self.place {
            self.budget.spare().keep_buffer(std::mem::take(memory));
        }
    }
}
