//! npm's `package-lock.json` and `npm-shrinkwrap.json`: version 1 nests `dependencies`, version 3 lists `packages` by
//! their place, version 2 has both.

use super::{NESTING_MAX, is_version, split};
use crate::cataloger::text::{decode, excerpt};
use crate::cataloger::{Report, json};
use crate::component::{Ecosystem, Evidence};

const FOLDER: &str = "node_modules/";

pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let text = decode(bytes);
    let (mut name, mut version) = (None, None);
    let mut has_packages = false;
    let whole = json::entries(&text, |key, value| match key.as_ref() {
        "name" => name = json::string(value),
        "version" => version = json::string(value),
        "packages" => {
            has_packages = true;
            if json::entries(value, |place, package| placed(&mut report, &place, package)).is_err() {
                report.note("its `packages` are no object, or break off");
            }
        }
        "dependencies" => nested(&mut report, value, 1),
        _ => {}
    });
    if let Err(error) = whole {
        report.note(json::broken(&error));
    }
    // With `packages` the project itself stands there, at the empty place.
    if let (false, Some(name), Some(version)) = (has_packages, name, version) {
        report.add(Ecosystem::Npm, Evidence::Contained, &name, &version, Vec::new());
    }
    report.distinct()
}

fn placed(report: &mut Report, place: &str, package: &str) {
    let (mut name, mut version, mut licence) = (None, None, None);
    let mut link = false;
    let read = json::entries(package, |key, value| match key.as_ref() {
        "name" => name = json::string(value),
        "version" => version = json::string(value),
        "license" => licence = json::choice(value),
        "link" => link = value == "true",
        _ => {}
    });
    if read.is_err() {
        report.note(format!("the record of {} is broken", excerpt(place)));
    }
    // A link points at a folder of the project, which has its own record.
    if link {
        return;
    }
    // An alias says what it really is; elsewhere the name is that of the place.
    let placed = place.rfind(FOLDER).and_then(|at| place.get(at + FOLDER.len()..));
    let Some(name) = name.as_deref().or(placed) else { return };
    let Some(version) = version else {
        // The project itself and its workspaces may go without.
        if placed.is_some() {
            report.note(format!("the record of {} states no version", excerpt(place)));
        }
        return;
    };
    report.add(Ecosystem::Npm, Evidence::Contained, name, &version, licence.into_iter().collect());
}

fn nested(report: &mut Report, dependencies: &str, depth: usize) {
    if depth > NESTING_MAX {
        return report.note(format!("dependencies nest more than {NESTING_MAX} deep; the inner ones are not read"));
    }
    let whole = json::entries(dependencies, |place, package| {
        let mut version = None;
        let mut inner = Vec::new();
        let read = json::entries(package, |key, value| match key.as_ref() {
            "version" => version = json::string(value),
            "dependencies" => inner.push(value),
            _ => {}
        });
        if read.is_err() {
            report.note(format!("the record of {} is broken", excerpt(&place)));
        }
        if let Some(version) = version {
            let alias = version.strip_prefix("npm:").and_then(split);
            let (name, version) = alias.unwrap_or((&place, &version));
            let version = if is_version(version) { version } else { "" };
            report.add(Ecosystem::Npm, Evidence::Contained, name, version, Vec::new());
        }
        for dependencies in inner {
            nested(report, dependencies, depth + 1);
        }
    });
    if whole.is_err() {
        report.note("its `dependencies` are no object, or break off");
    }
}
