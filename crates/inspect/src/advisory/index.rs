//! All advisories by package, ready to be matched with every component of every image.

use std::collections::HashMap;
use std::sync::Arc;

use super::name::{artifact, normalised};
use super::osv::Advisory;
use super::place::{Place, Platform};
use super::range::{Match, Prepared};
use crate::component::{Component, Ecosystem, Source};
use crate::version::Version;

#[cfg(test)]
mod tests;

/// Advisories by ecosystem and name.
#[derive(Clone, Debug, Default)]
pub struct Index {
    ids: Vec<Box<str>>,
    entries: Vec<Entry>,
    platforms: Vec<Platform>,
    platform_positions: HashMap<Platform, u32>,
    names: HashMap<Ecosystem, HashMap<Box<str>, Vec<u32>>>,
    /// Maven packages by artifact, for jars that do not tell their group.
    artifacts: HashMap<Box<str>, Vec<u32>>,
    unknown: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    advisory: u32,
    affected: u32,
    platform: Option<u32>,
    prepared: Prepared,
}

/// What of a component advisories are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package<'a> {
    /// Whose name and version order.
    pub ecosystem: Ecosystem,
    /// The name, in whatever spelling.
    pub name: &'a str,
    /// The version; empty where it is not known.
    pub version: &'a str,
    /// The source package, where that is named otherwise or has another version.
    pub source: Option<&'a Source>,
}

impl<'a> From<&'a Component> for Package<'a> {
    fn from(component: &'a Component) -> Self {
        let Component { ecosystem, name, version, source, .. } = component;
        Self { ecosystem: *ecosystem, name, version, source: source.as_ref() }
    }
}

impl Package<'_> {
    /// The normalised names under which advisories may speak of it: one that has none of these in its
    /// [`Advisory::names`] never does.
    pub fn names(&self) -> Vec<String> {
        let own = std::iter::once(self.name);
        let names: Vec<&str> = match (self.source, self.ecosystem) {
            (Some(source), Ecosystem::Deb) => vec![&source.name],
            (Some(source), Ecosystem::Rpm | Ecosystem::Apk) => own.chain([source.name.as_str()]).collect(),
            _ => own.collect(),
        };
        let mut names: Vec<String> =
            names.into_iter().map(|name| normalised(self.ecosystem, name).into_owned()).collect();
        names.dedup();
        names
    }
}

/// An advisory that names a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The advisory, as [`Index::add`] counted it.
    pub advisory: u32,
    /// The package, by its position in [`Advisory::affected`].
    pub affected: u32,
    /// Affected or undecided, never unaffected.
    pub outcome: Match,
    /// Whether the whole name is equal; otherwise the artifact alone is, and the component's group is not known.
    pub whole_name: bool,
}

impl Index {
    /// Adds an advisory, and gives its number: 0 for the first, then 1. One that was withdrawn is the caller's to leave out.
    pub fn add(&mut self, advisory: &Advisory) -> u32 {
        let number = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        self.ids.push(advisory.id.as_str().into());
        for (affected_index, affected) in (0_u32..).zip(&advisory.affected) {
            let (Ok(place), Some(prepared)) = (&affected.place, affected.prepare()) else {
                *self.unknown.entry(affected.ecosystem.clone()).or_default() += 1;
                continue;
            };
            let platform = place.platform.as_ref().map(|platform| self.platform(platform));
            let position = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            self.entries.push(Entry { advisory: number, affected: affected_index, platform, prepared });
            let name = normalised(place.ecosystem, &affected.name);
            if place.ecosystem == Ecosystem::Maven
                && let Some(artifact) = artifact(&name)
            {
                push(&mut self.artifacts, artifact, position);
            }
            push(self.names.entry(place.ecosystem).or_default(), &name, position);
        }
        number
    }

    /// The identifier of an advisory.
    pub fn id(&self, advisory: u32) -> Option<&str> {
        self.ids.get(advisory as usize).map(|id| &**id)
    }

    /// How many advisories there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many affected packages are of ecosystems that are not known, and so never found.
    pub fn unknown_ecosystems(&self) -> &HashMap<String, usize> {
        &self.unknown
    }

    /// Whether there is any advisory for this distribution's release. Where there is none, nothing is known of its
    /// packages.
    pub fn knows(&self, platform: &Platform) -> bool {
        self.platforms.iter().any(|known| known.covers(platform))
    }

    /// The advisories for one image, whose OS packages are of `platform`.
    pub fn on(&self, platform: Option<&Platform>) -> Scope<'_> {
        let covers = |known: &Platform| platform.is_some_and(|installed| known.covers(installed));
        Scope { index: self, covered: self.platforms.iter().map(covers).collect() }
    }

    fn platform(&mut self, platform: &Platform) -> u32 {
        if let Some(position) = self.platform_positions.get(platform) {
            return *position;
        }
        let position = u32::try_from(self.platforms.len()).unwrap_or(u32::MAX);
        self.platforms.push(platform.clone());
        self.platform_positions.insert(platform.clone(), position);
        position
    }
}

fn push(names: &mut HashMap<Box<str>, Vec<u32>>, name: &str, position: u32) {
    match names.get_mut(name) {
        Some(positions) => positions.push(position),
        None => {
            names.insert(name.into(), vec![position]);
        }
    }
}

/// The advisories that count for one image.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    index: &'a Index,
    covered: Vec<bool>,
}

impl Scope<'_> {
    /// What is known of one version of a package: of an OS package by the name that the distribution's advisories use, which
    /// [`Scope::component`] knows.
    pub fn package(&self, ecosystem: Ecosystem, name: &str, version: &str) -> Vec<Found> {
        let name = normalised(ecosystem, name);
        let whole = self.index.names.get(&ecosystem).and_then(|names| names.get(&*name));
        let alone =
            (ecosystem == Ecosystem::Maven && !name.contains(':')).then(|| self.index.artifacts.get(&*name)).flatten();
        let mut found = Vec::new();
        let mut read = None;
        for (positions, whole_name) in [(whole, true), (alone, false)] {
            let entries =
                positions.into_iter().flatten().filter_map(|position| self.index.entries.get(*position as usize));
            for entry in entries.filter(|entry| self.covers(entry)) {
                // All packages of one ecosystem have one scheme.
                let version_read =
                    read.get_or_insert_with(|| Version::parse(entry.prepared.scheme(), version).map_err(Arc::new));
                let outcome = match version_read {
                    Ok(read) => entry.prepared.matches(read),
                    Err(error) => entry.prepared.matches_unread(version, error),
                };
                if outcome != Match::Unaffected {
                    found.push(Found { advisory: entry.advisory, affected: entry.affected, outcome, whole_name });
                }
            }
        }
        found
    }

    /// What is known of a component, each advisory once.
    ///
    /// Debian's and Ubuntu's advisories name source packages. Those of distributions with RPM or apk name source packages or
    /// the packages made of them, so both are looked up.
    pub fn component<'p>(&self, package: impl Into<Package<'p>>) -> Vec<Found> {
        let package = package.into();
        let own = || self.package(package.ecosystem, package.name, package.version);
        let mut found = match (package.source, package.ecosystem) {
            (Some(source), Ecosystem::Deb) => self.package(package.ecosystem, &source.name, &source.version),
            (Some(source), Ecosystem::Rpm | Ecosystem::Apk) if source.name != package.name => {
                // A source RPM's file name has no epoch.
                let version = match package.version.split_once(':') {
                    Some((epoch, _)) if package.ecosystem == Ecosystem::Rpm && !source.version.contains(':') => {
                        format!("{epoch}:{}", source.version)
                    }
                    _ => source.version.clone(),
                };
                let mut found = own();
                found.extend(self.package(package.ecosystem, &source.name, &version));
                found
            }
            _ => own(),
        };
        // Of one advisory that names a component more than once, what is certain comes first.
        found.sort_by_key(|found| (found.advisory, matches!(found.outcome, Match::Undecided(_)), !found.whole_name));
        found.dedup_by_key(|found| found.advisory);
        found
    }

    fn covers(&self, entry: &Entry) -> bool {
        entry.platform.is_none_or(|platform| self.covered.get(platform as usize).is_some_and(|covered| *covered))
    }
}

impl Advisory {
    /// The normalised names by which components are found that this advisory may speak of, as [`Package::names`] has
    /// them: of a Maven package with its group, and alone for jars that do not tell theirs.
    pub fn names(&self) -> Vec<(Ecosystem, String)> {
        let mut names = Vec::with_capacity(self.affected.len());
        for affected in &self.affected {
            let Ok(place) = &affected.place else { continue };
            let name = normalised(place.ecosystem, &affected.name);
            if place.ecosystem == Ecosystem::Maven
                && let Some(artifact) = artifact(&name)
            {
                names.push((place.ecosystem, artifact.to_owned()));
            }
            names.push((place.ecosystem, name.into_owned()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The packages of this advisory that a component may be, by their positions in [`Advisory::affected`]: those of its
    /// ecosystem and normalised name.
    pub fn packages_named<'a>(
        &'a self,
        ecosystem: Ecosystem,
        name: &'a str,
    ) -> impl Iterator<Item = (usize, &'a Place)> {
        let name = normalised(ecosystem, name);
        self.affected.iter().enumerate().filter_map(move |(index, affected)| {
            let place = affected.place.as_ref().ok().filter(|place| place.ecosystem == ecosystem)?;
            (normalised(ecosystem, &affected.name) == name).then_some((index, place))
        })
    }
}
