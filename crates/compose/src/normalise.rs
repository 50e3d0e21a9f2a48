//! A canonical, merged tree to the typed model.

mod build;
mod deploy;
mod develop;
mod files;
mod mounts;
mod networks;
mod ports;
mod service;
mod settings;

pub(crate) use files::variables;
pub(crate) use mounts::{is_path, mount_target, split_short};

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{DEFAULT_NETWORK, Project, Volume};
use crate::scalar;
use crate::stage::Context;

/// Longest name of a service, network or volume.
const NAME_BYTES_MAX: usize = 63;

/// Services of one project; what is checked among them grows with the square.
const SERVICES_MAX: usize = 500;

/// The project that a tree describes; what is wrong is left out and told.
pub(crate) fn project(root: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Project {
    if let Some(version) = root.get("version") {
        let hint = "take the line away".to_owned();
        findings.warning(version.mark, &version.path, "`version` means nothing any more", Some(hint));
    }
    let name =
        root.get("name").and_then(|field| field.read(findings, |text| strict_name(text).map(|()| text.to_owned())));
    let mut services = BTreeMap::new();
    let entries = named(root, "services", context, findings);
    if entries.len() > SERVICES_MAX {
        let what = format!("these are {} services; a project has at most {SERVICES_MAX}", entries.len());
        findings.error(root.node.mark, "services", what);
    }
    for (key, field) in entries.into_iter().take(SERVICES_MAX) {
        services.insert(key.to_owned(), service::service(&field, context, findings));
    }
    let mut networks: BTreeMap<_, _> = named(root, "networks", context, findings)
        .into_iter()
        .map(|(key, field)| (key.to_owned(), networks::network(&field, context, findings)))
        .collect();
    let volumes = named(root, "volumes", context, findings)
        .into_iter()
        .map(|(key, field)| (key.to_owned(), volume(key, &field, context, findings)))
        .collect();
    if services.values().any(|service| service.networks.contains_key(DEFAULT_NETWORK)) {
        networks.entry(DEFAULT_NETWORK.to_owned()).or_default();
    }
    let mut sources = |key: &'static str| {
        named(root, key, context, findings)
            .into_iter()
            .filter_map(|(name, field)| Some((name.to_owned(), files::source(&field, context, findings)?)))
            .collect()
    };
    let (configs, secrets) = (sources("configs"), sources("secrets"));
    Project { name, services, networks, volumes, configs, secrets }
}

/// The entries of a top-level mapping, after a look at their names.
fn named<'n>(
    root: &Field<'n>,
    key: &str,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Vec<(&'n str, Field<'n>)> {
    let Some(section) = root.get(key) else { return Vec::new() };
    let mut good = Vec::new();
    for (key, field) in section.entries() {
        let read = if context.workspace() { name(key) } else { strict_name(key) };
        match read {
            Ok(()) => good.push((key, field)),
            Err(what) => findings.error(field.mark, &field.path, what),
        }
    }
    good
}

/// The rule for names in a release, which also become parts of names of hosts.
fn strict_name(text: &str) -> Result<(), String> {
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

/// The specification's rule for names.
fn name(text: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && text.bytes().all(good) && text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "{text:?} cannot be a name: those have up to {NAME_BYTES_MAX} letters, digits, _, . and -, first a letter or digit"
    ))
}

fn volume(key: &str, field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Volume {
    let (external, external_name) = external(field, context, findings);
    let mut section = Section { field, findings };
    let name = section.read("name", volume_name).or(external_name);
    Volume {
        // An external volume without a name of its own has its key's; a release's host knows that by itself.
        name: name.or_else(|| (external && context.workspace()).then(|| key.to_owned())),
        external,
        driver: section.string("driver"),
        labels: section.labels("labels"),
        driver_opts: section.labels("driver_opts"),
    }
}

/// `external: true`, and the old `external: {name: …}`. What else is said of an external object would be lost.
fn external(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> (bool, Option<String>) {
    let Some(external) = field.get("external") else { return (false, None) };
    if !context.workspace() {
        return (external.read(findings, scalar::boolean).unwrap_or(false), None);
    }
    let (is, name) = if external.is_map() {
        (true, Section { field: &external, findings }.string("name"))
    } else {
        (external.read(findings, scalar::boolean).unwrap_or(false), None)
    };
    if is {
        for (key, other) in field.entries() {
            if !matches!(key, "external" | "name") && !key.starts_with("x-") && !other.is_empty() {
                let what = format!("what is external was made elsewhere, so {key} says nothing here");
                findings.error_with_hint(other.mark, &other.path, what, format!("take {key} or external away"));
            }
        }
    }
    (is, name)
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
