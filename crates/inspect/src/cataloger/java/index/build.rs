//! Making the index: which classes of which libraries are worth knowing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::{VERSIONS_MAX, build_key, name_hash};
use crate::cataloger::java::class;

/// Classes by which a library is known at most.
const CLASSES_MAX: usize = 10;
/// Classes by which a library is known at least; smaller ones are left out.
const CLASSES_MIN: usize = 4;
/// Fields and methods of such a class at least: small ones look like many others.
const MEMBERS_MIN: u32 = 5;
/// How many times larger the next library has to be that has the same class, so that the class is the smaller one's.
const EMBEDDER: usize = 3;

/// One version of one library, as one archive has it.
#[derive(Clone, Debug)]
pub struct Library {
    /// `group:artifact`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its classes.
    pub classes: Vec<ClassPrint>,
}

/// A class as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassPrint {
    name: u32,
    build: u32,
    fingerprint: u32,
    members: u32,
}

/// The print of one class of an archive, by its path, CRC-32 and bytes. `None` for those without a name of their own
/// and for what is no class.
pub fn print_of(path: &[u8], crc32: u32, bytes: &[u8]) -> Option<ClassPrint> {
    let shape = class::shape(bytes).ok()?;
    let build = build_key(crc32, bytes.len() as u64);
    Some(ClassPrint { name: name_hash(path)?, build, fingerprint: shape.fingerprint, members: shape.members })
}

type Key = (u32, u32);

/// The versions of one library, in the order given.
#[derive(Default)]
struct Versions<'l> {
    names: Vec<&'l str>,
    /// Which version, and the class.
    classes: Vec<(usize, ClassPrint)>,
    keys: BTreeSet<Key>,
    /// Classes of its largest version.
    size: usize,
}

/// Makes an index of libraries; of those that are the same under two names the first one given stays. The same
/// libraries in the same order give the same bytes.
pub fn build_index(libraries: &[Library]) -> Vec<u8> {
    let mut by_name: BTreeMap<&str, Versions<'_>> = BTreeMap::new();
    let mut order = Vec::new();
    for library in libraries {
        let versions = by_name.entry(&library.name).or_insert_with(|| {
            order.push(library.name.as_str());
            Versions::default()
        });
        let version = versions.names.iter().position(|name| *name == library.version).unwrap_or(versions.names.len());
        if version == VERSIONS_MAX {
            continue;
        }
        if version == versions.names.len() {
            versions.names.push(&library.version);
        }
        versions.size = versions.size.max(library.classes.len());
        let large = library.classes.iter().filter(|class| class.members >= MEMBERS_MIN);
        versions.classes.extend(large.map(|class| (version, *class)));
        versions.keys = versions.classes.iter().map(|(_, class)| (class.name, class.fingerprint)).collect();
    }
    for twin in twins(&order, &by_name) {
        by_name.remove(twin);
    }
    let mut holders: HashMap<Key, Vec<&str>> = HashMap::new();
    for (name, versions) in &by_name {
        for key in &versions.keys {
            holders.entry(*key).or_default().push(name);
        }
    }
    let size = |name: &str| by_name.get(name).map_or(0, |versions| versions.size);
    let owner = |key: &Key| {
        let mut holders: Vec<&str> = holders.get(key).cloned().unwrap_or_default();
        holders.sort_by_key(|name| size(name));
        match holders.as_slice() {
            [only] => Some(*only),
            [first, second, ..] if size(second) >= EMBEDDER * size(first) => Some(*first),
            _ => None,
        }
    };
    let mut out = Vec::new();
    let mut count = 0u16;
    for (name, versions) in &by_name {
        let classes = choose(versions, |key| owner(key) == Some(*name));
        if classes.len() >= CLASSES_MIN {
            count += 1;
            write(&mut out, name, versions, &classes);
        }
    }
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.append(&mut out);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let written = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// Libraries that are an earlier one under another name: of about as many classes, of which nine tenths are
/// the other's.
fn twins<'l>(order: &[&'l str], by_name: &BTreeMap<&'l str, Versions<'l>>) -> Vec<&'l str> {
    let mut twins: Vec<&str> = Vec::new();
    for (at, name) in order.iter().enumerate() {
        let Some(versions) = by_name.get(name).filter(|versions| !versions.keys.is_empty()) else { continue };
        let is_twin = order.iter().take(at).filter(|before| !twins.contains(before)).any(|before| {
            let Some(other) = by_name.get(before) else { return false };
            let alike = other.size.abs_diff(versions.size) * 4 <= versions.size;
            alike && versions.keys.intersection(&other.keys).count() * 10 >= versions.keys.len() * 9
        });
        if is_twin {
            twins.push(name);
        }
    }
    twins
}

/// The names of the classes that tell most: those in many versions, that differ between them, with many members.
fn choose(versions: &Versions<'_>, owned: impl Fn(&Key) -> bool) -> Vec<u32> {
    let mut by_name: BTreeMap<u32, (BTreeSet<usize>, BTreeSet<u32>, u32)> = BTreeMap::new();
    let mut foreign = BTreeSet::new();
    for (version, class) in &versions.classes {
        if !owned(&(class.name, class.fingerprint)) {
            foreign.insert(class.name);
            continue;
        }
        let (in_versions, shapes, members) = by_name.entry(class.name).or_default();
        in_versions.insert(*version);
        shapes.insert(class.fingerprint);
        *members = (*members).max(class.members);
    }
    by_name.retain(|name, _| !foreign.contains(name));
    let mut ranked: Vec<(usize, u32)> = by_name
        .iter()
        .map(|(name, (in_versions, shapes, members))| {
            (20 * in_versions.len() + 15 * shapes.len() + (*members).min(60) as usize, *name)
        })
        .collect();
    ranked.sort_by(|a, b| b.cmp(a));
    ranked.into_iter().take(CLASSES_MAX).map(|(_, name)| name).collect()
}

fn write(out: &mut Vec<u8>, name: &str, versions: &Versions<'_>, classes: &[u32]) {
    let text = |out: &mut Vec<u8>, text: &str| {
        let length = text.len().min(255);
        out.push(length as u8);
        out.extend(text.bytes().take(length));
    };
    text(out, name);
    out.push(versions.names.len() as u8);
    versions.names.iter().for_each(|version| text(out, version));
    out.push(classes.len() as u8);
    for class in classes {
        let mut shapes: BTreeMap<u32, (u16, BTreeMap<u32, u16>)> = BTreeMap::new();
        for (version, print) in versions.classes.iter().filter(|(_, print)| print.name == *class) {
            let (in_versions, builds) = shapes.entry(print.fingerprint).or_default();
            *in_versions |= 1 << version;
            *builds.entry(print.build).or_default() |= 1 << version;
        }
        out.extend(class.to_le_bytes());
        out.push(shapes.len() as u8);
        for (fingerprint, (in_versions, builds)) in shapes {
            out.extend(fingerprint.to_le_bytes());
            out.extend(in_versions.to_le_bytes());
            out.push(builds.len() as u8);
            for (build, in_versions) in builds {
                out.extend(build.to_le_bytes());
                out.extend(in_versions.to_le_bytes());
            }
        }
    }
}
