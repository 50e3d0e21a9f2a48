//! SPDX 2.2 and 2.3: JSON, and what JSON and tag-value share.

use std::collections::{HashMap, HashSet};

use super::join::Stated;
use super::tree::{self, Node};
use super::{Bill, COMPONENTS_MAX, Listed, Notes, ReadError};
use crate::component::{Evidence, Source};
use crate::document::contents::evidence_of;
use crate::document::json::component_of;
use crate::document::{Hash, Licence};

/// The longest text that stands as the name of a licence, in bytes.
pub(super) const LICENCE_NAME_BYTES_MAX: usize = 256;

/// A package as either form of the format states it.
#[derive(Debug, Default)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) purpose: String,
    pub(super) declared: String,
    /// The package URLs, the first of which is the package's own.
    pub(super) purls: Vec<String>,
    pub(super) hashes: Vec<Hash>,
    /// The annotations' comments.
    pub(super) comments: Vec<String>,
    pub(super) at: String,
}

/// A relationship as either form states it.
#[derive(Debug)]
pub(super) struct Relationship {
    pub(super) from: String,
    pub(super) kind: String,
    pub(super) to: String,
}

/// Everything that a document states.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) comment: String,
    pub(super) packages: Vec<Package>,
    /// The texts that the licence references stand for.
    pub(super) licences: HashMap<String, String>,
    pub(super) relationships: Vec<Relationship>,
    /// The elements that the document describes.
    pub(super) described: Vec<String>,
    pub(super) notes: Notes,
}

pub(super) fn read(root: &Node<'_>) -> Result<Bill, ReadError> {
    let mut document = Document {
        version: root.required("spdxVersion")?.to_owned(),
        name: root.text("name").unwrap_or_default().to_owned(),
        comment: root.text("comment").unwrap_or_default().to_owned(),
        described: root.texts("documentDescribes").into_iter().map(str::to_owned).collect(),
        ..Document::default()
    };
    for node in root.list("packages")? {
        if document.packages.len() >= COMPONENTS_MAX {
            return Err(ReadError::Limit { at: node.at(), what: "packages", limit: COMPONENTS_MAX });
        }
        let package = package(&node, &mut document.notes);
        document.packages.push(package);
    }
    for node in root.list("hasExtractedLicensingInfos")? {
        if let Some(id) = node.text("licenseId") {
            let name = node.text("name").filter(|name| *name != "NOASSERTION").or(node.text("extractedText"));
            // Each package that refers to it has a copy; what is longer is a text and no name.
            let name = name.filter(|name| name.len() <= LICENCE_NAME_BYTES_MAX).unwrap_or(id);
            document.licences.insert(id.to_owned(), name.to_owned());
        }
    }
    for node in root.list("relationships")? {
        let member = |key| node.text(key).map(str::to_owned);
        match (member("spdxElementId"), member("relationshipType"), member("relatedSpdxElement")) {
            (Some(from), Some(kind), Some(to)) => document.relationships.push(Relationship { from, kind, to }),
            _ => document.notes.add(node.at(), "the relationship lacks one of its three members"),
        }
    }
    document.into_bill()
}

fn package(node: &Node<'_>, notes: &mut Notes) -> Package {
    let text = |key| node.text(key).unwrap_or_default().to_owned();
    let mut hashes = Vec::new();
    for node in node.each("checksums") {
        let hash = node.text("algorithm").zip(node.text("checksumValue"));
        match hash.and_then(|(algorithm, digits)| Hash::of(algorithm, digits)) {
            Some(hash) => hashes.push(hash),
            None => notes.add(node.at(), "the checksum is of no known algorithm or length"),
        }
    }
    let references = node.each("externalRefs");
    let purls = references.iter().filter(|node| node.text("referenceType") == Some("purl"));
    Package {
        id: text("SPDXID"),
        name: text("name"),
        version: text("versionInfo"),
        purpose: text("primaryPackagePurpose"),
        declared: text("licenseDeclared"),
        purls: purls.filter_map(|node| node.text("referenceLocator")).map(str::to_owned).collect(),
        hashes,
        comments: node.each("annotations").iter().filter_map(|node| node.text("comment")).map(str::to_owned).collect(),
        at: node.at(),
    }
}

impl Document {
    pub(super) fn into_bill(mut self) -> Result<Bill, ReadError> {
        if !matches!(self.version.as_str(), "SPDX-2.2" | "SPDX-2.3") {
            return Err(ReadError::Version { format: "SPDX", version: self.version });
        }
        for relationship in &self.relationships {
            match relationship.kind.as_str() {
                "DESCRIBES" if relationship.from == "SPDXRef-DOCUMENT" => self.described.push(relationship.to.clone()),
                "DESCRIBED_BY" if relationship.to == "SPDXRef-DOCUMENT" => {
                    self.described.push(relationship.from.clone())
                }
                _ => {}
            }
        }
        let described: HashSet<String> = std::mem::take(&mut self.described).into_iter().collect();
        let mut subject = None;
        let mut subject_identifiers = Vec::new();
        let mut components = Vec::new();
        for package in std::mem::take(&mut self.packages) {
            let container = matches!(package.purpose.as_str(), "CONTAINER" | "OPERATING-SYSTEM" | "ARCHIVE" | "FILE");
            if described.contains(&package.id) {
                let hashes = package.hashes.iter().map(|hash| format!("{}:{}", hash.algorithm.oci_name(), hash.hex));
                subject_identifiers.extend(package.purls.iter().cloned().chain(hashes));
                subject = Some(package.name.clone());
                // What is described and is no container may itself be the package.
                if container || !package.purls.iter().any(|purl| !purl.starts_with("pkg:oci/")) {
                    continue;
                }
            }
            if container && package.purls.is_empty() || package.purls.is_empty() && package.version.is_empty() {
                continue;
            }
            components.extend(self.listed(package));
        }
        self.dependencies(&mut components);
        let complete = match self.comment.as_str() {
            comment if comment.starts_with("Complete: ") => Some(true),
            comment if comment.starts_with("Incomplete: ") => Some(false),
            _ => None,
        };
        Ok(Bill {
            format: self.version.replace('-', " "),
            subject: subject.or(Some(self.name).filter(|name| !name.is_empty())),
            subject_identifiers,
            components,
            complete,
            notes: self.notes.into_kept(),
        })
    }

    fn listed(&mut self, package: Package) -> Option<Listed> {
        if package.name.is_empty() {
            self.notes.add(package.at, "the package has no name");
            return None;
        }
        let machine = package.comments.iter().find_map(|comment| comment.strip_prefix("longshore: "));
        let machine = machine.and_then(|text| match tree::parse(text.as_bytes()) {
            Ok(tree) => Some(tree),
            Err(error) => {
                self.notes.add(package.at.clone(), format!("the annotation: {error}"));
                None
            }
        });
        let machine = machine.as_ref().map(|tree| tree.root());
        let word = machine.as_ref().and_then(|machine| machine.text("evidence"));
        let evidence = word.and_then(evidence_of).unwrap_or(Evidence::Contained);
        let purl = package.purls.first();
        let stated =
            Stated { group: "", name: &package.name, version: &package.version, purl: purl.map(String::as_str) };
        let (mut component, broken) = stated.component(evidence);
        if let Some(error) = broken {
            self.notes.add(package.at.clone(), error.to_string());
        }
        let mut further = Vec::new();
        let mut places = Vec::new();
        if let Some(machine) = &machine {
            if let Some(architecture) = machine.text("architecture") {
                component.architecture = Some(architecture.to_owned());
            }
            if let Some(source) = machine.get("source") {
                let text = |key| source.text(key).unwrap_or_default().to_owned();
                component.source = Some(Source { name: text("name"), version: text("version") });
            }
            further = machine.each("further").iter().filter_map(|node| component_of(node).ok()).collect();
            places = machine.each("places").iter().map(|node| node.texts("path").join("!/")).collect();
        } else {
            let others = package.purls.iter().skip(1).filter_map(|text| text.parse::<crate::purl::Purl>().ok());
            further.extend(others.filter_map(|purl| purl.to_component(evidence)));
        }
        let licences = self.declared(&package.declared);
        component.licences = licences.iter().map(|licence| licence.stated.clone()).collect();
        Some(Listed {
            reference: package.id,
            component,
            purl: purl.cloned(),
            further,
            places,
            hashes: package.hashes,
            depends_on: Vec::new(),
            licences,
            at: package.at,
        })
    }

    /// One licence: a name where a single reference stands for one, else the expression as it is.
    fn declared(&self, declared: &str) -> Vec<Licence> {
        match declared {
            "" | "NONE" | "NOASSERTION" => Vec::new(),
            text => match self.licences.get(text) {
                Some(name) => vec![Licence { stated: name.clone(), expression: None }],
                None => vec![Licence { stated: text.to_owned(), expression: Some(text.to_owned()) }],
            },
        }
    }

    fn dependencies(&self, components: &mut [Listed]) {
        let places: HashMap<String, usize> =
            components.iter().enumerate().map(|(index, listed)| (listed.reference.clone(), index)).collect();
        for Relationship { from, kind, to } in &self.relationships {
            let (from, to) = match kind.as_str() {
                "DEPENDS_ON" => (from, to),
                "DEPENDENCY_OF" => (to, from),
                _ => continue,
            };
            if let Some(listed) = places.get(from).and_then(|index| components.get_mut(*index)) {
                listed.depends_on.push(to.clone());
            }
        }
    }
}
