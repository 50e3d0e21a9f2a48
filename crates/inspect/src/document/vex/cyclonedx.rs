//! CycloneDX: the analysis of the vulnerabilities in a document.

use std::collections::HashMap;

use super::{Budget, Identifier, Justification, Product, STATEMENTS_MAX, Statement, Status, Vex, bytes_of, timestamp};
use crate::document::Hash;
use crate::document::read::tree::Node;
use crate::document::read::{Notes, ReadError};

pub(super) fn read(root: &Node<'_>, mut budget: Budget) -> Result<Vex, ReadError> {
    let subject = root.get("metadata").and_then(|metadata| metadata.get("component"));
    let index = Index::of(root, subject.as_ref());
    let mut notes = Notes::default();
    let mut statements = Vec::new();
    for node in root.list("vulnerabilities")? {
        let Some(analysis) = node.get("analysis") else { continue };
        let Some(state) = analysis.text("state") else {
            notes.add(analysis.at(), "the analysis has no state");
            continue;
        };
        let Some(status) = status(state) else {
            notes.add(analysis.at(), "the analysis has no known state");
            continue;
        };
        if statements.len() >= STATEMENTS_MAX {
            return Err(ReadError::Limit { at: node.at(), what: "statements", limit: STATEMENTS_MAX });
        }
        let vulnerabilities = vulnerabilities(&node);
        if vulnerabilities.is_empty() {
            notes.add(node.at(), "the vulnerability has no identifier");
            continue;
        }
        let products = products(&node, &index, status, &mut notes, &mut budget)?;
        let author = author(root);
        budget.spend(author.unwrap_or_default().len() + root.text("serialNumber").unwrap_or_default().len(), &node)?;
        let response = analysis.texts("response").join(", ");
        let action = node.text("recommendation").or_else(|| node.text("workaround")).map(str::to_owned);
        statements.push(Statement {
            vulnerabilities,
            products,
            status,
            justification: analysis.text("justification").map(justification),
            impact: analysis.text("detail").map(str::to_owned),
            action: action.or_else(|| (!response.is_empty()).then_some(response)),
            author: author.map(str::to_owned),
            timestamp: timestamp(
                analysis
                    .text("lastUpdated")
                    .or_else(|| node.text("updated"))
                    .or_else(|| root.get("metadata").and_then(|metadata| metadata.text("timestamp"))),
            ),
            version: root.whole("version").unwrap_or(1),
            document: root.text("serialNumber").unwrap_or_default().to_owned(),
            at: node.at(),
        });
    }
    Ok(Vex { statements, notes: notes.into_kept() })
}

fn status(state: &str) -> Option<Status> {
    Some(match state {
        "resolved" | "resolved_with_pedigree" => Status::Fixed,
        "exploitable" => Status::Affected,
        "in_triage" => Status::UnderInvestigation,
        "false_positive" | "not_affected" => Status::NotAffected,
        _ => return None,
    })
}

fn justification(word: &str) -> Justification {
    match word {
        "code_not_present" => Justification::VulnerableCodeNotPresent,
        "code_not_reachable" => Justification::VulnerableCodeNotInExecutePath,
        "protected_by_compiler"
        | "protected_at_runtime"
        | "protected_at_perimeter"
        | "protected_by_mitigating_control" => Justification::InlineMitigationsAlreadyExist,
        other => Justification::Stated(other.to_owned()),
    }
}

fn vulnerabilities(node: &Node<'_>) -> Vec<String> {
    let references = node.each("references");
    let aliases = references.iter().filter_map(|node| node.text("id"));
    node.text("id").into_iter().chain(aliases).filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

fn author<'t>(root: &Node<'t>) -> Option<&'t str> {
    let metadata = root.get("metadata")?;
    let names =
        ["manufacturer", "supplier", "manufacture"].into_iter().filter_map(|key| metadata.get(key)?.text("name"));
    let authors = metadata.each("authors");
    let authors = authors.iter().filter_map(|node| node.text("name"));
    names.chain(authors).next()
}

/// What the references of a document name.
struct Index<'t> {
    components: HashMap<&'t str, Vec<Identifier>>,
    /// The reference of what the document is about, and what names that.
    subject: Option<(Option<&'t str>, Vec<Identifier>)>,
}

impl<'t> Index<'t> {
    fn of(root: &Node<'t>, subject: Option<&Node<'t>>) -> Self {
        let mut components = HashMap::new();
        let mut waiting = root.each("components");
        while let Some(node) = waiting.pop() {
            waiting.extend(node.each("components"));
            if let Some(reference) = node.text("bom-ref") {
                components.insert(reference, identifiers(&node));
            }
        }
        // A subject that nothing can be compared with (a VEX document's own heading) says nothing on the product.
        let subject = subject.map(|node| (node.text("bom-ref"), identifiers(node)));
        Self { components, subject: subject.filter(|(_, identifiers)| identifiers.iter().any(comparable)) }
    }

    fn identifiers(&self, reference: &str, at: &Node<'_>, budget: &mut Budget) -> Result<Vec<Identifier>, ReadError> {
        // A BOM-Link names a component of another document after the hash sign.
        let local = reference.strip_prefix("urn:cdx:").and_then(|link| link.split_once('#')).map(|(_, local)| local);
        let known = self.components.get(reference).or_else(|| self.components.get(local?));
        match known {
            Some(known) => {
                budget.spend(bytes_of(known), at)?;
                Ok(known.clone())
            }
            None => Ok(vec![Identifier::of(local.unwrap_or(reference))]),
        }
    }
}

fn comparable(identifier: &Identifier) -> bool {
    !matches!(identifier, Identifier::Other(_))
}

fn identifiers(node: &Node<'_>) -> Vec<Identifier> {
    let mut identifiers = Vec::new();
    identifiers.extend(node.text("purl").map(Identifier::of));
    identifiers.extend(node.text("version").map(Identifier::of).filter(|found| matches!(found, Identifier::Hash(_))));
    for node in node.each("hashes") {
        let hash = node.text("alg").zip(node.text("content")).and_then(|(alg, digits)| Hash::of(alg, digits));
        identifiers.extend(hash.map(Identifier::Hash));
    }
    if identifiers.is_empty() {
        identifiers
            .extend(node.text("cpe").or_else(|| node.text("name")).map(|text| Identifier::Other(text.to_owned())));
    }
    identifiers
}

fn products(
    node: &Node<'_>,
    index: &Index<'_>,
    status: Status,
    notes: &mut Notes,
    budget: &mut Budget,
) -> Result<Vec<Product>, ReadError> {
    let mut products = Vec::new();
    for node in node.list("affects")? {
        if let Some((_, subject)) = &index.subject {
            budget.spend(bytes_of(subject), &node)?;
        }
        let Some(reference) = node.text("ref") else {
            notes.add(node.at(), "what is affected has no \"ref\"");
            continue;
        };
        if let Some((Some(subject), identifiers)) = &index.subject
            && *subject == reference
        {
            products.push(Product { identifiers: identifiers.clone(), subcomponents: Vec::new() });
            continue;
        }
        let mut part = index.identifiers(reference, &node, budget)?;
        versions(&node, status, &mut part, notes, budget)?;
        products.push(match &index.subject {
            Some((_, subject)) => Product { identifiers: subject.clone(), subcomponents: vec![part] },
            None => Product { identifiers: part, subcomponents: Vec::new() },
        });
    }
    Ok(products)
}

/// Narrows package URLs that state no version to the versions that the analysis is about.
fn versions(
    node: &Node<'_>,
    status: Status,
    part: &mut Vec<Identifier>,
    notes: &mut Notes,
    budget: &mut Budget,
) -> Result<(), ReadError> {
    let mut stated = Vec::new();
    let versions = node.each("versions");
    for version in &versions {
        let unaffected = version.text("status") == Some("unaffected");
        match version.text("version") {
            // Of an analysis that says "affected", the versions that are not are no part.
            Some(version) if !(unaffected && status == Status::Affected) => stated.push(version),
            Some(_) => {}
            None => notes.add(version.at(), "a range of versions is not compared"),
        }
    }
    if versions.is_empty() {
        return Ok(());
    }
    budget.spend(bytes_of(part).saturating_mul(stated.len()), node)?;
    let mut narrowed = Vec::new();
    for identifier in part.drain(..) {
        match identifier {
            Identifier::Purl(purl) if purl.version().is_none() => {
                narrowed.extend(stated.iter().map(|version| Identifier::Purl(purl.clone().with_version(version))));
            }
            other => narrowed.push(other),
        }
    }
    *part = narrowed;
    Ok(())
}
