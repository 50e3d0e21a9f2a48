//! `packages.lock.json`: for each target framework the packages with the version they resolve to.

use crate::cataloger::text::{decode, excerpt};
use crate::cataloger::{Report, json};
use crate::component::{Ecosystem, Evidence};

pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let text = decode(bytes);
    let whole = json::entries(&text, |key, value| {
        if key != "dependencies" {
            return;
        }
        let read = json::entries(value, |framework, packages| {
            if json::entries(packages, |name, record| package(&mut report, &name, record)).is_err() {
                report.note(format!("the packages of {} are no object, or break off", excerpt(&framework)));
            }
        });
        if read.is_err() {
            report.note("its `dependencies` are no object, or break off");
        }
    });
    if let Err(error) = whole {
        report.note(json::broken(&error));
    }
    report.distinct()
}

fn package(report: &mut Report, name: &str, record: &str) {
    let (mut version, mut kind) = (None, None);
    let read = json::entries(record, |key, value| match key.as_ref() {
        "resolved" => version = json::string(value),
        "type" => kind = json::string(value),
        _ => {}
    });
    match (read, version) {
        (Ok(()), Some(version)) => report.add(Ecosystem::NuGet, Evidence::Contained, name, &version, Vec::new()),
        // Another project of the same solution has none.
        (Ok(()), None) if kind.as_deref() == Some("Project") => {}
        _ => report.note(format!("the record of {} is broken or has no version", excerpt(name))),
    }
}
