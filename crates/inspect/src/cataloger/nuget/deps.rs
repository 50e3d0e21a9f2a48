//! `*.deps.json`: what the .NET SDK wrote of the libraries that a program was built with.
//!
//! `libraries` maps `NAME/VERSION` to their kind: `package`, `runtimepack`, and `project` for what was built there.

use crate::cataloger::text::{decode, excerpt};
use crate::cataloger::{Report, json};
use crate::component::{Ecosystem, Evidence};

pub(super) fn read(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let text = decode(bytes);
    let whole = json::entries(&text, |key, value| {
        if key != "libraries" {
            return;
        }
        let read = json::entries(value, |library, record| {
            if !json::is_object(record) {
                report.note(format!("the record of {} is broken", excerpt(&library)));
            }
            match library.split_once('/') {
                // The SDK puts the kind of a runtime pack before the package's name.
                Some((name, version)) => {
                    let name = name.strip_prefix("runtimepack.").unwrap_or(name);
                    report.add(Ecosystem::NuGet, Evidence::Installed, name, version, Vec::new());
                }
                None => report.note(format!("the library {} has no version", excerpt(&library))),
            }
        });
        if read.is_err() {
            report.note("its `libraries` are no object, or break off");
        }
    });
    if let Err(error) = whole {
        report.note(json::broken(&error));
    }
    report.distinct()
}
