//! SARIF 2.1.0 (OASIS): vulnerabilities and secrets as results, what was not examined as notifications.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::document::emit::{Emit, plain, short_hash};
use crate::document::ordered::{Ordered, WriteError, places, sorted};
use crate::document::vex::Status;
use crate::document::{Contents, Finding, Place, Secret, Severity};

type Out<'e, 'w> = &'e mut Emit<&'w mut dyn Write>;

/// Writes `contents` as a SARIF log.
pub fn write(contents: &Contents, mut out: impl Write) -> Result<(), WriteError> {
    let ordered = Ordered::new(contents)?;
    plain(&mut out, |emit| log(emit, &ordered))?;
    Ok(())
}

/// What the results refer to by index: one rule for each advisory and each kind of secret.
struct Rules<'a> {
    advisories: Vec<(&'a str, &'a Finding)>,
    secrets: Vec<(String, &'a Secret)>,
}

impl<'a> Rules<'a> {
    fn of(ordered: &Ordered<'a>) -> Self {
        // Of several findings of one advisory the gravest describes the rule.
        let mut advisories: BTreeMap<&str, &Finding> = BTreeMap::new();
        for finding in &ordered.findings {
            let known = advisories.entry(&finding.id).or_insert(finding);
            if finding.severity > known.severity {
                *known = finding;
            }
        }
        let secrets: BTreeMap<String, &Secret> =
            ordered.secrets.iter().map(|secret| (secret_rule(secret), *secret)).collect();
        Self { advisories: advisories.into_iter().collect(), secrets: secrets.into_iter().collect() }
    }

    fn advisory(&self, id: &str) -> usize {
        self.advisories.partition_point(|(known, _)| *known < id)
    }

    fn secret(&self, id: &str) -> usize {
        self.advisories.len() + self.secrets.partition_point(|(known, _)| known.as_str() < id)
    }
}

fn secret_rule(secret: &Secret) -> String {
    format!("secret/{}", secret.rule)
}

fn log(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    let rules = Rules::of(ordered);
    let tool = &ordered.contents.tool;
    emit.object(|emit| {
        emit.field("$schema", "https://json.schemastore.org/sarif-2.1.0.json")?;
        emit.field("version", "2.1.0")?;
        emit.key("runs")?;
        emit.array(|emit| {
            emit.object(|emit| {
                emit.field_object("tool", |emit| {
                    emit.field_object("driver", |emit| {
                        emit.field("name", &tool.name)?;
                        emit.field("version", &tool.version)?;
                        emit.key("rules")?;
                        emit.array(|emit| {
                            rules.advisories.iter().try_for_each(|(_, finding)| advisory_rule(emit, finding))?;
                            rules.secrets.iter().try_for_each(|(id, secret)| a_secret_rule(emit, id, secret))
                        })
                    })
                })?;
                emit.key("invocations")?;
                emit.array(|emit| emit.object(|emit| invocation(emit, ordered)))?;
                emit.key("results")?;
                emit.array(|emit| {
                    ordered.findings.iter().try_for_each(|finding| vulnerability(emit, ordered, finding, &rules))?;
                    ordered.secrets.iter().try_for_each(|secret| leaked(emit, ordered, secret, &rules))
                })?;
                emit.field("columnKind", "unicodeCodePoints")?;
                emit.field_object("properties", |emit| {
                    emit.field("image", &ordered.contents.image.name)?;
                    emit.field_some("digest", ordered.contents.image.digest.as_ref())?;
                    emit.field("completeness", &ordered.completeness())?;
                    let matched = ordered.contents.matched.as_ref();
                    emit.field_some("advisories", matched.map(|matched| matched.advisories))?;
                    emit.field_some("advisoriesFetched", matched.and_then(|matched| matched.fetched))?;
                    let gaps = matched.map(|matched| sorted(&matched.gaps)).unwrap_or_default();
                    emit.field_each("advisoriesGaps", gaps, |emit, gap| emit.value(gap))
                })
            })
        })
    })
}

fn text(emit: Out<'_, '_>, key: &str, text: &str) -> io::Result<()> {
    emit.field_object(key, |emit| emit.field("text", text))
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        // What nobody rated may be grave.
        Severity::Medium | Severity::Unknown => "warning",
        Severity::Low | Severity::None => "note",
    }
}

fn advisory_rule(emit: Out<'_, '_>, finding: &Finding) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("id", &finding.id)?;
        text(emit, "shortDescription", finding.summary.as_deref().unwrap_or(&finding.id))?;
        let absolute = |url: &&String| url.contains("://") && url.bytes().all(|b| b.is_ascii_graphic());
        emit.field_some("helpUri", finding.source.url.as_ref().filter(absolute))?;
        emit.field_object("defaultConfiguration", |emit| emit.field("level", level(finding.severity)))?;
        emit.field_object("properties", |emit| {
            emit.field("tags", &["security", "vulnerability", finding.severity.word()])?;
            let score = finding.cvss.as_ref().map(|cvss| cvss.score).filter(|score| score.is_finite());
            emit.field_some("security-severity", score.map(|score| format!("{score:.1}")))
        })
    })
}

fn a_secret_rule(emit: Out<'_, '_>, id: &str, secret: &Secret) -> io::Result<()> {
    emit.object(|emit| {
        emit.field("id", id)?;
        text(emit, "shortDescription", &format!("Secret left in a layer: {}", secret.rule))?;
        emit.field_object("defaultConfiguration", |emit| emit.field("level", "error"))?;
        emit.field_object("properties", |emit| emit.field("tags", &["security", "secret"]))
    })
}

fn invocation(emit: Out<'_, '_>, ordered: &Ordered<'_>) -> io::Result<()> {
    emit.field("executionSuccessful", &true)?;
    emit.field_each("toolExecutionNotifications", &ordered.unexamined, |emit, unexamined| {
        emit.object(|emit| {
            emit.field("level", "warning")?;
            let sentence = format!("Not examined: {}: {}", unexamined.place.text(), unexamined.why);
            text(emit, "message", &sentence)?;
            emit.field_object("descriptor", |emit| emit.field("id", "not-examined"))?;
            emit.field_each("locations", [&unexamined.place], |emit, place| location(emit, ordered, place, None))
        })
    })
}

fn vulnerability(emit: Out<'_, '_>, ordered: &Ordered<'_>, finding: &Finding, rules: &Rules<'_>) -> io::Result<()> {
    let Some(found) = ordered.component(&finding.component) else { return Ok(()) };
    let component = &found.component;
    emit.object(|emit| {
        emit.field("ruleId", &finding.id)?;
        emit.field("ruleIndex", &rules.advisory(&finding.id))?;
        emit.field("level", level(finding.severity))?;
        let mut sentence = format!("{} {} is affected by {}", component.name, component.version, finding.id);
        let _ = write!(sentence, " ({}): it is in the range {}", finding.severity.word(), finding.range);
        if !finding.fixed_in.is_empty() {
            let versions: Vec<&str> = sorted(&finding.fixed_in).into_iter().map(String::as_str).collect();
            let _ = write!(sentence, "; fixed in {}", versions.join(", "));
        }
        text(emit, "message", &sentence)?;
        emit.field_each("locations", places(found), |emit, place| {
            location(emit, ordered, place, Some((&found.id, None)))
        })?;
        fingerprint(emit, &format!("{}\n{}\n{}", finding.id, component, found.id))?;
        let settled =
            |verdict: &&crate::document::Verdict| matches!(verdict.status, Status::NotAffected | Status::Fixed);
        let stated = finding.verdict.iter().find(settled).map(|verdict| {
            let word = verdict.justification.as_ref().map_or(verdict.status.word(), |reason| reason.word());
            let statement = verdict.statement.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            format!("{word}{statement} ({})", verdict.document)
        });
        let reasons = stated.into_iter().chain(finding.ignored.iter().map(crate::document::Ignored::text));
        emit.field_each("suppressions", reasons, |emit, reason| {
            emit.object(|emit| {
                emit.field("kind", "external")?;
                emit.field("status", "accepted")?;
                emit.field("justification", &reason)
            })
        })?;
        emit.field_object("properties", |emit| {
            emit.field_some("purl", ordered.contents.purl(component).ok().map(|purl| purl.to_string()))?;
            emit.field_each("aliases", sorted(&finding.aliases), |emit, alias| emit.value(alias))?;
            emit.field_some("epss", finding.epss.map(|epss| epss.score))?;
            emit.field("knownExploited", &finding.known_exploited)?;
            emit.field_some("cvssVector", finding.cvss.as_ref().map(|cvss| &cvss.vector))?;
            emit.field("evidence", crate::document::contents::evidence_word(finding.evidence))
        })
    })
}

fn leaked(emit: Out<'_, '_>, ordered: &Ordered<'_>, secret: &Secret, rules: &Rules<'_>) -> io::Result<()> {
    let id = secret_rule(secret);
    emit.object(|emit| {
        emit.field("ruleId", &id)?;
        emit.field("ruleIndex", &rules.secret(&id))?;
        emit.field("level", "error")?;
        let deleted = if secret.deleted { ", which a later layer deletes but does not remove" } else { "" };
        let sentence =
            format!("A secret ({}) is in {}{deleted}: {}", secret.rule, secret.place.text(), secret.redacted);
        text(emit, "message", &sentence)?;
        emit.field_each("locations", [&secret.place], |emit, place| {
            location(emit, ordered, place, secret.line.map(|line| ("", Some(line))))
        })?;
        fingerprint(emit, &format!("{id}\n{}\n{}", secret.place.text(), secret.redacted))
    })
}

/// What names a result in the next run too.
fn fingerprint(emit: Out<'_, '_>, of: &str) -> io::Result<()> {
    emit.field_object("partialFingerprints", |emit| emit.field("longshore/v1", &short_hash(of)))
}

/// The file in the image as the artefact; what lies within it, and in which layer, as logical locations.
fn location(
    emit: Out<'_, '_>,
    ordered: &Ordered<'_>,
    place: &Place,
    of: Option<(&str, Option<u64>)>,
) -> io::Result<()> {
    emit.object(|emit| {
        if let Some(path) = place.chain.first() {
            emit.field_object("physicalLocation", |emit| {
                emit.field_object("artifactLocation", |emit| emit.field("uri", &uri(path.trim_start_matches('/'))))?;
                let line = of.and_then(|(_, line)| line).unwrap_or(1).max(1);
                emit.field_object("region", |emit| emit.field("startLine", &line))
            })?;
        }
        let within = Some(place.text()).filter(|_| place.chain.len() > 1);
        let component = of.map(|(id, _)| id.to_owned()).filter(|id| !id.is_empty());
        let layer = ordered.layer(place).map(|layer| layer.digest.clone());
        let logical = [(within, "member"), (component, "package"), (layer, "layer")];
        let logical = logical.into_iter().filter_map(|(name, kind)| name.map(|name| (name, kind)));
        emit.field_each("logicalLocations", logical, |emit, (name, kind)| {
            emit.object(|emit| {
                emit.field("fullyQualifiedName", &name)?;
                emit.field("kind", kind)
            })
        })
    })
}

/// A path as a relative URI: what cannot stand in one is percent-encoded, and so is what would look like a scheme.
fn uri(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/@!$&'()*+,;=".contains(&byte);
        if plain {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
