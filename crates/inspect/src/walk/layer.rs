//! A layer of an image: a tar, compressed or not, whose entries also say what of the layers below is still there.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use super::listing::{self, Hash, Hashing, Lister, Tap, hashed};
use super::{Examined, Fact, Report, Walk};
use crate::archive::{self, Budget, Decoder, HEAD_BYTES, Kind, Limits, Source};
use crate::cataloger::{Wanted, dpkg};
use crate::content::Content;
use crate::layers::{LayerError, LayerTree, PathKey, Recorded, TreeBuilder};
use crate::path::{self, CleanPath};
use crate::secret::Scanner;
use crate::tar::{self, Entry, Kind as EntryKind};

/// Bytes of the names of hard links that are wanted under their own name alone, and looked up by a second reading.
const SECOND_LOOKS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What one layer says.
#[derive(Debug)]
pub struct Layer {
    /// Its findings.
    pub report: Report,
    /// Which paths it brings, and which it takes away.
    pub tree: LayerTree,
}

impl Layer {
    /// What was found where there are no layers.
    pub fn only(report: Report) -> Self {
        Self { report, tree: TreeBuilder::new(PathKey::random()).finish() }
    }

    /// A layer that cannot be read at all.
    pub fn unread(why: &str) -> Self {
        let facts = vec![Fact::Unexamined(why.to_owned())];
        Self::only(Report { files: vec![Examined { chain: Vec::new(), facts }], files_count: 0, sought_secrets: true })
    }

    /// Bytes of memory that it takes up, more or less.
    pub(super) fn bytes(&self) -> u64 {
        self.report.bytes().saturating_add(self.tree.heap_bytes() as u64)
    }
}

/// Reads a layer once, compressed or not; a second time where a file is wanted under the name of a hard link alone.
/// Unnamed temporary files are made in `folder`.
pub fn layer(blob: Content<'_>, folder: &Path, limits: Limits) -> Layer {
    layer_seeking(blob, folder, limits, None)
}

/// The same, looking for secrets where there is a scanner.
pub fn layer_seeking(blob: Content<'_>, folder: &Path, limits: Limits, scanner: Option<&Scanner>) -> Layer {
    read(blob, folder, limits, scanner, None)
}

/// The same; each entry is told to `lister`, files with their hashes. What comes after an error is not.
pub fn layer_listing(
    blob: Content<'_>,
    folder: &Path,
    limits: Limits,
    scanner: Option<&Scanner>,
    lister: &mut Lister<'_>,
) -> Layer {
    read(blob, folder, limits, scanner, Some(lister))
}

fn read(
    blob: Content<'_>,
    folder: &Path,
    limits: Limits,
    scanner: Option<&Scanner>,
    lister: Option<&mut Lister<'_>>,
) -> Layer {
    let budget = Budget::new(limits, blob.len());
    let mut reading = Reading {
        lister,
        walk: Walk::new(&budget, folder).seeking(scanner),
        tree: TreeBuilder::new(PathKey::random()),
        said: HashMap::new(),
        second: BTreeMap::new(),
        second_bytes: 0,
    };
    reading.walk.logs = Some(BTreeMap::new());
    if let Err(error) = reading.read(blob) {
        reading.walk.unexamined_whole(error);
    }
    reading.finish_logs();
    Layer { report: reading.walk.finish(), tree: reading.tree.finish() }
}

struct Reading<'b, 'l, 't> {
    walk: Walk<'b>,
    lister: Option<&'l mut Lister<'t>>,
    tree: TreeBuilder,
    /// Which of the report's files lie at a path: a hard link to it says the same.
    said: HashMap<Vec<u8>, Range<usize>>,
    /// Wanted names by the path that they are hard links to.
    second: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Bytes of these.
    second_bytes: usize,
}

impl<'b> Reading<'b, '_, '_> {
    fn read(&mut self, blob: Content<'_>) -> Result<(), archive::Error> {
        let head = blob.read(0, HEAD_BYTES.min(usize::try_from(blob.len()).unwrap_or(HEAD_BYTES)))?;
        let (budget, is_listed) = (self.walk.budget, self.lister.is_some());
        match archive::kind(b"layer.tar", &head) {
            Some(Kind::Tar) => {
                self.entries(tar::Window::new(blob), |walk, path, entry| {
                    walk.entry_at(path, entry);
                    if is_listed { entry.content().and_then(hashed) } else { None }
                })?;
                self.seek_databases();
                if !self.second.is_empty() {
                    self.second_look(tar::Window::new(blob), Walk::entry_at)?;
                }
            }
            Some(Kind::Compressed(compression)) => {
                let decoder = || Decoder::new(compression, Source::new(blob), budget);
                let hashing = Hashing::default();
                let tap = Tap { inner: decoder()?, hashing: hashing.clone() };
                self.entries(tar::Stream(tap), |walk, path, entry| {
                    if !is_listed {
                        walk.entry_stream(path, entry);
                        return None;
                    }
                    hashing.begin();
                    walk.entry_stream(path, entry);
                    hashing.finish(entry)
                })?;
                self.seek_databases();
                if !self.second.is_empty() {
                    self.second_look(tar::Stream(decoder()?), Walk::entry_stream)?;
                }
            }
            None if head.is_empty() => {}
            _ => self.walk.unexamined_whole("the layer is no tar archive"),
        }
        Ok(())
    }

    fn entries<S: tar::Source>(
        &mut self,
        source: S,
        look: impl Fn(&mut Walk<'b>, &[u8], &mut Entry<'_, S>) -> Option<Hash>,
    ) -> Result<(), archive::Error> {
        let mut archive = tar::Archive::new(source);
        let mut is_full = false;
        loop {
            let mut entry = match archive.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.walk.unexamined_whole(error);
                    return Ok(());
                }
            };
            self.walk.budget.entry()?;
            let path = match path::clean(entry.path) {
                Ok(path) => path,
                Err(error) => {
                    self.walk.unexamined_whole(format_args!("{}: {error}", archive::excerpt(entry.path)));
                    continue;
                }
            };
            match self.tree.record(&path, entry.kind == EntryKind::Directory) {
                Ok(Recorded::Node) => {}
                Ok(Recorded::Whiteout) => {
                    self.list(&path, &entry, None);
                    continue;
                }
                Err(error @ LayerError::TooMany) => {
                    if !std::mem::replace(&mut is_full, true) {
                        self.walk.unexamined_whole(error);
                    }
                }
                Err(error) => {
                    self.walk.unexamined(path.as_bytes(), error);
                    continue;
                }
            }
            let (clean, path) = (&path, path.as_bytes());
            let mut hash = None;
            if entry.is_file() {
                let before = self.walk.report.files.len();
                hash = look(&mut self.walk, path, &mut entry);
                let after = self.walk.report.files.len();
                if after > before {
                    self.said.insert(path.to_vec(), before..after);
                }
            } else if entry.kind == EntryKind::HardLink {
                self.link(path, entry.link);
            } else if entry.kind == EntryKind::Symlink
                && let Some((package, of)) = dpkg::documentation_link(path, entry.link)
            {
                self.walk.says(path, Fact::SameLicences { package, of });
            }
            self.list(clean, &entry, hash);
        }
    }

    fn list<S>(&mut self, path: &CleanPath<'_>, entry: &Entry<'_, S>, hash: Option<Hash>) {
        if let Some(lister) = self.lister.as_deref_mut() {
            listing::tell(path, entry, hash, lister);
        }
    }

    /// A hard link says what the file says that it is another name of.
    fn link(&mut self, path: &[u8], target: &[u8]) {
        let Ok(target) = path::clean(target) else {
            return self.walk.unexamined(path, "a hard link that leads out of the image");
        };
        let Some(said) = self.said.get(target.as_bytes()).cloned() else {
            if Wanted::by_path(path).is_some() {
                self.second_bytes += 2 * size_of::<Vec<u8>>() + path.len() + target.as_bytes().len();
                if self.second_bytes > SECOND_LOOKS_BYTES_MAX {
                    return self.walk.unexamined(path, "one of too many hard links");
                }
                self.second.entry(target.as_bytes().to_vec()).or_default().push(path.to_vec());
            }
            return;
        };
        let files = self.walk.report.files.get(said.clone()).unwrap_or_default();
        // Any number of links to a large database would otherwise use up all memory.
        let facts: usize = files.iter().flat_map(|file| &file.facts).map(Fact::bytes).sum();
        let names: usize = files.iter().flat_map(|file| &file.chain).map(Vec::len).sum();
        if !self.walk.keep(facts + names + path.len()) {
            return;
        }
        let files = &mut self.walk.report.files;
        let begun = files.len();
        for at in said {
            let Some(mut file) = files.get(at).cloned() else { continue };
            if let Some(first) = file.chain.first_mut() {
                *first = path.to_vec();
            }
            files.push(file);
        }
        self.said.insert(path.to_vec(), begun..self.walk.report.files.len());
    }

    /// Databases whose log came behind them are looked up again.
    fn seek_databases(&mut self) {
        for database in self.walk.logs.iter().flat_map(BTreeMap::keys) {
            if self.said.contains_key(database) {
                self.second.entry(database.clone()).or_default().push(database.clone());
            }
        }
    }

    fn finish_logs(&mut self) {
        self.walk.report.files.retain(|file| !file.facts.is_empty());
        for database in self.walk.logs.take().into_iter().flat_map(BTreeMap::into_keys) {
            self.walk.unexamined(&[database.as_slice(), b"-wal"].concat(), super::catalog::LOG_ALONE);
        }
    }

    fn second_look<S: tar::Source>(
        &mut self,
        source: S,
        look: impl Fn(&mut Walk<'b>, &[u8], &mut Entry<'_, S>),
    ) -> Result<(), archive::Error> {
        let mut archive = tar::Archive::new(source);
        let mut second = std::mem::take(&mut self.second);
        // What went wrong was told at the first reading.
        while let Ok(Some(mut entry)) = archive.next() {
            let Ok(path) = path::clean(entry.path) else { continue };
            if !entry.is_file() {
                continue;
            }
            let Some(mut names) = second.remove(path.as_bytes()) else { continue };
            let Some(first) = names.pop() else { continue };
            if first == path.as_bytes() {
                // What a database said without its log.
                let said = self.said.get(&first).cloned().unwrap_or_default();
                let files = self.walk.report.files.get_mut(said).unwrap_or_default();
                files.iter_mut().for_each(|file| file.facts.clear());
            }
            let before = self.walk.report.files.len();
            look(&mut self.walk, &first, &mut entry);
            let said = before..self.walk.report.files.len();
            self.said.insert(first.clone(), said);
            names.iter().for_each(|name| self.link(name, &first));
        }
        for (target, names) in second {
            for name in names.iter().filter(|name| **name != target || !self.said.contains_key(&target)) {
                self.walk.unexamined(name, "a hard link to something that is not in the layer");
            }
        }
        Ok(())
    }
}
