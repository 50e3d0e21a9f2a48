//! Orders of versions, and that they are orders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Ordering;

use proptest::prelude::*;

use super::{MAX_VERSION_BYTES, Scheme, Version, VersionError};

/// Each is before all that follow it; those in one line between `=` are equal.
fn ascending(scheme: Scheme, versions: &[&str]) {
    let parsed: Vec<Vec<Version>> = versions
        .iter()
        .map(|line| line.split(" = ").map(|version| Version::parse(scheme, version).unwrap()).collect())
        .collect();
    for (at, first) in parsed.iter().enumerate() {
        for (other, second) in parsed.iter().enumerate() {
            for a in first {
                for b in second {
                    assert_eq!(a.cmp(b), at.cmp(&other), "{scheme}: {} and {}", versions[at], versions[other]);
                }
            }
        }
    }
}

fn refused(scheme: Scheme, versions: &[&str]) {
    for version in versions {
        let error = Version::parse(scheme, version).expect_err(version);
        assert!(matches!(error, VersionError::Malformed { .. } | VersionError::Empty { .. }), "{error}");
    }
}

#[test]
fn apk_versions() {
    ascending(
        Scheme::Apk,
        &[
            "0_alpha",
            "0.1_alpha",
            "0.1",
            "1_alpha",
            "1_alpha1",
            "1_alpha1_p1",
            "1_beta",
            "1_pre",
            "1_rc",
            "1_rc2",
            "1 = 01",
            "1-r0 = 1-r00",
            "1-r1",
            "1-r10",
            "1~00ff-r0",
            "1~00fff",
            "1_cvs20260101",
            "1_git",
            "1_git20250101_p1",
            "1_git20260101",
            "1_p1-r0",
            "1_p1-r1",
            "1a",
            "1b_rc1",
            "1b",
            "1b-r1",
            "1.0",
            "1.001",
            "1.01",
            "1.010",
            "1.1_rc1",
            "1.1",
            "1.1.0",
            "1.1.1",
            "1.2b1",
            "1.2b2",
            "1.2.9",
            "1.2.10",
            "1.10",
            "9",
            "10",
            "123456789012345678901234567890",
        ],
    );
    refused(
        Scheme::Apk,
        &["a", ".1", "1.", "1..2", "1ab", "1_", "1_foo", "1-r", "1-1", "1-r1_p1", "1~", "1~x", "1.A", "1b.1"],
    );
}

#[test]
fn nuget_versions() {
    ascending(
        Scheme::NuGet,
        &[
            "0 = 0.0 = 0.0.0.0",
            "1.0.0-0",
            "1.0.0-2",
            "1.0.0-2147483647",
            "1.0.0-1000000000000",
            "1.0.0-2147483648",
            "1.0.0-alpha = 1.0-ALPHA = 1.0.0-Alpha+build",
            "1.0.0-alpha.1",
            "1.0.0-alpha.a",
            "1.0.0-alpha-",
            "1.0.0-beta",
            "1.0.0 = 1 = 01.0 = 1.0.0.0 = 1.0.0+a.b",
            "1.0.0.1-a",
            "1.0.0.1",
            "1.0.1",
            "1.0.10",
            "1.1-rc",
            "1.1",
        ],
    );
    refused(Scheme::NuGet, &["a", "1.", "1.0.0.0.0", "1.0-", "1.0-a..b", "1.0-a_b", "1.0+", "1.0 0", "-1"]);
}

#[test]
fn bitnami_versions() {
    ascending(
        Scheme::Bitnami,
        &[
            "1.2.2-9",
            "1.2.3-beta.1",
            "1.2.3-rc1",
            "1.2.3 = 1.2.3-0 = 1.2.3-0+arm64",
            "1.2.3-1",
            "1.2.3-2",
            "1.2.3-10",
            "1.2.4",
        ],
    );
    refused(Scheme::Bitnami, &["nightly.2026-03-10.0", "1.2.3.4", "latest"]);
}

#[test]
fn go_toolchains() {
    ascending(
        Scheme::Go,
        &[
            "go1.4.3",
            "go1.22rc1 = 1.22.0-rc.1",
            "go1.22rc2",
            "go1.22 = go1.22.0 = v1.22.0 = 1.22.0 = go1.22 X:boringcrypto",
            "go1.22.1 = go1.22.1-custom",
            "go1.22.10",
        ],
    );
    ascending(
        Scheme::Go,
        &[
            "v0.0.0-20200101000000-abcdefabcdef",
            "v0.0.0-20210101000000-000000000000",
            "v0.0.0",
            "v1.2.3-pre.0.20210101000000-abcdefabcdef",
            "v1.2.3",
            "v1.2.4-0.20210101000000-abcdefabcdef",
            "v1.2.4 = v1.2.4+incompatible",
        ],
    );
    refused(Scheme::Go, &["go", "go1.22alpha1", "devel go1.22-abcdef", "(devel)", "go1.2.3.4", "gorc1"]);
}

#[test]
fn short_and_zero_led_semantic_versions() {
    ascending(Scheme::SemVer, &["0", "1-rc.1", "1 = v1.0 = 1.0.0 = 01.00.0+b", "1.0.1", "2024.01.02 = 2024.1.2"]);
    refused(Scheme::SemVer, &["", " ", "x", "1.2.3.4", "1.2.3-", "1.2.3-a..b", "1.2.3+", "1.2.3_a", "1..2", "1.2.3-ä"]);
}

/// Maven's own comparison calls `1-alpha` later than `1.sp.2`, that later than `1`, and that later than `1-alpha`.
#[test]
fn maven_has_no_circles() {
    ascending(Scheme::Maven, &["1-alpha = 1.0.alpha = 1.alpha", "1 = 1.0.Final = 1-ga", "1.sp.2 = 1-sp.2"]);
}

#[test]
fn php_branches_have_no_order() {
    refused(Scheme::Packagist, &["dev-main", "DEV-x", "master", "trunk", "foo-dev", "1.2.3.4.5", "1.0-foo"]);
    assert!(matches!(Version::parse(Scheme::Pep440, "1.0-foo"), Err(VersionError::Malformed { .. })));
}

#[test]
fn lengths_are_bounded() {
    for scheme in Scheme::ALL {
        let longest = "1".repeat(MAX_VERSION_BYTES);
        // A PHP version's first number is no longer than a date.
        if scheme != Scheme::Packagist {
            assert!(Version::parse(scheme, &longest).is_ok(), "{scheme}");
        }
        assert!(matches!(Version::parse(scheme, &(longest + "1")), Err(VersionError::TooLong { .. })));
        assert!(matches!(Version::parse(scheme, " \t"), Err(VersionError::Empty { .. })));
        assert!(matches!(Version::parse(scheme, "1\u{0}2"), Err(VersionError::Malformed { .. })));
    }
    // Lists within lists cost no stack.
    let deep = |last| format!("{}{last}", "1-".repeat(MAX_VERSION_BYTES / 2 - 1));
    assert_eq!(Scheme::Maven.compare(&deep("1"), &deep("2")), Ok(Ordering::Less));
}

fn versions() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[0-9]{1,3}",
        "[.~^_+:!-]",
        Just(".".to_owned()),
        Just("1.0".to_owned()),
        "(alpha|beta|rc|dev|post|pre|sp|final|x|a|r|p|git|Z)",
        "\\PC",
    ];
    proptest::collection::vec(part, 1..10).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Keys are bytes, so the order is total; this holds that no key is longer than it may be and that nothing panics.
    #[test]
    fn any_text_gives_a_bounded_key_or_an_error(text in versions()) {
        for scheme in Scheme::ALL {
            if let Ok(version) = Version::parse(scheme, &text) {
                prop_assert!(version.key().len() <= 8 * text.len() + 32, "{:?} of {}", version, text);
                prop_assert_eq!(&version, &Version::parse(scheme, &format!(" {text}\n")).unwrap());
            }
        }
    }

    /// Leading zeros of a first number and a fourth part of digits too large for any machine number.
    #[test]
    fn numbers_compare_by_value(a in "[1-9][0-9]{0,40}", b in "[1-9][0-9]{0,40}", zeros in "0{0,4}") {
        let expected = a.len().cmp(&b.len()).then_with(|| a.cmp(&b));
        for scheme in Scheme::ALL {
            let version = |n: &str| format!("1.{n}");
            prop_assert_eq!(scheme.compare(&version(&a), &version(&b)), Ok(expected), "{}", scheme);
            if scheme != Scheme::Apk {
                prop_assert_eq!(scheme.compare(&version(&a), &version(&format!("{zeros}{a}"))), Ok(Ordering::Equal));
            }
        }
    }
}
