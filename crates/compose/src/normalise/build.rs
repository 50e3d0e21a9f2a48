//! How a service's image is built.

use std::collections::BTreeMap;

use super::service::{extra_hosts, ulimits};
use super::settings::platform;
use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{Build, is_address};
use crate::scalar;
use crate::stage::Context;

pub(super) fn build(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Build {
    let mut section = Section { field, findings };
    // Without a value an argument is the environment's; the Dockerfile's own default holds when that has none.
    let args = match section.get("args") {
        Some(args) => args
            .pairs(section.findings)
            .into_iter()
            .filter_map(|(name, value)| value.or_else(|| (context.environment)(&name)).map(|value| (name, value)))
            .collect(),
        None => BTreeMap::new(),
    };
    let workspace = context.workspace();
    let inline = section.string("dockerfile_inline");
    if let (Some(_), Some(file)) = (&inline, section.get("dockerfile")) {
        let what = "dockerfile and dockerfile_inline both say what is built";
        section.findings.error_with_hint(file.mark, &file.path, what, "take one of them away".to_owned());
    }
    Build {
        context: section
            .read("context", |text| if workspace { laptop_context(text) } else { build_context(text) })
            .unwrap_or_else(|| ".".to_owned()),
        dockerfile: section
            .read("dockerfile", |text| if workspace { scalar::machine_path(text) } else { dockerfile(text) }),
        args,
        target: section.string("target"),
        labels: section.labels("labels"),
        network: section.read("network", |text| match text {
            "default" | "host" | "none" => Ok(text.to_owned()),
            _ if workspace => Err(format!("the engine's builder has no network {text:?}, only default, host and none")),
            _ => Ok(text.to_owned()),
        }),
        dockerfile_inline: inline,
        extra_hosts: extra_hosts(&mut section),
        no_cache: section.boolean("no_cache"),
        pull: section.boolean("pull"),
        platform: platforms(&mut section),
        cache_from: section.strings("cache_from"),
        shm_size_bytes: section.read("shm_size", scalar::bytes),
        tags: section.names("tags"),
        ulimits: ulimits(&mut section),
    }
}

/// The one platform that is built for: an engine keeps one image under a reference.
fn platforms(section: &mut Section<'_, '_, '_, '_>) -> Option<String> {
    let field = section.get("platforms")?;
    let named: Vec<String> = field.read_all(section.findings, platform);
    if named.len() > 1 {
        let what = "Longshore does not support several platforms in a workspace";
        field.error_with_hint(section.findings, what, "name the one that the engine runs".to_owned());
    }
    named.into_iter().next()
}

/// A folder, or an address that the engine fetches.
fn laptop_context(text: &str) -> Result<String, String> {
    if is_address(text) { Ok(text.to_owned()) } else { scalar::machine_path(text) }
}

fn build_context(text: &str) -> Result<String, String> {
    if is_address(text) {
        return Err("Longshore builds folders of the app's own repository, not addresses".to_owned());
    }
    scalar::relative_path(text)
}

fn dockerfile(text: &str) -> Result<String, String> {
    let path = scalar::relative_path(text)?;
    if path == ".." || path.starts_with("../") {
        return Err(format!("{text:?} lies outside the build's context"));
    }
    Ok(path)
}
