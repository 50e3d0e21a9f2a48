//! OpenVEX 0.0.1 and 0.2.0.

use super::{Budget, Identifier, Justification, Product, STATEMENTS_MAX, Statement, Status, Vex, bytes_of, timestamp};
use crate::document::Hash;
use crate::document::read::tree::Node;
use crate::document::read::{Notes, ReadError};

pub(super) fn read(root: &Node<'_>, mut budget: Budget) -> Result<Vex, ReadError> {
    let context = root.required("@context")?;
    if !context.starts_with("https://openvex.dev/ns") {
        return Err(ReadError::Format { known: "OpenVEX, CycloneDX and CSAF" });
    }
    let version = context.trim_start_matches("https://openvex.dev/ns").trim_matches('/');
    if !matches!(version, "" | "v0.0.1" | "v0.2.0") {
        return Err(ReadError::Version { format: "OpenVEX", version: version.chars().take(32).collect() });
    }
    let mut notes = Notes::default();
    let mut statements = Vec::new();
    for node in root.list("statements")? {
        if statements.len() >= STATEMENTS_MAX {
            return Err(ReadError::Limit { at: node.at(), what: "statements", limit: STATEMENTS_MAX });
        }
        match statement(root, &node, &mut budget) {
            Ok(statement) => statements.push(statement),
            Err(error @ ReadError::Limit { .. }) => return Err(error),
            Err(error) => notes.add(node.at(), error.to_string()),
        }
    }
    Ok(Vex { statements, notes: notes.into_kept() })
}

fn statement(root: &Node<'_>, node: &Node<'_>, budget: &mut Budget) -> Result<Statement, ReadError> {
    let word = node.required("status")?;
    let status = Status::of(word).ok_or_else(|| ReadError::Malformed {
        at: format!("{}/status", node.at()),
        why: "no known status".to_owned(),
    })?;
    let parts: Vec<Vec<Identifier>> = node.list("subcomponents")?.iter().map(identifiers).collect();
    let mut products: Vec<Product> = node.list("products")?.iter().map(product).collect();
    let each: usize = parts.iter().map(|part| bytes_of(part)).sum();
    let shared = root.text("author").unwrap_or_default().len() + root.text("@id").unwrap_or_default().len();
    budget.spend(each.saturating_mul(products.len()).saturating_add(shared), node)?;
    // Version 0.0.1 names the parts once for all products.
    for product in &mut products {
        product.subcomponents.extend(parts.iter().cloned());
    }
    let text = |key| node.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Statement {
        vulnerabilities: vulnerabilities(node)?,
        products,
        status,
        justification: node.text("justification").map(Justification::of),
        impact: text("impact_statement"),
        action: text("action_statement"),
        author: root.text("author").map(str::to_owned),
        timestamp: timestamp(time(node).or_else(|| time(root))),
        version: version(root),
        document: root.text("@id").unwrap_or_default().to_owned(),
        at: node.at(),
    })
}

/// When it was last changed, or made.
fn time<'t>(node: &Node<'t>) -> Option<&'t str> {
    node.text("last_updated").or_else(|| node.text("timestamp"))
}

/// A number, which version 0.0.1 writes as a text.
fn version(root: &Node<'_>) -> u64 {
    root.whole("version").or_else(|| root.text("version")?.parse().ok()).unwrap_or_default()
}

/// A text in version 0.0.1, an object in 0.2.0.
fn vulnerabilities(node: &Node<'_>) -> Result<Vec<String>, ReadError> {
    let missing = || node.missing("vulnerability");
    let vulnerability = node.get("vulnerability").ok_or_else(missing)?;
    let names: Vec<&str> = match vulnerability.as_text() {
        Some(name) => vec![name],
        None => vulnerability.text("name").into_iter().chain(vulnerability.texts("aliases")).collect(),
    };
    let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() { Err(missing()) } else { Ok(names) }
}

fn product(node: &Node<'_>) -> Product {
    Product {
        identifiers: identifiers(node),
        subcomponents: node.each("subcomponents").iter().map(identifiers).collect(),
    }
}

/// A text in version 0.0.1, an object in 0.2.0.
fn identifiers(node: &Node<'_>) -> Vec<Identifier> {
    if let Some(text) = node.as_text() {
        return vec![Identifier::of(text)];
    }
    let mut identifiers: Vec<Identifier> = node.text("@id").map(Identifier::of).into_iter().collect();
    let members = |key| node.get(key).map(|node| node.members()).unwrap_or_default();
    for (kind, value) in members("identifiers") {
        match (kind, value.as_text()) {
            ("purl", Some(text)) => identifiers.push(Identifier::of(text)),
            (_, Some(text)) => identifiers.push(Identifier::Other(text.to_owned())),
            _ => {}
        }
    }
    for (algorithm, digits) in members("hashes") {
        if let Some(digits) = digits.as_text() {
            let hash = Hash::of(algorithm, digits).map(Identifier::Hash);
            identifiers.push(hash.unwrap_or_else(|| Identifier::Other(format!("{algorithm}:{digits}"))));
        }
    }
    identifiers.dedup();
    identifiers
}
