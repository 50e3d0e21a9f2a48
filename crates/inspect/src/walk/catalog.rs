//! Hands files to catalogers, and takes what they say.

use std::borrow::Cow;
use std::io::Read as _;

use super::{Fact, Package, Walk, owned_hash};
use crate::archive::{self, Compression, Decoder, Source};
use crate::cataloger::{FILE_BYTES_MAX, Found, Wanted, apk, dpkg, elf, file_name, go, os, rpm, rust};
use crate::component::{Component, Evidence};
use crate::content::Content;
use crate::{executable, os_release};

impl Walk<'_> {
    /// A file that somebody wants by its path.
    pub(super) fn catalog(
        &mut self,
        wanted: Wanted,
        path: &[u8],
        content: Content<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        match wanted {
            Wanted::Dpkg if dpkg::is_compressed(path) => {
                let bytes = decompressed(&mut Decoder::new(Compression::Zstd, Source::new(content), self.budget)?)?;
                dpkg::read(path, Content::memory(&bytes), &mut |fact| self.os_fact(fact, facts));
            }
            Wanted::Dpkg => dpkg::read(path, content, &mut |fact| self.os_fact(fact, facts)),
            Wanted::Rpm => {
                let log = self.logs.as_mut().and_then(|logs| logs.remove(path));
                let log = log.as_deref().map(Content::memory);
                rpm::read(path, content, log, &mut |fact| self.os_fact(fact, facts));
            }
            Wanted::RpmLog if content.is_empty() => {}
            Wanted::RpmLog => {
                let is_within = self.chain.len() > 1;
                let logs = self.logs.as_mut().filter(|_| !is_within);
                match logs.zip(rpm::database_of_log(path)) {
                    Some((logs, database)) => {
                        logs.insert(database.to_vec(), content.whole(rpm::LOG_BYTES_MAX)?.into_owned());
                    }
                    None => self.note(facts, LOG_ALONE),
                }
            }
            Wanted::Apk => apk::read(content, &mut |fact| self.os_fact(fact, facts)),
            Wanted::System => match os_release::read(path, content) {
                Ok((system, broken)) => {
                    self.push(facts, Fact::System(system));
                    if let Some(error) = broken {
                        self.note(facts, error);
                    }
                }
                Err(error) => self.note(facts, error),
            },
            Wanted::Language(read) => {
                let bytes = whole(content)?;
                let report = read(path, &bytes);
                self.components(report.components, facts);
                report.unexamined.into_iter().for_each(|why| self.note(facts, why));
            }
            Wanted::CargoLock => match rust::catalog_lock(content) {
                Ok(found) => self.found(found, facts),
                Err(error) => self.note(facts, error),
            },
            Wanted::JavaRelease => self.found(elf::catalog_release(content), facts),
        }
        Ok(())
    }

    /// An executable or library.
    pub(super) fn programs(&mut self, path: &[u8], content: Content<'_>, facts: &mut Vec<Fact>) {
        let mut build_ids = Vec::new();
        match executable::open(content) {
            Ok(programs) => {
                for found in [go::catalog(&programs), rust::catalog(&programs)] {
                    self.found(found, facts);
                }
                for image in &programs.images {
                    let notes = elf::read_notes(image);
                    self.components(notes.package.into_iter().collect(), facts);
                    notes.notes.into_iter().for_each(|note| self.note(facts, note));
                    build_ids.extend(notes.build_id);
                }
                programs.notes.iter().for_each(|note| self.note(facts, note));
            }
            Err(error) => self.note(facts, error),
        }
        self.versions(path, content, facts);
        if facts.iter().any(|fact| matches!(fact, Fact::Component(_))) {
            build_ids.into_iter().for_each(|id| self.push(facts, Fact::BuildId(id)));
        }
    }

    /// A file whose name says that it is a well-known program.
    pub(super) fn versions(&mut self, path: &[u8], content: Content<'_>, facts: &mut Vec<Fact>) {
        if elf::wants(file_name(path)) {
            self.found(elf::catalog_versions(file_name(path), content), facts);
        }
    }

    /// Takes what a cataloger of programs or Java archives found.
    pub(super) fn found(&mut self, found: Found, facts: &mut Vec<Fact>) {
        self.components(found.components, facts);
        found.notes.into_iter().for_each(|note| self.note(facts, note));
    }

    /// What lies within an archive is there, and nothing says that it is installed.
    pub(super) fn components(&mut self, components: Vec<Component>, facts: &mut Vec<Fact>) {
        let is_within = self.chain.len() > 1;
        for mut component in components {
            if is_within && component.evidence == Evidence::Installed {
                component.evidence = Evidence::Contained;
            }
            self.push(facts, Fact::Component(component));
        }
    }

    fn os_fact(&mut self, fact: os::Fact<'_>, facts: &mut Vec<Fact>) {
        match fact {
            os::Fact::Package(component) => self.components(vec![component], facts),
            os::Fact::Owns { package, paths } => {
                let mut hashes = Vec::new();
                paths.for_each(|path| own(path, &mut hashes));
                hashes.sort_unstable();
                hashes.dedup();
                self.push(facts, Fact::Owns { package: package.into(), paths: hashes });
            }
            os::Fact::Licence { package, licences } => {
                self.push(facts, Fact::Licence { package: Package::from(package), licences });
            }
            os::Fact::Origin { package, vendor, module } => {
                let (vendor, module) = (vendor.map(str::to_owned), module.map(str::to_owned));
                self.push(facts, Fact::Origin { package: Package::from(package), vendor, module });
            }
            os::Fact::Unexamined { what, why } => self.note(facts, format_args!("{what}: {why}")),
        }
    }
}

/// What is said of a log whose database is not there with it.
pub(super) const LOG_ALONE: &str =
    "the write-ahead log of an RPM database that is not read with it: packages may be missing";

/// Where `/bin` and its like are links into `/usr`, databases still have files under both names.
fn own(path: &[u8], hashes: &mut Vec<u64>) {
    const MERGED: [&[u8]; 6] = [b"bin/", b"sbin/", b"lib/", b"lib32/", b"lib64/", b"libx32/"];
    hashes.push(owned_hash(path));
    if MERGED.iter().any(|folder| path.starts_with(folder)) {
        hashes.push(owned_hash(&[b"usr/", path].concat()));
    }
}

/// A file that is read at once.
fn whole(content: Content<'_>) -> Result<Cow<'_, [u8]>, archive::Error> {
    let limit = FILE_BYTES_MAX;
    content.whole(limit).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => {
            archive::OverLimit { what: archive::Limit::HeaderBytes, limit: limit as u64 }.into()
        }
        _ => error.into(),
    })
}

fn decompressed(input: &mut impl std::io::Read) -> Result<Vec<u8>, archive::Error> {
    let mut bytes = Vec::new();
    input.take(dpkg::LIST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
