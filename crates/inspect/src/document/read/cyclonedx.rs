//! CycloneDX 1.2 to 1.7 in JSON.

use std::collections::HashMap;

use super::join::Stated;
use super::tree::Node;
use super::{Bill, COMPONENTS_MAX, Listed, Notes, ReadError};
use crate::component::{Evidence, Source};
use crate::document::contents::evidence_of;
use crate::document::json::component_of;
use crate::document::{Hash, Licence};

const VERSIONS: [&str; 6] = ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"];

/// Kinds that are packages only where they have a package URL.
const NO_PACKAGES: [&str; 10] = [
    "operating-system",
    "file",
    "container",
    "device",
    "device-driver",
    "firmware",
    "platform",
    "data",
    "machine-learning-model",
    "cryptographic-asset",
];

pub(super) fn read(root: &Node<'_>) -> Result<Bill, ReadError> {
    let version = root.required("specVersion")?;
    if !VERSIONS.contains(&version) {
        return Err(ReadError::Version { format: "CycloneDX", version: version.to_owned() });
    }
    let mut notes = Notes::default();
    let mut components = Vec::new();
    // Components may hold components; what is yet to be visited, the first on top.
    let mut waiting = root.list("components")?;
    waiting.reverse();
    let metadata = root.get("metadata").and_then(|metadata| metadata.get("component"));
    if let Some(metadata) = &metadata {
        waiting.extend(metadata.list("components")?.into_iter().rev());
    }
    while let Some(node) = waiting.pop() {
        waiting.extend(node.list("components")?.into_iter().rev());
        if components.len() >= COMPONENTS_MAX {
            return Err(ReadError::Limit { at: node.at(), what: "components", limit: COMPONENTS_MAX });
        }
        components.extend(component(&node, &mut notes));
    }
    dependencies(root, &mut components, &mut notes)?;
    let (subject, subject_identifiers) = metadata.as_ref().map(subject).unwrap_or_default();
    Ok(Bill {
        format: format!("CycloneDX {version}"),
        subject,
        subject_identifiers,
        components,
        complete: complete(root, metadata.and_then(|node| node.text("bom-ref"))),
        notes: notes.into_kept(),
    })
}

fn subject(node: &Node<'_>) -> (Option<String>, Vec<String>) {
    let hashes = hashes(node, None).into_iter().map(|hash| format!("{}:{}", hash.algorithm.oci_name(), hash.hex));
    let stated = [node.text("purl"), node.text("version").filter(|version| version.contains(':'))];
    let identifiers = stated.into_iter().flatten().map(str::to_owned).chain(hashes).collect();
    (node.text("name").map(str::to_owned), identifiers)
}

fn component(node: &Node<'_>, notes: &mut Notes) -> Option<Listed> {
    let kind = node.text("type").unwrap_or_default();
    let purl = node.text("purl");
    let Some(name) = node.text("name").filter(|name| !name.is_empty()) else {
        // An application with an empty name is Trivy's heading over packages of one kind.
        if kind != "application" || purl.is_some() {
            notes.add(node.at(), "the component has no name");
        }
        return None;
    };
    let version = node.text("version").unwrap_or_default();
    if purl.is_none() && (NO_PACKAGES.contains(&kind) || version.is_empty()) {
        // Files and the distribution are no packages; nor is a mere heading such as a lock file's path.
        return None;
    }
    let properties = Properties::of(node);
    let evidence = properties.one("longshore:evidence").and_then(evidence_of).unwrap_or(Evidence::Contained);
    let stated = Stated { group: node.text("group").unwrap_or_default(), name, version, purl };
    let (mut component, broken) = stated.component(evidence);
    if let Some(error) = broken {
        notes.add(format!("{}/purl", node.at()), error.to_string());
    }
    if let Some(architecture) = properties.one("longshore:architecture") {
        component.architecture = Some(architecture.to_owned());
    }
    if let Some(name) = properties.one("longshore:source:name") {
        let version = properties.one("longshore:source:version").unwrap_or_default();
        component.source = Some(Source { name: name.to_owned(), version: version.to_owned() });
    }
    let mut further = Vec::new();
    for text in properties.all("longshore:further") {
        match super::tree::parse(text.as_bytes()).and_then(|tree| component_of(&tree.root())) {
            Ok(component) => further.push(component),
            Err(error) => notes.add(format!("{}/properties", node.at()), error.to_string()),
        }
    }
    let occurrences = node.get("evidence").map(|evidence| evidence.each("occurrences")).unwrap_or_default();
    let licences = licences(node, notes);
    component.licences = licences.iter().map(|licence| licence.stated.clone()).collect();
    Some(Listed {
        reference: node.text("bom-ref").unwrap_or_default().to_owned(),
        component,
        purl: purl.map(str::to_owned),
        further,
        places: occurrences.iter().filter_map(|node| node.text("location")).map(str::to_owned).collect(),
        hashes: hashes(node, Some(notes)),
        depends_on: Vec::new(),
        licences,
        at: node.at(),
    })
}

/// A component's properties, in which a name may stand more than once.
struct Properties<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Properties<'t> {
    fn of(node: &Node<'t>) -> Self {
        let pair = |node: &Node<'t>| Some((node.text("name")?, node.text("value")?));
        Self(node.each("properties").iter().filter_map(pair).collect())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'t str> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn one(&self, name: &str) -> Option<&'t str> {
        self.all(name).next()
    }
}

fn hashes(node: &Node<'_>, mut notes: Option<&mut Notes>) -> Vec<Hash> {
    let mut hashes = Vec::new();
    for node in node.each("hashes") {
        let hash = node.text("alg").zip(node.text("content"));
        match hash.and_then(|(algorithm, digits)| Hash::of(algorithm, digits)) {
            Some(hash) => hashes.push(hash),
            None => {
                if let Some(notes) = notes.as_deref_mut() {
                    notes.add(node.at(), "the hash is of no known algorithm or length");
                }
            }
        }
    }
    hashes
}

fn licences(node: &Node<'_>, notes: &mut Notes) -> Vec<Licence> {
    let mut licences = Vec::new();
    for node in node.each("licenses") {
        let licence = node.get("license");
        let id = licence.as_ref().and_then(|licence| licence.text("id"));
        let name = licence.as_ref().and_then(|licence| licence.text("name"));
        let address = licence.as_ref().and_then(|licence| licence.text("url"));
        match (node.text("expression").or(id), name.or(address)) {
            (Some(text), _) => licences.push(Licence { stated: text.to_owned(), expression: Some(text.to_owned()) }),
            (None, Some(text)) => licences.push(Licence { stated: text.to_owned(), expression: None }),
            (None, None) => notes.add(node.at(), "the licence has neither an identifier nor a name"),
        }
    }
    licences
}

fn dependencies(root: &Node<'_>, components: &mut [Listed], notes: &mut Notes) -> Result<(), ReadError> {
    let places: HashMap<String, usize> =
        components.iter().enumerate().map(|(index, listed)| (listed.reference.clone(), index)).collect();
    for node in root.list("dependencies")? {
        let Some(reference) = node.text("ref") else {
            notes.add(node.at(), "the dependency has no \"ref\"");
            continue;
        };
        if let Some(listed) = places.get(reference).and_then(|index| components.get_mut(*index)) {
            listed.depends_on.extend(node.texts("dependsOn").into_iter().map(str::to_owned));
        }
    }
    Ok(())
}

/// What it states of the parts of its subject.
fn complete(root: &Node<'_>, subject: Option<&str>) -> Option<bool> {
    for node in root.each("compositions") {
        let assemblies = node.texts("assemblies");
        if assemblies.is_empty() || subject.is_some_and(|subject| assemblies.contains(&subject)) {
            match node.text("aggregate") {
                Some("complete") => return Some(true),
                Some(aggregate) if aggregate.starts_with("incomplete") => return Some(false),
                _ => {}
            }
        }
    }
    None
}
