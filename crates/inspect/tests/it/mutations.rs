//! Files that were tampered with: no panic, and no more than the limits allow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use inspect::cataloger::{
    COMPONENTS_MAX, LICENCE_BYTES_MAX, LICENCES_MAX, NAME_BYTES_MAX, NOTES_MAX, Report, VERSION_BYTES_MAX, composer,
    gem, npm, nuget, python,
};
use proptest::prelude::*;

type Read = fn(&[u8], &[u8]) -> Report;

macro_rules! fixture {
    ($folder:literal, $file:literal) => {
        include_bytes!(concat!("../../src/cataloger/", $folder, "/fixtures/", $file)).as_slice()
    };
}

fn files() -> Vec<(Read, &'static str, &'static [u8])> {
    vec![
        (npm::read, "package-lock.json", fixture!("npm", "package-lock.v1.json")),
        (npm::read, "package-lock.json", fixture!("npm", "package-lock.v2.json")),
        (npm::read, "node_modules/a/package.json", br#"{"name":"a","version":"1","licenses":[{"type":"MIT"},"ISC"]}"#),
        (npm::read, "yarn.lock", fixture!("npm", "yarn.v1.lock")),
        (npm::read, "yarn.lock", fixture!("npm", "yarn.berry.lock")),
        (npm::read, "pnpm-lock.yaml", fixture!("npm", "pnpm-lock.v5.yaml")),
        (npm::read, "pnpm-lock.yaml", fixture!("npm", "pnpm-lock.v9.yaml")),
        (npm::read, "bun.lock", fixture!("npm", "bun.lock")),
        (python::read, "requirements.txt", fixture!("python", "requirements.txt")),
        (python::read, "Pipfile.lock", fixture!("python", "Pipfile.lock")),
        (python::read, "uv.lock", fixture!("python", "uv.lock")),
        (
            python::read,
            "a.dist-info/METADATA",
            b"Name: a\nVersion: 1\nLicense: x\n  y\nClassifier: License :: Z\n\nbody",
        ),
        (python::read, "conda-meta/a.json", br#"{"name":"a","version":"1","license":"MIT"}"#),
        (gem::read, "specifications/a.gemspec", fixture!("gem", "i18n-1.10.0.gemspec")),
        (gem::read, "Gemfile.lock", fixture!("gem", "Gemfile.lock")),
        (composer::read, "vendor/composer/installed.json", fixture!("composer", "installed.v2.json")),
        (nuget::read, "a.deps.json", fixture!("nuget", "app.deps.json")),
        (nuget::read, "packages.lock.json", fixture!("nuget", "packages.lock.json")),
        (nuget::read, "a.nuspec", fixture!("nuget", "acme.nuspec")),
    ]
}

fn check(report: &Report) {
    assert!(report.components.len() <= COMPONENTS_MAX && report.unexamined.len() <= NOTES_MAX + 1);
    for found in &report.components {
        assert!(
            !found.name.is_empty() && found.name.len() <= NAME_BYTES_MAX && found.version.len() <= VERSION_BYTES_MAX
        );
        assert!(found.licences.len() <= LICENCES_MAX);
        assert!(found.licences.iter().all(|licence| licence.len() <= LICENCE_BYTES_MAX + " …".len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn never_panics_and_stays_within_limits(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..5, 1usize..2000), 1..12),
    ) {
        let interesting = b"{}[]\",:\\\n\r\t @/(=<>&;#*'-\xC3\xEF\0";
        for (read, path, bytes) in files() {
            let mut bytes = bytes.to_vec();
            for (place, byte, kind, length) in &changes {
                let place = place.index(bytes.len());
                match kind {
                    0 => bytes[place] = interesting[usize::from(*byte) % interesting.len()],
                    1 => bytes.insert(place, *byte),
                    2 => bytes.truncate(place.max(1)),
                    3 => drop(bytes.drain(place..(place + length).min(bytes.len()))),
                    _ => {
                        let again: Vec<u8> = bytes[place..(place + length).min(bytes.len())].repeat(3);
                        bytes.splice(place..place, again);
                    }
                }
                if bytes.is_empty() {
                    bytes.push(b'{');
                }
            }
            check(&read(path.as_bytes(), &bytes));
        }
    }

    #[test]
    fn any_path_may_be_asked(path in prop::collection::vec(any::<u8>(), 0..40), name in "[a-zA-Z./-]{0,40}") {
        for path in [path.as_slice(), name.as_bytes()] {
            for wants in [npm::wants, python::wants, gem::wants, composer::wants, nuget::wants] {
                let _ = wants(path);
            }
            check(&npm::read(path, b"{}"));
            check(&gem::read(path, b"x"));
        }
    }
}

/// A file cut off anywhere is told, never taken for a whole one with less in it; JSON ends, so it can be seen.
#[test]
fn a26_what_is_cut_off_is_told() {
    for (read, path, bytes) in files() {
        if !path.ends_with(".json") || path.ends_with("a/package.json") {
            continue;
        }
        for end in (1..bytes.trim_ascii_end().len()).step_by(7) {
            let report = read(path.as_bytes(), &bytes[..end]);
            assert!(!report.unexamined.is_empty(), "{path} cut at {end}: {report:?}");
        }
    }
}
