//! Version strings of well-known programs: which files are searched, and the search in windows.

mod rules;
mod search;
mod shape;

use std::sync::OnceLock;

use memchr::memmem;

use crate::cataloger::Found;
use crate::component::{Component, Ecosystem, Evidence};
use crate::content::Content;

use rules::{RULES, Rule};
use search::Place;
use shape::Shape;

/// Bytes of one file that are searched at most; browsers have 250 MB.
pub const SEARCH_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of a window.
const WINDOW_BYTES: u64 = 256 * 1024;
/// Bytes that each window has in common with the next: a signature and what has to be near it.
const OVERLAP_BYTES: u64 = 4 * 1024;

/// Whether a file of this name (the last part of its path) is worth searching.
pub fn wants(file_name: &[u8]) -> bool {
    rules_of(file_name).next().is_some()
}

/// The rules that a file's name fits, by its first byte so that a name costs a few comparisons.
fn rules_of(file_name: &[u8]) -> impl Iterator<Item = &'static Rule> {
    static BY_FIRST: OnceLock<Vec<Vec<&'static Rule>>> = OnceLock::new();
    let by_first = BY_FIRST.get_or_init(|| {
        let begins = |rule: &Rule, byte: usize| rule.names.iter().any(|name| usize::from(name.first()) == byte);
        (0..256).map(|byte| RULES.iter().filter(|rule| begins(rule, byte)).collect()).collect()
    });
    let rules = file_name.first().and_then(|first| by_first.get(usize::from(*first)));
    rules.into_iter().flatten().copied().filter(move |rule| rule.names.iter().any(|name| name.fits(file_name)))
}

/// A rule at work on one file.
struct Search {
    rule: &'static Rule,
    /// In the rule's order, best first.
    signatures: Vec<Prepared>,
    /// The number of the signature that matched, and the version.
    best: Option<(usize, String)>,
    /// Whether what the rule requires was seen.
    identified: bool,
}

/// A signature with its anchor, which the file's name may decide.
struct Prepared {
    anchor: memmem::Finder<'static>,
    length: usize,
    place: Place,
    shape: Shape,
    near: &'static [&'static [u8]],
}

impl Search {
    fn new(rule: &'static Rule, file_name: &[u8]) -> Self {
        let signatures = rule.signatures.iter().filter_map(|signature| {
            let anchor = match signature.anchor {
                b"" => search::anchor_of_name(file_name)?,
                anchor => anchor.to_vec(),
            };
            Some(Prepared {
                length: anchor.len(),
                anchor: memmem::Finder::new(&anchor).into_owned(),
                place: signature.place,
                shape: signature.shape,
                near: signature.near,
            })
        });
        Self { rule, signatures: signatures.collect(), best: None, identified: rule.requires.is_empty() }
    }

    /// Whether nothing further in the file can change what is known.
    fn done(&self) -> bool {
        self.identified && self.best.as_ref().is_some_and(|(number, _)| *number == 0)
    }

    fn window(&mut self, window: &[u8]) {
        self.identified = self.identified || memmem::find(window, self.rule.requires).is_some();
        let worse = self.best.as_ref().map_or(usize::MAX, |(number, _)| *number);
        for (number, signature) in self.signatures.iter().enumerate().take(worse) {
            for at in signature.anchor.find_iter(window) {
                if let Some(version) = signature.version(window, at) {
                    self.best = Some((number, version));
                    return;
                }
            }
        }
    }
}

impl Prepared {
    fn version(&self, window: &[u8], at: usize) -> Option<String> {
        let (version, end) = self.place.version(window, at, self.length, self.shape)?;
        let near = window.get(end..window.len().min(end + search::NEAR_BYTES))?;
        let fits = self.near.is_empty() || self.near.iter().any(|text| memmem::find(near, text).is_some());
        fits.then(|| String::from_utf8_lossy(version).into_owned())
    }
}

/// Searches a file for the version strings that belong to its name. A file in which none is found is not noted: its
/// name alone says little.
pub fn catalog_versions(file_name: &[u8], content: Content<'_>) -> Found {
    let mut found = Found::default();
    let mut searches: Vec<Search> = rules_of(file_name).map(|rule| Search::new(rule, file_name)).collect();
    let end = content.len().min(SEARCH_BYTES_MAX);
    let mut at = 0;
    while at < end && !searches.iter().all(Search::done) {
        let length = (end - at).min(WINDOW_BYTES + OVERLAP_BYTES);
        let window = match content.read(at, length as usize) {
            Ok(window) => window,
            Err(error) => {
                found.notes.push(format!("searching for version strings at byte {at}: {error}"));
                break;
            }
        };
        for search in searches.iter_mut().filter(|search| !search.done()) {
            search.window(&window);
        }
        // A better rule of a family ends the search for the others of it.
        if let Some(done) = searches.iter().position(Search::done) {
            let family = searches.get(done).map(|search| search.rule.family);
            let mut number = 0;
            searches.retain(|search| {
                number += 1;
                number <= done + 1 || Some(search.rule.family) != family
            });
        }
        at += WINDOW_BYTES;
    }
    if content.len() > SEARCH_BYTES_MAX && !searches.iter().all(Search::done) {
        found.notes.push(format!("only the first {SEARCH_BYTES_MAX} bytes were searched for version strings"));
    }
    let mut families = Vec::new();
    for search in searches {
        let Some((_, version)) = search.best.filter(|_| search.identified) else { continue };
        if families.contains(&search.rule.family) {
            continue;
        }
        families.push(search.rule.family);
        found.components.push(Component {
            ecosystem: Ecosystem::Generic,
            name: search.rule.product.to_owned(),
            version,
            architecture: None,
            source: None,
            licences: Vec::new(),
            evidence: Evidence::Inferred,
        });
    }
    found
}
