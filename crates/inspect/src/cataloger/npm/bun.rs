//! `bun.lock`: JSON with commas before closing brackets; `packages` maps a place to `["NAME@VERSION", …]`.

use super::{is_version, split};
use crate::cataloger::text::{decode, excerpt};
use crate::cataloger::{Report, json};
use crate::component::{Ecosystem, Evidence};

pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let text = plain(&decode(bytes));
    let whole = json::entries(&text, |key, value| {
        if key != "packages" {
            return;
        }
        let read = json::entries(value, |place, package| {
            let mut first = None;
            let read = json::items(package, |item| {
                if first.is_none() {
                    first = Some(json::string(item).unwrap_or_default());
                }
            });
            match (read, first.as_deref().and_then(split)) {
                (Ok(()), Some((name, version))) if is_version(version) => {
                    report.add(Ecosystem::Npm, Evidence::Contained, name, version, Vec::new());
                }
                // The project's own, by their place in it.
                (Ok(()), Some((_, reference))) if own(reference) => {}
                (Ok(()), Some((name, _))) => report.add(Ecosystem::Npm, Evidence::Contained, name, "", Vec::new()),
                _ => report.note(format!("the record of {} is broken", excerpt(&place))),
            }
        });
        if read.is_err() {
            report.note("its `packages` are no object, or break off");
        }
    });
    if let Err(error) = whole {
        report.note(json::broken(&error));
    }
    report.distinct()
}

fn own(reference: &str) -> bool {
    reference.starts_with("workspace:") || reference.starts_with("link:") || reference.starts_with("root:")
}

/// JSON without comments and without commas that nothing follows.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    // Where a comma was written after which only spaces and comments came.
    let mut comma = None;
    while let Some(at) = rest.find(['"', ',', '/', ']', '}']) {
        let (before, from) = rest.split_at(at);
        if !before.trim().is_empty() {
            comma = None;
        }
        plain.push_str(before);
        if let Some(comment) = from.strip_prefix("//") {
            rest = comment.find('\n').and_then(|end| comment.get(end..)).unwrap_or_default();
            continue;
        }
        if let Some(comment) = from.strip_prefix("/*") {
            rest = comment.find("*/").and_then(|end| comment.get(end + 2..)).unwrap_or_default();
            continue;
        }
        let length = if from.starts_with('"') { string_length(from) } else { 1 };
        match from.as_bytes().first() {
            Some(b']' | b'}') => {
                if let Some(comma) = comma.take() {
                    plain.replace_range(comma..=comma, " ");
                }
            }
            Some(b',') => comma = Some(plain.len()),
            _ => comma = None,
        }
        let (token, after) = from.split_at(length);
        plain.push_str(token);
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Bytes of the string that begins here, quotes included; all there is where it does not end.
fn string_length(text: &str) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find(['"', '\\'])) {
        let found = at + found;
        if text.as_bytes().get(found) == Some(&b'"') {
            return found + 1;
        }
        // What is escaped may be a character of several bytes.
        let escaped = text.get(found + 1..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        at = found + 1 + escaped;
    }
    text.len()
}
