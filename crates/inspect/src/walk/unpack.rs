//! What holds other files: tar, zip, ar, cpio, package files, compressed streams.

use std::io::{BufRead, BufReader, Read as _};

use super::{CONTROL_BYTES_MAX, Fact, Walk};
use crate::archive::{self, Compression, Decoder, Kind, Spool, ar, cpio, deb, rpm, zip};
use crate::cataloger::{file_name, java};
use crate::content::Content;
use crate::executable;
use crate::path;
use crate::tar;

/// Bytes that are read ahead of a zip archive's entry.
const ENTRY_BUFFER_BYTES: usize = 8 * 1024;

/// Names of files within zip archives that end so are not looked at: almost all of a jar is this, and to look at each
/// would cost more than all the rest. What stands in the archive uncompressed is looked at whatever its name.
const DULL_ENDINGS: &[&[u8]] = &[
    b".class",
    b".html",
    b".css",
    b".js",
    b".map",
    b".png",
    b".gif",
    b".svg",
    b".jpg",
    b".properties",
    b".xml",
    b".xsd",
    b".dtd",
    b".java",
    b".kt",
    b".scala",
    b".groovy",
    b".py",
    b".pyi",
    b".pyc",
    b".h",
    b".txt",
    b".md",
    b".sf",
    b".json",
    b".ts",
    b".proto",
    b".kotlin_module",
    b".kotlin_metadata",
    b".tasty",
];

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
        let _level = self.budget.enter()?;
        let mut archive = tar::Archive::new(tar::Window::new(content));
        loop {
            let entry = match archive.next() {
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
            match (path::clean(entry.path), entry.content()) {
                (Ok(path), Some(content)) => self.file(path.as_bytes(), content),
                (Ok(path), None) => self.unexamined(path.as_bytes(), SPARSE),
                (Err(error), _) => self.note(facts, error),
            }
        }
    }

    fn tar_stream(&mut self, input: &mut dyn BufRead, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        let _level = self.budget.enter()?;
        let mut archive = tar::Archive::new(tar::Stream(input));
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
            let path = match path::clean(entry.path) {
                Ok(path) => path.as_bytes().to_vec(),
                Err(error) => {
                    self.note(facts, error);
                    continue;
                }
            };
            match entry.reader() {
                Some(mut reader) => self.stream(&path, &mut reader),
                None => self.unexamined(&path, SPARSE),
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
                facts.push(Fact::Component(control(tar)?));
            } else {
                self.tar_stream(tar, facts)?;
            }
        }
        Ok(())
    }

    fn rpm(&mut self, input: &mut dyn BufRead, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        let mut package = rpm::Package::new(input, self.budget)?;
        facts.push(Fact::Component(package.component.clone()));
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
                    self.note(facts, format_args!("{}: {error}", archive::escaped(entry.name())));
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
            } else if entry.is_stored() || !is_dull(&name) || self.scanner.is_some() {
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
            let mut reader = BufReader::with_capacity(ENTRY_BUFFER_BYTES, entry.reader()?);
            walk.look_stream(name, &mut reader, facts)
        });
    }
}

pub(super) const SPARSE: &str = "it is stored as a sparse file, which is not put together";

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

fn is_dull(name: &[u8]) -> bool {
    DULL_ENDINGS.iter().any(|ending| {
        name.len()
            .checked_sub(ending.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(ending))
    })
}
