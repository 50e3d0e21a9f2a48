//! Reads Longshore's own document.

use jiff::Timestamp;

use super::SCHEMA;
use crate::component::{Component, Source as Upstream};
use crate::document::contents::{ECOSYSTEMS, evidence_of};
use crate::document::read::tree::{self, Node};
use crate::document::read::{COMPONENTS_MAX, ReadError};
use crate::document::vex::{Justification, Status};
use crate::document::{
    Contents, Cvss, Epss, Finding, Found, Hash, Heard, Ignored, Image, Layer, Licence, Matched, OperatingSystem, Place,
    Platform, Secret, Severity, Source, Tool, Unexamined, Verdict,
};

/// Reads a document that [`super::write`] wrote, in full; one that breaks its rules anywhere is refused.
pub fn read(bytes: &[u8]) -> Result<Contents, ReadError> {
    let tree = tree::parse(bytes)?;
    let root = tree.root();
    let schema = root.text("schema").unwrap_or_default();
    if schema != SCHEMA {
        return Err(ReadError::Version { format: "Longshore contents", version: schema.chars().take(64).collect() });
    }
    let member = |key: &'static str| root.get(key).ok_or_else(|| root.missing(key));
    let tool = member("tool")?;
    let components = root.list("components")?;
    if components.len() > COMPONENTS_MAX {
        return Err(ReadError::Limit { at: "/components".to_owned(), what: "components", limit: COMPONENTS_MAX });
    }
    Ok(Contents {
        tool: Tool { name: text(&tool, "name")?, version: text(&tool, "version")? },
        image: image(&member("image")?)?,
        operating_system: root.get("operatingSystem").map(|os| operating_system(&os)).transpose()?,
        components: components.iter().map(found).collect::<Result<_, _>>()?,
        findings: root.list("findings")?.iter().map(finding).collect::<Result<_, _>>()?,
        matched: root.get("matched").map(|node| matched(&node)).transpose()?,
        secrets: root.list("secrets")?.iter().map(secret).collect::<Result<_, _>>()?,
        unexamined: root
            .list("unexamined")?
            .iter()
            .map(|node| Ok(Unexamined { place: place(node)?, why: text(node, "why")? }))
            .collect::<Result<_, _>>()?,
    })
}

fn text(node: &Node<'_>, key: &'static str) -> Result<String, ReadError> {
    node.required(key).map(str::to_owned)
}

fn optional(node: &Node<'_>, key: &str) -> Option<String> {
    node.text(key).map(str::to_owned)
}

fn texts(node: &Node<'_>, key: &str) -> Vec<String> {
    node.texts(key).into_iter().map(str::to_owned).collect()
}

/// A member of a fixed set of words.
fn word<T>(node: &Node<'_>, key: &'static str, of: impl FnOnce(&str) -> Option<T>) -> Result<T, ReadError> {
    of(node.required(key)?).ok_or_else(|| node.missing(key))
}

fn time(node: &Node<'_>, key: &'static str) -> Result<Option<Timestamp>, ReadError> {
    node.text(key).map(|text| text.parse().map_err(|_| node.missing(key))).transpose()
}

fn whole(node: &Node<'_>, key: &'static str) -> Result<u64, ReadError> {
    node.whole(key).ok_or_else(|| node.missing(key))
}

fn image(node: &Node<'_>) -> Result<Image, ReadError> {
    let labels = node.get("labels").map(|labels| labels.members()).unwrap_or_default();
    let label = |(key, value): (&str, Node<'_>)| Some((key.to_owned(), value.as_text()?.to_owned()));
    Ok(Image {
        name: text(node, "name")?,
        repository: optional(node, "repository"),
        tag: optional(node, "tag"),
        digest: optional(node, "digest"),
        platform: node
            .get("platform")
            .map(|node| {
                Ok(Platform {
                    os: text(&node, "os")?,
                    architecture: text(&node, "architecture")?,
                    variant: optional(&node, "variant"),
                })
            })
            .transpose()?,
        created: time(node, "created")?,
        labels: labels.into_iter().filter_map(label).collect(),
        layers: node
            .list("layers")?
            .iter()
            .map(|node| {
                Ok(Layer {
                    digest: text(node, "digest")?,
                    diff_id: text(node, "diffId")?,
                    size: whole(node, "size")?,
                    created_by: optional(node, "createdBy"),
                })
            })
            .collect::<Result<_, _>>()?,
    })
}

fn operating_system(node: &Node<'_>) -> Result<OperatingSystem, ReadError> {
    Ok(OperatingSystem { id: text(node, "id")?, version: text(node, "version")?, name: text(node, "name")? })
}

fn place(node: &Node<'_>) -> Result<Place, ReadError> {
    let layer = node.get("layer").map(|_| whole(node, "layer")).transpose()?;
    let layer = layer.map(|layer| usize::try_from(layer).map_err(|_| node.missing("layer"))).transpose()?;
    Ok(Place { layer, chain: texts(node, "path") })
}

/// Reads the members of a component by itself.
pub(crate) fn component_of(node: &Node<'_>) -> Result<Component, ReadError> {
    let ecosystem = |word: &str| ECOSYSTEMS.iter().find(|(_, known)| *known == word).map(|(ecosystem, _)| *ecosystem);
    Ok(Component {
        ecosystem: word(node, "ecosystem", ecosystem)?,
        name: text(node, "name")?,
        version: text(node, "version")?,
        architecture: optional(node, "architecture"),
        source: node
            .get("source")
            .map(|node| Ok(Upstream { name: text(&node, "name")?, version: text(&node, "version")? }))
            .transpose()?,
        licences: texts(node, "stated"),
        evidence: word(node, "evidence", evidence_of)?,
    })
}

fn found(node: &Node<'_>) -> Result<Found, ReadError> {
    let hash = |node: &Node<'_>| {
        let (algorithm, digits) = node.as_text()?.split_once(':')?;
        Hash::of(algorithm, digits)
    };
    Ok(Found {
        id: text(node, "id")?,
        component: component_of(node)?,
        places: node.list("places")?.iter().map(place).collect::<Result<_, _>>()?,
        owner: optional(node, "owner"),
        further: node.list("further")?.iter().map(component_of).collect::<Result<_, _>>()?,
        hashes: node
            .list("hashes")?
            .iter()
            .map(|node| hash(node).ok_or_else(|| node.missing("a hash")))
            .collect::<Result<_, _>>()?,
        depends_on: texts(node, "dependsOn"),
        licences: node
            .list("licences")?
            .iter()
            .map(|node| Ok(Licence { stated: text(node, "stated")?, expression: optional(node, "expression") }))
            .collect::<Result<_, _>>()?,
    })
}

fn severity(word: &str) -> Option<Severity> {
    use Severity::{Critical, High, Low, Medium, None as Without, Unknown};
    [Unknown, Without, Low, Medium, High, Critical].into_iter().find(|severity| severity.word() == word)
}

fn finding(node: &Node<'_>) -> Result<Finding, ReadError> {
    let number = |node: &Node<'_>, key| node.number(key).ok_or_else(|| node.missing(key));
    let source = node.get("source").ok_or_else(|| node.missing("source"))?;
    Ok(Finding {
        id: text(node, "id")?,
        aliases: texts(node, "aliases"),
        component: text(node, "component")?,
        package: optional(node, "package").unwrap_or_default(),
        summary: optional(node, "summary"),
        severity: word(node, "severity", severity)?,
        cvss: node
            .get("cvss")
            .map(|node| Ok(Cvss { score: number(&node, "score")?, vector: text(&node, "vector")? }))
            .transpose()?,
        epss: node
            .get("epss")
            .map(|node| Ok(Epss { score: number(&node, "score")?, percentile: number(&node, "percentile")? }))
            .transpose()?,
        known_exploited: node.flag("knownExploited").ok_or_else(|| node.missing("knownExploited"))?,
        range: text(node, "range")?,
        fixed_in: texts(node, "fixedIn"),
        evidence: word(node, "evidence", evidence_of)?,
        verdict: node.get("vex").map(|node| verdict(&node)).transpose()?,
        heard: node.list("heard")?.iter().map(heard).collect::<Result<_, _>>()?,
        ignored: node.get("ignored").map(|node| ignored(&node)).transpose()?,
        source: Source { name: text(&source, "name")?, url: optional(&source, "url") },
        published: time(node, "published")?,
        modified: time(node, "modified")?,
    })
}

fn verdict(node: &Node<'_>) -> Result<Verdict, ReadError> {
    Ok(Verdict {
        status: word(node, "status", Status::of)?,
        justification: node.text("justification").map(Justification::of),
        statement: optional(node, "statement"),
        document: text(node, "document")?,
    })
}

fn heard(node: &Node<'_>) -> Result<Heard, ReadError> {
    Ok(Heard {
        document: text(node, "document")?,
        at: text(node, "at")?,
        status: word(node, "status", Status::of)?,
        passed_over: optional(node, "passedOver"),
    })
}

fn ignored(node: &Node<'_>) -> Result<Ignored, ReadError> {
    Ok(Ignored { file: text(node, "file")?, statement: optional(node, "statement"), expires: time(node, "expires")? })
}

fn matched(node: &Node<'_>) -> Result<Matched, ReadError> {
    Ok(Matched {
        advisories: whole(node, "advisories")?,
        sources: texts(node, "sources"),
        fetched: time(node, "fetched")?,
        newest: time(node, "newest")?,
        gaps: texts(node, "gaps"),
        notes: texts(node, "notes"),
    })
}

fn secret(node: &Node<'_>) -> Result<Secret, ReadError> {
    Ok(Secret {
        rule: text(node, "rule")?,
        place: place(node)?,
        line: node.get("line").map(|_| whole(node, "line")).transpose()?,
        redacted: text(node, "redacted")?,
        deleted: node.flag("deleted").ok_or_else(|| node.missing("deleted"))?,
    })
}
