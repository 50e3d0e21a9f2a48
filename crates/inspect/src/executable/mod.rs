//! Executables and libraries: the sections and segments of ELF, PE and Mach-O files, read by position.
//!
//! Sources: the System V ABI (gABI, chapters 4 and 5), Microsoft's PE format, Apple's `mach-o/loader.h` and
//! `mach-o/fat.h`. Only headers and tables are read here; what stands in a section is read when it is asked for.

mod elf;
mod error;
mod fields;
mod macho;
mod pe;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memmem;

use crate::content::Content;

pub use error::ExecutableError;
use fields::{Fields, fetch};

/// Sections of one image at most.
pub const SECTIONS_MAX: usize = 16_384;
/// Program headers or load commands of one image at most.
pub const SEGMENTS_MAX: usize = 4_096;
/// Bytes of an image's section names, or of a Mach-O image's load commands, at most.
pub const TABLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a section's name at most; what is longer is cut.
pub const NAME_BYTES_MAX: usize = 256;
/// Architectures in a fat file at most. Java classes have the same magic and count at least 45 there.
pub const ARCHITECTURES_MAX: u32 = 16;
/// Bytes of a window when a range is searched.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes that are read at first: of most files, all headers and program headers.
const HEAD_BYTES: usize = 4096;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Unix.
    Elf,
    /// Windows.
    Pe,
    /// macOS.
    MachO,
}

/// The order of bytes in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Lowest byte first.
    Little,
    /// Highest byte first.
    Big,
}

/// A named part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name; empty where the names cannot be read.
    pub name: String,
    /// Where it lies in memory.
    pub address: u64,
    /// Where it lies in the image, in bytes from its start.
    pub offset: u64,
    /// Its bytes in the image; 0 where it has none there.
    pub size: u64,
    /// Whether the program may write to it.
    pub writable: bool,
    /// Whether it is an ELF note section.
    pub note: bool,
    /// Whether an ELF file states that its bytes are compressed.
    pub compressed: bool,
}

/// A part of an image that is loaded as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it lies in memory.
    pub address: u64,
    /// Where it lies in the image, in bytes from its start.
    pub offset: u64,
    /// Its bytes in the image.
    pub size: u64,
    /// Whether it is loaded at all.
    pub loaded: bool,
    /// Whether the program may write to it.
    pub writable: bool,
    /// Whether it holds ELF notes.
    pub note: bool,
}

/// One image: a whole ELF or PE file, or one architecture of a Mach-O file.
#[derive(Clone, Debug)]
pub struct Executable<'a> {
    /// What kind of file it is.
    pub format: Format,
    /// Bytes of an address: 4 or 8.
    pub pointer_bytes: u8,
    /// The order of its numbers' bytes.
    pub endian: Endian,
    /// Its sections in the order of the file; none where it was stripped of the table.
    pub sections: Vec<Section>,
    /// Its segments in the order of the file; those of a PE file are its sections.
    pub segments: Vec<Segment>,
    content: Content<'a>,
}

/// What one file holds.
#[derive(Debug)]
pub struct Executables<'a> {
    /// One image, or as many as there are architectures in a fat Mach-O file.
    pub images: Vec<Executable<'a>>,
    /// What could not be read of them.
    pub notes: Vec<ExecutableError>,
}

/// Whether a file that begins with these bytes may be an executable: true for every file that [`open`] reads, and for
/// few others. Eight bytes are enough.
pub fn sniff(head: &[u8]) -> bool {
    match head {
        [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', ..] => true,
        [0xca, 0xfe, 0xba, 0xbe | 0xbf, count @ ..] => {
            count.first_chunk().is_some_and(|count| (1..=ARCHITECTURES_MAX).contains(&u32::from_be_bytes(*count)))
        }
        [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => true,
        _ => false,
    }
}

/// Reads the headers and tables of an executable.
///
/// # Errors
/// [`ExecutableError::Format`] for what is no executable, and others where not even the first header can be read.
/// What fails after that is among the notes.
pub fn open(content: Content<'_>) -> Result<Executables<'_>, ExecutableError> {
    let head = fetch(&content, 0, content.len().min(HEAD_BYTES as u64), HEAD_BYTES, "the file's first bytes")?;
    let mut notes = Vec::new();
    let images = match head.as_ref() {
        [0x7f, b'E', b'L', b'F', ..] => vec![elf::open(content, &head, &mut notes)?],
        [b'M', b'Z', ..] => vec![pe::open(content, &head, &mut notes)?],
        head if sniff(head) => macho::open(content, head, &mut notes)?,
        _ => return Err(ExecutableError::Format),
    };
    Ok(Executables { images, notes })
}

impl<'a> Executable<'a> {
    /// The first section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The image's own bytes.
    pub const fn content(&self) -> Content<'a> {
        self.content
    }

    /// The bytes of a section.
    ///
    /// # Errors
    /// Where they are not in the file, over `limit`, compressed, or cannot be read.
    pub fn section_bytes(&self, section: &Section, limit: usize) -> Result<Cow<'a, [u8]>, ExecutableError> {
        if section.compressed {
            return Err(ExecutableError::Compressed { name: section.name.clone() });
        }
        fetch(&self.content, section.offset, section.size, limit, "a section")
    }

    /// `length` bytes from an address in memory.
    ///
    /// # Errors
    /// Where no segment holds them, or they are not in the file, over `limit`, or cannot be read.
    pub fn memory(&self, address: u64, length: u64, limit: usize) -> Result<Cow<'a, [u8]>, ExecutableError> {
        let held = |segment: &&Segment| {
            segment.loaded
                && address
                    .checked_sub(segment.address)
                    .is_some_and(|inner| inner.checked_add(length).is_some_and(|end| end <= segment.size))
        };
        let segment = self.segments.iter().find(held).ok_or(ExecutableError::Address { address, length })?;
        let at = segment.offset.checked_add(address - segment.address);
        fetch(&self.content, at.ok_or(ExecutableError::Address { address, length })?, length, limit, "memory")
    }

    /// Where `needle` stands in a range of the image, for at most `most` places; read in windows that overlap, each at
    /// most [`WINDOW_BYTES`] and the needle long.
    ///
    /// # Errors
    /// Where the file cannot be read. What of the range is past its end is left out.
    pub fn find(&self, offset: u64, size: u64, needle: &[u8], most: usize) -> Result<Vec<u64>, ExecutableError> {
        let end = offset.saturating_add(size).min(self.content.len());
        let finder = memmem::Finder::new(needle);
        let mut found = Vec::new();
        let mut at = offset;
        while at < end && found.len() < most {
            let length = (end - at).min((WINDOW_BYTES + needle.len().saturating_sub(1)) as u64);
            let window = fetch(&self.content, at, length, length as usize, "a window")?;
            found.extend(finder.find_iter(&window).map(|inner| at + inner as u64).take(most - found.len()));
            at = at.saturating_add(WINDOW_BYTES as u64);
        }
        Ok(found)
    }
}

/// A name that ends at a NUL or at the end of its place.
fn name(bytes: &[u8]) -> String {
    let bytes = bytes.get(..NAME_BYTES_MAX.min(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
