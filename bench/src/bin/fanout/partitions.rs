//! The real code on a simulated network, where lines break and processes die: all hosts complete, and how much later.

use std::num::NonZeroU64;
use std::time::Duration;

use bench::report::Row;
use rig::fanout::partitions::scenario::{self, Scenario};
use rig::fanout::partitions::{Outcome, Settings, run};

/// Hosts, and bytes of their image.
const HOSTS: usize = 24;
const IMAGE_BYTES: u64 = 4 << 20;
/// What the hub and every host send, and every host receives, in bytes a second.
const RATE: NonZeroU64 = NonZeroU64::new(512 << 10).unwrap();
/// Each figure is the worst of so many beginnings of chance.
const SEEDS: u64 = 5;
/// How long a run may take, in simulated seconds.
const SECONDS_MAX: u64 = 600;
/// Copies that may leave the hub when the tracker was started again.
const COPIES_MAX: f64 = 1.2;

fn settings(seed: u64) -> Settings {
    let limit = Duration::from_secs(SECONDS_MAX);
    Settings { hosts: HOSTS, image_bytes: IMAGE_BYTES, bytes_per_second: RATE, limit, seed }
}

/// The slowest host in seconds, the copies and the wrong pieces, each the worst of all seeds.
fn worst(scenario: impl Fn(u64) -> Scenario) -> anyhow::Result<(f64, f64, u64)> {
    let (mut slowest, mut copies, mut wrong) = (0.0_f64, 0.0_f64, 0);
    for seed in 1..=SEEDS {
        let outcome: Outcome = run(&scenario(seed), &settings(seed))?;
        let seconds = outcome.slowest().map_or(f64::INFINITY, |slowest| slowest.as_secs_f64());
        eprintln!("  seed {seed}: {seconds:.2} s, {:.3} copies, {:.3} twice", outcome.copies, outcome.twice);
        slowest = slowest.max(seconds);
        copies = copies.max(outcome.copies);
        wrong += outcome.wrong;
    }
    Ok((slowest, copies, wrong))
}

pub(crate) fn rows() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    eprintln!("{HOSTS} real agents on a simulated network");
    let (calm, copies, _) = worst(|_| scenario::calm())?;
    let bound = IMAGE_BYTES as f64 / RATE.get() as f64;
    let mut row = |row: String, value: f64, unit: &str, peer: (&str, Option<f64>), target: (&str, Option<bool>)| {
        rows.push(Row {
            row,
            value,
            unit: unit.to_owned(),
            peer: peer.0.to_owned(),
            peer_value: peer.1,
            target: target.0.to_owned(),
            holds: target.1,
        });
    };
    row("network, undisturbed: slowest".to_owned(), calm / bound, "× T*", ("T* (s)", Some(bound)), ("", None));
    row("network, undisturbed: copies".to_owned(), copies, "copies", ("", None), ("", None));
    let names: Vec<&str> = scenario::all(HOSTS, 1).iter().map(|scenario| scenario.name).collect();
    for (at, name) in names.into_iter().enumerate() {
        eprintln!("{name}");
        let (slowest, copies, wrong) = worst(|seed| {
            let mut all = scenario::all(HOSTS, seed);
            all.swap_remove(at)
        })?;
        let is_whole = slowest.is_finite() && wrong == 0;
        row(
            format!("{name}: slowest"),
            slowest / calm,
            "× undisturbed",
            ("undisturbed (s)", Some(calm)),
            ("all complete, none wrong", Some(is_whole)),
        );
        let target = match name.contains("tracker is started") {
            true => ("≤ 1.2", Some(copies <= COPIES_MAX)),
            false => ("", None),
        };
        row(format!("{name}: copies"), copies, "copies", ("", None), target);
    }
    Ok(rows)
}
