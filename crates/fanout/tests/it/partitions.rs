//! Lines that break and processes that die while an image spreads: the real exchange, with TLS, rates and timers, and the
//! tracker, on a simulated network.

use std::num::NonZeroU64;
use std::time::Duration;

use rig::fanout::partitions::scenario::{self, Moment, Scenario, Trouble};
use rig::fanout::partitions::{Outcome, Settings, run};

const HOSTS: usize = 12;
const SEEDS: u64 = 3;
/// In simulated time. Undisturbed it takes 11 s.
const LIMIT: Duration = Duration::from_secs(120);

fn settings(seed: u64) -> Settings {
    // 32 pieces at 4 a second: the bound is 8 seconds.
    let rate = NonZeroU64::new(256 << 10).unwrap();
    Settings { hosts: HOSTS, image_bytes: 2 << 20, bytes_per_second: rate, limit: LIMIT, seed }
}

/// All complete within so many seconds though this happens, no wrong piece came, and so many copies left the hub at most.
fn all_complete(scenario: impl Fn(u64) -> Scenario, seconds_max: u64, copies_max: f64) {
    for seed in 1..=SEEDS {
        let scenario = scenario(seed);
        let outcome = run(&scenario, &settings(seed)).unwrap();
        let slowest = outcome.slowest().unwrap_or_else(|| panic!("seed {seed}, {scenario:?}: {outcome:?}"));
        let is_fine = slowest <= Duration::from_secs(seconds_max) && outcome.copies <= copies_max;
        assert!(is_fine && outcome.wrong == 0, "seed {seed}, {scenario:?}: {outcome:?}");
    }
}

#[test]
fn half_of_the_hosts_are_cut_off_and_connections_do_not_outlive_it() {
    // 12 s of the cut at most, 20 s until either side gives the dead connections up, and what is missing then.
    all_complete(|seed| scenario::halves(HOSTS, seed, false), 60, 1.7);
}

#[test]
fn half_of_the_hosts_are_cut_off_and_connections_outlive_it() {
    all_complete(|seed| scenario::halves(HOSTS, seed, true), 40, 1.2);
}

#[test]
fn the_tracker_is_killed_and_started() {
    all_complete(scenario::tracker_restarts, 22, 1.2);
}

#[test]
fn hub_and_tracker_are_gone_for_good_once_a_copy_is_out() {
    all_complete(|_| scenario::hub_is_gone(), 22, 1.01);
}

#[test]
fn hosts_reach_and_are_heard_by_only_some() {
    // Who reaches none of those that the tracker named has all of it from the hub.
    all_complete(|seed| scenario::uneven(HOSTS, seed), 60, 2.2);
}

#[test]
fn hosts_are_killed_or_lose_power_and_go_on_from_their_pieces() {
    all_complete(|seed| scenario::hosts_restart(HOSTS, seed), 60, 1.2);
}

/// What the tests above rely on: a cut cuts, and who is cut off takes nothing.
#[test]
fn a_cut_that_is_not_healed_leaves_out_who_is_behind_it() {
    let cut = (0..HOSTS / 2).collect::<Vec<_>>();
    let steps = vec![(Moment::Copies(0.4), Trouble::Cut(cut))];
    let settings = Settings { limit: Duration::from_secs(40), ..settings(1) };
    let Outcome { completed, .. } = run(&Scenario { name: "cut for good", steps }, &settings).unwrap();
    assert!(completed[..HOSTS / 2].iter().all(Option::is_none), "{completed:?}");
    assert!(completed[HOSTS / 2..].iter().all(Option::is_some), "{completed:?}");
}
