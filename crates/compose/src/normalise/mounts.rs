//! Mounts: short and long syntax, and `tmpfs`.

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::Mount;
use crate::scalar;
use crate::yaml::Mark;

const TARGET_NEEDED: &str = "a mount needs a target, the path in the container";

/// What `volumes` and `tmpfs` say. Of two mounts at one path, that of a later file stands; in one file they are an error.
pub(super) fn mounts(section: &mut Section<'_, '_, '_, '_>) -> (Vec<Mount>, BTreeMap<String, String>) {
    let mut mounts: BTreeMap<String, (Mark, Mount)> = BTreeMap::new();
    if let Some(field) = section.get("volumes") {
        for entry in field.items() {
            let read = if entry.is_map() { long(&entry, section.findings) } else { short(&entry, section.findings) };
            let Some(mount) = read else { continue };
            let mark = entry.node.mark;
            if let Some((first, _)) = mounts.insert(mount.target().to_owned(), (mark, mount.clone()))
                && first.file == mark.file
            {
                let what = format!("{:?} is mounted twice: first on line {}", mount.target(), first.line);
                entry.error(section.findings, what);
            }
        }
    }
    let mut tmpfs = BTreeMap::new();
    if let Some(field) = section.get("tmpfs") {
        for entry in field.items() {
            let read = entry.read(section.findings, |text| {
                let (target, options) = text.split_once(':').unwrap_or((text, ""));
                Ok((scalar::container_path(target)?, options.to_owned()))
            });
            let Some((target, options)) = read else { continue };
            if let Some((first, _)) = mounts.get(&target) {
                let what = format!("{target:?} is mounted twice: also under volumes, on line {}", first.line);
                entry.error(section.findings, what);
            }
            tmpfs.insert(target, options);
        }
    }
    (mounts.into_values().map(|(_, mount)| mount).collect(), tmpfs)
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn short(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Mount> {
    field.read(findings, |text| {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match *parts.as_slice() {
            [target] => (None, target, ""),
            // Without a source, options are not to be told from a target but by the slash.
            [target, options] if target.starts_with('/') && !options.starts_with('/') => (None, target, options),
            [source, target] => (Some(source), target, ""),
            [source, target, options] => (Some(source), target, options),
            _ => return Err(format!("{text:?} is not SOURCE:TARGET or SOURCE:TARGET:OPTIONS")),
        };
        let target = scalar::container_path(target)?;
        let (mut read_only, mut no_copy) = (false, false);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "rw" => read_only = false,
                "ro" => read_only = true,
                "nocopy" => no_copy = true,
                _ => {
                    return Err(format!(
                        "Longshore does not support the option {option:?} of a mount, only ro, rw and nocopy"
                    ));
                }
            }
        }
        match source {
            Some(source) if is_path(source) => {
                if no_copy {
                    return Err("nocopy is for volumes, not for paths of the host".to_owned());
                }
                Ok(Mount::Bind { source: source.to_owned(), target, read_only })
            }
            source => Ok(Mount::Volume { source: source.map(str::to_owned), target, read_only, no_copy }),
        }
    })
}

fn long(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Mount> {
    const TYPES: &[(&str, Type)] = &[("volume", Type::Volume), ("bind", Type::Bind), ("tmpfs", Type::Tmpfs)];
    let mut section = Section { field, findings };
    let Some(kind) = section.get("type") else {
        field.error(findings, "a mount needs a type: volume, bind or tmpfs");
        return None;
    };
    let kind = kind.one_of(section.findings, TYPES)?;
    if section.get("target").is_none() {
        field.error(section.findings, TARGET_NEEDED);
        return None;
    }
    for (key, of) in [("volume", Type::Volume), ("bind", Type::Bind), ("tmpfs", Type::Tmpfs)] {
        if let Some(options) = section.get(key).filter(|_| of != kind) {
            section.findings.error(
                options.mark,
                &options.path,
                format!("these options are for mounts of the type {key}"),
            );
        }
    }
    let target = section.read("target", scalar::container_path)?;
    let source = section.get("source");
    let read_only = section.boolean("read_only");
    match kind {
        Type::Volume => {
            let source = match source {
                Some(source) => Some(source.read(section.findings, |text| {
                    if is_path(text) {
                        return Err(format!("{text:?} is a path, but the type is volume; write type: bind"));
                    }
                    Ok(text.to_owned())
                })?),
                None => None,
            };
            let no_copy = match section.get("volume") {
                Some(options) => Section { field: &options, findings: section.findings }.boolean("nocopy"),
                None => false,
            };
            Some(Mount::Volume { source, target, read_only, no_copy })
        }
        Type::Bind => {
            let Some(source) = source else {
                field.error(section.findings, "a bind mount needs a source, the path on the host");
                return None;
            };
            Some(Mount::Bind { source: source.string(section.findings)?, target, read_only })
        }
        Type::Tmpfs => {
            if let Some(source) = source {
                section.findings.error(source.mark, &source.path, "a tmpfs has no source");
            }
            let (mut size_bytes, mut mode) = (None, None);
            if let Some(options) = section.get("tmpfs") {
                let mut options = Section { field: &options, findings: section.findings };
                size_bytes = options.read("size", scalar::bytes);
                mode = options.read("mode", permissions);
            }
            Some(Mount::Tmpfs { target, size_bytes, mode })
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Volume,
    Bind,
    Tmpfs,
}

/// Whether a source is a path of the host and not a volume's name.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}

/// Permission bits in octal, as everyone writes them.
fn permissions(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("{text:?} is not a mode in octal, such as 1777")),
    }
}
