//! Where the central directory is: the records at an archive's end.

use memchr::memmem;

use super::{Fields, broken, read};
use crate::archive::error::{Error, Format};
use crate::content::Content;

const END: &[u8; 4] = b"PK\x05\x06";
const END_BYTES: u64 = 22;
const END64: &[u8; 4] = b"PK\x06\x06";
/// Of the first version of the record, which is the only one in use.
const END64_BYTES: u64 = 56;
const LOCATOR: &[u8; 4] = b"PK\x06\x07";
const LOCATOR_BYTES: u64 = 20;
const DIRECTORY: &[u8; 4] = b"PK\x01\x02";
/// Bytes of a comment, which its length in two bytes bounds.
const COMMENT_BYTES_MAX: u64 = u16::MAX as u64;

/// What the records at the end say, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Where the archive begins; its own offsets are relative to that.
    pub(super) base: u64,
    /// Where the central directory begins, in the file.
    pub(super) directory: u64,
    /// Bytes of the directory.
    pub(super) directory_bytes: u64,
    /// Entries in the directory, as stated.
    pub(super) entries: u64,
    /// Whether the number of entries has 64 bits; otherwise it may have overflowed 16.
    pub(super) zip64: bool,
    /// Bytes behind the archive.
    pub(super) trailing: u64,
}

/// The record that every archive ends with.
#[derive(Clone, Copy)]
struct Record {
    at: u64,
    entries: u64,
    directory_bytes: u64,
    directory: u64,
    trailing: u64,
    /// Whether all of the archive is in this file.
    whole: bool,
}

impl End {
    pub(super) fn find(content: Content<'_>) -> Result<Self, Error> {
        let record = find_record(content)?;
        let (record, ends_at, zip64) = match zip64(content, &record)? {
            Some(larger) => (larger, larger.at, true),
            None => (record, record.at, false),
        };
        let Record { at, entries, directory_bytes, directory: stated, trailing, whole: _ } = record;
        let before_end =
            ends_at.checked_sub(directory_bytes).ok_or(broken(at, "its directory is larger than the file"))?;
        let base = before_end.checked_sub(stated).ok_or(broken(at, "its directory is not where it says"))?;
        let mut end = Self { base, directory: before_end, directory_bytes, entries, zip64, trailing };
        if directory_bytes == 0 {
            if entries != 0 {
                return Err(broken(at, "it says that it has entries, and has no directory"));
            }
        } else if base > 0 {
            // Either something stands before the archive, or between its directory and its end.
            match (begins_with(content, before_end, DIRECTORY)?, begins_with(content, stated, DIRECTORY)?) {
                (true, false) => {}
                (false, true) => (end.base, end.directory) = (0, stated),
                (true, true) => return Err(broken(at, "there are two places where its directory could be")),
                (false, false) => return Err(broken(before_end, "there is no directory")),
            }
        }
        Ok(end)
    }
}

/// The last record whose comment ends where the file does. Where there is none, the last one of all.
fn find_record(content: Content<'_>) -> Result<Record, Error> {
    let length = content.len().min(END_BYTES + COMMENT_BYTES_MAX);
    let from = content.len() - length;
    let tail = read(content, from, length as usize)?;
    let (mut exact, mut other) = (None, None);
    for at in memmem::rfind_iter(&tail, END) {
        let Some(found) = record(tail.get(at..).unwrap_or_default(), from + at as u64) else { continue };
        if found.trailing == 0 {
            if exact.is_some() {
                return Err(broken(found.at, "it has two end records"));
            }
            exact = Some(found);
        } else if other.is_none() {
            other = Some(found);
        }
    }
    let found = exact.or(other).ok_or(broken(content.len(), "there is no end record"))?;
    if found.whole { Ok(found) } else { Err(in_parts()) }
}

/// A record with which `bytes` begin; none where it is cut off.
fn record(bytes: &[u8], at: u64) -> Option<Record> {
    let mut fields = Fields(bytes);
    let (_signature, disks, here) = (fields.u32()?, [fields.u16()?, fields.u16()?], u64::from(fields.u16()?));
    let (entries, directory_bytes, directory) = (fields.u16()?, fields.u32()?, fields.u32()?);
    let comment = u64::from(fields.u16()?);
    Some(Record {
        at,
        entries: u64::from(entries),
        directory_bytes: u64::from(directory_bytes),
        directory: u64::from(directory),
        trailing: (fields.0.len() as u64).checked_sub(comment)?,
        whole: disks.iter().all(|disk| *disk == 0 || *disk == u16::MAX) && here == u64::from(entries),
    })
}

const fn in_parts() -> Error {
    Error::Unsupported { format: Format::Zip, what: "archive in parts,", number: 0 }
}

/// The larger record that a locator right before `small` names; it must not contradict it.
fn zip64(content: Content<'_>, small: &Record) -> Result<Option<Record>, Error> {
    let needed = small.entries == u64::from(u16::MAX)
        || small.directory_bytes == u64::from(u32::MAX)
        || small.directory == u64::from(u32::MAX);
    let Some(locator_at) = small.at.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    let locator = read(content, locator_at, LOCATOR_BYTES as usize)?;
    if !locator.starts_with(LOCATOR) {
        // 65,535 entries, or 4 GiB less one byte, need no larger record.
        return Ok(None);
    }
    let mut fields = Fields(&locator);
    let (_, disk, stated, disks) = (fields.u32(), fields.u32(), fields.u64(), fields.u32());
    if disk != Some(0) || disks.is_some_and(|disks| disks > 1) {
        return Err(in_parts());
    }
    let wrong = |why| Err(broken(locator_at, why));
    // Where something stands before the archive, the record is further on than its locator says.
    let adjacent = locator_at.checked_sub(END64_BYTES);
    let mut at = None;
    for place in [adjacent, stated].into_iter().flatten() {
        if place < locator_at && begins_with(content, place, END64)? {
            at = Some(place);
            break;
        }
    }
    let Some(at) = at else {
        return if needed { wrong("there is no zip64 end record") } else { Ok(None) };
    };
    let bytes = read(content, at, END64_BYTES as usize)?;
    let (record, size) = record64(&bytes, at, small.trailing).ok_or(broken(at, "its zip64 end record is cut off"))?;
    if !record.whole {
        return Err(in_parts());
    }
    if at.checked_add(12).and_then(|from| from.checked_add(size)) != Some(locator_at) {
        return wrong("its zip64 end record does not end at the locator");
    }
    let agrees = |small: u64, large: u64, most: u64| small == most || small == large;
    if agrees(small.entries, record.entries, u64::from(u16::MAX))
        && agrees(small.directory_bytes, record.directory_bytes, u64::from(u32::MAX))
        && agrees(small.directory, record.directory, u64::from(u32::MAX))
    {
        Ok(Some(record))
    } else {
        wrong("its two end records contradict each other")
    }
}

/// The larger record with which `bytes` begin, and its stated size without the first twelve bytes.
fn record64(bytes: &[u8], at: u64, trailing: u64) -> Option<(Record, u64)> {
    let mut fields = Fields(bytes);
    let (_signature, size, _versions) = (fields.u32()?, fields.u64()?, fields.u32()?);
    let (disks, here) = ([fields.u32()?, fields.u32()?], fields.u64()?);
    let (entries, directory_bytes, directory) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let whole = disks == [0, 0] && here == entries;
    Some((Record { at, entries, directory_bytes, directory, trailing, whole }, size))
}

fn begins_with(content: Content<'_>, at: u64, signature: &[u8; 4]) -> Result<bool, Error> {
    if at.checked_add(4).is_none_or(|end| end > content.len()) {
        return Ok(false);
    }
    Ok(*read(content, at, signature.len())? == *signature)
}
