//! The rules of the specification, one by one, and that text and value are one.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::component::{Component, Ecosystem, Evidence, Source};

fn canonical(text: &str) -> String {
    text.parse::<Purl>().map_or_else(|error| format!("error: {error}"), |purl| purl.to_string())
}

#[test]
fn what_is_not_canonical_becomes_so() {
    for (text, expected) in [
        // The scheme and the slashes after it.
        ("PKG:npm/foobar@12.3.1", "pkg:npm/foobar@12.3.1"),
        ("pkg:///maven/org.apache.commons/io", "pkg:maven/org.apache.commons/io"),
        ("pkg:/maven/org.apache.commons/io", "pkg:maven/org.apache.commons/io"),
        // The type is lowercase; namespace and name only where the type says so.
        ("pkg:DEB/Debian/Curl@7.50.3-1", "pkg:deb/debian/curl@7.50.3-1"),
        ("pkg:rpm/Fedora/PyYAML@6", "pkg:rpm/fedora/PyYAML@6"),
        ("pkg:maven/HTTPClient/HTTPClient@0.3-3", "pkg:maven/HTTPClient/HTTPClient@0.3-3"),
        ("pkg:nuget/EnterpriseLibrary.Common@6", "pkg:nuget/EnterpriseLibrary.Common@6"),
        ("pkg:PYPI/Django_package@1.11.1.dev1", "pkg:pypi/django-package@1.11.1.dev1"),
        ("pkg:golang/github.com/BurntSushi/toml@v1", "pkg:golang/github.com/BurntSushi/toml@v1"),
        ("pkg:composer/Laravel/Laravel@5.5.0", "pkg:composer/laravel/laravel@5.5.0"),
        // A scope's at sign is encoded, a version's is not; nor are colons.
        ("pkg:npm/@angular/animation@12.3.1", "pkg:npm/%40angular/animation@12.3.1"),
        ("pkg:npm/@babel/core#/a/b/", "pkg:npm/%40babel/core#a/b"),
        ("pkg:deb/debian/attr@1%3A2.4.47-2+b1?arch=amd64", "pkg:deb/debian/attr@1:2.4.47-2%2Bb1?arch=amd64"),
        ("pkg:oci/debian@sha256%3Aab12?tag=latest", "pkg:oci/debian@sha256:ab12?tag=latest"),
        // Keys are lowercase and sorted, empty values are none, values are encoded but for colons.
        ("pkg:maven/a/b@1?type=zip&Classifier=dist&x=", "pkg:maven/a/b@1?classifier=dist&type=zip"),
        ("pkg:maven/g/a@1?repository_url=https://h/r", "pkg:maven/g/a@1?repository_url=https:%2F%2Fh%2Fr"),
        ("pkg:maven/g/a@1.0.0%20Final?mykey=my%20value", "pkg:maven/g/a@1.0.0%20Final?mykey=my%20value"),
        // Slashes at the ends and double ones, and dots in the subpath, say nothing.
        ("pkg:golang//google.golang.org//genproto/@abc#/x/./../y/", "pkg:golang/google.golang.org/genproto@abc#x/y"),
        ("pkg:generic/%E2%9C%93@%ce%b1", "pkg:generic/%E2%9C%93@%CE%B1"),
    ] {
        assert_eq!(canonical(text), expected, "{text}");
        assert_eq!(canonical(expected), expected, "{expected}");
    }
}

#[test]
fn what_breaks_a_rule_is_refused_with_the_reason() {
    let long = format!("pkg:npm/{}", "a".repeat(PURL_BYTES_MAX));
    let many: String = (0..=QUALIFIERS_MAX).map(|n| format!("&k{n}=v")).collect();
    for (text, expected) in [
        ("", PurlError::NoScheme),
        ("EnterpriseLibrary.Common@6.0.1304", PurlError::NoScheme),
        ("http:npm/a", PurlError::NoScheme),
        ("pkg%3Amaven/org.apache.commons/io", PurlError::NoScheme),
        ("pkg:EnterpriseLibrary.Common@6.0.1304", PurlError::Type),
        ("pkg:n&gnx/nginx@0.8.9", PurlError::Type),
        ("pkg:3nginx/nginx@0.8.9", PurlError::Type),
        ("pkg:nginx:a/nginx@0.8.9", PurlError::Type),
        ("pkg:maven/@1.3.4", PurlError::NoName),
        ("pkg:npm/", PurlError::NoName),
        ("pkg:npm/a?in%20production=true", PurlError::QualifierKey),
        ("pkg:npm/a?key", PurlError::QualifierKey),
        ("pkg:npm/a?a=1&A=2", PurlError::QualifierTwice { key: "a".to_owned() }),
        ("pkg:npm/a%2", PurlError::Encoding { part: "name" }),
        ("pkg:npm/a@%ff", PurlError::Encoding { part: "version" }),
        ("pkg:npm/a b", PurlError::Character { at: 9 }),
        ("pkg:npm/ä", PurlError::Character { at: 8 }),
        ("pkg:generic/a%2Fb/c", PurlError::Segment { part: "namespace" }),
        ("pkg:generic/c#a%2Fb", PurlError::Segment { part: "subpath" }),
        ("pkg:cargo/ns/rand@1", PurlError::NamespaceProhibited { package_type: "cargo".to_owned() }),
        (long.as_str(), PurlError::TooLong { bytes: PURL_BYTES_MAX + 8 }),
        (&format!("pkg:npm/a?x=y{many}"), PurlError::TooManyQualifiers),
    ] {
        assert_eq!(text.parse::<Purl>(), Err(expected), "{text}");
    }
}

fn component(ecosystem: Ecosystem, name: &str, version: &str) -> Component {
    Component {
        ecosystem,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: None,
        source: None,
        licences: Vec::new(),
        evidence: Evidence::Installed,
    }
}

#[test]
fn each_ecosystem_has_its_type_and_distributions_are_said() {
    let debian = Some(Distribution { id: "debian", version: "12" });
    for (ecosystem, name, version, expected) in [
        (Ecosystem::Maven, "org.slf4j:slf4j-api", "2.0", "pkg:maven/org.slf4j/slf4j-api@2.0"),
        (Ecosystem::Maven, "legacy", "1", "pkg:maven/legacy@1"),
        (Ecosystem::Npm, "@babel/core", "7.0.0", "pkg:npm/%40babel/core@7.0.0"),
        (Ecosystem::Npm, "ms", "2.1.2", "pkg:npm/ms@2.1.2"),
        (Ecosystem::PyPi, "Flask_Login", "0.6", "pkg:pypi/flask-login@0.6"),
        (
            Ecosystem::Go,
            "github.com/a/B/v2",
            "v2.0.0+incompatible",
            "pkg:golang/github.com/a/B/v2@v2.0.0%2Bincompatible",
        ),
        (Ecosystem::Go, "stdlib", "1.21.3", "pkg:golang/stdlib@1.21.3"),
        (Ecosystem::Cargo, "rand", "0.8", "pkg:cargo/rand@0.8"),
        (Ecosystem::Gem, "rack", "", "pkg:gem/rack"),
        (Ecosystem::Composer, "Monolog/monolog", "3", "pkg:composer/monolog/monolog@3"),
        (Ecosystem::NuGet, "Newtonsoft.Json", "13", "pkg:nuget/Newtonsoft.Json@13"),
        (Ecosystem::Generic, "busybox", "1.36.1", "pkg:generic/busybox@1.36.1"),
        (Ecosystem::Rpm, "a", "0:", "pkg:rpm/debian/a@0:?distro=debian-12"),
        (Ecosystem::Deb, "zlib1g", "1:1.2.13", "pkg:deb/debian/zlib1g@1:1.2.13?distro=debian-12"),
    ] {
        let purl = Purl::from_component(&component(ecosystem, name, version), debian).unwrap();
        assert_eq!(purl.to_string(), expected);
    }
    let mut openssl = component(Ecosystem::Rpm, "openssl-libs", "1:3.0.7-24.el9");
    openssl.architecture = Some("x86_64".to_owned());
    openssl.source = Some(Source { name: "openssl".to_owned(), version: "1:3.0.7-24.el9".to_owned() });
    let purl = Purl::from_component(&openssl, Some(Distribution { id: "rhel", version: "9.4" })).unwrap();
    let text = "pkg:rpm/redhat/openssl-libs@3.0.7-24.el9?arch=x86_64&distro=rhel-9.4&epoch=1&upstream=openssl";
    assert_eq!(purl.to_string(), text);
    assert_eq!(purl.to_component(Evidence::Installed), Some(openssl.clone()));
    openssl.source = Some(Source { name: "openssl".to_owned(), version: "3.0.7-24.el9".to_owned() });
    let stated = text.replace("upstream=openssl", "upstream=openssl-3.0.7-24.el9.src.rpm").parse::<Purl>().unwrap();
    assert_eq!(stated.to_component(Evidence::Installed), Some(openssl), "as others name source packages");
    assert_eq!("pkg:conan/zlib@1".parse::<Purl>().unwrap().to_component(Evidence::Installed), None);
}

fn any_component() -> impl Strategy<Value = Component> {
    let word = "[a-z0-9][a-z0-9.+~ä%@?#:-]{0,6}";
    let source = proptest::option::of(("[a-z0-9.+-]{1,6}", "[a-z0-9.+~:]{1,6}"));
    let arch = proptest::option::of("[a-z0-9_]{1,6}");
    (0..3usize, "[a-z0-9][a-z0-9.+-]{0,6}", word, arch, source).prop_map(
        |(which, name, version, architecture, source)| {
            let ecosystem = [Ecosystem::Deb, Ecosystem::Rpm, Ecosystem::Apk].get(which).copied().unwrap();
            Component {
                architecture,
                source: source.map(|(name, version)| Source { name, version }),
                ..component(ecosystem, &name, &version)
            }
        },
    )
}

proptest! {
    #[test]
    fn any_parts_come_back_from_the_text(
        namespace in proptest::collection::vec("[^/]{1,6}", 0..3),
        name in "[^/]{1,8}",
        version in ".{0,8}",
        value in ".{0,8}",
    ) {
        let purl = Purl::new("generic", &namespace.join("/"), &name).unwrap();
        let purl = purl.with_version(&version).with_qualifier("k", &value).unwrap();
        let text = purl.to_string();
        prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
        prop_assert_eq!(text.parse::<Purl>(), Ok(purl));
    }

    #[test]
    fn whatever_is_parsed_is_canonical_at_once(text in "pkg:(npm|deb|pypi|x)/[a-cA-C@/%2?&=#:.]{0,24}") {
        if let Ok(purl) = text.parse::<Purl>() {
            let once = purl.to_string();
            prop_assert_eq!(once.parse::<Purl>().map(|purl| purl.to_string()), Ok(once));
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,64}") {
        let _ = text.parse::<Purl>();
        let _ = format!("pkg:{text}").parse::<Purl>();
    }

    #[test]
    fn os_packages_survive_the_round_trip(component in any_component()) {
        let purl = Purl::from_component(&component, Some(Distribution { id: "fedora", version: "40" })).unwrap();
        let purl: Purl = purl.to_string().parse().unwrap();
        prop_assert_eq!(purl.to_component(Evidence::Installed), Some(component));
    }
}
