//! The built-in index of well-known libraries: for each a few of its classes, by which it is known in other archives.
//!
//! Form, after zlib, numbers little-endian: u16 libraries; of each its name `group:artifact` and its versions (u8
//! count; u8 length and text each), u8 classes; of each the hash of its simple name (u32), u8 shapes; of each the
//! fingerprint (u32), the versions that have it (u16, a bit each), u8 builds; of each CRC-32 and size as one number
//! (u32) and the versions (u16). Strings are u8 length and text.

mod build;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::OnceLock;

use flate2::read::ZlibDecoder;

pub use build::{ClassPrint, Library, build_index, print_of};

/// Bytes of the index when inflated at most.
pub const INDEX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Versions of one library at most: the bits of a mask.
pub(super) const VERSIONS_MAX: usize = 16;
const BUILT_IN: &[u8] = include_bytes!("../index.bin");

/// FNV-1a of 64 bits. It keeps no secrets: whoever forges a class to look like a library's makes a finding too many.
pub(super) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.byte(*byte));
    }

    /// All of it, mixed so that sums of hashes keep their parts apart.
    pub(super) fn wide(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    pub(super) fn narrow(&self) -> u32 {
        (self.wide() >> 32) as u32
    }
}

/// The simple name of a class by the path of its file, as a hash. `None` for what has no name of its own, and for
/// copies for later versions of Java.
pub(super) fn name_hash(path: &[u8]) -> Option<u32> {
    let name = path.strip_suffix(b".class")?;
    let name = name.rsplit(|byte| *byte == b'/').next()?;
    let inner = name.rsplit(|byte| *byte == b'$').next()?;
    let anonymous = inner.first().is_none_or(u8::is_ascii_digit);
    if anonymous || matches!(name, b"package-info" | b"module-info") || path.starts_with(b"META-INF/versions/") {
        return None;
    }
    let mut hash = Hash::default();
    hash.bytes(name);
    Some(hash.narrow())
}

/// CRC-32 and size of a file as one number.
pub(super) fn build_key(crc32: u32, size: u64) -> u32 {
    crc32 ^ (size as u32).wrapping_mul(0x9e37_79b1)
}

/// The index in memory.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) libraries: Vec<Known>,
    /// By the hash of a simple name: the library and its class.
    by_name: HashMap<u32, Vec<(u16, u8)>>,
}

/// A library.
#[derive(Debug)]
pub(super) struct Known {
    /// `group:artifact`.
    pub(super) name: String,
    pub(super) versions: Vec<String>,
    pub(super) classes: Vec<Class>,
}

/// A class by which it is known.
#[derive(Debug)]
pub(super) struct Class {
    name: u32,
    shapes: Vec<Variant>,
}

#[derive(Debug)]
struct Variant {
    fingerprint: u32,
    versions: u16,
    /// Build keys and their versions.
    builds: Vec<(u32, u16)>,
}

impl Class {
    /// The versions whose class is exactly this file.
    pub(super) fn built(&self, key: u32) -> u16 {
        let builds = self.shapes.iter().flat_map(|shape| &shape.builds);
        builds.filter(|(known, _)| *known == key).fold(0, |all, (_, versions)| all | versions)
    }

    /// The versions whose class has this shape.
    pub(super) fn shaped(&self, fingerprint: u32) -> u16 {
        let shapes = self.shapes.iter().filter(|shape| shape.fingerprint == fingerprint);
        shapes.fold(0, |all, shape| all | shape.versions)
    }
}

impl Known {
    pub(super) fn artifact(&self) -> &str {
        self.name.rsplit(':').next().unwrap_or_default()
    }
}

impl Index {
    /// The index that the program brings along; `None` only where that was built wrongly, which a test refuses.
    pub(super) fn built_in() -> Option<&'static Self> {
        static INDEX: OnceLock<Option<Index>> = OnceLock::new();
        INDEX.get_or_init(|| Self::read(BUILT_IN)).as_ref()
    }

    pub(super) fn read(compressed: &[u8]) -> Option<Self> {
        let mut bytes = Vec::new();
        ZlibDecoder::new(compressed).take(INDEX_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
        let mut rest = bytes.as_slice();
        let input = &mut rest;
        let mut libraries = Vec::new();
        let mut by_name: HashMap<u32, Vec<(u16, u8)>> = HashMap::new();
        for library in 0..u16::from_le_bytes(array(input)?) {
            let name = string(input)?;
            let [versions] = array(input)?;
            let versions = (0..versions).map(|_| string(input)).collect::<Option<_>>()?;
            let [count] = array(input)?;
            let mut classes = Vec::new();
            for class in 0..count {
                let name = u32::from_le_bytes(array(input)?);
                by_name.entry(name).or_default().push((library, class));
                let [count] = array(input)?;
                let mut shapes = Vec::new();
                for _ in 0..count {
                    let fingerprint = u32::from_le_bytes(array(input)?);
                    let versions = u16::from_le_bytes(array(input)?);
                    let [builds] = array(input)?;
                    let build = |_| Some((u32::from_le_bytes(array(input)?), u16::from_le_bytes(array(input)?)));
                    let builds = (0..builds).map(build).collect::<Option<_>>()?;
                    shapes.push(Variant { fingerprint, versions, builds });
                }
                classes.push(Class { name, shapes });
            }
            libraries.push(Known { name, versions, classes });
        }
        Some(Self { libraries, by_name })
    }

    /// The libraries that have a class of this simple name, and which it is.
    pub(super) fn named(&self, name: u32) -> impl Iterator<Item = (u16, &Known, u8, &Class)> {
        self.by_name.get(&name).into_iter().flatten().filter_map(move |(library, class)| {
            let known = self.libraries.get(usize::from(*library))?;
            let found = known.classes.get(usize::from(*class)).filter(|found| found.name == name)?;
            Some((*library, known, *class, found))
        })
    }

    /// The groups that have an artifact of this name.
    pub(super) fn groups(&self, artifact: &str) -> Vec<&str> {
        let same = self.libraries.iter().filter(|library| library.artifact() == artifact);
        same.filter_map(|library| library.name.split(':').next()).collect()
    }
}

fn array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*array)
}

fn string(input: &mut &[u8]) -> Option<String> {
    let [length] = array(input)?;
    let (text, rest) = input.split_at_checked(usize::from(length))?;
    *input = rest;
    String::from_utf8(text.to_vec()).ok()
}
