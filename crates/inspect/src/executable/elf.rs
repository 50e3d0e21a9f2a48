//! ELF: 32 and 64 bits, either order of bytes. Source: System V ABI, chapters 4 and 5.

use super::fields::table;
use super::{
    Endian, Executable, ExecutableError, Fields, Format, SECTIONS_MAX, SEGMENTS_MAX, Section, Segment, TABLE_BYTES_MAX,
    fetch, name,
};
use crate::content::Content;

const NOTE_SEGMENT: u32 = 4;
const LOADED_SEGMENT: u32 = 1;
const WRITABLE_SEGMENT: u32 = 2;
const NOTE_SECTION: u32 = 7;
const NO_BITS_SECTION: u32 = 8;
const WRITABLE_SECTION: u64 = 1;
const COMPRESSED_SECTION: u64 = 0x800;
/// Stands for a number that did not fit and is in section 0.
const IN_SECTION_ZERO_NAMES: u64 = 0xffff;
const IN_SECTION_ZERO_SEGMENTS: u64 = 0xffff;

/// Where the fields stand, which differs with the size of an address.
struct Layout {
    wide: bool,
    program_header: usize,
    section_header: usize,
}

impl Layout {
    /// The number at the narrow or the wide place, of an address's size.
    fn word(&self, fields: &Fields<'_>, base: usize, narrow: usize, wide: usize) -> Option<u64> {
        if self.wide { fields.u64(base + wide) } else { fields.u32(base + narrow).map(u64::from) }
    }

    fn half(&self, fields: &Fields<'_>, narrow: usize, wide: usize) -> Option<u64> {
        fields.u16(if self.wide { wide } else { narrow }).map(u64::from)
    }

    /// A section's entry: name, kind, flags, address, offset, size, link, info.
    fn section(&self, fields: &Fields<'_>, base: usize) -> Option<Entry> {
        Some(Entry {
            name: fields.u32(base)?,
            kind: fields.u32(base + 4)?,
            flags: self.word(fields, base, 8, 8)?,
            address: self.word(fields, base, 12, 16)?,
            offset: self.word(fields, base, 16, 24)?,
            size: self.word(fields, base, 20, 32)?,
            link: fields.u32(base + if self.wide { 40 } else { 24 })?,
            info: fields.u32(base + if self.wide { 44 } else { 28 })?,
        })
    }

    fn segment(&self, fields: &Fields<'_>, base: usize) -> Option<Segment> {
        let kind = fields.u32(base)?;
        let flags = fields.u32(base + if self.wide { 4 } else { 24 })?;
        Some(Segment {
            address: self.word(fields, base, 8, 16)?,
            offset: self.word(fields, base, 4, 8)?,
            size: self.word(fields, base, 16, 32)?,
            loaded: kind == LOADED_SEGMENT,
            writable: flags & WRITABLE_SEGMENT != 0,
            note: kind == NOTE_SEGMENT,
        })
    }
}

struct Entry {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
}

pub(super) fn open<'a>(
    content: Content<'a>,
    head: &[u8],
    notes: &mut Vec<ExecutableError>,
) -> Result<Executable<'a>, ExecutableError> {
    let truncated = |at: u64| ExecutableError::Truncated { what: "the ELF header", at, length: 64 };
    let invalid = |what, at: usize| ExecutableError::Invalid {
        what,
        at: at as u64,
        value: head.get(at).copied().map_or(0, u64::from),
    };
    let wide = match head.get(4) {
        Some(1) => false,
        Some(2) => true,
        _ => return Err(invalid("the class of an ELF file", 4)),
    };
    let endian = match head.get(5) {
        Some(1) => Endian::Little,
        Some(2) => Endian::Big,
        _ => return Err(invalid("the byte order of an ELF file", 5)),
    };
    let layout = if wide {
        Layout { wide, program_header: 56, section_header: 64 }
    } else {
        Layout { wide, program_header: 32, section_header: 40 }
    };
    let fields = Fields { bytes: head, endian };
    let header = || {
        Some((
            (layout.word(&fields, 0, 28, 32)?, layout.half(&fields, 42, 54)?, layout.half(&fields, 44, 56)?),
            (layout.word(&fields, 0, 32, 40)?, layout.half(&fields, 46, 58)?, layout.half(&fields, 48, 60)?),
            layout.half(&fields, 50, 62)?,
        ))
    };
    let ((segments_at, segment_bytes, mut segment_count), (sections_at, section_bytes, section_count), names_in) =
        header().ok_or_else(|| truncated(0))?;
    let mut sections = Vec::new();
    if sections_at != 0 {
        let read = if section_bytes == layout.section_header as u64 {
            read_sections(&content, endian, &layout, sections_at, section_count, names_in, notes)
        } else {
            Err(ExecutableError::Invalid {
                what: "the size of a section's header",
                at: if wide { 58 } else { 46 },
                value: section_bytes,
            })
        };
        match read {
            Ok((read, extended)) => {
                sections = read;
                if segment_count == IN_SECTION_ZERO_SEGMENTS {
                    segment_count = u64::from(extended);
                }
            }
            Err(error) => notes.push(error),
        }
    }
    let mut segments = Vec::new();
    if segment_count != 0 {
        let read = if segment_bytes == layout.program_header as u64 {
            let count = (segment_count, SEGMENTS_MAX);
            table(&content, segments_at, count, layout.program_header, "the program headers")
        } else {
            Err(ExecutableError::Invalid {
                what: "the size of a program header",
                at: if wide { 54 } else { 42 },
                value: segment_bytes,
            })
        };
        match read {
            Ok(bytes) => {
                let fields = Fields { bytes: &bytes, endian };
                let places = (0..bytes.len()).step_by(layout.program_header);
                segments.extend(places.filter_map(|base| layout.segment(&fields, base)));
            }
            Err(error) => notes.push(error),
        }
    }
    let pointer_bytes = if wide { 8 } else { 4 };
    Ok(Executable { format: Format::Elf, pointer_bytes, endian, sections, segments, content })
}

/// The sections, and section 0's word for the number of segments.
fn read_sections(
    content: &Content<'_>,
    endian: Endian,
    layout: &Layout,
    at: u64,
    mut count: u64,
    mut names_in: u64,
    notes: &mut Vec<ExecutableError>,
) -> Result<(Vec<Section>, u32), ExecutableError> {
    const WHAT: &str = "the section headers";
    let size = layout.section_header;
    let zero = table(content, at, (1, 1), size, WHAT)?;
    let truncated = ExecutableError::Truncated { what: WHAT, at, length: size as u64 };
    let zero = layout.section(&Fields { bytes: &zero, endian }, 0).ok_or(truncated)?;
    if count == 0 {
        count = zero.size;
    }
    if names_in == IN_SECTION_ZERO_NAMES {
        names_in = u64::from(zero.link);
    }
    let bytes = table(content, at, (count, SECTIONS_MAX), size, WHAT)?;
    let fields = Fields { bytes: &bytes, endian };
    let entries: Vec<Entry> = (0..bytes.len()).step_by(size).filter_map(|base| layout.section(&fields, base)).collect();
    let names = match usize::try_from(names_in).ok().and_then(|index| entries.get(index)) {
        // Section 0 is never one of names: the file says that it has none.
        Some(_) if names_in == 0 => None,
        Some(entry) => match fetch(content, entry.offset, entry.size, TABLE_BYTES_MAX, "the section names") {
            Ok(names) => Some(names),
            Err(error) => {
                notes.push(error);
                None
            }
        },
        None => {
            notes.push(ExecutableError::Invalid { what: "the index of the section names", at: 0, value: names_in });
            None
        }
    };
    let sections = entries.iter().map(|entry| Section {
        name: names.as_ref().and_then(|names| names.get(entry.name as usize..)).map(name).unwrap_or_default(),
        address: entry.address,
        offset: entry.offset,
        size: if entry.kind == NO_BITS_SECTION || entry.kind == 0 { 0 } else { entry.size },
        writable: entry.flags & WRITABLE_SECTION != 0,
        note: entry.kind == NOTE_SECTION,
        compressed: entry.flags & COMPRESSED_SECTION != 0,
    });
    Ok((sections.collect(), zero.info))
}
