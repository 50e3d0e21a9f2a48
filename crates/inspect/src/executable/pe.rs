//! PE, as Windows has it. Source: Microsoft, "PE Format".

use super::fields::table;
use super::{
    Endian, Executable, ExecutableError, Fields, Format, SECTIONS_MAX, Section, Segment, TABLE_BYTES_MAX, fetch, name,
};
use crate::content::Content;

const SECTION_HEADER_BYTES: usize = 40;
const SYMBOL_BYTES: u64 = 18;
/// Bytes of the signature, the COFF header, and those of the optional header that are used.
const HEADERS_BYTES: u64 = 4 + 20 + 32;
const COFF_BYTES: usize = 24;
const WRITABLE: u32 = 0x8000_0000;

pub(super) fn open<'a>(
    content: Content<'a>,
    head: &[u8],
    notes: &mut Vec<ExecutableError>,
) -> Result<Executable<'a>, ExecutableError> {
    let endian = Endian::Little;
    let truncated = |what| ExecutableError::Truncated { what, at: 0, length: 64 };
    let start = Fields { bytes: head, endian }.u32(0x3c).ok_or_else(|| truncated("the DOS header"))?;
    let start = u64::from(start);
    let headers = fetch(&content, start, HEADERS_BYTES, HEADERS_BYTES as usize, "the PE header")?;
    if !headers.starts_with(b"PE\0\0") {
        // A program for DOS is no PE file.
        return Err(ExecutableError::Format);
    }
    let fields = Fields { bytes: &headers, endian };
    let header = || {
        let magic = fields.u16(COFF_BYTES)?;
        let wide = magic == 0x20b;
        let base = if wide { fields.u64(COFF_BYTES + 24)? } else { u64::from(fields.u32(COFF_BYTES + 28)?) };
        Some((fields.u16(6)?, fields.u32(12)?, fields.u32(16)?, fields.u16(20)?, magic, wide, base))
    };
    let (count, symbols_at, symbols, optional_bytes, magic, wide, base) =
        header().ok_or_else(|| truncated("the PE header"))?;
    if !wide && magic != 0x10b {
        let at = start + COFF_BYTES as u64;
        return Err(ExecutableError::Invalid { what: "the magic of a PE file", at, value: u64::from(magic) });
    }
    let mut sections = Vec::new();
    let at = start + COFF_BYTES as u64 + u64::from(optional_bytes);
    match table(&content, at, (u64::from(count), SECTIONS_MAX), SECTION_HEADER_BYTES, "the section headers") {
        Ok(bytes) => {
            let names = long_names(&content, &bytes, symbols_at, symbols, notes);
            let fields = Fields { bytes: &bytes, endian };
            let places = (0..bytes.len()).step_by(SECTION_HEADER_BYTES);
            sections.extend(places.filter_map(|at| section(&fields, at, base, names.as_deref())));
        }
        Err(error) => notes.push(error),
    }
    let segments = sections.iter().map(|section: &Section| Segment {
        address: section.address,
        offset: section.offset,
        size: section.size,
        loaded: true,
        writable: section.writable,
        note: false,
    });
    let segments = segments.collect();
    let pointer_bytes = if wide { 8 } else { 4 };
    Ok(Executable { format: Format::Pe, pointer_bytes, endian, sections, segments, content })
}

/// Names of more than eight bytes, where any section has one.
fn long_names<'a>(
    content: &Content<'a>,
    sections: &[u8],
    symbols_at: u32,
    symbols: u32,
    notes: &mut Vec<ExecutableError>,
) -> Option<std::borrow::Cow<'a, [u8]>> {
    if symbols_at == 0 || !sections.chunks(SECTION_HEADER_BYTES).any(|section| section.starts_with(b"/")) {
        return None;
    }
    let at = u64::from(symbols_at) + u64::from(symbols) * SYMBOL_BYTES;
    let read = fetch(content, at, 4, 4, "the long names").and_then(|length| {
        let length = Fields { bytes: &length, endian: Endian::Little }.u32(0).unwrap_or_default();
        fetch(content, at, u64::from(length), TABLE_BYTES_MAX, "the long names")
    });
    read.map_err(|error| notes.push(error)).ok()
}

fn section(fields: &Fields<'_>, at: usize, base: u64, names: Option<&[u8]>) -> Option<Section> {
    let short = fields.bytes.get(at..at + 8)?;
    let long = || {
        let digits = name(short.strip_prefix(b"/")?).parse::<usize>().ok()?;
        names?.get(digits..).map(name)
    };
    let in_memory = fields.u32(at + 8)?;
    let in_file = fields.u32(at + 16)?;
    Some(Section {
        name: long().unwrap_or_else(|| name(short)),
        address: base.saturating_add(u64::from(fields.u32(at + 12)?)),
        offset: u64::from(fields.u32(at + 20)?),
        // What the file has beyond the size in memory is padding; some linkers leave the latter 0.
        size: u64::from(if in_memory == 0 { in_file } else { in_file.min(in_memory) }),
        writable: fields.u32(at + 36)? & WRITABLE != 0,
        note: false,
        compressed: false,
    })
}
