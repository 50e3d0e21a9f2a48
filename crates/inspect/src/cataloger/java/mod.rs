//! Java archives: jar, war, ear, jpi and hpi. What they say of themselves, and which known libraries their classes are.
//!
//! Reading zip files is the core's part. It names every entry of the central directory once, then hands over the bytes
//! of those that are wanted, in any order. Archives within are archives of their own.

mod artifact;
mod class;
mod index;
mod manifest;
mod pom;
mod shaded;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::cataloger::Found;
use crate::component::{Component, Ecosystem, Evidence};

pub use class::{CLASS_BYTES_MAX, ClassError, Shape, shape};
pub use index::{ClassPrint, INDEX_BYTES_MAX, Library, build_index, print_of};

use artifact::FileName;
use index::Index;
use manifest::Manifest;
use pom::Pom;
use shaded::Shaded;

/// Poms of one archive that are read at most.
pub const POMS_MAX: usize = 4_096;
/// Bytes of a manifest at most.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a `pom.properties` or `pom.xml` at most.
pub const POM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an entry's path at most; none that is wanted is as long.
pub const PATH_BYTES_MAX: usize = 1_024;
const MANIFEST: &[u8] = b"META-INF/MANIFEST.MF";
const MAVEN: &[u8] = b"META-INF/maven/";

/// Whether a file of this name is an archive that a [`Jar`] is for.
pub fn wants(file_name: &[u8]) -> bool {
    let extension = file_name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    extension.len() < file_name.len()
        && [&b"jar"[..], b"war", b"ear", b"jpi", b"hpi", b"par", b"sar", b"rar", b"lpkg", b"kar"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
}

/// One archive as it is read.
#[derive(Debug)]
pub struct Jar {
    file: FileName,
    /// By folder.
    poms: BTreeMap<Vec<u8>, Place>,
    manifest: Manifest,
    shaded: Shaded,
    /// Well-known libraries of the file's name: whether anything is in their group's package.
    known: Vec<Known>,
    has_classes: bool,
    notes: Vec<String>,
    poms_over: usize,
    paths_over: usize,
}

/// A folder of `META-INF/maven`, and what its files say.
#[derive(Debug, Default)]
struct Place {
    group: String,
    artifact: String,
    has_properties: bool,
    has_xml: bool,
    pom: Option<Pom>,
    wrong: Option<String>,
}

#[derive(Debug)]
struct Known {
    group: &'static str,
    folder: Vec<u8>,
    seen: bool,
}

/// The groups of an artifact, or of the one whose name it continues: `groovy-bsf` has that of `groovy`.
fn groups(index: &'static Index, artifact: &str) -> Vec<&'static str> {
    let stems = std::iter::successors(Some(artifact), |stem| Some(stem.rsplit_once('-')?.0));
    stems.map(|stem| index.groups(stem)).find(|groups| !groups.is_empty()).unwrap_or_default()
}

impl Jar {
    /// An archive of this name (the last part of its path).
    pub fn new(file_name: &[u8]) -> Self {
        let file = FileName::new(file_name);
        let groups = Index::built_in().map(|index| groups(index, &file.artifact)).unwrap_or_default();
        let known = groups.into_iter().map(|group| Known {
            group,
            folder: [group.replace('.', "/").as_bytes(), b"/"].concat(),
            seen: false,
        });
        Self {
            known: known.collect(),
            file,
            poms: BTreeMap::new(),
            manifest: Manifest::default(),
            shaded: Shaded::default(),
            has_classes: false,
            notes: Vec::new(),
            poms_over: 0,
            paths_over: 0,
        }
    }

    /// An entry of the central directory: its path, CRC-32 and size in bytes when inflated.
    pub fn entry(&mut self, path: &[u8], crc32: u32, size: u64) {
        if path.len() > PATH_BYTES_MAX {
            self.paths_over += usize::from(path.ends_with(b".class") || maven(path).is_some());
        } else if path.ends_with(b".class") {
            self.has_classes = true;
            for known in &mut self.known {
                known.seen |= path.starts_with(&known.folder);
            }
            self.shaded.entry(path, crc32, size);
        } else if let Some((folder, group, artifact, file)) = maven(path) {
            if !self.poms.contains_key(folder) && self.poms.len() == POMS_MAX {
                self.poms_over += 1;
                return;
            }
            let place = self.poms.entry(folder.to_vec()).or_insert_with(|| Place {
                group: String::from_utf8_lossy(group).into_owned(),
                artifact: String::from_utf8_lossy(artifact).into_owned(),
                ..Place::default()
            });
            match file {
                File::Properties => place.has_properties = true,
                File::Xml => place.has_xml = true,
            }
        }
    }

    /// Whether the bytes of an entry are wanted. To be asked when all entries have been named.
    pub fn wants(&self, path: &[u8]) -> bool {
        if path.ends_with(b".class") {
            return self.shaded.wants(path, || self.stated());
        }
        match maven(path) {
            Some((folder, .., file)) => self.poms.get(folder).is_some_and(|place| match file {
                File::Properties => true,
                // Maven writes both, and the properties have what a pom has only by its parent.
                File::Xml => !place.has_properties,
            }),
            None => path == MANIFEST,
        }
    }

    /// The bytes of an entry that was wanted.
    pub fn content(&mut self, path: &[u8], bytes: &[u8]) {
        if path.ends_with(b".class") {
            if let Err(error) = self.shaded.content(path, bytes) {
                self.notes.push(format!("{}: {error}", String::from_utf8_lossy(path)));
            }
        } else if let Some((folder, .., file)) = maven(path) {
            let Some(place) = self.poms.get_mut(folder) else { return };
            let read = match file {
                _ if bytes.len() > POM_BYTES_MAX => Err(format!("over the limit of {POM_BYTES_MAX} bytes")),
                File::Properties => Pom::from_properties(bytes),
                File::Xml => Pom::from_xml(bytes),
            };
            match read {
                Ok(pom) => place.pom = Some(pom),
                Err(error) => place.wrong = Some(format!("{}: {error}", String::from_utf8_lossy(path))),
            }
        } else if path == MANIFEST {
            if bytes.len() > MANIFEST_BYTES_MAX {
                self.notes.push(format!("META-INF/MANIFEST.MF: over the limit of {MANIFEST_BYTES_MAX} bytes"));
            } else {
                self.manifest = Manifest::new(bytes);
            }
        }
    }

    /// Artifacts that the archive states by a pom; their classes need no fingerprints.
    fn stated(&self) -> Vec<&str> {
        self.poms.values().map(|place| place.artifact.as_str()).collect()
    }

    /// The components, the archive's own first.
    pub fn finish(mut self) -> Found {
        let mut found = Found::default();
        if self.poms_over > 0 {
            self.notes.push(format!("{} poms, over the limit of {POMS_MAX}, were not read", self.poms_over));
        }
        if self.paths_over > 0 {
            let over = self.paths_over;
            self.notes
                .push(format!("{over} classes and poms with paths over {PATH_BYTES_MAX} bytes were not examined"));
        }
        let mut components: Vec<Component> = Vec::new();
        let own = self.own_pom();
        for (folder, place) in &self.poms {
            let component = place.component();
            found.notes.extend(place.wrong.clone());
            if components.contains(&component) {
                continue;
            }
            if Some(folder) == own.as_ref() { components.insert(0, component) } else { components.push(component) }
        }
        let own_version_known = own.is_some() && components.first().is_some_and(|own| !own.version.is_empty());
        let stated: Vec<String> = self.stated().into_iter().map(str::to_owned).collect();
        let told = self.shaded.finish(&stated);
        found.notes.append(&mut self.notes);
        if own.is_none() {
            let worth = self.has_classes || self.manifest.names_anything();
            let component = self.own_component();
            if worth && (components.is_empty() || !component.version.is_empty()) {
                components.insert(0, component);
            }
        }
        for told in told {
            // The archive of a library is that library, whose classes then tell what its name does not.
            let own = components
                .first_mut()
                .filter(|first| !own_version_known && is_same(artifact_of(&first.name), told.artifact()));
            match own {
                Some(first) => {
                    first.name = told.name.clone();
                    if first.version.is_empty() && !told.version.is_empty() {
                        first.version = told.version;
                        first.evidence = Evidence::Inferred;
                    } else if first.version.is_empty() {
                        found.notes.extend(told.note);
                    }
                }
                None => {
                    found.notes.extend(told.note);
                    components.push(component(told.name, told.version, Evidence::Inferred));
                }
            }
        }
        if let (Some(first), Some(licence)) = (components.first_mut(), self.manifest.licence()) {
            first.licences.push(licence.to_owned());
        }
        found.components = components;
        found
    }

    /// The folder of the pom that is the archive's own: the longest artifact that the file's name begins with, or the
    /// only pom where the file's name says nothing of a version.
    fn own_pom(&self) -> Option<Vec<u8>> {
        let fits = |place: &Place| self.file.begins_with(&place.artifact);
        let named = self.poms.iter().filter(|(_, place)| fits(place)).max_by_key(|(_, place)| place.artifact.len());
        let only = || self.poms.iter().next().filter(|_| self.poms.len() == 1 && self.file.version.is_empty());
        named.or_else(only).map(|(folder, _)| folder.clone())
    }

    /// What the manifest and the file's name make of an archive without a pom of its own.
    fn own_component(&self) -> Component {
        let artifact = self.manifest.artifact().unwrap_or(&self.file.artifact);
        let (version, evidence) = match (self.file.version.as_str(), self.manifest.version()) {
            ("", Some(version)) => (version, Evidence::Contained),
            ("", None) => ("", Evidence::Inferred),
            (version, _) if self.manifest.states(version) => (version, Evidence::Contained),
            (version, _) => (version, Evidence::Inferred),
        };
        let known = || self.known.iter().find(|known| known.seen).map(|known| known.group.to_owned());
        // A manifest of another version than the file's is that of something merged into it.
        let foreign = evidence == Evidence::Inferred && self.manifest.version().is_some();
        let group = if foreign { None } else { self.manifest.group(artifact) };
        let name = match group.or_else(known) {
            Some(group) => format!("{group}:{artifact}"),
            None => artifact.to_owned(),
        };
        component(name, version.to_owned(), evidence)
    }
}

impl Place {
    /// What the pom says; what it does not say is in its path.
    fn component(&self) -> Component {
        let pom = self.pom.as_ref();
        let said = |value: Option<&String>, else_in_path: &str| {
            value.filter(|value| !value.is_empty()).map_or_else(|| else_in_path.to_owned(), Clone::clone)
        };
        let group = said(pom.map(|pom| &pom.group), &self.group);
        let artifact = said(pom.map(|pom| &pom.artifact), &self.artifact);
        let version = pom.map(|pom| pom.version.clone()).unwrap_or_default();
        let name = if group.is_empty() { artifact } else { format!("{group}:{artifact}") };
        let licences = pom.map(|pom| pom.licences.clone()).unwrap_or_default();
        Component { licences, ..component(name, version, Evidence::Contained) }
    }
}

fn component(name: String, version: String, evidence: Evidence) -> Component {
    Component {
        ecosystem: Ecosystem::Maven,
        name,
        version,
        architecture: None,
        source: None,
        licences: Vec::new(),
        evidence,
    }
}

fn artifact_of(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or_default()
}

/// Whether two artifacts are one library, of which one may be named after the version of Java that it is for.
fn is_same(artifact: &str, other: &str) -> bool {
    artifact.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("-jdk"))
}

enum File {
    Properties,
    Xml,
}

/// A folder, group and artifact by their path, and which file it is.
type MavenFile<'p> = (&'p [u8], &'p [u8], &'p [u8], File);

/// The folder, group, artifact and kind of a file of `META-INF/maven/GROUP/ARTIFACT/`, wherever in the archive that is.
fn maven(path: &[u8]) -> Option<MavenFile<'_>> {
    let (folder, file) = match path.strip_suffix(b"/pom.properties") {
        Some(folder) => (folder, File::Properties),
        None => (path.strip_suffix(b"/pom.xml")?, File::Xml),
    };
    let at = memchr::memmem::rfind(folder, MAVEN)?;
    if at > 0 && folder.get(at - 1) != Some(&b'/') {
        return None;
    }
    let mut parts = folder.get(at + MAVEN.len()..)?.split(|byte| *byte == b'/');
    let (group, artifact) = (parts.next()?, parts.next()?);
    (parts.next().is_none() && !artifact.is_empty()).then_some((folder, group, artifact, file))
}
