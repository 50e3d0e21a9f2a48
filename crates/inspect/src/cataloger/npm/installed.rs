//! `package.json`, as npm's documentation describes it.

use crate::cataloger::text::decode;
use crate::cataloger::{Report, file_name, folder, json};
use crate::component::{Ecosystem, Evidence};

/// The longest `package.json` that is read, in bytes.
pub const PACKAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) fn read(path: &[u8], bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let (mut name, mut version) = (None, None);
    let (mut licence, mut licences) = (None, None);
    let text = decode(bytes);
    let read = json::entries(&text, |key, value| match key.as_ref() {
        "name" => name = json::string(value),
        "version" => version = json::string(value),
        "license" | "licence" => licence = json::choice(value),
        "licenses" => licences = json::choice(value),
        _ => {}
    });
    if let Err(error) = read {
        // Test data of packages is full of broken ones, but a broken one may hide a package all the same.
        report.note(json::broken(&error));
    }
    let (Some(name), Some(version)) = (name, version) else { return report };
    if name.is_empty() || version.is_empty() {
        return report;
    }
    let evidence = if is_package_root(folder(path)) { Evidence::Installed } else { Evidence::Contained };
    report.add(Ecosystem::Npm, evidence, &name, &version, licence.or(licences).into_iter().collect());
    report
}

/// Whether the folder is `node_modules/NAME` or `node_modules/@SCOPE/NAME`.
fn is_package_root(path: &[u8]) -> bool {
    let mut parent = folder(path);
    if file_name(parent).starts_with(b"@") {
        parent = folder(parent);
    }
    matches!(file_name(parent), b"node_modules" | b"nodejs")
}
