//! What holds other files: tar, zip, ar, cpio, package files, compressed streams.

use std::io::{BufRead, Read as _};

use super::{CONTROL_BYTES_MAX, Fact, Walk};
use crate::archive::{self, Ahead, Compression, Decoder, HEAD_BYTES, Kind, Spool, ar, cpio, deb, rpm, zip};
use crate::cataloger::{Wanted, file_name, java};
use crate::content::Content;
use crate::executable;
use crate::path;
use crate::tar;

/// Bytes of the longest of the endings below.
const DULL_BYTES_MAX: usize = 15;

impl Walk<'_> {
    /// Goes into an archive or stream of a kind that is read from its start to its end.
    pub(super) fn unpack(
        &mut self,
        kind: Kind,
        path: &[u8],
        input: &mut dyn BufRead,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        match kind {
            Kind::Tar => self.tar_stream(input, facts),
            Kind::Compressed(compression) => self.decompress(compression, path, input, facts),
            Kind::Deb => self.deb(input, facts),
            Kind::Rpm => self.rpm(input, facts),
            Kind::Cpio => self.cpio(input, facts),
            Kind::Ar => self.ar(input),
            Kind::Zip => {
                let spool = Spool::new(input, self.folder, self.budget)?;
                self.zip(path, spool.content(), facts)
            }
            Kind::Unread(what) => {
                self.note(facts, format_args!("archives of this kind are not read: {what}"));
                Ok(())
            }
        }
    }

    /// A compressed file and what it decompresses to are one: their path says where it is.
    fn decompress(
        &mut self,
        compression: Compression,
        path: &[u8],
        input: &mut dyn BufRead,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        let mut decoder = Decoder::new(compression, input, self.budget)?;
        self.look_stream(within(path), &mut decoder, facts)
    }

    /// A tar that can be read from anywhere.
    pub(super) fn tar(&mut self, content: Content<'_>, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        self.tar_entries(tar::Window::new(content), facts, Self::entry_at)
    }

    fn tar_stream(&mut self, input: &mut dyn BufRead, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        self.tar_entries(tar::Stream(input), facts, Self::entry_stream)
    }

    fn tar_entries<S: tar::Source>(
        &mut self,
        source: S,
        facts: &mut Vec<Fact>,
        look: impl Fn(&mut Self, &[u8], &mut tar::Entry<'_, S>),
    ) -> Result<(), archive::Error> {
        let _level = self.budget.enter()?;
        let mut archive = tar::Archive::new(source);
        loop {
            let mut entry = match archive.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.note(facts, error);
                    return Ok(());
                }
            };
            self.budget.entry()?;
            if !entry.is_file() {
                continue;
            }
            match path::clean(entry.path) {
                Ok(path) => look(self, path.as_bytes(), &mut entry),
                Err(error) => self.note(facts, error),
            }
        }
    }

    fn deb(&mut self, input: &mut dyn BufRead, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        let mut package = deb::Package::new(input, self.budget)?;
        while let Some(part) = package.next_part()? {
            let (compression, is_control) = match part {
                deb::Part::Control(compression) => (compression, true),
                deb::Part::Data(compression) => (compression, false),
                deb::Part::Other(_) => continue,
            };
            let mut member = package.member();
            let mut decoder;
            let tar: &mut dyn BufRead = match compression {
                Some(compression) => {
                    decoder = Decoder::new(compression, &mut member as &mut dyn BufRead, self.budget)?;
                    &mut decoder
                }
                None => &mut member,
            };
            if is_control {
                self.components(vec![control(tar)?], facts);
            } else {
                self.tar_stream(tar, facts)?;
            }
        }
        Ok(())
    }

    fn rpm(&mut self, input: &mut dyn BufRead, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        let mut package = rpm::Package::new(input, self.budget)?;
        self.components(vec![package.component.clone()], facts);
        let compression = package.compression;
        let mut payload = package.payload();
        match compression {
            Some(compression) => {
                let mut decoder = Decoder::new(compression, &mut payload as &mut dyn BufRead, self.budget)?;
                self.cpio(&mut decoder, facts)
            }
            None => self.cpio(&mut payload, facts),
        }
    }

    fn cpio(&mut self, input: &mut dyn BufRead, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        let mut archive = cpio::Archive::new(input, self.budget)?;
        while let Some(header) = archive.next_header()? {
            if !header.is_file() || header.size == 0 {
                continue;
            }
            match path::clean(&header.name) {
                Ok(path) => self.stream(path.as_bytes(), &mut archive.member()),
                Err(error) => self.note(facts, error),
            }
        }
        Ok(())
    }

    /// A static library's members are objects without a name that says anything; one among them may be an archive.
    fn ar(&mut self, input: &mut dyn BufRead) -> Result<(), archive::Error> {
        let mut archive = ar::Archive::new(input, self.budget)?;
        while let Some(header) = archive.next_header()? {
            if header.name.first() != Some(&b'/') {
                self.stream(&header.name, &mut archive.member());
            }
        }
        Ok(())
    }

    /// A zip archive, and as such perhaps a Java archive.
    pub(super) fn zip(
        &mut self,
        path: &[u8],
        content: Content<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        let archive = zip::Archive::open(content)?;
        self.check_around(&archive, content, facts)?;
        let mut jar = java::Jar::new(file_name(path));
        let mut entries = archive.entries(self.budget)?;
        while let Some(entry) = entries.next_entry()? {
            if entry.is_directory() {
                continue;
            }
            jar.entry(entry.name(), entry.crc32(), entry.size());
            let name = match archive::clean_name(entry.name()) {
                Ok(name) => name,
                Err(error) => {
                    self.note(facts, format_args!("{}: {error}", archive::excerpt(entry.name())));
                    continue;
                }
            };
            if let Err(error) = entry.check() {
                self.unexamined(&name, error);
            } else if jar.wants(&name) {
                match read(&entry) {
                    Ok(bytes) => jar.content(&name, &bytes),
                    Err(error) => self.unexamined(&name, error),
                }
            } else if entry.is_stored() || !is_dull(&name) || self.scanner.is_some() || is_otherwise(&name, &entry) {
                self.entry(&name, &entry);
            }
        }
        let found = jar.finish();
        self.found(found, facts);
        Ok(())
    }

    /// What stands before or behind the archive, and is neither a program, which was looked at as such, nor a script.
    fn check_around(
        &mut self,
        archive: &zip::Archive<'_>,
        content: Content<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        if archive.prefix_bytes() > 0 {
            let head = content.read(0, content.len().min(8) as usize)?;
            if !head.starts_with(b"#!") && !executable::sniff(&head) {
                self.note(facts, format_args!("{} bytes before the zip archive", archive.prefix_bytes()));
            }
        }
        if archive.trailing_bytes() > 0 {
            self.note(facts, format_args!("{} bytes behind the zip archive", archive.trailing_bytes()));
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], entry: &zip::Entry<'_, '_, '_>) {
        self.at(name, |walk, facts| {
            // What stands there as it is need not be copied to be read out of order.
            if let Some(content) = entry.stored()? {
                return walk.look_at(name, content, facts);
            }
            let mut reader = Ahead::new(entry.reader()?, walk.budget);
            walk.look_stream(name, &mut reader, facts)
        });
    }
}

/// The name of what a compressed file decompresses to.
fn within(path: &[u8]) -> &[u8] {
    const ENDINGS: &[&[u8]] = &[b".gz", b".xz", b".zst", b".bz2", b".lzma"];
    ENDINGS.iter().find_map(|ending| path.strip_suffix(*ending)).unwrap_or(path)
}

/// The package that a Debian package's control archive describes.
fn control(tar: &mut dyn BufRead) -> Result<crate::component::Component, archive::Error> {
    let broken = |why| archive::Error::Broken { format: archive::Format::Deb, at: 0, why };
    let mut archive = tar::Archive::new(tar::Stream(tar));
    while let Some(mut entry) = archive.next().map_err(|_| broken("its control archive cannot be read"))? {
        if !matches!(entry.path, b"./control" | b"control") {
            continue;
        }
        let mut text = Vec::new();
        if let Some(reader) = entry.reader() {
            reader.take(CONTROL_BYTES_MAX).read_to_end(&mut text)?;
        }
        return deb::component(&text);
    }
    Err(broken("it has no control file"))
}

fn read(entry: &zip::Entry<'_, '_, '_>) -> Result<Vec<u8>, archive::Error> {
    let mut bytes = Vec::new();
    entry.reader()?.take(java::POM_BYTES_MAX.max(java::MANIFEST_BYTES_MAX) as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a file is more than its dull name says: somebody wants it, or it begins as an archive or a program does. What
/// cannot be read is looked at as any other, which tells why.
fn is_otherwise(name: &[u8], entry: &zip::Entry<'_, '_, '_>) -> bool {
    if Wanted::by_path(name).is_some() {
        return true;
    }
    // Classes are the most of a jar by far.
    if name.ends_with(b".class") && matches!(entry.first_bytes(), Ok(Some([0xca, 0xfe, 0xba, 0xbe]))) {
        return false;
    }
    let mut head = [0; HEAD_BYTES];
    let Ok(read) = entry.reader().map_err(std::io::Error::from).and_then(|mut reader| reader.read(&mut head)) else {
        return true;
    };
    let head = head.get(..read).unwrap_or_default();
    executable::sniff(head) || archive::kind(file_name(name), head).is_some()
}

/// Files within zip archives that end so are only sniffed at: almost all of a jar is this, and to look at each in full
/// would cost more than all the rest.
fn is_dull(name: &[u8]) -> bool {
    let Some(dot) = memchr::memrchr(b'.', name) else { return false };
    let ending = name.get(dot + 1..).unwrap_or_default();
    let mut lower = [0; DULL_BYTES_MAX];
    let Some(lower) = lower.get_mut(..ending.len()) else { return false };
    lower.copy_from_slice(ending);
    lower.make_ascii_lowercase();
    matches!(
        &*lower,
        b"class"
            | b"html"
            | b"css"
            | b"js"
            | b"map"
            | b"png"
            | b"gif"
            | b"svg"
            | b"jpg"
            | b"properties"
            | b"xml"
            | b"xsd"
            | b"dtd"
            | b"java"
            | b"kt"
            | b"scala"
            | b"groovy"
            | b"py"
            | b"pyi"
            | b"pyc"
            | b"h"
            | b"txt"
            | b"md"
            | b"sf"
            | b"json"
            | b"ts"
            | b"proto"
            | b"kotlin_module"
            | b"kotlin_metadata"
            | b"tasty"
    )
}
