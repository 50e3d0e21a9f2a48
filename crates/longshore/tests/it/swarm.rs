//! Hosts exchange an image by the real binary, while the hub and agents go away in the middle of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent::status::{AgentStatus, ImageStatus, ask};
use anyhow::{Context as _, ensure};
use api::access::HostTokenRequest;
use api::client::PageQuery;
use bytes::Bytes;
use oci::{Digest, Document};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::clients::free_address;
use crate::command_line::Running;
use crate::fanout::api;
use crate::lone::Lone;
use crate::scene::BINARY;

pub(crate) const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const LAYER_BYTES: usize = 24 << 20;
/// What a host receives a second: an image takes so long that much can happen meanwhile.
pub(crate) const RATE: &str = "3MiB";
const REPOSITORY: &str = "app/web";

/// A machine with an agent and without an engine: its registry is asked by the test.
pub(crate) struct Host {
    pub(crate) process: Running,
    pub(crate) data: PathBuf,
    registry: String,
    arguments: Vec<String>,
}

impl Host {
    pub(crate) async fn start(hub: &Lone, folder: &Path, name: &str, more: &[&str]) -> anyhow::Result<Self> {
        let request = HostTokenRequest { host: Some(name.parse()?), labels: Default::default(), ttl_seconds: 60 };
        let token = api(hub).await?.host_token_create(&request).await?.token;
        let (data, registry) = (folder.join(name), free_address());
        let engine = format!("unix://{}", folder.join("no-engine").display());
        let arguments = ["agent", "--name", name, "--hub-agent", &hub.agents.to_string(), "--registry", &registry]
            .into_iter()
            .chain(["--mesh", &free_address(), "--address", "127.0.0.1", "--peers", "127.0.0.1:0"])
            .chain(["--engine", &engine, "--join", &token])
            .chain(more.iter().copied())
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>();
        let process = spawn(&data, &arguments);
        let host = Self { process, data, registry, arguments };
        host.status().await?;
        Ok(host)
    }

    /// `kill -9`, and the same again.
    async fn kill_and_start(&mut self) -> anyhow::Result<()> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        self.process = spawn(&self.data, &self.arguments);
        self.status().await.map(|_| ())
    }

    pub(crate) async fn status(&self) -> anyhow::Result<AgentStatus> {
        rig::until("an agent does not answer", LIMIT, || async { ask(&self.data).await.ok() }).await
    }

    /// How the image stands; nothing of it while nobody asked for it.
    pub(crate) async fn image(&self) -> anyhow::Result<Option<ImageStatus>> {
        Ok(self.status().await?.images.into_iter().find(|image| image.bytes > 0))
    }

    /// Pulls as a runtime does: the manifest, then its blobs side by side.
    fn pull(&self) -> JoinHandle<anyhow::Result<()>> {
        self.pull_tag("v1")
    }

    pub(crate) fn pull_tag(&self, tag: &str) -> JoinHandle<anyhow::Result<()>> {
        let base = format!("http://{}/v2/{REPOSITORY}", self.registry);
        let manifest = format!("{base}/manifests/{tag}");
        tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
            let get = |url: String| {
                let client = client.clone();
                async move { anyhow::Ok(client.get(url).send().await?.error_for_status()?.bytes().await?) }
            };
            let manifest = get(manifest).await?;
            let blobs: Vec<Digest> =
                Document::parse(&manifest, Some(oci::media::OCI_MANIFEST))?.blobs().map(|blob| blob.digest).collect();
            let blobs = blobs.into_iter().map(|digest| {
                let content = get(format!("{base}/blobs/{digest}"));
                async move {
                    ensure!(Digest::sha256_of(&content.await?) == digest, "{digest} has other bytes");
                    Ok(())
                }
            });
            futures::future::try_join_all(blobs).await.map(|_| ())
        })
    }
}

fn spawn(data: &Path, arguments: &[String]) -> Running {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(data.with_extension("log")).unwrap();
    let mut command = std::process::Command::new(BINARY);
    command.arg("--data").arg(data).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

async fn push(hub: &Lone) -> Digest {
    push_tag(hub, "v1", 0).await
}

/// An image of one large layer, another one for each `first`.
pub(crate) async fn push_tag(hub: &Lone, tag: &str, first: u64) -> Digest {
    let words = first..first + LAYER_BYTES as u64 / 8;
    let layer: Vec<u8> = words.flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let config = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [] } });
    hub.push(REPOSITORY, tag, &config, &[Bytes::from(layer)]).await
}

/// Where the bytes of the image came from so far, over all hosts.
#[derive(Debug, Default)]
struct Sum {
    bytes: u64,
    there: u64,
    from_hub: u64,
    from_peers: u64,
}

async fn sum(hosts: &[Host]) -> anyhow::Result<Sum> {
    let mut sum = Sum::default();
    for host in hosts {
        if let Some(image) = host.image().await? {
            sum.bytes = image.bytes;
            sum.there += image.bytes_there;
            sum.from_hub += image.from_hub;
            sum.from_peers += image.from_peers;
        }
    }
    Ok(sum)
}

pub(crate) fn logs(folder: &Path) -> String {
    let mut text = String::new();
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        if file.path().extension().is_some_and(|end| end == "log") {
            let log = std::fs::read_to_string(file.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            text.push_str(&format!("--- {}\n{end}\n", file.path().display()));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_complete_though_the_tracker_restarts_and_the_hub_stops_once_a_copy_is_out() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    let outcome = without_the_hub(hub, folder.path()).await;
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(folder.path())));
}

async fn without_the_hub(mut hub: Lone, folder: &Path) -> anyhow::Result<()> {
    push(&hub).await;
    let mut hosts = Vec::new();
    // Whoever comes late is slower, too: it is under way when the others are done, however long they took.
    for (name, rate) in [("host-a", RATE), ("host-b", RATE), ("late", "1MiB")] {
        hosts.push(Host::start(&hub, folder, name, &["--download-rate", rate]).await?);
    }
    let begun = Instant::now();
    let mut pulls = vec![hosts[0].pull(), hosts[1].pull()];
    let until = |what, is_enough: fn(&Sum) -> bool| {
        let hosts = &hosts;
        rig::until(what, LIMIT, move || async move { sum(hosts).await.ok().filter(is_enough) })
    };
    let early = until("nothing arrives", |sum| sum.from_hub > 0).await?;
    hub.kill_and_start();
    println!("the tracker was restarted after {:?}: {early:?}", begun.elapsed());
    until("not half of it arrives", |sum| sum.bytes > 0 && sum.there > sum.bytes).await?;
    pulls.push(hosts[2].pull());
    for pull in pulls.drain(..2) {
        pull.await??;
    }
    drop(hub);
    let out = sum(&hosts).await?;
    println!("the hub was stopped after {:?}: {out:?}", begun.elapsed());
    ensure!(out.there < 3 * out.bytes, "all was over before the hub stopped: {out:?}");
    for pull in pulls {
        pull.await??;
    }
    let end = sum(&hosts).await?;
    println!("all hosts have it after {:?}: {end:?}", begun.elapsed());
    // The host that came late gets a part from the hub anew, for others.
    ensure!(end.there == 3 * end.bytes && end.from_hub * 10 <= end.bytes * 15, "{end:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_goes_on_from_its_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    let outcome = killed(&hub, folder.path()).await;
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(folder.path())));
}

async fn killed(hub: &Lone, folder: &Path) -> anyhow::Result<()> {
    push(hub).await;
    let whole = Host::start(hub, folder, "whole", &[]).await?;
    whole.pull().await??;
    let mut host = Host::start(hub, folder, "killed", &["--download-rate", RATE]).await?;
    let pull = host.pull();
    let before = rig::until("nothing arrives", LIMIT, || async {
        host.image().await.ok()?.filter(|image| image.bytes_there > image.bytes / 3)
    })
    .await?;
    ensure!(before.bytes_there < before.bytes, "{before:?}");
    host.kill_and_start().await?;
    ensure!(pull.await?.is_err(), "a pull ended well through an agent that was killed");
    host.pull().await??;
    let after = host.image().await?.context("the image is gone")?;
    println!("killed at {} of {} bytes: {after:?}", before.bytes_there, before.bytes);
    ensure!(after.bytes_there == after.bytes && after.from_disk > before.bytes_there / 2, "{after:?}");
    ensure!(after.from_disk + after.from_peers + after.from_hub == after.bytes, "something came twice: {after:?}");
    let status = host.status().await?;
    ensure!(status.fallbacks.count == 0, "{status:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_go_on_from_the_hub_when_the_fan_out_is_down_and_the_host_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), "", &[]);
    let outcome = fan_out_down(&hub, folder.path()).await;
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(folder.path())));
}

async fn fan_out_down(hub: &Lone, folder: &Path) -> anyhow::Result<()> {
    push(hub).await;
    let mut host = Host::start(hub, folder, "down", &[]).await?;
    let store = host.data.join("fanout");
    std::fs::rename(&store, folder.join("away"))?;
    std::fs::write(&store, "no folder")?;
    host.kill_and_start().await?;
    host.pull().await??;
    let mut command = std::process::Command::new(BINARY);
    let told = rig::engine::run(command.arg("--data").arg(&host.data).args(["agent", "status"]))?;
    ensure!(told.contains("images come from the hub alone"), "{told}");
    let api = api(hub).await?;
    rig::until("the hub is not told that the fan-out is down", LIMIT, || async {
        let known = api.host_list(&PageQuery::default()).await.ok()?.items.pop()?;
        format!("{:?}", known.report?).contains("the fan-out is down").then_some(())
    })
    .await
}
