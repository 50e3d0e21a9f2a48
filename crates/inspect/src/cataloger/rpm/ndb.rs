//! RPM databases in RPM's own format, ndb.
//!
//! The format is that of `lib/backend/ndb/rpmpkg.c`; all numbers are little-endian. A header of 32 bytes: magic `RpmP`,
//! version, generation, number of slot pages, next package number. Slots of 16 bytes fill pages of 4096: magic `Slot`,
//! package number, first block, number of blocks. A blob fills blocks of 16 bytes: magic `BlbS`, package number,
//! generation, length; the header; zeros; Adler-32, length, magic `BlbE`. Like RPM, this does not check Adler-32. A slot
//! without package has zeros behind its magic.

use crate::cataloger::os::{self, PACKAGES_MAX};
use crate::content::Content;

use super::pages::bytes;
use super::{Each, Error, HEADER_BYTES_MAX};

const MAGIC: [u8; 4] = *b"RpmP";
const SLOT_MAGIC: [u8; 4] = *b"Slot";
const BLOB_MAGIC: [u8; 4] = *b"BlbS";
const BLOB_END_MAGIC: [u8; 4] = *b"BlbE";
const HEAD_BYTES: usize = 32;
const PAGE_BYTES: usize = 4096;
const SLOT_BYTES: usize = 16;
const BLOCK_BYTES: u64 = 16;
const BLOB_HEAD_BYTES: u64 = 16;
const BLOB_END_BYTES: u64 = 12;

/// Whether bytes begin as such a database.
pub(super) fn is(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

#[derive(Clone, Copy)]
struct Slot {
    number: u64,
    package: u32,
    first: u32,
    blocks: u32,
}

fn number(bytes_of: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(bytes_of, at).unwrap_or_default())
}

/// Hands over each package's header.
pub(super) fn each(content: Content<'_>, visit: &mut Each<'_>) -> Result<(), os::Error> {
    let head = os::read_range(&content, 0, HEAD_BYTES)?;
    if !is(&head) {
        return Err(Error::Form.into());
    }
    if number(&head, 4) != 0 {
        return Err(Error::Head { what: "version", found: number(&head, 4).into() }.into());
    }
    let pages = u64::from(number(&head, 12));
    if pages == 0 || pages > content.len().div_ceil(PAGE_BYTES as u64) {
        return Err(Error::Head { what: "number of slot pages", found: pages }.into());
    }
    let mut slots = Vec::new();
    for page in 0..pages {
        if let Err(why) = slots_of(&content, page, &mut slots, visit) {
            visit(Err(why));
        }
        if slots.len() > PACKAGES_MAX {
            return Err(os::Error::TooManyPackages { limit: PACKAGES_MAX });
        }
    }
    let behind = os::read_range(&content, pages * PAGE_BYTES as u64, SLOT_MAGIC.len()).unwrap_or_default();
    if *behind == SLOT_MAGIC {
        visit(Err(Error::Head { what: "number of slot pages, of which there are more", found: pages }.into()));
    }
    // In the order of the file, so that it is read once, and blobs that share blocks are seen.
    slots.sort_by_key(|slot| slot.first);
    let mut free = pages * PAGE_BYTES as u64 / BLOCK_BYTES;
    for slot in slots {
        if u64::from(slot.first) < free {
            visit(Err(Error::Slot { slot: slot.number, what: "its blocks are those of another" }.into()));
            continue;
        }
        free = u64::from(slot.first) + u64::from(slot.blocks);
        visit(blob(&content, slot));
    }
    Ok(())
}

fn slots_of(content: &Content<'_>, page: u64, slots: &mut Vec<Slot>, visit: &mut Each<'_>) -> Result<(), os::Error> {
    let at = page * PAGE_BYTES as u64;
    let bytes = os::read_range(content, at, PAGE_BYTES)?;
    let skipped = if page == 0 { HEAD_BYTES } else { 0 };
    for (bytes, number_of) in bytes.get(skipped..).unwrap_or_default().chunks_exact(SLOT_BYTES).zip(0_u64..) {
        let slot = Slot {
            number: (at + skipped as u64) / SLOT_BYTES as u64 + number_of,
            package: number(bytes, 4),
            first: number(bytes, 8),
            blocks: number(bytes, 12),
        };
        let mut broken = |what| visit(Err(Error::Slot { slot: slot.number, what }.into()));
        if !bytes.starts_with(&SLOT_MAGIC) {
            broken("it does not begin as one");
        } else if slot.package != 0 && slot.first != 0 && slot.blocks != 0 {
            slots.push(slot);
        } else if slot.package != 0 || slot.first != 0 || slot.blocks != 0 {
            broken("it has a package without blocks, or blocks without a package");
        }
    }
    Ok(())
}

fn blob<'a>(content: &Content<'a>, slot: Slot) -> Result<std::borrow::Cow<'a, [u8]>, os::Error> {
    let broken = |what| Error::Slot { slot: slot.number, what };
    let at = u64::from(slot.first) * BLOCK_BYTES;
    let size = u64::from(slot.blocks) * BLOCK_BYTES;
    if at + size > content.len() {
        return Err(broken("its blocks lie past the end of the file").into());
    }
    let head = os::read_range(content, at, BLOB_HEAD_BYTES as usize)?;
    let length = number(&head, 12);
    if !head.starts_with(&BLOB_MAGIC) || number(&head, 4) != slot.package {
        return Err(broken("its blocks are not the package's").into());
    }
    let needed = BLOB_HEAD_BYTES + u64::from(length) + BLOB_END_BYTES;
    if needed.div_ceil(BLOCK_BYTES) != u64::from(slot.blocks) {
        return Err(broken("its number of blocks is not that of the package's header").into());
    }
    let end = os::read_range(content, at + size - BLOB_END_BYTES, BLOB_END_BYTES as usize)?;
    if number(&end, 4) != length || !end.ends_with(&BLOB_END_MAGIC) {
        return Err(broken("its blocks do not end as they begin").into());
    }
    match usize::try_from(length) {
        Ok(length) if length <= HEADER_BYTES_MAX => os::read_range(content, at + BLOB_HEAD_BYTES, length),
        _ => Err(Error::HeaderTooLarge { length: length.into() }.into()),
    }
}
