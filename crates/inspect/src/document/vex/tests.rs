//! The three formats, when a statement applies and which one prevails.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const OPENVEX: &str = r#"{
  "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://vex.example/1", "author": "Shop team",
  "timestamp": "2026-01-01T00:00:00Z", "version": 3,
  "statements": [
    {"vulnerability": {"name": "CVE-2023-5678", "aliases": ["DSA-1-1"]}, "timestamp": "2026-02-01T00:00:00Z",
     "products": [{"@id": "pkg:oci/shop?repository_url=hub.example%2Fteam%2Fshop",
       "subcomponents": [{"@id": "pkg:deb/debian/libssl3"}, {"@id": "pkg:pypi/pyyaml@6.0"}]}],
     "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path"},
    {"vulnerability": {"name": "CVE-2"}, "products": [{"@id": "urn:x", "hashes": {"sha-256": "SHA"},
       "identifiers": {"cpe23": "cpe:2.3:a:x"}}], "status": "affected", "action_statement": "Update"},
    {"vulnerability": {"name": "CVE-3"}, "status": "maybe"},
    {"vulnerability": {}, "status": "fixed"}
  ]}"#;

const OPENVEX_0_0_1: &str = r#"{"@context": "https://openvex.dev/ns", "@id": "old", "author": "a", "version": "2",
  "timestamp": "2023-01-08T18:02:03Z", "statements": [{"vulnerability": "CVE-2023-5678",
  "products": ["pkg:oci/shop@sha256:1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"],
  "subcomponents": ["pkg:deb/debian/libssl3@3.0.11"], "status": "fixed"}]}"#;

const CYCLONEDX: &str = r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": "urn:uuid:1", "version": 2,
  "metadata": {"timestamp": "2026-01-05T00:00:00Z", "supplier": {"name": "Shop"}},
  "components": [{"bom-ref": "r1", "type": "library", "name": "libssl3", "purl": "pkg:deb/debian/libssl3"}],
  "vulnerabilities": [
    {"id": "CVE-2023-5678", "references": [{"id": "GHSA-a", "source": {}}],
     "analysis": {"state": "not_affected", "justification": "code_not_reachable", "detail": "Not called."},
     "affects": [{"ref": "r1", "versions": [{"version": "3.0.11"}, {"range": "vers:deb/<4"}]},
       {"ref": "urn:cdx:1/1#pkg:npm/ms@2.1.2"}]},
    {"id": "CVE-9", "analysis": {"state": "nonsense"}}, {"id": "CVE-10"}]}"#;

const CSAF: &str = r#"{"document": {"csaf_version": "2.0", "category": "csaf_vex", "publisher": {"name": "Vendor"},
    "tracking": {"id": "V-1", "version": "1.2.0", "current_release_date": "2026-03-01T00:00:00Z"}},
  "product_tree": {
    "branches": [{"category": "vendor", "name": "v", "branches": [
      {"category": "product_name", "name": "shop", "product": {"name": "Shop", "product_id": "P-SHOP",
        "product_identification_helper": {"hashes": [{"filename": "m", "file_hashes": [{"algorithm": "sha256",
          "value": "1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"}]}]}}},
      {"category": "product_name", "name": "os", "product": {"name": "OS 9", "product_id": "P-OS",
        "product_identification_helper": {"cpe": "cpe:/o:os:9"}}}]}],
    "full_product_names": [{"name": "libssl3", "product_id": "P-SSL",
      "product_identification_helper": {"purl": "pkg:deb/debian/libssl3@3.0.11"}}],
    "relationships": [
      {"category": "installed_on", "product_reference": "P-SSL", "relates_to_product_reference": "P-SHOP",
       "full_product_name": {"name": "x", "product_id": "P-SSL-SHOP"}},
      {"category": "default_component_of", "product_reference": "P-SSL", "relates_to_product_reference": "P-OS",
       "full_product_name": {"name": "y", "product_id": "P-SSL-OS"}},
      {"category": "installed_on", "product_reference": "LOOP", "relates_to_product_reference": "LOOP",
       "full_product_name": {"name": "z", "product_id": "LOOP"}}],
    "product_groups": [{"group_id": "G", "product_ids": ["P-SSL-SHOP"]}]},
  "vulnerabilities": [{"cve": "CVE-2023-5678", "ids": [{"system_name": "x", "text": "V-BUG-1"}],
    "product_status": {"known_not_affected": ["P-SSL-SHOP", "P-SSL-OS"], "known_affected": ["LOOP", "NONE"],
      "under_investigation": ["P-SHOP"], "recommended": ["P-SHOP"]},
    "flags": [{"label": "component_not_present", "group_ids": ["G"]}],
    "threats": [{"category": "impact", "details": "None at all.", "product_ids": ["P-SSL-SHOP"]}]}]}"#;

struct Case {
    digests: Vec<String>,
    ids: Vec<String>,
    purls: Vec<Purl>,
}

impl Case {
    fn new(id: &str, purl: &str) -> Self {
        Self {
            digests: vec![format!("sha256:{}", "1f".repeat(32))],
            ids: vec!["GHSA-other".to_owned(), id.to_owned()],
            purls: vec![purl.parse().unwrap()],
        }
    }

    fn applies(&self, statement: &Statement) -> Applies {
        let repository = Some("hub.example/team/shop");
        let subject = Subject { digests: &self.digests, repository, tag: Some("1.4"), architecture: Some("arm64") };
        applies(statement, &subject, &Target { vulnerability: &self.ids, purls: &self.purls, hashes: &[] })
    }

    fn why(&self, statement: &Statement) -> String {
        match self.applies(statement) {
            Applies::Yes => "yes".to_owned(),
            Applies::No(reason) => reason.to_string(),
        }
    }
}

const LIBSSL: &str = "pkg:deb/debian/libssl3@3.0.11?arch=arm64&distro=debian-12";

#[test]
fn openvex_of_both_versions() {
    let vex = read(OPENVEX.as_bytes()).unwrap();
    assert_eq!(vex.statements.len(), 2);
    let notes: Vec<_> = vex.notes.iter().map(|note| note.at.as_str()).collect();
    assert_eq!(notes, ["/statements/2", "/statements/3"]);
    let first = &vex.statements[0];
    assert_eq!(first.vulnerabilities, ["CVE-2023-5678", "DSA-1-1"]);
    assert_eq!(
        (first.version, first.at.as_str(), first.document.as_str()),
        (3, "/statements/0", "https://vex.example/1")
    );
    assert_eq!(first.timestamp.unwrap().to_string(), "2026-02-01T00:00:00Z");
    assert_eq!(vex.statements[1].timestamp.unwrap().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(Case::new("dsa-1-1", LIBSSL).why(first), "yes", "by an alias, of any version");
    assert_eq!(Case::new("CVE-1", LIBSSL).why(first), "it is about CVE-2023-5678, DSA-1-1");
    assert_eq!(
        Case::new("CVE-2023-5678", "pkg:pypi/pyyaml@5.4").why(first),
        "it is about version 6.0, this one has \"5.4\""
    );
    let zlib = Case::new("CVE-2023-5678", "pkg:deb/debian/zlib1g@1").why(first);
    assert_eq!(zlib, "it is about the part pkg:pypi/pyyaml@6.0 of this product");
    let other = Case::new("CVE-2", LIBSSL).why(&vex.statements[1]);
    assert!(other.contains("cannot be compared"), "{other}");
    let old = read(OPENVEX_0_0_1.as_bytes()).unwrap();
    assert_eq!((old.statements[0].status, old.statements[0].version), (Status::Fixed, 2));
    assert_eq!(Case::new("CVE-2023-5678", LIBSSL).why(&old.statements[0]), "yes");
    assert!(read(OPENVEX.replace("v0.2.0", "v9").as_bytes()).is_err());
}

#[test]
fn cyclonedx_names_its_components_by_reference() {
    let vex = read(CYCLONEDX.as_bytes()).unwrap();
    assert_eq!(vex.statements.len(), 1);
    let notes: Vec<_> = vex.notes.iter().map(|note| note.at.as_str()).collect();
    assert_eq!(notes, ["/vulnerabilities/0/affects/0/versions/1", "/vulnerabilities/1/analysis"]);
    let statement = &vex.statements[0];
    assert_eq!(statement.justification, Some(Justification::VulnerableCodeNotInExecutePath));
    assert_eq!((statement.author.as_deref(), statement.version), (Some("Shop"), 2));
    assert_eq!(Case::new("GHSA-a", LIBSSL).why(statement), "yes");
    assert_eq!(Case::new("GHSA-a", "pkg:npm/ms@2.1.2").why(statement), "yes", "by a BOM-Link");
    let newer = Case::new("GHSA-a", "pkg:deb/debian/libssl3@3.1");
    assert_eq!(newer.why(statement), "it is about version 3.0.11, this one has \"3.1\"");
    // With the image as the subject, a statement on its part is not one on the same part of another image.
    let subject = r#""component": {"bom-ref": "s", "type": "container", "name": "x",
      "purl": "pkg:oci/other?repository_url=hub.example%2Fother"}, "supplier""#;
    let vex = read(CYCLONEDX.replace("\"supplier\"", subject).as_bytes()).unwrap();
    let why = Case::new("GHSA-a", LIBSSL).why(&vex.statements[0]);
    assert_eq!(why, "it is about the product pkg:oci/other?repository_url=hub.example%2Fother");
}

#[test]
fn csaf_relates_components_to_products() {
    let vex = read(CSAF.as_bytes()).unwrap();
    let notes: Vec<_> = vex.notes.iter().map(|note| note.at.as_str()).collect();
    let affected = "/vulnerabilities/0/product_status/known_affected";
    assert_eq!(notes, [format!("{affected}/0"), format!("{affected}/1")]);
    let case = Case::new("V-BUG-1", LIBSSL);
    let answers: Vec<_> = vex.statements.iter().map(|s| (s.status, s.justification.clone(), case.why(s))).collect();
    let on_os = "it names its product only as \"cpe:/o:os:9\", which cannot be compared".to_owned();
    assert_eq!(
        answers,
        [
            (Status::NotAffected, None, on_os),
            (Status::NotAffected, Some(Justification::ComponentNotPresent), "yes".to_owned()),
            (Status::UnderInvestigation, None, "yes".to_owned()),
        ]
    );
    assert_eq!(vex.statements[1].impact.as_deref(), Some("None at all."));
    assert_eq!(vex.statements[1].version, (1 << 40) + (2 << 20));
}

fn statement(purl: &str) -> Statement {
    let mut vex = read(OPENVEX_0_0_1.as_bytes()).unwrap();
    let mut statement = vex.statements.remove(0);
    statement.products = vec![Product { identifiers: vec![Identifier::of(purl)], subcomponents: Vec::new() }];
    statement
}

#[test]
fn what_is_left_open_covers_all_and_what_is_stated_must_agree() {
    let case = Case::new("CVE-2023-5678", LIBSSL);
    let digest = format!("sha256:{}", "1f".repeat(32));
    for (product, expected) in [
        ("pkg:deb/debian/libssl3", "yes"),
        ("pkg:deb/debian/libssl3?arch=arm64", "yes"),
        ("pkg:deb/debian/libssl3@3.0.11?arch=amd64", "it is about arch \"amd64\", this one has \"arm64\""),
        ("pkg:deb/debian/libssl3?epoch=1", "it is about epoch \"1\", this one has \"\""),
        ("pkg:deb/debian/libssl3@3.0.12", "it is about version 3.0.12, this one has \"3.0.11\""),
        ("pkg:deb/ubuntu/libssl3", "it is about the product pkg:deb/ubuntu/libssl3"),
        ("pkg:oci/shop", "yes"),
        ("pkg:oci/shop?repository_url=hub.example%2Fteam", "yes"),
        ("pkg:docker/team/shop@1.4", "yes"),
        (&digest, "yes"),
        (&format!("pkg:oci/renamed@{digest}"), "yes"),
        ("pkg:oci/shop?tag=1.3", "it is about tag \"1.3\", this one has \"1.4\""),
        (
            "pkg:oci/shop?repository_url=other.example%2Fteam%2Fshop",
            "it is about the product pkg:oci/shop?repository_url=other.example%2Fteam%2Fshop",
        ),
        ("pkg:docker/other/shop", "it is about the product pkg:docker/other/shop"),
        ("CPE:/x", "it names its product only as \"CPE:/x\", which cannot be compared"),
    ] {
        assert_eq!(case.why(&statement(product)), expected, "{product}");
    }
    let other = format!("pkg:oci/shop@sha256:{}", "00".repeat(32));
    assert!(case.why(&statement(&other)).starts_with("it is about version sha256:00"));
    let mut nothing = statement("x");
    nothing.products.clear();
    assert_eq!(case.why(&nothing), "it names no product");
}

#[test]
fn the_latest_prevails_and_then_the_more_cautious() {
    let base = statement("pkg:oci/shop");
    let at = |time: &str, status| Statement { timestamp: time.parse().ok(), status, ..base.clone() };
    let old = at("2026-01-01T00:00:00Z", Status::Affected);
    let new = at("2026-02-01T00:00:00Z", Status::NotAffected);
    let same = at("2026-02-01T00:00:00Z", Status::UnderInvestigation);
    let never = at("", Status::Affected);
    assert_eq!(prevailing(&[&new, &old, &never]), Some(0));
    assert_eq!(prevailing(&[&old, &new, &same]), Some(2));
    let revised = Statement { version: 9, ..new.clone() };
    assert_eq!(prevailing(&[&same, &revised]), Some(1));
    assert_eq!(prevailing(&[&new, &new.clone()]), Some(0));
    assert_eq!(prevailing(&[]), None);
}

/// A few groups that name the same products again and again.
#[test]
fn a24_a_small_document_does_not_name_products_without_end() {
    let ids = vec!["\"P-SSL-SHOP\""; 20_000].join(",");
    let status = (0..60).map(|n| format!("{{\"cve\":\"C-{n}\",\"product_status\":{{\"fixed\":[{ids}]}}}}"));
    let text = CSAF
        .replace("\"vulnerabilities\": [", &format!("\"vulnerabilities\": [{},", status.collect::<Vec<_>>().join(",")));
    assert!(matches!(read(text.as_bytes()), Err(ReadError::Limit { what: "bytes of statements", .. })));
}

proptest! {
    #[test]
    fn no_mutation_panics(which in 0..4usize, at in any::<prop::sample::Index>(), with in ".{0,4}", cut in 0..6usize) {
        let text: Vec<char> = [OPENVEX, OPENVEX_0_0_1, CYCLONEDX, CSAF].get(which).unwrap().chars().collect();
        let at = at.index(text.len());
        let mutated: String = text.iter().take(at).copied().chain(with.chars()).chain(text.iter().skip(at + cut).copied()).collect();
        if let Ok(vex) = read(mutated.as_bytes()) {
            let case = Case::new("CVE-2023-5678", LIBSSL);
            for statement in &vex.statements {
                let _ = case.applies(statement);
            }
            let all: Vec<&Statement> = vex.statements.iter().collect();
            prop_assert_eq!(prevailing(&all).is_some(), !all.is_empty());
        }
    }
}
