//! `bench/fanout`: how close a fleet that pulls one image comes to what its lines allow, in simulation and with the real
//! code, which are held against each other.
#![allow(clippy::print_stderr, reason = "a benchmark says how far it is")]

use std::path::PathBuf;

use bench::report;
use clap::{Parser, ValueEnum};

mod partitions;
mod plot;
mod scaled;
mod simulated;

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
    /// Write plots into this folder
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The core in a simulator: 1,000 hosts, churn, slow hosts, malicious hosts
    Simulated,
    /// The same with 10,000 hosts
    Huge,
    /// The real code at scaled rates, and the simulator at the same size
    Scaled,
    /// The real code on a simulated network: lines that break, hosts and the tracker restarted
    Partitions,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
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
