//! Fleets of every kind complete, and how well.

use proptest::prelude::*;

use super::*;

const MIB: f64 = 1024.0 * 1024.0;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn lasts(host: &SimulatedHost) -> bool {
    host.behaviour == Behaviour::Honest && host.killed.is_none_or(|(_, back)| back.is_some())
}

/// The slowest lasting host's time as a multiple of the bound, and the copies that left the hub.
fn fares(fleet: &Fleet) -> (f64, f64) {
    let outcome = run(fleet);
    let slowest = outcome.slowest_seconds(|at| fleet.hosts.get(at).is_some_and(lasts));
    let slowest = slowest.unwrap_or_else(|| panic!("not all hosts complete: {:?}", outcome.completed_seconds));
    (slowest / fleet.bound_seconds(), outcome.hub_bytes / fleet.bytes())
}

#[test]
fn equal_hosts_come_within_a_tenth_of_the_bound_with_one_copy_from_the_hub() {
    for hosts in [1, 2, 16, 60] {
        for rate in [8.0 * MIB, 0.15 * MIB, 0.06 * MIB] {
            let (ratio, copies) = fares(&Fleet::equal(hosts, 512, 64 * 1024, rate));
            assert!(ratio < 1.06, "{hosts} hosts: {ratio} × T*");
            assert!((1.0..1.01).contains(&copies), "{hosts} hosts: {copies} copies");
        }
    }
}

#[test]
fn a_hub_that_stops_when_one_copy_is_out_is_not_missed() {
    let mut fleet = Fleet::equal(40, 256, 128 * 1024, 8.0 * MIB);
    let out = run(&fleet).one_copy_seconds.unwrap();
    // What has left the hub is on its way still.
    fleet.hub_killed = Some((seconds(out + 0.25), None));
    let (ratio, copies) = fares(&fleet);
    assert!(ratio < 1.2 && copies < 1.01, "{ratio} × T*, {copies} copies");
}

#[test]
fn hosts_that_have_the_image_spare_the_hub() {
    let mut fleet = Fleet::equal(40, 128, 128 * 1024, 8.0 * MIB);
    let late = seconds(fleet.bound_seconds() * 2.0);
    fleet.hosts.iter_mut().skip(10).for_each(|host| host.from = late);
    let (_, copies) = fares(&fleet);
    assert!(copies < 1.01, "{copies} copies");
}

#[test]
fn a45_hosts_that_corrupt_stall_and_lie_delay_the_others_and_no_more() {
    for behaviour in [Behaviour::Corrupts, Behaviour::Stalls, Behaviour::Lies] {
        let mut fleet = Fleet::equal(40, 128, 128 * 1024, 4.0 * MIB);
        fleet.hosts.iter_mut().step_by(3).for_each(|host| host.behaviour = behaviour);
        let (ratio, copies) = fares(&fleet);
        assert!(ratio < 8.0 && copies < 3.0, "{behaviour:?}: {ratio} × T*, {copies} copies");
    }
}

fn behaviours() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        6 => Just(Behaviour::Honest),
        1 => Just(Behaviour::Corrupts),
        1 => Just(Behaviour::Stalls),
        1 => Just(Behaviour::Lies),
    ]
}

prop_compose! {
    fn hosts()(
        (upload, download) in (0.5..8.0, 2.0..8.0), from in 0.0..4.0,
        killed in proptest::option::weighted(0.2, (0.0..8.0, proptest::option::weighted(0.7, 0.1..4.0))),
        behaviour in behaviours(), rack in 0..3_u32, is_slow in proptest::bool::weighted(0.1),
    ) -> SimulatedHost {
        let killed = killed.map(|(at, back): (f64, Option<f64>)| (seconds(at), back.map(seconds)));
        SimulatedHost { upload: upload * MIB, download: download * MIB, from: seconds(from), killed, behaviour, rack, is_slow }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is slow, killed, malicious or restarted: who lasts completes while the hub is there.
    #[test]
    fn everybody_who_lasts_completes(
        hosts in proptest::collection::vec(hosts(), 1..24), pieces in 1..64_u32, seed in any::<u32>(),
        tracker_restarts in proptest::collection::vec(0.0..10.0, 0..3), latency_millis in 0..50_u64,
    ) {
        let mut fleet = Fleet::equal(1, pieces, 128 * 1024, 4.0 * MIB);
        (fleet.hosts, fleet.seed) = (hosts, u64::from(seed));
        fleet.latency = Duration::from_millis(latency_millis);
        fleet.tracker_restarts = tracker_restarts.into_iter().map(seconds).collect();
        fleet.until = Duration::from_secs(1200);
        let outcome = run(&fleet);
        for (at, host) in fleet.hosts.iter().enumerate().filter(|(_, host)| lasts(host)) {
            prop_assert!(outcome.completed_seconds.get(at).copied().flatten().is_some(), "host {at}, {host:?}: {outcome:?}");
        }
    }
}
