//! All components of an image, and what is stated on what was found.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{Advisories, Matches, Package, Undecided};
use crate::advisory::place::Platform;
use crate::component::{Component, Ecosystem};
use crate::document::trivyignore::{self, Candidate};
use crate::document::vex::{Applies, Statement, Subject, Target, applies, prevailing};
use crate::document::{Contents, Finding, Found, Heard, Ignored, Matched, Place, Verdict};
use crate::purl::Purl;

/// Identifiers that one sentence on a component names.
const IDS_NAMED: usize = 3;
/// Statements on one finding that are listed.
const HEARD_MAX: usize = 100;
/// Sentences on single components that could not be compared; the last says how many more there are.
const GAPS_MAX: usize = 1_000;

/// What an image is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    /// The advisories; `None` for none, which says so.
    pub advisories: Option<&'a Advisories>,
    /// VEX statements that are trusted.
    pub statements: &'a [Statement],
    /// Digests that statements may call the image by beside its own: of indexes that have it.
    pub digests: &'a [String],
    /// What somebody decided to ignore.
    pub ignore: &'a [IgnoreList],
    /// Now.
    pub now: Timestamp,
}

/// An ignore file.
#[derive(Clone, Debug)]
pub struct IgnoreList {
    /// Its name.
    pub file: String,
    /// What it says.
    pub entries: Vec<trivyignore::Entry>,
}

/// Matches all components, and says of each finding which statements and ignore entries speak of it. Secrets that an
/// ignore entry speaks of go.
///
/// What a package of the operating system owns is that package under another name: the distribution's advisories speak of
/// it, with the fixes that the distribution makes, and those of its language do not, unless nothing is known of the
/// distribution.
pub fn examine(contents: &mut Contents, against: &Against<'_>) {
    if let Some(advisories) = against.advisories {
        let (findings, matched) = matched(contents, advisories);
        contents.findings = findings;
        contents.matched = Some(matched);
    }
    let mut findings = std::mem::take(&mut contents.findings);
    state(contents, &mut findings, against);
    contents.findings = findings;
    let ignored = |rule: &str, place: &Place| {
        let ids = [rule.to_owned()];
        let path = place.chain.first().map(String::as_str);
        let candidate = Candidate { kind: trivyignore::Kind::Secret, ids: &ids, path, purls: &[] };
        against.ignore.iter().flat_map(|list| &list.entries).any(|entry| entry.applies(&candidate, against.now))
    };
    contents.secrets.retain(|secret| !ignored(&secret.rule, &secret.place));
}

fn matched(contents: &Contents, advisories: &Advisories) -> (Vec<Finding>, Matched) {
    let data = advisories.data();
    let system = contents.operating_system.as_ref();
    let platform = system.map(|system| Platform::from_os_release(&system.id, &system.version));
    let scope = advisories.on(platform.as_ref());
    let mut findings = Vec::new();
    let mut unknown: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut gaps, mut more_gaps, mut owned) = (Vec::new(), 0_usize, 0_usize);
    for found in &contents.components {
        let is_known = data.knows(found.component.ecosystem, platform.as_ref());
        if !is_known {
            *unknown.entry(found.component.ecosystem.word()).or_default() += 1;
        }
        let mut compare = |component: &Component| {
            let Matches { findings: new, undecided } =
                advisories.matches(&scope, Package::from(component), component.evidence, &found.id);
            findings.extend(new);
            if !undecided.is_empty() {
                match gaps.len() {
                    ..GAPS_MAX => gaps.push(sentence(component, &undecided)),
                    _ => more_gaps += 1,
                }
            }
        };
        compare(&found.component);
        if is_known || !is_os(found.component.ecosystem) {
            owned += found.further.len();
        } else {
            found.further.iter().for_each(compare);
        }
    }
    if more_gaps > 0 {
        gaps.push(format!("{more_gaps} more components could not be compared with advisories that name them"));
    }
    for (word, count) in unknown {
        let of = match (word, &platform) {
            ("deb" | "rpm" | "apk", Some(platform)) => format!(" of {} {}", platform.id, platform.release),
            ("deb" | "rpm" | "apk", None) => " of an unknown distribution".to_owned(),
            _ => String::new(),
        };
        let of = of.trim_end();
        gaps.push(format!("{}{of}: no advisory is known", counted(count, word)));
    }
    for source in data.sources.iter().filter(|source| source.unread > 0) {
        gaps.push(format!("{} advisories of {} could not be read", source.unread, source.name));
    }
    let mut notes = Vec::new();
    if owned > 0 {
        notes.push(match owned {
            1 => "one component belongs to a package of the distribution, and counts as that package".to_owned(),
            _ => format!("{owned} components belong to packages of the distribution, and count as those packages"),
        });
    }
    // One package may be there under several names that one advisory has.
    findings.sort_by(|a, b| (&a.component, &a.id).cmp(&(&b.component, &b.id)));
    findings.dedup_by(|b, a| (&a.component, &a.id) == (&b.component, &b.id));
    let matched = Matched {
        advisories: data.advisories,
        sources: data.sources.iter().map(|source| source.name.clone()).collect(),
        fetched: data.fetched(),
        newest: data.newest,
        gaps,
        notes,
    };
    (findings, matched)
}

fn is_os(ecosystem: Ecosystem) -> bool {
    matches!(ecosystem, Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk)
}

fn counted(count: usize, word: &str) -> String {
    let noun = if count == 1 { "component" } else { "components" };
    format!("{count} {word} {noun}")
}

fn sentence(component: &Component, undecided: &[Undecided]) -> String {
    let named: Vec<&str> = undecided.iter().take(IDS_NAMED).map(|undecided| undecided.id.as_str()).collect();
    let more = undecided.len().saturating_sub(IDS_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let why = undecided.first().map(|undecided| undecided.why.as_str()).unwrap_or_default();
    let Component { ecosystem, name, version, .. } = component;
    let ids = named.join(", ");
    format!("{} {name} {version}: whether {ids}{more} affects it cannot be said: {why}", ecosystem.word())
}

/// What statements and ignore entries say of each finding.
fn state(contents: &Contents, findings: &mut [Finding], against: &Against<'_>) {
    let components: HashMap<&str, &Found> =
        contents.components.iter().map(|found| (found.id.as_str(), found)).collect();
    let mut on: HashMap<String, Vec<&Statement>> = HashMap::new();
    for statement in against.statements {
        for id in &statement.vulnerabilities {
            on.entry(id.to_ascii_lowercase()).or_default().push(statement);
        }
    }
    let image = &contents.image;
    let digests: Vec<String> = image.digest.iter().chain(against.digests).cloned().collect();
    let subject = Subject {
        digests: &digests,
        repository: image.repository.as_deref(),
        tag: image.tag.as_deref(),
        architecture: image.platform.as_ref().map(|platform| platform.architecture.as_str()),
    };
    for finding in findings {
        let Some(found) = components.get(finding.component.as_str()) else { continue };
        let ids: Vec<String> = finding.ids().map(str::to_owned).collect();
        let mut statements: Vec<&Statement> =
            ids.iter().filter_map(|id| on.get(&id.to_ascii_lowercase())).flatten().copied().collect();
        statements.sort_by(|a, b| (&a.document, &a.at).cmp(&(&b.document, &b.at)));
        statements.dedup_by(|a, b| std::ptr::eq(*a, *b));
        let names = std::iter::once(&found.component).chain(&found.further);
        let purls: Vec<Purl> = names.filter_map(|component| contents.purl(component).ok()).collect();
        let target = Target { vulnerability: &ids, purls: &purls, hashes: &found.hashes };
        let mut speaking = Vec::new();
        for statement in statements {
            let passed_over = match applies(statement, &subject, &target) {
                Applies::Yes => {
                    speaking.push(statement);
                    None
                }
                Applies::No(reason) => Some(reason.to_string()),
            };
            if finding.heard.len() < HEARD_MAX {
                finding.heard.push(Heard {
                    document: statement.document.clone(),
                    at: statement.at.clone(),
                    status: statement.status,
                    passed_over,
                });
            }
        }
        finding.verdict = prevailing(&speaking).and_then(|at| speaking.get(at)).map(|statement| Verdict {
            status: statement.status,
            justification: statement.justification.clone(),
            statement: statement.impact.clone().or_else(|| statement.action.clone()),
            document: statement.document.clone(),
        });
        let path = found.places.first().and_then(|place| place.chain.first()).map(String::as_str);
        let candidate = Candidate { kind: trivyignore::Kind::Vulnerability, ids: &ids, path, purls: &purls };
        finding.ignored = against.ignore.iter().find_map(|list| {
            let entry = list.entries.iter().find(|entry| entry.applies(&candidate, against.now))?;
            Some(Ignored { file: list.file.clone(), statement: entry.statement.clone(), expires: entry.expires })
        });
    }
}
