//! SPDX 3.0.1 in JSON-LD.

use std::collections::BTreeSet;
use std::io::{self, Write};

use uuid::Uuid;

use super::licence::{References, declared, expression_id};
use super::{NO_TIME, local_id};
use crate::component::Ecosystem;
use crate::document::contents::evidence_word;
use crate::document::emit::{Emit, seconds};
use crate::document::ordered::{Ordered, further, places, sorted};
use crate::document::{Found, HashAlgorithm};

type Out<'e, 'w> = &'e mut Emit<&'w mut dyn Write>;

/// The one creation record, which every element refers to.
const CREATION: &str = "_:creation";

/// Makes the identifiers of one document.
struct Ids {
    namespace: Uuid,
}

impl Ids {
    fn of(&self, local: &str) -> String {
        format!("urn:uuid:{}#{local}", self.namespace)
    }

    fn package(&self, id: &str) -> String {
        self.of(&local_id("package", id))
    }
}

pub(super) fn document(
    emit: Out<'_, '_>,
    ordered: &Ordered<'_>,
    licences: &References,
    namespace: Uuid,
) -> io::Result<()> {
    let ids = Ids { namespace };
    emit.object(|emit| {
        emit.field("@context", "https://spdx.org/rdf/3.0.1/spdx-context.jsonld")?;
        emit.key("@graph")?;
        emit.array(|emit| {
            frame(emit, ordered, &ids)?;
            image(emit, ordered, &ids)?;
            operating_system(emit, ordered, &ids)?;
            for found in &ordered.components {
                package(emit, ordered, found, &ids)?;
            }
            expressions(emit, ordered, licences, &ids)?;
            relationships(emit, ordered, &ids)?;
            unexamined(emit, ordered, &ids)
        })
    })
}

/// Opens an element, with what every element has.
fn element(
    emit: Out<'_, '_>,
    kind: &str,
    id: &str,
    fill: impl FnOnce(Out<'_, '_>) -> io::Result<()>,
) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("type", kind)?;
        emit.field("spdxId", id)?;
        emit.field("creationInfo", CREATION)?;
        fill(emit)
    })
}

fn frame(emit: Out<'_, '_>, ordered: &Ordered<'_>, ids: &Ids) -> io::Result<()> {
    let contents = ordered.contents;
    let tool = ids.of("tool");
    let agent = ids.of("agent");
    emit.object(|emit| {
        emit.field("type", "CreationInfo")?;
        emit.field("@id", CREATION)?;
        emit.field("specVersion", "3.0.1")?;
        emit.field("created", seconds(contents.image.created).as_deref().unwrap_or(NO_TIME))?;
        emit.field("createdBy", &[&agent])?;
        emit.field("createdUsing", &[&tool])
    })?;
    element(emit, "SoftwareAgent", &agent, |emit| emit.field("name", &contents.tool.name))?;
    let tool_name = format!("{} {}", contents.tool.name, contents.tool.version);
    element(emit, "Tool", &tool, |emit| emit.field("name", &tool_name))?;
    element(emit, "SpdxDocument", &ids.of("document"), |emit| {
        emit.field("name", &contents.image.name)?;
        emit.field("comment", &ordered.completeness())?;
        emit.field("profileConformance", &["core", "software", "simpleLicensing"])?;
        emit.field("rootElement", &[ids.of("sbom")])
    })?;
    element(emit, "software_Sbom", &ids.of("sbom"), |emit| {
        emit.field("profileConformance", &["core", "software", "simpleLicensing"])?;
        emit.field("software_sbomType", &["analyzed"])?;
        emit.field("rootElement", &[ids.of("image")])?;
        emit.key("element")?;
        emit.array(|emit| {
            emit.value(&ids.of("image"))?;
            if contents.operating_system.is_some() {
                emit.value(&ids.of("os"))?;
            }
            ordered.components.iter().try_for_each(|found| emit.value(&ids.package(&found.id)))
        })
    })
}

fn image(emit: Out<'_, '_>, ordered: &Ordered<'_>, ids: &Ids) -> io::Result<()> {
    let image = &ordered.contents.image;
    element(emit, "software_Package", &ids.of("image"), |emit| {
        emit.field("name", &image.name)?;
        emit.field_some("software_packageVersion", image.digest.as_ref())?;
        emit.field("software_primaryPurpose", if image.layers.is_empty() { "archive" } else { "container" })?;
        emit.field_some("software_packageUrl", image.purl().map(|purl| purl.to_string()))
    })
}

fn operating_system(emit: Out<'_, '_>, ordered: &Ordered<'_>, ids: &Ids) -> io::Result<()> {
    let Some(os) = &ordered.contents.operating_system else { return Ok(()) };
    element(emit, "software_Package", &ids.of("os"), |emit| {
        emit.field("name", &os.id)?;
        emit.field_some("software_packageVersion", Some(&os.version).filter(|version| !version.is_empty()))?;
        emit.field("software_primaryPurpose", "operatingSystem")?;
        emit.field_some("description", Some(&os.name).filter(|name| !name.is_empty()))
    })
}

fn package(emit: Out<'_, '_>, ordered: &Ordered<'_>, found: &Found, ids: &Ids) -> io::Result<()> {
    let component = &found.component;
    element(emit, "software_Package", &ids.package(&found.id), |emit| {
        emit.field("name", &component.name)?;
        emit.field_some("software_packageVersion", Some(&component.version).filter(|version| !version.is_empty()))?;
        let purpose = if component.ecosystem == Ecosystem::Generic { "application" } else { "library" };
        emit.field("software_primaryPurpose", purpose)?;
        emit.field_some("software_packageUrl", ordered.contents.purl_of(found).ok().map(|purl| purl.to_string()))?;
        let others = further(found).into_iter().filter_map(|name| ordered.contents.purl(name).ok());
        emit.field_each("externalIdentifier", others, |emit, purl| {
            emit.object(|emit| {
                emit.field("type", "ExternalIdentifier")?;
                emit.field("externalIdentifierType", "packageUrl")?;
                emit.field("identifier", &purl.to_string())
            })
        })?;
        emit.field_each("verifiedUsing", sorted(&found.hashes), |emit, hash| {
            emit.object(|emit| {
                emit.field("type", "Hash")?;
                emit.field("algorithm", algorithm(hash.algorithm))?;
                emit.field("hashValue", &hash.hex)
            })
        })?;
        let mut lines = vec![format!("Evidence: {}", evidence_word(component.evidence))];
        lines.extend(places(found).into_iter().map(|place| match ordered.layer(place) {
            Some(layer) => format!("Found: {} in layer {}", place.text(), layer.digest),
            None => format!("Found: {}", place.text()),
        }));
        emit.field("software_sourceInfo", &lines.join("\n"))
    })
}

fn algorithm(algorithm: HashAlgorithm) -> &'static str {
    match algorithm {
        HashAlgorithm::Md5 => "md5",
        HashAlgorithm::Sha1 => "sha1",
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
    }
}

/// Each expression once, with the texts that its references stand for.
fn expressions(emit: Out<'_, '_>, ordered: &Ordered<'_>, licences: &References, ids: &Ids) -> io::Result<()> {
    for (reference, text) in licences.iter() {
        element(emit, "simplelicensing_SimpleLicensingText", &ids.of(reference), |emit| {
            emit.field("name", text)?;
            emit.field("simplelicensing_licenseText", text)
        })?;
    }
    let declared: BTreeSet<String> = ordered.components.iter().filter_map(|found| declared(found)).collect();
    for expression in &declared {
        element(emit, "simplelicensing_LicenseExpression", &ids.of(&expression_id(expression)), |emit| {
            emit.field("simplelicensing_licenseExpression", expression)?;
            let used = licences.iter().filter(|(reference, _)| names(expression, reference));
            emit.field_each("simplelicensing_customIdToUri", used, |emit, (reference, _)| {
                emit.object(|emit| {
                    emit.field("type", "DictionaryEntry")?;
                    emit.field("key", reference)?;
                    emit.field("value", &ids.of(reference))
                })
            })
        })?;
    }
    Ok(())
}

/// Whether an expression names a reference, as a whole word.
fn names(expression: &str, reference: &str) -> bool {
    expression.split([' ', '(', ')']).any(|word| word == reference)
}

fn relationships(emit: Out<'_, '_>, ordered: &Ordered<'_>, ids: &Ids) -> io::Result<()> {
    let complete = if ordered.contents.is_complete() { "complete" } else { "incomplete" };
    let mut one =
        |local: &str, from: &str, kind: &str, to: &mut dyn Iterator<Item = String>, complete: Option<&str>| {
            element(emit, "Relationship", &ids.of(local), |emit| {
                emit.field("from", from)?;
                emit.field("relationshipType", kind)?;
                emit.key("to")?;
                emit.array(|emit| {
                    for to in to {
                        emit.value(&to)?;
                    }
                    Ok(())
                })?;
                emit.field_some("completeness", complete)
            })
        };
    let os = ordered.contents.operating_system.is_some().then(|| ids.of("os"));
    let mut all = os.into_iter().chain(ordered.components.iter().map(|found| ids.package(&found.id))).peekable();
    if all.peek().is_some() {
        one("contains", &ids.of("image"), "contains", &mut all, Some(complete))?;
    }
    for found in &ordered.components {
        let from = ids.package(&found.id);
        if let Some(owner) = &found.owner {
            let to = &mut std::iter::once(from.clone());
            one(&local_id("owns", &found.id), &ids.package(owner), "contains", to, None)?;
        }
        if !found.depends_on.is_empty() {
            let to = &mut sorted(&found.depends_on).into_iter().map(|id| ids.package(id));
            one(&local_id("needs", &found.id), &from, "dependsOn", to, None)?;
        }
        if let Some(expression) = declared(found) {
            let to = &mut std::iter::once(ids.of(&expression_id(&expression)));
            one(&local_id("licence", &found.id), &from, "hasDeclaredLicense", to, None)?;
        }
    }
    Ok(())
}

fn unexamined(emit: Out<'_, '_>, ordered: &Ordered<'_>, ids: &Ids) -> io::Result<()> {
    for (index, item) in ordered.unexamined.iter().enumerate() {
        element(emit, "Annotation", &ids.of(&format!("unexamined-{index}")), |emit| {
            emit.field("annotationType", "other")?;
            emit.field("subject", &ids.of("image"))?;
            emit.field("statement", &format!("Not examined: {}: {}", item.place.text(), item.why))
        })?;
    }
    Ok(())
}
