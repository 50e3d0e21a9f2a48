//! Tests of the three forms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::component::Evidence;

fn listed(report: &Report) -> Vec<String> {
    report.components.iter().map(|found| format!("{} {}", found.name, found.version)).collect()
}

#[test]
fn deps_and_lock() {
    let report = read(b"app/App.deps.json", include_bytes!("fixtures/app.deps.json"));
    let expected = ["App 1.0.0", "Microsoft.NETCore.App.Runtime.linux-x64 8.0.4", "Newtonsoft.Json 13.0.3"];
    assert_eq!((listed(&report), report.unexamined.len()), (expected.map(str::to_owned).to_vec(), 0));
    assert!(report.components.iter().all(|found| found.evidence == Evidence::Installed));
    let report = read(b"packages.lock.json", include_bytes!("fixtures/packages.lock.json"));
    assert_eq!(
        (listed(&report), report.unexamined.len()),
        (vec!["Newtonsoft.Json 13.0.3".to_owned(), "Serilog 3.0.1".to_owned()], 0)
    );
    assert!(
        wants(b"app/App.deps.json")
            && wants(b"x/packages.lock.json")
            && !wants(b"x/deps.json")
            && !wants(b"apackages.lock.json")
    );
}

#[test]
fn manifests() {
    let read = |text: &str| read(b"Acme.nuspec", text.as_bytes());
    let report = read(include_str!("fixtures/acme.nuspec"));
    assert_eq!(
        (listed(&report), report.unexamined.len()),
        (vec!["Acme.Widgets 2.5.0-beta.1+sha.5114f85".to_owned()], 0)
    );
    assert_eq!(report.components[0].licences, ["MIT OR Apache-2.0"]);
    let report = read(
        "<p:package xmlns:p='x'><p:metadata><p:id>A&#66;&amp;</p:id><p:version> 1 </p:version><p:license type=\"file\">L.txt</p:license></p:metadata></p:package>",
    );
    assert_eq!(
        (listed(&report), report.components[0].licences.join("")),
        (vec!["AB& 1".to_owned()], "file L.txt".to_owned())
    );
    let old = read(
        "<package><metadata><id>a</id><version>1</version><licenseUrl>https://x.invalid/l</licenseUrl></metadata></package>",
    );
    assert_eq!(old.components[0].licences, ["https://x.invalid/l"]);
    assert_eq!(read("<package><metadata><id>a</id><version>1</version").unexamined.len(), 2);
    assert_eq!(read("<a>".repeat(100_000).as_str()).unexamined.len(), 1);
}
