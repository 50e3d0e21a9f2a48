//! Lays one document over another, as Compose does (Compose Specification, 13-merge).
//!
//! Works on canonical trees, where short forms are gone: mappings are combined key by key, lists are joined, everything
//! else is replaced. `!reset` takes a value away, `!override` puts one in place without combining.

use crate::Stage;
use crate::schema::{self, Key, Kind};
use crate::yaml::{Entry, Map, MergeTag, Node, Value};

/// Lays `over` over `base`.
pub(crate) fn merge(base: Node, over: Node, kind: Kind, stage: Stage<'_>) -> Node {
    if over.tag == Some(MergeTag::Override) {
        return over;
    }
    let Node { value, mark, tag } = base;
    let (over_mark, over_value) = (over.mark, over.value);
    let merged = match (kind, value, over_value) {
        (Kind::Whole | Kind::Refused(_) | Kind::Laptop(..), _, over) => return Node::new(over, over_mark),
        // Nothing said changes nothing.
        (_, value, Value::Null) => value,
        (Kind::Logging, Value::Map(base), Value::Map(over)) if driver_differs(&base, &over) => {
            return Node::new(Value::Map(over), over_mark);
        }
        (kind, Value::Map(base), Value::Map(over)) => Value::Map(merge_maps(base, over, kind, stage)),
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

fn merge_maps(mut base: Map, over: Map, kind: Kind, stage: Stage<'_>) -> Map {
    for (name, entry) in over {
        let node = match base.remove(&name) {
            // What is reset stays as a mark until all is laid: more than one thing may lie below.
            Some(Entry { node, .. }) if entry.node.tag != Some(MergeTag::Reset) => {
                merge(node, entry.node, kind_below(kind, &name, stage), stage)
            }
            _ => entry.node,
        };
        base.insert(name, Entry { key: entry.key, node });
    }
    base
}

fn kind_below(kind: Kind, name: &str, stage: Stage<'_>) -> Kind {
    let of = |keys: &[Key]| schema::kind_of(keys, name, stage).unwrap_or(Kind::Whole);
    match kind {
        Kind::Section(keys) | Kind::ShortSection(_, keys) | Kind::Either(keys) => of(keys),
        Kind::Logging => of(schema::LOGGING),
        Kind::Named(keys) | Kind::NamedOrList(keys) => Kind::Section(keys),
        Kind::NamedOrWhole(_)
        | Kind::Pairs
        | Kind::Hosts
        | Kind::Whole
        | Kind::List
        | Kind::Entries(_)
        | Kind::Refused(_)
        | Kind::Laptop(..) => Kind::Whole,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::diagnostic::Findings;
    use crate::field::Field;
    use crate::stage::Context;
    use crate::{Project, normalise, shape, yaml};

    const TOP: Kind = Kind::Section(schema::TOP);

    fn canonical(text: &str) -> Node {
        let mut findings = Findings::new(["compose.yaml"]);
        let mut node = yaml::parse(text, 0, &mut findings).unwrap();
        shape::canonicalise(&mut node, TOP, Stage::Release, "", &mut findings);
        findings.finish().unwrap();
        node
    }

    fn project(mut node: Node) -> Project {
        settle(&mut node);
        normalise::project(
            &Field::root(&node),
            &Context::new(Stage::Release, &|_| None),
            &mut Findings::new(["compose.yaml"]),
        )
    }

    /// One line of a service, of every kind that the table knows but `logging`, where a change of driver depends on what
    /// lies below.
    fn line() -> impl Strategy<Value = String> {
        let text = || prop::sample::select(vec!["a", "b", "null"]);
        let number = || 1_u16..4;
        prop_oneof![
            text().prop_map(|text| format!("image: {text}")),
            text().prop_map(|text| format!("command: {text}")),
            text().prop_map(|text| format!("build: {text}")),
            text().prop_map(|text| format!("build: {{target: {text}, args: [A={text}]}}")),
            (text(), text()).prop_map(|(a, b)| format!("environment: {{A: {a}, B: {b}}}")),
            text().prop_map(|text| format!("environment: [A={text}, C]")),
            (number(), number()).prop_map(|(a, b)| format!("ports: ['{a}:{b}', {b}]")),
            number().prop_map(|number| format!("expose: [{number}]")),
            number().prop_map(|number| format!("dns: 1.1.1.{number}")),
            (text(), number()).prop_map(|(source, target)| format!("volumes: ['{source}:/{target}']")),
            text().prop_map(|text| format!("networks: {{n: {{aliases: [{text}]}}}}")),
            Just("networks: [n, m]".to_owned()),
            Just("depends_on: [web]".to_owned()),
            Just("depends_on: {web: {condition: service_healthy}}".to_owned()),
            (text(), number()).prop_map(|(test, retries)| format!("healthcheck: {{test: {test}, retries: {retries}}}")),
            number().prop_map(|number| format!("ulimits: {{nofile: {number}}}")),
            number().prop_map(|number| format!("ulimits: {{nofile: {{soft: {number}, hard: 9}}}}")),
            number().prop_map(|number| format!("extra_hosts: ['h:1.1.1.{number}']")),
            number().prop_map(|number| format!(
                "deploy: {{replicas: {number}, placement: {{constraints: [node.hostname == h{number}]}}}}"
            )),
            prop::sample::select(vec!["environment:", "ports:", "deploy:", "healthcheck: null", "labels: {}"])
                .prop_map(str::to_owned),
        ]
    }

    fn document() -> impl Strategy<Value = String> {
        let service = || prop::collection::vec(line(), 0..5);
        let name = prop::sample::select(vec!["web", "db"]);
        prop::collection::btree_map(name, service(), 0..3).prop_map(|services| {
            let written: Vec<String> = services
                .iter()
                .map(|(name, lines)| {
                    let mut keys = std::collections::BTreeMap::new();
                    for line in lines {
                        keys.insert(line.split(':').next().unwrap_or_default(), line.as_str());
                    }
                    format!("{name}: {{{}}}", keys.into_values().collect::<Vec<_>>().join(", "))
                })
                .collect();
            format!("services: {{{}}}", written.join(", "))
        })
    }

    proptest! {
        #[test]
        fn grouping_does_not_matter(one in document(), two in document(), three in document()) {
            let [a, b, c] = [&one, &two, &three].map(|text| canonical(text));
            let left = merge(merge(a.clone(), b.clone(), TOP, Stage::Release), c.clone(), TOP, Stage::Release);
            let right = merge(a, merge(b, c, TOP, Stage::Release), TOP, Stage::Release);
            prop_assert_eq!(project(left), project(right));
        }

        #[test]
        fn the_empty_document_is_neutral(text in document()) {
            let (node, empty) = (canonical(&text), || canonical("services: {}"));
            prop_assert_eq!(project(merge(node.clone(), empty(), TOP, Stage::Release)), project(node.clone()));
            prop_assert_eq!(project(merge(empty(), node.clone(), TOP, Stage::Release)), project(node));
        }

        #[test]
        fn override_stands_alone_and_reset_leaves_nothing(one in document(), two in document()) {
            let (base, over) = (canonical(&one), canonical(&two));
            let tagged = canonical(&two.replacen("services:", "services: !override", 1));
            prop_assert_eq!(project(merge(base.clone(), tagged, TOP, Stage::Release)), project(over));
            let reset = canonical("services: !reset null");
            prop_assert_eq!(project(merge(base, reset, TOP, Stage::Release)), Project::default());
        }
    }
}
