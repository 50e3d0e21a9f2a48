//! A canonical, merged tree to the typed model.

mod deploy;
mod mounts;
mod ports;
mod service;

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::interpolate::Environment;
use crate::model::{DEFAULT_NETWORK, Network, Project, Volume};

/// Longest name of a service, network or volume.
const NAME_BYTES_MAX: usize = 63;

/// Services of one project; what is checked among them grows with the square.
const SERVICES_MAX: usize = 500;

/// The project that a tree describes; what is wrong is left out and told.
pub(crate) fn project(root: &Field<'_>, environment: Environment<'_>, findings: &mut Findings<'_>) -> Project {
    if let Some(version) = root.get("version") {
        let hint = "take the line away".to_owned();
        findings.warning(version.mark, &version.path, "`version` means nothing any more", Some(hint));
    }
    let name = root.get("name").and_then(|field| field.read(findings, |text| name(text).map(|()| text.to_owned())));
    let mut services = BTreeMap::new();
    let entries = named(root, "services", findings);
    if entries.len() > SERVICES_MAX {
        let what = format!("these are {} services; a project has at most {SERVICES_MAX}", entries.len());
        findings.error(root.node.mark, "services", what);
    }
    for (key, field) in entries.into_iter().take(SERVICES_MAX) {
        services.insert(key.to_owned(), service::service(&field, environment, findings));
    }
    let mut networks: BTreeMap<_, _> = named(root, "networks", findings)
        .into_iter()
        .map(|(key, field)| (key.to_owned(), network(&field, findings)))
        .collect();
    let volumes = named(root, "volumes", findings)
        .into_iter()
        .map(|(key, field)| (key.to_owned(), volume(&field, findings)))
        .collect();
    if services.values().any(|service| service.networks.contains_key(DEFAULT_NETWORK)) {
        networks.entry(DEFAULT_NETWORK.to_owned()).or_default();
    }
    Project { name, services, networks, volumes }
}

/// The entries of a top-level mapping, after a look at their names.
fn named<'n>(root: &Field<'n>, key: &str, findings: &mut Findings<'_>) -> Vec<(&'n str, Field<'n>)> {
    let Some(section) = root.get(key) else { return Vec::new() };
    let mut good = Vec::new();
    for (key, field) in section.entries() {
        match name(key) {
            Ok(()) => good.push((key, field)),
            Err(what) => findings.error(field.mark, &field.path, what),
        }
    }
    good
}

fn name(text: &str) -> Result<(), String> {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_');
    if first && rest && text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "{text:?} cannot be a name: those have up to {NAME_BYTES_MAX} of a-z, 0-9, - and _, first a letter or digit"
    ))
}

fn network(field: &Field<'_>, findings: &mut Findings<'_>) -> Network {
    let mut section = Section { field, findings };
    let driver = section.read("driver", |text| match text {
        "bridge" => Ok(text.to_owned()),
        _ => Err(format!("Longshore does not support the network driver {text:?}: hosts have bridges")),
    });
    Network { driver, internal: section.boolean("internal"), labels: section.labels("labels") }
}

fn volume(field: &Field<'_>, findings: &mut Findings<'_>) -> Volume {
    let mut section = Section { field, findings };
    Volume {
        name: section.read("name", volume_name),
        external: section.boolean("external"),
        driver: section.string("driver"),
        labels: section.labels("labels"),
    }
}

/// The engine's rule for names of volumes, which keeps paths of the host out.
fn volume_name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} cannot be a volume's name: those have letters, digits, _, . and -, first a letter or digit"))
}
