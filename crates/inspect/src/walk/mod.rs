//! One walk over a layer, a folder or a file: each file is looked at by its path and its first bytes, and handed to
//! whoever wants it; what holds other files is walked in turn.
//!
//! Nothing is unpacked to the file tree. A tar, a compressed stream, a package file is read as it streams by; what must
//! be read out of order lies in memory or in an unnamed file while it is needed. Whatever is not examined is a
//! [`Fact::Unexamined`], and the walk goes on beside it.

mod catalog;
mod gathering;
mod layer;
mod listing;
mod report;
mod seek;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeMap;
use std::io::{BufRead, Read as _};
use std::path::Path;

pub use gathering::{Gathering, IMAGE_BYTES_MAX};
pub use layer::{Layer, layer, layer_listing, layer_seeking};
pub use listing::{Hash, Listed, Lister, Node, Thing};
pub use report::{Examined, Fact, Package, Report, owned_hash};

use crate::archive::{self, Budget, HEAD_BYTES, Kind, Source, Spool};
use crate::cataloger::{Wanted, elf, file_name};
use crate::content::Content;
use crate::executable;
use crate::secret::Scanner;
use crate::tar::{self, Entry};

/// Notes on what was not examined that one report has at most; the last says how many more there were.
pub const UNEXAMINED_MAX: u64 = 10_000;
/// What may be decompressed for each byte of findings that are kept. The densest that there are, lock files, have some
/// five bytes for one.
const EXPANDED_FOR_KEPT: u64 = 64;
/// Bytes of findings that one report has at most, however large the layer.
const KEPT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of a Debian package's control file that are read.
const CONTROL_BYTES_MAX: u64 = archive::deb::CONTROL_BYTES_MAX as u64;
const SPARSE: &str = "it is stored as a sparse file, which is not put together";

/// Walks over one thing that is to be examined, and says what is in it.
#[derive(Debug)]
pub struct Walk<'b> {
    budget: &'b Budget,
    folder: &'b Path,
    scanner: Option<&'b Scanner>,
    chain: Vec<Vec<u8>>,
    report: Report,
    unexamined: u64,
    /// Logs of RPM databases by the path of the database, where it can be read again: it mostly stands before its log.
    logs: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Bytes of findings, and how many of them may be.
    kept: u64,
    kept_max: u64,
}

impl<'b> Walk<'b> {
    /// What it may cost is in `budget`; unnamed files are made on the filesystem of `folder`.
    pub fn new(budget: &'b Budget, folder: &'b Path) -> Self {
        let kept_max = (budget.bytes_max() / EXPANDED_FOR_KEPT).min(KEPT_BYTES_MAX);
        Self {
            budget,
            folder,
            scanner: None,
            chain: Vec::new(),
            report: Report::default(),
            unexamined: 0,
            logs: None,
            kept: 0,
            kept_max,
        }
    }

    /// Looks for secrets, too.
    pub fn seeking(mut self, scanner: Option<&'b Scanner>) -> Self {
        self.scanner = scanner;
        self
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        self.report.sought_secrets = self.scanner.is_some();
        if let Some(more) = self.unexamined.checked_sub(UNEXAMINED_MAX).filter(|more| *more > 0) {
            let facts = vec![Fact::Unexamined(format!("{more} more files or parts of files were not examined"))];
            self.report.files.push(Examined { chain: Vec::new(), facts });
        }
        if self.kept > self.kept_max {
            let limit = self.kept_max;
            let facts = vec![Fact::Unexamined(format!("more is found than is kept: over the limit of {limit} bytes"))];
            self.report.files.push(Examined { chain: Vec::new(), facts });
        }
        self.report
    }

    /// Whether there is room for a finding of so many bytes. Where there is not, there is none for any further one, and
    /// that is told at the end.
    fn keep(&mut self, bytes: usize) -> bool {
        self.kept = self.kept.saturating_add(bytes as u64);
        self.kept <= self.kept_max
    }

    /// Takes what a file says, as long as there is room.
    fn push(&mut self, facts: &mut Vec<Fact>, fact: Fact) {
        if self.keep(fact.bytes()) {
            facts.push(fact);
        }
    }

    /// Looks at a file that can be read from anywhere.
    pub fn file(&mut self, path: &[u8], content: Content<'_>) {
        self.at(path, |walk, facts| walk.look_at(path, content, facts));
    }

    /// Looks at a file that streams by. What nobody wants is left unread.
    pub fn stream(&mut self, path: &[u8], input: &mut dyn BufRead) {
        self.at(path, |walk, facts| walk.look_stream(path, input, facts));
    }

    /// Says of a file that it was not examined.
    pub fn unexamined(&mut self, path: &[u8], why: impl std::fmt::Display) {
        self.at(path, |walk, facts| {
            walk.note(facts, why);
            Ok(())
        });
    }

    /// Says something of a file that is not looked at.
    fn says(&mut self, path: &[u8], fact: Fact) {
        self.at(path, |walk, facts| {
            walk.push(facts, fact);
            Ok(())
        });
    }

    /// Says of the whole thing that it, or a part of it, was not examined.
    fn unexamined_whole(&mut self, why: impl std::fmt::Display) {
        let mut facts = Vec::new();
        self.note(&mut facts, why);
        if !facts.is_empty() {
            self.report.files.push(Examined { chain: Vec::new(), facts });
        }
    }

    /// Does what is to be done with the file of that path within the one that is being looked at.
    fn at(&mut self, path: &[u8], look: impl FnOnce(&mut Self, &mut Vec<Fact>) -> Result<(), archive::Error>) {
        self.report.files_count += 1;
        self.chain.push(path.to_vec());
        let mut facts = Vec::new();
        if let Err(error) = look(self, &mut facts) {
            self.note(&mut facts, error);
        }
        if !facts.is_empty() {
            // What was kept says where it lies; what comes next may have no room any more.
            self.keep(self.chain.iter().map(|path| size_of::<Vec<u8>>() + path.len()).sum());
            self.report.files.push(Examined { chain: self.chain.clone(), facts });
        }
        self.chain.pop();
    }

    fn note(&mut self, facts: &mut Vec<Fact>, why: impl std::fmt::Display) {
        self.unexamined += 1;
        if self.unexamined <= UNEXAMINED_MAX {
            self.push(facts, Fact::Unexamined(why.to_string()));
        }
    }

    /// Looks at a tar's entry that can be read from anywhere.
    fn entry_at(&mut self, path: &[u8], entry: &mut Entry<'_, tar::Window<'_>>) {
        self.at(path, |walk, facts| match entry.content() {
            Some(content) => walk.look(path, entry.head(HEAD_BYTES)?, content, facts),
            None => {
                walk.note(facts, SPARSE);
                Ok(())
            }
        });
    }

    /// Looks at a tar's entry that streams by.
    fn entry_stream<R: BufRead>(&mut self, path: &[u8], entry: &mut Entry<'_, tar::Stream<R>>) {
        self.at(path, |walk, facts| match entry.reader() {
            Some(mut reader) => walk.look_stream(path, &mut reader, facts),
            None => {
                walk.note(facts, SPARSE);
                Ok(())
            }
        });
    }

    fn look_at(&mut self, path: &[u8], content: Content<'_>, facts: &mut Vec<Fact>) -> Result<(), archive::Error> {
        let head = content.read(0, HEAD_BYTES.min(usize::try_from(content.len()).unwrap_or(HEAD_BYTES)))?;
        self.look(path, &head, content, facts)
    }

    fn look(
        &mut self,
        path: &[u8],
        head: &[u8],
        content: Content<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        self.secrets(path, head, content, facts)?;
        if let Some(wanted) = Wanted::by_path(path) {
            self.catalog(wanted, path, content, facts)?;
        }
        if executable::sniff(head) {
            self.programs(path, content, facts);
            // A program may carry a zip archive behind itself, which is found from its end.
            return if archive::zip::is_behind(content)? { self.zip(path, content, facts) } else { Ok(()) };
        }
        match archive::kind(file_name(path), head) {
            Some(Kind::Zip) => self.zip(path, content, facts),
            Some(Kind::Tar) => self.tar(content, facts),
            Some(kind) => self.unpack(kind, path, &mut Source::new(content), facts),
            None => {
                self.versions(path, content, facts);
                Ok(())
            }
        }
    }

    fn look_stream(
        &mut self,
        path: &[u8],
        input: &mut dyn BufRead,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        if self.scanner.is_some() {
            return self.look_spooled(path, input, facts);
        }
        // Nearly always there is enough of it in one piece, and nothing need be copied.
        if let Some(head) = input.fill_buf()?.get(..HEAD_BYTES) {
            return match Sought::of(path, head) {
                Some(sought) => self.take_stream(sought, path, input, facts),
                None => Ok(()),
            };
        }
        let mut head = Vec::with_capacity(HEAD_BYTES);
        (&mut *input).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        match Sought::of(path, &head) {
            Some(sought) => self.take_stream(sought, path, &mut head.as_slice().chain(input), facts),
            None => Ok(()),
        }
    }

    fn take_stream(
        &mut self,
        sought: Sought,
        path: &[u8],
        input: &mut dyn BufRead,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        match sought {
            Sought::Anywhere => {
                let spool = Spool::new(input, self.folder, self.budget)?;
                self.look_at(path, spool.content(), facts)
            }
            Sought::InOrder(kind) => self.unpack(kind, path, input, facts),
        }
    }
}

/// How a file is read that somebody wants.
#[derive(Clone, Copy)]
enum Sought {
    /// From anywhere.
    Anywhere,
    /// From its start to its end, as a file of that kind.
    InOrder(Kind),
}

impl Sought {
    fn of(path: &[u8], head: &[u8]) -> Option<Self> {
        let kind = archive::kind(file_name(path), head);
        let is_anywhere = Wanted::by_path(path).is_some()
            || executable::sniff(head)
            || elf::wants(file_name(path))
            || kind == Some(Kind::Zip);
        if is_anywhere { Some(Self::Anywhere) } else { kind.map(Self::InOrder) }
    }
}
