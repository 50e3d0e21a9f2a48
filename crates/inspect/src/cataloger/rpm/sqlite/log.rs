//! SQLite's write-ahead log: pages that transactions wrote and that are not in the database yet.
//!
//! A header of 32 bytes (magic, version, page size, checkpoint, two salts, checksum of two words), then frames: 24 bytes
//! (page number, pages of the database after the transaction or 0 within it, the salts, checksum) and a page. What
//! follows the first frame with other salts or a wrong checksum is left from before.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::cataloger::os;
use crate::content::Content;

use super::super::Error;
use super::super::pages::{PAGES_MAX, bytes};

const HEAD_BYTES: usize = 32;
const FRAME_HEAD_BYTES: usize = 24;
/// The lowest bit says that checksums are of big-endian words.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// A log, and where the last committed version of each page lies in it.
pub(super) struct Log<'a> {
    content: Content<'a>,
    page_size: usize,
    places: HashMap<u32, u64>,
    pages: u64,
}

fn word(page: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes(page, at).unwrap_or_default())
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Checksum(u32, u32);

impl Checksum {
    /// Goes on over a whole number of pairs of words.
    fn update(self, data: &[u8], is_big: bool) -> Self {
        let Self(mut first, mut second) = self;
        let number = |bytes| if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        for [a, b, c, d, e, f, g, h] in data.as_chunks().0.iter().copied() {
            first = first.wrapping_add(number([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(number([e, f, g, h])).wrapping_add(first);
        }
        Self(first, second)
    }
}

impl<'a> Log<'a> {
    pub(super) fn open(content: Content<'a>) -> Result<Self, os::Error> {
        let head = os::read_range(&content, 0, HEAD_BYTES)?;
        let magic = word(&head, 0);
        if magic & !1 != MAGIC || word(&head, 4) != VERSION {
            return Err(Error::Log { what: "it does not begin as one" }.into());
        }
        let is_big = magic & 1 == 1;
        let size = word(&head, 8);
        if !size.is_power_of_two() || !(512..=65536).contains(&size) {
            return Err(Error::Log { what: "its page size is impossible" }.into());
        }
        let mut sum = Checksum(0, 0).update(head.get(..24).unwrap_or_default(), is_big);
        if sum != Checksum(word(&head, 24), word(&head, 28)) {
            return Err(Error::Log { what: "its checksum is wrong" }.into());
        }
        let mut log = Self { content, page_size: size as usize, places: HashMap::new(), pages: 0 };
        let frame_bytes = (FRAME_HEAD_BYTES + log.page_size) as u64;
        let mut pending = Vec::new();
        for frame in 0..(content.len() - HEAD_BYTES as u64) / frame_bytes {
            if frame >= PAGES_MAX {
                return Err(Error::Log { what: "it has too many frames" }.into());
            }
            let at = HEAD_BYTES as u64 + frame * frame_bytes;
            let bytes = os::read_range(&content, at, frame_bytes as usize)?;
            let (head_of, page) = bytes.split_at_checked(FRAME_HEAD_BYTES).unwrap_or_default();
            sum = sum.update(head_of.get(..8).unwrap_or_default(), is_big).update(page, is_big);
            let number = word(head_of, 0);
            if number == 0
                || head_of.get(8..16) != head.get(16..24)
                || sum != Checksum(word(head_of, 16), word(head_of, 20))
            {
                break;
            }
            pending.push((number, at + FRAME_HEAD_BYTES as u64));
            match word(head_of, 4) {
                0 => {}
                pages => {
                    log.pages = pages.into();
                    log.places.extend(pending.drain(..));
                }
            }
        }
        Ok(log)
    }

    /// Whether no transaction was committed in it.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of the log.
    pub(super) fn len(&self) -> u64 {
        self.content.len()
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    /// Pages of the database after the last transaction.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// The last version of a page, where the log has one.
    pub(super) fn page(&self, page: u64) -> Result<Option<Cow<'a, [u8]>>, os::Error> {
        let place = u32::try_from(page).ok().and_then(|page| self.places.get(&page));
        place.map(|at| os::read_range(&self.content, *at, self.page_size)).transpose()
    }
}
