//! ELF notes: the build identifier, and the package that a distribution says it is of. Sources: the gABI (note
//! sections), GNU binutils (`NT_GNU_BUILD_ID`), the UAPI group's "Package Metadata for Executable Files".

use serde::Deserialize;

use crate::component::{Component, Ecosystem, Evidence};
use crate::executable::{Endian, Executable, ExecutableError, Format};

/// Bytes of one note section or segment at most.
pub const NOTES_BYTES_MAX: usize = 256 * 1024;
/// Note sections or segments of one file at most.
const PLACES_MAX: usize = 64;
/// Bytes of a build identifier at most; linkers write 8 to 32.
const BUILD_ID_BYTES_MAX: usize = 64;
const BUILD_ID: u32 = 3;
const PACKAGE: u32 = 0xcafe_1a7e;

/// What the notes of an ELF file say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The build identifier in hexadecimal digits.
    pub build_id: Option<String>,
    /// The package that it was built for.
    pub package: Option<Component>,
    /// What was not examined, and why.
    pub notes: Vec<String>,
}

/// The JSON of `.note.package`.
#[derive(Deserialize)]
struct Package {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    version: Option<String>,
    architecture: Option<String>,
}

/// Reads the notes of an image; those of other formats than ELF are empty.
pub fn read_notes(image: &Executable<'_>) -> Notes {
    let mut found = Notes::default();
    if image.format != Format::Elf {
        return found;
    }
    let mut places: Vec<(u64, u64)> = image
        .sections
        .iter()
        .filter(|section| section.note && !section.compressed)
        .map(|section| (section.offset, section.size))
        .collect();
    if places.is_empty() {
        // Without a table of sections the segments still tell.
        places
            .extend(image.segments.iter().filter(|segment| segment.note).map(|segment| (segment.offset, segment.size)));
    }
    if places.len() > PLACES_MAX {
        found.notes.push(format!("{} note sections, over the limit of {PLACES_MAX}", places.len()));
        places.truncate(PLACES_MAX);
    }
    for (at, size) in places {
        match bytes(image, at, size) {
            Ok(bytes) => {
                if walk(&bytes, image.endian, &mut found).is_none() {
                    found.notes.push(format!("the notes at byte {at} are broken and were not read to their end"));
                }
            }
            Err(error) => found.notes.push(error.to_string()),
        }
    }
    found
}

fn bytes<'a>(image: &Executable<'a>, at: u64, size: u64) -> Result<std::borrow::Cow<'a, [u8]>, ExecutableError> {
    const WHAT: &str = "the notes";
    let limit = NOTES_BYTES_MAX as u64;
    if size > limit {
        return Err(ExecutableError::Limit { what: WHAT, count: size, limit });
    }
    let end = at.checked_add(size).filter(|end| *end <= image.content().len());
    end.ok_or(ExecutableError::Truncated { what: WHAT, at, length: size })?;
    image.content().read(at, size as usize).map_err(|error| ExecutableError::Read { what: WHAT, at, error })
}

/// Reads note after note; `None` where one is cut off.
pub(super) fn walk(bytes: &[u8], endian: Endian, found: &mut Notes) -> Option<()> {
    let mut rest = bytes;
    // Fewer bytes than a header has are padding.
    while rest.len() >= 12 {
        let word = |at: usize| {
            let bytes = rest.get(at..)?.first_chunk().copied()?;
            Some(if endian == Endian::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
        };
        let (name_size, size, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let name = rest.get(12..)?.get(..name_size)?;
        let start = padded(12usize.checked_add(name_size)?)?;
        let value = rest.get(start..)?.get(..size)?;
        match (name, kind) {
            (b"GNU\0", BUILD_ID) => {
                if value.is_empty() || value.len() > BUILD_ID_BYTES_MAX {
                    found.notes.push(format!("a build identifier of {} bytes was not read", value.len()));
                } else {
                    found.build_id.get_or_insert_with(|| value.iter().map(|byte| format!("{byte:02x}")).collect());
                }
            }
            (b"FDO\0", PACKAGE) => match package(value) {
                Ok(package) => found.package = found.package.take().or(package),
                Err(error) => found.notes.push(format!("the package metadata of .note.package: {error}")),
            },
            _ => {}
        }
        rest = rest.get(padded(start.checked_add(size)?)?.min(rest.len())..)?;
    }
    Some(())
}

fn padded(length: usize) -> Option<usize> {
    length.checked_next_multiple_of(4)
}

fn package(value: &[u8]) -> Result<Option<Component>, serde_json::Error> {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let package: Package = serde_json::from_slice(text)?;
    let Some(name) = package.name else { return Ok(None) };
    let ecosystem = match package.kind.as_deref() {
        Some("deb") => Ecosystem::Deb,
        Some("rpm") => Ecosystem::Rpm,
        Some("apk") => Ecosystem::Apk,
        _ => Ecosystem::Generic,
    };
    Ok(Some(Component {
        ecosystem,
        name,
        version: package.version.unwrap_or_default(),
        architecture: package.architecture,
        source: None,
        licences: Vec::new(),
        evidence: Evidence::Contained,
    }))
}
