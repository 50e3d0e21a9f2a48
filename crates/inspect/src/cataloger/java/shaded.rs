//! Libraries whose classes are in an archive that does not say so: merged into it, perhaps under other packages.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::class::{self, ClassError};
use super::index::{Index, Known, build_key, name_hash};

/// Classes of one archive that may be a known library's at most.
const CANDIDATES_MAX: usize = 16_384;
/// Classes that make a library at least.
const MATCHES_MIN: usize = 3;

/// The candidates of one archive.
#[derive(Debug, Default)]
pub(super) struct Shaded {
    candidates: HashMap<Vec<u8>, Candidate>,
    over: usize,
    /// The libraries whose classes have to be read, once all entries are known.
    plan: OnceCell<BTreeSet<u16>>,
}

#[derive(Debug)]
struct Candidate {
    name: u32,
    build: u32,
    /// Once its bytes were read.
    fingerprint: Option<u32>,
}

/// A library that was recognised.
#[derive(Debug)]
pub(super) struct Told {
    /// `group:artifact`.
    pub(super) name: String,
    /// Empty where the classes do not decide.
    pub(super) version: String,
    /// What is to be said of the version.
    pub(super) note: Option<String>,
}

impl Told {
    pub(super) fn artifact(&self) -> &str {
        self.name.rsplit(':').next().unwrap_or_default()
    }
}

/// What is seen of one library.
#[derive(Default)]
struct Seen {
    /// By class of the index: versions that have this very file, versions that have its shape.
    matches: BTreeMap<u8, (u16, u16)>,
    /// Classes of the library's names, with their folders and whether they match.
    folders: Vec<(Vec<u8>, bool)>,
}

impl Shaded {
    pub(super) fn entry(&mut self, path: &[u8], crc32: u32, size: u64) {
        let Some(name) = name_hash(path) else { return };
        let Some(index) = Index::built_in() else { return };
        if index.named(name).next().is_none() {
            return;
        }
        if self.candidates.len() == CANDIDATES_MAX {
            self.over += 1;
            return;
        }
        let candidate = Candidate { name, build: build_key(crc32, size), fingerprint: None };
        self.candidates.insert(path.to_vec(), candidate);
    }

    /// Whether the shape of a class can tell more: where enough classes of a library's names are there, the archive
    /// does not state the library, and the files themselves do not decide.
    pub(super) fn wants<'s>(&self, path: &[u8], stated: impl Fn() -> Vec<&'s str>) -> bool {
        let Some((candidate, index)) = self.candidates.get(path).zip(Index::built_in()) else { return false };
        let plan = self.plan.get_or_init(|| {
            let stated = stated();
            let mut names: BTreeMap<u16, (BTreeSet<u8>, BTreeSet<u8>)> = BTreeMap::new();
            for candidate in self.candidates.values() {
                for (library, known, number, class) in index.named(candidate.name) {
                    if stated.contains(&known.artifact()) {
                        continue;
                    }
                    let (all, built) = names.entry(library).or_default();
                    all.insert(number);
                    if class.built(candidate.build) != 0 {
                        built.insert(number);
                    }
                }
            }
            let open =
                names.into_iter().filter(|(_, (all, built))| all.len() >= MATCHES_MIN && built.len() < all.len());
            open.map(|(library, _)| library).collect()
        });
        index
            .named(candidate.name)
            .any(|(library, _, _, class)| plan.contains(&library) && class.built(candidate.build) == 0)
    }

    pub(super) fn content(&mut self, path: &[u8], bytes: &[u8]) -> Result<(), ClassError> {
        if let Some(candidate) = self.candidates.get_mut(path) {
            candidate.fingerprint = Some(class::shape(bytes)?.fingerprint);
        }
        Ok(())
    }

    /// The libraries that are there and that no pom states.
    pub(super) fn finish(&self, stated: &[String]) -> Vec<Told> {
        let Some(index) = Index::built_in() else { return Vec::new() };
        let mut seen: BTreeMap<u16, Seen> = BTreeMap::new();
        for (path, candidate) in &self.candidates {
            for (library, known, number, class) in index.named(candidate.name) {
                if stated.iter().any(|artifact| artifact == known.artifact()) {
                    continue;
                }
                let built = class.built(candidate.build);
                let shaped = built | candidate.fingerprint.map_or(0, |fingerprint| class.shaped(fingerprint));
                let seen = seen.entry(library).or_default();
                if shaped != 0 {
                    let entry = seen.matches.entry(number).or_default();
                    *entry = (entry.0 | built, entry.1 | shaped);
                }
                let folder = path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(..at));
                seen.folders.push((folder.unwrap_or_default().to_vec(), shaped != 0));
            }
        }
        let mut told: Vec<Told> = seen
            .into_iter()
            .filter_map(|(library, seen)| Some((index.libraries.get(usize::from(library))?, seen)))
            .filter_map(|(known, seen)| seen.tell(known))
            .collect();
        if self.over > 0
            && let Some(first) = told.first_mut()
        {
            let note =
                format!("{} more classes than {CANDIDATES_MAX} were not compared with known libraries", self.over);
            first.note = Some(first.note.take().map_or(note.clone(), |before| format!("{before}; {note}")));
        }
        told
    }
}

impl Seen {
    fn tell(&self, known: &Known) -> Option<Told> {
        let matches = self.matches.len();
        let folders: BTreeSet<&[u8]> =
            self.folders.iter().filter(|(_, fits)| *fits).map(|(folder, _)| folder.as_slice()).collect();
        // Classes of the library's names in the library's folders that no known version has.
        let unknown = self.folders.iter().filter(|(folder, fits)| !fits && folders.contains(folder.as_slice())).count();
        if matches < MATCHES_MIN || matches < unknown {
            return None;
        }
        let built = self.matches.values().fold(u16::MAX, |all, (built, _)| all & built);
        let shaped = self.matches.values().fold(u16::MAX, |all, (_, shaped)| all & shaped);
        let of = |mask: u16| {
            let versions = known.versions.iter().enumerate();
            versions.filter(move |(bit, _)| mask & (1 << bit) != 0).map(|(_, version)| version.as_str())
        };
        // A version that is not known here may have the same shapes: only the very files decide.
        if built.count_ones() == 1 && unknown == 0 {
            let version = of(built).next().unwrap_or_default().to_owned();
            return Some(Told { name: known.name.clone(), version, note: None });
        }
        let fits: Vec<&str> = of(shaped).collect();
        let which = if fits.is_empty() || unknown > 0 {
            "they are of no version known here".to_owned()
        } else {
            format!("of the {} versions known here they fit {}", known.versions.len(), fits.join(", "))
        };
        let note = format!("{} is concluded from {matches} classes; {which}", known.name);
        Some(Told { name: known.name.clone(), version: String::new(), note: Some(note) })
    }
}
