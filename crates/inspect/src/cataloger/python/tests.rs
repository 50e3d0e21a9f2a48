//! Tests against lock files that the tools wrote, and metadata in the forms there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::component::{Ecosystem, Evidence};

fn listed(report: &Report) -> Vec<String> {
    report.components.iter().map(|found| format!("{} {}", found.name, found.version)).collect()
}

#[test]
fn lock_files_name_the_same_packages() {
    let pinned = ["click 8.1.7", "six 1.16.0", "urllib3 1.26.18"];
    let uv = ["click 8.1.7", "colorama 0.4.6", "sample 0.1.0", "six 1.16.0", "urllib3 1.26.18"];
    let pylock = ["click 8.1.7", "colorama 0.4.6", "six 1.16.0", "urllib3 1.26.18"];
    let files: [(&str, &[u8], &[&str]); 6] = [
        ("requirements.txt", include_bytes!("fixtures/requirements.txt"), &pinned),
        ("Pipfile.lock", include_bytes!("fixtures/Pipfile.lock"), &pinned),
        ("uv.lock", include_bytes!("fixtures/uv.lock"), &uv),
        ("pylock.toml", include_bytes!("fixtures/pylock.toml"), &pylock),
        ("poetry.lock", include_bytes!("fixtures/poetry.lock"), &["click 8.1.7", "six 1.16.0"]),
        ("pdm.lock", include_bytes!("fixtures/pdm.lock"), &["click 8.1.7", "six 1.16.0"]),
    ];
    for (name, bytes, expected) in files {
        assert!(wants(name.as_bytes()) && wants(format!("srv/{name}").as_bytes()), "{name}");
        let report = read(name.as_bytes(), bytes);
        assert_eq!(report.unexamined, Vec::<String>::new(), "{name}");
        assert_eq!(listed(&report), expected, "{name}");
        assert!(report.components.iter().all(|found| found.evidence == Evidence::Contained));
    }
}

#[test]
fn only_pinned_requirements() {
    let text = "\
# comment == 1
Flask==2.0.1  # why
requests[socks,use]===2.31.0 ; python_version < '3.12'
a.b_c == 1!2.0.post1+local,!=3 --hash=sha256:00
cont==1.0 \\
    --hash=sha256:aa==
open>=1.0
wild==1.*
both>=1,==1.2
-r other.txt
-e git+https://x.invalid/y@v==1#egg=y
url @ https://x.invalid/y-1.0.tar.gz
env==${VERSION}
";
    let expected = ["Flask 2.0.1", "a.b_c 1!2.0.post1+local", "cont 1.0", "requests 2.31.0"];
    assert_eq!(listed(&read(b"dev-requirements.txt", text.as_bytes())), expected);
    // As PowerShell writes it.
    let wide: Vec<u8> = [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(listed(&read(b"requirements.txt", &wide)), expected);
}

#[test]
fn metadata_in_its_forms() {
    let read = |text: &str| read(b"x/a-1.dist-info/METADATA", text.as_bytes());
    let report = read(
        "Metadata-Version: 2.4\nNAME: Foo.Bar\r\nversion:  1.0rc1\nLicense-Expression: MIT AND (Apache-2.0 OR BSD-2-Clause)\nLicense: x\n\nName: other\n",
    );
    assert_eq!(listed(&report), ["Foo.Bar 1.0rc1"]);
    assert_eq!(report.components[0].licences, ["MIT AND (Apache-2.0 OR BSD-2-Clause)"]);
    assert_eq!((report.components[0].evidence, report.components[0].ecosystem), (Evidence::Installed, Ecosystem::PyPi));
    let report = read(
        "Name: a\nVersion: 1\nLicense: Copyright (c)\n        All of it\n\tand more\nClassifier: Topic :: X\nClassifier: License :: OSI Approved :: MIT License\nLicense: second\n",
    );
    assert_eq!(report.components[0].licences, ["Copyright (c) …", "License :: OSI Approved :: MIT License"]);
    assert_eq!(read("Name: a\nVersion: 1\nLicense: UNKNOWN\n").components[0].licences, Vec::<String>::new());
    assert_eq!(read("Version: 1\n\nName: in the body\n").unexamined.len(), 1);
    let unversioned = read("Name: a\n");
    assert_eq!((listed(&unversioned), unversioned.unexamined.len()), (vec!["a ".to_owned()], 1));
}

#[test]
fn the_right_files_are_wanted() {
    for path in [
        "usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO",
        "usr/lib/python3/dist-packages/six-1.16.0.egg-info",
        "opt/a.egg/EGG-INFO/PKG-INFO",
        "six-1.16.0.dist-info/METADATA",
        "opt/conda/conda-meta/openssl-3.1.0-0.json",
        "srv/pylock.dev.toml",
    ] {
        assert!(wants(path.as_bytes()), "{path}");
    }
    for path in [
        "METADATA",
        "a/PKG-INFO",
        "conda-meta",
        "x/package.json",
        "six.dist-info/RECORD",
        "notes.txt",
        "",
        "/",
        "poetry.lock/",
    ] {
        assert!(!wants(path.as_bytes()), "{path}");
    }
}

#[test]
fn conda_and_broken_lock_files() {
    let conda =
        br#"{"build":"h0_1","files":["lib/x"],"license":"Apache-2.0","name":"openssl","version":"3.1.0","depends":[]}"#;
    let report = read(b"conda-meta/openssl-3.1.0-h0_1.json", conda);
    assert_eq!(listed(&report), ["openssl 3.1.0"]);
    assert_eq!(
        (report.components[0].ecosystem, report.components[0].evidence),
        (Ecosystem::Generic, Evidence::Installed)
    );
    let report = read(b"poetry.lock", b"[[package]]\nname = 7\n[[package]]\nname = 'a'\nversion = ['x']\n");
    assert_eq!((listed(&report), report.unexamined.len()), (vec!["a ".to_owned()], 1));
    assert_eq!(read(b"uv.lock", b"package = 3").unexamined.len(), 1);
    assert_eq!(read(b"uv.lock", b"[[package]\n").unexamined.len(), 1);
    assert_eq!(read(b"uv.lock", b"a = ").unexamined.len(), 1);
    assert_eq!(read(b"uv.lock", format!("a = {}", "[".repeat(100_000)).as_bytes()).unexamined.len(), 1);
    let report =
        read(b"Pipfile.lock", br#"{"_meta":{},"default":{"a":{"version":"==1"},"b":7,"c":{"git":"x"}},"develop":[]}"#);
    assert_eq!((listed(&report), report.unexamined.len()), (vec!["a 1".into(), "b ".into(), "c ".into()], 2));
}

#[test]
fn a27_a_record_of_a_lock_file_spoils_itself_alone_and_is_bounded() {
    let huge = format!("[[package]]\nname = \"huge\"\nversion = \"1\"\nfiles = [{}]\n", "[],".repeat(200_000));
    let text = format!(
        "version = 1\n{huge}[[package]]\nname = \"one\"\nversion = \"1\"\n[package.dependencies]\ntwo = \"*\"\n\
         [[package]]\nname = broken\n[[ 'package' ]]\nname = \"two\"\nversion = \"2\"\n[metadata]\nname = \"none\"\n"
    );
    let report = super::read(b"poetry.lock", text.as_bytes());
    let found: Vec<_> = report.components.iter().map(|c| (c.name.as_str(), c.version.as_str())).collect();
    assert_eq!(found, [("one", "1"), ("two", "2")]);
    let [large, broken] = &*report.unexamined else { panic!("{:?}", report.unexamined) };
    assert!(large.contains("is not read") && broken.contains("not valid TOML"), "{:?}", report.unexamined);
}
