//! The blob that holds build information, in both its forms. Source: Go's `debug/buildinfo` and the linker's
//! `buildinfo` pass.
//!
//! A magic of 14 bytes, the bytes of a pointer, flags; until Go 1.17 then two pointers to string headers, and since
//! Go 1.18 at byte 32 the two strings themselves, each after its length as a varint. The second is between two
//! sentinels of 16 bytes.

use std::borrow::Cow;

use super::{BuildInformation, GoError, parse};
use crate::executable::{Executable, ExecutableError, Format};

/// Bytes of the toolchain's version at most.
pub const VERSION_BYTES_MAX: usize = 1024;
/// Bytes of the modules' text at most.
pub const MODULES_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one range that are searched at most, where no section is named after the blob.
const SEARCH_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Places that look like a blob and are tried.
const CANDIDATES_MAX: usize = 16;
const MAGIC: &[u8] = b"\xff Go buildinf:";
const HEADER_BYTES: u64 = 32;
const ALIGNMENT: u64 = 16;
const SENTINEL_BYTES: usize = 16;
const BIG_ENDIAN: u8 = 1;
const INLINE: u8 = 2;
/// Bytes of a varint of 64 bits at most.
const VARINT_BYTES_MAX: usize = 10;
/// Bytes that are read with the header: of most programs, the whole blob.
const FIRST_READ_BYTES: u64 = 32 * 1024;

/// Reads a program's build information; `None` where it has none.
///
/// # Errors
/// Where there is a blob that is broken, or the file cannot be read.
pub fn read(image: &Executable<'_>) -> Result<Option<BuildInformation>, GoError> {
    let named = image.sections.iter().find(|section| matches!(&*section.name, ".go.buildinfo" | "__go_buildinfo"));
    if let Some(section) = named {
        // The blob begins the section, unless another linker moved it within.
        let missing = GoError::Broken { at: section.offset, what: "the section of its name holds none" };
        return first(image, section.offset, section.size)?.map(Some).ok_or(missing);
    }
    if !image.sections.is_empty() && image.format != Format::Pe {
        // Every Go linker names the section; what was stripped of its table has no sections at all.
        return Ok(None);
    }
    for segment in image.segments.iter().filter(|segment| segment.loaded && segment.writable) {
        if let Some(found) = first(image, segment.offset, segment.size.min(SEARCH_BYTES_MAX))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The first good blob of a range; where there is none, what is wrong with the first one.
fn first(image: &Executable<'_>, offset: u64, size: u64) -> Result<Option<BuildInformation>, GoError> {
    let mut broken = None;
    for at in image.find(offset, size, MAGIC, CANDIDATES_MAX)? {
        if !(at - offset).is_multiple_of(ALIGNMENT) {
            continue;
        }
        match blob(image, at) {
            Ok(found) => return Ok(Some(found)),
            Err(error) => {
                broken.get_or_insert(error);
            }
        }
    }
    broken.map_or(Ok(None), Err)
}

fn blob(image: &Executable<'_>, at: u64) -> Result<BuildInformation, GoError> {
    let broken = |what| GoError::Broken { at, what };
    let length = (image.content().len() - at).min(FIRST_READ_BYTES);
    let bytes = bytes_at(image, at, length)?;
    let header = bytes.get(..HEADER_BYTES as usize).ok_or_else(|| broken("it is cut off"))?;
    let (pointer_bytes, flags) = header.get(14).zip(header.get(15)).ok_or_else(|| broken("it is cut off"))?;
    let (version, modules) = if flags & INLINE != 0 {
        let (version, rest) = inline(image, at, HEADER_BYTES, &bytes, VERSION_BYTES_MAX)?;
        let (modules, _) = inline(image, at, rest, &bytes, MODULES_BYTES_MAX)?;
        (version, modules)
    } else {
        let wide = match pointer_bytes {
            4 => false,
            8 => true,
            _ => return Err(broken("its pointers have neither 4 nor 8 bytes")),
        };
        let pointers = Pointers { wide, big: flags & BIG_ENDIAN != 0 };
        let first = pointers.word(header, 16).ok_or_else(|| broken("it is cut off"))?;
        let second = pointers.word(header, 16 + pointers.bytes()).ok_or_else(|| broken("it is cut off"))?;
        (pointers.string(image, first, VERSION_BYTES_MAX)?, pointers.string(image, second, MODULES_BYTES_MAX)?)
    };
    let version = std::str::from_utf8(&version).map_err(|_| broken("the Go version is not UTF-8"))?;
    if version.is_empty() {
        return Err(broken("the Go version is empty"));
    }
    // What is not between its sentinels, with a line's end before the last, is no text of modules: Go ignores it too.
    let text = match modules.len().checked_sub(SENTINEL_BYTES) {
        Some(end) if end > SENTINEL_BYTES && modules.get(end - 1) == Some(&b'\n') => {
            modules.get(SENTINEL_BYTES..end).unwrap_or_default()
        }
        _ if modules.is_empty() => &[],
        _ => return Err(broken("the modules' text is not between its sentinels")),
    };
    let text = std::str::from_utf8(text).map_err(|_| broken("the modules' text is not UTF-8"))?;
    Ok(parse(version, text))
}

fn bytes_at<'a>(image: &Executable<'a>, at: u64, length: u64) -> Result<Cow<'a, [u8]>, ExecutableError> {
    let truncated = ExecutableError::Truncated { what: "Go build information", at, length };
    let length = usize::try_from(length).map_err(|_| truncated)?;
    image.content().read(at, length).map_err(|error| ExecutableError::Read { what: "Go build information", at, error })
}

/// A string after its length, from `start` of the blob, and where it ends.
fn inline<'b>(
    image: &Executable<'b>,
    at: u64,
    start: u64,
    bytes: &'b [u8],
    limit: usize,
) -> Result<(Cow<'b, [u8]>, u64), GoError> {
    let broken = |what| GoError::Broken { at, what };
    let rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
    let far;
    let rest = if rest.len() < VARINT_BYTES_MAX {
        // Only where the first string fills what was read, or at the end of the file.
        let left = image.content().len().saturating_sub(at + start).min(VARINT_BYTES_MAX as u64);
        far = bytes_at(image, at + start, left)?;
        far.as_ref()
    } else {
        rest
    };
    let (length, used) = varint(rest).ok_or_else(|| broken("a length is cut off"))?;
    if length > limit as u64 {
        return Err(ExecutableError::Limit { what: "Go build information", count: length, limit: limit as u64 }.into());
    }
    let from = start + used;
    let end = from + length;
    if end > image.content().len() - at {
        return Err(broken("a string is past the end of the file"));
    }
    let held = usize::try_from(from).ok().zip(usize::try_from(end).ok()).and_then(|(from, end)| bytes.get(from..end));
    match held {
        Some(held) => Ok((Cow::Borrowed(held), end)),
        None => Ok((bytes_at(image, at + from, length)?, end)),
    }
}

/// A number in groups of seven bits, lowest first, and its bytes.
fn varint(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        value |= bits.checked_shl(7 * index as u32).filter(|shifted| shifted >> (7 * index as u32) == bits)?;
        if byte & 0x80 == 0 {
            return Some((value, index as u64 + 1));
        }
    }
    None
}

/// The form before Go 1.18.
struct Pointers {
    wide: bool,
    big: bool,
}

impl Pointers {
    fn bytes(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = bytes.get(at..)?;
        Some(match (self.wide, self.big) {
            (false, false) => u64::from(u32::from_le_bytes(*bytes.first_chunk()?)),
            (false, true) => u64::from(u32::from_be_bytes(*bytes.first_chunk()?)),
            (true, false) => u64::from_le_bytes(*bytes.first_chunk()?),
            (true, true) => u64::from_be_bytes(*bytes.first_chunk()?),
        })
    }

    /// The string whose header (address and length) is at an address. No header means an empty string.
    fn string<'a>(&self, image: &Executable<'a>, header: u64, limit: usize) -> Result<Cow<'a, [u8]>, ExecutableError> {
        if header == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        let size = 2 * self.bytes();
        let words = image.memory(header, size as u64, size)?;
        let address = self.word(&words, 0).unwrap_or_default();
        let length = self.word(&words, self.bytes()).unwrap_or_default();
        if length == 0 { Ok(Cow::Borrowed(&[])) } else { image.memory(address, length, limit) }
    }
}
