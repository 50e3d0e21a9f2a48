//! `yarn.lock`: the form of Yarn 1, and Yarn's own narrow use of YAML since version 2 ("berry").
//!
//! Both are lines of one shape: a key at the margin, its fields two spaces in.

use super::split;
use crate::cataloger::Report;
use crate::cataloger::text::{decode, excerpt};
use crate::component::{Ecosystem, Evidence};

/// One entry while its lines are read.
#[derive(Default)]
struct Entry<'a> {
    key: &'a str,
    version: Option<&'a str>,
    resolution: Option<&'a str>,
}

pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let text = decode(bytes);
    let mut entry = Entry::default();
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            // A long key in YAML: `? KEY`, and its fields after a line `:`.
            if line == ":" {
                continue;
            }
            finish(&mut report, std::mem::take(&mut entry));
            match line.strip_prefix("? ").or_else(|| line.strip_suffix(':')) {
                Some(key) => entry.key = key,
                None => report.note(format!("the line {} is no key of an entry", excerpt(line))),
            }
            continue;
        }
        let Some(field) = line.strip_prefix("  ").filter(|field| !field.starts_with(' ')) else { continue };
        if let Some(value) = field.strip_prefix("version") {
            entry.version = value_of(value);
        } else if let Some(value) = field.strip_prefix("resolution:") {
            entry.resolution = value_of(value);
        }
    }
    finish(&mut report, entry);
    report.distinct()
}

/// `: "1.2"`, ` "1.2"`, `: 1.2`.
fn value_of(text: &str) -> Option<&str> {
    let value = text.strip_prefix(':').unwrap_or(text).strip_prefix(' ')?.trim();
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

fn finish(report: &mut Report, entry: Entry<'_>) {
    if entry.key.is_empty() || entry.key == "__metadata" {
        return;
    }
    let first = entry.key.trim_start_matches('"').split([',', '"']).next().unwrap_or_default();
    let named = match entry.resolution {
        Some(resolution) => split(resolution),
        // An alias: `wrapped@npm:real@^1`.
        None => split(first).map(|(name, range)| range.strip_prefix("npm:").and_then(split).unwrap_or((name, range))),
    };
    let (Some((name, reference)), Some(version)) = (named, entry.version) else {
        return report.note(format!("the entry {} lacks a name or version", excerpt(first)));
    };
    // The project's own packages, and links into it: their version is a stand-in.
    if entry.resolution.is_some() && ["workspace:", "link:", "portal:"].iter().any(|own| reference.starts_with(own)) {
        return;
    }
    report.add(Ecosystem::Npm, Evidence::Contained, name, version, Vec::new());
}
