//! RPM package files (format 4): the package's own record, and its files as a compressed cpio.

mod header;

use std::io::BufRead;

use super::budget::{Budget, Level};
use super::decompress::Compression;
use super::error::{Error, Format};
use super::stream::Stream;
use crate::component::{Component, Ecosystem, Evidence, Source};

use self::header::Header;

const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// Bytes of the lead, which nothing reads any more but for what a file is.
const LEAD_BYTES: u64 = 96;

mod tag {
    pub(super) const NAME: u32 = 1000;
    pub(super) const VERSION: u32 = 1001;
    pub(super) const RELEASE: u32 = 1002;
    pub(super) const EPOCH: u32 = 1003;
    pub(super) const LICENCE: u32 = 1014;
    pub(super) const ARCHITECTURE: u32 = 1022;
    pub(super) const SOURCE_RPM: u32 = 1044;
    pub(super) const SOURCE_PACKAGE: u32 = 1106;
    pub(super) const PAYLOAD_FORMAT: u32 = 1124;
    pub(super) const PAYLOAD_COMPRESSOR: u32 = 1125;
}

/// An RPM package file, read up to its payload.
pub struct Package<'b, R> {
    /// The package that the header describes.
    pub component: Component,
    /// How the payload is compressed.
    pub compression: Option<Compression>,
    stream: Stream<R>,
    _level: Level<'b>,
}

impl<'b, R: BufRead> Package<'b, R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is no RPM package of format 4, it is broken, over a limit, or within too many others.
    pub fn new(input: R, budget: &'b Budget) -> Result<Self, Error> {
        let level = budget.enter()?;
        let mut stream = Stream::new(Format::Rpm, input);
        let lead: [u8; 8] = stream.array()?;
        let [magic @ .., major, _minor, _, _] = lead;
        if magic != LEAD_MAGIC {
            return Err(Error::broken(Format::Rpm, 0, "it is no RPM package"));
        }
        if !matches!(major, 3 | 4) {
            return Err(Error::Unsupported { format: Format::Rpm, what: "format", number: u64::from(major) });
        }
        stream.skip(LEAD_BYTES - lead.len() as u64)?;
        let signatures = Header::read(&mut stream)?;
        stream.skip(signatures.bytes().wrapping_neg() % 8)?;
        let header = Header::read(&mut stream)?;
        let component = component(&header).ok_or_else(|| stream.broken("its header lacks name, version or release"))?;
        let compression = compression(&header)?;
        Ok(Self { component, compression, stream, _level: level })
    }

    /// The payload: a [cpio archive](super::cpio), compressed as stated.
    pub const fn payload(&mut self) -> Payload<'_, R> {
        Payload { stream: &mut self.stream }
    }
}

/// The bytes of a payload, to the file's end.
pub struct Payload<'s, R> {
    stream: &'s mut Stream<R>,
}

impl<R: BufRead> BufRead for Payload<'_, R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        Ok(self.stream.fill()?)
    }

    fn consume(&mut self, amount: usize) {
        self.stream.consume(amount);
    }
}

impl<R: BufRead> std::io::Read for Payload<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

fn component(header: &Header) -> Option<Component> {
    let (name, version) = (header.text(tag::NAME)?, header.text(tag::VERSION)?);
    let mut version = format!("{version}-{}", header.text(tag::RELEASE)?);
    let source = header.text(tag::SOURCE_RPM).and_then(|file| source(&file, &name, &version));
    if let Some(epoch) = header.number(tag::EPOCH) {
        version = format!("{epoch}:{version}");
    }
    // A package of sources states the architecture of the machine that made it.
    let is_source = header.number(tag::SOURCE_PACKAGE).is_some();
    let architecture = if is_source { Some("src".to_owned()) } else { header.text(tag::ARCHITECTURE) };
    Some(Component {
        ecosystem: Ecosystem::Rpm,
        name,
        version,
        architecture,
        source,
        licences: header.text(tag::LICENCE).into_iter().collect(),
        evidence: Evidence::Contained,
    })
}

/// `NAME-VERSION-RELEASE.src.rpm`, where that is another package or version than `name` and `version`.
fn source(file: &str, name: &str, version: &str) -> Option<Source> {
    let whole = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))?;
    let (rest, release) = whole.rsplit_once('-')?;
    let (source, upstream) = rest.rsplit_once('-')?;
    let source = Source { name: source.to_owned(), version: format!("{upstream}-{release}") };
    (source.name != name || source.version != version).then_some(source)
}

fn compression(header: &Header) -> Result<Option<Compression>, Error> {
    let unsupported = |what| Err(Error::Unsupported { format: Format::Rpm, what, number: 0 });
    if header.text(tag::PAYLOAD_FORMAT).is_some_and(|format| format != "cpio") {
        return unsupported("payload that is no cpio,");
    }
    // Without the tag it is gzip: that was all there was.
    Ok(Some(match header.text(tag::PAYLOAD_COMPRESSOR).as_deref() {
        None | Some("gzip") => Compression::Gzip,
        Some("xz") => Compression::Xz,
        Some("lzma") => Compression::Lzma,
        Some("zstd") => Compression::Zstd,
        Some("bzip2") => Compression::Bzip2,
        Some("none" | "identity") => return Ok(None),
        Some(_) => return unsupported("compression of the payload"),
    }))
}
