//! The core in the simulator.

use std::time::Duration;

use bench::median;
use bench::report::Row;
use fanout::simulation::{Behaviour, Fleet, Outcome, SimulatedHost, run};

use crate::plot::Curve;
use crate::scaled;

const MIB: f64 = 1024.0 * 1024.0;
/// Pieces of the image, and bytes of each: 64 MiB.
const PIECES: u32 = 512;
const PIECE_BYTES: u32 = 128 * 1024;
/// What every host sends and receives, in bytes a second.
const RATE: f64 = 8.0 * MIB;
/// Of lines that are slow, in bytes a second.
const SLOW_RATE: f64 = 150.0 * 1024.0;
/// Each figure is the worst of so many beginnings of chance, or the middle one where that is said.
const SEEDS: u64 = 3;
/// What the slowest host may take beside a tenth more than the bound, in seconds.
const EXTRA_SECONDS: f64 = 0.25;

/// Whether a host counts: it is honest, and not gone for good.
fn lasts(host: &SimulatedHost) -> bool {
    host.behaviour == Behaviour::Honest && host.killed.is_none_or(|(_, back)| back.is_some())
}

pub(crate) struct Fared {
    /// The slowest host's time in seconds; not a number when one never was done.
    pub(crate) slowest: f64,
    pub(crate) copies: f64,
    pub(crate) outcome: Outcome,
}

pub(crate) fn fares(fleet: &Fleet) -> Fared {
    let outcome = run(fleet);
    let slowest = outcome.slowest_seconds(|at| fleet.hosts.get(at).is_some_and(lasts)).unwrap_or(f64::NAN);
    Fared { slowest, copies: outcome.hub_bytes / fleet.bytes(), outcome }
}

pub(crate) fn curve(name: &str, fleet: &Fleet, fared: &Fared) -> Curve {
    let bound = fleet.bound_seconds();
    let done = fared.outcome.completed_seconds.iter().flatten();
    Curve {
        name: name.to_owned(),
        hosts: fleet.hosts.len(),
        completed: done.map(|seconds| seconds / bound).collect(),
        uploads: fared.outcome.sent_bytes.iter().map(|bytes| bytes / fleet.bytes()).collect(),
        copies: fared.copies,
    }
}

fn row(name: &str, value: f64, unit: &str, peer: (&str, Option<f64>), target: (&str, Option<bool>)) -> Row {
    Row {
        row: name.to_owned(),
        value,
        unit: unit.to_owned(),
        peer: peer.0.to_owned(),
        peer_value: peer.1,
        target: target.0.to_owned(),
        holds: target.1,
    }
}

/// The slowest of equal hosts, and the copies, as rows.
pub(crate) fn clean(name: &str, fleet: &Fleet, fared: &Fared) -> [Row; 2] {
    let bound = fleet.bound_seconds();
    let most = 1.10 + EXTRA_SECONDS / bound;
    let ratio = fared.slowest / bound;
    [
        row(
            &format!("{name}: slowest host"),
            ratio,
            "× T*",
            ("T* (s)", Some(bound)),
            ("≤ 1.10 × T* + 250 ms", Some(ratio <= most)),
        ),
        row(
            &format!("{name}: copies from the hub"),
            fared.copies,
            "copies",
            ("", None),
            ("≤ 1.05", Some(fared.copies <= 1.05)),
        ),
    ]
}

fn worst(fleets: impl Iterator<Item = Fleet>) -> Option<(Fleet, Fared)> {
    let fared = fleets.map(|fleet| {
        let fared = fares(&fleet);
        (fleet, fared)
    });
    // One that never ends is the worst of all.
    let badness = |fared: &Fared| if fared.slowest.is_nan() { f64::INFINITY } else { fared.slowest };
    fared.max_by(|(_, one), (_, other)| badness(one).total_cmp(&badness(other)))
}

fn equal(hosts: usize, seed: u64) -> Fleet {
    Fleet { seed, ..Fleet::equal(hosts, PIECES, PIECE_BYTES, RATE) }
}

/// One host of twenty is killed in the course of it, half of them for good, and the tracker is started again.
fn churn(hosts: usize, seed: u64) -> Fleet {
    let mut fleet = equal(hosts, seed);
    let (bound, killed) = (fleet.bound_seconds(), hosts / 20);
    for at in 0..killed {
        let when = Duration::from_secs_f64(bound * (0.05 + 0.9 * at as f64 / killed as f64));
        let back = (at % 2 == 1).then_some(Duration::from_secs(3));
        if let Some(host) = fleet.hosts.get_mut((at * 37 + 11) % hosts) {
            host.killed = Some((when, back));
        }
    }
    fleet.tracker_restarts = vec![Duration::from_secs_f64(bound * 0.4)];
    fleet
}

/// Three of ten hosts corrupt, stall or lie.
fn malicious(mut fleet: Fleet) -> Fleet {
    let hosts = fleet.hosts.len();
    let kinds = [Behaviour::Corrupts, Behaviour::Stalls, Behaviour::Lies];
    for at in 0..hosts * 3 / 10 {
        if let (Some(host), Some(kind)) = (fleet.hosts.get_mut((at * 10 / 3) % hosts), kinds.get(at % kinds.len())) {
            host.behaviour = *kind;
        }
    }
    fleet
}

/// One host of ten sends at a quarter of the rate, and says so.
fn slow(hosts: usize, seed: u64) -> Fleet {
    let mut fleet = equal(hosts, seed);
    for host in fleet.hosts.iter_mut().step_by(10) {
        (host.upload, host.is_slow) = (RATE / 4.0, true);
    }
    fleet
}

pub(crate) fn rows(curves: &mut Vec<Curve>) -> Vec<Row> {
    let mut rows = Vec::new();
    eprintln!("Simulating 1,000 equal hosts");
    if let Some((fleet, fared)) = worst((1..=SEEDS).map(|seed| equal(1000, seed))) {
        rows.extend(clean("simulated, 1,000 hosts", &fleet, &fared));
        curves.push(curve("1,000 hosts", &fleet, &fared));
    }
    eprintln!("Simulating 1,000 hosts, 5 % churn and a restart of the tracker");
    if let Some((fleet, fared)) = worst((1..=SEEDS).map(|seed| churn(1000, seed))) {
        let unit = "copies";
        let held = fared.copies <= 1.2 && !fared.slowest.is_nan();
        rows.push(row("simulated, churn: copies from the hub", fared.copies, unit, ("", None), ("≤ 1.2", Some(held))));
        let ratio = fared.slowest / fleet.bound_seconds();
        rows.push(row("simulated, churn: slowest host", ratio, "× T*", ("", None), ("", None)));
        curves.push(curve("1,000 hosts, churn", &fleet, &fared));
    }
    eprintln!("Simulating 1,000 hosts, one of ten slow");
    if let Some((fleet, fared)) = worst((1..=SEEDS).map(|seed| slow(1000, seed))) {
        let ratio = fared.slowest / fleet.bound_seconds();
        rows.push(row("simulated, one of ten slow: slowest host", ratio, "× T*", ("", None), ("", None)));
        curves.push(curve("1,000 hosts, one of ten slow", &fleet, &fared));
    }
    eprintln!("Simulating 200 hosts, three of ten malicious");
    let slow = |seed| Fleet { seed, ..Fleet::equal(200, PIECES, scaled::PIECE_BYTES, SLOW_RATE) };
    rows.extend(harmed("at 150 KiB/s", slow, curves));
    rows.extend(harmed("at 8 MiB/s", |seed| equal(200, seed), curves));
    rows
}

/// How much longer honest hosts take when others are malicious. What a liar costs is mostly time until it is found out, so a
/// long exchange suffers less.
fn harmed(rates: &str, fleet: impl Fn(u64) -> Fleet, curves: &mut Vec<Curve>) -> Option<Row> {
    let clean = median((1..=SEEDS).map(|seed| fares(&fleet(seed)).slowest).collect());
    let (harmed, fared) = worst((1..=SEEDS).map(|seed| malicious(fleet(seed))))?;
    let ratio = fared.slowest / clean;
    curves.push(curve(&format!("200 hosts {rates}, 30 % malicious"), &harmed, &fared));
    let peer = ("clean (s)", Some(clean));
    let target = ("≤ 2 × the clean time", Some(ratio <= 2.0));
    Some(row(&format!("simulated, 200 hosts {rates}, 30 % malicious: slowest"), ratio, "× clean", peer, target))
}

pub(crate) fn huge(curves: &mut Vec<Curve>) -> Vec<Row> {
    eprintln!("Simulating 10,000 hosts");
    let fleet = equal(10_000, 1);
    let fared = fares(&fleet);
    curves.push(curve("10,000 hosts", &fleet, &fared));
    clean("simulated, 10,000 hosts", &fleet, &fared).into()
}
