//! `requirements.txt`: of pip's requirements those that are pinned with `==`.

use crate::cataloger::text::decode;
use crate::cataloger::{NAME_BYTES_MAX, Report};
use crate::component::{Ecosystem, Evidence};

/// The longest file of requirements that is read, in bytes.
pub const REQUIREMENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) fn read(bytes: &[u8]) -> Report {
    if let Some(refused) = Report::oversized(bytes, REQUIREMENTS_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    let mut goes_on = false;
    for line in decode(bytes).lines() {
        // What follows on a continued line are hashes and options.
        let continued = std::mem::replace(&mut goes_on, line.trim_end().ends_with('\\'));
        if continued {
            continue;
        }
        if let Some((name, version)) = pinned(line) {
            report.add(Ecosystem::PyPi, Evidence::Contained, name, version, Vec::new());
        }
    }
    report.distinct()
}

/// `name[extra] == version ; marker --hash … # comment`.
fn pinned(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let (before, after) = line.split_once("==")?;
    let name = before.split('[').next().unwrap_or_default().trim_end();
    let rest = before.get(name.len()..).unwrap_or_default().trim();
    if !is_name(name) || !(rest.is_empty() || (rest.starts_with('[') && rest.ends_with(']'))) {
        return None;
    }
    let after = after.strip_prefix('=').unwrap_or(after).trim_start();
    let end = after.find(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '#' | '\\')).unwrap_or(after.len());
    let (version, tail) = after.split_at_checked(end)?;
    // Of several conditions an `==` is still the only version that meets them.
    let plain = version.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'!' | b'+' | b'-' | b'_'));
    let ends = tail.trim_start();
    let well = ends.is_empty() || ends.starts_with([';', ',', '#', '\\']) || ends.starts_with("--");
    (plain && well && version.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some((name, version))
}

fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(inner)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}
