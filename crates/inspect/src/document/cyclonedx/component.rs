//! One component of a CycloneDX document.

use std::io;

use super::{Out, Version, property};
use crate::component::{Component, Ecosystem, Evidence};
use crate::document::contents::{evidence_word, joined};
use crate::document::ordered::{Ordered, further, places, sorted};
use crate::document::{Details, Found, Licence, json};
use crate::purl::split_name;

pub(super) fn is_os_package(component: &Component) -> bool {
    matches!(component.ecosystem, Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk)
}

pub(super) fn write(emit: Out<'_, '_>, ordered: &Ordered<'_>, found: &Found, version: Version) -> io::Result<()> {
    let component = &found.component;
    // Go modules are known by their whole path alone.
    let (group, name) = match component.ecosystem {
        Ecosystem::Go | Ecosystem::Generic => ("", component.name.as_str()),
        ecosystem => split_name(ecosystem, &component.name),
    };
    emit.object(|emit| {
        emit.field("type", if component.ecosystem == Ecosystem::Generic { "application" } else { "library" })?;
        emit.field("bom-ref", &found.id)?;
        emit.field_some("group", Some(group).filter(|group| !group.is_empty()))?;
        emit.field("name", name)?;
        emit.field_some("version", Some(&component.version).filter(|version| !version.is_empty()))?;
        emit.field_each("hashes", sorted(&found.hashes), |emit, hash| {
            emit.object(|emit| {
                emit.field("alg", hash.algorithm.name())?;
                emit.field("content", &hash.hex)
            })
        })?;
        licences(emit, &found.all_licences())?;
        emit.field_some("purl", ordered.contents.purl_of(found).ok().map(|purl| purl.to_string()))?;
        evidence(emit, ordered, found, version)?;
        emit.key("properties")?;
        emit.array(|emit| properties(emit, ordered, found))
    })
}

/// One expression where every licence is one, else names: the two may not stand beside one another.
fn licences(emit: Out<'_, '_>, licences: &[Licence]) -> io::Result<()> {
    if let Some(expression) = joined(licences) {
        return emit.field_each("licenses", [expression], |emit, expression| {
            emit.object(|emit| {
                emit.field("expression", &expression)?;
                emit.field("acknowledgement", "declared")
            })
        });
    }
    emit.field_each("licenses", licences, |emit, licence| {
        emit.object(|emit| {
            emit.field_object("license", |emit| {
                emit.field("name", licence.expression.as_ref().unwrap_or(&licence.stated))?;
                emit.field("acknowledgement", "declared")
            })
        })
    })
}

/// How it was found, and how sure that is.
fn technique(evidence: Evidence) -> (&'static str, f64) {
    match evidence {
        Evidence::Installed => ("manifest-analysis", 1.0),
        Evidence::Contained => ("manifest-analysis", 0.9),
        Evidence::Inferred => ("binary-analysis", 0.5),
    }
}

fn evidence(emit: Out<'_, '_>, ordered: &Ordered<'_>, found: &Found, version: Version) -> io::Result<()> {
    emit.field_object("evidence", |emit| {
        if version == Version::V1_6 {
            // Version 1.6 takes a list too, which readers made for 1.5 stumble over.
            emit.key("identity")?;
            identity(emit, ordered, &found.component)?;
        } else {
            let names = std::iter::once(&found.component).chain(further(found));
            emit.field_each("identity", names, |emit, component| identity(emit, ordered, component))?;
        }
        emit.field_each("occurrences", places(found), |emit, place| {
            emit.object(|emit| {
                emit.field("location", &place.text())?;
                let layer = ordered.layer(place).map(|layer| format!("longshore:layer:digest={}", layer.digest));
                emit.field_some("additionalContext", layer)
            })
        })
    })
}

fn identity(emit: Out<'_, '_>, ordered: &Ordered<'_>, component: &Component) -> io::Result<()> {
    let (technique, confidence) = technique(component.evidence);
    let purl = ordered.contents.purl(component).ok().map(|purl| purl.to_string());
    emit.object(|emit| {
        emit.field("field", if purl.is_some() { "purl" } else { "name" })?;
        emit.field("confidence", &confidence)?;
        emit.field("concludedValue", purl.as_ref().unwrap_or(&component.name))?;
        emit.field_each("methods", [technique], |emit, technique| {
            emit.object(|emit| {
                emit.field("technique", technique)?;
                emit.field("confidence", &confidence)?;
                emit.field("value", evidence_word(component.evidence))
            })
        })
    })
}

fn properties(emit: Out<'_, '_>, ordered: &Ordered<'_>, found: &Found) -> io::Result<()> {
    let component = &found.component;
    property(emit, "longshore:evidence", evidence_word(component.evidence))?;
    for component in further(found) {
        property(emit, "longshore:further", &json::component_text(component)?)?;
    }
    let mut digests: Vec<_> = places(found).into_iter().filter_map(|place| place.layer).collect();
    digests.dedup();
    for index in digests {
        if let Some(layer) = ordered.contents.image.layers.get(index) {
            property(emit, "longshore:layer:digest", &layer.digest)?;
            property(emit, "longshore:layer:diff_id", &layer.diff_id)?;
            property(emit, "longshore:layer:index", &index.to_string())?;
        }
    }
    for licence in found.all_licences() {
        if licence.expression.is_some_and(|expression| expression != licence.stated) {
            property(emit, "longshore:licence:stated", &licence.stated)?;
        }
    }
    if let Some(owner) = &found.owner {
        property(emit, "longshore:owner", owner)?;
    }
    let Details { vendor, module, build_ids } = &found.details;
    for (name, value) in [("longshore:vendor", vendor), ("longshore:rpm:module", module)] {
        if let Some(value) = value {
            property(emit, name, value)?;
        }
    }
    for id in sorted(build_ids) {
        property(emit, "longshore:elf:buildId", id)?;
    }
    if let Some(architecture) = &component.architecture {
        property(emit, "longshore:architecture", architecture)?;
    }
    if let Some(source) = &component.source {
        property(emit, "longshore:source:name", &source.name)?;
        property(emit, "longshore:source:version", &source.version)?;
    }
    Ok(())
}
