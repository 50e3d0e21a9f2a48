//! A hub by itself, without hosts, and images that are pushed to it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci::{Digest, media};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::command_line::Running;
use crate::scene::BINARY;

/// How long a hub may take to start or to stop.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) struct Lone {
    running: Running,
    pub(crate) host: String,
    /// Its agent port.
    pub(crate) agents: SocketAddr,
    pub(crate) data: PathBuf,
    pub(crate) client: reqwest::Client,
}

impl Lone {
    /// Starts a hub with its data in a folder, with this `hub.toml` and these variables besides.
    pub(crate) fn start(data: &Path, configuration: &str, environment: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(data).unwrap();
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
        let (host, agents) = (free(), free());
        std::fs::write(data.join("hub.toml"), configuration).unwrap();
        let running = run(data, &host, &agents, environment);
        Self { running, host, agents: agents.parse().unwrap(), data: data.to_owned(), client: reqwest::Client::new() }
    }

    /// `kill -9`, and the same again.
    pub(crate) fn kill_and_start(&mut self) {
        self.running.0.kill().unwrap();
        self.running.0.wait().unwrap();
        self.running = run(&self.data, &self.host, &self.agents.to_string(), &[]);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    /// Pushes an image with this configuration and these layers, and gives its digest.
    pub(crate) async fn push(&self, repository: &str, tag: &str, config: &Value, layers: &[Bytes]) -> Digest {
        let config = Bytes::from(config.to_string());
        let descriptor = |media_type: &str, content: &Bytes| json!({ "mediaType": media_type, "digest": Digest::sha256_of(content), "size": content.len() });
        for content in layers.iter().chain([&config]) {
            let digest = Digest::sha256_of(content);
            let url = self.url(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
            self.client.post(url).body(content.clone()).send().await.unwrap().error_for_status().unwrap();
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": descriptor(media::OCI_CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(media::OCI_LAYER, layer)).collect::<Vec<_>>(),
        });
        let put = self.client.put(self.url(&format!("/v2/{repository}/manifests/{tag}")));
        let put = put.header("content-type", media::OCI_MANIFEST).body(manifest.to_string());
        put.send().await.unwrap().error_for_status().unwrap();
        Digest::sha256_of(manifest.to_string().as_bytes())
    }

    /// Asks the hub to stop and waits until it has.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.running.0), Signal::TERM).unwrap();
        let begun = Instant::now();
        while self.running.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LIMIT, "the hub does not stop");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn run(data: &Path, host: &str, agents: &str, environment: &[(&str, &str)]) -> Running {
    let mut command = Command::new(BINARY);
    command.args(["hub", "--listen", host, "--agent-listen", agents, "--data"]).arg(data);
    command.arg("--config").arg(data.join("hub.toml"));
    command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    let begun = Instant::now();
    // It listens a moment before it has made its token: whoever read it then would make another.
    while TcpStream::connect(host).is_err() || !data.join("token").exists() {
        assert!(begun.elapsed() < LIMIT, "the hub does not answer at {host}");
        std::thread::sleep(LOOK_INTERVAL);
    }
    running
}
