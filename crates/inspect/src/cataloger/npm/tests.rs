//! Tests against lock files that the package managers themselves wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::component::Evidence;

const LOCKED: [&str; 9] = [
    "@types/ms 0.7.34",
    "debug 4.3.4",
    "js-tokens 4.0.0",
    "left-pad 1.3.0",
    "loose-envify 1.4.0",
    "ms 2.1.2",
    "react 18.2.0",
    "semver 7.8.6",
    "use-sync-external-store 1.2.0",
];

fn listed(report: &Report) -> Vec<String> {
    report.components.iter().map(|found| format!("{} {}", found.name, found.version)).collect()
}

#[test]
fn lock_files_of_every_manager_name_the_same_packages() {
    let files: [(&str, &[u8]); 9] = [
        ("package-lock.json", include_bytes!("fixtures/package-lock.v1.json")),
        ("npm-shrinkwrap.json", include_bytes!("fixtures/package-lock.v2.json")),
        ("node_modules/.package-lock.json", include_bytes!("fixtures/package-lock.v3.json")),
        ("yarn.lock", include_bytes!("fixtures/yarn.v1.lock")),
        ("yarn.lock", include_bytes!("fixtures/yarn.berry.lock")),
        ("pnpm-lock.yaml", include_bytes!("fixtures/pnpm-lock.v5.yaml")),
        ("pnpm-lock.yaml", include_bytes!("fixtures/pnpm-lock.v6.yaml")),
        ("pnpm-lock.yaml", include_bytes!("fixtures/pnpm-lock.v9.yaml")),
        ("bun.lock", include_bytes!("fixtures/bun.lock")),
    ];
    for (place, (name, bytes)) in files.into_iter().enumerate() {
        let path = format!("srv/app/{name}");
        assert!(wants(path.as_bytes()), "{name}");
        let report = read(path.as_bytes(), bytes);
        assert_eq!(report.unexamined, Vec::<String>::new(), "{place} {name}");
        // npm's lock files have the project itself besides.
        let found: Vec<String> = listed(&report).into_iter().filter(|found| found != "sample 1.0.0").collect();
        assert_eq!(found, LOCKED, "{place} {name}");
        assert!(report.components.iter().all(|found| found.evidence == Evidence::Contained));
        assert_eq!(report.components.len() == 10, name.ends_with(".json"), "{place} {name}");
    }
}

#[test]
fn an_installed_package_is_told_from_one_that_lies_there() {
    let json = br#"{"name":"@a/b","version":"1.2.3","license":"(MIT OR Apache-2.0)"}"#;
    for (path, evidence) in [
        ("app/node_modules/@a/b/package.json", Evidence::Installed),
        ("app/node_modules/c/node_modules/@a/b/package.json", Evidence::Installed),
        ("usr/share/nodejs/b/package.json", Evidence::Installed),
        ("app/node_modules/c/test/b/package.json", Evidence::Contained),
        ("app/package.json", Evidence::Contained),
        ("package/package.json", Evidence::Contained),
    ] {
        assert!(wants(path.as_bytes()));
        let report = read(path.as_bytes(), json);
        assert_eq!(listed(&report), ["@a/b 1.2.3"]);
        assert_eq!(report.components[0].evidence, evidence, "{path}");
        assert_eq!(report.components[0].licences, ["(MIT OR Apache-2.0)"]);
    }
}

#[test]
fn a_copy_within_a_package_is_there_without_a_version() {
    let place = b"app/node_modules/next/dist/compiled/acorn/package.json";
    for name in ["acorn", "@hapi/accept"] {
        let report = read(place, format!(r#"{{"name":"{name}","main":"a.js","license":"MIT"}}"#).as_bytes());
        assert_eq!(listed(&report), [format!("{name} ")]);
        assert_eq!(report.components[0].evidence, Evidence::Contained);
        assert_eq!(report.components[0].licences, ["MIT"]);
        let report = read(place, format!(r#"{{"name":"{name}","private":true}}"#).as_bytes());
        assert_eq!(report, Report::default());
    }
    for name in ["rxjs/ajax", "@a/b/c", "@a", "@a/", ""] {
        let report = read(place, format!(r#"{{"name":"{name}"}}"#).as_bytes());
        assert_eq!(report, Report::default(), "{name}");
    }
}

#[test]
fn licences_in_all_their_forms() {
    for (field, expected) in [
        (r#""license":"MIT""#, vec!["MIT"]),
        (r#""license":{"type":"BSD","url":"https://x.invalid"}"#, vec!["BSD"]),
        (r#""licenses":[{"type":"MIT"},{"type":"GPL-2.0 AND MIT"}]"#, vec!["(MIT OR (GPL-2.0 AND MIT))"]),
        (r#""licenses":["MIT"]"#, vec!["MIT"]),
        (r#""license":"SEE LICENSE IN LICENSE.txt""#, vec!["SEE LICENSE IN LICENSE.txt"]),
        (r#""license":null"#, vec![]),
        (r#""license":[[[]],7,{}]"#, vec![]),
    ] {
        let json = format!("\u{FEFF}{{\"name\":\"a\",\"version\":\"1.0.0\",{field}}}");
        let report = read(b"node_modules/a/package.json", json.as_bytes());
        assert_eq!(report.components[0].licences, expected, "{field}");
    }
}

#[test]
fn what_is_no_package_is_none_and_what_is_broken_is_told() {
    for json in [r#"{"type":"commonjs"}"#, r#"{"name":"a"}"#, r#"{"name":"a","version":7}"#, "{}"] {
        assert_eq!(read(b"package.json", json.as_bytes()), Report::default(), "{json}");
    }
    let report = read(b"package.json", br#"{"name":"a","version":"1.0.0","x":[}"#);
    assert_eq!((report.components.len(), report.unexamined.len()), (1, 1));
    let report = read(b"package.json", br#"{"name":"\ud800a\u0062","version":"\u0031"}"#);
    assert_eq!(listed(&report), [r"\ud800a\u0062 1"]);
    assert_eq!(read(b"bun.lockb", b"\0").unexamined.len(), 1);
}

#[test]
fn one_broken_record_spoils_itself_alone() {
    let report = read(
        b"package-lock.json",
        br#"{"lockfileVersion":3,"packages":{"":{"name":"p"},"node_modules/a":7,"node_modules/b":{"version":"1.0.0"},
           "node_modules/c":{"resolved":"x"},"lib":{"name":"lib","version":"0.1.0"},"node_modules/lib":{"resolved":"lib","link":true},
           "node_modules/d":{"version":"2.0.0","license":"ISC"},"node_modules/b/node_modules/d":{"version":"2.0.0"}}}"#,
    );
    assert_eq!(listed(&report), ["b 1.0.0", "d 2.0.0", "lib 0.1.0"]);
    assert_eq!(report.components[1].licences, ["ISC"]);
    assert_eq!(report.unexamined.len(), 3, "{:?}", report.unexamined);
}

#[test]
fn sources_other_than_the_registry() {
    let v1 = br#"{"dependencies":{"a":{"version":"git+ssh://x.invalid/a#12"},"b":{"version":"npm:@s/real@2.0.0"}}}"#;
    assert_eq!(listed(&read(b"package-lock.json", v1)), ["@s/real 2.0.0", "a "]);
    let pnpm = br#"
lockfileVersion: '9.0'
packages:
  '@s/a@https://x.invalid/t/abc':
    resolution: {tarball: https://x.invalid/t/abc}
    version: 1.5.0
  github.com/o/b/0123:
    resolution: {tarball: x}
    name: b
    version: 2.0.0
  c@1.0.0(@s/p@2.0.0(react@18.2.0)):
    dependencies: {name: 'no', version: 'no'}
  /@s/d/1.0.0_@babel+core@7.0.0:
    dev: true
---
lockfileVersion: '9.0'
snapshots:
  e@3.0.0-rc.1: {}
"#;
    let report = read(b"pnpm-lock.yaml", pnpm);
    assert_eq!(report.unexamined, Vec::<String>::new());
    assert_eq!(listed(&report), ["@s/a 1.5.0", "@s/d 1.0.0", "b 2.0.0", "c 1.0.0", "e 3.0.0-rc.1"]);
    let yarn = b"\"t@patch:t@npm%3A5.0.0#x\":\n  version: 5.0.0\n  resolution: \"t@patch:t@npm%3A5.0.0#x::version=5.0.0\"\n\n? \"l@npm:^1\"\n:\n  version: 1.0.0\n  resolution: \"l@npm:1.0.0\"\n";
    let report = read(b"yarn.lock", yarn);
    assert_eq!((listed(&report), report.unexamined.len()), (vec!["l 1.0.0".to_owned(), "t 5.0.0".to_owned()], 0));
    let bun = br#"{ // a comment
      "packages": { "w": ["w@workspace:packages/w",], "x/y": ["y@github:o/y#12", {}, "z"], /* , */ "s,]": ["s@1.0.0, ]",], }, }"#;
    let report = read(b"bun.lock", bun);
    assert_eq!((listed(&report), report.unexamined), (vec!["s 1.0.0, ]".to_owned(), "y ".to_owned()], vec![]));
}

#[test]
fn a25_deep_nesting_is_refused_and_told() {
    let mut json = String::new();
    for _ in 0..100_000 {
        json.push_str(r#"{"dependencies":{"a":"#);
    }
    // Not closed: and closed.
    assert!(!read(b"package-lock.json", json.as_bytes()).unexamined.is_empty());
    let depth = NESTING_MAX + 10;
    let nested = format!("{}7{}", r#"{"dependencies":{"a":"#.repeat(depth), "}}".repeat(depth));
    let told = read(b"package-lock.json", nested.as_bytes()).unexamined.join("\n");
    assert!(told.contains("nest more than"), "{told}");
    let flow = format!("packages: {}", "[".repeat(100_000));
    assert!(!read(b"pnpm-lock.yaml", flow.as_bytes()).unexamined.is_empty());
}

#[test]
fn a25_too_much_is_told() {
    let report = read(b"package.json", &vec![b' '; PACKAGE_BYTES_MAX + 1]);
    assert_eq!((report.components.len(), report.unexamined.len()), (0, 1));
    let mut lock = String::from(r#"{"packages":{"#);
    for number in 0..crate::cataloger::COMPONENTS_MAX + 5 {
        lock.push_str(&format!(r#""node_modules/p{number}":{{"version":"1.0.0"}},"#));
    }
    lock.push_str(&format!(r#""node_modules/{}":{{"version":"1.0.0"}}}}}}"#, "x".repeat(600)));
    let report = read(b"package-lock.json", lock.as_bytes());
    assert_eq!(report.components.len(), crate::cataloger::COMPONENTS_MAX);
    assert!(report.unexamined.len() >= 2);
}
