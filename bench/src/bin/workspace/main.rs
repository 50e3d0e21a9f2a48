//! `bench/workspace`: the app on a laptop, beside docker-compose and beside bare calls of the engine, in one run.
//!
//! The laptop is a network namespace with an engine of its own, so that it begins with nothing and its ports are free. The
//! hub stays outside, and is found on the laptop's loopback: [`tunnel`] carries its connections.
#![allow(clippy::print_stderr, reason = "a benchmark says how far it is")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::delivery::PromoteRequest;
use api::pipeline::{BuildRequest, RunState};
use bench::report::{self, Row};
use clap::{Parser, ValueEnum};
use rig::example::Repository;
use rig::namespaces::Network;
use rig::stage::{Options, Stage, free_block, registries};

mod app;
mod chain;
mod laptop;
mod saves;
mod start;
mod tunnel;

use laptop::Laptop;

/// How long a build, a rollout or the laptop's whole part may take.
const LIMIT: Duration = Duration::from_secs(1800);
const HOST: &str = "prod1";
const LAPTOP: &str = "laptop";
/// What marks everything that is made on this machine's engine.
const LABEL: &str = "dev.longshore.instance=bench";
/// The app's name, and its checkout's.
const APP: &str = "vote";

/// Measure the app on a laptop beside docker-compose and bare calls of the engine.
#[derive(Parser)]
#[command(name = "bench/workspace")]
struct Args {
    /// Print a JSON list of rows on standard output in place of the table
    #[arg(long)]
    json: bool,
    /// Measure only this; may be given more than once
    #[arg(long, value_name = "WHAT")]
    only: Vec<Part>,
    /// The `longshore` binary
    #[arg(long, env = "LONGSHORE_BINARY", hide = true)]
    binary: Option<PathBuf>,
    /// This process is on the laptop, whose things are in this folder
    #[arg(long, hide = true)]
    laptop: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The example app: cold, with all images there, and unchanged
    App,
    /// 6 and 30 trivial services that await one another
    Chain,
    /// From a save to what is served
    Saves,
    /// The start of a watch on 200,000 files
    Start,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("longshore"),
    };
    ensure!(binary.exists(), "{} is not there: run bench/workspace, which builds it", binary.display());
    if let Some(folder) = &args.laptop {
        let rows = on_laptop(&args, Laptop::new(binary, folder).await?).await?;
        return report::print(&rows, true);
    }
    let folder = tempfile::tempdir()?;
    let docker = rig::engine::ensure().await?;
    rig::namespaces::remove_left_behind()?;
    rig::engine::sweep(&docker, LABEL, &[]).await?;
    let block = free_block([127, 64])?;
    let outcome = measured(&args, &binary, folder.path(), block).await;
    rig::stage::end_processes(folder.path(), &[]).await?;
    rig::engine::sweep(&docker, LABEL, &registries(block, 1)).await?;
    report::print(&outcome?, args.json)
}

/// Sets everything up, and has the laptop's part done in the laptop's network.
async fn measured(args: &Args, binary: &Path, folder: &Path, block: [u8; 2]) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if args.wants(Part::Start) {
        rows = start::start(folder).await?;
        eprint!("{}", report::table(&rows));
    }
    if args.only == [Part::Start] {
        return Ok(rows);
    }
    let checkout = folder.join(APP);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/vote");
    let repository = Repository::create(&example, &checkout)?;
    let options = Options {
        binary: binary.to_owned(),
        folder: folder.join("stage"),
        block,
        label: LABEL.to_owned(),
        hosts: vec![(HOST, BTreeMap::from([("data".to_owned(), "true".to_owned())]))],
        host_network: true,
    };
    eprintln!("The hub, and the example app in prod");
    let mut stage = Stage::start(options).await?;
    in_prod(&stage, &repository).await?;
    // What prod runs would only take the processor from what is measured.
    stage.agent_kill(HOST)?;
    let docker = rig::engine::ensure().await?;
    rig::engine::sweep(&docker, LABEL, &registries(block, 1)).await?;

    eprintln!("The laptop's engine");
    let network = Network::start(&folder.join("engines"), &[LAPTOP]).await?;
    let place = network.places().host(LAPTOP)?;
    let hub = stage.url().parse::<reqwest::Url>()?;
    let hub = (hub.host_str().context("the hub has an address")?.to_owned(), hub.port().context("and a port")?);
    let _tunnel = tunnel::outer(&folder.join("tunnel"), hub)?;
    let mut command = tokio::process::Command::from(place.command(&std::env::current_exe()?));
    command.arg("--laptop").arg(folder).arg("--binary").arg(binary);
    for part in &args.only {
        command.args(["--only", &part.name()]);
    }
    command.env("DOCKER_HOST", format!("unix://{}", place.socket.display()));
    command.env("LONGSHORE_DATA", stage.data()).env_remove("DOCKER_CONTEXT");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.spawn()?.wait_with_output()).await;
    let output = output.context("the laptop's part does not end")??;
    network.end().await?;
    stage.end().await?;
    ensure!(output.status.success(), "the laptop's part failed");
    rows.extend(serde_json::from_slice::<Vec<Row>>(&output.stdout)?);
    Ok(rows)
}

async fn in_prod(stage: &Stage, repository: &Repository) -> anyhow::Result<()> {
    let client = stage.client();
    let environments = format!("environments: {{prod: {{target: {{docker: {{hosts: [{HOST}]}}}}}}}}");
    client.env_apply(environments, "environments.yaml", false).await.map_err(refused)?;
    let request = BuildRequest {
        repository: repository.folder().display().to_string(),
        reference: "main".to_owned(),
        folder: String::new(),
        services: Vec::new(),
    };
    let run = client.run_create(&request).await.map_err(refused)?;
    let run = rig::until("the build does not end", LIMIT, || async {
        let run = client.run_get(&run.id).await.ok()?;
        matches!(run.state, RunState::Succeeded | RunState::Failed).then_some(run)
    })
    .await?;
    ensure!(run.state == RunState::Succeeded, "the build failed: {:?}", run.error);
    let request = PromoteRequest {
        address: APP.parse()?,
        to: "prod".parse()?,
        force_reason: None,
        requested_by: "bench".to_owned(),
    };
    let plan = client.promote(&request).await.map_err(refused)?;
    stage.plan_success(&plan.id, LIMIT).await?;
    Ok(())
}

async fn on_laptop(args: &Args, laptop: Laptop) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |more: Vec<Row>| {
        // Told as they come: the whole takes minutes.
        eprint!("{}", report::table(&more));
        rows.extend(more);
    };
    // The first `up` brings the images that all else is made of.
    let images = app::images(&laptop).await?;
    laptop.tidy().await?;
    if args.wants(Part::Chain) {
        add(chain::chains(&laptop, &image(&images, "redis")?).await?);
    }
    if args.wants(Part::Saves) {
        add(saves::saves(&laptop, &image(&images, "vote")?).await?);
    }
    if args.wants(Part::App) {
        add(app::app(&laptop, &images).await?);
    }
    Ok(rows)
}

fn image(images: &app::Images, service: &str) -> anyhow::Result<String> {
    Ok(images.get(service).with_context(|| format!("the app has no {service}"))?.here.clone())
}

fn refused(problem: api::Problem) -> anyhow::Error {
    anyhow::anyhow!("{problem}")
}
