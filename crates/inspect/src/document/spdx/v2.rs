//! SPDX 2.3 in JSON.

use std::io::{self, Write};

use uuid::Uuid;

use super::licence::{References, declared};
use super::{NO_TIME, local_id};
use crate::component::{Component, Ecosystem};
use crate::document::contents::evidence_word;
use crate::document::emit::{Emit, seconds};
use crate::document::ordered::{Ordered, further, places, sorted};
use crate::document::{Finding, Found, HashAlgorithm, Place, json};

type Out<'e, 'w> = &'e mut Emit<&'w mut dyn Write>;

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const OS: &str = "SPDXRef-OperatingSystem";
const IMAGE: &str = "SPDXRef-Image";

/// An annotation's comment that begins so holds JSON for programs.
const MACHINE: &str = "longshore: ";

fn package_id(id: &str) -> String {
    local_id("SPDXRef-Package", id)
}

pub(super) fn document(
    emit: Out<'_, '_>,
    ordered: &Ordered<'_>,
    licences: &References,
    namespace: Uuid,
) -> io::Result<()> {
    let contents = ordered.contents;
    let created = seconds(contents.image.created).unwrap_or_else(|| NO_TIME.to_owned());
    let note = Note { tool: format!("Tool: {}-{}", contents.tool.name, contents.tool.version), date: created };
    emit.object(|emit| {
        emit.field("spdxVersion", "SPDX-2.3")?;
        emit.field("dataLicense", "CC0-1.0")?;
        emit.field("SPDXID", DOCUMENT)?;
        emit.field("name", &contents.image.name)?;
        emit.field("documentNamespace", &format!("urn:uuid:{namespace}"))?;
        emit.field("comment", &ordered.completeness())?;
        emit.field_object("creationInfo", |emit| {
            emit.field("created", &note.date)?;
            emit.field("creators", &[&note.tool])
        })?;
        let unexamined =
            ordered.unexamined.iter().map(|item| format!("Not examined: {}: {}", item.place.text(), item.why));
        emit.field_each("annotations", unexamined, |emit, text| note.write(emit, &text))?;
        emit.key("packages")?;
        emit.array(|emit| {
            image(emit, ordered)?;
            operating_system(emit, ordered)?;
            let mut findings = ordered.findings.clone();
            findings.sort_by(|a, b| a.component.cmp(&b.component));
            ordered.components.iter().try_for_each(|found| {
                let from = findings.partition_point(|finding| finding.component < found.id);
                let own = findings.iter().skip(from).take_while(|finding| finding.component == found.id);
                package(emit, ordered, found, own.copied(), &note)
            })
        })?;
        emit.field_each("hasExtractedLicensingInfos", licences.iter(), |emit, (reference, text)| {
            emit.object(|emit| {
                emit.field("licenseId", reference)?;
                emit.field("name", text)?;
                emit.field("extractedText", text)
            })
        })?;
        emit.key("relationships")?;
        emit.array(|emit| relationships(emit, ordered))
    })
}

/// Who annotates, and when.
struct Note {
    tool: String,
    date: String,
}

impl Note {
    fn write(&self, emit: Out<'_, '_>, text: &str) -> io::Result<()> {
        emit.object(|emit| {
            emit.field("annotationDate", &self.date)?;
            emit.field("annotationType", "OTHER")?;
            emit.field("annotator", &self.tool)?;
            emit.field("comment", text)
        })
    }
}

fn image(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let image = &ordered.contents.image;
    emit.object(|emit| {
        emit.field("SPDXID", IMAGE)?;
        emit.field("name", &image.name)?;
        emit.field_some("versionInfo", image.digest.as_ref())?;
        emit.field("primaryPackagePurpose", if image.layers.is_empty() { "ARCHIVE" } else { "CONTAINER" })?;
        unknown(emit)?;
        let digest = image.digest.as_deref().and_then(|digest| digest.strip_prefix("sha256:"));
        emit.field_each("checksums", digest, |emit, digest| checksum(emit, "SHA256", digest))?;
        emit.field_each("externalRefs", image.purl(), |emit, purl| reference(emit, &purl.to_string()))?;
        let comment: Vec<String> = image
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| {
                let by = layer.created_by.as_deref().map(|by| format!(", created by: {by}")).unwrap_or_default();
                format!("Layer {index}: {}, uncompressed {}, {} bytes{by}", layer.digest, layer.diff_id, layer.size)
            })
            .collect();
        emit.field_some("comment", Some(comment.join("\n")).filter(|text| !text.is_empty()))
    })
}

fn operating_system(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let Some(os) = &ordered.contents.operating_system else { return Ok(()) };
    emit.object(|emit| {
        emit.field("SPDXID", OS)?;
        emit.field("name", &os.id)?;
        emit.field_some("versionInfo", Some(&os.version).filter(|version| !version.is_empty()))?;
        emit.field("primaryPackagePurpose", "OPERATING-SYSTEM")?;
        unknown(emit)?;
        emit.field_some("description", Some(&os.name).filter(|name| !name.is_empty()))
    })
}

/// What is required, and not known here.
fn unknown(emit: Out<'_, '_>) -> io::Result<()> {
    emit.field("downloadLocation", "NOASSERTION")?;
    emit.field("filesAnalyzed", &false)?;
    emit.field("licenseConcluded", "NOASSERTION")?;
    emit.field("copyrightText", "NOASSERTION")?;
    emit.field("supplier", "NOASSERTION")
}

fn checksum(emit: Out<'_, '_>, algorithm: &str, value: &str) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("algorithm", algorithm)?;
        emit.field("checksumValue", value)
    })
}

fn reference(emit: Out<'_, '_>, purl: &str) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("referenceCategory", "PACKAGE-MANAGER")?;
        emit.field("referenceType", "purl")?;
        emit.field("referenceLocator", purl)
    })
}

fn package<'a>(
    emit: Out<'_, '_>,
    ordered: &Ordered<'_>,
    found: &Found,
    findings: impl Iterator<Item = &'a Finding>,
    note: &Note,
) -> io::Result<()> {
    let component = &found.component;
    emit.object(|emit| {
        emit.field("SPDXID", &package_id(&found.id))?;
        emit.field("name", &component.name)?;
        emit.field_some("versionInfo", Some(&component.version).filter(|version| !version.is_empty()))?;
        let purpose = if component.ecosystem == Ecosystem::Generic { "APPLICATION" } else { "LIBRARY" };
        emit.field("primaryPackagePurpose", purpose)?;
        unknown(emit)?;
        emit.field("licenseDeclared", declared(found).as_deref().unwrap_or("NOASSERTION"))?;
        emit.field_each("checksums", sorted(&found.hashes), |emit, hash| {
            checksum(emit, algorithm(hash.algorithm), &hash.hex)
        })?;
        emit.key("externalRefs")?;
        emit.array(|emit| {
            let purls = further(found).into_iter().map(|name| ordered.contents.purl(name));
            for purl in std::iter::once(ordered.contents.purl_of(found)).chain(purls).flatten() {
                reference(emit, &purl.to_string())?;
            }
            for finding in findings {
                // Only an address without spaces is a valid locator.
                let url = finding.source.url.as_ref().filter(|url| url.bytes().all(|b| b.is_ascii_graphic()));
                if let Some(url) = url {
                    emit.object(|emit| {
                        emit.field("referenceCategory", "SECURITY")?;
                        emit.field("referenceType", "advisory")?;
                        emit.field("referenceLocator", url)?;
                        emit.field("comment", &format!("{} ({})", finding.id, finding.severity.word()))
                    })?;
                }
            }
            Ok(())
        })?;
        let lies: Vec<String> = places(found).into_iter().map(|place| in_layer(ordered, place)).collect();
        emit.field_some("sourceInfo", Some(lies.join("; ")).filter(|text| !text.is_empty()))?;
        let machine = machine(ordered, found)?;
        emit.field_each("annotations", [machine], |emit, text| note.write(emit, &text))
    })
}

fn in_layer(ordered: &Ordered<'_>, place: &Place) -> String {
    match ordered.layer(place) {
        Some(layer) => format!("{} in layer {}", place.text(), layer.digest),
        None => place.text(),
    }
}

fn algorithm(algorithm: HashAlgorithm) -> &'static str {
    match algorithm {
        HashAlgorithm::Md5 => "MD5",
        HashAlgorithm::Sha1 => "SHA1",
        HashAlgorithm::Sha256 => "SHA256",
        HashAlgorithm::Sha384 => "SHA384",
        HashAlgorithm::Sha512 => "SHA512",
    }
}

/// What SPDX has no field for, as JSON.
fn machine(ordered: &Ordered<'_>, found: &Found) -> io::Result<String> {
    let mut text = MACHINE.as_bytes().to_vec();
    let component: &Component = &found.component;
    Emit::new(&mut text).object(|emit| {
        emit.field("id", &found.id)?;
        emit.field("evidence", evidence_word(component.evidence))?;
        emit.field_some("architecture", component.architecture.as_ref())?;
        if let Some(source) = &component.source {
            emit.field_object("source", |emit| {
                emit.field("name", &source.name)?;
                emit.field("version", &source.version)
            })?;
        }
        emit.field_some("owner", found.owner.as_ref())?;
        emit.field_some("vendor", found.details.vendor.as_ref())?;
        emit.field_some("module", found.details.module.as_ref())?;
        emit.field_each("buildIds", sorted(&found.details.build_ids), |emit, id| emit.value(id))?;
        emit.field_each("further", further(found), |emit, other| emit.object(|emit| json::component(emit, other)))?;
        emit.field_each("places", places(found), |emit, place| {
            emit.object(|emit| {
                emit.field_some("layer", ordered.layer(place).map(|layer| &layer.digest))?;
                emit.field("path", &place.chain)
            })
        })
    })?;
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn relationships(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let mut one = |from: &str, kind: &str, to: &str| {
        emit.object(|emit| {
            emit.field("spdxElementId", from)?;
            emit.field("relationshipType", kind)?;
            emit.field("relatedSpdxElement", to)
        })
    };
    one(DOCUMENT, "DESCRIBES", IMAGE)?;
    if ordered.contents.operating_system.is_some() {
        one(IMAGE, "CONTAINS", OS)?;
    }
    for found in &ordered.components {
        let id = package_id(&found.id);
        one(IMAGE, "CONTAINS", &id)?;
        if let Some(owner) = &found.owner {
            one(&package_id(owner), "CONTAINS", &id)?;
        }
        for needed in sorted(&found.depends_on) {
            one(&id, "DEPENDS_ON", &package_id(needed))?;
        }
    }
    Ok(())
}
