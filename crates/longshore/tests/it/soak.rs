//! The registry under crashes, in short. `cargo xtask soak` is the same at full length.

use std::time::Duration;

use rig::soak::{FileSystem, Options, run, run_control};

use crate::scene::BINARY;

const KILLS: u64 = 120;
const SHUTDOWNS_OF_EXT4: u64 = 30;
const SHUTDOWNS_OF_XFS: u64 = 16;
/// Fewer answers than this, and hardly anything was tried.
const ACKNOWLEDGED_MIN: u64 = 500;

/// The promise is 5 s; tests share the machine with others.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

fn options(kills: u64, shutdowns: Vec<(FileSystem, u64)>) -> Options {
    let seed = api::Micros::now().0.unsigned_abs();
    println!("seed {seed}");
    Options { binary: BINARY.into(), kills, shutdowns, recovery_max: RECOVERY_MAX, seed }
}

#[test]
fn nothing_acknowledged_is_lost_to_kills_and_shutdowns() {
    let shutdowns = vec![(FileSystem::Ext4, SHUTDOWNS_OF_EXT4), (FileSystem::Xfs, SHUTDOWNS_OF_XFS)];
    let summary = run(options(KILLS, shutdowns)).unwrap();
    let faults: Vec<String> = summary.faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let acknowledged: u64 = summary.tally.counts().map(|(_, count)| count).sum();
    println!("{acknowledged} acknowledged, slowest start {} ms", summary.slowest_start.as_millis());
    assert!(acknowledged >= ACKNOWLEDGED_MIN, "hardly anything was tried: {acknowledged}");
    assert_eq!(
        summary.rounds.iter().map(|(_, rounds)| rounds).sum::<u64>(),
        KILLS + SHUTDOWNS_OF_EXT4 + SHUTDOWNS_OF_XFS
    );
}

#[test]
fn a_hub_that_does_not_wait_for_the_disk_is_found_out_by_a_shutdown() {
    let fault = run_control(options(0, Vec::new())).unwrap();
    println!("{}", fault.expect("a hub that does not wait for the disk loses nothing: the check cannot fail"));
}
