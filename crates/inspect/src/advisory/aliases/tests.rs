//! Identifiers that are joined, against a model of sets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::osv::Advisory;
use super::Aliases;

fn advisory(id: &str, fields: &str) -> Advisory {
    let json = format!(r#"{{"id": "{id}", "modified": "2026-01-02T03:04:05Z", {fields} "affected": []}}"#);
    Advisory::parse(json.as_bytes()).unwrap()
}

#[test]
fn one_vulnerability_is_one_finding_under_its_cve() {
    let mut aliases = Aliases::default();
    for advisory in [
        advisory("PYSEC-2021-1", r#""aliases": ["GHSA-aaaa-bbbb-cccc"],"#),
        advisory("GHSA-aaaa-bbbb-cccc", r#""aliases": ["CVE-2021-1"],"#),
        advisory("DEBIAN-CVE-2021-1", r#""upstream": ["CVE-2021-1"],"#),
        advisory("ALPINE-CVE-2021-1", ""),
        advisory("DSA-1-1", r#""upstream": ["CVE-2021-1"],"#),
        // About three, and none of them.
        advisory("DSA-2-1", r#""upstream": ["CVE-2021-1", "CVE-2021-2", "CVE-2021-3"],"#),
        advisory("RUSTSEC-2021-0001", r#""aliases": ["CVE-2021-1", "CVE-2021-2"],"#),
        advisory("GHSA-dddd-eeee-ffff", r#""related": ["CVE-2021-1"],"#),
    ] {
        aliases.add(&advisory).unwrap();
    }
    for id in ["PYSEC-2021-1", "GHSA-aaaa-bbbb-cccc", "DEBIAN-CVE-2021-1", "ALPINE-CVE-2021-1", "DSA-1-1", "CVE-2021-1"]
    {
        assert_eq!(aliases.preferred(id), "CVE-2021-1", "{id}");
    }
    for id in ["DSA-2-1", "RUSTSEC-2021-0001", "GHSA-dddd-eeee-ffff", "CVE-2021-2", "never seen"] {
        assert_eq!(aliases.preferred(id), id);
    }
}

proptest! {
    /// Against sets that are merged by hand, in this order and the reverse.
    #[test]
    fn groups_are_those_of_a_simple_model(pairs in proptest::collection::vec((0..12_u8, 0..12_u8), 0..16)) {
        let id = |n: u8| match n % 3 {
            0 => format!("CVE-2021-{n}"),
            1 => format!("GHSA-{n}"),
            _ => format!("X-{n}"),
        };
        let mut model: Vec<HashSet<u8>> = (0..12).map(|n| HashSet::from([n])).collect();
        let (mut forward, mut backward) = (Aliases::default(), Aliases::default());
        for (a, b) in &pairs {
            let at = model.iter().position(|set| set.contains(a)).unwrap();
            let set = model.swap_remove(at);
            match model.iter_mut().find(|set| set.contains(b)) {
                Some(other) => other.extend(set),
                None => model.push(set),
            }
            forward.join(&id(*a), &id(*b)).unwrap();
        }
        for (a, b) in pairs.iter().rev() {
            backward.join(&id(*b), &id(*a)).unwrap();
        }
        for set in model {
            let ids: Vec<_> = set.iter().map(|n| id(*n)).collect();
            let rank = |id: &&String| (!id.starts_with("CVE"), !id.starts_with("GHSA"), (*id).clone());
            let preferred = ids.iter().min_by_key(rank).unwrap();
            for id in &ids {
                prop_assert_eq!(forward.preferred(id), preferred);
                prop_assert_eq!(backward.preferred(id), preferred);
            }
        }
    }
}
