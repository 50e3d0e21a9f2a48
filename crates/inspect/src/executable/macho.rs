//! Mach-O, as macOS has it, fat files included. Sources: Apple, `mach-o/loader.h` and `mach-o/fat.h`.

use super::fields::table;
use super::{
    ARCHITECTURES_MAX, Endian, Executable, ExecutableError, Fields, Format, SECTIONS_MAX, SEGMENTS_MAX, Section,
    Segment, TABLE_BYTES_MAX, fetch, name,
};
use crate::content::Content;

const SEGMENT_COMMAND: u32 = 0x1;
const SEGMENT_COMMAND_WIDE: u32 = 0x19;
const WRITABLE: u32 = 2;
const SECTION_TYPE: u32 = 0xff;
const HEADER_BYTES: u64 = 32;

pub(super) fn open<'a>(
    content: Content<'a>,
    head: &[u8],
    notes: &mut Vec<ExecutableError>,
) -> Result<Vec<Executable<'a>>, ExecutableError> {
    let [0xca, 0xfe, 0xba, kind, ..] = head else { return Ok(vec![image(content, notes)?]) };
    let record = if *kind == 0xbf { 32 } else { 20 };
    let endian = Endian::Big;
    let count = Fields { bytes: head, endian }.u32(4).unwrap_or_default();
    let most = (u64::from(count), ARCHITECTURES_MAX as usize);
    let bytes = table(&content, 8, most, record, "the table of architectures")?;
    let fields = Fields { bytes: &bytes, endian };
    let mut images = Vec::new();
    for base in (0..bytes.len()).step_by(record) {
        let place = if record == 32 {
            fields.u64(base + 8).zip(fields.u64(base + 16))
        } else {
            fields.u32(base + 8).map(u64::from).zip(fields.u32(base + 12).map(u64::from))
        };
        let Some((at, length)) = place else { continue };
        let read = match content.part(at, length) {
            Some(part) => image(part, notes),
            None => Err(ExecutableError::Truncated { what: "an architecture", at, length }),
        };
        match read {
            Ok(image) => images.push(image),
            Err(error) => notes.push(error),
        }
    }
    Ok(images)
}

/// One architecture.
fn image<'a>(content: Content<'a>, notes: &mut Vec<ExecutableError>) -> Result<Executable<'a>, ExecutableError> {
    // A narrow header is four bytes shorter, and no file ends that soon after it.
    let head = fetch(&content, 0, HEADER_BYTES, HEADER_BYTES as usize, "the Mach-O header")?;
    let (endian, wide) = match head.as_ref() {
        [0xfe, 0xed, 0xfa, 0xce, ..] => (Endian::Big, false),
        [0xfe, 0xed, 0xfa, 0xcf, ..] => (Endian::Big, true),
        [0xce, 0xfa, 0xed, 0xfe, ..] => (Endian::Little, false),
        [0xcf, 0xfa, 0xed, 0xfe, ..] => (Endian::Little, true),
        _ => return Err(ExecutableError::Format),
    };
    let fields = Fields { bytes: &head, endian };
    let (count, size) = fields.u32(16).zip(fields.u32(20)).unwrap_or_default();
    let mut image = Executable {
        format: Format::MachO,
        pointer_bytes: if wide { 8 } else { 4 },
        endian,
        sections: Vec::new(),
        segments: Vec::new(),
        content,
    };
    if let Err(error) = commands(&mut image, count, u64::from(size), if wide { 32 } else { 28 }) {
        notes.push(error);
    }
    Ok(image)
}

/// Reads the load commands up to the first that is broken.
fn commands(image: &mut Executable<'_>, count: u32, size: u64, start: u64) -> Result<(), ExecutableError> {
    if count as usize > SEGMENTS_MAX {
        let limit = SEGMENTS_MAX as u64;
        return Err(ExecutableError::Limit { what: "load commands", count: u64::from(count), limit });
    }
    let bytes = fetch(&image.content, start, size, TABLE_BYTES_MAX, "the load commands")?;
    let mut rest = bytes.as_ref();
    for _ in 0..count {
        let fields = Fields { bytes: rest, endian: image.endian };
        let at = start + (bytes.len() - rest.len()) as u64;
        let (kind, length) = fields.u32(0).zip(fields.u32(4)).ok_or(ExecutableError::Truncated {
            what: "a load command",
            at,
            length: 8,
        })?;
        let command = rest
            .get(..length as usize)
            .filter(|command| command.len() >= 8)
            .ok_or(ExecutableError::Invalid { what: "the size of a load command", at, value: u64::from(length) })?;
        if matches!(kind, SEGMENT_COMMAND | SEGMENT_COMMAND_WIDE) {
            let fields = Fields { bytes: command, endian: image.endian };
            segment(image, &fields, kind == SEGMENT_COMMAND_WIDE).ok_or(ExecutableError::Truncated {
                what: "the sections of a segment",
                at,
                length: u64::from(length),
            })?;
            if image.sections.len() > SECTIONS_MAX {
                let (count, limit) = (image.sections.len() as u64, SECTIONS_MAX as u64);
                return Err(ExecutableError::Limit { what: "sections", count, limit });
            }
        }
        rest = rest.get(command.len()..).unwrap_or_default();
    }
    Ok(())
}

fn segment(image: &mut Executable<'_>, fields: &Fields<'_>, wide: bool) -> Option<()> {
    let word = |narrow: usize, far: usize| {
        if wide { fields.u64(far) } else { fields.u32(narrow).map(u64::from) }
    };
    let (protection, count) = if wide { (60, 64) } else { (44, 48) };
    let writable = fields.u32(protection)? & WRITABLE != 0;
    image.segments.push(Segment {
        address: word(24, 24)?,
        offset: word(32, 40)?,
        size: word(36, 48)?,
        loaded: true,
        writable,
        note: false,
    });
    let (head, record) = if wide { (72, 80) } else { (56, 68) };
    let count = fields.u32(count)? as usize;
    let records = fields.bytes.get(head..)?.get(..count.checked_mul(record)?)?;
    for record in records.chunks_exact(record) {
        let fields = Fields { bytes: record, endian: fields.endian };
        let word = |narrow: usize, far: usize| {
            if wide { fields.u64(far) } else { fields.u32(narrow).map(u64::from) }
        };
        // Sections of these types are zeroes and have no bytes in the file.
        let zeroes = matches!(fields.u32(if wide { 64 } else { 56 })? & SECTION_TYPE, 0x1 | 0xc | 0x12);
        image.sections.push(Section {
            name: name(record.get(..16)?),
            address: word(32, 32)?,
            offset: u64::from(fields.u32(if wide { 48 } else { 40 })?),
            size: if zeroes { 0 } else { word(36, 40)? },
            writable,
            note: false,
            compressed: false,
        });
    }
    Some(())
}
