//! `package.json`, as npm's documentation describes it.

use crate::cataloger::text::decode;
use crate::cataloger::{Report, file_name, folder, json};
use crate::component::{Ecosystem, Evidence};

/// The longest `package.json` that is read, in bytes.
pub const PACKAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) fn read(path: &[u8], bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let (mut name, mut version) = (None, None);
    let mut is_private = false;
    let (mut licence, mut licences) = (None, None);
    let text = decode(bytes);
    let read = json::entries(&text, |key, value| match key.as_ref() {
        "name" => name = json::string(value),
        "version" => version = json::string(value),
        "license" | "licence" => licence = json::choice(value),
        "licenses" => licences = json::choice(value),
        "private" => is_private = value.trim() == "true",
        _ => {}
    });
    if let Err(error) = read {
        // Test data of packages is full of broken ones, but a broken one may hide a package all the same.
        report.note(json::broken(&error));
    }
    let name = name.unwrap_or_default();
    let version = version.unwrap_or_default();
    let evidence = if version.is_empty() {
        if is_private || !is_package_name(&name) || !is_below_packages(path) {
            return report;
        }
        Evidence::Contained
    } else if is_package_root(folder(path)) {
        Evidence::Installed
    } else {
        Evidence::Contained
    };
    if !name.is_empty() {
        report.add(Ecosystem::Npm, evidence, &name, &version, licence.or(licences).into_iter().collect());
    }
    report
}

/// Whether a package can have that name: `NAME` or `@SCOPE/NAME`. `rxjs/ajax` is the name of a folder within one.
fn is_package_name(name: &str) -> bool {
    let name = match name.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').map_or("", |(_, name)| name),
        None => name,
    };
    !name.is_empty() && !name.contains('/')
}

/// Whether a package that was installed has the file. Those carry copies of others, `dist/compiled/acorn`, with
/// `package.json` cut down to the name and the licence: which version it is cannot be told, but it is there.
fn is_below_packages(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|folder| folder == b"node_modules")
}

/// Whether the folder is `node_modules/NAME` or `node_modules/@SCOPE/NAME`.
fn is_package_root(path: &[u8]) -> bool {
    let mut parent = folder(path);
    if file_name(parent).starts_with(b"@") {
        parent = folder(parent);
    }
    matches!(file_name(parent), b"node_modules" | b"nodejs")
}
