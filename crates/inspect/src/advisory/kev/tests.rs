//! The catalogue, whole and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{Catalogue, CatalogueError, MAX_CATALOGUE_BYTES};

const CATALOGUE: &str = r#"{
  "title": "Known Exploited Vulnerabilities", "catalogVersion": "2026.01.02", "dateReleased": "2026-01-02T17:00:00.1234Z", "count": 3,
  "vulnerabilities": [
    {"cveID": "CVE-2021-44228", "vendorProject": "Apache", "product": "Log4j2", "vulnerabilityName": "Remote code execution",
     "dateAdded": "2021-12-10", "shortDescription": "…", "requiredAction": "Apply updates.", "dueDate": "2021-12-24",
     "knownRansomwareCampaignUse": "Known", "notes": "", "cwes": ["CWE-20"]},
    {"cveID": "CVE-2020-1", "dateAdded": "not a date"},
    {"cveID": "CVE-2020-2", "dateAdded": "2022-01-02"}
  ]
}"#;

#[test]
fn entries_and_what_cannot_be_read() {
    let catalogue = Catalogue::parse(CATALOGUE.as_bytes()).unwrap();
    let entry = &catalogue.entries["CVE-2021-44228"];
    assert_eq!(entry.due_date, Some("2021-12-24".parse().unwrap()));
    assert_eq!(entry.known_ransomware_campaign_use, "Known");
    assert_eq!(catalogue.entries.len(), 2);
    assert!(
        catalogue.notes.len() == 1 && catalogue.notes[0].starts_with("vulnerabilities[1]: "),
        "{:?}",
        catalogue.notes
    );
    let short = CATALOGUE.replace("\"count\": 3", "\"count\": 4");
    assert_eq!(Catalogue::parse(short.as_bytes()).unwrap().notes.len(), 2);
}

#[test]
fn what_is_no_catalogue_is_an_error() {
    assert!(matches!(Catalogue::parse(b"{}"), Err(CatalogueError::Form(_))));
    assert!(matches!(Catalogue::parse(&vec![b' '; MAX_CATALOGUE_BYTES + 1]), Err(CatalogueError::TooLarge { .. })));
}
