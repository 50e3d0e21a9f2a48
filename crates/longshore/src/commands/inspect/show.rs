//! What people see of it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use ::inspect::archive::escaped;
use ::inspect::document::vex::Status;
use ::inspect::document::{self, Contents, Finding, Found, Severity};
use ::inspect::licence::Verdict;

use super::Licensed;
use crate::output;

/// Components that are listed on a terminal, so that what is wrong with them need not be looked for.
const COMPONENTS_SHOWN: usize = 40;
/// Places that are named of one component.
const PLACES_SHOWN: usize = 1;
/// Things of one kind that are named one by one on standard error.
const SHOWN: usize = 20;
/// Characters of a cell, so that a row of findings fits a terminal.
const NAME_CHARS: usize = 26;
const VERSION_CHARS: usize = 18;

/// Says what is inside, then what is wrong with it, the worst first, then how sure that is: what matters most is nearest to
/// the prompt.
pub(super) fn table(contents: &Contents, licensed: &[Licensed]) {
    let image = &contents.image;
    let digest = image.digest.as_deref().map(|digest| format!(" {digest}")).unwrap_or_default();
    let system = contents
        .operating_system
        .as_ref()
        .map(|system| format!(", {}", escaped(system.name.as_bytes())))
        .unwrap_or_default();
    let name = escaped(image.name.as_bytes());
    output::note(&format!("{name}{digest}: {}{system}", output::count(contents.components.len(), "component")));
    let shown = if std::io::stdout().is_terminal() { COMPONENTS_SHOWN } else { usize::MAX };
    components(contents, shown);
    licences(licensed);
    secrets(contents);
    findings(contents);
    let unexamined = &contents.unexamined;
    let left: Vec<String> = unexamined.iter().map(|left| format!("{}: {}", left.place.text(), left.why)).collect();
    listed(&format!("Not examined: {}", output::count(unexamined.len(), "part")), &left);
    if let Some(matched) = &contents.matched {
        listed("Not compared with advisories:", &matched.gaps);
        matched.notes.iter().for_each(|note| output::note(&format!("\nNote: {}.", escaped(note.as_bytes()))));
    }
}

/// The components; on a terminal the first of them, and how many of each kind there are.
fn components(contents: &Contents, shown: usize) {
    let all = &contents.components;
    let rows: Vec<Vec<String>> = all.iter().take(shown).map(component).collect();
    output::table(&["TYPE", "NAME", "VERSION", "EVIDENCE", "LAYER", "WHERE"], &rows, "");
    let more = all.len().saturating_sub(rows.len());
    if more > 0 {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        all.iter().for_each(|found| *kinds.entry(found.component.ecosystem.word()).or_default() += 1);
        let kinds: Vec<String> = kinds.iter().map(|(word, count)| format!("{count} {word}")).collect();
        output::note(&format!(
            "and {more} more, of {} in all: {}. A pipe gets all of them, and --format json.",
            all.len(),
            kinds.join(", ")
        ));
    }
}

fn findings(contents: &Contents) {
    let Some(matched) = &contents.matched else { return };
    let mut counting: Vec<&Finding> = contents.findings.iter().filter(|finding| finding.counts()).collect();
    // What nobody rated may be grave: it stands before what is known to be low.
    let rank = |finding: &Finding| match finding.severity {
        Severity::Critical => 0,
        Severity::High => 1,
        Severity::Medium => 2,
        Severity::Unknown => 3,
        Severity::Low => 4,
        Severity::None => 5,
    };
    counting.sort_by_key(|finding| (rank(finding), !finding.known_exploited, &finding.component, &finding.id));
    let rows: Vec<Vec<String>> = counting.iter().map(|finding| a_finding(contents, finding)).collect();
    if !rows.is_empty() {
        output::line("");
        output::table(&["SEVERITY", "ID", "COMPONENT", "VERSION", "FIXED IN", ""], &rows, "");
    }
    let of = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Unknown, Severity::None]
        .into_iter()
        .filter_map(|severity| {
            let count = counting.iter().filter(|finding| finding.severity == severity).count();
            (count > 0).then(|| format!("{count} {}", severity.word()))
        });
    let of: Vec<String> = of.collect();
    let settled: Vec<&Finding> = contents.findings.iter().filter(|finding| !finding.counts()).collect();
    let reasons: Vec<String> = settled.iter().map(|finding| set_aside(finding)).collect();
    listed("Set aside:", &reasons);
    let advisories = output::count(usize::try_from(matched.advisories).unwrap_or(usize::MAX), "advisory");
    let said = match (counting.len(), matched.gaps.is_empty() && contents.unexamined.is_empty()) {
        (0, true) => "no vulnerability found".to_owned(),
        (0, false) => "no vulnerability found in what was compared".to_owned(),
        (count, _) => format!("{} ({})", output::count(count, "vulnerability"), of.join(", ")),
    };
    let lifted = match settled.len() {
        0 => String::new(),
        count => format!(", {count} set aside"),
    };
    output::note(&format!("\nCompared with {advisories}: {said}{lifted}"));
}

fn a_finding(contents: &Contents, finding: &Finding) -> Vec<String> {
    let found = contents.components.iter().find(|found| found.id == finding.component);
    let (name, version) = found.map(|found| (&*found.component.name, &*found.component.version)).unwrap_or_default();
    let mut notes = Vec::new();
    if finding.known_exploited {
        notes.push("exploited".to_owned());
    }
    if let Some(epss) = finding.epss.filter(|epss| epss.score >= 0.1) {
        notes.push(format!("EPSS {:.0} %", epss.score * 100.0));
    }
    if let Some(verdict) = &finding.verdict {
        notes.push(verdict.status.word().replace('_', " "));
    }
    let fixed = finding.fixed_in.first().map_or("", String::as_str);
    vec![
        finding.severity.word().to_uppercase(),
        escaped(finding.id.as_bytes()),
        cut(name, NAME_CHARS, true),
        cut(version, VERSION_CHARS, false),
        cut(fixed, VERSION_CHARS, false),
        notes.join(", "),
    ]
}

/// Why a finding does not count.
fn set_aside(finding: &Finding) -> String {
    let why = match (&finding.ignored, &finding.verdict) {
        (Some(ignored), _) => format!("ignored by {}", ignored.text()),
        (None, Some(verdict)) => {
            let reason = verdict.justification.as_ref().map(|reason| format!(", {}", reason.word().replace('_', " ")));
            let statement = verdict.statement.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            let status = match verdict.status {
                Status::Fixed => "fixed",
                _ => "not affected",
            };
            format!("{status}{}, says {}{statement}", reason.unwrap_or_default(), verdict.document)
        }
        (None, None) => String::new(),
    };
    format!("{} of {}: {why}", finding.id, finding.component)
}

fn secrets(contents: &Contents) {
    let rows: Vec<Vec<String>> = contents
        .secrets
        .iter()
        .map(|secret| {
            let line = secret.line.map(|line| format!(":{line}")).unwrap_or_default();
            vec![
                secret.rule.clone(),
                escaped(secret.redacted.as_bytes()),
                secret.place.layer.map(|layer| (layer + 1).to_string()).unwrap_or_default(),
                format!("{}{line}{}", secret.place.text(), if secret.deleted { " (deleted later)" } else { "" }),
            ]
        })
        .collect();
    if !rows.is_empty() {
        output::line("");
        output::table(&["SECRET", "WHAT", "LAYER", "WHERE"], &rows, "");
    }
}

fn licences(licensed: &[Licensed]) {
    let word = |verdict: Verdict| match verdict {
        Verdict::Allow => "allow",
        Verdict::Warn => "warn",
        Verdict::Deny => "deny",
    };
    let rows: Vec<Vec<String>> = licensed
        .iter()
        .map(|licensed| {
            let component = escaped(licensed.component.as_bytes());
            vec![word(licensed.verdict).to_owned(), component, escaped(licensed.licences.as_bytes())]
        })
        .collect();
    if !rows.is_empty() {
        output::line("");
        output::table(&["POLICY", "COMPONENT", "LICENCE"], &rows, "");
    }
}

/// Some things on standard error, the first of them by name.
fn listed(heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    output::note(&format!("\n{heading}"));
    lines.iter().take(SHOWN).for_each(|line| output::note(&format!("  {}", escaped(line.as_bytes()))));
    if lines.len() > SHOWN {
        output::note("  and more: --format json has them all");
    }
}

/// A text that fits: of a name the end tells most, of a version the beginning.
fn cut(text: &str, chars: usize, keeps_end: bool) -> String {
    let text = escaped(text.as_bytes());
    let count = text.chars().count();
    if count <= chars {
        return text;
    }
    if keeps_end {
        let rest: String = text.chars().skip(count + 1 - chars).collect();
        return format!("…{rest}");
    }
    let rest: String = text.chars().take(chars - 1).collect();
    format!("{rest}…")
}

fn component(found: &Found) -> Vec<String> {
    let component = &found.component;
    let layer = found.places.first().and_then(|place| place.layer).map(|layer| (layer + 1).to_string());
    let shown: Vec<String> = found.places.iter().take(PLACES_SHOWN).map(document::Place::text).collect();
    let more = found.places.len().saturating_sub(PLACES_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    vec![
        component.ecosystem.word().to_owned(),
        escaped(component.name.as_bytes()),
        escaped(component.version.as_bytes()),
        component.evidence.word().to_owned(),
        layer.unwrap_or_default(),
        shown.join(" ") + &more,
    ]
}
