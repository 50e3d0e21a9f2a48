//! PHP packages: Composer's record of what it installed, and its lock file.

#[cfg(test)]
mod tests;

use super::text::{decode, excerpt};
use super::{Report, file_name, json};
use crate::component::{Ecosystem, Evidence};

/// The longest record or lock file that is read, in bytes.
pub const COMPOSER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Whether this is a file to [`read`].
pub fn wants(path: &[u8]) -> bool {
    match path.last() {
        Some(b'n') => is_installed(path),
        Some(b'k') => file_name(path) == b"composer.lock",
        _ => false,
    }
}

fn is_installed(path: &[u8]) -> bool {
    // The folder `vendor` may have another name in a project's settings.
    path.ends_with(b"composer/installed.json") && file_name(super::folder(path)) == b"composer"
}

/// Reads one file: `installed.json` of Composer 1 (a list) or 2 (an object), or `composer.lock`.
pub fn read(path: &[u8], bytes: &[u8]) -> Report {
    if let Some(refused) = Report::oversized(bytes, COMPOSER_BYTES_MAX) {
        return refused;
    }
    let evidence = if is_installed(path) { Evidence::Installed } else { Evidence::Contained };
    let mut report = Report::default();
    let text = decode(bytes);
    let text = text.trim_start();
    let whole = if json::is_array(text) {
        json::items(text, |record| package(&mut report, evidence, record))
    } else {
        json::entries(text, |key, value| {
            let listed = matches!(key.as_ref(), "packages" | "packages-dev");
            // `packages-dev` is null after an installation without it.
            if listed && value != "null" && json::items(value, |record| package(&mut report, evidence, record)).is_err()
            {
                report.note(format!("its {} are no list, or break off", excerpt(&key)));
            }
        })
    };
    if let Err(error) = whole {
        report.note(json::broken(&error));
    }
    report.distinct()
}

fn package(report: &mut Report, evidence: Evidence, record: &str) {
    let (mut name, mut version, mut licence) = (None, None, None);
    let read = json::entries(record, |key, value| match key.as_ref() {
        "name" => name = json::string(value),
        "version" => version = json::string(value),
        // Of several the user may choose: Composer's documentation of `license`.
        "license" => licence = json::choice(value),
        _ => {}
    });
    match (read, name) {
        (Ok(()), Some(name)) => {
            let licences = licence.into_iter().collect();
            report.add(Ecosystem::Composer, evidence, &name, &version.unwrap_or_default(), licences);
        }
        _ => report.note("a record names no package, or is no object"),
    }
}
