//! Tests against specifications from Debian's packages and a lock file in Bundler's form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::component::Evidence;

fn listed(report: &Report) -> Vec<String> {
    report.components.iter().map(|found| format!("{} {}", found.name, found.version)).collect()
}

#[test]
fn installed_gems() {
    let folder = "usr/share/rubygems-integration/all/specifications";
    for (name, bytes, expected) in [
        ("nokogiri-1.13.10", include_bytes!("fixtures/nokogiri-1.13.10.gemspec").as_slice(), "nokogiri 1.13.10"),
        ("default/i18n-1.10.0", include_bytes!("fixtures/i18n-1.10.0.gemspec").as_slice(), "i18n 1.10.0"),
    ] {
        let path = format!("{folder}/{name}.gemspec");
        assert!(wants(path.as_bytes()));
        let report = read(path.as_bytes(), bytes);
        assert_eq!((listed(&report), report.unexamined.len()), (vec![expected.to_owned()], 0));
        assert_eq!(report.components[0].licences, ["MIT"]);
        assert_eq!(report.components[0].evidence, Evidence::Installed);
    }
    assert!(!wants(b"gems/rack-2.0/rack.gemspec"));
}

#[test]
fn nothing_is_evaluated() {
    let read = |text: &str| read(b"specifications/x.gemspec", text.as_bytes());
    let interpolated = read(
        "# stub: real 1.0 ruby lib\nGem::Specification.new do |s|\n  s.name = \"a#{1}\"\n  s.version = File.read(X)\n  s.licenses = ['a \\'b\\'', \"c\"] # \"d\"\nend\n",
    );
    assert_eq!(listed(&interpolated), ["real 1.0"]);
    assert_eq!(interpolated.components[0].licences, ["a 'b'", "c"]);
    let old =
        read("Gem::Specification.new do |spec|\n  spec.name = %q{x}\n  spec.version = Gem::Version.new(\"2.0\")\nend");
    assert_eq!((old.components.len(), old.unexamined.len()), (0, 1));
    assert_eq!(read("s.name = \"unended").unexamined.len(), 1);
}

#[test]
fn locked_gems() {
    let report = read(b"srv/Gemfile.lock", include_bytes!("fixtures/Gemfile.lock"));
    let expected =
        ["concurrent-ruby 1.2.2", "i18n 1.14.1", "nokogiri 1.15.4", "racc 1.7.1", "rack 3.0.0.rc1", "widget 0.3.0"];
    assert_eq!((listed(&report), report.unexamined.len()), (expected.map(str::to_owned).to_vec(), 0));
    let broken = read(b"Gemfile.lock", b"GEM\n  specs:\n    a (1)\n    what\n<<<<<<< HEAD\n");
    assert_eq!((listed(&broken), broken.unexamined.len()), (vec!["a 1".to_owned()], 2));
}
