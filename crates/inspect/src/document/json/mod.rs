//! Longshore's own document: everything in [`Contents`], as `schema.json` beside this file describes it.
//!
//! It is the one document that can be read back in full. A member is left out where nothing is known; whoever reads it
//! must ignore members that they do not know. What a reader of the present version would misread makes a new version.

mod read;

use std::io::{self, Write};

use crate::component::Component;
use crate::document::contents::{ecosystem_word, evidence_word};
use crate::document::emit::{Emit, plain};
use crate::document::ordered::{Ordered, WriteError, further, places, sorted};
use crate::document::{Contents, Finding, Found, Image, Matched, Place, Secret};

pub(crate) use read::component_of;
pub use read::read;

/// What the member `schema` says.
pub const SCHEMA: &str = "longshore.contents/1";

/// Writes `contents` in full.
pub fn write(contents: &Contents, mut out: impl Write) -> Result<(), WriteError> {
    let ordered = Ordered::new(contents)?;
    plain(&mut out, |emit| document(emit, &ordered))?;
    Ok(())
}

fn document<W: Write>(emit: &mut Emit<W>, ordered: &Ordered<'_>) -> io::Result<()> {
    let contents = ordered.contents;
    emit.object(|emit| {
        emit.field("schema", SCHEMA)?;
        emit.field_object("tool", |emit| {
            emit.field("name", &contents.tool.name)?;
            emit.field("version", &contents.tool.version)
        })?;
        emit.field_object("image", |emit| image(emit, &contents.image))?;
        if let Some(os) = &contents.operating_system {
            emit.field_object("operatingSystem", |emit| {
                emit.field("id", &os.id)?;
                emit.field("version", &os.version)?;
                emit.field("name", &os.name)
            })?;
        }
        emit.field("complete", &contents.is_complete())?;
        emit.key("components")?;
        emit.array(|emit| ordered.components.iter().try_for_each(|found| one(emit, contents, found)))?;
        emit.key("findings")?;
        emit.array(|emit| ordered.findings.iter().try_for_each(|finding| a_finding(emit, finding)))?;
        if let Some(matched) = &contents.matched {
            emit.field_object("matched", |emit| a_matching(emit, matched))?;
        }
        emit.key("secrets")?;
        emit.array(|emit| ordered.secrets.iter().try_for_each(|secret| a_secret(emit, secret)))?;
        emit.key("unexamined")?;
        emit.array(|emit| {
            ordered.unexamined.iter().try_for_each(|item| {
                emit.object(|emit| {
                    place(emit, &item.place)?;
                    emit.field("why", &item.why)
                })
            })
        })
    })
}

fn image<W: Write>(emit: &mut Emit<W>, image: &Image) -> io::Result<()> {
    emit.field("name", &image.name)?;
    emit.field_some("repository", image.repository.as_ref())?;
    emit.field_some("tag", image.tag.as_ref())?;
    emit.field_some("digest", image.digest.as_ref())?;
    if let Some(platform) = &image.platform {
        emit.field_object("platform", |emit| {
            emit.field("os", &platform.os)?;
            emit.field("architecture", &platform.architecture)?;
            emit.field_some("variant", platform.variant.as_ref())
        })?;
    }
    emit.field_some("created", image.created)?;
    emit.field("labels", &image.labels)?;
    emit.key("layers")?;
    emit.array(|emit| {
        image.layers.iter().try_for_each(|layer| {
            emit.object(|emit| {
                emit.field("digest", &layer.digest)?;
                emit.field("diffId", &layer.diff_id)?;
                emit.field("size", &layer.size)?;
                emit.field_some("createdBy", layer.created_by.as_ref())
            })
        })
    })
}

/// The members of a component by itself.
pub(in crate::document) fn component<W: Write>(emit: &mut Emit<W>, component: &Component) -> io::Result<()> {
    emit.field("ecosystem", ecosystem_word(component.ecosystem))?;
    emit.field("name", &component.name)?;
    emit.field("version", &component.version)?;
    emit.field_some("architecture", component.architecture.as_ref())?;
    if let Some(source) = &component.source {
        emit.field_object("source", |emit| {
            emit.field("name", &source.name)?;
            emit.field("version", &source.version)
        })?;
    }
    emit.field_each("stated", &component.licences, |emit, licence| emit.value(licence))?;
    emit.field("evidence", evidence_word(component.evidence))
}

/// A component by itself, as a text.
pub(crate) fn component_text(of: &Component) -> io::Result<String> {
    let mut text = Vec::new();
    Emit::new(&mut text).object(|emit| component(emit, of))?;
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn one<W: Write>(emit: &mut Emit<W>, contents: &Contents, found: &Found) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("id", &found.id)?;
        component(emit, &found.component)?;
        emit.field_some("purl", contents.purl(&found.component).ok().map(|purl| purl.to_string()))?;
        emit.field_each("places", places(found), |emit, at| emit.object(|emit| place(emit, at)))?;
        emit.field_some("owner", found.owner.as_ref())?;
        emit.field_each("further", further(found), |emit, other| emit.object(|emit| component(emit, other)))?;
        emit.field_each("hashes", sorted(&found.hashes), |emit, hash| {
            emit.value(&format!("{}:{}", hash.algorithm.oci_name(), hash.hex))
        })?;
        emit.field_each("dependsOn", sorted(&found.depends_on), |emit, id| emit.value(id))?;
        emit.field_each("licences", sorted(&found.licences), |emit, licence| {
            emit.object(|emit| {
                emit.field("stated", &licence.stated)?;
                emit.field_some("expression", licence.expression.as_ref())
            })
        })
    })
}

fn place<W: Write>(emit: &mut Emit<W>, place: &Place) -> io::Result<()> {
    emit.field_some("layer", place.layer)?;
    emit.field("path", &place.chain)
}

fn a_finding<W: Write>(emit: &mut Emit<W>, finding: &Finding) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("id", &finding.id)?;
        emit.field_each("aliases", sorted(&finding.aliases), |emit, alias| emit.value(alias))?;
        emit.field("component", &finding.component)?;
        emit.field_some("package", Some(&finding.package).filter(|package| !package.is_empty()))?;
        emit.field_some("summary", finding.summary.as_ref())?;
        emit.field("severity", finding.severity.word())?;
        if let Some(cvss) = finding.cvss.as_ref().filter(|cvss| cvss.score.is_finite()) {
            emit.field_object("cvss", |emit| {
                emit.field("score", &cvss.score)?;
                emit.field("vector", &cvss.vector)
            })?;
        }
        if let Some(epss) = finding.epss.filter(|epss| epss.score.is_finite() && epss.percentile.is_finite()) {
            emit.field_object("epss", |emit| {
                emit.field("score", &epss.score)?;
                emit.field("percentile", &epss.percentile)
            })?;
        }
        emit.field("knownExploited", &finding.known_exploited)?;
        emit.field("range", &finding.range)?;
        emit.field_each("fixedIn", sorted(&finding.fixed_in), |emit, version| emit.value(version))?;
        emit.field("evidence", evidence_word(finding.evidence))?;
        if let Some(verdict) = &finding.verdict {
            emit.field_object("vex", |emit| {
                emit.field("status", verdict.status.word())?;
                emit.field_some("justification", verdict.justification.as_ref().map(|reason| reason.word()))?;
                emit.field_some("statement", verdict.statement.as_ref())?;
                emit.field("document", &verdict.document)
            })?;
        }
        emit.field_each("heard", sorted(&finding.heard), |emit, heard| {
            emit.object(|emit| {
                emit.field("document", &heard.document)?;
                emit.field("at", &heard.at)?;
                emit.field("status", heard.status.word())?;
                emit.field_some("passedOver", heard.passed_over.as_ref())
            })
        })?;
        if let Some(ignored) = &finding.ignored {
            emit.field_object("ignored", |emit| {
                emit.field("file", &ignored.file)?;
                emit.field_some("statement", ignored.statement.as_ref())?;
                emit.field_some("expires", ignored.expires)
            })?;
        }
        emit.field_object("source", |emit| {
            emit.field("name", &finding.source.name)?;
            emit.field_some("url", finding.source.url.as_ref())
        })?;
        emit.field_some("published", finding.published)?;
        emit.field_some("modified", finding.modified)
    })
}

fn a_matching<W: Write>(emit: &mut Emit<W>, matched: &Matched) -> io::Result<()> {
    emit.field("advisories", &matched.advisories)?;
    emit.field_each("sources", sorted(&matched.sources), |emit, source| emit.value(source))?;
    emit.field_some("fetched", matched.fetched)?;
    emit.field_some("newest", matched.newest)?;
    emit.field_each("gaps", sorted(&matched.gaps), |emit, gap| emit.value(gap))?;
    emit.field_each("notes", sorted(&matched.notes), |emit, note| emit.value(note))
}

fn a_secret<W: Write>(emit: &mut Emit<W>, secret: &Secret) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("rule", &secret.rule)?;
        place(emit, &secret.place)?;
        emit.field_some("line", secret.line)?;
        emit.field("redacted", &secret.redacted)?;
        emit.field("deleted", &secret.deleted)
    })
}
