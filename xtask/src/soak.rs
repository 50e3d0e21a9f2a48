//! The registry under crashes, at full length.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Parser;
use rig::soak::{Fault, FileSystem, Options, Summary};

/// The promise: from the start of a hub to its first right answer.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// How long, and on what.
#[derive(Parser)]
pub(crate) struct Args {
    /// How often the hub is killed with SIGKILL
    #[arg(long, default_value_t = 10_000)]
    kills: u64,

    /// How often a file system is shut down without its journal being written: ext4 and XFS in halves, needs root
    #[arg(long, default_value_t = 2_000)]
    shutdowns: u64,

    /// Does the same work again; when the crashes come depends on the machine, too
    #[arg(long)]
    seed: Option<u64>,

    /// The `longshore` binary
    #[arg(long)]
    binary: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let binary = args.binary.clone().map_or_else(crate::demo::beside_this_program, Ok)?;
    let seed = args.seed.unwrap_or_else(|| api::Micros::now().0.unsigned_abs());
    let options = |shutdowns: Vec<(FileSystem, u64)>| Options {
        binary: binary.clone(),
        kills: args.kills,
        shutdowns,
        recovery_max: RECOVERY_MAX,
        seed,
    };
    let begun = Instant::now();
    eprintln!("seed {seed}");
    let mut shutdowns = vec![(FileSystem::Ext4, args.shutdowns.div_ceil(2)), (FileSystem::Xfs, args.shutdowns / 2)];
    shutdowns.retain(|(_, rounds)| *rounds > 0);
    if !shutdowns.is_empty() {
        match rig::soak::run_control(options(Vec::new()))? {
            Some(fault) => println!("A hub that does not wait for the disk is found out: {fault}"),
            None => bail!("a hub that does not wait for the disk was not found out: this soak proves nothing"),
        }
    }
    let summary = rig::soak::run(options(shutdowns))?;
    print(&summary);
    println!("seed {seed}, {} s", begun.elapsed().as_secs());
    ensure!(summary.faults.is_empty(), "{} of the lanes found a fault", summary.faults.len());
    Ok(())
}

fn print(summary: &Summary) {
    for (kind, rounds) in &summary.rounds {
        println!("{rounds:>9} {kind}");
    }
    println!("Acknowledged:");
    for (kind, count) in summary.tally.counts() {
        println!("{count:>9} {kind}");
    }
    let count = |wanted: fn(&Fault) -> bool| summary.faults.iter().filter(|fault| wanted(fault)).count();
    println!("{:>9} lost", count(|fault| matches!(fault, Fault::Lost(_))));
    println!("{:>9} wrong bytes", count(|fault| matches!(fault, Fault::Wrong(_))));
    println!("{:>9} other faults", count(|fault| !matches!(fault, Fault::Lost(_) | Fault::Wrong(_))));
    println!("{:>6} ms from a start to the first right answer at most", summary.slowest_start.as_millis());
    for fault in &summary.faults {
        println!("{fault}");
    }
}
