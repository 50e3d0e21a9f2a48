//! Hosts in trouble: a rollout to a Docker host whose part in the exchange of images is down goes on from the hub, and the
//! host says so; a host that was revoked comes back.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use api::access::HostTokenRequest;
use api::client::PageQuery;
use bollard::query_parameters::ListImagesOptionsBuilder;
use rig::stage::{PEERS_PORT, REGISTRY_PORT};

use crate::clients::free_address;
use crate::command_line::Running;
use crate::fanout::api;
use crate::lone::Lone;
use crate::rollout::version;
use crate::scene::{BINARY, LIMIT, Scene, folder, on_scene, refused};

/// What the hub says to do about a revoked host works.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_enrolled_again_with_a_new_token() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    enrolled_again(&hub, folder.path()).await.unwrap();
    rig::stage::end_processes(folder.path(), &[]).await.unwrap();
}

async fn enrolled_again(hub: &Lone, folder: &Path) -> anyhow::Result<()> {
    let (api, name, data) = (api(hub).await?, "back", folder.join("back"));
    let request = HostTokenRequest { host: Some(name.parse()?), labels: Default::default(), ttl_seconds: 60 };
    let (registry, mesh) = (free_address(), free_address());
    let start = |token: &str| {
        let mut command = Command::new(BINARY);
        command.arg("--data").arg(&data).args(["agent", "--name", name, "--hub-agent", &hub.agents.to_string()]);
        command.args(["--registry", &registry, "--mesh", &mesh, "--address", "127.0.0.1", "--no-peers"]);
        command.args(["--engine", &format!("unix://{}", folder.join("no-engine").display()), "--join", token]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Running)
    };
    let heard = || {
        let (api, begun) = (&api, api::Micros::now());
        rig::until("the hub does not hear from the host", LIMIT, move || async move {
            let known = api.host_list(&PageQuery::default()).await.ok()?.items.pop()?;
            known.report.filter(|report| report.clock > begun)
        })
    };
    let first = api.host_token_create(&request).await?.token;
    let running = start(&first)?;
    heard().await?;
    drop(running);
    // The token that it has had for ever does no harm.
    let running = start(&first)?;
    heard().await?;
    ensure!(api.host_revoke(&name.parse()?).await?.certificates == 1);
    drop(running);
    let key = std::fs::read(data.join("key.pem"))?;
    let _running = start(&api.host_token_create(&request).await?.token)?;
    heard().await?;
    ensure!(std::fs::read(data.join("key.pem"))? != key, "it has the key that may be known to others");
    Ok(())
}

#[test]
fn a_rollout_goes_on_from_the_hub_when_a_hosts_fan_out_is_down_and_the_host_says_so() {
    on_scene(folder("tests/app"), |mut scene| async move {
        let result = down(&mut scene).await;
        (scene, result)
    });
}

async fn down(scene: &mut Scene) -> anyhow::Result<()> {
    // Alone: what one host of an engine has pulled, the engine has for all.
    let host = scene.hosts[0];
    let environments = format!("environments: {{prod: {{target: {{docker: {{hosts: [{host}]}}}}}}}}");
    scene.client().env_apply(environments, "environments.yaml", false).await.map_err(refused)?;
    scene.build().await?;
    released(scene, host, REGISTRY_PORT).await?;

    // Its store is broken.
    scene.stage.agent_kill(host)?;
    let store = data(scene, host).join("fanout");
    let aside = store.with_extension("aside");
    std::fs::rename(&store, &aside)?;
    std::fs::write(&store, "no folder")?;
    scene.stage.agent_start(host)?;
    version(scene, 2).await?;
    released(scene, host, REGISTRY_PORT).await?;
    said(scene, host, "images come from the hub alone").await?;

    // Somebody else has its ports, and never answers there.
    scene.stage.agent_kill(host)?;
    std::fs::remove_file(&store)?;
    std::fs::rename(&aside, &store)?;
    let address = |port| scene.stage.published(host, port);
    let _others = [TcpListener::bind(address(REGISTRY_PORT)?)?, TcpListener::bind(address(PEERS_PORT)?)?];
    scene.stage.agent_start(host)?;
    version(scene, 3).await?;
    let port = said(scene, host, "the host's registry is on ").await?;
    said(scene, host, "other agents are to reach this one on ").await?;
    let port = port.split(':').nth(1).and_then(|rest| rest.split(' ').next()).context(port.clone())?.parse()?;
    ensure!(port != REGISTRY_PORT, "{port}");
    released(scene, host, port).await
}

fn data(scene: &Scene, host: &str) -> PathBuf {
    scene.stage.data().with_file_name(host)
}

/// Rolls out what was built last; the engine gets it from the host's registry on this port.
async fn released(scene: &Scene, host: &str, port: u16) -> anyhow::Result<()> {
    // The engine that builds is the host's: it has what it built under the hub's name.
    let hub = scene.stage.registries().swap_remove(0);
    let images = scene.docker.list_images(Some(ListImagesOptionsBuilder::default().all(false).build())).await?;
    for name in images.iter().flat_map(|image| image.repo_tags.iter().chain(&image.repo_digests)) {
        if name.starts_with(&hub) {
            rig::engine::run(Command::new("docker").args(["image", "rm", "--force", name]))?;
        }
    }
    let plan = scene.promote("app", "prod").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    let overview = scene.client().overview().await.map_err(refused)?;
    let web = overview.apps.iter().flat_map(|app| &app.services).find(|service| service.service.as_str() == "web");
    let there = web.and_then(|web| web.environments.get("prod")).context("web is not in prod")?;
    let registry = scene.stage.published(host, port)?;
    // The job beside it has the same image, and one pull does for both.
    let is_pulled = |name: &String| {
        name.starts_with(&format!("{registry}/app/")) && name.ends_with(&format!("@{}", there.release.digest))
    };
    let images = scene.docker.list_images(Some(ListImagesOptionsBuilder::default().build())).await?;
    let names: Vec<String> = images.into_iter().flat_map(|image| image.repo_digests).collect();
    ensure!(names.iter().any(is_pulled), "{} was not pulled from {registry}: {names:#?}", there.release.digest);
    Ok(())
}

/// The words with which the host says so: to the hub, to whoever asks on its machine, and in its log.
async fn said(scene: &Scene, host: &str, words: &str) -> anyhow::Result<String> {
    let told = rig::until(&format!("the hub does not hear: {words}"), LIMIT, || async {
        let hosts = scene.stage.hosts().await.ok()?;
        let report = hosts.into_iter().find(|known| known.name.as_str() == host)?.report?;
        report.warnings.into_iter().find(|warning| warning.contains(words))
    })
    .await?;
    let mut status = Command::new(BINARY);
    let status = rig::engine::run(status.arg("--data").arg(data(scene, host)).args(["agent", "status"]))?;
    ensure!(status.contains(words), "{status}");
    let log = std::fs::read_to_string(data(scene, host).with_extension("log"))?;
    ensure!(log.contains(words), "the log does not say so: {words}");
    Ok(told)
}
