//! Lays one document over another, as Compose does (Compose Specification, 13-merge).
//!
//! Works on canonical trees, where short forms are gone: mappings are combined key by key, lists are joined, everything
//! else is replaced. `!reset` takes a value away, `!override` puts one in place without combining.

use crate::schema::{self, Key, Kind};
use crate::yaml::{Entry, Map, MergeTag, Node, Value};

/// Lays `over` over `base`.
pub(crate) fn merge(base: Node, over: Node, kind: Kind) -> Node {
    if over.tag == Some(MergeTag::Override) {
        return over;
    }
    let Node { value, mark, tag } = base;
    let (over_mark, over_value) = (over.mark, over.value);
    let merged = match (kind, value, over_value) {
        (Kind::Whole | Kind::Refused(_), _, over) => return Node::new(over, over_mark),
        // Nothing said changes nothing.
        (_, value, Value::Null) => value,
        (Kind::Logging, Value::Map(base), Value::Map(over)) if driver_differs(&base, &over) => {
            return Node::new(Value::Map(over), over_mark);
        }
        (kind, Value::Map(base), Value::Map(over)) => Value::Map(merge_maps(base, over, kind)),
        (Kind::List | Kind::Entries(_), Value::List(mut base), Value::List(over)) => {
            base.extend(over);
            Value::List(base)
        }
        (_, _, over) => return Node::new(over, over_mark),
    };
    Node { value: merged, mark, tag }
}

/// Carries out `!reset` and drops the tags, which have said all once a document is laid over.
pub(crate) fn settle(node: &mut Node) {
    node.tag = None;
    match &mut node.value {
        Value::Map(map) => {
            map.retain(|_, entry| entry.node.tag != Some(MergeTag::Reset));
            map.values_mut().for_each(|entry| settle(&mut entry.node));
        }
        Value::List(items) => {
            items.retain(|item| item.tag != Some(MergeTag::Reset));
            items.iter_mut().for_each(settle);
        }
        Value::Null | Value::Scalar(_) => {}
    }
}

fn merge_maps(mut base: Map, over: Map, kind: Kind) -> Map {
    for (name, entry) in over {
        if entry.node.tag == Some(MergeTag::Reset) {
            base.remove(&name);
            continue;
        }
        let node = match base.remove(&name) {
            Some(Entry { node, .. }) => merge(node, entry.node, kind_below(kind, &name)),
            None => entry.node,
        };
        base.insert(name, Entry { key: entry.key, node });
    }
    base
}

fn kind_below(kind: Kind, name: &str) -> Kind {
    let of = |keys: &[Key]| schema::kind_of(keys, name).unwrap_or(Kind::Whole);
    match kind {
        Kind::Section(keys) | Kind::ShortSection(_, keys) => of(keys),
        Kind::Logging => of(schema::LOGGING),
        Kind::Named(keys) | Kind::NamedOrList(keys) => Kind::Section(keys),
        Kind::NamedOrWhole(_)
        | Kind::Pairs
        | Kind::Hosts
        | Kind::Whole
        | Kind::List
        | Kind::Entries(_)
        | Kind::Refused(_) => Kind::Whole,
    }
}

/// Options of one log driver mean nothing to another.
fn driver_differs(base: &Map, over: &Map) -> bool {
    let driver = |map: &Map| match map.get("driver").map(|entry| &entry.node.value) {
        Some(Value::Scalar(driver)) => Some(driver.clone()),
        _ => None,
    };
    match (driver(base), driver(over)) {
        (Some(base), Some(over)) => base != over,
        _ => false,
    }
}
