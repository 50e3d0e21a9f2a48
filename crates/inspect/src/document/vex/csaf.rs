//! CSAF 2.0: the product tree, and what its vulnerabilities state of the products.

use std::collections::{BTreeMap, HashMap};

use super::{Budget, Identifier, Justification, Product, STATEMENTS_MAX, Statement, Status, Vex, bytes_of, timestamp};
use crate::document::Hash;
use crate::document::read::tree::Node;
use crate::document::read::{Notes, ReadError};

/// How many relationships may be built on one another.
const RELATIONSHIP_DEPTH_MAX: usize = 8;

pub(super) fn read(root: &Node<'_>, mut budget: Budget) -> Result<Vex, ReadError> {
    let document = root.get("document").ok_or_else(|| root.missing("document"))?;
    let version = document.required("csaf_version")?;
    if version != "2.0" {
        return Err(ReadError::Version { format: "CSAF", version: version.chars().take(32).collect() });
    }
    let heading = Heading::of(&document);
    let tree = Tree::of(root);
    let mut notes = Notes::default();
    let mut statements = Vec::new();
    for node in root.list("vulnerabilities")? {
        let ids = node.each("ids");
        let vulnerabilities: Vec<String> = node
            .text("cve")
            .into_iter()
            .chain(ids.iter().filter_map(|id| id.text("text")))
            .map(str::to_owned)
            .collect();
        if vulnerabilities.is_empty() {
            notes.add(node.at(), "the vulnerability has no identifier");
            continue;
        }
        statements.extend(of_vulnerability(&node, &vulnerabilities, &heading, &tree, &mut notes, &mut budget)?);
        if statements.len() > STATEMENTS_MAX {
            return Err(ReadError::Limit { at: node.at(), what: "statements", limit: STATEMENTS_MAX });
        }
    }
    Ok(Vex { statements, notes: notes.into_kept() })
}

/// What all statements of a document share.
struct Heading {
    author: Option<String>,
    timestamp: Option<jiff::Timestamp>,
    version: u64,
    document: String,
}

impl Heading {
    fn of(document: &Node<'_>) -> Self {
        let tracking = document.get("tracking");
        let text = |key| tracking.as_ref().and_then(|tracking| tracking.text(key));
        Self {
            author: document.get("publisher").and_then(|node| node.text("name")).map(str::to_owned),
            timestamp: timestamp(text("current_release_date")),
            version: version_number(text("version").unwrap_or_default()),
            document: text("id").unwrap_or_default().to_owned(),
        }
    }
}

/// `7` or `1.2.3` as a number that grows with the version.
fn version_number(text: &str) -> u64 {
    const PER_PART: u64 = 1 << 20;
    let mut parts = text.split(['-', '+']).next().unwrap_or_default().split('.');
    let mut part = || parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or_default().min(PER_PART - 1);
    (part() * PER_PART + part()) * PER_PART + part()
}

/// What a product's identifier stands for.
#[derive(Clone, Debug)]
enum Meaning<'t> {
    Product(Vec<Identifier>),
    /// A component that is installed on, or comes with, another product.
    Combination {
        component: &'t str,
        within: &'t str,
    },
}

struct Tree<'t> {
    products: HashMap<&'t str, Meaning<'t>>,
    groups: HashMap<&'t str, Vec<&'t str>>,
}

impl<'t> Tree<'t> {
    fn of(root: &Node<'t>) -> Self {
        let mut tree = Self { products: HashMap::new(), groups: HashMap::new() };
        let Some(node) = root.get("product_tree") else { return tree };
        let mut waiting = node.each("branches");
        while let Some(branch) = waiting.pop() {
            waiting.extend(branch.each("branches"));
            tree.product(branch.get("product"));
        }
        for product in node.each("full_product_names") {
            tree.product(Some(product));
        }
        for relationship in node.each("relationships") {
            let id = relationship.get("full_product_name").and_then(|name| name.text("product_id"));
            let component = relationship.text("product_reference");
            let within = relationship.text("relates_to_product_reference");
            if let (Some(id), Some(component), Some(within)) = (id, component, within) {
                tree.products.insert(id, Meaning::Combination { component, within });
            }
        }
        for group in node.each("product_groups") {
            if let Some(id) = group.text("group_id") {
                tree.groups.insert(id, group.texts("product_ids"));
            }
        }
        tree
    }

    fn product(&mut self, node: Option<Node<'t>>) {
        let Some(node) = node else { return };
        if let Some(id) = node.text("product_id") {
            self.products.insert(id, Meaning::Product(identifiers(&node)));
        }
    }

    /// What a statement on a product speaks of; `None` where the tree does not say.
    fn resolve(&self, id: &str, at: &Node<'_>, budget: &mut Budget) -> Result<Option<Product>, ReadError> {
        let (product, part) = match self.products.get(id) {
            None => return Ok(None),
            Some(Meaning::Product(identifiers)) => (Some(identifiers), None),
            Some(Meaning::Combination { component, within }) => match self.names(component, 0) {
                None => return Ok(None),
                part => (self.names(within, 0), part),
            },
        };
        let Some(product) = product else { return Ok(None) };
        budget.spend(bytes_of(product) + part.map_or(0, |part| bytes_of(part)), at)?;
        Ok(Some(Product { identifiers: product.clone(), subcomponents: part.cloned().into_iter().collect() }))
    }

    /// What names a product; of a combination, what names its component.
    fn names(&self, id: &str, depth: usize) -> Option<&Vec<Identifier>> {
        match self.products.get(id)? {
            Meaning::Product(identifiers) => Some(identifiers),
            Meaning::Combination { component, .. } if depth < RELATIONSHIP_DEPTH_MAX => {
                self.names(component, depth + 1)
            }
            Meaning::Combination { .. } => None,
        }
    }
}

fn identifiers(node: &Node<'_>) -> Vec<Identifier> {
    let mut identifiers = Vec::new();
    if let Some(helper) = node.get("product_identification_helper") {
        identifiers.extend(helper.text("purl").map(Identifier::of));
        for node in helper.each("hashes").iter().flat_map(|hashes| hashes.each("file_hashes")) {
            let hash = node.text("algorithm").zip(node.text("value")).and_then(|(alg, digits)| Hash::of(alg, digits));
            identifiers.extend(hash.map(Identifier::Hash));
        }
        identifiers.extend(helper.text("cpe").map(|cpe| Identifier::Other(cpe.to_owned())));
    }
    if identifiers.is_empty() {
        identifiers.push(Identifier::Other(node.text("name").unwrap_or_default().to_owned()));
    }
    identifiers
}

/// Which products a part of a vulnerability is about; groups included.
fn product_ids<'t>(node: &Node<'t>, tree: &Tree<'t>, budget: &mut Budget) -> Result<Vec<&'t str>, ReadError> {
    let mut ids = node.texts("product_ids");
    for group in node.texts("group_ids") {
        let group = tree.groups.get(group).map(Vec::as_slice).unwrap_or_default();
        budget.spend(size_of_val(group), node)?;
        ids.extend(group);
    }
    Ok(ids)
}

fn status(key: &str) -> Option<Status> {
    Some(match key {
        "fixed" | "first_fixed" => Status::Fixed,
        "known_affected" | "first_affected" | "last_affected" => Status::Affected,
        "known_not_affected" => Status::NotAffected,
        "under_investigation" => Status::UnderInvestigation,
        _ => return None,
    })
}

/// What is said of one product beside its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Detail<'t> {
    justification: Option<&'t str>,
    impact: Option<&'t str>,
    action: Option<&'t str>,
    date: Option<jiff::Timestamp>,
}

fn of_vulnerability<'t>(
    node: &Node<'t>,
    vulnerabilities: &[String],
    heading: &Heading,
    tree: &Tree<'t>,
    notes: &mut Notes,
    budget: &mut Budget,
) -> Result<Vec<Statement>, ReadError> {
    let mut details: HashMap<&str, Detail<'t>> = HashMap::new();
    for flag in node.each("flags") {
        for id in product_ids(&flag, tree, budget)? {
            let detail = details.entry(id).or_default();
            detail.justification = flag.text("label");
            detail.date = detail.date.max(timestamp(flag.text("date")));
        }
    }
    for threat in node.each("threats").iter().filter(|threat| threat.text("category") == Some("impact")) {
        for id in product_ids(threat, tree, budget)? {
            details.entry(id).or_default().impact = threat.text("details");
        }
    }
    for remediation in node.each("remediations") {
        for id in product_ids(&remediation, tree, budget)? {
            details.entry(id).or_default().action = remediation.text("details");
        }
    }
    let mut statements = Vec::new();
    let Some(statuses) = node.get("product_status") else {
        notes.add(node.at(), "the vulnerability has no product status");
        return Ok(statements);
    };
    for (key, list) in statuses.members() {
        // What is recommended is no status.
        let Some(status) = status(key) else { continue };
        let mut alike: BTreeMap<Detail<'t>, Vec<Product>> = BTreeMap::new();
        for id in list.items() {
            let text = id.as_text().unwrap_or_default();
            let Some(product) = tree.resolve(text, &id, budget)? else {
                notes.add(id.at(), "the product is not in the product tree");
                continue;
            };
            alike.entry(details.get(text).cloned().unwrap_or_default()).or_default().push(product);
        }
        for (detail, products) in alike {
            let texts = [detail.justification, detail.impact, detail.action, heading.author.as_deref()];
            let texts = texts.into_iter().flatten().chain(vulnerabilities.iter().map(String::as_str));
            budget.spend(texts.map(|text| text.len() + 64).sum::<usize>() + heading.document.len(), &list)?;
            statements.push(Statement {
                vulnerabilities: vulnerabilities.to_vec(),
                products,
                status,
                justification: detail.justification.filter(|_| status == Status::NotAffected).map(Justification::of),
                impact: detail.impact.map(str::to_owned),
                action: detail.action.map(str::to_owned),
                author: heading.author.clone(),
                timestamp: detail.date.max(heading.timestamp),
                version: heading.version,
                document: heading.document.clone(),
                at: list.at(),
            });
        }
    }
    Ok(statements)
}
