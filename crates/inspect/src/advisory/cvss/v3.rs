//! CVSS 3.0 and 3.1.

use super::{Known, Metrics, Score, Scores, VectorError};

const REQUIREMENT: &[&str] = &["X", "H", "M", "L"];
const IMPACT: &[&str] = &["H", "L", "N"];
const MODIFIED_IMPACT: &[&str] = &["X", "H", "L", "N"];

pub(super) const METRICS: &[Known] = &[
    ("AV", &["N", "A", "L", "P"]),
    ("AC", &["L", "H"]),
    ("PR", &["N", "L", "H"]),
    ("UI", &["N", "R"]),
    ("S", &["U", "C"]),
    ("C", IMPACT),
    ("I", IMPACT),
    ("A", IMPACT),
    ("E", &["X", "H", "F", "P", "U"]),
    ("RL", &["X", "U", "W", "T", "O"]),
    ("RC", &["X", "C", "R", "U"]),
    ("CR", REQUIREMENT),
    ("IR", REQUIREMENT),
    ("AR", REQUIREMENT),
    ("MAV", &["X", "N", "A", "L", "P"]),
    ("MAC", &["X", "L", "H"]),
    ("MPR", &["X", "N", "L", "H"]),
    ("MUI", &["X", "N", "R"]),
    ("MS", &["X", "U", "C"]),
    ("MC", MODIFIED_IMPACT),
    ("MI", MODIFIED_IMPACT),
    ("MA", MODIFIED_IMPACT),
];

/// More than the error of the floats here, and less than any step of a score.
const EPSILON: f64 = 1e-9;

/// Which of the two versions: they round and weigh the environment differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Minor {
    Zero,
    One,
}

/// The base metrics, or those that stand for them in an environment.
struct Base {
    vector: f64,
    complexity: f64,
    privileges: f64,
    interaction: f64,
    changed: bool,
    impacts: [f64; 3],
}

impl Base {
    fn read(metrics: &Metrics, modified: bool) -> Result<Self, VectorError> {
        let value = |name: &'static str, modifier: &str| {
            let given = metrics.required(name)?;
            Ok(if modified { metrics.get(modifier).filter(|value| *value != "X").unwrap_or(given) } else { given })
        };
        let changed = value("S", "MS")? == "C";
        let impact = |name, modifier| {
            Ok(match value(name, modifier)? {
                "H" => 0.56,
                "L" => 0.22,
                _ => 0.0,
            })
        };
        Ok(Self {
            vector: match value("AV", "MAV")? {
                "N" => 0.85,
                "A" => 0.62,
                "L" => 0.55,
                _ => 0.2,
            },
            complexity: if value("AC", "MAC")? == "L" { 0.77 } else { 0.44 },
            privileges: match (value("PR", "MPR")?, changed) {
                ("N", _) => 0.85,
                ("L", false) => 0.62,
                ("L", true) => 0.68,
                (_, false) => 0.27,
                (_, true) => 0.5,
            },
            interaction: if value("UI", "MUI")? == "N" { 0.85 } else { 0.62 },
            changed,
            impacts: [impact("C", "MC")?, impact("I", "MI")?, impact("A", "MA")?],
        })
    }

    fn score(&self, impact: f64, minor: Minor) -> Score {
        if impact <= 0.0 {
            return Score::from_tenths(0.0);
        }
        let exploitability = 8.22 * self.vector * self.complexity * self.privileges * self.interaction;
        let sum = impact + exploitability;
        round_up(if self.changed { 1.08 * sum } else { sum }.min(10.0), minor)
    }
}

pub(super) fn scores(metrics: &Metrics, minor: Minor) -> Result<Scores, VectorError> {
    let base = Base::read(metrics, false)?;
    let [confidentiality, integrity, availability] = base.impacts;
    let sub_score = 1.0 - (1.0 - confidentiality) * (1.0 - integrity) * (1.0 - availability);
    let impact =
        if base.changed { 7.52 * (sub_score - 0.029) - 3.25 * (sub_score - 0.02).powi(15) } else { 6.42 * sub_score };
    let base = base.score(impact, minor);
    let time = temporal(metrics);
    let environment = Base::read(metrics, true)?;
    let requirement = |name| match metrics.get(name) {
        Some("H") => 1.5,
        Some("L") => 0.5,
        _ => 1.0,
    };
    let [confidentiality, integrity, availability] = environment.impacts;
    let sub_score = (1.0
        - (1.0 - confidentiality * requirement("CR"))
            * (1.0 - integrity * requirement("IR"))
            * (1.0 - availability * requirement("AR")))
    .min(0.915);
    let impact = match (environment.changed, minor) {
        (false, _) => 6.42 * sub_score,
        (true, Minor::Zero) => 7.52 * (sub_score - 0.029) - 3.25 * (sub_score - 0.02).powi(15),
        (true, Minor::One) => 7.52 * (sub_score - 0.029) - 3.25 * (sub_score * 0.9731 - 0.02).powi(13),
    };
    let environmental = environment.score(impact, minor);
    Ok(Scores {
        base,
        temporal: Some(round_up(base.as_f64() * time, minor)),
        environmental: Some(round_up(environmental.as_f64() * time, minor)),
    })
}

fn temporal(metrics: &Metrics) -> f64 {
    let exploit = match metrics.get("E") {
        Some("F") => 0.97,
        Some("P") => 0.94,
        Some("U") => 0.91,
        _ => 1.0,
    };
    let remediation = match metrics.get("RL") {
        Some("W") => 0.97,
        Some("T") => 0.96,
        Some("O") => 0.95,
        _ => 1.0,
    };
    let confidence = match metrics.get("RC") {
        Some("R") => 0.96,
        Some("U") => 0.92,
        _ => 1.0,
    };
    exploit * remediation * confidence
}

/// To the next tenth. Version 3.1 rounds to five places first.
fn round_up(score: f64, minor: Minor) -> Score {
    match minor {
        Minor::Zero => Score::from_tenths((score * 10.0 - EPSILON).ceil()),
        Minor::One => Score::from_tenths(((score * 100_000.0).round() / 10_000.0).ceil()),
    }
}
