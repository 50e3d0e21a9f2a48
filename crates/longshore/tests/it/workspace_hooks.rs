//! Hooks of containers, policies of images, and health that nobody can tell, on a real engine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::ensure;
use bollard::Docker;

use crate::lone::Lone;
use crate::scene::{LIMIT, on_engine, workspace_of};
use crate::workspace::Laptop;

const COMPOSE: &str = "
services:
  app:
    image: ${IMAGE}
    pull_policy: ${POLICY}
    command: [sh, -c, 'while :; do sleep 1; done']
    init: true
    volumes: [data:/data]
    environment: {WHERE: /data/log}
    post_start:
      - command: [sh, -c, 'sleep 1; echo $$STAGE >> $$WHERE']
        environment: {STAGE: started}
      - {command: [sh, -c, 'echo $$(pwd) $$(id -u) >> $$WHERE'], working_dir: /tmp, user: '0'}
    pre_stop:
      - command: [sh, -c, 'echo stopping >> $$WHERE']
      - command: [sh, -c, 'echo cannot; exit 3']
  reader:
    image: debian:bookworm-slim
    command: [sh, -c, 'test -s /data/log && sleep infinity']
    init: true
    volumes: [data:/data]
    depends_on: [app]
volumes: {data: {}}
";

/// What the hooks of one start, and of one stop, write.
const STARTED: &str = "started\n/tmp 0\n";
const STOPPING: &str = "stopping\n";

const AWAITED: &str = "
services:
  app:
    image: debian:bookworm-slim
    command: sleep infinity
    init: true
  web:
    image: debian:bookworm-slim
    command: sleep infinity
    depends_on: {app: {condition: service_healthy}}
";

#[test]
fn a_workspace_comes_up_on_one_network_of_its_name() {
    on_engine(|docker, folder| async move { on_one_network(&folder, &docker).await });
}

/// What commands leave that are killed while the engine makes their network, and engines before API 1.44 allow.
async fn on_one_network(folder: &Path, docker: &Docker) -> anyhow::Result<()> {
    let (hub, checkout) = (Lone::start(&folder.join("hub"), "", &[]), folder.join("checkout"));
    std::fs::create_dir_all(&checkout)?;
    let name = workspace_of(std::process::id());
    let service = "services: {app: {image: 'debian:bookworm-slim', command: sleep infinity, init: true}}";
    std::fs::write(checkout.join("compose.yaml"), format!("name: {name}\n{service}\n"))?;
    let (state, data) = (folder.join("state"), folder.join("hub"));
    let laptop = Laptop { checkout, state, hub: hub.url(""), data, engine: None };
    let networks = || async {
        let found = docker.list_networks(None::<bollard::query_parameters::ListNetworksOptions>).await?;
        anyhow::Ok(found.iter().filter(|network| network.name == Some(format!("{name}_default"))).count())
    };
    let twin = || async {
        let labels = [("dev.longshore.workspace".to_owned(), name.clone())];
        let request = bollard::models::NetworkCreateRequest {
            name: format!("{name}_default"),
            labels: Some(labels.into()),
            ..Default::default()
        };
        docker.create_network(request).await
    };
    let environments = laptop.checkout.join("environments.yaml");
    std::fs::write(environments, "environments: {prod: {target: {docker: {hosts: [none]}}}}")?;
    // The hub listens before its token is there.
    rig::until("no environment", LIMIT, || async { laptop.run("env apply -f environments.yaml").await.ok() }).await?;
    twin().await?;
    twin().await?;
    laptop.run("up --detach").await?;
    ensure!(networks().await? == 1, "{} networks", networks().await?);
    twin().await?;
    laptop.run("up --detach").await?;
    ensure!(networks().await? == 1, "{} networks", networks().await?);
    twin().await?;
    laptop.run("down").await?;
    ensure!(networks().await? == 0, "{} networks are left", networks().await?);
    hub.stop();
    Ok(())
}

#[test]
fn hooks_policies_and_health_of_a_workspace() {
    on_engine(|docker, folder| async move {
        let hub = Lone::start(&folder.join("hub"), "", &[]);
        let (registry, image) = (format!("{}/", hub.host), format!("{}/tools/app:1", hub.host));
        let result = in_checkout(&folder, hub, &image).await;
        let label = format!("dev.longshore.workspace={}", workspace_of(std::process::id()));
        rig::engine::sweep(&docker, &label, &[registry]).await?;
        result
    });
}

fn docker_run(arguments: &[&str]) -> anyhow::Result<String> {
    rig::engine::run(Command::new("docker").args(arguments))
}

/// A new image of this name in the registry; what the engine had under it stays there.
fn push_newer(image: &str, before: Option<&str>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let text = format!("FROM debian:bookworm-slim\nLABEL number={}\n", before.map_or(1, |_| 2));
    std::fs::write(folder.path().join("Dockerfile"), text)?;
    let path = folder.path().display().to_string();
    let mut build = Command::new("docker");
    rig::engine::run(build.args(["build", "--quiet", "--tag", image, &path]).env("DOCKER_BUILDKIT", "0"))?;
    docker_run(&["push", "--quiet", image])?;
    match before {
        Some(before) => docker_run(&["tag", before, image])?,
        None => docker_run(&["image", "rm", image])?,
    };
    Ok(())
}

async fn in_checkout(folder: &Path, hub: Lone, image: &str) -> anyhow::Result<()> {
    let checkout = folder.join("checkout");
    std::fs::create_dir_all(&checkout)?;
    let name = workspace_of(std::process::id());
    let write = |text: &str, policy: &str| {
        std::fs::write(checkout.join(".env"), format!("IMAGE={image}\nPOLICY={policy}\n"))?;
        std::fs::write(checkout.join("compose.yaml"), format!("name: {name}{text}"))
    };
    write(COMPOSE, "never")?;
    let environments = checkout.join("environments.yaml");
    std::fs::write(&environments, "environments: {prod: {target: {docker: {hosts: [none]}}}}")?;
    let laptop = Laptop {
        checkout: checkout.clone(),
        state: folder.join("state"),
        hub: hub.url(""),
        data: folder.join("hub"),
        engine: None,
    };
    // The hub listens before its token is there.
    rig::until("no environment", LIMIT, || async { laptop.run("env apply -f environments.yaml").await.ok() }).await?;

    push_newer(image, None)?;
    let said = laptop.said("up --detach").await?;
    ensure!(said.code != Some(0) && said.err.contains("has `pull_policy: never`"), "{}", said.err);
    write(COMPOSE, "missing")?;
    let log = || async { Ok::<_, anyhow::Error>(laptop.run("exec -T reader cat /data/log").await?.out) };
    killed_in_a_hook(&laptop).await?;
    laptop.run("up --detach").await?;
    ensure!(log().await?.ends_with(STARTED), "what was not done is done: {}", log().await?);
    let done = log().await?;
    laptop.run("up --detach").await?;
    ensure!(log().await? == done, "what was done is done again: {}", log().await?);

    let container = |rows: &std::collections::BTreeMap<String, serde_json::Value>| rows["app"]["container"].clone();
    let before = container(&laptop.ps().await?);
    let id = docker_run(&["image", "inspect", "--format", "{{.Id}}", image])?;
    push_newer(image, Some(id.trim()))?;
    laptop.run("up --detach").await?;
    ensure!(container(&laptop.ps().await?) == before, "an image that is there is not asked for");
    for policy in ["always", "every_12h"] {
        docker_run(&["tag", id.trim(), image])?;
        write(COMPOSE, policy)?;
        let said = laptop.run("up --detach").await?;
        // What was tagged just now is not twelve hours old.
        ensure!(said.err.contains("app: pulling") == (policy == "always"), "{policy}: {}", said.err);
        let now = docker_run(&["image", "inspect", "--format", "{{.Id}}", image])?;
        ensure!((now == id) == (policy != "always"), "{policy}: {now}");
    }
    write(COMPOSE, "always")?;
    laptop.run("up --detach").await?;
    let log_before = log().await?;
    hub.stop();
    let said = laptop.run("up --detach").await?;
    ensure!(said.err.contains("is the newest is not known"), "{}", said.err);
    let said = laptop.run("down").await?;
    ensure!(said.err.contains("app: pre_stop: ") && said.err.contains("ended with status 3: cannot"), "{}", said.err);
    let mount = format!("{name}_data:/data");
    let log = docker_run(&["run", "--rm", "--network=none", "-v", &mount, "debian:bookworm-slim", "cat", "/data/log"])?;
    ensure!(log == log_before + STOPPING, "{log}");

    write(AWAITED, "")?;
    let said = laptop.said("up --detach").await?;
    let why =
        "web awaits that app is healthy (depends_on, service_healthy), and app has no healthcheck, nor has its image";
    ensure!(said.code != Some(0) && said.err.contains(why), "{}", said.err);
    ensure!(laptop.ps().await?.values().all(|row| row["state"] != "running"), "something was started");
    laptop.run("down").await?;
    Ok(())
}

/// `up` is killed while the first hook runs.
async fn killed_in_a_hook(laptop: &Laptop) -> anyhow::Result<()> {
    let mut child = laptop.command("up --detach").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let is_hooked = || async {
        let left = walk(&laptop.state, "hooks").and_then(|folder| std::fs::read_dir(folder).ok()?.next());
        let row = laptop.ps().await.ok()?.remove("app")?;
        left.filter(|_| row["state"] == "running").map(drop)
    };
    let seen = rig::until("no hook is begun", LIMIT, is_hooked).await;
    child.kill()?;
    child.wait()?;
    seen?;
    ensure!(laptop.ps().await?["reader"]["state"] != "running", "app counted as started before its hooks had run");
    Ok(())
}

/// A folder of this name somewhere below another.
fn walk(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| match entry.file_name() == name {
        true => Some(entry.path()),
        false => walk(&entry.path(), name),
    })
}
