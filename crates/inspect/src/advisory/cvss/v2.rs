//! CVSS 2.0.

use super::{Known, Metrics, Score, Scores, VectorError};

const IMPACT: &[&str] = &["N", "P", "C"];
const REQUIREMENT: &[&str] = &["L", "M", "H", "ND"];

pub(super) const METRICS: &[Known] = &[
    ("AV", &["L", "A", "N"]),
    ("AC", &["H", "M", "L"]),
    ("Au", &["M", "S", "N"]),
    ("C", IMPACT),
    ("I", IMPACT),
    ("A", IMPACT),
    ("E", &["U", "POC", "F", "H", "ND"]),
    ("RL", &["OF", "TF", "W", "U", "ND"]),
    ("RC", &["UC", "UR", "C", "ND"]),
    ("CDP", &["N", "L", "LM", "MH", "H", "ND"]),
    ("TD", &["N", "L", "M", "H", "ND"]),
    ("CR", REQUIREMENT),
    ("IR", REQUIREMENT),
    ("AR", REQUIREMENT),
];

/// More than the error of the floats here, and less than any step of a score.
const EPSILON: f64 = 1e-9;

pub(super) fn scores(metrics: &Metrics) -> Result<Scores, VectorError> {
    let vector = match metrics.required("AV")? {
        "L" => 0.395,
        "A" => 0.646,
        _ => 1.0,
    };
    let complexity = match metrics.required("AC")? {
        "H" => 0.35,
        "M" => 0.61,
        _ => 0.71,
    };
    let authentication = match metrics.required("Au")? {
        "M" => 0.45,
        "S" => 0.56,
        _ => 0.704,
    };
    let impact = |name| {
        Ok(match metrics.required(name)? {
            "N" => 0.0,
            "P" => 0.275,
            _ => 0.660,
        })
    };
    let (confidentiality, integrity, availability) = (impact("C")?, impact("I")?, impact("A")?);
    let requirement = |name| match metrics.get(name) {
        Some("L") => 0.5,
        Some("H") => 1.51,
        _ => 1.0,
    };
    let exploitability = 20.0 * vector * complexity * authentication;
    let base = |impact: f64| {
        let factor = if impact == 0.0 { 0.0 } else { 1.176 };
        round((0.6 * impact + 0.4 * exploitability - 1.5) * factor)
    };
    let temporal = |base: f64| {
        let exploit = match metrics.get("E") {
            Some("U") => 0.85,
            Some("POC") => 0.9,
            Some("F") => 0.95,
            _ => 1.0,
        };
        let remediation = match metrics.get("RL") {
            Some("OF") => 0.87,
            Some("TF") => 0.9,
            Some("W") => 0.95,
            _ => 1.0,
        };
        let confidence = match metrics.get("RC") {
            Some("UC") => 0.9,
            Some("UR") => 0.95,
            _ => 1.0,
        };
        round(base * exploit * remediation * confidence)
    };
    let unweighted = base(10.41 * (1.0 - (1.0 - confidentiality) * (1.0 - integrity) * (1.0 - availability)));
    let environmental = || {
        let weighted = 10.41
            * (1.0
                - (1.0 - confidentiality * requirement("CR"))
                    * (1.0 - integrity * requirement("IR"))
                    * (1.0 - availability * requirement("AR")));
        // Below zero on the way is allowed.
        let adjusted = temporal(base(weighted.min(10.0)));
        let damage = match metrics.get("CDP") {
            Some("L") => 0.1,
            Some("LM") => 0.3,
            Some("MH") => 0.4,
            Some("H") => 0.5,
            _ => 0.0,
        };
        let distribution = match metrics.get("TD") {
            Some("N") => 0.0,
            Some("L") => 0.25,
            Some("M") => 0.75,
            _ => 1.0,
        };
        round((adjusted + (10.0 - adjusted) * damage) * distribution)
    };
    Ok(Scores {
        base: Score::from_f64(unweighted),
        temporal: metrics.defines(&["E", "RL", "RC"], "ND").then(|| Score::from_f64(temporal(unweighted.max(0.0)))),
        environmental: metrics
            .defines(&["CDP", "TD", "CR", "IR", "AR"], "ND")
            .then(|| Score::from_f64(environmental())),
    })
}

/// To the nearest tenth, halves away from zero.
fn round(score: f64) -> f64 {
    (score.abs() * 10.0 + 0.5 + EPSILON).floor().copysign(score) / 10.0
}
