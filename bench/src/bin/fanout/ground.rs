//! A hub and hosts as processes of the real binary, each in a network of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::status::{AgentStatus, ask};
use anyhow::{Context as _, ensure};
use api::access::HostTokenRequest;
use api::client::HubClient;
use base::guard::TokenFile;
use oci::{Digest, media};
use rig::lines::{Lines, Passed};
use rig::namespaces::Place;
use serde_json::{Value, json};

/// The hub's name among the hosts.
pub(crate) const HUB: &str = "hub";
/// Where what is pulled is on the hub.
pub(crate) const REPOSITORY: &str = "bench/app";
pub(crate) const TAG: &str = "v1";
/// How long a process may take until it answers, in seconds.
const PROCESS_SECONDS_MAX: u64 = 60;
/// How long the hub listens before it plans, and some more: whoever measures from cold does not measure its start.
const HUB_WARM: Duration = Duration::from_millis(2500);
const TOKEN_SECONDS: u64 = 600;

pub(crate) struct Ground {
    // Hosts end before their network does.
    _hub: Process,
    pub(crate) hosts: Vec<Host>,
    pub(crate) lines: Lines,
    folder: PathBuf,
}

pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) data: PathBuf,
    process: Option<Process>,
}

/// A process that ends when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Ok(Self(child.with_context(|| format!("{:?} cannot be started", command.get_program()))?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The names of so many hosts.
fn names(hosts: usize) -> Vec<String> {
    (1..=hosts).map(|number| format!("host-{number}")).collect()
}

impl Ground {
    /// Networks for a hub and so many hosts, and the hub, which has the image; no agents yet, and no limits.
    pub(crate) async fn start(binary: &Path, folder: &Path, hosts: usize, layers: &[Vec<u8>]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let names = names(hosts);
        let lines = Lines::start(&names.iter().map(String::as_str).chain([HUB]).collect::<Vec<_>>())?;
        let place = lines.host(HUB)?.clone();
        let data = folder.join(HUB);
        let mut command = place.command(binary);
        command.arg("--data").arg(&data).args(["hub", "--insecure", "--listen", &format!("{}:5000", place.address)]);
        command.args(["--agent-listen", &format!("{}:5001", place.address)]);
        let hub = Process::start(command, &folder.join("hub.log"))?;
        let host = |name: String| {
            let place = lines.host(&name)?.clone();
            anyhow::Ok(Host { place, data: folder.join(&name), name, process: None })
        };
        let hosts = names.into_iter().map(host).collect::<anyhow::Result<_>>()?;
        let ground = Self { _hub: hub, hosts, lines, folder: folder.to_owned() };
        hub_filled(&ground.url()?, &[], layers).await?;
        tokio::time::sleep(HUB_WARM).await;
        Ok(ground)
    }

    /// Where the hub's registry is.
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}:5000", self.lines.host(HUB)?.address))
    }

    /// Starts the agents, with these flags besides, and waits until each is enrolled and answers.
    pub(crate) async fn agents_start(&mut self, binary: &Path, flags: &[&[&str]]) -> anyhow::Result<()> {
        let (hub, url) = (self.lines.host(HUB)?.address, self.url()?);
        for (host, flags) in self.hosts.iter_mut().zip(flags.iter().cycle()) {
            let token = token(&url, &self.folder.join(HUB), &host.name).await?;
            let address = host.place.address;
            let mut command = host.place.command(binary);
            command.arg("--data").arg(&host.data).args(["agent", "--name", &host.name, "--join", &token]);
            command.args(["--hub-agent", &format!("{hub}:5001"), "--registry", "127.0.0.1:5100"]);
            command.args(["--address", &address.to_string(), "--mesh", &format!("{address}:5200")]);
            command.args(["--peers", &format!("{address}:5101")]).args(*flags);
            // No engine: a client asks the host's registry as an engine does.
            command.args(["--engine", &format!("unix://{}", self.folder.join("no-engine").display())]);
            host.process = Some(Process::start(command, &self.folder.join(format!("{}.log", host.name)))?);
        }
        for host in &self.hosts {
            let limit = Duration::from_secs(PROCESS_SECONDS_MAX);
            rig::until("an agent does not answer", limit, || async { ask(&host.data).await.ok() }).await.with_context(
                || std::fs::read_to_string(self.folder.join(format!("{}.log", host.name))).unwrap_or_default(),
            )?;
        }
        Ok(())
    }

    /// What passed each host's line and the hub's since `before`, in bytes.
    pub(crate) fn passed_since(&self, before: &BTreeMap<String, Passed>) -> anyhow::Result<BTreeMap<String, Passed>> {
        let now = self.lines.passed()?;
        Ok(now
            .into_iter()
            .map(|(name, now)| {
                let before = before.get(&name).copied().unwrap_or_default();
                (name, Passed { sent: now.sent - before.sent, received: now.received - before.received })
            })
            .collect())
    }
}

/// Waits for a hub, and pushes an image there: layers, and the digests of what they unpack to.
pub(crate) async fn hub_filled(hub: &str, diff_ids: &[Digest], layers: &[Vec<u8>]) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    rig::until("the hub does not answer", Duration::from_secs(PROCESS_SECONDS_MAX), || async {
        client.get(format!("{hub}/healthz")).send().await.ok()?.error_for_status().ok()
    })
    .await?;
    let base = format!("{hub}/v2/{REPOSITORY}");
    let config = config(diff_ids);
    for content in layers.iter().chain([&config]) {
        let url = format!("{base}/blobs/uploads/?digest={}", Digest::sha256_of(content));
        client
            .post(url)
            .body(content.clone())
            .send()
            .await?
            .error_for_status()
            .context("the image cannot be pushed")?;
    }
    let descriptor = |media_type: &str, content: &[u8]| json!({ "mediaType": media_type, "digest": Digest::sha256_of(content), "size": content.len() });
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(media::OCI_LAYER_GZIP, layer)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, &config), "layers": layers,
    });
    let put = client.put(format!("{base}/manifests/{TAG}")).header("content-type", media::OCI_MANIFEST);
    put.body(manifest.to_string()).send().await?.error_for_status().context("the manifest cannot be pushed")?;
    Ok(())
}

/// The configuration of an image with these layers.
pub(crate) fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    json!({ "os": "linux", "architecture": "amd64", "config": {}, "rootfs": rootfs }).to_string().into_bytes()
}

/// A token to enrol a host with the hub at `url`, whose data is in a folder.
pub(crate) async fn token(url: &str, data: &Path, host: &str) -> anyhow::Result<String> {
    let failed = |problem| anyhow::anyhow!("{problem:?}");
    let api = HubClient::new(url.parse()?, TokenFile::read(data)?).map_err(failed)?;
    let request = HostTokenRequest { host: Some(host.parse()?), labels: BTreeMap::new(), ttl_seconds: TOKEN_SECONDS };
    Ok(api.host_token_create(&request).await.map_err(failed)?.token)
}

impl Host {
    pub(crate) async fn status(&self) -> anyhow::Result<AgentStatus> {
        Ok(ask(&self.data).await?)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref();
        process.map(Process::id).with_context(|| format!("the agent of {} does not run", self.name))
    }

    /// Bytes of blobs that this host had from the hub, by the exchange or past it.
    pub(crate) async fn hub_bytes(&self) -> anyhow::Result<u64> {
        let status = self.status().await?;
        ensure!(status.trouble.is_none(), "{}: {:?}", self.name, status.trouble);
        Ok(status.images.iter().map(|image| image.from_hub).sum())
    }
}
