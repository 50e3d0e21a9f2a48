//! Foreign documents as their tools shape them, the limits, and that nothing panics.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::component::{Ecosystem, Source};
use crate::document::{Contents, json, spdx};

fn contents() -> Contents {
    json::read(include_bytes!("../fixtures/contents.json")).unwrap()
}

const CYCLONEDX: &str = r#"{
  "bomFormat": "CycloneDX", "specVersion": "1.3", "version": 1,
  "metadata": {"component": {"bom-ref": "root", "type": "container", "name": "shop",
    "hashes": [{"alg": "SHA-256", "content": "1F1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"}]}},
  "components": [
    {"type": "operating-system", "bom-ref": "os", "name": "debian", "version": "12"},
    {"type": "library", "bom-ref": "a", "group": "org.slf4j", "name": "slf4j-api", "version": "2.0",
     "purl": "pkg:maven/org.slf4j/slf4j-api@2.0", "licenses": [{"license": {"id": "MIT"}}, {"license": {}}],
     "components": [{"type": "library", "bom-ref": "b", "name": "core", "version": "7", "purl": "pkg:npm/%40babel/core@7"}]},
    {"type": "library", "bom-ref": "c", "name": "broken", "version": "1", "purl": "npm/broken"},
    {"type": "library"},
    {"type": "file", "name": "/etc/passwd", "hashes": [{"alg": "MD5", "content": "zz"}]},
    {"type": "library", "bom-ref": "d", "name": "libssl3", "version": "3.0",
     "purl": "pkg:deb/debian/libssl3@3.0?upstream=openssl%403.1&arch=amd64&distro=debian-12"},
    {"type": "library", "name": "zlib", "version": "1", "purl": "pkg:conan/zlib@1.3"}
  ],
  "dependencies": [{"ref": "a", "dependsOn": ["b", "d"]}, {"dependsOn": []}],
  "compositions": [{"aggregate": "incomplete_first_party_only", "assemblies": ["root"]}]
}"#;

#[test]
fn one_broken_record_does_not_hide_the_others() {
    let bill = read(CYCLONEDX.as_bytes()).unwrap();
    let shown: Vec<_> = bill.components.iter().map(|listed| listed.component.to_string()).collect();
    let expected = [
        "Maven org.slf4j:slf4j-api 2.0",
        "Npm @babel/core 7",
        "Generic broken 1",
        "Deb libssl3 3.0",
        "Generic zlib 1.3",
    ];
    assert_eq!(shown, expected);
    let notes: Vec<_> = bill.notes.iter().map(|note| note.at.as_str()).collect();
    assert_eq!(notes, ["/components/1/licenses/1", "/components/2/purl", "/components/3", "/dependencies/1"]);
    assert_eq!(bill.components[0].depends_on, ["b", "d"]);
    let source = Source { name: "openssl".to_owned(), version: "3.1".to_owned() };
    assert_eq!(bill.components[3].component.source, Some(source));
    assert_eq!(bill.complete, Some(false));
    assert_eq!(bill.subject.as_deref(), Some("shop"));
    assert_eq!(bill.subject_identifiers, [format!("sha256:{}", "1f".repeat(32))]);
}

#[test]
fn tag_value_says_what_json_says() {
    let mut out = Vec::new();
    spdx::write(&contents(), &mut out).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let mut text = "SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\n# a comment\n".to_owned();
    for package in json["packages"].as_array().unwrap() {
        let word = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        text += &format!("\nPackageName: {}\nSPDXID: {}\n", word("name"), word("SPDXID"));
        text += &format!("PackageVersion: {}\n", word("versionInfo"));
        text += &format!("PrimaryPackagePurpose: {}\n", word("primaryPackagePurpose"));
        text += &format!("PackageLicenseDeclared: {}\n", word("licenseDeclared"));
        for reference in package["externalRefs"].as_array().into_iter().flatten() {
            let locator = reference["referenceLocator"].as_str().unwrap();
            text +=
                &format!("ExternalRef: PACKAGE-MANAGER {} {locator}\n", reference["referenceType"].as_str().unwrap());
        }
        for checksum in package["checksums"].as_array().into_iter().flatten() {
            let word = |key: &str| checksum[key].as_str().unwrap().to_owned();
            text += &format!("PackageChecksum: {}: {}\n", word("algorithm"), word("checksumValue"));
        }
        for annotation in package["annotations"].as_array().into_iter().flatten() {
            let comment = annotation["comment"].as_str().unwrap();
            text += &format!("AnnotationComment: <text>{comment}</text>\n");
        }
    }
    for licence in json["hasExtractedLicensingInfos"].as_array().unwrap() {
        let word = |key: &str| licence[key].as_str().unwrap().to_owned();
        text += &format!("LicenseID: {}\nExtractedText: <text>first\nsecond</text>\n", word("licenseId"));
        text += &format!("LicenseName: {}\n", word("name"));
    }
    for relationship in json["relationships"].as_array().unwrap() {
        let word = |key: &str| relationship[key].as_str().unwrap().to_owned();
        let (from, to) = (word("spdxElementId"), word("relatedSpdxElement"));
        text += &format!("Relationship: {from} {} {to}\n", word("relationshipType"));
    }
    let plain = |mut bill: Bill| {
        bill.components.iter_mut().for_each(|listed| listed.at.clear());
        bill.components
    };
    let bill = read(text.as_bytes()).unwrap();
    assert_eq!(bill.notes, []);
    assert_eq!(plain(bill), plain(read(&out).unwrap()));
    let lines = "SPDXVersion: SPDX-2.2\nPackageName: a\nExternalRef: x\nnonsense\n";
    let notes = read(lines.as_bytes()).unwrap().notes;
    assert_eq!(notes.iter().map(|note| note.at.as_str()).collect::<Vec<_>>(), ["line 3", "line 4"]);
}

#[test]
fn what_is_no_bill_is_refused_with_the_place() {
    let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    assert!(error("").starts_with("the document is none of CycloneDX JSON"));
    assert!(error("<bom/>").starts_with("the document is none of"));
    assert!(error("{}").starts_with("the document is none of"));
    assert_eq!(error(r#"{"bomFormat":"CycloneDX","specVersion":"9"}"#), "CycloneDX version \"9\" is not read");
    assert_eq!(
        error(r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":{}}"#),
        "at \"\": \"components\" is no list"
    );
    assert!(
        error(r#"{"bomFormat":"CycloneDX","components":[{"name":"a"},{"na/me":tru}]}"#)
            .starts_with("at \"/components/1/na~1me\"")
    );
    assert!(
        error(r#"{"spdxVersion":"SPDX-2.3","packages":[{"name":"a","name":"b"}]}"#).contains("\"name\" is given twice")
    );
    assert!(error("{\"spdxVersion\":\"SPDX-2.3\"} x").starts_with("at \"\": trailing"));
    assert!(error("SPDXVersion: SPDX-2.3\nPackageComment: <text>x").starts_with("at \"line 2\""));
    assert_eq!(error(r#"{"spdxVersion":"SPDX-3.0"}"#), "SPDX version \"SPDX-3.0\" is not read");
}

/// A small document must not make a large tree or a deep stack.
#[test]
fn a24_documents_over_the_limits_are_refused() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let error = read(deep.as_bytes()).unwrap_err();
    assert!(matches!(error, ReadError::Limit { what: "levels", .. }), "{error}");
    let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(VALUES_MAX));
    let error = read(wide.as_bytes()).unwrap_err();
    assert_eq!(error, ReadError::Limit { at: format!("/a/{}", VALUES_MAX - 2), what: "values", limit: VALUES_MAX });
    let long = vec![b' '; DOCUMENT_BYTES_MAX + 1];
    assert_eq!(read(&long), Err(ReadError::TooLong { bytes: long.len() }));
    let many =
        format!("{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":[{}{{}}]}}", "{},".repeat(2_000));
    let notes = read(many.as_bytes()).unwrap().notes;
    assert_eq!((notes.len(), notes[NOTES_MAX].why.as_str()), (NOTES_MAX + 1, "1001 more parts were not read"));
}

#[test]
fn names_that_others_normalise_are_kept() {
    let text = r#"{"schema":{"version":"16.0.18"},"descriptor":{},"source":{"name":"x","metadata":{"imageID":"sha256:1"}},"artifacts":[
      {"id":"1","name":"PyYAML","version":"6.0","foundBy":"python-installed-package-cataloger","purl":"pkg:pypi/pyyaml@6.0",
       "locations":[{"path":"/a"}],"licenses":[{"value":"MIT License","spdxExpression":"MIT"}]},
      {"id":"2","name":"x","version":"1","purl":""}],
      "artifactRelationships":[{"parent":"2","child":"1","type":"dependency-of"}]}"#;
    let bill = read(text.as_bytes()).unwrap();
    let listed = &bill.components[0];
    assert_eq!((listed.component.ecosystem, listed.component.name.as_str()), (Ecosystem::PyPi, "PyYAML"));
    assert_eq!(
        (listed.depends_on.as_slice(), listed.places.as_slice()),
        (&["2".to_owned()][..], &["/a".to_owned()][..])
    );
    assert_eq!(listed.licences[0].expression.as_deref(), Some("MIT"));
    assert!(read(text.replace("16.0.18", "99.0.0").as_bytes()).is_err());
}

proptest! {
    #[test]
    fn no_mutation_panics(which in 0..4usize, edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8)) {
        let mut documents = vec![CYCLONEDX.as_bytes().to_vec(), include_bytes!("../fixtures/contents.json").to_vec()];
        let mut out = Vec::new();
        spdx::write(&contents(), &mut out).unwrap();
        documents.push(out);
        documents.push(b"SPDXVersion: SPDX-2.3\nPackageName: a\nPackageVersion: 1\nSPDXID: b\nPackageChecksum: SHA1: 00\n\
            ExternalRef: PACKAGE-MANAGER purl pkg:npm/a@1\nPackageComment: <text>x\ny</text>\nRelationship: a b c\n".to_vec());
        let mut bytes = documents.swap_remove(which);
        for (place, value, kind) in edits {
            let at = place.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                0 => { if let Some(byte) = bytes.get_mut(at) { *byte = value; } }
                1 => bytes.truncate(at),
                _ => bytes.insert(at.min(bytes.len()), value),
            }
        }
        let _ = read(&bytes);
        let _ = json::read(&bytes);
        let _ = crate::document::vex::read(&bytes);
        let _ = crate::document::trivyignore::read_yaml(&bytes);
    }
}
