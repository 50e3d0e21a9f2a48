//! Debian packages: dpkg's database, the one of distroless images, Chisel's manifest, and copyright files.

use crate::cataloger::os::{self, EachPath, FIELD_BYTES_MAX, Fact, Package, Paths, Reporter, WHOLE};
use crate::content::Content;

mod chisel;
mod control;
mod copyright;
mod status;

/// Bytes of a list of paths, of checksums, or of a Chisel manifest.
pub const LIST_BYTES_MAX: usize = 32 << 20;
/// Bytes of a copyright file.
pub const COPYRIGHT_BYTES_MAX: usize = 8 << 20;
/// Licences that one copyright file may state.
pub const LICENCES_MAX: usize = 1_000;

/// Why a file of dpkg's database, or a part of it, could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A paragraph of control data lacks a field that it must have.
    #[error("the paragraph has no usable field {field}")]
    Field {
        /// Its name.
        field: &'static str,
    },
    /// A field stands twice in one paragraph, as where the empty line between two is missing.
    #[error("the paragraph has the field {field} twice")]
    Twice {
        /// Its name.
        field: &'static str,
    },
    /// A line that is neither a field nor a field's continuation.
    #[error("the line at byte {at} is neither a field nor a continuation of one")]
    Line {
        /// Offset of the line in the file.
        at: u64,
    },
    /// The paragraph's status is none that dpkg knows.
    #[error("the package's status is none of those that dpkg knows")]
    Status,
    /// Two paragraphs about one package and architecture that differ.
    #[error("another paragraph gives the same package another version")]
    Repeated,
    /// A path says no package name in UTF-8.
    #[error("the file's name is not the name of a package")]
    Name,
    /// A line of a list of checksums.
    #[error("the line at byte {at} is not a checksum and a path")]
    Checksum {
        /// Offset of the line in the file.
        at: u64,
    },
    /// A copyright file states more licences than are kept.
    #[error("more than {LICENCES_MAX} licences")]
    Licences,
    /// A licence that is too long or no text.
    #[error("the licence at byte {at} is too long or not text")]
    Licence {
        /// Offset of its paragraph in the file.
        at: u64,
    },
    /// A manifest is handed over as it lies in the image.
    #[error("the manifest is compressed")]
    Compressed,
    /// A manifest does not begin as such.
    #[error("this is not a Chisel manifest of version 1")]
    NotManifest,
    /// A line of a manifest that cannot be used.
    #[error("line {line} cannot be used: {why}")]
    ManifestLine {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A manifest has another number of lines than it says.
    #[error("the manifest says that it has {stated} lines and has {found}")]
    Count {
        /// Lines that it says it has.
        stated: u64,
        /// Lines that it has.
        found: u64,
    },
}

/// What a path is to dpkg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role<'p> {
    /// Paragraphs of all packages, or of one in images without dpkg.
    Status,
    /// Paths of a package.
    List(&'p [u8]),
    /// Checksums of a package's files, and with them their paths.
    Checksums(&'p [u8]),
    /// Licences of a package.
    Copyright(&'p [u8]),
    /// Everything of a chiselled image.
    Manifest,
}

const MANIFEST: &[u8] = b"var/lib/chisel/manifest.wall";

fn role(path: &[u8]) -> Option<Role<'_>> {
    if let Some(path) = path.strip_prefix(b"usr/share/doc/") {
        let package = path.strip_suffix(b"/copyright")?;
        return (!package.is_empty() && !package.contains(&b'/')).then_some(Role::Copyright(package));
    }
    let Some(path) = path.strip_prefix(b"var/lib/dpkg/") else {
        return (path == MANIFEST).then_some(Role::Manifest);
    };
    if path == b"status" {
        return Some(Role::Status);
    }
    let (folder, name) = path.split_at_checked(memchr::memchr(b'/', path)?)?;
    let name = name.get(1..).filter(|name| !name.is_empty() && !name.contains(&b'/'))?;
    match (folder, name.strip_suffix(b".md5sums"), name.strip_suffix(b".list")) {
        (b"info" | b"status.d", Some(package), _) => Some(Role::Checksums(package)),
        (b"info", _, Some(package)) => Some(Role::List(package)),
        (b"status.d", None, _) => Some(Role::Status),
        _ => None,
    }
}

/// Whether [`read`] has something to say of the file at this path inside the image, without leading slash.
pub fn wants(path: &[u8]) -> bool {
    role(path).is_some()
}

/// Where a symbolic link says that a package's documentation, or its copyright file, is that of another: the names of
/// both.
pub fn documentation_link(path: &[u8], target: &[u8]) -> Option<(String, String)> {
    const FOLDER: &[u8] = b"usr/share/doc/";
    let named = |path: &[u8]| {
        let inner = path.strip_prefix(FOLDER)?;
        let name = inner.strip_suffix(b"/copyright").unwrap_or(inner);
        let name = os::text(name, FIELD_BYTES_MAX).filter(|name| !name.contains('/'))?;
        Some((name.to_owned(), inner.len() > name.len()))
    };
    let (package, is_file) = named(path)?;
    let from: &[u8] = if target.starts_with(b"/") { &[] } else { crate::cataloger::folder(path) };
    let leads_to = [b"/", from, b"/", target].concat();
    let (of, is_of_file) = named(crate::path::clean(&leads_to).ok()?.as_bytes())?;
    (is_file == is_of_file && package != of).then_some((package, of))
}

/// Whether the file at this path is compressed with Zstandard: [`read`] takes what it decompresses to.
pub fn is_compressed(path: &[u8]) -> bool {
    path == MANIFEST
}

/// Says what a file tells: one that [`wants`] is true of. Of another, nothing.
pub fn read(path: &[u8], content: Content<'_>, facts: &mut dyn FnMut(Fact<'_>)) {
    let mut reporter = Reporter::new(facts);
    let result = match role(path) {
        Some(Role::Status) => {
            status::read(content, &mut reporter);
            Ok(())
        }
        Some(Role::List(package)) => list(package, content, &mut reporter),
        Some(Role::Checksums(package)) => checksums(package, content, &mut reporter),
        Some(Role::Copyright(package)) => copyright::read(package, content, &mut reporter),
        Some(Role::Manifest) => chisel::read(content, &mut reporter),
        None => Ok(()),
    };
    if let Err(why) = result {
        reporter.unexamined(|| WHOLE.to_owned(), why);
    }
    reporter.finish();
}

/// The paths of dpkg's `.list`, one a line.
struct Lines<'a>(&'a [u8]);

impl EachPath for Lines<'_> {
    fn each_path(&self, visit: &mut dyn FnMut(&[u8])) {
        os::records::lines(self.0).for_each(visit);
    }
}

/// The paths of `.md5sums`: 32 digits, two spaces, the path.
struct Checksums<'a>(&'a [u8]);

impl EachPath for Checksums<'_> {
    fn each_path(&self, visit: &mut dyn FnMut(&[u8])) {
        for line in os::records::lines(self.0) {
            if let Some(path) = checksum_path(line) {
                visit(path);
            }
        }
    }
}

fn checksum_path(line: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = line.split_at_checked(32)?;
    let path = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
    (!path.is_empty() && digits.iter().all(u8::is_ascii_hexdigit)).then_some(path)
}

/// `libc6:amd64`, or a name alone.
fn package(name: &[u8]) -> Result<Package<'_>, Error> {
    let name = os::text(name, FIELD_BYTES_MAX).ok_or(Error::Name)?;
    let (name, architecture) = match name.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (name, None),
    };
    if name.is_empty() { Err(Error::Name) } else { Ok(Package { name, version: None, architecture }) }
}

fn list(name: &[u8], content: Content<'_>, reporter: &mut Reporter<'_>) -> Result<(), os::Error> {
    let package = package(name)?;
    let bytes = os::read_whole(&content, LIST_BYTES_MAX)?;
    reporter.fact(Fact::Owns { package, paths: Paths::new(&Lines(&bytes)) });
    Ok(())
}

fn checksums(name: &[u8], content: Content<'_>, reporter: &mut Reporter<'_>) -> Result<(), os::Error> {
    let package = package(name)?;
    let bytes = os::read_whole(&content, LIST_BYTES_MAX)?;
    reporter.fact(Fact::Owns { package, paths: Paths::new(&Checksums(&bytes)) });
    for (at, line) in os::records::lines_at(&bytes) {
        if !line.is_empty() && checksum_path(line).is_none() {
            reporter.unexamined(|| "a path".to_owned(), Error::Checksum { at });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
