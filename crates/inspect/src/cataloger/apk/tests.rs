//! Databases of apk, as they are and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::cataloger::os::testing::{Told, mutated, mutations};

const INSTALLED: &str = include_str!("fixtures/installed");

fn told(text: impl AsRef<[u8]>) -> Told {
    Told::of(|facts| read(Content::memory(text.as_ref()), facts))
}

#[test]
fn packages_their_origins_licences_and_paths_are_told() {
    let expected = [
        "musl|1.2.4_git20230717-r4|x86_64|-|MIT",
        "busybox-binsh|1.36.1-r15|x86_64|busybox 1.36.1-r15|GPL-2.0-only",
        ".build-deps|20240101.000000|noarch|-|",
    ];
    let told = told(INSTALLED);
    assert_eq!(told.lines(), expected);
    assert_eq!(told.whys(), Vec::<String>::new());
    let owned = |name: &str, paths: &[&str]| (name.to_owned(), paths.iter().map(|path| (*path).to_owned()).collect());
    assert_eq!(
        told.owned,
        [
            owned("musl:x86_64", &["lib/ld-musl-x86_64.so.1", "lib/libc.musl-x86_64.so.1", "top"]),
            owned("busybox-binsh:x86_64", &["bin/sh"]),
        ],
    );
    assert_eq!(self::told(INSTALLED.replace('\n', "\r\n")).lines(), expected);
    assert_eq!(self::told(INSTALLED.trim_end()).lines(), expected);
    assert_eq!(self::told(""), Told::default());
    assert!(wants(b"lib/apk/db/installed") && wants(b"usr/lib/apk/db/installed"));
    assert!(!wants(b"lib/apk/db/scripts.tar") && !wants(b"/lib/apk/db/installed") && !wants(b""));
}

#[test]
fn a_broken_record_is_told_and_hides_no_other() {
    for (broken, expected, note) in [
        ("V:1\n", vec!["good|1|-|-|"], "the record has no usable field P:"),
        ("P:bad\n", vec!["good|1|-|-|"], "the record has no usable field V:"),
        ("P:bad\nV:1\nP:worse\n", vec!["bad|1|-|-|", "good|1|-|-|"], "the record has the field P: twice"),
        ("P:bad\nV:1\nnonsense\n", vec!["bad|1|-|-|", "good|1|-|-|"], "the line at byte 10 does not begin"),
        ("P:b\u{1}d\nV:1\n", vec!["good|1|-|-|"], "the record has no usable field P:"),
    ] {
        let told = told(format!("{broken}\nP:good\nV:1\n"));
        assert_eq!(told.lines(), expected, "{broken}");
        let whys = told.whys();
        assert!(whys.len() == 1 && whys[0].starts_with(&format!("the record at byte 0: {note}")), "{whys:?}");
    }
}

#[test]
fn a26_paths_longer_than_any_are_told_and_not_listed() {
    let long = "x".repeat(PATH_BYTES_MAX + 1);
    let told = told(format!("P:a\nV:1\nF:{long}\nR:lost\nF:usr\nR:{long}\nR:kept\n"));
    assert_eq!(told.owned, [("a".to_owned(), vec!["usr/kept".to_owned()])]);
    assert_eq!(told.whys(), ["the record at byte 0: the path at byte 8 has more than 4096 bytes"]);
}

/// Directories, and the names of their files.
type Folders = Vec<(String, Vec<String>)>;

prop_compose! {
    fn package()(
        name in "[a-z0-9][a-z0-9+._-]{0,12}",
        version in "[0-9]{1,3}(\\.[0-9]{1,2}){0,3}-r[0-9]",
        architecture in "x86_64|aarch64|noarch",
        origin in proptest::option::of("[a-z]{1,6}"),
        licence in proptest::option::of("MIT|GPL-2\\.0-or-later WITH x|MIT AND (ISC OR BSD-2-Clause)"),
        folders in prop::collection::vec(("[a-z]{1,5}(/[a-z é]{1,5}[a-z]){0,2}", prop::collection::vec("[A-Za-z:. ]{0,6}[a-z]", 0..4)), 0..4),
    ) -> (Component, Folders) {
        let source = origin.filter(|origin| *origin != name).map(|name| Source { name, version: version.clone() });
        let component = Component {
            ecosystem: Ecosystem::Apk, name, version, architecture: Some(architecture), source,
            licences: licence.into_iter().collect(), evidence: Evidence::Installed,
        };
        (component, folders)
    }
}

/// The format, written from its description.
fn written(packages: &[(Component, Folders)]) -> String {
    let mut text = String::new();
    for (component, folders) in packages {
        text += &format!("C:Q1xxx=\nP:{}\nV:{}\n", component.name, component.version);
        text += &format!("A:{}\nS:1\nT:words: more\n", component.architecture.as_ref().unwrap());
        if let Some(source) = &component.source {
            text += &format!("o:{}\n", source.name);
        }
        if let Some(licence) = component.licences.first() {
            text += &format!("L:{licence}\n");
        }
        for (folder, files) in folders {
            text += &format!("F:{folder}\nM:0:0:755\n");
            for file in files {
                text += &format!("R:{file}\na:0:0:755\nZ:Q1yyy=\n");
            }
        }
        text += "\n";
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_written_is_read(packages in prop::collection::vec(package(), 0..6)) {
        let told = told(written(&packages));
        prop_assert_eq!(told.notes, vec![]);
        let owned: Vec<Vec<String>> = packages
            .iter()
            .map(|(_, folders)| {
                let path = |folder: &String, file: &String| format!("{folder}/{file}");
                folders.iter().flat_map(|(folder, files)| files.iter().map(move |file| path(folder, file))).collect()
            })
            .filter(|paths: &Vec<String>| !paths.is_empty())
            .collect();
        prop_assert_eq!(told.owned.into_iter().map(|(_, paths)| paths).collect::<Vec<_>>(), owned);
        prop_assert_eq!(told.packages, packages.into_iter().map(|(component, _)| component).collect::<Vec<_>>());
    }

    #[test]
    fn a26_a_changed_database_never_panics(mutations in mutations()) {
        let bytes = mutated(INSTALLED.as_bytes(), &mutations);
        let told = told(&bytes);
        prop_assert!(told.packages.len() <= bytes.len());
    }

    #[test]
    fn a26_a_changed_byte_hides_no_package_unsaid(at in 0..INSTALLED.len(), byte: u8) {
        let mut bytes = INSTALLED.as_bytes().to_vec();
        bytes[at] = byte;
        let told = told(&bytes);
        prop_assert!(told.packages.len() >= 3 || !told.notes.is_empty(), "{:?}", told.lines());
    }
}
