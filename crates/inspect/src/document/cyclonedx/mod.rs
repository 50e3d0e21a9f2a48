//! CycloneDX 1.6 and 1.7 in JSON (ECMA-424).
//!
//! What the format has no word for stands in properties whose names begin with `longshore:`: the layer, the owner, the
//! class of evidence, what was not examined.

mod component;
mod vulnerability;

use std::io::{self, Write};

use uuid::Uuid;

use crate::document::emit::{Emit, identified, seconds};
use crate::document::ordered::{Ordered, WriteError};
use crate::document::{Contents, Image};

/// Which version of the format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// CycloneDX 1.6.
    V1_6,
    /// CycloneDX 1.7.
    V1_7,
}

impl Version {
    fn word(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
        }
    }
}

/// Writes `contents` as a CycloneDX document.
pub fn write(contents: &Contents, version: Version, mut out: impl Write) -> Result<(), WriteError> {
    let ordered = Ordered::new(contents)?;
    identified(&mut out, |emit, serial| document(emit, &ordered, version, serial))?;
    Ok(())
}

type Out<'e, 'w> = &'e mut Emit<&'w mut dyn Write>;

fn document(emit: Out<'_, '_>, ordered: &Ordered<'_>, version: Version, serial: Uuid) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("$schema", &format!("http://cyclonedx.org/schema/bom-{}.schema.json", version.word()))?;
        emit.field("bomFormat", "CycloneDX")?;
        emit.field("specVersion", version.word())?;
        emit.field("serialNumber", &format!("urn:uuid:{serial}"))?;
        emit.field("version", &1)?;
        emit.field_object("metadata", |emit| metadata(emit, ordered))?;
        emit.key("components")?;
        emit.array(|emit| {
            operating_system(emit, ordered)?;
            ordered.components.iter().try_for_each(|found| component::write(emit, ordered, found, version))
        })?;
        dependencies(emit, ordered)?;
        compositions(emit, ordered)?;
        emit.field_each("vulnerabilities", &ordered.findings, |emit, finding| {
            vulnerability::write(emit, ordered, finding)
        })
    })
}

fn metadata(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let contents = ordered.contents;
    emit.field_some("timestamp", seconds(contents.image.created))?;
    emit.field_object("tools", |emit| {
        emit.field_each("components", [&contents.tool], |emit, tool| {
            emit.object(|emit| {
                emit.field("type", "application")?;
                emit.field("name", &tool.name)?;
                emit.field("version", &tool.version)
            })
        })
    })?;
    emit.field_object("component", |emit| image(emit, ordered, &contents.image))?;
    emit.key("properties")?;
    emit.array(|emit| {
        property(emit, "longshore:completeness", &ordered.completeness())?;
        for unexamined in &ordered.unexamined {
            let text = format!("{}: {}", unexamined.place.text(), unexamined.why);
            property(emit, "longshore:unexamined", &text)?;
        }
        if let Some(matched) = &contents.matched {
            property(emit, "longshore:advisories", &matched.advisories.to_string())?;
            for (name, time) in [("fetched", matched.fetched), ("newest", matched.newest)] {
                if let Some(time) = seconds(time) {
                    property(emit, &format!("longshore:advisories:{name}"), &time)?;
                }
            }
            for gap in crate::document::ordered::sorted(&matched.gaps) {
                property(emit, "longshore:advisories:gap", gap)?;
            }
        }
        for secret in &ordered.secrets {
            let line = secret.line.map(|line| format!(":{line}")).unwrap_or_default();
            let deleted = if secret.deleted { ", deleted by a later layer" } else { "" };
            let text = format!("{}: {}{line} ({}{deleted})", secret.rule, secret.place.text(), secret.redacted);
            property(emit, "longshore:secret", &text)?;
        }
        Ok(())
    })
}

fn image(emit: Out<'_, '_>, ordered: &Ordered<'_>, image: &Image) -> io::Result<()> {
    emit.field("type", if image.layers.is_empty() { "file" } else { "container" })?;
    emit.field("bom-ref", &ordered.image_id())?;
    emit.field("name", &image.name)?;
    emit.field_some("version", image.digest.as_ref())?;
    emit.field_some("purl", image.purl().map(|purl| purl.to_string()))?;
    emit.key("properties")?;
    emit.array(|emit| {
        if let Some(platform) = &image.platform {
            let variant = platform.variant.as_deref().map(|variant| format!("/{variant}")).unwrap_or_default();
            let text = format!("{}/{}{variant}", platform.os, platform.architecture);
            property(emit, "longshore:platform", &text)?;
        }
        for (label, value) in &image.labels {
            property(emit, &format!("longshore:label:{label}"), value)?;
        }
        for (index, layer) in image.layers.iter().enumerate() {
            property(emit, &format!("longshore:layer:{index}:digest"), &layer.digest)?;
            property(emit, &format!("longshore:layer:{index}:diff_id"), &layer.diff_id)?;
            property(emit, &format!("longshore:layer:{index}:size"), &layer.size.to_string())?;
            if let Some(created_by) = &layer.created_by {
                property(emit, &format!("longshore:layer:{index}:created_by"), created_by)?;
            }
        }
        Ok(())
    })
}

fn operating_system(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let (Some(os), Some(id)) = (&ordered.contents.operating_system, ordered.os_id()) else { return Ok(()) };
    emit.object(|emit| {
        emit.field("type", "operating-system")?;
        emit.field("bom-ref", &id)?;
        emit.field("name", &os.id)?;
        emit.field_some("version", Some(&os.version).filter(|version| !version.is_empty()))?;
        emit.field_some("description", Some(&os.name).filter(|name| !name.is_empty()))
    })
}

/// The image needs all that no other component brings, the distribution its packages, a component what it needs.
fn dependencies(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let os = ordered.os_id();
    let of_os = |found: &&&crate::document::Found| component::is_os_package(&found.component) && os.is_some();
    emit.key("dependencies")?;
    emit.array(|emit| {
        emit.object(|emit| {
            emit.field("ref", &ordered.image_id())?;
            let others = ordered.components.iter().filter(|found| !of_os(found)).map(|found| found.id.as_str());
            emit.field_each("dependsOn", os.as_deref().into_iter().chain(others), |emit, id| emit.value(id))
        })?;
        if let Some(os) = &os {
            emit.object(|emit| {
                emit.field("ref", os)?;
                let packages = ordered.components.iter().filter(of_os);
                emit.field_each("dependsOn", packages, |emit, found| emit.value(&found.id))
            })?;
        }
        for found in &ordered.components {
            emit.object(|emit| {
                emit.field("ref", &found.id)?;
                let needs = crate::document::ordered::sorted(&found.depends_on);
                emit.field_each("dependsOn", needs, |emit, id| emit.value(id))
            })?;
        }
        Ok(())
    })
}

/// The parts are all there where everything was examined; what needs what is never known in full.
fn compositions(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let aggregate = if ordered.contents.is_complete() { "complete" } else { "incomplete" };
    let image = ordered.image_id();
    emit.key("compositions")?;
    emit.array(|emit| {
        emit.object(|emit| {
            emit.field("aggregate", aggregate)?;
            emit.field("assemblies", &[&image])
        })?;
        emit.object(|emit| {
            emit.field("aggregate", "unknown")?;
            emit.field("dependencies", &[&image])
        })
    })
}

fn property(emit: Out<'_, '_>, name: &str, value: &str) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("name", name)?;
        emit.field("value", value)
    })
}
