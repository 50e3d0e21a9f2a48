//! RPM's header structure: an index of tags, and a store of their values (librpm, "Package format").

use std::io::BufRead;

use crate::archive::budget::{Limit, OverLimit};
use crate::archive::error::Error;
use crate::archive::stream::Stream;

const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 1];
const ENTRY_BYTES: usize = 16;
/// Entries of the index: more than RPM itself takes.
const ENTRIES_MAX: u32 = 0xffff;
/// Bytes of the store. A package of 100,000 files has some 20 MiB.
const STORE_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Bytes of one value that is shown.
const TEXT_BYTES_MAX: usize = 64 * 1024;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const STRING_TRANSLATED: u32 = 9;

/// A header, as it stands in the file.
pub(super) struct Header {
    index: Vec<u8>,
    store: Vec<u8>,
}

impl Header {
    pub(super) fn read(stream: &mut Stream<impl BufRead>) -> Result<Self, Error> {
        if stream.array()? != MAGIC {
            return Err(stream.broken("no header begins here"));
        }
        let _reserved: [u8; 4] = stream.array()?;
        let (entries, store) = (u32::from_be_bytes(stream.array()?), u32::from_be_bytes(stream.array()?));
        for (bytes, limit) in [(entries, ENTRIES_MAX), (store, STORE_BYTES_MAX)] {
            if bytes > limit {
                return Err(OverLimit { what: Limit::HeaderBytes, limit: limit.into() }.into());
            }
        }
        Ok(Self { index: stream.bytes(entries as usize * ENTRY_BYTES)?, store: stream.bytes(store as usize)? })
    }

    /// Bytes of index and store.
    pub(super) const fn bytes(&self) -> u64 {
        (self.index.len() + self.store.len()) as u64
    }

    /// A tag's text; the first of several. None where it is empty or not within the store.
    pub(super) fn text(&self, tag: u32) -> Option<String> {
        let (kind, bytes) = self.value(tag)?;
        let text = bytes.get(..bytes.len().min(TEXT_BYTES_MAX))?.split(|byte| *byte == 0).next()?;
        let is_text = matches!(kind, STRING | STRING_ARRAY | STRING_TRANSLATED) && text.len() < bytes.len();
        (is_text && !text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// A tag's number; the first of several.
    pub(super) fn number(&self, tag: u32) -> Option<u32> {
        let (kind, bytes) = self.value(tag)?;
        bytes.first_chunk().filter(|_| kind == INT32).map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A tag's type, and the store from where its value begins.
    fn value(&self, wanted: u32) -> Option<(u32, &[u8])> {
        let (entries, _) = self.index.as_chunks::<ENTRY_BYTES>();
        entries.iter().find_map(|entry| {
            let (fields, _) = entry.as_chunks::<4>();
            let [tag, kind, offset, _count] = fields else { return None };
            let offset = u32::from_be_bytes(*offset) as usize;
            (u32::from_be_bytes(*tag) == wanted).then_some((u32::from_be_bytes(*kind), self.store.get(offset..)?))
        })
    }
}
