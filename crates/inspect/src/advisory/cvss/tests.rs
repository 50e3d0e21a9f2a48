//! Vectors and their scores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::super::severity::Severity;
use super::{CvssVersion, Vector, VectorError};

#[test]
fn published_scores() {
    for (vector, score, severity) in [
        ("AV:N/AC:L/Au:N/C:C/I:C/A:C", "10.0", Severity::Critical),
        ("(AV:N/AC:M/Au:N/C:P/I:N/A:N)", "4.3", Severity::Medium),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", "10.0", Severity::Critical),
        ("CVSS:3.0/AV:N/AC:L/PR:L/UI:R/S:C/C:L/I:L/A:N", "5.4", Severity::Medium),
        ("CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", "0.0", Severity::None),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", "10.0", Severity::Critical),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:H/UI:N/VC:L/VI:L/VA:N/SC:N/SI:N/SA:N", "5.1", Severity::Medium),
    ] {
        let vector: Vector = vector.parse().unwrap();
        assert_eq!(vector.score().to_string(), score, "{}", vector.as_str());
        assert_eq!(Severity::from(vector.score()), severity);
    }
}

#[test]
fn broken_vectors_name_the_metric() {
    let error = |text: &str| text.parse::<Vector>().unwrap_err();
    assert_eq!(error("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H"), VectorError::Missing { name: "A" });
    assert_eq!(error("CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"), VectorError::Twice { name: "AV" });
    assert_eq!(error("CVSS:4.0/AV:N/AC:M"), VectorError::Metric { position: 2 });
    assert_eq!(error("CVSS:5.0/AV:N"), VectorError::Version);
    assert_eq!(error(""), VectorError::Metric { position: 1 });
    assert_eq!(error(&"AV:N/".repeat(200)), VectorError::TooLong);
}

proptest! {
    #[test]
    fn any_text_is_a_vector_or_an_error(text in "(CVSS:(3.0|3.1|4.0)/)?([ACEIMPRSTUV]{1,3}:[NLHPAX]/?){0,14}\\PC?") {
        if let Ok(vector) = text.parse::<Vector>() {
            prop_assert!(vector.score().tenths() <= 100);
            prop_assert!(vector.version() == CvssVersion::V2 || text.starts_with("CVSS:"));
        }
    }
}
