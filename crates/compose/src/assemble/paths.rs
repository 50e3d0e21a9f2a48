//! Paths of files in other folders, made relative to that of the first Compose file.

use crate::model::is_address;
use crate::normalise::{is_path, split_short};
use crate::scalar;
use crate::yaml::{Map, Node, Value};

/// The folder of the first Compose file.
pub(super) const HERE: &str = ".";

/// A path that is written in a file of this folder; absolute ones, those from `~` and addresses stay.
pub(super) fn join(folder: &str, path: &str) -> String {
    if path.starts_with(['/', '~']) || is_address(path) {
        return path.to_owned();
    }
    let joined = format!("{folder}/{path}");
    let simplest = match folder.strip_prefix('~') {
        Some(_) => return joined,
        None if folder.starts_with('/') => scalar::container_path(&joined),
        None => scalar::relative_path(&joined),
    };
    simplest.unwrap_or(joined)
}

/// The folder that a file lies in.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => HERE,
    }
}

/// Makes the relative paths of a canonical tree, which were written in a file of this folder, relative to [`HERE`].
///
/// What does not have the right shape is left alone: whoever reads it will say so.
pub(super) fn rebase(root: &mut Node, folder: &str) {
    let Value::Map(map) = &mut root.value else { return };
    for key in ["configs", "secrets"] {
        each(map, key, |source| text(source, "file", |path| join(folder, path)));
    }
    each(map, "services", |service| rebase_service(service, folder));
    list(map, "include", |item| match &mut item.value {
        Value::Scalar(path) => *path = join(folder, path),
        Value::Map(include) => {
            for key in ["path", "env_file"] {
                list(include, key, |item| whole(item, |path| join(folder, path)));
            }
            text(include, "project_directory", |path| join(folder, path));
        }
        _ => {}
    });
}

/// Gives builds that name no context the folder that they were written in.
pub(super) fn default_contexts(services: &mut Map, folder: &str) {
    for entry in services.values_mut() {
        let Value::Map(service) = &mut entry.node.value else { continue };
        default_context(service, folder);
    }
}

/// The same for one service.
pub(super) fn default_context(service: &mut Map, folder: &str) {
    let Some(entry) = service.get_mut("build") else { return };
    let (key, mark) = (entry.key, entry.node.mark);
    if let Value::Map(build) = &mut entry.node.value {
        let context = || crate::yaml::Entry { key, node: Node::new(Value::Scalar(folder.to_owned()), mark) };
        build.entry("context".to_owned()).or_insert_with(context);
    }
}

fn rebase_service(service: &mut Map, folder: &str) {
    if let Some(Value::Map(build)) = service.get_mut("build").map(|entry| &mut entry.node.value) {
        text(build, "context", |path| join(folder, path));
    }
    if let Some(Value::Map(extends)) = service.get_mut("extends").map(|entry| &mut entry.node.value) {
        text(extends, "file", |path| join(folder, path));
    }
    if let Some(Value::Map(develop)) = service.get_mut("develop").map(|entry| &mut entry.node.value) {
        list(develop, "watch", |rule| {
            if let Value::Map(rule) = &mut rule.value {
                text(rule, "path", |path| join(folder, path));
            }
        });
    }
    for key in ["env_file", "label_file"] {
        list(service, key, |item| match &mut item.value {
            Value::Map(file) => text(file, "path", |path| join(folder, path)),
            _ => whole(item, |path| join(folder, path)),
        });
    }
    list(service, "volumes", |item| match &mut item.value {
        Value::Scalar(mount) => {
            if let Ok((Some(source), _, _)) = split_short(mount)
                && is_path(source)
            {
                *mount = format!("{}{}", bind(folder, source), mount.get(source.len()..).unwrap_or_default());
            }
        }
        Value::Map(mount) => {
            let kind = mount.get("type").map(|entry| &entry.node.value);
            if matches!(kind, Some(Value::Scalar(kind)) if kind == "bind") {
                text(mount, "source", |path| bind(folder, path));
            }
        }
        _ => {}
    });
}

/// A path that cannot be taken for a volume's name.
fn bind(folder: &str, source: &str) -> String {
    let path = join(folder, source);
    if is_path(&path) { path } else { format!("./{path}") }
}

fn each(map: &mut Map, key: &str, change: impl Fn(&mut Map)) {
    if let Some(Value::Map(named)) = map.get_mut(key).map(|entry| &mut entry.node.value) {
        for entry in named.values_mut() {
            if let Value::Map(section) = &mut entry.node.value {
                change(section);
            }
        }
    }
}

fn list(map: &mut Map, key: &str, change: impl Fn(&mut Node)) {
    if let Some(Value::List(items)) = map.get_mut(key).map(|entry| &mut entry.node.value) {
        items.iter_mut().for_each(change);
    }
}

fn text(map: &mut Map, key: &str, change: impl Fn(&str) -> String) {
    if let Some(entry) = map.get_mut(key) {
        whole(&mut entry.node, change);
    }
}

fn whole(node: &mut Node, change: impl Fn(&str) -> String) {
    if let Value::Scalar(text) = &mut node.value {
        *text = change(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_in_their_simplest_form() {
        for (folder, path, joined) in [
            ("db", "./data", "db/data"),
            ("db", "../x", "x"),
            ("../other", "a/b", "../other/a/b"),
            (".", "./a", "a"),
            ("db", "/etc/x", "/etc/x"),
            ("db", "~/x", "~/x"),
            ("/srv/app", "../x", "/srv/x"),
            ("~/app", "x", "~/app/x"),
            ("db", ".", "db"),
        ] {
            assert_eq!(join(folder, path), joined);
        }
        assert_eq!(["a/b.yaml", "b.yaml", "/b.yaml", "../b.yaml"].map(parent), ["a", ".", "/", ".."]);
        assert_eq!((bind("db", "./data"), bind("db", "../x")), ("./db/data".to_owned(), "./x".to_owned()));
    }
}
