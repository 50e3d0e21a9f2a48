//! Ranges against the schema's own algorithm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::super::osv::{Affected, Event, Range, RangeKind};
use super::super::place::Place;
use super::{Match, Reason, Undecided};
use crate::version::{Scheme, Version};

fn package(ecosystem: &str, ranges: Vec<Range>, versions: &[&str]) -> Affected {
    Affected {
        ecosystem: ecosystem.to_owned(),
        name: "p".to_owned(),
        place: Place::parse(ecosystem),
        ranges,
        versions: versions.iter().map(|version| (*version).to_owned()).collect(),
        severity: Vec::new(),
        word: None,
    }
}

fn range(events: &[(&str, &str)]) -> Range {
    let event = |(kind, version): &(&str, &str)| {
        let version = (*version).to_owned();
        match *kind {
            "introduced" => Event::Introduced(version),
            "fixed" => Event::Fixed(version),
            "last_affected" => Event::LastAffected(version),
            _ => Event::Limit(version),
        }
    };
    Range { kind: RangeKind::Ecosystem, events: events.iter().map(event).collect() }
}

fn fixed(package: &Affected, version: &str) -> Option<Option<String>> {
    match package.prepare().unwrap().matches_text(version) {
        Match::Affected(hit) => Some(hit.fixed.map(|fixed| fixed.to_string())),
        Match::Unaffected => None,
        Match::Undecided(undecided) => panic!("{undecided}"),
    }
}

#[test]
fn the_fix_is_that_of_the_branch() {
    let package = package(
        "PyPI",
        vec![range(&[("introduced", "1.0"), ("fixed", "1.0.2"), ("introduced", "3.0"), ("fixed", "3.2.5")])],
        &["0.9", "1.0.1", "4.0"],
    );
    assert_eq!(fixed(&package, "0.8"), None);
    assert_eq!(fixed(&package, "1"), Some(Some("1.0.2".into())));
    assert_eq!(fixed(&package, "1.0.2"), None);
    assert_eq!(fixed(&package, "3.2.5rc1"), Some(Some("3.2.5".into())));
    assert_eq!(fixed(&package, "0.9.0"), Some(Some("1.0.2".into())), "a listed version, and the first fix after it");
    assert_eq!(fixed(&package, "4.0"), Some(None));
    let Match::Affected(hit) = package.prepare().unwrap().matches_text("3.1") else { panic!() };
    assert_eq!(hit.reason, Reason::Range { range: 0, introduced: 2, end: Some(3) });
}

#[test]
fn what_cannot_be_evaluated_is_undecided() {
    let git = Range { kind: RangeKind::Git, events: vec![Event::Introduced("0".into())] };
    let said = |package: &Affected, version: &str| package.prepare().unwrap().matches_text(version);
    assert_eq!(said(&package("npm", vec![git.clone()], &[]), "1.0.0"), Match::Undecided(Undecided::Commits));
    assert_eq!(said(&package("npm", vec![], &[]), "1.0.0"), Match::Undecided(Undecided::Nothing));
    assert_eq!(said(&package("npm", vec![git], &["1.0.0"]), "1.0.1"), Match::Unaffected);
    let broken = vec![range(&[("introduced", "0"), ("fixed", "nightly")]), range(&[("introduced", "2.0.0")])];
    let broken = package("npm", broken, &[]);
    assert!(matches!(said(&broken, "1.0.0"), Match::Undecided(Undecided::Bound { range: 0, .. })));
    assert!(matches!(said(&broken, "2.1.0"), Match::Affected(_)), "the other range can be read");
    let all = package("npm", vec![range(&[("introduced", "0")])], &[]);
    assert!(matches!(said(&all, "not a version"), Match::Affected(_)));
    let some = package("npm", vec![range(&[("introduced", "1.0.0")])], &["weird one"]);
    assert!(matches!(said(&some, "not a version"), Match::Undecided(Undecided::Version(_))));
    assert!(matches!(said(&some, ""), Match::Undecided(Undecided::Version(_))));
    assert!(matches!(said(&some, "weird one"), Match::Affected(_)));
    assert!(package("Hex", vec![], &[]).prepare().is_none());
}

/// The algorithm of the schema's section "Evaluation", word for word; the events sorted as there.
fn model(events: &[(&'static str, u8)], version: u8) -> bool {
    let limits: Vec<_> = events.iter().filter(|(kind, _)| *kind == "limit").collect();
    if !limits.is_empty() && !limits.iter().any(|(_, limit)| version < *limit) {
        return false;
    }
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|(kind, at)| (*at, *kind == "last_affected"));
    let mut vulnerable = false;
    for (kind, at) in sorted {
        match kind {
            "introduced" if version >= at => vulnerable = true,
            "fixed" if version >= at => vulnerable = false,
            "last_affected" if version > at => vulnerable = false,
            _ => {}
        }
    }
    vulnerable
}

proptest! {
    #[test]
    fn intervals_say_what_the_schema_says(
        events in proptest::collection::vec(
            prop_oneof![
                4 => (Just("introduced"), 0_u8..10),
                3 => (Just("fixed"), 1_u8..10),
                3 => (Just("last_affected"), 1_u8..10),
                1 => (Just("limit"), 1_u8..10),
            ],
            0..7,
        ),
    ) {
        let texts: Vec<_> = events.iter().map(|(kind, at)| (*kind, at.to_string())).collect();
        let texts: Vec<_> = texts.iter().map(|(kind, at)| (*kind, at.as_str())).collect();
        let prepared = package("PyPI", vec![range(&texts)], &[]).prepare().unwrap();
        for version in 0..11_u8 {
            let found = prepared.matches(&Version::parse(Scheme::Pep440, &version.to_string()).unwrap());
            prop_assert_eq!(matches!(found, Match::Affected(_)), model(&events, version), "{} in {:?}", version, &events);
            if let Match::Affected(hit) = found {
                let Reason::Range { introduced, end, .. } = hit.reason else { panic!() };
                prop_assert!(events[introduced].0 == "introduced" && events[introduced].1 <= version);
                prop_assert!(end.is_none_or(|end| events[end].1 >= version));
            }
        }
    }
}
