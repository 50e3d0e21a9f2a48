//! The example app on a laptop: every service at prod's release, except the one being worked on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use api::delivery::PromoteRequest;

use serde_json::Value;

use crate::scene::{BINARY, LIMIT, Scene, folder, on_scene, refused, workspace_of};

/// How long one command may take: a build from source is among them.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(280);

/// `longshore up` is killed at so many moments.
const KILLS: u32 = 4;

/// A developer in a checkout.
pub(crate) struct Laptop {
    pub(crate) checkout: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) hub: String,
    pub(crate) data: PathBuf,
    /// The engine, unless it is this machine's.
    pub(crate) engine: Option<String>,
}

pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Laptop {
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(line.split_whitespace()).current_dir(&self.checkout).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", &self.state).env("LONGSHORE_HUB", &self.hub).env("LONGSHORE_DATA", &self.data);
        command.envs(self.engine.as_ref().map(|engine| ("DOCKER_HOST", engine)));
        command
    }

    pub(crate) async fn said(&self, line: &str) -> anyhow::Result<Said> {
        self.said_to(self.command(line), line).await
    }

    pub(crate) async fn said_to(&self, command: Command, line: &str) -> anyhow::Result<Said> {
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_LIMIT, command.output());
        let output = output.await.with_context(|| format!("`longshore {line}` does not end"))??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
    }

    pub(crate) async fn run(&self, line: &str) -> anyhow::Result<Said> {
        let said = self.said(line).await?;
        ensure!(said.code == Some(0), "`longshore {line}` ended with {:?}\n{}{}", said.code, said.out, said.err);
        Ok(said)
    }

    /// What `ps` says, by service.
    pub(crate) async fn ps(&self) -> anyhow::Result<BTreeMap<String, Value>> {
        let shown: Value = serde_json::from_str(&self.run("ps --json").await?.out)?;
        let rows = shown["services"].as_array().context("ps lists services")?;
        Ok(rows.iter().map(|row| (row["service"].as_str().unwrap_or_default().to_owned(), row.clone())).collect())
    }

    /// Where a service is found on this machine.
    async fn address(&self, service: &str) -> anyhow::Result<String> {
        let shown: Value = serde_json::from_str(&self.run("ps --json").await?.out)?;
        let addresses = shown["addresses"].as_array().context("ps lists addresses")?;
        let of_it = addresses.iter().find(|address| address["service"] == service);
        let url = of_it.and_then(|address| address["url"].as_str()).context("it has an address")?;
        // Whatever ends in .localhost is this machine; not every resolver of a test machine knows.
        let port = url.rsplit_once(':').context("a port")?.1;
        ensure!(url.starts_with(&format!("http://{service}.")) && url.contains(".localhost:"), "{url}");
        Ok(format!("http://127.0.0.1:{port}"))
    }
}

fn containers(rows: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    rows.iter().map(|(name, row)| (name.clone(), row["container"].as_str().unwrap_or_default().to_owned())).collect()
}

/// Prod on one host, and the app in it.
async fn app_in_prod(scene: &Scene, name: &str) -> anyhow::Result<()> {
    let compose = scene.repository.folder().join("compose.yaml");
    let text = std::fs::read_to_string(&compose)?;
    std::fs::write(&compose, format!("name: {name}\n{text}"))?;
    // Builds on test machines reach packages over the machine's own network.
    std::fs::write(scene.repository.folder().join("compose.dev.yaml"), "services: {vote: {build: {network: host}}}\n")?;
    scene.repository.commit("A name of its own")?;
    let environments = format!("environments: {{prod: {{target: {{docker: {{hosts: [{}]}}}}}}}}", scene.hosts[0]);
    scene.client().env_apply(environments, "environments.yaml", false).await.map_err(refused)?;
    scene.build().await?;
    let request = PromoteRequest {
        address: name.parse()?,
        to: "prod".parse()?,
        force_reason: None,
        requested_by: "test".to_owned(),
    };
    let plan = scene.client().promote(&request).await.map_err(refused)?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    Ok(())
}

#[test]
fn the_example_app_on_a_laptop() {
    on_scene(folder("../../examples/vote"), |mut scene| async move {
        let name = workspace_of(std::process::id());
        let result = on_laptop(&mut scene, &name).await;
        (scene, result)
    });
}

async fn on_laptop(scene: &mut Scene, name: &str) -> anyhow::Result<()> {
    app_in_prod(scene, name).await?;
    let state = tempfile::tempdir()?;
    let (hub, data) = (scene.stage.url(), scene.stage.data());
    let laptop = |checkout: &Path| Laptop {
        checkout: checkout.to_owned(),
        state: state.path().to_owned(),
        hub: hub.clone(),
        data: data.clone(),
        engine: None,
    };
    let first = laptop(scene.repository.folder());
    vote_from_source(scene, &first, name).await?;
    killed_anywhere(&first).await?;
    scene.stage.hub_kill()?;
    without_the_hub(&first).await?;
    scene.stage.hub_start().await?;
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("another");
    rig::engine::run(Command::new("cp").arg("-a").arg(scene.repository.folder()).arg(&copy))?;
    side_by_side(scene, &first, &laptop(&copy), name).await
}

async fn vote_from_source(scene: &Scene, laptop: &Laptop, name: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    let said = laptop.run("up --detach --dev vote").await?;
    println!("first up, vote from source: {:.1?}", begun.elapsed());
    ensure!(said.out.contains(&format!("http://vote.{name}.localhost:")), "{}", said.out);
    let rows = laptop.ps().await?;
    let releases = scene.client().env_releases(&name.parse()?, &"prod".parse()?, None).await.map_err(refused)?;
    let (prod, _) = releases.context("prod has releases")?;
    ensure!(rows.len() == prod.releases.len() && prod.releases.len() == 6, "{rows:#?}");
    for release in &prod.releases {
        let row = &rows[release.service.as_str()];
        if release.service.as_str() == "vote" {
            ensure!(row["proof"]["source"]["changed"] == false, "{row:#}");
            continue;
        }
        ensure!(row["proof"] == "equal" && row["release"] == release.id.as_str(), "{row:#}");
        ensure!(row["digest"] == release.image.digest.to_string(), "{row:#}");
    }
    let seen = laptop.run("ps").await?.out;
    ensure!(seen.contains("from source") && seen.contains("as in prod"), "{seen}");

    let before = containers(&rows);
    voted(laptop).await?;
    scene.repository.edit("vote/app.py", "steelblue", "rebeccapurple")?;
    laptop.run("dev vote").await?;
    page_shows(laptop, "rebeccapurple").await?;
    let edited = containers(&laptop.ps().await?);
    laptop.run("undev vote").await?;
    page_shows(laptop, "steelblue").await?;
    let rows = laptop.ps().await?;
    ensure!(rows.values().all(|row| row["proof"] == "equal"), "{rows:#?}");
    for (service, container) in &before {
        let now = [edited[service].as_str(), rows[service]["container"].as_str().unwrap_or_default()];
        ensure!(service == "vote" || now == [container, container], "{service} was {container} and is {now:?}");
    }
    let restarted = scene.docker.inspect_container(&before["worker"], None).await?;
    ensure!(restarted.restart_count == Some(0), "{restarted:?}");

    let begun = Instant::now();
    laptop.run("up --detach").await?;
    println!("up with nothing to do: {:.0?} (debug build, hub asked)", begun.elapsed());
    ensure!(containers(&laptop.ps().await?) == containers(&rows), "up with nothing to do did something");
    Ok(())
}

/// A vote passes through Redis and the worker into PostgreSQL.
async fn voted(laptop: &Laptop) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let vote = laptop.address("vote").await?;
    let counts = format!("{}/counts", laptop.address("result").await?);
    let count = || async {
        let text = client.get(&counts).send().await.ok()?.text().await.ok()?;
        serde_json::from_str::<Value>(&text).ok()?["cats"].as_u64()
    };
    let before = count().await.context("the results are shown")?;
    let sent = client.post(&vote).header("content-type", "application/x-www-form-urlencoded").body("vote=cats");
    ensure!(sent.send().await?.status().is_success(), "the vote is not taken");
    rig::until("the vote does not arrive in PostgreSQL", Duration::from_secs(60), || async {
        count().await.filter(|count| *count == before + 1)
    })
    .await?;
    Ok(())
}

async fn page_shows(laptop: &Laptop, text: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let vote = laptop.address("vote").await?;
    let page = client.get(&vote).send().await?.error_for_status()?.text().await?;
    ensure!(page.contains(text), "{vote} does not show {text}:\n{page}");
    Ok(())
}

/// `kill -9` of `up` at any moment, and `up` again comes to the same end.
async fn killed_anywhere(laptop: &Laptop) -> anyhow::Result<()> {
    let begun = Instant::now();
    laptop.run("up --detach").await?;
    let usual = begun.elapsed();
    println!("up with all images there: {usual:.1?}");
    for kill in 0..KILLS {
        laptop.run("down").await?;
        let mut command = laptop.command("up");
        let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        tokio::time::sleep(usual.mul_f64(f64::from(kill) / f64::from(KILLS))).await;
        child.kill()?;
        child.wait()?;
        laptop.run("up --detach").await?;
        let rows = laptop.ps().await?;
        let right = rows.values().all(|row| {
            row["proof"] == "equal"
                && (row["health"] == "healthy" || (row["service"] == "migrate" && row["exit_code"] == 0))
        });
        ensure!(right, "killed at {kill} of {KILLS}: {rows:#?}");
    }
    Ok(())
}

async fn without_the_hub(laptop: &Laptop) -> anyhow::Result<()> {
    let before = containers(&laptop.ps().await?);
    let said = laptop.run("up --detach").await?;
    ensure!(said.err.contains("going on with what prod had"), "{}", said.err);
    ensure!(containers(&laptop.ps().await?) == before, "without the hub something was changed");
    laptop.run("down").await?;
    laptop.run("up --detach").await?;
    voted(laptop).await
}

async fn side_by_side(scene: &Scene, first: &Laptop, second: &Laptop, name: &str) -> anyhow::Result<()> {
    second.run("up --detach").await?;
    ensure!(first.address("vote").await? != second.address("vote").await?, "both have one port");
    voted(first).await?;
    voted(second).await?;
    let rows = second.ps().await?;
    ensure!(rows.values().all(|row| row["proof"] == "equal"), "{rows:#?}");
    let ones = containers(&first.ps().await?);
    ensure!(containers(&rows).values().all(|id| !ones.values().any(|one| one == id)), "they share a container");
    second.run("down").await?;
    voted(first).await?;
    first.run("down").await?;
    let all = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).build();
    let names =
        scene.docker.list_containers(Some(all)).await?.into_iter().flat_map(|found| found.names.unwrap_or_default());
    let left: Vec<String> = names.filter(|left| left.starts_with(&format!("/{name}"))).collect();
    ensure!(left.is_empty(), "left: {left:?}");
    let filter =
        std::collections::HashMap::from([("label".to_owned(), vec![format!("dev.longshore.workspace={name}")])]);
    let options = bollard::query_parameters::ListNetworksOptionsBuilder::default().filters(&filter).build();
    ensure!(scene.docker.list_networks(Some(options)).await?.is_empty(), "a network is left");
    let options = bollard::query_parameters::ListVolumesOptionsBuilder::default().filters(&filter).build();
    let volumes = scene.docker.list_volumes(Some(options)).await?.volumes.unwrap_or_default();
    ensure!(volumes.len() == 2, "the volumes stay: {volumes:?}");
    Ok(())
}
