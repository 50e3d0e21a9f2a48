//! Components against advisories, and the file that advisories are kept in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write as _;

use jiff::Timestamp;

use super::store::{self, Store, StoreError};
use super::{Advisories, Against, Gathered, IgnoreList, Package, Taken, examine};
use crate::advisory::epss::Epss;
use crate::advisory::kev::Catalogue;
use crate::advisory::osv::Advisory;
use crate::advisory::place::Platform;
use crate::component::{Component, Ecosystem, Evidence, Source};
use crate::document::{Contents, Details, Finding, Found, Image, OperatingSystem, Severity, Tool, trivyignore, vex};

const LOG4SHELL: &str = include_str!("../advisory/fixtures/maven-log4shell.json");
const DEBIAN: &str = include_str!("../advisory/fixtures/debian-log4shell.json");
const NOTICE: &str = include_str!("../advisory/fixtures/debian-notice.json");
const MINIMIST: &str = include_str!("../advisory/fixtures/npm-minimist.json");

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

fn advisories(texts: &[&str]) -> Advisories {
    let parsed: Vec<Advisory> = texts.iter().map(|text| Advisory::parse(text.as_bytes()).unwrap()).collect();
    Advisories::of(&parsed, now()).unwrap()
}

fn component(ecosystem: Ecosystem, name: &str, version: &str, source: Option<(&str, &str)>) -> Component {
    Component {
        ecosystem,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: None,
        source: source.map(|(name, version)| Source { name: name.to_owned(), version: version.to_owned() }),
        licences: Vec::new(),
        evidence: Evidence::Installed,
    }
}

fn found(component: Component) -> Found {
    Found {
        id: format!("{}/{}@{}", component.ecosystem.word(), component.name, component.version),
        component,
        places: Vec::new(),
        owner: None,
        further: Vec::new(),
        hashes: Vec::new(),
        details: Details::default(),
        depends_on: Vec::new(),
        licences: Vec::new(),
    }
}

fn contents(system: Option<(&str, &str)>, components: Vec<Found>) -> Contents {
    Contents {
        tool: Tool { name: "longshore".to_owned(), version: "0".to_owned() },
        image: Image { name: "image".to_owned(), digest: Some(format!("sha256:{:064}", 1)), ..Image::default() },
        operating_system: system.map(|(id, version)| OperatingSystem {
            id: id.to_owned(),
            version: version.to_owned(),
            name: String::new(),
        }),
        components,
        findings: Vec::new(),
        matched: None,
        secrets: Vec::new(),
        unexamined: Vec::new(),
    }
}

fn against(advisories: &Advisories) -> Against<'_> {
    Against { advisories: Some(advisories), statements: &[], digests: &[], ignore: &[], now: now() }
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

fn matches(advisories: &Advisories, component: &Component) -> super::Matches {
    advisories.matches(&advisories.on(None), component, component.evidence, "here")
}

#[test]
fn log4shell_is_one_finding_with_range_fix_and_rating() {
    let advisories = advisories(&[LOG4SHELL]);
    let jar = component(Ecosystem::Maven, "org.apache.logging.log4j:log4j-core", "2.14.1", None);
    let said = matches(&advisories, &jar);
    assert!(said.undecided.is_empty());
    let [finding] = &said.findings[..] else { panic!("{said:?}") };
    assert_eq!(finding.id, "CVE-2021-44228");
    assert_eq!(finding.aliases, ["GHSA-jfh8-c2jp-5v3q"]);
    assert_eq!(finding.component, "here");
    assert_eq!(finding.package, "Maven org.apache.logging.log4j:log4j-core");
    assert_eq!((finding.severity, finding.evidence), (Severity::Critical, Evidence::Installed));
    assert_eq!(finding.cvss.as_ref().unwrap().score, 10.0);
    assert_eq!(finding.fixed_in, ["2.15.0"]);
    assert!(finding.range.contains("< 2.15.0"), "{}", finding.range);
    assert_eq!(finding.source.name, "GitHub");

    let alone = matches(&advisories, &component(Ecosystem::Maven, "log4j-core", "2.14.1", None));
    assert_eq!(alone.findings[0].evidence, Evidence::Inferred, "the jar does not tell its group");
    assert!(
        matches(&advisories, &component(Ecosystem::Maven, "org.apache.logging.log4j:log4j-core", "2.17.1", None))
            .findings
            .is_empty()
    );
    let hits = advisories.hits(&advisories.on(None), &jar);
    assert!(hits.len() == 1 && hits[0].id == "CVE-2021-44228" && hits[0].is_affected);
}

#[test]
fn what_cannot_be_decided_is_told_and_is_no_finding() {
    let advisories = advisories(&[MINIMIST]);
    let said = matches(&advisories, &component(Ecosystem::Npm, "minimist", "git+ssh", None));
    assert!(said.findings.is_empty());
    assert_eq!(said.undecided.len(), 1);
    let mut contents = contents(None, vec![found(component(Ecosystem::Npm, "minimist", "", None))]);
    examine(&mut contents, &against(&advisories));
    let gaps = contents.matched.as_ref().unwrap().gaps.join("\n");
    assert!(gaps.starts_with("npm minimist : whether ") && gaps.contains("cannot be said"), "{gaps}");
    assert!(contents.is_complete() && !contents.is_matched_completely());
}

#[test]
fn a_distribution_s_notice_is_on_each_of_its_vulnerabilities() {
    let package =
        || found(component(Ecosystem::Deb, "liblog4j2-java", "2.13.3-1", Some(("apache-log4j2", "2.13.3-1"))));
    let mut contents = contents(Some(("debian", "11")), vec![package()]);
    let advisories = advisories(&[DEBIAN, NOTICE, LOG4SHELL]);
    examine(&mut contents, &against(&advisories));
    assert_eq!(ids(&contents.findings), ["CVE-2020-9488", "CVE-2021-44228"]);
    let shell = &contents.findings[1];
    assert!(shell.aliases.contains(&"DSA-5020-1".to_owned()), "{:?}", shell.aliases);
    assert!(shell.aliases.contains(&"DEBIAN-CVE-2021-44228".to_owned()), "{:?}", shell.aliases);
    assert_eq!(shell.package, "Debian:11 apache-log4j2");
    assert_ne!(shell.severity, Severity::Unknown, "rated by an alias where the distribution does not");
    assert_eq!(contents.findings[0].severity, Severity::Unknown, "what nobody rates is unknown");
    assert_eq!(contents.findings[0].fixed_in, ["2.15.0-1~deb11u1"]);
}

#[test]
fn notices_with_rpm_state_what_they_fix_as_related() {
    let notice = r#"{"id": "ALSA-2024:1", "modified": "2026-01-02T03:04:05Z", "summary": "Important: a fix",
        "related": ["CVE-2024-1", "CVE-2024-2"], "affected": [{"package": {"ecosystem": "AlmaLinux:9", "name": "a"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2-1.el9"}]}]}]}"#;
    let other = r#"{"id": "CVE-2024-2", "modified": "2026-01-02T03:04:05Z", "database_specific": {"severity": "LOW"},
        "affected": []}"#;
    let advisories = advisories(&[notice, other]);
    let platform = Platform::from_os_release("almalinux", "9.4");
    let said = advisories.matches(
        &advisories.on(Some(&platform)),
        &component(Ecosystem::Rpm, "a", "1-1.el9", None),
        Evidence::Installed,
        "a",
    );
    assert_eq!(ids(&said.findings), ["CVE-2024-1", "CVE-2024-2"]);
    let severities: Vec<_> = said.findings.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::High, Severity::Low], "each vulnerability's own rating before the notice's");
}

#[test]
fn what_a_package_owns_is_matched_with_the_distribution_s_advisories_alone() {
    let python = r#"{"id": "PYSEC-1", "modified": "2026-01-02T03:04:05Z", "aliases": ["CVE-2024-7"], "affected": [
        {"package": {"ecosystem": "PyPI", "name": "Foo"}, "ranges": [{"type": "ECOSYSTEM",
         "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]}]}"#;
    let other = r#"{"id": "DSA-1-1", "modified": "2026-01-02T03:04:05Z", "affected": [{"package": {"ecosystem":
        "Debian:12", "name": "bar"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}"#;
    let owned = || {
        let mut package = found(component(Ecosystem::Deb, "python3-foo", "1.0-3", None));
        package.further = vec![component(Ecosystem::PyPi, "foo", "1.0", None)];
        vec![package, found(component(Ecosystem::PyPi, "foo", "1.1", None))]
    };
    let advisories = advisories(&[python, other]);
    let mut known = contents(Some(("debian", "12")), owned());
    examine(&mut known, &against(&advisories));
    assert_eq!(known.findings.len(), 1);
    assert_eq!(known.findings[0].component, "pypi/foo@1.1");
    let matched = known.matched.unwrap();
    assert!(
        matched.gaps.is_empty() && matched.notes[0].starts_with("one component belongs to a package"),
        "{matched:?}"
    );

    let mut unknown = contents(Some(("slackware", "15")), owned());
    examine(&mut unknown, &against(&advisories));
    let components: Vec<_> = unknown.findings.iter().map(|finding| finding.component.as_str()).collect();
    assert_eq!(components, ["deb/python3-foo@1.0-3", "pypi/foo@1.1"], "nothing is known of the distribution");
    assert_eq!(unknown.matched.unwrap().gaps, ["1 deb component of slackware 15: no advisory is known"]);
}

#[test]
fn withdrawn_advisories_affect_nothing_and_later_versions_replace_earlier_ones() {
    let advisory = |modified: &str, fields: &str| {
        let text = format!(
            r#"{{"id": "GHSA-1", "modified": "{modified}", {fields} "affected": [{{"package": {{"ecosystem": "npm",
               "name": "a"}}, "ranges": [{{"type": "SEMVER", "events": [{{"introduced": "0"}}]}}]}}]}}"#
        );
        Advisory::parse(text.as_bytes()).unwrap()
    };
    let mut gathered = Gathered::default();
    let first = gathered.begin("first", now()).unwrap();
    let old = advisory("2025-01-01T00:00:00Z", "");
    let new = advisory("2025-02-01T00:00:00Z", r#""summary": "the new one","#);
    let withdrawn = advisory("2025-03-01T00:00:00Z", r#""withdrawn": "2025-03-01T00:00:00Z","#);
    assert_eq!(gathered.add(first, &new, now()).unwrap(), Taken::Kept);
    let second = gathered.begin("second", now()).unwrap();
    assert_eq!(gathered.add(second, &old, now()).unwrap(), Taken::Older);
    assert_eq!(gathered.add(second, &withdrawn, now()).unwrap(), Taken::Withdrawn);
    let (data, records, _) = gathered.clone().records().unwrap();
    assert_eq!((records.len(), data.sources[1].withdrawn), (1, 1));
    assert_eq!(records[0].advisory().unwrap().summary, "the new one");
    gathered.begin("first", now()).unwrap();
    assert!(gathered.is_empty(), "a source that is read again begins anew");
}

#[test]
fn statements_apply_or_say_why_not_and_ignored_findings_do_not_count() {
    let jar = || vec![found(component(Ecosystem::Maven, "org.apache.logging.log4j:log4j-core", "2.14.1", None))];
    let statement = |product: &str, status: &str| {
        let text = format!(
            r#"{{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:{product}", "author": "a",
            "timestamp": "2026-01-01T00:00:00Z", "version": 1, "statements": [{{"vulnerability": {{"name":
            "CVE-2021-44228"}}, "products": [{{"@id": "{product}"}}], "status": "{status}",
            "justification": "vulnerable_code_not_in_execute_path"}}]}}"#
        );
        vex::read(text.as_bytes()).unwrap().statements
    };
    let advisories = advisories(&[LOG4SHELL]);
    let purl = "pkg:maven/org.apache.logging.log4j/log4j-core";
    let statements = [statement(purl, "not_affected"), statement(&format!("{purl}@2.0"), "not_affected")].concat();
    let mut lifted = contents(None, jar());
    examine(&mut lifted, &Against { statements: &statements, ..against(&advisories) });
    let finding = &lifted.findings[0];
    assert_eq!(finding.verdict.as_ref().unwrap().status, vex::Status::NotAffected);
    let passed: Vec<_> = finding.heard.iter().map(|heard| heard.passed_over.as_deref()).collect();
    assert_eq!(passed, [None, Some("it is about version 2.0, this one has \"2.14.1\"")]);
    assert!(!finding.counts());

    let entries = trivyignore::read(b"GHSA-jfh8-c2jp-5v3q exp:2026-03-01\n").unwrap();
    let list = [IgnoreList { file: ".trivyignore".to_owned(), entries }];
    let mut ignored = contents(None, jar());
    examine(&mut ignored, &Against { ignore: &list, ..against(&advisories) });
    assert_eq!(ignored.findings[0].ignored.as_ref().unwrap().text(), ".trivyignore, until 2026-03-01T00:00:00Z");
    let later = "2026-03-01T00:00:00Z".parse().unwrap();
    let mut ended = contents(None, jar());
    examine(&mut ended, &Against { ignore: &list, now: later, ..against(&advisories) });
    assert!(ended.findings[0].counts());
}

/// All of it through the file.
fn stored(texts: &[&str], lists: bool) -> Vec<u8> {
    let mut gathered = Gathered::default();
    let source = gathered.begin("by hand", now()).unwrap();
    for text in texts {
        gathered.add(source, &Advisory::parse(text.as_bytes()).unwrap(), now()).unwrap();
    }
    if lists {
        let kev = br#"{"vulnerabilities": [{"cveID": "CVE-2021-44228", "dateAdded": "2021-12-10"}]}"#;
        gathered.exploited(Catalogue::parse(kev).unwrap());
        let epss =
            b"#model_version:v1,score_date:2026-01-30T00:00:00+0000\ncve,epss,percentile\nCVE-2021-44228,0.97,1\n";
        gathered.lists.likelihoods = Epss::read(&epss[..]).unwrap();
    }
    let (data, records, lists) = gathered.records().unwrap();
    store::encode(&data, &records, &lists).unwrap()
}

fn open(bytes: &[u8]) -> Result<Store, StoreError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Store::open(file)
}

#[test]
fn the_file_gives_what_went_into_it_and_only_what_is_asked_for() {
    let store = open(&stored(&[LOG4SHELL, DEBIAN, NOTICE, MINIMIST], true)).unwrap();
    assert_eq!((store.data().advisories, store.data().exploited), (4, Some(1)));
    assert_eq!(store.records().unwrap().len(), 4);
    let jar = component(Ecosystem::Maven, "log4j-core", "2.14.1", None);
    let some = store.advisories_on([&jar], now()).unwrap();
    assert_eq!(some.len(), 1);
    let finding = matches(&some, &jar).findings.remove(0);
    assert!(finding.known_exploited);
    assert_eq!(finding.epss.unwrap().score, 0.97);
    assert_eq!(matches(&store.advisories(now()).unwrap(), &jar).findings, [finding]);
    assert!(store.data().knows(Ecosystem::Maven, None) && !store.data().knows(Ecosystem::Gem, None));
    assert!(store.advisories_on(&[], now()).unwrap().is_empty());
}

#[test]
fn a_damaged_file_is_refused_wherever_the_damage_is() {
    let bytes = stored(&[LOG4SHELL, MINIMIST], true);
    let read = |bytes: &[u8]| -> Result<usize, StoreError> {
        let store = open(bytes)?;
        let jar = component(Ecosystem::Maven, "log4j-core", "2.14.1", None);
        Ok(store.advisories(now())?.len() + store.records_on([&jar])?.len())
    };
    assert_eq!(read(&bytes).unwrap(), 3);
    for at in (0..bytes.len()).filter(|at| !(12..16).contains(at)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        assert!(read(&damaged).is_err(), "byte {at}");
    }
    for length in [0, 7, 55, 56, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(read(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert_eq!(open(&newer).unwrap_err().to_string(), "it is of version 2, and version 1 is read");
    assert!(matches!(open(b"{}"), Err(StoreError::Other)));
}

#[test]
fn names_meet_where_component_and_advisory_do() {
    let advisory = Advisory::parse(LOG4SHELL.as_bytes()).unwrap();
    for name in ["org.apache.logging.log4j:log4j-core", "log4j-core"] {
        let jar = component(Ecosystem::Maven, name, "2", None);
        let names = Package::from(&jar).names();
        assert!(advisory.names().iter().any(|(_, known)| names.contains(known)), "{name}");
    }
    let package = component(Ecosystem::Rpm, "openssl-libs", "3", Some(("openssl", "3")));
    assert_eq!(Package::from(&package).names(), ["openssl-libs", "openssl"]);
}
