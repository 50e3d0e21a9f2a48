//! An entry of the central directory.

use super::Archive;
use super::directory::{LOCAL_BYTES, zip64};
use super::reader::{Reader, Verified};
use super::{Fields, broken, read};
use crate::archive::budget::Budget;
use crate::archive::decompress::{Compression, Metered, first_bytes};
use crate::archive::error::{Error, Format};
use crate::archive::source::Source;
use crate::content::Content;

const LOCAL_SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x03\x04");
const DESCRIPTOR_SIGNATURE: &[u8] = b"PK\x07\x08";
/// Of a data descriptor with a signature and sizes of 64 bits.
const DESCRIPTOR_BYTES_MAX: u64 = 24;

const FLAG_ENCRYPTED: u16 = 1;
const FLAG_STRONG_ENCRYPTION: u16 = 1 << 6;
const FLAG_MASKED: u16 = 1 << 13;
const FLAG_PATCH: u16 = 1 << 5;

/// Bytes of an extra field that are read with an entry's header.
const EXTRA_BYTES: u64 = 32;
/// Bytes of deflate data that nearly always hold the first block's codes.
const FIRST_BLOCK_BYTES: u64 = 256;

const STORED: u16 = 0;
const DEFLATE: u16 = 8;
const BZIP2: u16 = 12;
const ZSTD_OLD: u16 = 20;
const ZSTD: u16 = 93;
const XZ: u16 = 95;
const AES: u16 = 99;

/// Why an entry is not read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its bytes are another entry's, too.
    Overlaps,
    /// It reaches into the directory, or past the end.
    Outside,
    /// Entries are in such disorder that nothing can tell whether it overlaps another.
    OutOfOrder,
    /// Its numbers of 64 bits are missing, or there twice.
    Zip64,
    /// It is in another part of the archive.
    OtherPart,
}

impl Refusal {
    const fn why(self) -> &'static str {
        match self {
            Self::Overlaps => "the entry overlaps another",
            Self::Outside => "the entry is not within the archive",
            Self::OutOfOrder => "too many entries are out of order",
            Self::Zip64 => "the entry's zip64 field is broken",
            Self::OtherPart => "the entry is in another part of the archive",
        }
    }
}

/// What the directory says of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where its own header is, in the file.
    pub(super) header: u64,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) compressed_bytes: u64,
    pub(super) bytes: u64,
    /// As Unix has it; 0 where the archive was made elsewhere.
    pub(super) mode: u32,
}

/// An entry, as the directory describes it.
pub struct Entry<'e, 'a, 'b> {
    pub(super) archive: &'b Archive<'a>,
    pub(super) budget: &'b Budget,
    pub(super) name: &'e [u8],
    pub(super) place: Place,
    pub(super) refusal: Option<Refusal>,
}

/// Where an entry's data is, and how it is to be read.
struct Data {
    start: u64,
    /// Where a data descriptor must be.
    descriptor: Option<u64>,
}

impl<'e, 'a, 'b> Entry<'e, 'a, 'b> {
    /// Its name: bytes as they are, of no certain encoding; see [`clean_name`](crate::archive::clean_name).
    pub const fn name(&self) -> &'e [u8] {
        self.name
    }

    /// Its size in bytes as stated; a reader holds it to that.
    pub const fn size(&self) -> u64 {
        self.place.bytes
    }

    /// Its compressed size in bytes.
    pub const fn compressed_size(&self) -> u64 {
        self.place.compressed_bytes
    }

    /// The CRC-32 of its bytes as stated; a reader holds it to that.
    pub const fn crc32(&self) -> u32 {
        self.place.crc
    }

    /// Whether it is a directory: its name ends with a slash.
    pub fn is_directory(&self) -> bool {
        self.name.last() == Some(&b'/')
    }

    /// Whether it is a symbolic link, whose target its bytes are.
    pub const fn is_symlink(&self) -> bool {
        self.place.mode & 0o17_0000 == 0o12_0000
    }

    /// Whether its bytes stand in the archive as they are.
    pub const fn is_stored(&self) -> bool {
        self.place.method == STORED
    }

    /// Whether it can be read, as far as the directory says. What is refused here counts as unexamined, also where
    /// nobody wants its bytes.
    ///
    /// # Errors
    /// It is refused, encrypted or compressed in an unknown way.
    pub fn check(&self) -> Result<(), Error> {
        let place = &self.place;
        if let Some(refusal) = self.refusal {
            return Err(broken(place.header, refusal.why()));
        }
        if place.flags & (FLAG_ENCRYPTED | FLAG_STRONG_ENCRYPTION | FLAG_MASKED) != 0 || place.method == AES {
            return Err(Error::Encrypted { format: Format::Zip });
        }
        let is_known = matches!(place.method, STORED | DEFLATE | BZIP2 | ZSTD_OLD | ZSTD | XZ);
        if !is_known || place.flags & FLAG_PATCH != 0 {
            let number = u64::from(place.method);
            return Err(Error::Unsupported { format: Format::Zip, what: "compression method", number });
        }
        if place.method == STORED && place.bytes != place.compressed_bytes {
            return Err(broken(place.header, "the entry is stored, and its two sizes differ"));
        }
        if place.bytes > self.budget.limits().member_bytes {
            let limit = self.budget.limits().member_bytes;
            return Err(crate::archive::OverLimit { what: crate::archive::Limit::MemberBytes, limit }.into());
        }
        Ok(())
    }

    /// Why it is not read at all, where that is so.
    pub const fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Reads its bytes, decompressed.
    ///
    /// # Errors
    /// As with [`Entry::check`]; also where its own header contradicts the directory.
    pub fn reader(&self) -> Result<Reader<'a, 'b>, Error> {
        self.check()?;
        let data = self.data()?;
        let part = self.part(&data)?;
        let (source, budget) = (Source::new(part), self.budget);
        let coder = match self.place.method {
            STORED => Metered::stored(source, budget),
            DEFLATE => Metered::deflate(source, budget),
            BZIP2 => Metered::new(Compression::Bzip2, source, budget)?,
            XZ => Metered::new(Compression::Xz, source, budget)?,
            _ => Metered::new(Compression::Zstd, source, budget)?,
        };
        Ok(Reader::new(coder, self.verified()))
    }

    /// The first bytes of a deflated entry, where they can be told for less than it costs to inflate them; not verified.
    ///
    /// # Errors
    /// As with [`Entry::reader`].
    pub fn first_bytes<const LENGTH: usize>(&self) -> Result<Option<[u8; LENGTH]>, Error> {
        if self.place.method != DEFLATE {
            return Ok(None);
        }
        self.check()?;
        let header = LOCAL_BYTES + self.name.len() as u64;
        let left = self.archive.end.directory.saturating_sub(self.place.header);
        let length = left.min(header + EXTRA_BYTES + FIRST_BLOCK_BYTES).max(header) as usize;
        let bytes = read(self.archive.content, self.place.header, length)?;
        let data = self.data_of(bytes.get(..header as usize).unwrap_or_default())?;
        let start = (data.start - self.place.header) as usize;
        let deflate = bytes.get(start..).unwrap_or_default();
        let inner = usize::try_from(self.place.compressed_bytes).unwrap_or(usize::MAX);
        Ok(first_bytes(deflate.get(..inner).unwrap_or(deflate)))
    }

    /// Where its bytes stand in the archive as they are, those: an archive in an archive need not be copied to be read.
    /// They were read once to compare the checksum.
    ///
    /// # Errors
    /// As with [`Entry::reader`] and reading to its end.
    pub fn stored(&self) -> Result<Option<Content<'a>>, Error> {
        if !self.is_stored() {
            return Ok(None);
        }
        let mut reader = self.reader()?;
        std::io::copy(&mut reader, &mut std::io::sink())?;
        self.part(&self.data()?).map(Some)
    }

    const fn verified(&self) -> Verified {
        let Place { header: at, crc, compressed_bytes, bytes, .. } = self.place;
        Verified { at, crc, compressed_bytes, bytes }
    }

    fn part(&self, data: &Data) -> Result<Content<'a>, Error> {
        let outside = broken(self.place.header, Refusal::Outside.why());
        self.archive.content.part(data.start, self.place.compressed_bytes).ok_or(outside)
    }

    /// Reads its own header, which must say what the directory says.
    fn data(&self) -> Result<Data, Error> {
        self.data_of(&read(self.archive.content, self.place.header, LOCAL_BYTES as usize + self.name.len())?)
    }

    fn data_of(&self, header: &[u8]) -> Result<Data, Error> {
        let place = &self.place;
        let local = Local::read(Fields(header)).ok_or(broken(place.header, "the entry's own header is cut off"))?;
        let differs = |why| Err(broken(place.header, why));
        if local.signature != LOCAL_SIGNATURE {
            return differs("the entry's own header is not where the directory says");
        }
        if header.get(LOCAL_BYTES as usize..) != Some(self.name) || local.name as usize != self.name.len() {
            return differs("the entry has another name in its own header");
        }
        if local.method != place.method {
            return differs("the entry has another compression method in its own header");
        }
        if (local.flags ^ place.flags) & (FLAG_ENCRYPTED | FLAG_STRONG_ENCRYPTION | FLAG_MASKED) != 0 {
            return differs("the entry is encrypted in only one of its headers");
        }
        let extra_at = place.header + header.len() as u64;
        let start = extra_at + u64::from(local.extra);
        let end = start.checked_add(place.compressed_bytes).filter(|end| *end <= self.archive.end.directory);
        let Some(end) = end else { return differs(Refusal::Outside.why()) };
        let (bytes, compressed_bytes) = local.sizes(self.archive.content, extra_at)?;
        let stated = (local.crc, compressed_bytes, bytes);
        let follows = stated == (0, 0, 0) && (place.crc, place.compressed_bytes, place.bytes) != (0, 0, 0);
        if !follows && stated != (place.crc, place.compressed_bytes, place.bytes) {
            return differs("the entry has another size or checksum in its own header");
        }
        let data = Data { start, descriptor: follows.then_some(end) };
        self.check_descriptor(&data)?;
        Ok(data)
    }

    /// Readers that cannot seek believe what stands behind the data.
    fn check_descriptor(&self, data: &Data) -> Result<(), Error> {
        let Some(at) = data.descriptor else { return Ok(()) };
        let Place { crc, compressed_bytes, bytes, .. } = self.place;
        let there = (self.archive.end.directory - at).min(DESCRIPTOR_BYTES_MAX);
        let found = read(self.archive.content, at, there as usize)?;
        let mut small = crc.to_le_bytes().to_vec();
        let mut large = small.clone();
        for number in [compressed_bytes, bytes] {
            // Larger numbers make the small form wrong, as they should.
            small.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
            large.extend(number.to_le_bytes());
        }
        let bare = found.strip_prefix(DESCRIPTOR_SIGNATURE);
        let is_one = |bytes: &[u8]| bytes.starts_with(&small) || bytes.starts_with(&large);
        if bare.is_some_and(is_one) || is_one(&found) {
            Ok(())
        } else {
            Err(broken(at, "the entry's data descriptor is missing or contradicts the directory"))
        }
    }
}

/// The fixed part of an entry's own header.
struct Local {
    signature: u32,
    flags: u16,
    method: u16,
    crc: u32,
    compressed_bytes: u32,
    bytes: u32,
    name: u16,
    extra: u16,
}

impl Local {
    fn read(mut fields: Fields<'_>) -> Option<Self> {
        let (signature, _version) = (fields.u32()?, fields.u16()?);
        let (flags, method, _time) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (crc, compressed_bytes, bytes) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name, extra) = (fields.u16()?, fields.u16()?);
        Some(Self { signature, flags, method, crc, compressed_bytes, bytes, name, extra })
    }

    /// Its size and compressed size, from the extra field where they do not fit.
    fn sizes(&self, content: Content<'_>, extra_at: u64) -> Result<(u64, u64), Error> {
        let mut sizes = (u64::from(self.bytes), u64::from(self.compressed_bytes));
        let needs = (self.bytes == u32::MAX, self.compressed_bytes == u32::MAX);
        if needs.0 || needs.1 {
            let extra = read(content, extra_at, self.extra.into())?;
            let missing = || broken(extra_at, "the zip64 field in the entry's own header is missing or broken");
            let mut fields = zip64(&extra).ok_or_else(missing)?;
            if needs.0 {
                sizes.0 = fields.u64().ok_or_else(missing)?;
            }
            if needs.1 {
                sizes.1 = fields.u64().ok_or_else(missing)?;
            }
        }
        Ok(sizes)
    }
}
