//! A workspace whose services all come from the checkout: commands in containers, volumes, a terminal, saves.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bollard::Docker;
use bollard::query_parameters::RemoveVolumeOptions;
use serde_json::Value;

use crate::lone::Lone;
use crate::scene::{LIMIT, on_engine, workspace_of};
use crate::workspace::{COMMAND_LIMIT, Laptop};

/// Nothing that must be fetched: a shell that keeps a file in a volume and shows one of its image.
const COMPOSE: &str = "
services:
  store:
    build: ./store
    volumes: [data:/data]
    environment: {STORE_PASSWORD: secret, DATABASE_URL: 'db://user:secret@store/x'}
    healthcheck: {test: [CMD, test, -f, /data/ready], interval: 1s, retries: 30}
    init: true
  web:
    build: ./store
    command: [sh, -c, 'while :; do cat /srv/page; sleep 0.2; done']
    depends_on: {store: {condition: service_healthy}, prepare: {condition: service_completed_successfully}}
    init: true
    develop:
      watch: [{path: ./store/page, action: sync, target: /srv/page}]
  prepare:
    build: ./store
    command: [sh, -c, 'echo prepared']
    depends_on: {store: {condition: service_healthy}}
volumes: {data: {}}
";

const LONGSHORE: &str = "
workspace:
  services:
    store:
      fill:
        - {command: [sh, -c, 'cat >> /data/rows'], input: rows.txt}
        - {command: [sh, -c, 'read seconds; sleep $seconds'], input: wait}
";

const DOCKERFILE: &str = "FROM debian:bookworm-slim
COPY page /srv/page
CMD [\"sh\", \"-c\", \"echo kept; touch /data/ready; while :; do sleep 1; done\"]
";

#[test]
fn a_workspace_from_source_alone() {
    on_engine(|docker, folder| async move { from_source(&folder, &docker).await });
}

async fn from_source(folder: &Path, docker: &Docker) -> anyhow::Result<()> {
    let (hub, checkout) = (Lone::start(&folder.join("hub"), "", &[]), folder.join("checkout"));
    std::fs::create_dir_all(checkout.join("store"))?;
    let name = workspace_of(std::process::id());
    std::fs::write(checkout.join("compose.yaml"), format!("name: {name}{COMPOSE}"))?;
    std::fs::write(checkout.join("store/Dockerfile"), DOCKERFILE)?;
    std::fs::write(checkout.join("store/page"), "first\n")?;
    std::fs::write(checkout.join("longshore.yaml"), LONGSHORE)?;
    std::fs::write(checkout.join("rows.txt"), "one\ntwo\n")?;
    std::fs::write(checkout.join("wait"), "0")?;
    let environments = checkout.join("environments.yaml");
    std::fs::write(&environments, "environments: {prod: {target: {docker: {hosts: [none]}}}}")?;
    let (state, data) = (folder.join("state"), folder.join("hub"));
    let laptop = Laptop { checkout, state, hub: hub.url(""), data, engine: None };
    // The hub listens before its token is there.
    rig::until("no environment", LIMIT, || async { laptop.run("env apply -f environments.yaml").await.ok() }).await?;
    let said = laptop.run("up --detach").await?;
    ensure!(said.err.contains("prod does not have prepare, store, web yet, so they come from source"), "{}", said.err);
    let rows = laptop.ps().await?;
    ensure!(rows.values().all(|row| row["proof"]["source"]["changed"] == false), "{rows:#?}");
    filled(&laptop, docker).await?;
    for_once(&laptop).await?;
    volumes(&laptop, docker).await?;
    attended(&laptop).await?;
    let out = laptop.run("run -T store cat /data/rows").await?.out;
    ensure!(out == "three\n", "it is filled again, or not kept: {out}");
    hub.stop();
    without_any_answer(Laptop { state: folder.join("another"), ..laptop }).await
}

/// A hub that never answered is needed for what is not worked on, and for nothing else.
async fn without_any_answer(laptop: Laptop) -> anyhow::Result<()> {
    let refused = laptop.said("up --detach --dev web").await?;
    ensure!(refused.code != Some(0) && refused.err.contains("`longshore up --dev prepare store`"), "{}", refused.err);
    let said = laptop.run("up --detach --dev prepare store web").await?;
    ensure!(said.err.contains("what prod has is not known") && !said.err.contains("so they come"), "{}", said.err);
    let rows = laptop.ps().await?;
    ensure!(rows.values().all(|row| row["proof"]["source"]["changed"] == false), "{rows:#?}");
    laptop.run("down").await?;
    Ok(())
}

/// The database of `longshore.yaml`, filled when its volume is new; again when `up` is killed meanwhile; else never.
async fn filled(laptop: &Laptop, docker: &Docker) -> anyhow::Result<()> {
    let rows = "exec -T store cat /data/rows";
    ensure!(laptop.run(rows).await?.out == "one\ntwo\n");
    laptop.run("down").await?;
    let name = workspace_of(std::process::id());
    docker.remove_volume(&format!("{name}_data"), None::<RemoveVolumeOptions>).await?;
    std::fs::write(laptop.checkout.join("rows.txt"), "three\n")?;
    // It waits for more than comes.
    std::fs::write(laptop.checkout.join("wait"), "60")?;
    let mut killed = tokio::process::Command::from(laptop.command("up --detach"))
        .kill_on_drop(true)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    rig::until("nothing is filled", LIMIT, || async { (laptop.said(rows).await.ok()?.out == "three\n").then_some(()) })
        .await?;
    let seen = laptop.ps().await?;
    ensure!(
        matches!(seen["prepare"]["state"].as_str(), None | Some("created")),
        "what awaits the database runs before it is filled: {seen:#?}"
    );
    killed.kill().await?;
    std::fs::write(laptop.checkout.join("wait"), "0")?;
    let said = laptop.run("up --detach").await?;
    ensure!(said.err.contains("store was not filled to the end"), "{}", said.err);
    ensure!(laptop.run(rows).await?.out == "three\n", "it is filled twice, or not at all");
    Ok(())
}

/// Commands in containers, and containers for one command.
async fn for_once(laptop: &Laptop) -> anyhow::Result<()> {
    let said = laptop.said("exec -T store sh -c false").await?;
    ensure!(said.code == Some(1), "the status of the command is this one's: {:?}", said.code);
    ensure!(laptop.run("exec -T web cat /srv/page").await?.out == "first\n", "what a command writes is seen");
    let said = laptop.run("run -T store sh -c env").await?;
    ensure!(said.out.contains("STORE_PASSWORD=secret"), "{}{}", said.out, said.err);
    let (file, input) = (laptop.checkout.join("input"), "a line of many\n".repeat(20_000));
    std::fs::write(&file, &input)?;
    let mut command = laptop.command("run store cat");
    command.stdin(std::fs::File::open(&file)?);
    let said = laptop.said_to(command, "run store cat").await?;
    ensure!(said.out == input, "of {} bytes come {}: {}", input.len(), said.out.len(), said.err);
    let said = laptop.said("debug -T store env").await?;
    ensure!(said.code == Some(3) && said.err.contains("prod does not have store"), "{}", said.err);
    let logs = laptop.run("logs store prepare").await?.out;
    ensure!(logs.contains("store | kept") && logs.contains("prepare | prepared") && !logs.contains("web"), "{logs}");
    Ok(())
}

async fn volumes(laptop: &Laptop, docker: &Docker) -> anyhow::Result<()> {
    let before = laptop.ps().await?;
    laptop.run("exec -T store cp /srv/page /data/kept").await?;
    laptop.run("volume save data").await?;
    laptop.run("exec -T store rm /data/kept").await?;
    laptop.run("exec -T store touch /data/later").await?;
    laptop.run("volume restore data").await?;
    let listed = laptop.run("exec -T store ls /data").await?.out;
    ensure!(listed == "kept\nready\nrows\n", "the volume is as it was saved: {listed:?}");
    let after = laptop.ps().await?;
    ensure!(before["web"]["container"] == after["web"]["container"], "a service without the volume was touched");
    restore_killed(laptop, docker).await?;
    let unknown = laptop.said("volume save nothing").await?;
    ensure!(unknown.code == Some(3) && unknown.err.contains("It has: data."), "{}", unknown.err);
    Ok(())
}

/// A restore that is killed half way is found out by whoever would use what it left.
async fn restore_killed(laptop: &Laptop, docker: &Docker) -> anyhow::Result<()> {
    let pipe = laptop.checkout.join("archive");
    rig::engine::run(std::process::Command::new("mkfifo").arg(&pipe))?;
    let mut command = laptop.command("volume restore data");
    command.arg(&pipe).stdout(Stdio::null()).stderr(Stdio::null());
    let mut killed = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    // Whoever reads waits for more than comes.
    let _writes = tokio::fs::OpenOptions::new().write(true).open(&pipe).await?;
    let mark = format!("{}_data.restoring", workspace_of(std::process::id()));
    rig::until("nothing is restored", LIMIT, || async { docker.inspect_volume(&mark).await.ok() }).await?;
    killed.kill().await?;
    for line in ["up --detach", "dev web", "run -T store true", "volume save data"] {
        let refused = laptop.said(line).await?;
        ensure!(
            refused.code == Some(4) && refused.err.contains("`longshore volume restore data`"),
            "{line}: {}",
            refused.err
        );
    }
    laptop.run("volume restore data").await?;
    laptop.run("up --detach").await?;
    let listed = laptop.run("exec -T store ls /data").await?.out;
    ensure!(listed == "kept\nready\nrows\n", "the volume is as it was saved: {listed:?}");
    Ok(())
}

/// `up` in a terminal: saves follow, other commands reach it, and Ctrl-C stops what runs.
async fn attended(laptop: &Laptop) -> anyhow::Result<()> {
    let up = |laptop: &Laptop| {
        let mut command = tokio::process::Command::from(laptop.command("up"));
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let all_run = || async {
        let rows = laptop.ps().await.ok()?;
        let runs = |row: &Value| row["state"] == "running" || row["service"] == "prepare";
        rows.values().all(runs).then_some(rows)
    };
    let child = up(laptop)?;
    rig::until("nobody listens", LIMIT, || async { walk(&laptop.state, "control") }).await?;
    let before = rig::until("not all runs", LIMIT, all_run).await?;
    // The watch has begun when its folder is there and everything was looked at; a save before that counts as well.
    std::fs::write(laptop.checkout.join("store/page"), "second\n")?;
    rig::until("the save does not arrive", Duration::from_secs(60), || async {
        let said = laptop.run("exec -T web cat /srv/page").await.ok()?;
        (said.out == "second\n").then_some(())
    })
    .await?;
    ensure!(laptop.ps().await?["web"]["container"] == before["web"]["container"], "a sync replaces nothing");
    laptop.run("dev store --debugger 5005").await?;
    let rows = laptop.ps().await?;
    ensure!(rows["store"]["container"] != before["store"]["container"], "store is built from what was saved");
    ensure!(rows["web"]["container"] == before["web"]["container"], "another service was touched, which has the save");
    let address = debugger(laptop).await?.context("there is no port for a debugger")?;
    ensure!(address.starts_with("127.0.0.1:"), "{address}");
    tokio::net::TcpStream::connect(&address).await.context("a debugger does not get there")?;
    let refused = laptop.said("up").await?;
    ensure!(refused.code == Some(4) && refused.err.contains("attended to already"), "{}", refused.err);
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).context("it runs")?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let output = tokio::time::timeout(COMMAND_LIMIT, child.wait_with_output()).await??;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && err.contains("Stopped."), "{out}{err}");
    let rows = laptop.ps().await?;
    ensure!(rows.values().all(|row| row["state"] == "exited"), "{rows:#?}");
    let child = up(laptop)?;
    rig::until("not all runs", LIMIT, all_run).await?;
    ensure!(debugger(laptop).await?.is_some(), "the debugger is forgotten");
    laptop.run("undev store").await?;
    ensure!(debugger(laptop).await?.is_none(), "the debugger is still let in");
    laptop.run("down").await?;
    let output = tokio::time::timeout(COMMAND_LIMIT, child.wait_with_output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Where a debugger of the store connects.
async fn debugger(laptop: &Laptop) -> anyhow::Result<Option<String>> {
    let shown: Value = serde_json::from_str(&laptop.run("ps --json").await?.out)?;
    let addresses = shown["addresses"].as_array().context("addresses")?;
    let found = addresses.iter().find(|address| address["service"] == "store" && address["debugger"] == true);
    Ok(found.and_then(|address| address["url"].as_str()).map(str::to_owned))
}

/// A file of this name somewhere below a folder.
fn walk(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| match entry.file_name() == name {
        true => Some(entry.path()),
        false => walk(&entry.path(), name),
    })
}
