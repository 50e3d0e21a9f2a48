//! Packages are found by name, and advisories by what they affect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::name::normalised;
use super::super::osv::Advisory;
use super::super::place::{Place, Platform};
use super::super::range::Match;
use super::{Found, Index};
use crate::component::{Component, Ecosystem, Evidence, Source};

const FIXTURES: [&str; 5] = [
    include_str!("../fixtures/maven-log4shell.json"),
    include_str!("../fixtures/debian-log4shell.json"),
    include_str!("../fixtures/debian-notice.json"),
    include_str!("../fixtures/npm-minimist.json"),
    include_str!("../fixtures/ubuntu-pro.json"),
];

fn index() -> Index {
    let mut index = Index::default();
    for fixture in FIXTURES {
        index.add(&Advisory::parse(fixture.as_bytes()).unwrap());
    }
    index
}

fn ids<'a>(index: &'a Index, found: &[Found]) -> Vec<&'a str> {
    found.iter().map(|found| index.id(found.advisory).unwrap()).collect()
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

#[test]
fn os_packages_by_release_and_source() {
    let index = index();
    let on = |id: &str, release: &str, version: &str| {
        let platform = Platform::from_os_release(id, release);
        let package = component(Ecosystem::Deb, "liblog4j2-java", "1.0", Some(("apache-log4j2", version)));
        ids(&index, &index.on(Some(&platform)).component(&package)).join(" ")
    };
    assert_eq!(on("debian", "11", "2.13.3-1"), "DEBIAN-CVE-2021-44228 DSA-5020-1");
    assert_eq!(on("debian", "11", "2.15.0-1~deb11u1"), "");
    assert_eq!(on("debian", "12", "2.15.0-1~deb11u1"), "DEBIAN-CVE-2021-44228");
    assert_eq!(on("debian", "13", "2.13.3-1"), "");
    assert_eq!(on("ubuntu", "16.04", "2.4-2"), "UBUNTU-CVE-2021-44228", "the fix is to be had with Pro");
    assert_eq!(on("ubuntu", "20.04", "2.15.0-0.20.04.1"), "", "those with FIPS have packages of their own");
    assert!(index.knows(&Platform::from_os_release("debian", "12")));
    assert!(!index.knows(&Platform::from_os_release("alpine", "3.19.1")));
    assert!(index.on(None).package(Ecosystem::Deb, "apache-log4j2", "2.13.3-1").is_empty());
}

#[test]
fn language_packages_on_any_platform() {
    let index = index();
    let alpine = Platform::from_os_release("alpine", "3.19.1");
    for platform in [None, Some(&alpine)] {
        let found = index.on(platform).package(Ecosystem::Npm, "minimist", "v1.2.5");
        assert_eq!(ids(&index, &found), ["GHSA-xvch-5gv4-984h"]);
        let Match::Affected(hit) = &found[0].outcome else { panic!() };
        assert_eq!(hit.fixed.as_deref(), Some("1.2.6"));
    }
    let found = |version| index.on(None).package(Ecosystem::Npm, "minimist", version);
    assert!(found("0.2.4").is_empty());
    assert!(matches!(found("git+ssh")[..], [Found { outcome: Match::Undecided(_), .. }]), "never silently unaffected");
}

#[test]
fn a_jar_without_its_group_is_found_by_its_artifact() {
    let index = index();
    let found = |name: &str| index.on(None).component(&component(Ecosystem::Maven, name, "2.14.1", None));
    let whole = found("org.apache.logging.log4j:log4j-core");
    assert_eq!(ids(&index, &whole), ["GHSA-jfh8-c2jp-5v3q"]);
    assert!(whole[0].whole_name && whole[0].affected == 0);
    let alone = found("log4j-core");
    assert!(alone.len() == 1 && !alone[0].whole_name);
    assert!(found("com.example:log4j-core").is_empty());
}

#[test]
fn source_rpms_have_no_epoch() {
    let mut index = Index::default();
    let advisory = r#"{"id": "ALSA-1", "modified": "2026-01-02T03:04:05Z", "affected": [
        {"package": {"ecosystem": "AlmaLinux:9", "name": "openssl"}, "ranges": [{"type": "ECOSYSTEM",
         "events": [{"introduced": "0"}, {"fixed": "1:3.0.7-5.el9"}]}]},
        {"package": {"ecosystem": "Hex", "name": "openssl"}}]}"#;
    index.add(&Advisory::parse(advisory.as_bytes()).unwrap());
    assert_eq!(index.unknown_ecosystems().get("Hex"), Some(&1));
    let platform = Platform::from_os_release("almalinux", "9.3");
    let found = |version: &str, source: &str| {
        let package = component(Ecosystem::Rpm, "openssl-libs", version, Some(("openssl", source)));
        index.on(Some(&platform)).component(&package).len()
    };
    assert_eq!(found("1:3.0.7-4.el9", "3.0.7-4.el9"), 1);
    assert_eq!(found("1:3.0.7-5.el9", "3.0.7-5.el9"), 0);
}

#[test]
fn ecosystem_strings() {
    for (text, id, release, channel) in [
        ("Debian:12", "debian", "12", None),
        ("Debian:sid", "debian", "sid", None),
        ("Debian", "debian", "", None),
        ("Alpine:v3.19", "alpine", "3.19", None),
        ("Ubuntu:22.04:LTS", "ubuntu", "22.04", None),
        ("Ubuntu:24.10", "ubuntu", "24.10", None),
        ("Ubuntu:Pro:18.04:LTS", "ubuntu", "18.04", Some("Pro")),
        ("Ubuntu:Pro:FIPS-updates:20.04:LTS", "ubuntu", "20.04", Some("Pro:FIPS-updates")),
        ("Red Hat:enterprise_linux:9::baseos", "rhel", "9", None),
        ("Red Hat:rhel_eus:9.2::appstream", "redhat:rhel_eus", "9.2", None),
        ("AlmaLinux:8", "almalinux", "8", None),
        ("Rocky Linux:9", "rocky", "9", None),
        ("openSUSE:Leap 15.5", "opensuse-leap", "15.5", None),
        ("openSUSE:Tumbleweed", "opensuse-tumbleweed", "", None),
        ("SUSE:Linux Enterprise Server 15 SP5", "sles", "15.5", None),
        ("SUSE:Linux Enterprise Server 15 SP4-LTSS", "sles", "15.4", None),
        ("SUSE:Linux Enterprise Module for Basesystem 15 SP5", "sles", "15.5", None),
        ("SUSE:Linux Enterprise Desktop 15 SP5", "suse", "Linux Enterprise Desktop 15 SP5", None),
        ("Wolfi", "wolfi", "", None),
        ("Chainguard", "chainguard", "", None),
        ("Azure Linux:3", "azurelinux", "3", None),
        ("Mageia:9", "mageia", "9", None),
        ("Photon OS:4.0", "photon", "4.0", None),
        ("openEuler:22.03-LTS-SP1", "openEuler", "22.03-LTS-SP1", None),
    ] {
        let platform = Place::parse(text).unwrap().platform.unwrap();
        assert_eq!((&*platform.id, &*platform.release, platform.channel.as_deref()), (id, release, channel), "{text}");
    }
    assert_eq!(Place::parse("Maven:https://maven.google.com").unwrap().ecosystem, Ecosystem::Maven);
    assert_eq!(Place::parse("Kubernetes").unwrap_err().0, "Kubernetes");
    for (id, version, release) in [
        ("alpine", "3.19.1", "3.19"),
        ("alpine", "3.21_alpha20240923", "edge"),
        ("rhel", "9.3", "9"),
        ("wolfi", "20230201", ""),
        ("ubuntu", "22.04", "22.04"),
        ("sles", "15.5", "15.5"),
    ] {
        assert_eq!(Platform::from_os_release(id, version).release, release);
    }
}

#[test]
fn names() {
    for (ecosystem, name, normal) in [
        (Ecosystem::PyPi, "Foo_.-Bar", "foo-bar"),
        (Ecosystem::PyPi, "foo--bar", "foo-bar"),
        (Ecosystem::PyPi, "zope.interface", "zope-interface"),
        (Ecosystem::NuGet, "Newtonsoft.Json", "newtonsoft.json"),
        (Ecosystem::Cargo, "serde-json", "serde_json"),
        (Ecosystem::Composer, "Symfony/Http-Kernel", "symfony/http-kernel"),
        (Ecosystem::Npm, "@Scope/JSONStream", "@Scope/JSONStream"),
        (Ecosystem::Go, "github.com/BurntSushi/toml", "github.com/BurntSushi/toml"),
        (Ecosystem::Gem, "RedCloth", "RedCloth"),
    ] {
        assert_eq!(normalised(ecosystem, name), normal);
    }
    let advisory = Advisory::parse(FIXTURES[0].as_bytes()).unwrap();
    assert_eq!(advisory.packages_named(Ecosystem::Maven, "org.apache.logging.log4j:log4j-core").count(), 2);
}
