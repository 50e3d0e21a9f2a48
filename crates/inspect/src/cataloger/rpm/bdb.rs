//! RPM databases in Berkeley DB's hash format, versions 8 to 10, in either byte order.
//!
//! The format is that of `db_page.h`. Pages of 512 bytes to 64 KiB; each begins with 26 bytes: log sequence number (8),
//! page number (4), previous and next page (4 each), number of entries (2), offset of the data or length of an overflow
//! page (2), level (1), type (1). Then come the offsets of the entries, 2 bytes each; keys and values alternate, and
//! fill the page from its end.

use std::borrow::Cow;

use crate::cataloger::os;
use crate::content::Content;

use super::pages::{Used, bytes};
use super::{Each, Error, HEADER_BYTES_MAX};

const PAGE_HEAD: usize = 26;
const META_BYTES: usize = 512;
const HASH_MAGIC: u32 = 0x0006_1561;
const BTREE_MAGIC: u32 = 0x0005_3162;
const PAGE_HASH_UNSORTED: u8 = 2;
const PAGE_OVERFLOW: u8 = 7;
const PAGE_HASH: u8 = 13;
const ITEM_DATA: u8 = 1;
const ITEM_OFF_PAGE: u8 = 3;
const ITEM_OFF_PAGE_BYTES: usize = 12;
const SPARES: usize = 32;

/// Whether bytes begin as a Berkeley DB of any kind.
pub(super) fn is(head: &[u8]) -> bool {
    order(head).is_some()
}

/// Whether numbers are big-endian, and the magic number.
fn order(head: &[u8]) -> Option<(bool, u32)> {
    let magic = bytes(head, 12)?;
    let is_magic = |magic: &u32| matches!(*magic, HASH_MAGIC | BTREE_MAGIC);
    let little = Some(u32::from_le_bytes(magic)).filter(is_magic).map(|magic| (false, magic));
    little.or_else(|| Some(u32::from_be_bytes(magic)).filter(is_magic).map(|magic| (true, magic)))
}

struct Database<'a> {
    content: Content<'a>,
    is_big: bool,
    page_size: usize,
    spares: [u32; SPARES],
    used: Used,
}

/// Hands over each package's header.
pub(super) fn each(content: Content<'_>, visit: &mut Each<'_>) -> Result<(), os::Error> {
    let meta = os::read_range(&content, 0, META_BYTES)?;
    let (is_big, magic) = order(&meta).ok_or(Error::Form)?;
    if magic == BTREE_MAGIC {
        return Err(Error::Foreign { what: "a Berkeley DB tree in place of a hash" }.into());
    }
    let number = |at| number32(&meta, at, is_big).unwrap_or_default();
    let (version, page_size, last) = (number(16), number(20), number(32));
    if !(8..=10).contains(&version) {
        return Err(Error::Head { what: "version", found: version.into() }.into());
    }
    if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
        return Err(Error::Head { what: "page size", found: page_size.into() }.into());
    }
    if meta.get(24) != Some(&0) {
        return Err(Error::Foreign { what: "encryption" }.into());
    }
    if meta.get(26).is_none_or(|flags| flags & 1 != 0) {
        return Err(Error::Foreign { what: "checksums of pages" }.into());
    }
    // The last page may lie past the end where the file was cut: what is there is read all the same.
    let there = content.len() / u64::from(page_size);
    let used = Used::new(there.min(u64::from(last) + 1))?;
    let mut spares = [0; SPARES];
    for (at, spare) in spares.iter_mut().enumerate() {
        *spare = number(96 + 4 * at);
    }
    let buckets = u64::from(number(72));
    if buckets >= there {
        return Err(Error::Head { what: "number of buckets", found: buckets }.into());
    }
    let mut database = Database { content, is_big, page_size: page_size as usize, spares, used };
    if u64::from(last) >= there {
        visit(Err(Error::Head { what: "last page, past the end of the file", found: last.into() }.into()));
    }
    for bucket in 0..=buckets as u32 {
        let Err(why) = database.bucket(bucket, visit) else { continue };
        visit(Err(why));
    }
    database.lost(visit)
}

impl<'a> Database<'a> {
    fn number16(&self, page: &[u8], at: usize) -> usize {
        let bytes = bytes(page, at).unwrap_or_default();
        usize::from(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn number32(&self, page: &[u8], at: usize) -> u32 {
        number32(page, at, self.is_big).unwrap_or_default()
    }

    /// A page that was not used yet.
    fn page(&mut self, page: u32) -> Result<Cow<'a, [u8]>, os::Error> {
        if page == 0 {
            return Err(Error::Page { page: 0, what: "it is no page of entries" }.into());
        }
        self.used.take(page.into())?;
        let read = os::read_range(&self.content, u64::from(page) * self.page_size as u64, self.page_size)?;
        if self.number32(&read, 8) != page {
            return Err(Error::Page { page: page.into(), what: "it bears another number" }.into());
        }
        Ok(read)
    }

    /// Pages with entries that are in no bucket: where a bucket's own page was lost, or the number of buckets.
    fn lost(&self, visit: &mut Each<'_>) -> Result<(), os::Error> {
        for page in self.used.unused() {
            let head = os::read_range(&self.content, page * self.page_size as u64, PAGE_HEAD)?;
            if matches!(head.get(25), Some(&(PAGE_HASH | PAGE_HASH_UNSORTED))) && self.number16(&head, 20) > 0 {
                visit(Err(Error::Page { page, what: "it has entries and is in no bucket" }.into()));
            }
        }
        Ok(())
    }

    /// The pages of a bucket: its first, and those chained to it.
    fn bucket(&mut self, bucket: u32, visit: &mut Each<'_>) -> Result<(), os::Error> {
        let doubling = (u32::BITS - bucket.leading_zeros()) as usize;
        let spare = self.spares.get(doubling).ok_or(Error::Head { what: "bucket", found: bucket.into() })?;
        let mut number = bucket.checked_add(*spare).ok_or(Error::Head { what: "bucket", found: bucket.into() })?;
        loop {
            let page = self.page(number)?;
            let what = "it is not a page of a hash";
            match page.get(25) {
                Some(&(PAGE_HASH | PAGE_HASH_UNSORTED)) => self.entries(number, &page, visit),
                _ => return Err(Error::Page { page: number.into(), what }.into()),
            }
            number = match self.number32(&page, 16) {
                0 => return Ok(()),
                next => next,
            };
        }
    }

    fn entries(&mut self, number: u32, page: &[u8], visit: &mut Each<'_>) {
        let mut broken = |what| visit(Err(Error::Page { page: number.into(), what }.into()));
        let entries = self.number16(page, 20);
        let begin = PAGE_HEAD + 2 * entries;
        if begin > page.len() {
            return broken("it has more entries than room");
        }
        if !entries.is_multiple_of(2) {
            broken("its last key has no value");
        }
        let mut end = page.len();
        for pair in 0..entries / 2 {
            let key_at = self.number16(page, PAGE_HEAD + 4 * pair);
            let value_at = self.number16(page, PAGE_HEAD + 4 * pair + 2);
            let (Some(key), Some(value)) = (
                page.get(key_at..end).filter(|_| key_at >= begin),
                page.get(value_at..key_at).filter(|_| value_at >= begin),
            ) else {
                return visit(Err(Error::Page { page: number.into(), what: "its entries overlap" }.into()));
            };
            end = value_at;
            // Key 0 has the last number that was given out, which is no package. A package that has it lost its own number.
            if matches!((key, value), ([ITEM_DATA, 0, 0, 0, 0], [ITEM_DATA, _, _, _, _])) {
                continue;
            }
            if !matches!(key, [ITEM_DATA, _, _, _, _]) {
                visit(Err(Error::Page { page: number.into(), what: "a key is not a package's number" }.into()));
                continue;
            }
            visit(self.value(number, value));
        }
        // On a page of 64 KiB without entries, the end of the page does not fit.
        if end & 0xffff != self.number16(page, 22) {
            visit(Err(Error::Page { page: number.into(), what: "it has more data than entries" }.into()));
        }
    }

    fn value<'v>(&mut self, number: u32, value: &'v [u8]) -> Result<Cow<'v, [u8]>, os::Error> {
        match value {
            [ITEM_DATA, data @ ..] => Ok(Cow::Borrowed(data)),
            [ITEM_OFF_PAGE, ..] if value.len() == ITEM_OFF_PAGE_BYTES => {
                let (first, length) = (self.number32(value, 4), self.number32(value, 8));
                self.overflow(first, length).map(Cow::Owned)
            }
            _ => Err(Error::Page { page: number.into(), what: "a value is of an unknown kind" }.into()),
        }
    }

    /// A value too long for its page: a chain of pages.
    fn overflow(&mut self, first: u32, length: u32) -> Result<Vec<u8>, os::Error> {
        let mut left = length as usize;
        if left > HEADER_BYTES_MAX {
            return Err(Error::HeaderTooLarge { length: length.into() }.into());
        }
        if length as u64 > self.content.len() {
            return Err(Error::Page { page: first.into(), what: "the value is longer than the file" }.into());
        }
        let mut value = Vec::with_capacity(left);
        let mut number = first;
        while left > 0 {
            let page = self.page(number)?;
            if page.get(25) != Some(&PAGE_OVERFLOW) {
                return Err(Error::Page { page: number.into(), what: "it is not an overflow page" }.into());
            }
            let here = self.number16(&page, 22);
            let data = page.get(PAGE_HEAD..PAGE_HEAD + here).filter(|data| !data.is_empty() && data.len() <= left);
            let what = "its length is not that of a part of the value";
            value.extend_from_slice(data.ok_or(Error::Page { page: number.into(), what })?);
            left -= here;
            number = self.number32(&page, 16);
        }
        Ok(value)
    }
}

fn number32(page: &[u8], at: usize, is_big: bool) -> Option<u32> {
    let bytes = bytes(page, at)?;
    Some(if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}
