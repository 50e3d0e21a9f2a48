//! CVSS 4.0: a vector's equivalence classes give a score, and its distance from the worst vector of the same classes
//! lowers it towards the next lower classes' scores.

use super::{Known, Metrics, Score, VectorError};

const REQUIREMENT: &[&str] = &["X", "H", "M", "L"];
const IMPACT: &[&str] = &["H", "L", "N"];
const MODIFIED_IMPACT: &[&str] = &["X", "H", "L", "N"];
const MODIFIED_SAFETY: &[&str] = &["X", "S", "H", "L", "N"];

pub(super) const METRICS: &[Known] = &[
    ("AV", &["N", "A", "L", "P"]),
    ("AC", &["L", "H"]),
    ("AT", &["N", "P"]),
    ("PR", &["N", "L", "H"]),
    ("UI", &["N", "P", "A"]),
    ("VC", IMPACT),
    ("VI", IMPACT),
    ("VA", IMPACT),
    ("SC", IMPACT),
    ("SI", IMPACT),
    ("SA", IMPACT),
    ("E", &["X", "A", "P", "U"]),
    ("CR", REQUIREMENT),
    ("IR", REQUIREMENT),
    ("AR", REQUIREMENT),
    ("MAV", &["X", "N", "A", "L", "P"]),
    ("MAC", &["X", "L", "H"]),
    ("MAT", &["X", "N", "P"]),
    ("MPR", &["X", "N", "L", "H"]),
    ("MUI", &["X", "N", "P", "A"]),
    ("MVC", MODIFIED_IMPACT),
    ("MVI", MODIFIED_IMPACT),
    ("MVA", MODIFIED_IMPACT),
    ("MSC", MODIFIED_IMPACT),
    ("MSI", MODIFIED_SAFETY),
    ("MSA", MODIFIED_SAFETY),
    ("S", &["X", "N", "P"]),
    ("AU", &["X", "N", "Y"]),
    ("R", &["X", "A", "U", "I"]),
    ("V", &["X", "D", "C"]),
    ("RE", &["X", "L", "M", "H"]),
    ("U", &["X", "Clear", "Green", "Amber", "Red"]),
];

/// A level is a metric's distance from its worst value, in steps.
type Levels<const N: usize> = [i32; N];

/// The common multiple of all depths below, so that distances stay whole numbers.
const UNIT: i32 = 840;

pub(super) fn score(metrics: &Metrics) -> Result<Score, VectorError> {
    let level = |name: &'static str, modifier: &str, values: &[&str]| {
        let given = metrics.required(name)?;
        let value = metrics.get(modifier).filter(|value| *value != "X").unwrap_or(given);
        Ok(values.iter().position(|known| *known == value).map_or(0, |level| level as i32))
    };
    // Not defined is the worst.
    let optional = |name: &str, values: &[&str]| {
        let value = metrics.get(name);
        values.iter().position(|known| Some(*known) == value).map_or(0, |level| level as i32)
    };
    let requirement = &["H", "M", "L"];
    let safety = &["S", "H", "L", "N"];
    let exploitability: Levels<3> = [
        level("AV", "MAV", &["N", "A", "L", "P"])?,
        level("PR", "MPR", &["N", "L", "H"])?,
        level("UI", "MUI", &["N", "P", "A"])?,
    ];
    let complexity: Levels<2> = [level("AC", "MAC", &["L", "H"])?, level("AT", "MAT", &["N", "P"])?];
    let vulnerable: Levels<6> = [
        level("VC", "MVC", IMPACT)?,
        level("VI", "MVI", IMPACT)?,
        level("VA", "MVA", IMPACT)?,
        optional("CR", requirement),
        optional("IR", requirement),
        optional("AR", requirement),
    ];
    let subsequent: Levels<3> = [level("SC", "MSC", safety)?, level("SI", "MSI", safety)?, level("SA", "MSA", safety)?];
    let exploit = optional("E", &["A", "P", "U"]) as usize;

    let [confidentiality, integrity, availability, needs @ ..] = vulnerable;
    if [confidentiality, integrity, availability] == [2; 3] && subsequent == [3; 3] {
        return Ok(Score(0));
    }
    let eq1 = match exploitability {
        [0, 0, 0] => 0,
        [vector, privileges, interaction] if vector != 3 && (vector == 0 || privileges == 0 || interaction == 0) => 1,
        _ => 2,
    };
    let eq2 = usize::from(complexity != [0, 0]);
    let eq3 = match (confidentiality, integrity, availability) {
        (0, 0, _) => 0,
        (0, _, _) | (_, 0, _) | (_, _, 0) => 1,
        _ => 2,
    };
    let [_, subsequent_integrity, subsequent_availability] = subsequent;
    let eq4 = if subsequent_integrity == 0 || subsequent_availability == 0 {
        0
    } else if subsequent.contains(&1) {
        1
    } else {
        2
    };
    let severe =
        [confidentiality, integrity, availability].iter().zip(needs).any(|(impact, need)| *impact == 0 && need == 0);
    let eq6 = usize::from(!severe);

    let Some(value) = lookup([eq1, eq2, eq3, eq4, exploit, eq6]) else { return Ok(Score(0)) };
    let lower_vulnerable = match (eq3, eq6) {
        (0, 0) => lookup([eq1, eq2, eq3, eq4, exploit, 1]).max(lookup([eq1, eq2, 1, eq4, exploit, eq6])),
        (1, 0) => lookup([eq1, eq2, eq3, eq4, exploit, 1]),
        _ => lookup([eq1, eq2, eq3 + 1, eq4, exploit, eq6]),
    };
    // The next lower score, the distance from the worst vector of the class, and the most that this can be, in steps.
    let steps = [
        (
            lookup([eq1 + 1, eq2, eq3, eq4, exploit, eq6]),
            distance(exploitability, WORST_EXPLOITABILITY, eq1),
            [1, 4, 5].get(eq1),
        ),
        (lookup([eq1, eq2 + 1, eq3, eq4, exploit, eq6]), distance(complexity, WORST_COMPLEXITY, eq2), [1, 2].get(eq2)),
        (
            lower_vulnerable,
            distance(vulnerable, WORST_VULNERABLE, eq3 * 2 + eq6),
            [7, 6, 8, 8, 0, 10].get(eq3 * 2 + eq6),
        ),
        (
            lookup([eq1, eq2, eq3, eq4 + 1, exploit, eq6]),
            distance(subsequent, WORST_SUBSEQUENT, eq4),
            [6, 5, 4].get(eq4),
        ),
        (lookup([eq1, eq2, eq3, eq4, exploit + 1, eq6]), 0, Some(&1)),
    ];
    let (mut sum, mut count) = (0, 0);
    for (lower, distance, depth) in steps {
        if let (Some(lower), Some(depth @ 1..)) = (lower, depth) {
            sum += (value - lower) * distance * (UNIT / depth);
            count += 1;
        }
    }
    if count == 0 {
        return Ok(Score(value.clamp(0, 100) as u8));
    }
    // The value less the mean of the parts, to the nearest tenth, halves up.
    let whole = UNIT * count;
    let tenths = (2 * (value * whole - sum) + whole).div_euclid(2 * whole);
    Ok(Score(tenths.clamp(0, 100) as u8))
}

/// How far `levels` is from the first of the class's worst vectors that is no better in any metric.
fn distance<const N: usize>(levels: Levels<N>, worst: &[&[Levels<N>]], class: usize) -> i32 {
    let from = |worst: &Levels<N>| levels.iter().zip(worst).map(|(level, worst)| level - worst).collect::<Vec<_>>();
    let worst = worst.get(class).copied().unwrap_or_default();
    worst.iter().map(from).find(|steps| steps.iter().all(|step| *step >= 0)).map_or(0, |steps| steps.iter().sum())
}

const WORST_EXPLOITABILITY: &[&[Levels<3>]] =
    &[&[[0, 0, 0]], &[[1, 0, 0], [0, 1, 0], [0, 0, 1]], &[[3, 0, 0], [1, 1, 1]]];
const WORST_COMPLEXITY: &[&[Levels<2>]] = &[&[[0, 0]], &[[1, 0], [0, 1]]];
/// By classes 3 and 6; there is no class 2 with 0.
const WORST_VULNERABLE: &[&[Levels<6>]] = &[
    &[[0, 0, 0, 0, 0, 0]],
    &[[0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1]],
    &[[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]],
    &[[1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 1]],
    &[],
    &[[1, 1, 1, 0, 0, 0]],
];
const WORST_SUBSEQUENT: &[&[Levels<3>]] = &[&[[1, 0, 0]], &[[1, 1, 1]], &[[2, 2, 2]]];

/// The score of these classes in tenths; `None` where there are none such.
fn lookup(classes: [usize; 6]) -> Option<i32> {
    let [eq1, eq2, eq3, eq4, eq5, eq6] = classes;
    if eq1 > 2 || eq2 > 1 || eq3 > 2 || eq4 > 2 || eq5 > 2 || eq6 > 1 {
        return None;
    }
    let tenths = *SCORES.get((eq1 * 2 + eq2) * 3 + eq3)?.get((eq4 * 3 + eq5) * 2 + eq6)?;
    (tenths != __).then_some(i32::from(tenths))
}

/// No vector has these classes: the third is 2 only where no impact is high, and the sixth is then 1.
const __: u8 = 255;

/// FIRST's table of scores, in tenths: a row for classes 1 to 3, in it 4 to 6 with the last changing first.
#[rustfmt::skip]
const SCORES: [[u8; 18]; 18] = [
    // 000
    [100, 99, 98, 95, 95, 92, 100, 96, 93, 87, 91, 81, 93, 90, 89, 80, 81, 68],
    // 001
    [98, 95, 95, 92, 90, 84, 93, 92, 89, 81, 81, 65, 88, 80, 78, 70, 69, 48],
    // 002
    [__, 92, __, 82, __, 72, __, 79, __, 69, __, 50, __, 69, __, 55, __, 27],
    // 010
    [99, 97, 95, 92, 92, 85, 95, 91, 90, 83, 84, 71, 92, 81, 82, 71, 72, 53],
    // 011
    [95, 93, 92, 85, 85, 73, 92, 82, 80, 72, 70, 59, 84, 70, 71, 52, 50, 30],
    // 012
    [__, 86, __, 75, __, 52, __, 71, __, 52, __, 29, __, 63, __, 29, __, 17],
    // 100
    [98, 95, 94, 87, 91, 81, 94, 89, 86, 74, 77, 64, 87, 75, 74, 63, 63, 49],
    // 101
    [94, 89, 88, 77, 76, 67, 86, 76, 74, 58, 59, 50, 72, 57, 57, 52, 52, 25],
    // 102
    [__, 83, __, 70, __, 54, __, 65, __, 58, __, 26, __, 53, __, 21, __, 13],
    // 110
    [95, 90, 88, 76, 76, 70, 90, 77, 75, 62, 61, 53, 77, 66, 68, 59, 52, 30],
    // 111
    [89, 78, 76, 67, 62, 58, 74, 59, 57, 57, 47, 23, 61, 52, 57, 29, 24, 16],
    // 112
    [__, 71, __, 59, __, 30, __, 58, __, 26, __, 15, __, 23, __, 13, __, 6],
    // 200
    [93, 87, 86, 72, 75, 58, 86, 74, 74, 61, 56, 34, 70, 54, 52, 40, 40, 22],
    // 201
    [85, 75, 74, 55, 62, 51, 72, 57, 55, 41, 46, 19, 53, 36, 34, 19, 19, 8],
    // 202
    [__, 64, __, 51, __, 20, __, 47, __, 21, __, 11, __, 24, __, 9, __, 4],
    // 210
    [88, 75, 73, 53, 60, 50, 73, 55, 59, 40, 41, 20, 54, 43, 45, 22, 20, 11],
    // 211
    [75, 55, 58, 45, 40, 21, 61, 51, 48, 18, 20, 9, 46, 18, 17, 7, 8, 2],
    // 212
    [__, 53, __, 24, __, 14, __, 24, __, 12, __, 5, __, 10, __, 3, __, 1],
];
