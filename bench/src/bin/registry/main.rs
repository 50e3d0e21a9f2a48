//! `bench/registry`: the registry beside Debian's docker-registry and nginx, the same work for each, in one run.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Parser, ValueEnum};

mod collect;
mod get;
mod image;
mod memory;
mod push;
mod server;
mod start;
mod store;
mod wire;

use bench::report::{self, Row};
use server::Server;

/// Measure the registry beside docker-registry and nginx on this machine.
#[derive(Parser)]
#[command(name = "bench/registry")]
struct Args {
    /// Print a JSON list of rows on standard output in place of the table
    #[arg(long)]
    json: bool,
    /// Measure only this; may be given more than once
    #[arg(long, value_name = "WHAT")]
    only: Vec<Part>,
    /// Where the servers keep their data: a folder on the disk that is to be measured
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The `longshore` binary
    #[arg(long, env = "LONGSHORE_BINARY", hide = true)]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Manifests by digest and by tag
    Manifests,
    /// Pulls of a large blob
    Blobs,
    /// The push of a very large blob
    Push,
    /// Memory under a thousand clients
    Memory,
    /// Deletion and collection beside pushes
    Collect,
    /// Start with a million blobs
    Start,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("longshore"),
    };
    ensure!(binary.exists(), "{} is not there: run bench/registry, which builds it", binary.display());
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let place = |name: &str| -> anyhow::Result<PathBuf> {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    let mut rows = Vec::new();
    let mut add = |more: Vec<Row>| {
        // Told as they come: the whole takes minutes.
        eprint!("{}", report::table(&more));
        rows.extend(more);
    };
    {
        let www = place("nginx")?;
        std::fs::create_dir(www.join("www"))?;
        std::fs::write(www.join("www/ready"), "ready\n")?;
        let hub = Server::longshore(&binary, &place("longshore")?).await?;
        let peer = Server::docker_registry(&place("docker-registry")?).await?;
        let nginx = Server::nginx(&www).await?;
        if wanted(Part::Manifests) {
            add(get::manifests(&hub, &peer, &nginx, &www).await?);
        }
        if wanted(Part::Blobs) {
            add(get::blobs(&hub, &peer, &nginx, &www).await?);
        }
        if wanted(Part::Push) {
            add(push::push(&hub, &peer, folder.path()).await?);
        }
        if wanted(Part::Memory) {
            add(memory::memory(&hub, &peer).await?);
        }
        for server in [hub, peer, nginx] {
            server.stop()?;
        }
    }
    if wanted(Part::Collect) {
        add(collect::collect(&binary, &place("collect")?).await?);
    }
    if wanted(Part::Start) {
        add(start::start(&binary, &place("start")?).await?);
    }
    report::print(&rows, args.json)
}
