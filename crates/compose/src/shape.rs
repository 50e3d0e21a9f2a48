//! Walks a document along the table of keys: brings short forms into one shape, and refuses what is not supported.

use crate::Stage;
use crate::diagnostic::{Findings, child, did_you_mean, item};
use crate::schema::{self, Key, Kind};
use crate::yaml::{Entry, Map, MergeTag, Node, Value};

/// Brings a node into the shape of its kind, so that overlays combine like with like. Keys that are unknown or refused
/// stay: an overlay may still take them away.
pub(crate) fn canonicalise(node: &mut Node, kind: Kind, stage: Stage<'_>, path: &str, findings: &mut Findings<'_>) {
    let mark = node.mark;
    // What is taken away will not be read, and what says nothing has no shape.
    if node.tag == Some(MergeTag::Reset) || matches!(node.value, Value::Null) {
        return;
    }
    let value = std::mem::replace(&mut node.value, Value::Null);
    let shaped = match (kind, value) {
        (Kind::Whole | Kind::Refused(_) | Kind::Laptop(..), value) => Ok(value),
        (Kind::Either(_), Value::Scalar(text)) => Ok(Value::Scalar(text)),
        (Kind::List | Kind::Entries(_), Value::Scalar(text)) => {
            Ok(Value::List(vec![Node::new(Value::Scalar(text), mark)]))
        }
        (Kind::List, Value::List(items)) => Ok(Value::List(items)),
        (Kind::Entries(keys), Value::List(mut items)) => {
            for (index, entry) in items.iter_mut().enumerate() {
                if matches!(entry.value, Value::Map(_)) {
                    canonicalise(entry, Kind::Section(keys), stage, &item(path, index), findings);
                }
            }
            Ok(Value::List(items))
        }
        (Kind::Section(keys) | Kind::ShortSection(_, keys) | Kind::Either(keys), Value::Map(map)) => {
            Ok(Value::Map(section(map, keys, stage, path, findings)))
        }
        (Kind::Logging, Value::Map(map)) => Ok(Value::Map(section(map, schema::LOGGING, stage, path, findings))),
        (Kind::ShortSection(key, _), Value::Scalar(text)) => {
            let node = Node::new(Value::Scalar(text), mark);
            Ok(Value::Map(Map::from([(key.to_owned(), Entry { key: mark, node })])))
        }
        (Kind::NamedOrList(_), Value::List(items)) => pairs(items, path, findings, |name| (name, None)),
        (Kind::Named(keys) | Kind::NamedOrList(keys), Value::Map(mut map)) => {
            for (name, entry) in &mut map {
                canonicalise(&mut entry.node, Kind::Section(keys), stage, &child(path, name), findings);
            }
            Ok(Value::Map(map))
        }
        (Kind::NamedOrWhole(keys), Value::Map(mut map)) => {
            for (name, entry) in &mut map {
                if matches!(entry.node.value, Value::Map(_)) {
                    canonicalise(&mut entry.node, Kind::Section(keys), stage, &child(path, name), findings);
                }
            }
            Ok(Value::Map(map))
        }
        (Kind::Pairs, Value::List(items)) => pairs(items, path, findings, |text| match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        }),
        (Kind::Hosts, Value::List(items)) => Ok(hosts(items, path, findings)),
        (Kind::Pairs | Kind::Hosts, Value::Map(map)) => Ok(Value::Map(map)),
        (kind, value) => Err((kind, Node::new(value, mark))),
    };
    match shaped {
        Ok(value) => node.value = value,
        Err((kind, found)) => {
            let wanted = match kind {
                Kind::Whole | Kind::Refused(_) | Kind::Laptop(..) => "a value",
                Kind::List | Kind::Entries(_) => "a list",
                Kind::Section(_) | Kind::Named(_) | Kind::NamedOrWhole(_) | Kind::Logging => "a mapping",
                Kind::ShortSection(..) | Kind::Either(_) => "a single value or a mapping",
                Kind::NamedOrList(_) | Kind::Pairs | Kind::Hosts => "a list or a mapping",
            };
            findings.error(mark, path, format!("this should be {wanted}, but is {}", found.kind()));
        }
    }
}

/// Refuses unknown and unsupported keys in a canonical tree.
pub(crate) fn check(node: &Node, kind: Kind, stage: Stage<'_>, path: &str, findings: &mut Findings<'_>) {
    match (kind, &node.value) {
        (Kind::Section(keys) | Kind::ShortSection(_, keys) | Kind::Either(keys), Value::Map(map)) => {
            check_keys(map, keys, stage, path, findings);
        }
        (Kind::Logging, Value::Map(map)) => check_keys(map, schema::LOGGING, stage, path, findings),
        (Kind::Named(keys) | Kind::NamedOrList(keys) | Kind::NamedOrWhole(keys), Value::Map(map)) => {
            for (name, entry) in map {
                check(&entry.node, Kind::Section(keys), stage, &child(path, name), findings);
            }
        }
        (Kind::Entries(keys), Value::List(items)) => {
            for (index, entry) in items.iter().enumerate() {
                check(entry, Kind::Section(keys), stage, &item(path, index), findings);
            }
        }
        _ => {}
    }
}

/// Takes out of a canonical tree what [`check`] refuses by its table, so that nobody reads it.
pub(crate) fn prune(node: &mut Node, kind: Kind, stage: Stage<'_>) {
    match (kind, &mut node.value) {
        (Kind::Section(keys) | Kind::ShortSection(_, keys) | Kind::Either(keys), Value::Map(map)) => {
            map.retain(|name, _| !matches!(schema::kind_of(keys, name, stage), Some(Kind::Refused(_))));
            for (name, entry) in map {
                if let Some(kind) = schema::kind_of(keys, name, stage) {
                    prune(&mut entry.node, kind, stage);
                }
            }
        }
        (Kind::Named(keys) | Kind::NamedOrList(keys) | Kind::NamedOrWhole(keys), Value::Map(map)) => {
            map.values_mut().for_each(|entry| prune(&mut entry.node, Kind::Section(keys), stage));
        }
        (Kind::Entries(keys), Value::List(items)) => {
            items.iter_mut().for_each(|entry| prune(entry, Kind::Section(keys), stage));
        }
        _ => {}
    }
}

fn check_keys(map: &Map, keys: &'static [Key], stage: Stage<'_>, path: &str, findings: &mut Findings<'_>) {
    for (name, entry) in map {
        if findings.full() {
            return;
        }
        let path = child(path, name);
        match schema::kind_of(keys, name, stage) {
            Some(Kind::Refused(hint)) => {
                let what = format!("Longshore does not support {name:?}");
                findings.error_with_hint(entry.key, &path, what, hint.to_owned());
            }
            Some(kind) => check(&entry.node, kind, stage, &path, findings),
            None if schema::is_extension(name) => {}
            None => {
                let hint = did_you_mean(name, schema::supported(keys, stage)).unwrap_or_else(|| {
                    format!("the keys here are {}", schema::supported(keys, stage).collect::<Vec<_>>().join(", "))
                });
                findings.error_with_hint(entry.key, &path, format!("there is no key {name:?} here"), hint);
            }
        }
    }
}

fn section(mut map: Map, keys: &'static [Key], stage: Stage<'_>, path: &str, findings: &mut Findings<'_>) -> Map {
    for (name, entry) in &mut map {
        if let Some(kind) = schema::kind_of(keys, name, stage) {
            canonicalise(&mut entry.node, kind, stage, &child(path, name), findings);
        }
    }
    map
}

type Shaped = Result<Value, (Kind, Node)>;

/// A list of texts as a mapping; of two with one name the later stands, as in the engine's own command line.
fn pairs(
    items: Vec<Node>,
    path: &str,
    findings: &mut Findings<'_>,
    split: impl Fn(&str) -> (&str, Option<&str>),
) -> Shaped {
    let mut map = Map::new();
    for (index, entry) in items.into_iter().enumerate() {
        let Value::Scalar(text) = &entry.value else {
            findings.error(entry.mark, &item(path, index), format!("this should be text, but is {}", entry.kind()));
            continue;
        };
        let (name, value) = split(text);
        let value = value.map_or(Value::Null, |value| Value::Scalar(value.to_owned()));
        map.insert(name.to_owned(), Entry { key: entry.mark, node: Node::new(value, entry.mark) });
    }
    Ok(Value::Map(map))
}

/// `NAME=address` and `NAME:address`, where one name may come several times.
fn hosts(items: Vec<Node>, path: &str, findings: &mut Findings<'_>) -> Value {
    let mut map = Map::new();
    for (index, entry) in items.into_iter().enumerate() {
        let mark = entry.mark;
        let split = match &entry.value {
            Value::Scalar(text) => text.split_once('=').or_else(|| text.split_once(':')),
            _ => None,
        };
        let Some((name, address)) = split else {
            let what = "this should be NAME=ADDRESS";
            findings.error(mark, &item(path, index), what);
            continue;
        };
        let list = Entry { key: mark, node: Node::new(Value::List(Vec::new()), mark) };
        if let Value::List(addresses) = &mut map.entry(name.trim().to_owned()).or_insert(list).node.value {
            addresses.push(Node::new(Value::Scalar(address.trim().to_owned()), mark));
        }
    }
    Value::Map(map)
}
