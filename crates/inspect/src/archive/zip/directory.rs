//! The central directory, read in windows.

use std::borrow::Cow;

use super::entry::{Entry, Place, Refusal};
use super::ranges::{Ranges, Taken};
use super::{Archive, Fields, broken, read};
use crate::archive::budget::{Budget, Level};
use crate::archive::error::Error;

const SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x01\x02");
/// A digital signature behind the entries, which nothing makes any more.
const SIGNATURE_OF_ALL: u32 = u32::from_le_bytes(*b"PK\x05\x05");
const FIXED_BYTES: usize = 46;
/// The fixed part of an entry's own header.
pub(super) const LOCAL_BYTES: u64 = 30;
/// Bytes of the directory that are read at once; more where a record has more, which is at most 192 KiB.
const WINDOW_BYTES: u64 = 64 * 1024;
const ZIP64: u16 = 1;

/// Goes through the entries of an archive. Memory does not grow with their number.
pub struct Entries<'a, 'b> {
    archive: &'b Archive<'a>,
    budget: &'b Budget,
    window: Cow<'a, [u8]>,
    /// What of the window was read.
    used: usize,
    /// Where the window begins, in the file.
    at: u64,
    end: u64,
    count: u64,
    taken: Ranges,
    ended: bool,
    _level: Level<'b>,
}

impl<'a, 'b> Entries<'a, 'b> {
    pub(super) fn new(archive: &'b Archive<'a>, budget: &'b Budget, level: Level<'b>) -> Self {
        let at = archive.end.directory;
        Self {
            archive,
            budget,
            window: Cow::Borrowed(&[]),
            used: 0,
            at,
            end: at.saturating_add(archive.end.directory_bytes),
            count: 0,
            taken: Ranges::default(),
            ended: false,
            _level: level,
        }
    }

    /// The next entry.
    ///
    /// # Errors
    /// The directory is broken, has another number of entries than the archive says, or there are too many. It cannot be
    /// read on: there are no further entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_, 'a, 'b>>, Error> {
        if self.ended {
            return Ok(None);
        }
        // Every way out but the one that gives an entry is the last.
        self.ended = true;
        let at = self.position();
        if at >= self.end {
            return self.check_count().map(|()| None);
        }
        let cut_off = || broken(at, "the directory is cut off");
        let fixed = self.need(FIXED_BYTES.min((self.end - at) as usize))?;
        let signature = Fields(fixed).u32();
        if signature == Some(SIGNATURE_OF_ALL) {
            return self.check_count().map(|()| None);
        }
        let record = Record::read(Fields(fixed)).ok_or_else(cut_off)?;
        if signature != Some(SIGNATURE) {
            return Err(broken(at, "no directory entry begins here"));
        }
        self.budget.entry()?;
        self.count += 1;
        let length = FIXED_BYTES + record.name + record.extra + record.comment;
        let whole = self.need(length)?;
        let extra = whole.get(FIXED_BYTES + record.name..).and_then(|rest| rest.get(..record.extra));
        let (mut place, mut refusal) = record.place(extra.ok_or_else(cut_off)?);
        place.header = place.header.saturating_add(self.archive.end.base);
        if refusal.is_none() {
            refusal = self.take(&place, record.name as u64);
        }
        let used = self.used;
        self.used += length;
        self.ended = false;
        let name =
            self.window.get(used + FIXED_BYTES..).and_then(|rest| rest.get(..record.name)).ok_or_else(cut_off)?;
        Ok(Some(Entry { archive: self.archive, budget: self.budget, name, place, refusal }))
    }

    const fn position(&self) -> u64 {
        self.at + self.used as u64
    }

    /// At least `length` bytes of the directory from where it is read.
    fn need(&mut self, length: usize) -> Result<&[u8], Error> {
        if self.window.len() - self.used < length {
            let at = self.position();
            let left = self.end - at;
            if left < length as u64 {
                return Err(broken(at, "the directory is cut off"));
            }
            self.window = read(self.archive.content, at, left.min(WINDOW_BYTES.max(length as u64)) as usize)?;
            self.at = at;
            self.used = 0;
        }
        Ok(self.window.get(self.used..).unwrap_or_default())
    }

    /// Whether the entry's bytes are its own. Those of the extra field in its own header are not known here; what is
    /// counted is enough that no byte of the archive is decompressed twice as part of different entries' own sizes.
    fn take(&mut self, place: &Place, name: u64) -> Option<Refusal> {
        let end = place.header.saturating_add(LOCAL_BYTES + name).saturating_add(place.compressed_bytes);
        if end > self.archive.end.directory {
            return Some(Refusal::Outside);
        }
        match self.taken.take(place.header, end) {
            Ok(()) => None,
            Err(Taken::Overlaps) => Some(Refusal::Overlaps),
            Err(Taken::TooMany) => Some(Refusal::OutOfOrder),
        }
    }

    fn check_count(&self) -> Result<(), Error> {
        let end = &self.archive.end;
        // Many tools let the number overflow rather than write zip64.
        let is_stated = if end.zip64 { self.count == end.entries } else { self.count & 0xffff == end.entries };
        if is_stated {
            Ok(())
        } else {
            Err(broken(self.end, "the directory has another number of entries than the archive says"))
        }
    }
}

/// The fixed part of a directory entry.
struct Record {
    flags: u16,
    method: u16,
    crc: u32,
    compressed_bytes: u32,
    bytes: u32,
    name: usize,
    extra: usize,
    comment: usize,
    disk: u16,
    mode: u32,
    header: u32,
}

impl Record {
    fn read(mut fields: Fields<'_>) -> Option<Self> {
        let (_signature, _versions) = (fields.u32()?, fields.u32()?);
        let (flags, method, _time) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (crc, compressed_bytes, bytes) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?.into(), fields.u16()?.into(), fields.u16()?.into());
        let (disk, _internal, mode, header) = (fields.u16()?, fields.u16()?, fields.u32()?, fields.u32()?);
        Some(Self { flags, method, crc, compressed_bytes, bytes, name, extra, comment, disk, mode, header })
    }

    /// Where the entry is, with the numbers that `extra` has in place of those that do not fit.
    fn place(&self, extra: &[u8]) -> (Place, Option<Refusal>) {
        let mut place = Place {
            header: u64::from(self.header),
            flags: self.flags,
            method: self.method,
            crc: self.crc,
            compressed_bytes: u64::from(self.compressed_bytes),
            bytes: u64::from(self.bytes),
            mode: self.mode >> 16,
        };
        let mut disk = u32::from(self.disk);
        let needs = [self.bytes == u32::MAX, self.compressed_bytes == u32::MAX, self.header == u32::MAX];
        if needs.contains(&true) || self.disk == u16::MAX {
            let Some(disk64) = place.widen(needs, self.disk == u16::MAX, extra) else {
                return (place, Some(Refusal::Zip64));
            };
            disk = disk64.unwrap_or(disk);
        }
        (place, (disk != 0).then_some(Refusal::OtherPart))
    }
}

impl Place {
    /// Puts the numbers of the zip64 field in the place of those that do not fit, in the field's order; gives the part's
    /// number where that is there, too. None where a number is missing.
    fn widen(&mut self, needs: [bool; 3], needs_disk: bool, extra: &[u8]) -> Option<Option<u32>> {
        let mut fields = zip64(extra)?;
        for (number, needs) in [&mut self.bytes, &mut self.compressed_bytes, &mut self.header].into_iter().zip(needs) {
            if needs {
                *number = fields.u64()?;
            }
        }
        if needs_disk { fields.u32().map(Some) } else { Some(None) }
    }
}

/// The one zip64 field among the extra fields; none where there are two.
pub(super) fn zip64(extra: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields(extra);
    let mut found = None;
    while let (Some(id), Some(length)) = (fields.u16(), fields.u16()) {
        // Android's tools pad with what is no field; whatever follows cannot be one.
        let Some(bytes) = fields.bytes(length.into()) else { break };
        if id == ZIP64 && found.replace(Fields(bytes)).is_some() {
            return None;
        }
    }
    found
}
