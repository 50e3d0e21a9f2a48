//! CVSS scores against the Python package `cvss`: every base vector of 3.1 and thousands of random ones of each version.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::process::{Command, Stdio};

use inspect::advisory::cvss::Vector;

type Metric = (&'static str, &'static [&'static str]);

const V2: &[Metric] = &[
    ("AV", &["L", "A", "N"]),
    ("AC", &["H", "M", "L"]),
    ("Au", &["M", "S", "N"]),
    ("C", &["N", "P", "C"]),
    ("I", &["N", "P", "C"]),
    ("A", &["N", "P", "C"]),
    ("E", &["ND", "U", "POC", "F", "H"]),
    ("RL", &["ND", "OF", "TF", "W", "U"]),
    ("RC", &["ND", "UC", "UR", "C"]),
    ("CDP", &["ND", "N", "L", "LM", "MH", "H"]),
    ("TD", &["ND", "N", "L", "M", "H"]),
    ("CR", &["ND", "L", "M", "H"]),
    ("IR", &["ND", "L", "M", "H"]),
    ("AR", &["ND", "L", "M", "H"]),
];
const V3: &[Metric] = &[
    ("AV", &["N", "A", "L", "P"]),
    ("AC", &["L", "H"]),
    ("PR", &["N", "L", "H"]),
    ("UI", &["N", "R"]),
    ("S", &["U", "C"]),
    ("C", &["H", "L", "N"]),
    ("I", &["H", "L", "N"]),
    ("A", &["H", "L", "N"]),
    ("E", &["X", "H", "F", "P", "U"]),
    ("RL", &["X", "U", "W", "T", "O"]),
    ("RC", &["X", "C", "R", "U"]),
    ("CR", &["X", "H", "M", "L"]),
    ("IR", &["X", "H", "M", "L"]),
    ("AR", &["X", "H", "M", "L"]),
    ("MAV", &["X", "N", "A", "L", "P"]),
    ("MAC", &["X", "L", "H"]),
    ("MPR", &["X", "N", "L", "H"]),
    ("MUI", &["X", "N", "R"]),
    ("MS", &["X", "U", "C"]),
    ("MC", &["X", "H", "L", "N"]),
    ("MI", &["X", "H", "L", "N"]),
    ("MA", &["X", "H", "L", "N"]),
];
const V4: &[Metric] = &[
    ("AV", &["N", "A", "L", "P"]),
    ("AC", &["L", "H"]),
    ("AT", &["N", "P"]),
    ("PR", &["N", "L", "H"]),
    ("UI", &["N", "P", "A"]),
    ("VC", &["H", "L", "N"]),
    ("VI", &["H", "L", "N"]),
    ("VA", &["H", "L", "N"]),
    ("SC", &["H", "L", "N"]),
    ("SI", &["H", "L", "N"]),
    ("SA", &["H", "L", "N"]),
    ("E", &["X", "A", "P", "U"]),
    ("CR", &["X", "H", "M", "L"]),
    ("IR", &["X", "H", "M", "L"]),
    ("AR", &["X", "H", "M", "L"]),
    ("MAV", &["X", "N", "A", "L", "P"]),
    ("MAC", &["X", "L", "H"]),
    ("MAT", &["X", "N", "P"]),
    ("MPR", &["X", "N", "L", "H"]),
    ("MUI", &["X", "N", "P", "A"]),
    ("MVC", &["X", "H", "L", "N"]),
    ("MVI", &["X", "H", "L", "N"]),
    ("MVA", &["X", "H", "L", "N"]),
    ("MSC", &["X", "H", "L", "N"]),
    ("MSI", &["X", "S", "H", "L", "N"]),
    ("MSA", &["X", "S", "H", "L", "N"]),
    ("AU", &["X", "N", "Y"]),
    ("U", &["X", "Clear", "Green", "Amber", "Red"]),
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit as u64).unwrap()
    }
}

/// The first `required` metrics, and of the others one in `sparse`.
fn random(prefix: &str, metrics: &[Metric], required: usize, sparse: usize, random: &mut Random) -> String {
    let mut parts = Vec::new();
    for (index, (name, values)) in metrics.iter().enumerate() {
        if index < required || random.below(sparse) == 0 {
            parts.push(format!("{name}:{}", values[random.below(values.len())]));
        }
    }
    format!("{prefix}{}", parts.join("/"))
}

/// Every combination of the first `count` metrics.
fn all(prefix: &str, metrics: &[Metric], count: usize) -> Vec<String> {
    let mut vectors = vec![prefix.to_owned()];
    for (index, (name, values)) in metrics[..count].iter().enumerate() {
        let separator = if index == 0 { "" } else { "/" };
        vectors = vectors
            .iter()
            .flat_map(|vector| values.iter().map(move |value| format!("{vector}{separator}{name}:{value}")))
            .collect();
    }
    vectors
}

#[test]
fn scores_are_those_of_the_python_package() {
    let mut source = Random(4);
    let mut vectors = all("", V2, 6);
    vectors.extend(all("CVSS:3.0/", V3, 8));
    vectors.extend(all("CVSS:3.1/", V3, 8));
    for sparse in [1, 2, 6] {
        for _ in 0..1000 {
            vectors.push(random("", V2, 6, sparse, &mut source));
            vectors.push(random("CVSS:3.0/", V3, 8, sparse, &mut source));
            vectors.push(random("CVSS:3.1/", V3, 8, sparse, &mut source));
            vectors.push(random("CVSS:4.0/", V4, 11, sparse, &mut source));
        }
    }
    vectors.extend((0..4000).map(|_| random("CVSS:4.0/", V4, 11, usize::MAX, &mut source)));
    let script = r#"
import sys
from cvss import CVSS2, CVSS3, CVSS4
show = lambda score: "-" if score is None else "%.1f" % score
for line in sys.stdin:
    line = line.rstrip("\n")
    c = CVSS4(line) if line.startswith("CVSS:4") else CVSS3(line) if line.startswith("CVSS:3") else CVSS2(line)
    print(show(c.base_score), show(getattr(c, "temporal_score", None)), show(getattr(c, "environmental_score", None)))
"#;
    let mut child = Command::new(crate::tool("python3"))
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`./test` installs python3 and the Python package cvss");
    let mut stdin = child.stdin.take().unwrap();
    let input = vectors.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && writer.join().unwrap().is_ok(), "install the Python package cvss");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), vectors.len());
    let mut wrong = Vec::new();
    for (vector, said) in vectors.iter().zip(said.lines()) {
        let scores = vector.parse::<Vector>().unwrap().scores();
        let show =
            |score: Option<_>| score.map_or("-".to_owned(), |score: inspect::advisory::cvss::Score| score.to_string());
        let found = format!("{} {} {}", scores.base, show(scores.temporal), show(scores.environmental));
        if found != said {
            wrong.push(format!("{vector}: {found}, the package says {said}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        vectors.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}
