//! The list of scores, whole and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::BufReader;

use proptest::prelude::*;

use super::{Epss, EpssError};

const LIST: &str = "#model_version:v2025.03.14,score_date:2026-01-02T00:00:00+0000\r\n\
    cve,epss,percentile\r\nCVE-2021-44228,0.94358,0.99957\r\nCVE-1999-0001,0.00812,0.73\nCVE-2021-1,0.5,0.5\n\
    CVE-2020-0001,1.5,0.5\nCVE-2024-1234567,0.000430000,0.1";

#[test]
fn scores_by_cve() {
    // A buffer that ends within lines.
    let epss = Epss::read(BufReader::with_capacity(7, LIST.as_bytes())).unwrap();
    assert_eq!(epss.model, "v2025.03.14");
    assert_eq!(epss.date, Some("2026-01-02T00:00:00Z".parse().unwrap()));
    assert_eq!(epss.len(), 3);
    assert_eq!(epss.get("CVE-2021-44228").unwrap().score, 0.94358);
    assert_eq!(epss.get("CVE-2024-1234567").unwrap().percentile, 0.1);
    assert_eq!(epss.get("CVE-2024-12345"), None);
    assert_eq!(epss.notes, ["line 5 cannot be read", "line 6 cannot be read"]);
}

#[test]
fn what_is_no_list_is_an_error() {
    assert!(matches!(Epss::read(&b""[..]), Err(EpssError::Columns)));
    assert!(matches!(Epss::read(&b"<html>\n"[..]), Err(EpssError::Columns)));
    assert!(matches!(Epss::read("x".repeat(2000).as_bytes()), Err(EpssError::Line { line: 1 })));
}

proptest! {
    #[test]
    fn any_lines_are_entries_or_notes(lines in proptest::collection::vec("(CVE-20[0-9]{2}-[0-9]{3,5},)?[0-9.,x-]{0,12}", 0..20)) {
        let list = format!("cve,epss,percentile\n{}", lines.join("\n"));
        let epss = Epss::read(list.as_bytes()).unwrap();
        prop_assert!(epss.len() <= lines.len());
    }
}
