//! The laptop: its engine, its commands, and what is served on it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    RemoveVolumeOptionsBuilder,
};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::process::Command;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::tunnel;

/// How long one command, or one page, may take.
const LIMIT: Duration = Duration::from_secs(300);
/// How often a page is asked for until it is there.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How many answers are waited for at once.
const ASKED_MAX: usize = 32;

/// A laptop.
pub(crate) struct Laptop {
    binary: PathBuf,
    folder: PathBuf,
    /// Where the hub is found on this laptop's loopback.
    pub(crate) hub_port: u16,
    pub(crate) docker: Docker,
    http: reqwest::Client,
    _tunnel: AbortOnDropHandle<()>,
}

impl Laptop {
    pub(crate) async fn new(binary: PathBuf, folder: &Path) -> anyhow::Result<Self> {
        let (port, tunnel) = tunnel::inner(&folder.join("tunnel")).await?;
        // DOCKER_HOST names the laptop's engine.
        let docker = rig::engine::ensure().await?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Self { binary, folder: folder.to_owned(), hub_port: port, docker, http, _tunnel: tunnel })
    }

    /// A folder of the laptop's.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A project with this Compose file.
    pub(crate) fn project(&self, name: &str, compose: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("compose.yaml"), compose)?;
        Ok(folder)
    }

    pub(crate) fn longshore(&self, checkout: &Path, line: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(line.split_whitespace()).env("LONGSHORE_HUB", format!("http://127.0.0.1:{}", self.hub_port));
        command.env("XDG_STATE_HOME", self.folder.join("state"));
        quiet(command, checkout)
    }

    pub(crate) fn docker_compose(checkout: &Path, line: &str) -> Command {
        let mut command = Command::new("docker-compose");
        command.args(line.split_whitespace());
        quiet(command, checkout)
    }

    /// Waits for the page, and gives what it holds. Asks again before an answer came: a connection to a container that is
    /// just being restarted hangs for a second.
    pub(crate) async fn page(&self, url: &str, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let begun = Instant::now();
        let mut asked = FuturesUnordered::new();
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while begun.elapsed() < LIMIT {
            tokio::select! {
                _ = ask.tick(), if asked.len() < ASKED_MAX => asked.push(async {
                    self.http.get(url).send().await.ok()?.error_for_status().ok()?.text().await.ok()
                }),
                Some(answer) = asked.next() => {
                    if let Some(text) = answer.filter(|text| wanted(text)) {
                        return Ok(text);
                    }
                }
            }
        }
        anyhow::bail!("{url} does not show what is wanted")
    }

    /// Removes all containers and volumes, with the networks that nothing uses any more.
    pub(crate) async fn tidy(&self) -> anyhow::Result<()> {
        let all = ListContainersOptionsBuilder::default().all(true).build();
        for id in self.docker.list_containers(Some(all)).await?.into_iter().filter_map(|found| found.id) {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            self.docker.remove_container(&id, Some(options)).await?;
        }
        let volumes = self.docker.list_volumes(None::<bollard::query_parameters::ListVolumesOptions>).await?;
        for volume in volumes.volumes.unwrap_or_default() {
            let options = RemoveVolumeOptionsBuilder::default().force(true).build();
            self.docker.remove_volume(&volume.name, Some(options)).await?;
        }
        self.docker.prune_networks(None::<bollard::query_parameters::PruneNetworksOptions>).await?;
        Ok(())
    }

    /// Removes everything, images too.
    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        self.tidy().await?;
        let all = ListImagesOptionsBuilder::default().all(false).build();
        for image in self.docker.list_images(Some(all)).await? {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            self.docker.remove_image(&image.id, Some(options), None).await?;
        }
        Ok(())
    }
}

fn quiet(mut command: Command, checkout: &Path) -> Command {
    command.current_dir(checkout).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a command to its end, and says how many seconds that took.
pub(crate) async fn timed(mut command: Command) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let output =
        tokio::time::timeout(LIMIT, command.output()).await.with_context(|| format!("{command:?} does not end"))??;
    let took = begun.elapsed().as_secs_f64();
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {error}", output.status);
    Ok(took)
}
