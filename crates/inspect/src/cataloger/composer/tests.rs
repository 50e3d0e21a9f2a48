//! Tests against what Composer itself wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn listed(report: &Report) -> Vec<String> {
    report.components.iter().map(|found| format!("{} {} {:?}", found.name, found.version, found.licences)).collect()
}

#[test]
fn installed_and_locked() {
    let expected = [r#"acme/first 1.2.3 ["(MIT OR GPL-3.0-only)"]"#, r#"acme/second v0.9.0-beta2 ["proprietary"]"#];
    let two = include_str!("fixtures/installed.v2.json");
    let parsed: serde_json::Value = serde_json::from_str(two).unwrap();
    let one = parsed["packages"].to_string();
    let lock = include_str!("fixtures/composer.lock");
    for (path, text, evidence) in [
        ("srv/vendor/composer/installed.json", two, Evidence::Installed),
        ("vendor/composer/installed.json", &one, Evidence::Installed),
        ("composer.lock", lock, Evidence::Contained),
    ] {
        assert!(wants(path.as_bytes()));
        let report = read(path.as_bytes(), text.as_bytes());
        assert_eq!((listed(&report), report.unexamined.len()), (expected.map(str::to_owned).to_vec(), 0), "{path}");
        assert!(report.components.iter().all(|found| found.evidence == evidence));
    }
    assert!(!wants(b"vendor/mycomposer/installed.json") && !wants(b"installed.json"));
    let broken =
        read(b"composer.lock", br#"{"packages":[{"name":"a/b","version":"1"},7,{"version":"1"}],"packages-dev":null}"#);
    assert_eq!((broken.components.len(), broken.unexamined.len()), (1, 2));
}
