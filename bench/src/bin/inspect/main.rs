//! `bench/inspect`: what is inside a real image, beside Syft and Trivy: time, memory and what is found.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Parser, ValueEnum};

mod alone;
mod found;
mod image;
mod many;
mod planted;
mod run;
mod time;

use bench::report::{self, Row};
use image::Made;
use run::Tools;

/// Measure inspection beside Syft and Trivy on this machine.
#[derive(Parser)]
#[command(name = "bench/inspect")]
struct Args {
    /// Print a JSON list of rows on standard output in place of the table
    #[arg(long)]
    json: bool,
    /// Measure only this; may be given more than once
    #[arg(long, value_name = "WHAT")]
    only: Vec<Part>,
    /// Rounds, of which the middle one counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The `longshore` binary
    #[arg(long, env = "LONGSHORE_BINARY", hide = true)]
    binary: Option<PathBuf>,
    /// Decompress this file on a thread of its own and say nothing: what the bench starts itself for
    #[arg(long, hide = true, num_args = 1..)]
    decompress: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// An archive of `docker save`: wall time and memory
    Archive,
    /// An OCI layout with gzip layers: wall time beside decompressing alone
    Layout,
    /// What is found, and what only others find
    Found,
    /// Three million small files: memory
    Many,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.decompress.is_empty() {
        return alone::decompress(&args.decompress);
    }
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("longshore"),
    };
    ensure!(binary.exists(), "{} is not there: run bench/inspect, which builds it", binary.display());
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let cache = rig::cache_folder()?;
    let tools = Tools::find(binary, &cache)?;
    let folder = cache.join("bench-inspect");
    let mut rows = Vec::new();
    let mut add = |more: Vec<Row>| {
        eprint!("{}", report::table(&more));
        rows.extend(more);
    };
    if wanted(Part::Archive) || wanted(Part::Layout) || wanted(Part::Found) {
        let made = Made::ensure(&folder, &cache)?;
        eprintln!("The image has {:.0} MB in {} layers", made.bytes as f64 / 1e6, made.layers.len());
        if wanted(Part::Archive) {
            add(time::archive(&tools, &made, args.rounds)?);
        }
        if wanted(Part::Layout) {
            add(time::layout(&tools, &made, args.rounds)?);
        }
        if wanted(Part::Found) {
            add(found::found(&tools, &made)?);
        }
    }
    if wanted(Part::Many) {
        add(many::many(&tools, &folder)?);
    }
    report::print(&rows, args.json)
}
