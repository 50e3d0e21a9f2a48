//! Whatever a layer holds, the walk over it ends within its limits and says the same twice, and what is said makes
//! documents that can be read.
#![no_main]

use fuzz::with_tar_checksums;
use inspect::archive::Limits;
use inspect::assemble::assemble;
use inspect::content::Content;
use inspect::document::{Contents, cyclonedx, json, spdx};
use inspect::walk::{self, UNEXAMINED_MAX};
use libfuzzer_sys::fuzz_target;

/// Places in an image where somebody wants what lies there.
const PATHS: [&str; 40] = [
    "a.bin",
    "a.jar",
    "a.tar.gz",
    "a.deb",
    "a.rpm",
    "a.zip",
    "etc/os-release",
    "usr/lib/os-release",
    "var/lib/dpkg/status",
    "var/lib/dpkg/info/a.list",
    "var/lib/dpkg/info/a.md5sums",
    "usr/share/doc/a/copyright",
    "var/lib/chisel/manifest.wall",
    "var/lib/rpm/Packages",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpmmanifest/container-manifest-2",
    "lib/apk/db/installed",
    "Cargo.lock",
    "jre/release",
    "node_modules/a/package.json",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "site/a.dist-info/METADATA",
    "site/a.egg-info",
    "requirements.txt",
    "poetry.lock",
    "Pipfile.lock",
    "uv.lock",
    "pylock.toml",
    "conda-meta/a.json",
    "specifications/a-1.gemspec",
    "Gemfile.lock",
    "composer.lock",
    "vendor/composer/installed.json",
    "a.deps.json",
    "packages.lock.json",
    "a.nuspec",
    "usr/bin/python3.11",
];

/// What is known of an image of one layer in which nothing was found.
const EMPTY: &[u8] =
    br#"{"schema":"longshore.contents/1","tool":{"name":"longshore","version":"1"},"image":{"name":"a",
    "labels":{},"layers":[{"digest":"sha256:00","diffId":"sha256:00","size":0}]},"complete":true,"components":[],
    "findings":[],"secrets":[],"unexamined":[]}"#;

fn limits() -> Limits {
    Limits { bytes: 8 << 20, ratio_free_bytes: 256 << 10, entries: 5_000, spool_bytes: 8 << 20, ..Limits::default() }
}

/// A layer with the bytes as a file.
fn layer_with(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let mut layer = [&header, bytes].concat();
    layer.resize(layer.len().next_multiple_of(512) + 1024, 0);
    with_tar_checksums(&layer)
}

fn check(bytes: &[u8]) {
    let read = || walk::layer(Content::memory(bytes), &std::env::temp_dir(), limits());
    let layer = read();
    assert_eq!(layer.report, read().report);
    assert!(layer.report.files_count <= limits().entries + 2);
    let facts = || layer.report.files.iter().flat_map(|file| &file.facts);
    let unexamined = facts().filter(|fact| matches!(fact, walk::Fact::Unexamined(_))).count() as u64;
    assert!(unexamined <= UNEXAMINED_MAX + 1);
    for file in &layer.report.files {
        assert!(!file.facts.is_empty() && file.chain.len() as u64 <= limits().depth + 2, "{file:?}");
    }
    let assembled = assemble(std::slice::from_ref(&layer));
    let mut contents = json::read(EMPTY).expect("a document of nothing");
    contents.operating_system = assembled.operating_system;
    contents.components = assembled.components;
    contents.unexamined = assembled.unexamined;
    let mut own = Vec::new();
    json::write(&contents, &mut own).expect("what was found can be written");
    let again = json::read(&own).expect("what was written can be read");
    let mut twice = Vec::new();
    json::write(&again, &mut twice).expect("what was read can be written");
    assert!(own == twice, "{}\n{}", String::from_utf8_lossy(&own), String::from_utf8_lossy(&twice));
    for written in [
        |contents: &Contents, out: &mut Vec<u8>| cyclonedx::write(contents, cyclonedx::Version::V1_6, out),
        |contents: &Contents, out: &mut Vec<u8>| spdx::write(contents, out),
    ] {
        let mut out = Vec::new();
        written(&contents, &mut out).expect("what was found can be written");
        serde_json::from_slice::<serde_json::Value>(&out).expect("a document is JSON");
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // The last byte says where the rest lies, so that files of all kinds are a corpus.
    let Some((last, rest)) = bytes.split_last() else { return };
    check(&layer_with(PATHS[usize::from(*last) % PATHS.len()], rest));
});
