//! Headers of RPM packages, as databases keep them: an index of tags, and their data.
//!
//! The format is that of RPM's `lib/header.cc`; all numbers are big-endian. Number of index entries and bytes of data;
//! entries of 16 bytes: tag, type, offset in the data, count; the data.

use crate::cataloger::os::{self, EachPath, FIELD_BYTES_MAX, LICENCE_BYTES_MAX};
use crate::component::{Component, Ecosystem, Evidence, Source};

use super::Error;
use super::pages::bytes;

const ENTRY_BYTES: usize = 16;
/// RPM's own limit.
const ENTRIES_MAX: usize = 0xffff;
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;
/// Texts or numbers of one tag; RPM's own limit.
const ARRAY_MAX: usize = 0xf_ffff;
/// Bytes of one path; Linux takes no longer ones.
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a package's paths together, as they are handed over.
pub const PATHS_BYTES_MAX: u64 = 64 << 20;

/// What is read of a header, by the number of its tag.
const TAGS: [(u32, &str); 12] = [
    (1000, "NAME"),
    (1001, "VERSION"),
    (1002, "RELEASE"),
    (1003, "EPOCH"),
    (1011, "VENDOR"),
    (1014, "LICENSE"),
    (1022, "ARCH"),
    (1044, "SOURCERPM"),
    (1027, "OLDFILENAMES"),
    (1116, "DIRINDEXES"),
    (1117, "BASENAMES"),
    (1118, "DIRNAMES"),
];
const MODULARITY_LABEL: (u32, &str) = (5096, "MODULARITYLABEL");

#[derive(Clone, Copy)]
struct Entry<'h> {
    kind: u32,
    count: usize,
    data: &'h [u8],
}

/// A header's entries of the tags that are read.
pub(super) struct Header<'h> {
    entries: [Option<Entry<'h>>; TAGS.len() + 1],
}

fn number(bytes_of: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes(bytes_of, at).unwrap_or_default())
}

/// The place of a tag among the entries, and its name.
fn place(tag: u32) -> Option<usize> {
    TAGS.iter().chain([&MODULARITY_LABEL]).position(|(known, _)| *known == tag)
}

impl<'h> Header<'h> {
    pub(super) fn parse(blob: &'h [u8]) -> Result<Self, Error> {
        let broken = |what| Error::Header { what };
        let (head, rest) = blob.split_at_checked(8).ok_or(broken("it is too short"))?;
        let (count, length) = (number(head, 0) as usize, number(head, 4) as usize);
        if count == 0 || count > ENTRIES_MAX {
            return Err(broken("its number of tags is impossible"));
        }
        let (index, data) = rest.split_at_checked(count * ENTRY_BYTES).ok_or(broken("its tags end too early"))?;
        if data.len() != length {
            return Err(broken("its length is not that of its data"));
        }
        let mut entries = [None; TAGS.len() + 1];
        for entry in index.chunks_exact(ENTRY_BYTES) {
            // Of two entries of a tag the later one was added after the package was signed, and counts.
            let Some(place) = place(number(entry, 0)).and_then(|place| entries.get_mut(place)) else { continue };
            let data = data.get(number(entry, 8) as usize..).ok_or(broken("a tag's data lie past its end"))?;
            *place = Some(Entry { kind: number(entry, 4), count: number(entry, 12) as usize, data });
        }
        Ok(Self { entries })
    }

    fn entry(&self, tag: &'static str) -> Option<Entry<'h>> {
        let at = TAGS.iter().chain([&MODULARITY_LABEL]).position(|(_, name)| *name == tag)?;
        self.entries.get(at).copied().flatten()
    }

    /// Text of at most `limit` bytes; `None` where the tag is missing or empty.
    fn text(&self, tag: &'static str, limit: usize) -> Result<Option<&'h str>, Error> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        let end = memchr::memchr(0, entry.data.get(..limit + 1).unwrap_or(entry.data)).ok_or(Error::Tag { tag })?;
        match (entry.kind, entry.data.get(..end)) {
            (STRING | I18N_STRING | STRING_ARRAY, Some(text)) if entry.count > 0 => match text.trim_ascii() {
                b"" => Ok(None),
                text => os::text(text, limit).map(Some).ok_or(Error::Tag { tag }),
            },
            _ => Err(Error::Tag { tag }),
        }
    }

    fn numbers(&self, tag: &'static str) -> Result<Option<&'h [[u8; 4]]>, Error> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        let numbers = entry.data.as_chunks().0.get(..entry.count).filter(|_| entry.kind == INT32 && entry.count > 0);
        numbers.map(Some).ok_or(Error::Tag { tag })
    }

    /// The texts of an array, each with a zero byte behind it.
    fn texts(&self, tag: &'static str) -> Result<Option<Texts<'h>>, Error> {
        let Some(entry) = self.entry(tag) else { return Ok(None) };
        if entry.kind != STRING_ARRAY || !(1..=ARRAY_MAX).contains(&entry.count) {
            return Err(Error::Tag { tag });
        }
        let last = memchr::memchr_iter(0, entry.data).nth(entry.count - 1).ok_or(Error::Tag { tag })?;
        Ok(Some(Texts { data: entry.data.get(..=last).unwrap_or_default(), count: entry.count }))
    }

    /// What the header says the package is. An error in `first` leaves the rest usable.
    pub(super) fn component(&self, first: &mut Option<Error>) -> Result<Component, Error> {
        let mut usable = |value: Result<Option<&'h str>, Error>| {
            value.unwrap_or_else(|why| {
                first.get_or_insert(why);
                None
            })
        };
        let needed = |tag| self.text(tag, FIELD_BYTES_MAX)?.ok_or(Error::Tag { tag });
        let (name, version, release) = (needed("NAME")?, needed("VERSION")?, needed("RELEASE")?);
        let version = match self.numbers("EPOCH")? {
            Some([epoch, ..]) => format!("{}:{version}-{release}", u32::from_be_bytes(*epoch)),
            _ => format!("{version}-{release}"),
        };
        let source = usable(self.text("SOURCERPM", FIELD_BYTES_MAX)).filter(|source| *source != "(none)");
        let source = source.and_then(|file| {
            let source = source_of(file);
            if source.is_none() {
                usable(Err(Error::Tag { tag: "SOURCERPM" }));
            }
            source
        });
        let without_epoch = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest);
        Ok(Component {
            ecosystem: Ecosystem::Rpm,
            name: name.to_owned(),
            source: source.filter(|source| source.name != name || source.version != without_epoch),
            architecture: usable(self.text("ARCH", FIELD_BYTES_MAX)).map(str::to_owned),
            licences: usable(self.text("LICENSE", LICENCE_BYTES_MAX)).map(str::to_owned).into_iter().collect(),
            version,
            evidence: Evidence::Installed,
        })
    }

    /// Who made the package.
    pub(super) fn vendor(&self) -> Result<Option<&'h str>, Error> {
        self.text("VENDOR", FIELD_BYTES_MAX)
    }

    /// The module that it belongs to.
    pub(super) fn module(&self) -> Result<Option<&'h str>, Error> {
        self.text(MODULARITY_LABEL.1, FIELD_BYTES_MAX)
    }

    /// The package's paths; `None` where it has none.
    pub(super) fn files(&self) -> Result<Option<Files<'h>>, Error> {
        let Some(names) = self.texts("BASENAMES")? else {
            let Some(paths) = self.texts("OLDFILENAMES")? else { return Ok(None) };
            let bytes = paths.data.len() as u64;
            return Ok(Some(Files { names: paths, of_folders: &[], folders: Vec::new(), bytes }));
        };
        let missing = |tag| Error::Tag { tag };
        let of_folders = self.numbers("DIRINDEXES")?.ok_or(missing("DIRINDEXES"))?;
        let folders: Vec<_> = self.texts("DIRNAMES")?.ok_or(missing("DIRNAMES"))?.iter().collect();
        if of_folders.len() != names.count {
            return Err(missing("DIRINDEXES"));
        }
        let mut bytes = 0;
        for (name, index) in names.iter().zip(of_folders) {
            let folder = folders.get(u32::from_be_bytes(*index) as usize).ok_or(missing("DIRINDEXES"))?;
            let length = folder.len() + name.len();
            bytes += length as u64;
            if length > PATH_BYTES_MAX || bytes > PATHS_BYTES_MAX {
                return Err(Error::Paths);
            }
        }
        Ok(Some(Files { names, of_folders, folders, bytes }))
    }
}

/// `name-version-release.src.rpm`, or `.nosrc.rpm`.
pub(super) fn source_of(file: &str) -> Option<Source> {
    let stem = file.strip_suffix(".rpm")?;
    let stem = stem.strip_suffix(".src").or_else(|| stem.strip_suffix(".nosrc"))?;
    let (rest, release) = stem.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    (!name.is_empty()).then(|| Source { name: name.to_owned(), version: format!("{version}-{release}") })
}

#[derive(Clone, Copy)]
struct Texts<'h> {
    data: &'h [u8],
    count: usize,
}

impl<'h> Texts<'h> {
    fn iter(&self) -> impl Iterator<Item = &'h [u8]> {
        let mut rest = self.data;
        memchr::memchr_iter(0, self.data).scan(0, move |begin, end| {
            let (text, after) = rest.split_at_checked(end - *begin)?;
            rest = after.get(1..)?;
            *begin = end + 1;
            Some(text)
        })
    }
}

/// A package's paths: names, each with the number of its directory; or whole paths in headers of RPM 3.
pub(super) struct Files<'h> {
    names: Texts<'h>,
    of_folders: &'h [[u8; 4]],
    folders: Vec<&'h [u8]>,
    bytes: u64,
}

impl Files<'_> {
    /// Bytes of all paths.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl EachPath for Files<'_> {
    fn each_path(&self, visit: &mut dyn FnMut(&[u8])) {
        if self.folders.is_empty() {
            return self.names.iter().for_each(visit);
        }
        let mut path = Vec::new();
        let mut before = None;
        let mut folder_bytes = 0;
        for (name, index) in self.names.iter().zip(self.of_folders) {
            // Files of one directory mostly follow each other.
            if before.replace(index) != Some(index) {
                let folder = self.folders.get(u32::from_be_bytes(*index) as usize).copied().unwrap_or_default();
                path.clear();
                path.extend_from_slice(folder);
                folder_bytes = folder.len();
            }
            path.truncate(folder_bytes);
            path.extend_from_slice(name);
            visit(&path);
        }
    }
}

#[cfg(test)]
mod tests;
