//! Mounts: short and long syntax, and `tmpfs`.

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{Mount, MountOptions, Recursive, Selinux};
use crate::scalar;
use crate::stage::Context;
use crate::yaml::{Mark, Value};

const TARGET_NEEDED: &str = "a mount needs a target, the path in the container";

/// How mounts within a mount pass to and fro (mount_namespaces(7)).
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "rshared", "rslave", "shared", "slave"];

/// What `volumes` and `tmpfs` say. Of two mounts at one path, that of a later file stands; in one file they are an error.
pub(super) fn mounts(
    section: &mut Section<'_, '_, '_, '_>,
    context: &Context<'_>,
) -> (Vec<Mount>, BTreeMap<String, String>) {
    let mut mounts: BTreeMap<String, (Mark, Mount)> = BTreeMap::new();
    if let Some(field) = section.get("volumes") {
        for entry in field.items() {
            let read = if entry.is_map() {
                long(&entry, context, section.findings)
            } else {
                short(&entry, context, section.findings)
            };
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
fn short(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Option<Mount> {
    field.read(findings, |text| {
        let (source, target, words) = split_short(text)?;
        let target = scalar::container_path(target)?;
        let (mut read_only, mut no_copy) = (false, false);
        let mut options = MountOptions::default();
        for option in words.split(',').filter(|option| !option.is_empty()) {
            match option {
                "rw" => read_only = false,
                "ro" => read_only = true,
                "nocopy" => no_copy = true,
                _ if context.workspace() && laptop_option(option, &mut options) => {}
                _ if context.workspace() => return Err(format!("{option:?} is not an option of a mount")),
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
                Ok(Mount::Bind { source: source.to_owned(), target, read_only, options })
            }
            source => Ok(Mount::Volume { source: source.map(str::to_owned), target, read_only, no_copy, options }),
        }
    })
}

/// Source, target and options of the short syntax.
pub(crate) fn split_short(text: &str) -> Result<(Option<&str>, &str, &str), String> {
    let parts: Vec<&str> = text.split(':').collect();
    Ok(match *parts.as_slice() {
        [target] => (None, target, ""),
        // Without a source, options are not to be told from a target but by the slash.
        [target, options] if target.starts_with('/') && !options.starts_with('/') => (None, target, options),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(format!("{text:?} is not SOURCE:TARGET or SOURCE:TARGET:OPTIONS")),
    })
}

/// The path in the container that a mount of either syntax has, where that can be told.
pub(crate) fn mount_target(mount: &Field<'_>) -> Option<String> {
    let text = |field: &Field<'_>| match &field.node.value {
        Value::Scalar(text) => Some(text.clone()),
        _ => None,
    };
    let target = match mount.get("target") {
        Some(target) => text(&target)?,
        None => split_short(&text(mount)?).ok()?.1.to_owned(),
    };
    scalar::container_path(&target).ok()
}

/// An option of the short syntax that only workspaces know.
fn laptop_option(option: &str, options: &mut MountOptions) -> bool {
    match option {
        "z" => options.selinux = Some(Selinux::Shared),
        "Z" => options.selinux = Some(Selinux::Private),
        "cached" | "consistent" | "delegated" => options.consistency = Some(option.to_owned()),
        _ if PROPAGATIONS.contains(&option) => options.propagation = Some(option.to_owned()),
        _ => return false,
    }
    true
}

fn long(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Option<Mount> {
    const TYPES: &[(&str, Type)] =
        &[("volume", Type::Volume), ("bind", Type::Bind), ("tmpfs", Type::Tmpfs), ("image", Type::Image)];
    let types = if context.workspace() { TYPES } else { TYPES.get(..3).unwrap_or_default() };
    let mut section = Section { field, findings };
    let Some(kind) = section.get("type") else {
        field.error(findings, "a mount needs a type: volume, bind or tmpfs");
        return None;
    };
    let kind = kind.one_of(section.findings, types)?;
    if section.get("target").is_none() {
        field.error(section.findings, TARGET_NEEDED);
        return None;
    }
    for (key, of) in TYPES.iter().copied() {
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
            let mut options = consistency(&mut section);
            let mut no_copy = false;
            if let Some(volume) = section.get("volume") {
                let mut volume = Section { field: &volume, findings: section.findings };
                no_copy = volume.boolean("nocopy");
                options.subpath = volume.read("subpath", scalar::relative_path);
                options.labels = volume.labels("labels");
            }
            Some(Mount::Volume { source, target, read_only, no_copy, options })
        }
        Type::Bind => {
            let Some(source) = source else {
                field.error(section.findings, "a bind mount needs a source, the path on the host");
                return None;
            };
            let source = source.string(section.findings)?;
            Some(Mount::Bind { source, target, read_only, options: bind_options(&mut section) })
        }
        Type::Image => {
            let Some(source) = source else {
                field.error(section.findings, "a mounted image needs a source, its reference");
                return None;
            };
            let source = source.string(section.findings)?;
            let subpath = match section.get("image") {
                Some(image) => {
                    Section { field: &image, findings: section.findings }.read("subpath", scalar::relative_path)
                }
                None => None,
            };
            Some(Mount::Image { source, target, subpath })
        }
        Type::Tmpfs => {
            if let Some(source) = source {
                section.findings.error(source.mark, &source.path, "a tmpfs has no source");
            }
            let (mut size_bytes, mut mode) = (None, None);
            if let Some(options) = section.get("tmpfs") {
                let mut options = Section { field: &options, findings: section.findings };
                size_bytes = options.read("size", scalar::bytes);
                mode = options.read("mode", scalar::permissions);
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
    Image,
}

fn consistency(section: &mut Section<'_, '_, '_, '_>) -> MountOptions {
    MountOptions { consistency: section.string("consistency"), ..MountOptions::default() }
}

fn bind_options(section: &mut Section<'_, '_, '_, '_>) -> MountOptions {
    const RECURSIVE: &[(&str, Recursive)] = &[
        ("enabled", Recursive::Enabled),
        ("disabled", Recursive::Disabled),
        ("writable", Recursive::Writable),
        ("readonly", Recursive::Readonly),
    ];
    const SELINUX: &[(&str, Selinux)] = &[("z", Selinux::Shared), ("Z", Selinux::Private)];
    let mut options = consistency(section);
    let Some(bind) = section.get("bind") else { return options };
    let mut bind = Section { field: &bind, findings: section.findings };
    options.propagation = bind.read("propagation", |text| {
        if PROPAGATIONS.contains(&text) {
            return Ok(text.to_owned());
        }
        Err(format!("{text:?} is none of {}", PROPAGATIONS.join(", ")))
    });
    options.recursive = bind.one_of("recursive", RECURSIVE);
    options.selinux = bind.one_of("selinux", SELINUX);
    options.must_exist = bind.read("create_host_path", scalar::boolean) == Some(false);
    if let (Some(_), true) = (options.selinux, options.must_exist || options.recursive.is_some()) {
        let what =
            "the engine labels a path for SELinux only in the short way, with neither recursive nor create_host_path";
        bind.field.error_with_hint(bind.findings, what, "take selinux or the others away".to_owned());
    }
    options
}

/// Whether a source is a path of the host and not a volume's name.
pub(crate) fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}
