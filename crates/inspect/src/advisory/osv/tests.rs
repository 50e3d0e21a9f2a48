//! Advisories as they are published, and broken ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::super::range::{Match, Undecided};
use super::super::severity::Severity;
use super::{Advisory, AdvisoryError, MAX_ADVISORY_BYTES, RangeKind};

const LOG4SHELL: &str = include_str!("../fixtures/maven-log4shell.json");
const DEBIAN: &str = include_str!("../fixtures/debian-log4shell.json");
const MINIMIST: &str = include_str!("../fixtures/npm-minimist.json");
const UBUNTU: &str = include_str!("../fixtures/ubuntu-pro.json");

fn parse(text: &str) -> Advisory {
    Advisory::parse(text.as_bytes()).unwrap()
}

#[test]
fn log4shell() {
    let advisory = parse(LOG4SHELL);
    assert_eq!(advisory.aliases, ["CVE-2021-44228"]);
    assert_eq!(advisory.assessment(0).severity, Severity::Critical);
    assert_eq!(advisory.assessment(0).score().unwrap().to_string(), "10.0");
    let fixed = |version: &str| {
        (0..advisory.affected.len()).find_map(|index| match advisory.matches(index, version) {
            Match::Affected(hit) => Some(hit.fixed.unwrap().to_string()),
            Match::Unaffected => None,
            Match::Undecided(undecided) => panic!("{undecided}"),
        })
    };
    for (version, fix) in [
        ("2.0-beta8", None),
        ("2.0-beta9", Some("2.3.1")),
        ("2.0-rc1", Some("2.3.1")),
        ("2.0", Some("2.3.1")),
        ("2.3", Some("2.3.1")),
        ("2.3.1", None),
        ("2.4", Some("2.12.2")),
        ("2.12.1", Some("2.12.2")),
        ("2.12.2", None),
        ("2.12.4", None),
        ("2.13.0", Some("2.15.0")),
        ("2.14.1", Some("2.15.0")),
        ("2.15.0", None),
        ("2.17.1", None),
    ] {
        assert_eq!(fixed(version).as_deref(), fix, "{version}");
    }
    assert!(matches!(advisory.matches(0, ""), Match::Undecided(Undecided::Version(_))));
}

#[test]
fn severities() {
    let debian = parse(DEBIAN);
    assert_eq!(debian.assessment(0).severity, Severity::High);
    assert_eq!(debian.assessment(1).severity, Severity::Unknown, "not yet assigned is not low");
    assert_eq!(parse(UBUNTU).assessment(0).severity, Severity::High);
    let minimist = parse(MINIMIST);
    let assessment = minimist.assessment(0);
    assert_eq!(
        (assessment.severity, assessment.score().unwrap().tenths()),
        (Severity::High, 75),
        "the vector that can be read"
    );
    assert_eq!(minimist.unreadable_vectors().count(), 1);
    assert_eq!(parse(&bare("")).assessment(7).severity, Severity::Unknown);
}

/// An advisory with nothing but these fields more.
fn bare(fields: &str) -> String {
    format!(r#"{{"id": "X-1", "modified": "2026-01-02T03:04:05Z"{fields}}}"#)
}

#[test]
fn what_is_malformed_names_the_field() {
    let events = |events: &str| {
        bare(&format!(
            r#", "affected": [{{}}, {{"package": {{"ecosystem": "npm", "name": "x"}}, "ranges": [{{"type": "SEMVER", "events": {events}}}]}}]"#
        ))
    };
    for (text, field) in [
        (r#"{"modified": "2026-01-02T03:04:05Z"}"#.to_owned(), "id"),
        (r#"{"id": "X-1"}"#.to_owned(), "modified"),
        (r#"{"id": "X 1", "modified": "2026-01-02T03:04:05Z"}"#.to_owned(), "id"),
        (r#"{"id": "X-1", "modified": "yesterday"}"#.to_owned(), "modified"),
        (bare(r#", "withdrawn": 5"#), "withdrawn"),
        (bare(r#", "schema_version": "2.0.0""#), "schema_version"),
        (bare(r#", "aliases": ["A", 7]"#), "aliases[1]"),
        (bare(r#", "affected": {}"#), "affected"),
        (bare(r#", "affected": [{"package": {"name": "x"}}]"#), "affected[0].package.ecosystem"),
        (bare(r#", "affected": [{"versions": [1.0]}]"#), "affected[0].versions[0]"),
        (bare(r#", "severity": [{"type": "CVSS_V3"}]"#), "severity[0].score"),
        (events(r#"[{"introduced": 0}]"#), "affected[1].ranges[0].events[0].introduced"),
        (events(r#"[{"introduced": "0"}, {"introduced": "1", "fixed": "2"}]"#), "affected[1].ranges[0].events[1]"),
        (events(r#"[{"introduced": "0"}, {}]"#), "affected[1].ranges[0].events[1]"),
        (events(r#"[{"fixed": "2"}]"#), "affected[1].ranges[0].events"),
        (events("[]"), "affected[1].ranges[0].events"),
    ] {
        match Advisory::parse(text.as_bytes()) {
            Err(AdvisoryError::Field { field: named, .. }) => assert_eq!(named, field, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in ["", "[]", "{", r#"{"id": "X-1", "id": "X-2", "modified": "2026-01-02T03:04:05Z"}"#] {
        assert!(matches!(Advisory::parse(text.as_bytes()), Err(AdvisoryError::Json(_))), "{text}");
    }
}

#[test]
fn a25_advisories_are_bounded() {
    let large = vec![b' '; MAX_ADVISORY_BYTES + 1];
    assert!(matches!(Advisory::parse(&large), Err(AdvisoryError::TooLarge { .. })));
    let deep = bare(&format!(r#", "database_specific": {}"#, "[".repeat(100_000)));
    assert!(matches!(Advisory::parse(deep.as_bytes()), Err(AdvisoryError::Json(_))));
    let many = bare(&format!(r#", "affected": [{}]"#, ["{}"; super::MAX_AFFECTED + 1].join(",")));
    assert!(matches!(Advisory::parse(many.as_bytes()), Err(AdvisoryError::Field { field, .. }) if field == "affected"));
}

#[test]
fn withdrawn_and_optional_fields() {
    let advisory = parse(&bare(
        r#", "withdrawn": "2026-02-03T00:00:00Z", "affected": null, "aliases": null, "database_specific": []"#,
    ));
    assert!(advisory.is_withdrawn("2026-02-03T00:00:00Z".parse().unwrap()));
    assert!(!advisory.is_withdrawn("2026-02-02T23:59:59Z".parse().unwrap()));
    let git = r#", "affected": [{"ranges": [{"type": "GIT", "repo": "r", "events": [{"introduced": "0"}]}, {"type": "NEW", "events": []}]}]"#;
    let advisory = parse(&bare(git));
    assert_eq!(advisory.affected[0].ranges[0].kind, RangeKind::Git);
    assert_eq!(advisory.matches(0, "1"), Match::Undecided(Undecided::Ecosystem));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Bytes are changed, cut out and doubled; what still reads can be matched and rated.
    #[test]
    fn a26_broken_advisories_never_panic(
        which in 0..4_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut bytes = [LOG4SHELL, DEBIAN, MINIMIST, UBUNTU][which].as_bytes().to_vec();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..(at + usize::from(byte)).min(bytes.len() - 1).max(at))),
                _ => {
                    let part = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        if let Ok(advisory) = Advisory::parse(&bytes) {
            for index in 0..advisory.affected.len() {
                let _ = advisory.matches(index, "2.14.1");
                let _ = advisory.assessment(index);
            }
        }
    }
}
