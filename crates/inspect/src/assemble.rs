//! From what the layers say to what the image holds: what upper layers hide goes, the same thing in several places is one,
//! and what an OS package owns is that package under another name.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};

use crate::archive::escaped;
use crate::component::{Component, Ecosystem, Evidence};
use crate::document::{Found, Licence, OperatingSystem, Place, Secret, Unexamined};
use crate::layers;
use crate::licence::Expression;
use crate::os_release::{self, OsRelease};
use crate::path;
use crate::secret::Confidence;
use crate::walk::{Examined, Fact, Layer, Package, owned_hash};

/// What an image holds.
#[derive(Debug, Default)]
pub struct Assembled {
    /// The distribution, where one is known.
    pub operating_system: Option<OperatingSystem>,
    /// The components, by ecosystem, name and version.
    pub components: Vec<Found>,
    /// Keys and tokens, also those in files that an upper layer hides.
    pub secrets: Vec<Secret>,
    /// What was not examined.
    pub unexamined: Vec<Unexamined>,
    /// Files that were looked at in all layers.
    pub files_count: u64,
}

/// What makes two findings the same component.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key<'r> {
    ecosystem: Ecosystem,
    name: &'r str,
    version: &'r str,
    architecture: Option<&'r str>,
}

impl<'r> Key<'r> {
    fn of(component: &'r Component) -> Self {
        Self {
            ecosystem: component.ecosystem,
            name: &component.name,
            version: &component.version,
            architecture: component.architecture.as_deref(),
        }
    }
}

/// A component that is being put together.
struct Building<'r> {
    component: &'r Component,
    evidence: Evidence,
    places: BTreeSet<Place>,
    licences: BTreeSet<&'r str>,
    further: Vec<&'r Component>,
    owner: Option<usize>,
}

/// Puts the layers of an image together, lowest first.
pub fn assemble<L: Borrow<Layer>>(layers: &[L]) -> Assembled {
    let layers: Vec<&Layer> = layers.iter().map(Borrow::borrow).collect();
    assemble_all(&layers)
}

fn assemble_all(layers: &[&Layer]) -> Assembled {
    let is_visible = |at: usize, path: &[u8]| {
        let above = layers.get(at + 1..).unwrap_or_default().iter().map(|layer| &layer.tree);
        // A folder may go deeper than a layer's paths; nothing hides what lies there.
        path::clean(path).map_or(true, |path| layers::visible(&path, above))
    };
    let visible: Vec<(usize, &Examined)> = layers
        .iter()
        .enumerate()
        .flat_map(|(at, layer)| layer.report.files.iter().map(move |file| (at, file)))
        .filter(|(at, file)| file.chain.first().is_none_or(|path| is_visible(*at, path)))
        .collect();
    let mut image = Image::default();
    image.take_packages(layers, &visible);
    image.take_licences(&visible);
    let owners = image.owners(&visible);
    image.take_others(&visible, &owners);
    Assembled {
        operating_system: operating_system(&visible),
        secrets: secrets(layers, is_visible),
        unexamined: unexamined(&visible),
        files_count: layers.iter().map(|layer| layer.report.files_count).sum(),
        components: image.finish(),
    }
}

#[derive(Default)]
struct Image<'r> {
    found: Vec<Building<'r>>,
    by_key: HashMap<Key<'r>, usize>,
    /// Packages of the operating system by name: of several architectures, or of several versions.
    packages: HashMap<&'r str, Vec<usize>>,
}

impl<'r> Image<'r> {
    fn add(&mut self, component: &'r Component, place: Place) -> usize {
        let next = self.found.len();
        let at = *self.by_key.entry(Key::of(component)).or_insert(next);
        if at == next {
            self.found.push(Building {
                component,
                evidence: component.evidence,
                places: BTreeSet::new(),
                licences: BTreeSet::new(),
                further: Vec::new(),
                owner: None,
            });
        }
        if let Some(found) = self.found.get_mut(at) {
            found.evidence = found.evidence.min(component.evidence);
            found.places.insert(place);
            found.licences.extend(component.licences.iter().map(String::as_str));
        }
        at
    }

    /// Packages of the operating system. A database is written anew by each layer that installs something: a package
    /// came with the first layer whose database has it.
    fn take_packages(&mut self, layers: &[&'r Layer], visible: &[(usize, &'r Examined)]) {
        let mut first: HashMap<(&[Vec<u8>], Key<'_>), usize> = HashMap::new();
        for (at, layer) in layers.iter().enumerate() {
            for (file, component) in components(layer.report.files.iter()).filter(|(_, found)| is_package(found)) {
                first.entry((&file.chain, Key::of(component))).or_insert(at);
            }
        }
        for (file, component) in
            components(visible.iter().map(|(_, file)| *file)).filter(|(_, found)| is_package(found))
        {
            let layer = first.get(&(&*file.chain, Key::of(component))).copied();
            let at = self.add(component, Place { layer, chain: chain(file) });
            let named = self.packages.entry(&component.name).or_default();
            if !named.contains(&at) {
                named.push(at);
            }
        }
    }

    fn package(&self, package: &Package) -> Option<usize> {
        let fits = |stated: &Option<String>, is: Option<&str>| {
            stated.as_deref().is_none_or(|stated| is.is_none_or(|is| stated == is))
        };
        self.packages.get(&*package.name)?.iter().copied().find(|at| {
            self.found.get(*at).is_some_and(|found| {
                fits(&package.version, Some(&found.component.version))
                    && fits(&package.architecture, found.component.architecture.as_deref())
            })
        })
    }

    fn take_licences(&mut self, visible: &[(usize, &'r Examined)]) {
        for (_, file) in visible {
            for fact in &file.facts {
                let Fact::Licence { package, licences } = fact else { continue };
                if let Some(found) = self.package(package).and_then(|at| self.found.get_mut(at)) {
                    found.licences.extend(licences.iter().map(String::as_str));
                }
            }
        }
    }

    /// Which package owns the file of a path's hash, sorted by the hash.
    fn owners(&self, visible: &[(usize, &'r Examined)]) -> Vec<(u64, usize)> {
        let mut owners = Vec::new();
        for (_, file) in visible {
            for fact in &file.facts {
                let Fact::Owns { package, paths } = fact else { continue };
                if let Some(at) = self.package(package) {
                    owners.extend(paths.iter().map(|path| (*path, at)));
                }
            }
        }
        owners.sort_unstable();
        owners
    }

    fn take_others(&mut self, visible: &[(usize, &'r Examined)], owners: &[(u64, usize)]) {
        for (layer, file) in visible {
            let owner = file.chain.first().and_then(|path| owner(owners, path));
            for (_, component) in components(std::iter::once(*file)).filter(|(_, found)| !is_package(found)) {
                // What is packed within the package's file is something of its own.
                match owner {
                    Some(owner) if file.chain.len() == 1 => {
                        if let Some(package) = self.found.get_mut(owner) {
                            if !package.further.iter().any(|further| Key::of(further) == Key::of(component)) {
                                package.further.push(component);
                            }
                            package.licences.extend(component.licences.iter().map(String::as_str));
                        }
                    }
                    _ => {
                        let at = self.add(component, Place { layer: Some(*layer), chain: chain(file) });
                        if let Some(found) = self.found.get_mut(at) {
                            found.owner = found.owner.or(owner);
                        }
                    }
                }
            }
        }
    }

    fn finish(mut self) -> Vec<Found> {
        let ids: Vec<String> = self.found.iter().map(|found| id(found.component)).collect();
        let mut found: Vec<Found> = self
            .found
            .drain(..)
            .zip(&ids)
            .map(|(building, id)| {
                let mut component = building.component.clone();
                component.evidence = building.evidence;
                component.licences = building.licences.iter().map(|licence| (*licence).to_owned()).collect();
                Found {
                    id: id.clone(),
                    licences: component.licences.iter().map(|stated| licence(stated)).collect(),
                    component,
                    places: building.places.into_iter().collect(),
                    owner: building.owner.and_then(|owner| ids.get(owner).cloned()),
                    further: building.further.into_iter().cloned().collect(),
                    hashes: Vec::new(),
                    depends_on: Vec::new(),
                }
            })
            .collect();
        found.sort_by(|a, b| Key::of(&a.component).cmp(&Key::of(&b.component)));
        found
    }
}

/// Every component of these files.
fn components<'r>(files: impl Iterator<Item = &'r Examined>) -> impl Iterator<Item = (&'r Examined, &'r Component)> {
    files.flat_map(|file| {
        file.facts.iter().filter_map(move |fact| match fact {
            Fact::Component(component) => Some((file, component)),
            _ => None,
        })
    })
}

fn is_package(component: &Component) -> bool {
    component.evidence == Evidence::Installed
        && matches!(component.ecosystem, Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk)
}

fn owner(owners: &[(u64, usize)], path: &[u8]) -> Option<usize> {
    let hash = owned_hash(path);
    let at = owners.partition_point(|(owned, _)| *owned < hash);
    owners.get(at).filter(|(owned, _)| *owned == hash).map(|(_, owner)| *owner)
}

fn chain(file: &Examined) -> Vec<String> {
    let mut chain: Vec<String> = file.chain.iter().map(|path| escaped(path)).collect();
    if let Some(first) = chain.first_mut() {
        first.insert(0, '/');
    }
    chain
}

/// What a component is called within an image.
pub(crate) fn id(component: &Component) -> String {
    let Component { ecosystem, name, version, architecture, .. } = component;
    let architecture = architecture.as_deref().map(|architecture| format!(":{architecture}")).unwrap_or_default();
    format!("{}/{name}{architecture}@{version}", ecosystem.word())
}

fn licence(stated: &str) -> Licence {
    Licence { stated: stated.to_owned(), expression: Expression::read(stated).spdx() }
}

fn operating_system(visible: &[(usize, &Examined)]) -> Option<OperatingSystem> {
    let systems = visible.iter().filter(|(_, file)| file.chain.len() == 1).flat_map(|(_, file)| {
        let rank = file.chain.first().and_then(|path| os_release::rank(path));
        file.facts.iter().filter_map(move |fact| match fact {
            Fact::System(system) => Some((rank?, system)),
            _ => None,
        })
    });
    let (_, system): (usize, &OsRelease) = systems.min_by_key(|(rank, _)| *rank)?;
    Some(OperatingSystem {
        id: system.id.clone(),
        version: system.version_id.clone().unwrap_or_default(),
        name: system.pretty_name.clone().unwrap_or_else(|| system.id.clone()),
    })
}

/// Whoever has a layer has what lies in it, whatever a later one hides. What has the form of a secret and no more, as
/// examples and tests are full of, is left out.
fn secrets(layers: &[&Layer], is_visible: impl Fn(usize, &[u8]) -> bool) -> Vec<Secret> {
    let mut all = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        for file in &layer.report.files {
            let found = file.facts.iter().filter_map(|fact| match fact {
                Fact::Secret(secret) if secret.confidence > Confidence::Low => Some(secret),
                _ => None,
            });
            all.extend(found.map(|secret| Secret {
                rule: secret.rule.name().to_owned(),
                place: Place { layer: Some(at), chain: chain(file) },
                line: Some(secret.line),
                redacted: secret.excerpt.clone(),
                deleted: file.chain.first().is_some_and(|path| !is_visible(at, path)),
            }));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn unexamined(visible: &[(usize, &Examined)]) -> Vec<Unexamined> {
    let mut all: Vec<Unexamined> = visible
        .iter()
        .flat_map(|(layer, file)| {
            file.facts.iter().filter_map(|fact| match fact {
                Fact::Unexamined(why) => {
                    Some(Unexamined { place: Place { layer: Some(*layer), chain: chain(file) }, why: why.clone() })
                }
                _ => None,
            })
        })
        .collect();
    all.sort_unstable();
    all
}
