//! Syft's own JSON, of its schema's major versions 11 to 16.

use std::collections::HashMap;

use super::join::Stated;
use super::tree::Node;
use super::{Bill, COMPONENTS_MAX, Listed, Notes, ReadError};
use crate::component::Evidence;
use crate::document::Licence;

pub(super) fn read(root: &Node<'_>) -> Result<Bill, ReadError> {
    let version = root.get("schema").and_then(|schema| schema.text("version")).unwrap_or_default();
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    if !major.is_some_and(|major| (11..=16).contains(&major)) {
        return Err(ReadError::Version { format: "Syft JSON", version: version.chars().take(32).collect() });
    }
    let mut notes = Notes::default();
    let mut components = Vec::new();
    for node in root.list("artifacts")? {
        if components.len() >= COMPONENTS_MAX {
            return Err(ReadError::Limit { at: node.at(), what: "artifacts", limit: COMPONENTS_MAX });
        }
        components.extend(component(&node, &mut notes));
    }
    dependencies(root, &mut components)?;
    let source = root.get("source");
    let metadata = source.as_ref().and_then(|source| source.get("metadata"));
    let identifier = |key| metadata.as_ref().and_then(|metadata| metadata.text(key));
    Ok(Bill {
        format: format!("Syft JSON {version}"),
        subject: source.as_ref().and_then(|source| source.text("name")).map(str::to_owned),
        subject_identifiers: [identifier("manifestDigest"), identifier("imageID")]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect(),
        components,
        complete: None,
        notes: notes.into_kept(),
    })
}

fn component(node: &Node<'_>, notes: &mut Notes) -> Option<Listed> {
    let Some(name) = node.text("name").filter(|name| !name.is_empty()) else {
        notes.add(node.at(), "the artifact has no name");
        return None;
    };
    let purl = node.text("purl").filter(|purl| !purl.is_empty());
    let installed = node.text("foundBy").is_some_and(|by| by.contains("installed") || by.contains("-db-"));
    let evidence = if installed { Evidence::Installed } else { Evidence::Contained };
    let stated = Stated { group: "", name, version: node.text("version").unwrap_or_default(), purl };
    let (mut component, broken) = stated.component(evidence);
    if let Some(error) = broken {
        notes.add(format!("{}/purl", node.at()), error.to_string());
    }
    let licences: Vec<Licence> = node.each("licenses").iter().filter_map(licence).collect();
    component.licences = licences.iter().map(|licence| licence.stated.clone()).collect();
    Some(Listed {
        reference: node.text("id").unwrap_or_default().to_owned(),
        component,
        purl: purl.map(str::to_owned),
        further: Vec::new(),
        places: node.each("locations").iter().filter_map(|node| node.text("path")).map(str::to_owned).collect(),
        hashes: Vec::new(),
        depends_on: Vec::new(),
        licences,
        at: node.at(),
    })
}

fn licence(node: &Node<'_>) -> Option<Licence> {
    let expression = node.text("spdxExpression").filter(|text| !text.is_empty()).map(str::to_owned);
    let stated =
        node.text("value").filter(|text| !text.is_empty()).map(str::to_owned).or_else(|| expression.clone())?;
    Some(Licence { stated, expression })
}

fn dependencies(root: &Node<'_>, components: &mut [Listed]) -> Result<(), ReadError> {
    let places: HashMap<String, usize> =
        components.iter().enumerate().map(|(index, listed)| (listed.reference.clone(), index)).collect();
    for node in root.list("artifactRelationships")? {
        // The parent is what the child needs.
        if let (Some("dependency-of"), Some(parent), Some(child)) =
            (node.text("type"), node.text("parent"), node.text("child"))
            && let Some(listed) = places.get(child).and_then(|index| components.get_mut(*index))
        {
            listed.depends_on.push(parent.to_owned());
        }
    }
    Ok(())
}
