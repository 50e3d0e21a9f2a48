//! Golden documents, and what holds for all contents: the order of finding says nothing, and what is written is read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::component::{Component, Ecosystem, Evidence, Source as Upstream};

const CONTENTS: &[u8] = include_bytes!("fixtures/contents.json");

fn sample() -> Contents {
    json::read(CONTENTS).unwrap()
}

type Writer = fn(&Contents, &mut Vec<u8>) -> Result<(), WriteError>;

const WRITERS: [(&str, Writer); 6] = [
    ("cyclonedx_1_6", |contents, out| cyclonedx::write(contents, cyclonedx::Version::V1_6, out)),
    ("cyclonedx_1_7", |contents, out| cyclonedx::write(contents, cyclonedx::Version::V1_7, out)),
    ("spdx_2_3", |contents, out| spdx::write(contents, out)),
    ("spdx_3_0_1", |contents, out| spdx::write_3(contents, out)),
    ("sarif_2_1_0", |contents, out| sarif::write(contents, out)),
    ("longshore", |contents, out| json::write(contents, out)),
];

fn written(writer: Writer, contents: &Contents) -> Vec<u8> {
    let mut out = Vec::new();
    writer(contents, &mut out).unwrap();
    out
}

#[test]
fn golden_documents() {
    // Version 1.7 differs from 1.6 by the list of identities alone.
    for (name, writer) in WRITERS.into_iter().filter(|(name, _)| *name != "cyclonedx_1_7") {
        let document: serde_json::Value = serde_json::from_slice(&written(writer, &sample())).unwrap();
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&document).unwrap());
    }
}

#[test]
fn the_own_document_is_read_back_in_full() {
    let contents = sample();
    let bytes = written(WRITERS[5].1, &contents);
    let again = json::read(&bytes).unwrap();
    assert_eq!(written(WRITERS[5].1, &again), bytes);
    assert_eq!(ordered(again), ordered(contents));
}

/// The contents with every list whose order says nothing in one order.
fn ordered(mut contents: Contents) -> Contents {
    contents.components.sort_by(|a, b| a.id.cmp(&b.id));
    for found in &mut contents.components {
        found.places.sort();
        found.licences.sort();
        found.hashes.sort();
        found.depends_on.sort();
    }
    contents.findings.sort_by(|a, b| (&a.id, &a.component).cmp(&(&b.id, &b.component)));
    for finding in &mut contents.findings {
        finding.aliases.sort();
        finding.fixed_in.sort();
    }
    contents.secrets.sort();
    contents.unexamined.sort();
    contents
}

#[test]
fn contents_that_refer_to_nothing_are_refused() {
    let refused = |change: fn(&mut Contents)| {
        let mut contents = sample();
        change(&mut contents);
        let errors = WRITERS.map(|(_, writer)| writer(&contents, &mut Vec::new()).unwrap_err().to_string());
        assert!(errors.iter().all(|error| *error == errors[0]));
        errors[0].clone()
    };
    assert!(refused(|c| c.components[0].id = c.components[1].id.clone()).starts_with("two entries"));
    assert!(refused(|c| c.findings[0].component = "gone".to_owned()).contains("\"gone\", which is not"));
    assert!(refused(|c| c.components[0].owner = Some("gone".to_owned())).contains("\"gone\", which is not"));
    assert!(refused(|c| c.components[0].id = "os:x".to_owned()).contains("cannot be used"));
    assert!(refused(|c| c.secrets[0].place.layer = Some(3)).contains("lies in layer 3, the image has 3"));
    assert!(refused(|c| c.findings.push(c.findings[0].clone())).starts_with("two entries"));
}

#[test]
fn another_content_has_another_identifier_and_no_time_comes_from_the_clock() {
    let serial = |contents: &Contents| {
        let document: serde_json::Value = serde_json::from_slice(&written(WRITERS[0].1, contents)).unwrap();
        document["serialNumber"].as_str().unwrap().to_owned()
    };
    let mut other = sample();
    other.unexamined[0].why.push('!');
    assert_ne!(serial(&sample()), serial(&other));
    other.image.created = None;
    other.image.layers.clear();
    other.unexamined.clear();
    other.secrets.clear();
    other.components.iter_mut().flat_map(|found| &mut found.places).for_each(|place| place.layer = None);
    for (name, writer) in WRITERS {
        let text = String::from_utf8(written(writer, &other)).unwrap();
        assert!(!text.contains("\"20") || !text.contains("timestamp"), "{name} has a time");
        assert!(!text.to_lowercase().contains("incomplete"), "{name} must call complete what is");
    }
    for (name, writer) in WRITERS {
        let text = String::from_utf8(written(writer, &sample())).unwrap();
        let says = text.contains("ncomplete") || text.contains("\"complete\":false");
        assert!(says && text.contains("encrypted"), "{name} must say what was not examined");
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[A-Za-z0-9][A-Za-z0-9._+~-]{0,8}", 1 => "[^\u{0}-\u{1f}]{1,8}"]
}

fn component() -> impl Strategy<Value = Component> {
    let ecosystems: Vec<Ecosystem> = contents::ECOSYSTEMS.iter().map(|(ecosystem, _)| *ecosystem).collect();
    let evidence = select(vec![Evidence::Installed, Evidence::Contained, Evidence::Inferred]);
    let name = "[A-Za-z0-9][A-Za-z0-9._-]{0,7}";
    (
        select(ecosystems),
        name,
        name,
        "[0-9a-z][0-9a-z.+~-]{0,7}",
        proptest::option::of("[a-z0-9_]{1,6}"),
        evidence,
        any::<bool>(),
    )
        .prop_map(|(ecosystem, group, name, version, architecture, evidence, with_source)| {
            let name = match ecosystem {
                Ecosystem::Maven => format!("{group}:{name}"),
                Ecosystem::Npm => format!("@{group}/{name}"),
                Ecosystem::Composer => format!("{group}/{name}"),
                Ecosystem::Go => format!("{group}.org/{name}"),
                _ => name,
            };
            let source = with_source.then(|| Upstream { name: group, version: version.clone() });
            Component { ecosystem, name, version, architecture, source, licences: Vec::new(), evidence }
        })
}

prop_compose! {
    fn found(index: usize)(
        component in component(),
        further in proptest::collection::vec(component(), 0..2),
        chain in proptest::collection::vec(text(), 1..4),
        layer in proptest::option::of(0..3usize),
        expression in proptest::option::of(select(vec!["MIT", "Apache-2.0 OR MIT"])),
        named in proptest::option::of("[A-Za-z][A-Za-z ]{0,6}[a-z]"),
        hash in proptest::option::of("[0-9a-f]{64}"),
        needs in proptest::option::of(0..index.max(1)),
        named_by in proptest::option::of(text()),
        build_id in proptest::option::of("[0-9a-f]{40}"),
    ) -> Found {
        let expression = expression.map(|text| Licence { stated: text.to_owned(), expression: Some(text.to_owned()) });
        let named = named.map(|stated| Licence { stated, expression: None });
        Found {
            id: format!("component {index}"),
            component,
            places: vec![Place { layer, chain }],
            owner: None,
            further,
            hashes: hash.into_iter().map(|hex| Hash { algorithm: HashAlgorithm::Sha256, hex }).collect(),
            details: Details {
                vendor: named_by,
                module: None,
                build_ids: build_id.into_iter().collect(),
            },
            depends_on: needs.map(|to| format!("component {to}")).into_iter().collect(),
            licences: expression.or(named).into_iter().collect(),
        }
    }
}

fn any_contents() -> impl Strategy<Value = Contents> {
    let components = (0..6usize).prop_flat_map(|count| (0..count).map(found).collect::<Vec<_>>());
    let place = || (proptest::option::of(0..3usize), proptest::collection::vec(text(), 1..3));
    let unexamined = proptest::collection::vec((place(), text()), 0..3);
    let secrets = proptest::collection::vec((place(), text(), proptest::option::of(1..99u64), any::<bool>()), 0..3);
    (components, unexamined, secrets).prop_map(|(components, unexamined, secrets)| {
        let place = |(layer, chain)| Place { layer, chain };
        let mut contents = sample();
        let findings = components.iter().zip(&contents.findings);
        contents.findings = findings.map(|(found, f)| Finding { component: found.id.clone(), ..f.clone() }).collect();
        contents.components = components;
        contents.unexamined = unexamined.into_iter().map(|(at, why)| Unexamined { place: place(at), why }).collect();
        contents.secrets = secrets
            .into_iter()
            .map(|(at, rule, line, deleted)| Secret {
                rule, place: place(at), line, redacted: "…".to_owned(), deleted
            })
            .collect();
        contents
    })
}

/// What a bill of materials says of a component, in one order.
type Said = (Component, Vec<Component>, Vec<Hash>, Vec<Licence>);

fn said(component: &Component, further: &[Component], hashes: &[Hash], licences: &[Licence]) -> Said {
    let mut further = further.to_vec();
    further.sort_by_key(|component| format!("{component:?}"));
    let bare = Component { licences: Vec::new(), ..component.clone() };
    (bare, further, hashes.to_vec(), licences.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_finding_changes_no_byte(contents in any_contents(), turn in 0..6usize) {
        let mut other = contents.clone();
        other.components.reverse();
        other.findings.reverse();
        other.secrets.reverse();
        other.unexamined.reverse();
        for found in &mut other.components {
            found.further.reverse();
            found.places.reverse();
        }
        let by = turn.min(other.components.len());
        other.components.rotate_left(by);
        for (name, writer) in WRITERS {
            prop_assert_eq!(written(writer, &contents), written(writer, &other), "{}", name);
        }
    }

    #[test]
    fn what_is_written_is_read(contents in any_contents()) {
        let mut expected: Vec<Said> =
            contents.components.iter().map(|f| said(&f.component, &f.further, &f.hashes, &f.licences)).collect();
        expected.sort_by_key(|said| format!("{said:?}"));
        let edges: usize = contents.components.iter().map(|found| found.depends_on.len()).sum();
        for (name, writer) in WRITERS.iter().take(3) {
            let bill = read::read(&written(*writer, &contents)).unwrap();
            let mut found: Vec<Said> =
                bill.components.iter().map(|l| said(&l.component, &l.further, &l.hashes, &l.licences)).collect();
            found.sort_by_key(|said| format!("{said:?}"));
            prop_assert_eq!(&found, &expected, "{}", name);
            prop_assert_eq!(bill.complete, Some(contents.is_complete()), "{}", name);
            prop_assert_eq!(bill.notes, Vec::new(), "{}", name);
            prop_assert_eq!(bill.components.iter().map(|listed| listed.depends_on.len()).sum::<usize>(), edges);
        }
        let own = json::read(&written(WRITERS[5].1, &contents)).unwrap();
        let sorted = |mut contents: Contents| {
            contents.components.iter_mut().for_each(|found| found.further.sort_by_key(|c| format!("{c:?}")));
            contents.secrets.dedup();
            ordered(contents)
        };
        prop_assert_eq!(sorted(own), sorted(contents));
    }
}
