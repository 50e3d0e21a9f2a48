//! Debian package files (deb(5)): an ar archive of the package's control files and its own files, each a compressed tar.

use std::io::{BufRead, Read as _};

use super::ar;
use super::budget::{Budget, Limit, OverLimit};
use super::decompress::Compression;
use super::error::{Error, Format};
use super::stream::Member;
use crate::component::{Component, Ecosystem, Evidence, Source};

/// Bytes of a control file. Those of Debian's own packages have at most some 20 kB.
pub const CONTROL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A Debian package file.
pub struct Package<'b, R> {
    archive: ar::Archive<'b, R>,
}

/// What a member of the package is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The tar of control files, with `./control` in it, and how it is compressed.
    Control(Option<Compression>),
    /// The tar of the package's files, and how it is compressed.
    Data(Option<Compression>),
    /// Something else: a signature, or an addition; by its name.
    Other(Vec<u8>),
}

impl<'b, R: BufRead> Package<'b, R> {
    /// Begins to read.
    ///
    /// # Errors
    /// It is no Debian package of version 2, or within too many others.
    pub fn new(input: R, budget: &'b Budget) -> Result<Self, Error> {
        let mut archive = ar::Archive::of(Format::Deb, input, budget)?;
        let broken = |why| Error::broken(Format::Deb, 0, why);
        let first = archive.next_header()?;
        if first.is_none_or(|header| header.name != b"debian-binary") {
            return Err(broken("its first member is not debian-binary"));
        }
        let mut version = Vec::new();
        archive.member().take(16).read_to_end(&mut version)?;
        if !version.starts_with(b"2.") {
            return Err(broken("it is not of version 2"));
        }
        Ok(Self { archive })
    }

    /// Goes to the next member. [`Package::member`] has its bytes.
    ///
    /// # Errors
    /// The package is broken or ends too early.
    pub fn next_part(&mut self) -> Result<Option<Part>, Error> {
        let Some(header) = self.archive.next_header()? else { return Ok(None) };
        let compression = |tar: &[u8]| {
            Some(match header.name.strip_prefix(tar)? {
                b"" => None,
                b".gz" => Some(Compression::Gzip),
                b".xz" => Some(Compression::Xz),
                b".zst" => Some(Compression::Zstd),
                b".bz2" => Some(Compression::Bzip2),
                b".lzma" => Some(Compression::Lzma),
                _ => return None,
            })
        };
        Ok(Some(match (compression(b"control.tar"), compression(b"data.tar")) {
            (Some(compression), _) => Part::Control(compression),
            (_, Some(compression)) => Part::Data(compression),
            (None, None) => Part::Other(header.name),
        }))
    }

    /// The bytes of the member that was gone to last.
    pub const fn member(&mut self) -> Member<'_, R> {
        self.archive.member()
    }
}

/// The package that a control file (deb-control(5)) describes.
///
/// # Errors
/// It is too large, or has no package or no version.
pub fn component(control: &[u8]) -> Result<Component, Error> {
    if control.len() > CONTROL_BYTES_MAX {
        return Err(OverLimit { what: Limit::HeaderBytes, limit: CONTROL_BYTES_MAX as u64 }.into());
    }
    let broken = |why| Error::broken(Format::Deb, 0, why);
    let name = field(control, b"Package").ok_or(broken("its control file has no package"))?;
    let version = field(control, b"Version").ok_or(broken("its control file has no version"))?;
    Ok(Component {
        ecosystem: Ecosystem::Deb,
        source: field(control, b"Source").and_then(|stated| source(&stated, &name, &version)),
        architecture: field(control, b"Architecture"),
        name,
        version,
        licences: Vec::new(),
        evidence: Evidence::Contained,
    })
}

/// The first line of a field; none where it is empty.
fn field(control: &[u8], name: &[u8]) -> Option<String> {
    let lines = control.split(|byte| *byte == b'\n').skip_while(|line| line.trim_ascii().is_empty());
    // The paragraph ends with an empty line: what a second one says is not about this package.
    lines.take_while(|line| !line.trim_ascii().is_empty()).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (stated, value) = line.split_at_checked(colon)?;
        let value = value.get(1..)?.trim_ascii();
        (stated.eq_ignore_ascii_case(name) && !value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    })
}

/// `name`, or `name (version)`.
fn source(stated: &str, package: &str, version: &str) -> Option<Source> {
    let (name, rest) = stated.split_once('(').unwrap_or((stated, ""));
    let (name, own) = (name.trim(), rest.trim_end().trim_end_matches(')').trim());
    let source = Source { name: name.to_owned(), version: if own.is_empty() { version } else { own }.to_owned() };
    (!name.is_empty() && (source.name != package || source.version != version)).then_some(source)
}
