//! Configs and secrets, and files of variables and labels.

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::dotenv::{self, Format};
use crate::field::{Field, Section};
use crate::model::{FileGrant, FileSource};
use crate::scalar;
use crate::stage::Context;

/// Where configs stand in a container unless a service says otherwise.
const CONFIGS: &str = "/";
/// Where secrets stand.
const SECRETS: &str = "/run/secrets/";
/// Permission bits that allow writing: configs and secrets never have them.
const WRITABLE: u32 = 0o222;

/// Where a config or a secret comes from.
pub(super) fn source(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Option<FileSource> {
    let mut section = Section { field, findings };
    let file = section.read("file", scalar::machine_path).map(FileSource::File);
    let content = section.string("content").map(FileSource::Content);
    let variable = section.string("environment");
    if let (Some(name), Some(field)) = (&variable, section.get("environment"))
        && (context.environment)(name).is_none()
    {
        let what = format!("the variable {name} is not set, so what uses it will not start");
        section.findings.warning(field.mark, &field.path, what, Some("set it".to_owned()));
    }
    let mut sources = [file, content, variable.map(FileSource::Environment)].into_iter().flatten();
    let (first, second) = (sources.next(), sources.next());
    let refused = field.entries().any(|(key, _)| matches!(key, "external" | "name" | "driver"));
    match (&first, second) {
        (Some(_), None) => {}
        (None, _) if refused => {}
        (None, _) => {
            let hint = "write one of file, environment and, for a config, content".to_owned();
            findings.error_with_hint(field.mark, &field.path, "this does not say where its content comes from", hint);
        }
        (Some(_), Some(_)) => {
            let hint = "keep one of file, environment and content".to_owned();
            findings.error_with_hint(field.mark, &field.path, "this has more than one source", hint);
        }
    }
    first
}

/// The configs of a service.
pub(super) fn configs(section: &mut Section<'_, '_, '_, '_>) -> Vec<FileGrant> {
    grants(section, "configs", CONFIGS)
}

/// The secrets of a service.
pub(super) fn secrets(section: &mut Section<'_, '_, '_, '_>) -> Vec<FileGrant> {
    grants(section, "secrets", SECRETS)
}

/// Of two at one path the later stands.
fn grants(section: &mut Section<'_, '_, '_, '_>, key: &str, folder: &str) -> Vec<FileGrant> {
    let Some(field) = section.get(key) else { return Vec::new() };
    let mut grants = BTreeMap::new();
    for entry in field.items() {
        let grant = if entry.is_map() {
            let mut inner = Section { field: &entry, findings: section.findings };
            if inner.get("source").is_none() {
                let what = format!("this needs a source, the name under the top-level {key}");
                inner.findings.error(entry.node.mark, &entry.path, what);
                continue;
            }
            let Some(source) = inner.string("source") else { continue };
            let target = inner.string("target").unwrap_or_else(|| source.clone());
            let mode = inner.read("mode", scalar::permissions).map(|mode| mode & !WRITABLE);
            let (uid, gid) = (inner.read("uid", scalar::integer), inner.read("gid", scalar::integer));
            FileGrant { target: placed(folder, &target), source, uid, gid, mode }
        } else {
            let Some(source) = entry.string(section.findings) else { continue };
            FileGrant { target: placed(folder, &source), source, uid: None, gid: None, mode: None }
        };
        grants.insert(grant.target.clone(), grant);
    }
    grants.into_values().collect()
}

fn placed(folder: &str, target: &str) -> String {
    let path = if target.starts_with('/') { target.to_owned() } else { format!("{folder}{target}") };
    // An absolute path always has a simplest form.
    scalar::container_path(&path).unwrap_or(path)
}

/// What the files under `env_file` say; later ones stand over earlier ones.
pub(super) fn env_files(
    section: &mut Section<'_, '_, '_, '_>,
    context: &Context<'_>,
) -> BTreeMap<String, Option<String>> {
    const FORMATS: &[(&str, Format)] = &[("raw", Format::Raw)];
    let Some(field) = section.get("env_file") else { return BTreeMap::new() };
    let mut values = BTreeMap::new();
    for entry in field.items() {
        let (mut format, mut required) = (Format::default(), true);
        let path = if entry.is_map() {
            let mut inner = Section { field: &entry, findings: section.findings };
            format = inner.one_of("format", FORMATS).unwrap_or_default();
            required = inner.read("required", scalar::boolean).unwrap_or(true);
            match inner.get("path") {
                Some(path) => path,
                None => {
                    entry.error(section.findings, "this needs a path, the file");
                    continue;
                }
            }
        } else {
            entry
        };
        let lookup = |name: &str| (context.environment)(name);
        let read = variables(&path, required, format, &lookup, context, section.findings);
        values.extend(read);
    }
    values
}

/// What the files under `label_file` say.
pub(super) fn label_files(section: &mut Section<'_, '_, '_, '_>, context: &Context<'_>) -> BTreeMap<String, String> {
    let Some(field) = section.get("label_file") else { return BTreeMap::new() };
    let mut labels = BTreeMap::new();
    for entry in field.items() {
        let lookup = |name: &str| (context.environment)(name);
        let read = variables(&entry, true, Format::default(), &lookup, context, section.findings);
        labels.extend(read.into_iter().map(|(name, value)| (name, value.unwrap_or_default())));
    }
    labels
}

/// The variables in the file at a path.
pub(crate) fn variables(
    path: &Field<'_>,
    required: bool,
    format: Format,
    environment: &dyn Fn(&str) -> Option<String>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, Option<String>> {
    let Some(name) = path.read(findings, scalar::machine_path) else { return BTreeMap::new() };
    match context.read(&name) {
        Ok(Some(text)) => {
            let file = findings.file_add(&name);
            dotenv::parse(&text, file, format, environment, findings)
        }
        Ok(None) if !required => BTreeMap::new(),
        Ok(None) => {
            let hint = "write it, or say `required: false` where that can be said".to_owned();
            path.error_with_hint(findings, format!("there is no file {name}"), hint);
            BTreeMap::new()
        }
        Err(why) => {
            path.error(findings, format!("{name} cannot be read: {why}"));
            BTreeMap::new()
        }
    }
}
