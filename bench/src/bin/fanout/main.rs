//! `bench/fanout`: how close a fleet that pulls one image comes to what its lines allow, in simulation, with the real code,
//! and with the real binary; and what the exchange costs a host.
#![allow(clippy::print_stderr, reason = "a benchmark says how far it is")]

use std::path::PathBuf;

use anyhow::ensure;
use bench::report::{self, Row};
use clap::{Parser, ValueEnum};

mod gigabit;
mod ground;
mod held;
mod partitions;
mod plot;
mod pull;
mod real;
mod scaled;
mod simulated;
mod torrent;

use plot::Curve;

/// Measure how quickly many hosts pull one image at once, beside what their lines allow at best.
#[derive(Parser)]
#[command(name = "bench/fanout")]
struct Args {
    /// Print a JSON list of rows on standard output in place of the table
    #[arg(long)]
    json: bool,
    /// Measure only this; may be given more than once
    #[arg(long, value_name = "WHAT")]
    only: Vec<Part>,
    /// Agents of the part with real ones
    #[arg(long, default_value_t = 1000, value_name = "HOSTS", value_parser = clap::value_parser!(u32).range(2..=2000))]
    agents: u32,
    /// Write plots into this folder: when hosts were done, with the copies from the hub, and what hosts sent
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Where hosts keep their data: a folder on the disk that is to be measured
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The `longshore` binary
    #[arg(long, env = "LONGSHORE_BINARY", hide = true)]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The core in a simulator: 1,000 hosts, churn, slow hosts, malicious hosts
    Simulated,
    /// The same with 10,000 hosts
    Huge,
    /// The real code at scaled rates, and the simulator at the same size
    Scaled,
    /// The real binary on limited lines, 16 and 64 hosts, beside libtorrent and pulls from the hub; as root
    Real,
    /// Memory and CPU of an agent that sends, and of one that receives, 1 Gbit/s; as root
    Gigabit,
    /// A pull of what the agent has already, beside `docker load`; needs Docker
    Held,
    /// The real code on a simulated network: lines that break, hosts and the tracker restarted
    Partitions,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// The parts that run the real binary.
async fn processes(args: &Args, curves: &mut Vec<Curve>) -> anyhow::Result<Vec<Row>> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("longshore"),
    };
    ensure!(binary.exists(), "{} is not there: run bench/fanout, which builds it", binary.display());
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let mut rows = Vec::new();
    let mut add = |more: Vec<Row>| {
        // Told as they come: the whole takes minutes.
        eprint!("{}", report::table(&more));
        rows.extend(more);
    };
    if args.wants(Part::Real) {
        let folder = folder.path().join("real");
        let python = torrent::python(&rig::cache_folder()?)?;
        for fleet in &real::FLEETS {
            add(real::rows(fleet, &binary, &python, &folder, curves).await?);
            // Thousands of mebibytes are not kept until all is measured.
            std::fs::remove_dir_all(&folder)?;
        }
    }
    if args.wants(Part::Gigabit) {
        add(gigabit::rows(&binary, &folder.path().join("gigabit")).await?);
    }
    if args.wants(Part::Held) {
        add(held::rows(&binary, &folder.path().join("held")).await?);
    }
    Ok(rows)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut rows = Vec::new();
    let mut curves = Vec::new();
    if args.wants(Part::Simulated) {
        rows.extend(simulated::rows(&mut curves));
    }
    if args.wants(Part::Huge) {
        rows.extend(simulated::huge(&mut curves));
    }
    if args.wants(Part::Scaled) {
        rows.extend(scaled::rows(args.agents, &mut curves).await?);
    }
    if [Part::Real, Part::Gigabit, Part::Held].into_iter().any(|part| args.wants(part)) {
        rows.extend(processes(&args, &mut curves).await?);
    }
    if args.wants(Part::Partitions) {
        // It brings runtimes of its own.
        rows.extend(tokio::task::spawn_blocking(partitions::rows).await??);
    }
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("fanout-completion.svg"), plot::completion(&curves))?;
        std::fs::write(folder.join("fanout-uploads.svg"), plot::uploads(&curves))?;
    }
    report::print(&rows, args.json)
}
