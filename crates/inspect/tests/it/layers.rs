//! What only several files of an image say together.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::slice;

use inspect::document::{Contents, json};

use crate::image::{archive, file, gzip, inspected, metadata, names, special, unexamined};

const MAIN: &[u8] = include_bytes!("../../src/cataloger/rpm/fixtures/rpmdb.sqlite");
const LOG: &[u8] = include_bytes!("../../src/cataloger/rpm/fixtures/rpmdb.sqlite-wal");

fn database() -> Vec<u8> {
    file(b"var/lib/rpm/rpmdb.sqlite", MAIN)
}

fn log() -> Vec<u8> {
    file(b"var/lib/rpm/rpmdb.sqlite-wal", LOG)
}

#[test]
fn an_rpm_database_is_read_with_the_log_beside_it() {
    for entries in [[database(), log()], [log(), database()]] {
        for layer in [archive(&entries), gzip(&archive(&entries))] {
            let contents = inspected(&[layer]);
            assert_eq!(names(&contents), ["alpha", "beta", "beta-libs"]);
            assert!(contents.is_complete(), "{:?}", unexamined(&contents));
        }
    }
    let empty = file(b"var/lib/rpm/rpmdb.sqlite-wal", b"");
    let contents = inspected(&[archive(&[database(), empty])]);
    assert_eq!((names(&contents), contents.is_complete()), (vec!["beta", "beta-libs"], true));
}

#[test]
fn a_log_without_its_database_is_told() {
    let told = |contents: &Contents| {
        let told = unexamined(contents);
        assert!(told.len() == 1 && told[0].contains("write-ahead log"), "{told:?}");
    };
    let contents = inspected(&[archive(&[database()]), archive(&[log()])]);
    assert_eq!(names(&contents), ["beta", "beta-libs"]);
    told(&contents);
    told(&inspected(&[archive(&[log()])]));
    told(&inspected(&[archive(&[file(b"root.tar", &archive(&[log()]))])]));
    // What is deleted again says nothing.
    let gone = archive(&[file(b"var/lib/rpm/.wh.rpmdb.sqlite-wal", b"")]);
    assert!(inspected(&[archive(&[database()]), archive(&[log()]), gone]).is_complete());
    // A link to a database is no second database.
    let link = special(b"usr/share/rpm/rpmdb.sqlite", b'1', b"var/lib/rpm/rpmdb.sqlite");
    let contents = inspected(&[archive(&[database(), link, log()])]);
    assert_eq!((names(&contents), contents.is_complete()), (vec!["alpha", "beta", "beta-libs"], true));
}

const STATUS: &str = "Package: gcc-12-base\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12.2.0-14\n\n\
    Package: libgcc-s1\nStatus: install ok installed\nArchitecture: amd64\nSource: gcc-12\nVersion: 12.2.0-14\n\n\
    Package: libstdc++6\nStatus: install ok installed\nArchitecture: amd64\nSource: gcc-12\nVersion: 12.2.0-14\n";

const COPYRIGHT: &str =
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-3+\n";

fn licences(contents: &Contents) -> Vec<(&str, Vec<&str>)> {
    contents
        .components
        .iter()
        .map(|found| {
            (found.component.name.as_str(), found.component.licences.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect()
}

#[test]
fn licences_are_found_behind_links_to_the_documentation_of_another_package() {
    let status = file(b"var/lib/dpkg/status", STATUS.as_bytes());
    let copyright = file(b"usr/share/doc/gcc-12-base/copyright", COPYRIGHT.as_bytes());
    let all = [("gcc-12-base", vec!["GPL-3+"]), ("libgcc-s1", vec!["GPL-3+"]), ("libstdc++6", vec!["GPL-3+"])];
    for (one, other) in [
        // The folder, by each way of writing its name; one leads on to the other.
        ((&b"usr/share/doc/libgcc-s1"[..], &b"gcc-12-base"[..]), (&b"usr/share/doc/libstdc++6"[..], &b"libgcc-s1"[..])),
        (
            (b"./usr/share/doc/libgcc-s1", b"../doc/gcc-12-base/"),
            (b"usr/share/doc/libstdc++6", b"/usr/share/doc/gcc-12-base"),
        ),
        // The file alone.
        (
            (b"usr/share/doc/libgcc-s1/copyright", b"../gcc-12-base/copyright"),
            (b"usr/share/doc/libstdc++6/copyright", b"/usr/share/doc/gcc-12-base/copyright"),
        ),
    ] {
        let links = [special(one.0, b'2', one.1), special(other.0, b'2', other.1)];
        let whole = [links[0].clone(), copyright.clone(), status.clone(), links[1].clone()];
        let contents = inspected(&[archive(&whole)]);
        assert_eq!((licences(&contents), contents.is_complete()), (all.to_vec(), true));
        // A layer each.
        let contents =
            inspected(&[archive(slice::from_ref(&copyright)), archive(&links), archive(slice::from_ref(&status))]);
        assert_eq!(licences(&contents), all);
    }
    // Links that lead nowhere, round and out.
    let links = [
        special(b"usr/share/doc/libgcc-s1", b'2', b"libstdc++6"),
        special(b"usr/share/doc/libstdc++6", b'2', b"libgcc-s1"),
        special(b"usr/share/doc/gcc-12-base", b'2', b"../../../../../etc"),
    ];
    let contents = inspected(&[archive(&[&links[..], &[status]].concat())]);
    assert!(licences(&contents).iter().all(|(_, licences)| licences.is_empty()), "{:?}", licences(&contents));
    assert!(contents.is_complete());
}

/// Images without dpkg have a file of its status and one of its checksums for each package.
#[test]
fn what_a_package_of_a_distroless_image_owns_is_that_package() {
    let status = "Package: python3-six\nArchitecture: all\nVersion: 1.16.0-4\n";
    let path = "usr/lib/python3/dist-packages/six-1.0.dist-info/METADATA";
    let checksums = format!("d41d8cd98f00b204e9800998ecf8427e  {path}\n");
    let contents = inspected(&[archive(&[
        file(b"var/lib/dpkg/status.d/python3-six", status.as_bytes()),
        file(b"var/lib/dpkg/status.d/python3-six.md5sums", checksums.as_bytes()),
        file(path.as_bytes(), &metadata("six")),
    ])]);
    assert_eq!((names(&contents), contents.is_complete()), (vec!["python3-six"], true));
    let further: Vec<_> = contents.components[0].further.iter().map(|further| further.name.as_str()).collect();
    assert_eq!(further, ["six"]);
}

#[test]
fn vendor_and_module_of_an_rpm_package_are_told() {
    let contents = inspected(&[archive(&[database(), log()])]);
    let details: Vec<_> = contents
        .components
        .iter()
        .map(|found| (found.details.vendor.as_deref(), found.details.module.as_deref()))
        .collect();
    let module = Some("beta:7:820:abcdef");
    assert_eq!(details, [(Some("Some Vendor, Inc."), None), (None, module), (None, module)]);
    let purl = contents.purl_of(&contents.components[1]).unwrap().to_string();
    assert_eq!(purl, "pkg:rpm/beta@7-1?arch=x86_64&rpmmod=beta:7:820:abcdef");
    let mut document = Vec::new();
    json::write(&contents, &mut document).unwrap();
    let mut again = json::read(&document).unwrap();
    again.components.sort_by(|a, b| a.component.name.cmp(&b.component.name));
    assert_eq!(again, contents);
}

/// A program that has notes and nothing else.
fn program(notes: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    bytes.extend([4_u32, 4].map(u32::to_le_bytes).concat());
    let length = notes.len() as u64;
    bytes.extend([120, 0, 0, length, length, 4].map(u64::to_le_bytes).concat());
    bytes.extend(notes);
    bytes
}

fn note(name: &[u8; 4], kind: u32, text: &[u8]) -> Vec<u8> {
    let mut note = [4, text.len() as u32, kind].map(u32::to_le_bytes).concat();
    note.extend(name);
    note.extend(text);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

#[test]
fn what_was_found_in_a_program_has_its_build_identifier() {
    let build_id = note(b"GNU\0", 3, &[0xab; 20]);
    let package = note(b"FDO\0", 0xcafe_1a7e, b"{\"type\":\"deb\",\"name\":\"tool\",\"version\":\"1.2-3\"}\0");
    let contents = inspected(&[archive(&[
        file(b"usr/bin/tool", &program(&[build_id.clone(), package].concat())),
        // What says nothing but this is not listed for it.
        file(b"usr/bin/other", &program(&build_id)),
    ])]);
    assert_eq!((names(&contents), contents.is_complete()), (vec!["tool"], true));
    assert_eq!(contents.components[0].details.build_ids, ["ab".repeat(20)]);
}
