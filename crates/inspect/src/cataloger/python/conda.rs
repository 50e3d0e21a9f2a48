//! Conda's records of what it installed: `conda-meta/NAME-VERSION-BUILD.json`.

use crate::cataloger::text::decode;
use crate::cataloger::{Report, json};
use crate::component::{Ecosystem, Evidence};

/// The longest record that is read, in bytes; it lists all files of its package.
pub const CONDA_BYTES_MAX: usize = 32 * 1024 * 1024;

pub(super) fn read(bytes: &[u8]) -> Report {
    if let Some(refused) = Report::oversized(bytes, CONDA_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    let (mut name, mut version, mut licence) = (None, None, None);
    let text = decode(bytes);
    let read = json::entries(&text, |key, value| match key.as_ref() {
        "name" => name = json::string(value),
        "version" => version = json::string(value),
        "license" => licence = json::string(value),
        _ => {}
    });
    if let Err(error) = read {
        report.note(json::broken(&error));
    }
    match name {
        Some(name) => {
            let licences = licence.map(|licence| licence.into_owned()).into_iter().collect();
            // These are no PyPI packages: conda's `openssl` is the C library.
            report.add(Ecosystem::Generic, Evidence::Installed, &name, &version.unwrap_or_default(), licences);
        }
        None => report.note("it names no package"),
    }
    report
}
