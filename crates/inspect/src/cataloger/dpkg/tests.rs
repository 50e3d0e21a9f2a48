//! Files of dpkg, as they are and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::cataloger::os::testing::{Told, mutated, mutations};
use crate::licence::Expression;

fn told(path: &str, text: impl AsRef<[u8]>) -> Told {
    assert!(wants(path.as_bytes()), "{path}");
    Told::of(|facts| read(path.as_bytes(), Content::memory(text.as_ref()), facts))
}

/// From packages of Debian 12, cut down to what speaks of licences: `perl-base`, `base-files`, `fakeroot`,
/// `librtmp1`.
const REAL: &[(&str, &[&str])] = &[
    (
        include_str!("fixtures/copyright-perl"),
        &[
            "GPL-1.0-or-later OR Artistic-1.0",
            "REGCOMP AND (GPL-1.0-or-later OR Artistic-1.0)",
            "(GPL-1.0-or-later OR Artistic-1.0) AND BSD-4-clause-POWERDOG",
        ],
    ),
    (include_str!("fixtures/copyright-base-files"), &["GPL-1.0-or-later"]),
    (include_str!("fixtures/copyright-fakeroot"), &["GPL-3.0-or-later", "Artistic-1.0"]),
    (include_str!("fixtures/copyright-librtmp"), &["GPL-2.0-or-later", "LGPL-2.1-or-later"]),
];

const STATUS: &str = include_str!("fixtures/status");
const COPYRIGHT: &str = include_str!("fixtures/copyright");
const MANIFEST_WALL: &str = include_str!("fixtures/manifest.wall");

#[test]
fn paths_of_the_database_are_wanted_and_their_neighbours_are_not() {
    for path in [
        "var/lib/dpkg/status",
        "var/lib/dpkg/status.d/libc6",
        "var/lib/dpkg/status.d/libc6.md5sums",
        "var/lib/dpkg/info/libc6:amd64.list",
        "var/lib/dpkg/info/adduser.md5sums",
        "usr/share/doc/libc6/copyright",
        "var/lib/chisel/manifest.wall",
    ] {
        assert!(wants(path.as_bytes()), "{path}");
    }
    for path in [
        "/var/lib/dpkg/status",
        "var/lib/dpkg/status-old",
        "var/lib/dpkg/available",
        "var/lib/dpkg/status.d/",
        "var/lib/dpkg/status.d/a/b",
        "var/lib/dpkg/info/format",
        "var/lib/dpkg/info/libc6.postinst",
        "var/lib/dpkg/info/a/b.list",
        "usr/share/doc/libc6/examples/copyright",
        "usr/share/doc/copyright",
        "usr/share/doc//copyright",
        "usr/share/doc/libc6/changelog",
        "usr/share/doc-base/copyright",
        "",
    ] {
        assert!(!wants(path.as_bytes()), "{path}");
    }
}

#[test]
fn what_is_there_is_told_and_what_is_gone_is_not() {
    let told = told("var/lib/dpkg/status", STATUS);
    let expected = [
        "adduser|3.134|all|-|",
        "libc6|2.36-9+deb12u10|amd64|glibc 2.36-9+deb12u10|",
        "libc6|2.36-9+deb12u10|i386|glibc 2.36-9+deb12u10|",
        "binnmu|1.0-1+b2|amd64|binnmu 1.0-1|",
        "gcc-12-base|12.2.0-14+deb12u1|amd64|gcc-12 12.2.0-14+deb12u1|",
        "half|2|amd64|-|",
        "twice|3|amd64|-|",
    ];
    assert_eq!(told.lines(), expected);
    assert_eq!(told.whys(), Vec::<String>::new());
    assert_eq!(Told::of(|facts| read(b"var/lib/dpkg/status", Content::memory(b""), facts)), Told::default());
    let crlf = STATUS.replace('\n', "\r\n");
    assert_eq!(self::told("var/lib/dpkg/status", crlf).lines(), expected);
    assert_eq!(self::told("var/lib/dpkg/status", STATUS.trim_end()).lines(), expected);
}

#[test]
fn a_broken_paragraph_is_told_and_hides_no_other() {
    let good = "Package: good\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n";
    for (broken, expected, note) in [
        ("Version: 1\n", vec!["good|1|all|-|"], "the paragraph has no usable field Package"),
        ("Package: bad\n", vec!["bad||-|-|", "good|1|all|-|"], "the paragraph has no usable field Version"),
        ("Package: b\u{7}d\nVersion: 1\n", vec!["good|1|all|-|"], "the paragraph has no usable field Package"),
        (
            "Package: bad\nVersion: 1\nStatus: is here\n",
            vec!["bad|1|-|-|", "good|1|all|-|"],
            "the package's status is none of those that dpkg knows",
        ),
        ("Package: bad\nVersion: 1\nnonsense\n", vec!["bad|1|-|-|", "good|1|all|-|"], "the line at byte 24 is neither"),
        (
            "Package: bad\nVersion: 1\nPackage: worse\n",
            vec!["bad|1|-|-|", "good|1|all|-|"],
            "the paragraph has the field Package twice",
        ),
        (
            " continued\nPackage: bad\nVersion: 1\n",
            vec!["bad|1|-|-|", "good|1|all|-|"],
            "the line at byte 0 is neither",
        ),
    ] {
        let told = told("var/lib/dpkg/status", format!("{broken}\n{good}"));
        assert_eq!(told.lines(), expected, "{broken}");
        let whys = told.whys();
        assert_eq!(whys.len(), 1, "{whys:?}");
        assert!(whys[0].starts_with(&format!("the paragraph at byte 0: {note}")), "{whys:?}");
    }
}

#[test]
fn of_two_versions_of_one_package_both_are_told() {
    let paragraph = |version, state| format!("Package: a\nStatus: install ok {state}\nVersion: {version}\n\n");
    let text = [paragraph(1, "installed"), paragraph(2, "installed"), paragraph(1, "not-installed")].concat();
    let told = told("var/lib/dpkg/status", text);
    assert_eq!(told.lines(), ["a|1|-|-|", "a|2|-|-|"]);
    let note = "the paragraph at byte 52: another paragraph gives the same package another version";
    assert_eq!(told.whys(), [note]);
}

#[test]
fn a_paragraph_of_a_distroless_image_needs_no_status() {
    let told = told(
        "var/lib/dpkg/status.d/tzdata",
        "Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\nDescription: time\n zones\n .\n more",
    );
    assert_eq!(told.lines(), ["tzdata|2024a-0+deb12u1|all|-|"]);
}

#[test]
fn lists_and_checksums_give_paths_of_the_package_in_their_name() {
    let told = told("var/lib/dpkg/info/libc6:amd64.list", "/.\n/lib\n/lib/ld.so.2\n/usr/share/a b\r\n/etc/last");
    let paths = ["lib", "lib/ld.so.2", "usr/share/a b", "etc/last"].map(str::to_owned).to_vec();
    assert_eq!(told.owned, [("libc6:amd64".to_owned(), paths)]);
    let sums = "0123456789abcdef0123456789abcdef  usr/bin/x\nnonsense\n0123456789abcdef0123456789abcdeF  ./a  b\n";
    let told = self::told("var/lib/dpkg/status.d/x.md5sums", sums);
    assert_eq!(told.owned, [("x".to_owned(), vec!["usr/bin/x".to_owned(), "a  b".to_owned()])]);
    assert_eq!(told.whys(), ["a path: the line at byte 44 is not a checksum and a path"]);
    let name = b"var/lib/dpkg/info/\xff.list";
    let told = Told::of(|facts| read(name, Content::memory(b"/a\n"), facts));
    assert_eq!(told.whys(), ["the file: the file's name is not the name of a package"]);
}

#[test]
fn licences_are_those_stated_or_those_referred_to() {
    let read =
        |text: &str| told("usr/share/doc/x/copyright", text).licences.into_iter().flat_map(|told| told.1).collect();
    let licences: Vec<String> = read(COPYRIGHT);
    assert_eq!(licences, ["GPL-2+ or Artistic-1.0, and BSD-3-clause", "Expat", "public-domain"]);
    let licences: Vec<String> = read(
        "This is free software.\n\nSee /usr/share/common-licenses/GPL-2. Or `/usr/share/common-licenses/LGPL-2.1',\n\
         (/usr/share/common-licenses/GPL-2), file:///usr/share/common-licenses/Apache-2.0\n/usr/share/common-licenses/\n",
    );
    assert_eq!(licences, ["GPL-2", "LGPL-2.1", "Apache-2.0"]);
    let licences: Vec<String> =
        read("Format: https://x\n\nFiles: *\nLicense:\n see /usr/share/common-licenses/GPL-3\n");
    assert_eq!(licences, ["GPL-3"]);
    assert!(read("All rights reserved.\nLicense: not machine-readable\n").is_empty());
    for (text, expected) in REAL {
        let licences: Vec<String> = read(text);
        let understood: Vec<String> =
            licences.iter().map(|stated| Expression::read(stated).node().to_string()).collect();
        assert_eq!(understood, *expected, "{licences:?}");
    }
}

#[test]
fn a26_licences_without_end_are_cut_and_told() {
    let many: String = (0..=LICENCES_MAX).map(|at| format!("\nLicense: L{at}\n")).collect();
    let told = told("usr/share/doc/x/copyright", format!("Format: x\n{many}"));
    assert_eq!(told.licences[0].1.len(), LICENCES_MAX);
    assert_eq!(told.whys(), [format!("licences: more than {LICENCES_MAX} licences")]);
}

#[test]
fn a_chisel_manifest_tells_packages_and_their_paths() {
    let told = told("var/lib/chisel/manifest.wall", MANIFEST_WALL);
    assert_eq!(told.lines(), ["base-files|13ubuntu10|amd64|-|", "libc6|2.39-0ubuntu8.3|amd64|-|"]);
    let owned = |name: &str, path: &str| (name.to_owned(), vec![path.to_owned()]);
    assert_eq!(
        told.owned,
        [
            owned("base-files", "etc"),
            owned("libc6", "etc"),
            owned("base-files", "etc/os-release"),
            owned("libc6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ],
    );
    assert_eq!(told.whys(), Vec::<String>::new());
    let cut = &MANIFEST_WALL[..MANIFEST_WALL.len() - 20];
    let whys = self::told("var/lib/chisel/manifest.wall", cut).whys();
    assert!(whys.len() == 1 && whys[0].starts_with("a line: line 11 cannot be used"), "{whys:?}");
    let cut = MANIFEST_WALL.trim_end().rsplit_once('\n').unwrap().0;
    let whys = self::told("var/lib/chisel/manifest.wall", cut).whys();
    assert_eq!(whys, ["the file: the manifest says that it has 11 lines and has 10"]);
    let whys = self::told("var/lib/chisel/manifest.wall", [0x28, 0xb5, 0x2f, 0xfd, 4]).whys();
    assert_eq!(whys, ["the file: the manifest is compressed"]);
    let whys = self::told("var/lib/chisel/manifest.wall", "{}").whys();
    assert_eq!(whys, ["the file: this is not a Chisel manifest of version 1"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Any change leaves packages or a note: nothing vanishes unsaid.
    #[test]
    fn a26_a_changed_file_never_panics(mutations in mutations()) {
        for (path, original) in [
            ("var/lib/dpkg/status", STATUS),
            ("var/lib/dpkg/status.d/x", STATUS),
            ("var/lib/dpkg/info/x.list", STATUS),
            ("var/lib/dpkg/info/x.md5sums", STATUS),
            ("usr/share/doc/x/copyright", COPYRIGHT),
            ("var/lib/chisel/manifest.wall", MANIFEST_WALL),
        ] {
            let bytes = mutated(original.as_bytes(), &mutations);
            let told = told(path, &bytes);
            let paths: usize = told.owned.iter().flat_map(|(_, paths)| paths).map(String::len).sum();
            prop_assert!(paths <= 3 * bytes.len());
            prop_assert!(told.packages.len() <= bytes.len());
        }
    }

    /// One broken byte costs one paragraph at most, and two where it joins them; and what it costs is told.
    #[test]
    fn a26_a_changed_byte_of_a_status_file_hides_two_packages_at_most(at in 0..STATUS.len(), byte: u8) {
        let mut bytes = STATUS.as_bytes().to_vec();
        bytes[at] = byte;
        let told = told("var/lib/dpkg/status", &bytes);
        prop_assert!(told.packages.len() + 2 >= 7, "{:?}", told.lines());
    }
}
