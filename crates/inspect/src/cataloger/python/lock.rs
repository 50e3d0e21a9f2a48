//! Lock files of Python projects: TOML with a list of packages (Poetry, uv, PDM, PEP 751), and Pipenv's JSON.

use crate::cataloger::text::{decode, excerpt};
use crate::cataloger::{Report, json};
use crate::component::{Ecosystem, Evidence};

/// The longest `Pipfile.lock` that is read, in bytes.
pub const LOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest lock file in TOML that is read, in bytes.
pub const TOML_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest record of it, in bytes: that of a package with a thousand files has half as many. The parser may take 70
/// times as much memory.
const PART_BYTES_MAX: usize = 512 * 1024;

/// Reads the packages from the list of tables called `list`.
pub(super) fn read_toml(bytes: &[u8], list: &str) -> Report {
    if let Some(refused) = Report::oversized(bytes, TOML_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    for part in parts(&decode(bytes), list) {
        if part.len() > PART_BYTES_MAX {
            report.note(format!("a record of it has more than {PART_BYTES_MAX} bytes and is not read"));
            continue;
        }
        match toml::from_str::<toml::Table>(part) {
            Ok(part) => add(&mut report, &part, list),
            Err(error) => report.note(format!("it is not valid TOML: {}", error.message())),
        }
    }
    report.distinct()
}

fn add(report: &mut Report, part: &toml::Table, list: &str) {
    let packages = match part.get(list) {
        Some(toml::Value::Array(packages)) => packages.as_slice(),
        Some(_) => return report.note(format!("`{list}` is no list of packages")),
        // A project without dependencies has none.
        None => &[],
    };
    for package in packages {
        let text = |key| package.get(key).and_then(toml::Value::as_str);
        match text("name") {
            Some(name) => {
                let version = text("version").unwrap_or_default();
                report.add(Ecosystem::PyPi, Evidence::Contained, name, version, Vec::new());
            }
            None => report.note(format!("a record of `{list}` names no package")),
        }
    }
}

/// What stands before the first table, and each table of `list` with those within it. Tables that say nothing of it are
/// left out, as far as their names are plain.
fn parts<'t>(text: &'t str, list: &str) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let (mut begin, mut at, mut is_wanted) = (0, 0, true);
    for line in text.split_inclusive('\n') {
        if line.starts_with('[') {
            let name = line.trim_start_matches('[').trim_start();
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-')).unwrap_or(name.len());
            let (first, rest) = name.split_at(end);
            let is_inner = first == list && rest.trim_start().starts_with('.');
            if !is_inner {
                parts.extend(text.get(begin..at).filter(|_| is_wanted));
                (begin, is_wanted) = (at, first.is_empty() || first == list);
            }
        }
        at += line.len();
    }
    parts.extend(text.get(begin..).filter(|_| is_wanted));
    parts
}

pub(super) fn read_pipfile(bytes: &[u8]) -> Report {
    if let Some(refused) = Report::oversized(bytes, LOCK_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    let text = decode(bytes);
    let whole = json::entries(&text, |category, packages| {
        if category == "_meta" {
            return;
        }
        let read = json::entries(packages, |name, package| {
            let mut version = None;
            let read = json::entries(package, |key, value| {
                if key == "version" {
                    version = json::string(value);
                }
            });
            if read.is_err() {
                report.note(format!("the record of {} is broken", excerpt(&name)));
            }
            let version = version.unwrap_or_default();
            let version = version.trim_start_matches('=');
            report.add(Ecosystem::PyPi, Evidence::Contained, &name, version, Vec::new());
        });
        if read.is_err() {
            report.note(format!("{} is no object of packages", excerpt(&category)));
        }
    });
    if let Err(error) = whole {
        report.note(json::broken(&error));
    }
    report.distinct()
}
