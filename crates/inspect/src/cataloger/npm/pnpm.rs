//! `pnpm-lock.yaml`: the keys of `packages` name what is locked. `/NAME/VERSION_PEERS` up to version 5 of the format,
//! `/NAME@VERSION(PEERS)` in 6, `NAME@VERSION` in 9, in which `snapshots` has the same with peers.

use serde_saphyr::granit_parser::{Event, Parser};

use super::{NESTING_MAX, is_version, split};
use crate::cataloger::Report;
use crate::cataloger::text::{decode, excerpt};
use crate::component::{Ecosystem, Evidence};

/// The most values in a lock file, keys included.
const VALUES_MAX: usize = 4_000_000;

/// A collection that is open, and whether its next scalar is a key.
struct Open {
    map: bool,
    key_next: bool,
}

/// What was read of one entry of `packages`.
#[derive(Default)]
struct Entry {
    key: String,
    name: Option<String>,
    version: Option<String>,
}

/// Where the reader stands; the keys of the three outer levels are all that is needed.
#[derive(Default)]
struct Place {
    open: Vec<Open>,
    section: String,
    entry: Option<Entry>,
    field: String,
}

pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let text = decode(bytes);
    let mut place = Place::default();
    for (count, event) in Parser::new_from_str(&text).enumerate() {
        if count > VALUES_MAX {
            report.note(format!("it has more than {VALUES_MAX} values; the rest is not read"));
            break;
        }
        let event = match event {
            Ok((event, _)) => event,
            Err(error) => {
                report.note(format!("it is not YAML from line {} on: {}", error.marker().line(), error.info()));
                break;
            }
        };
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let map = matches!(event, Event::MappingStart(..));
                place.value_begins();
                place.open.push(Open { map, key_next: map });
                if place.open.len() > NESTING_MAX {
                    report.note(format!("it nests more than {NESTING_MAX} deep; the rest is not read"));
                    break;
                }
            }
            Event::MappingEnd | Event::SequenceEnd => {
                place.open.pop();
                if place.open.len() == 2 {
                    place.finish(&mut report);
                }
            }
            Event::Scalar(text, ..) => place.scalar(&text, &mut report),
            Event::Alias(_) => {
                // pnpm never writes one; as a value it could only hide fields.
                place.scalar("", &mut report);
                report.note("it has an alias, which is not followed");
            }
            _ => {}
        }
    }
    place.finish(&mut report);
    report.distinct()
}

impl Place {
    /// A value begins: what comes next in the map around it is a key, or this is a key that is a collection.
    fn value_begins(&mut self) {
        if let Some(open) = self.open.last_mut().filter(|open| open.map) {
            open.key_next = !open.key_next;
        }
    }

    fn scalar(&mut self, text: &str, report: &mut Report) {
        let depth = self.open.len();
        let is_key = self.open.last().is_some_and(|open| open.map && open.key_next);
        self.value_begins();
        let listed = self.section == "packages" || self.section == "snapshots";
        match (depth, is_key) {
            (1, true) => self.section = text.to_owned(),
            (2, true) if listed => {
                self.finish(report);
                self.entry = Some(Entry { key: text.to_owned(), ..Entry::default() });
            }
            (3, true) if self.entry.is_some() => self.field = text.to_owned(),
            (3, false) => {
                if let Some(entry) = &mut self.entry {
                    match self.field.as_str() {
                        "name" => entry.name = Some(text.to_owned()),
                        "version" => entry.version = Some(text.to_owned()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, report: &mut Report) {
        let Some(entry) = self.entry.take() else { return };
        let keyed = from_key(&entry.key);
        let name = entry.name.as_deref().or(keyed.map(|(name, _)| name));
        // Of what was taken from an address the key has no version, but a field may.
        let version = entry.version.as_deref().or(keyed.map(|(_, version)| version)).filter(|text| is_version(text));
        match name {
            Some(name) => {
                report.add(Ecosystem::Npm, Evidence::Contained, name, version.unwrap_or_default(), Vec::new())
            }
            None => report.note(format!("the key {} names no package", excerpt(&entry.key))),
        }
    }
}

/// Name and version from a key in any of its forms.
fn from_key(key: &str) -> Option<(&str, &str)> {
    // A registry's host may stand before the slash in version 5.
    let old =
        key.starts_with('/') || key.split_once('/').is_some_and(|(host, _)| host.contains('.') && !host.contains('@'));
    let key = if old { key.split_once('/')?.1 } else { key };
    // Peers stand in parentheses at the end; the `@` is looked for before them.
    let bare = key.split('(').next().unwrap_or_default();
    let named = split(bare);
    if old && !named.is_some_and(|(name, _)| is_name(name)) {
        let (name, version) = bare.rsplit_once('/')?;
        // Version 5 puts peers behind an underscore, which may hold slashes no more but `@`.
        return Some((name, version.split('_').next().unwrap_or_default()));
    }
    named
}

/// Whether it is the name of a package: one part, or a scope and one.
fn is_name(text: &str) -> bool {
    text.matches('/').count() == usize::from(text.starts_with('@'))
}
