//! Lock files of Python projects: TOML with a list of packages (Poetry, uv, PDM, PEP 751), and Pipenv's JSON.

use crate::cataloger::text::{decode, excerpt};
use crate::cataloger::{Report, json};
use crate::component::{Ecosystem, Evidence};

/// The longest `Pipfile.lock` that is read, in bytes.
pub const LOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest lock file in TOML that is read, in bytes.
pub const TOML_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads the packages from the list of tables called `list`.
pub(super) fn read_toml(bytes: &[u8], list: &str) -> Report {
    if let Some(refused) = Report::oversized(bytes, TOML_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    let lock: toml::Table = match toml::from_str(&decode(bytes)) {
        Ok(lock) => lock,
        Err(error) => {
            report.note(format!("it is not valid TOML: {}", error.message()));
            return report;
        }
    };
    let packages = match lock.get(list) {
        Some(toml::Value::Array(packages)) => packages.as_slice(),
        Some(_) => {
            report.note(format!("`{list}` is no list of packages"));
            return report;
        }
        // A project without dependencies has none.
        None => &[],
    };
    for (place, package) in packages.iter().enumerate() {
        let text = |key| package.get(key).and_then(toml::Value::as_str);
        match text("name") {
            Some(name) => {
                let version = text("version").unwrap_or_default();
                report.add(Ecosystem::PyPi, Evidence::Contained, name, version, Vec::new());
            }
            None => report.note(format!("record {} of `{list}` names no package", place + 1)),
        }
    }
    report.distinct()
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
