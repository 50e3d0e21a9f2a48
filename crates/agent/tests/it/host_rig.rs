//! A host with the real engine: the agent and its proxy as processes of their own, images made for the test, and a load
//! that does not retry. All of it goes when the rig goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agent::{Agent, AgentConfig};
use api::delivery::ImageAddress;
use engine::{Address, Subnet};
use oci::Digest;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::fake_hub::{Blob, FakeHub};

const AGENT_VARIABLE: &str = "LONGSHORE_TEST_AGENT";
const PROXY_VARIABLE: &str = "LONGSHORE_TEST_PROXY";
const SERVER: &str = r#"
use IO::Socket::INET;
$SIG{CHLD} = 'IGNORE';
$| = 1;
my $socket = IO::Socket::INET->new(LocalPort => 8080, Listen => 128, ReuseAddr => 1) or die "no socket";
$SIG{TERM} = sub { exit 0 };
print "version $ENV{VERSION} is ready\n";
while (1) {
    my $client = $socket->accept or next;
    if (fork) { close $client; next }
    while (my $line = <$client>) { last if $line =~ /^\r?\n$/ }
    select(undef, undef, undef, 0.05);
    print $client "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n$ENV{VERSION}";
    close $client;
    exit 0;
}
"#;

#[derive(Serialize, Deserialize)]
struct AgentSettings {
    hub: String,
    data: PathBuf,
    token: String,
    host: String,
    publish: IpAddr,
    mesh: SocketAddr,
    registry: SocketAddr,
    program: PathBuf,
    control: PathBuf,
}

/// Not a test of its own: the agent's process, when the rig starts this binary for it.
#[tokio::test(flavor = "multi_thread")]
async fn agent_process() {
    let Ok(settings) = std::env::var(AGENT_VARIABLE) else { return };
    let settings: AgentSettings = serde_json::from_str(&settings).unwrap();
    let config = AgentConfig {
        hub: settings.hub,
        data: settings.data,
        token: Some(settings.token),
        host: settings.host.parse().unwrap(),
        labels: BTreeMap::new(),
        publish: settings.publish,
        mesh: settings.mesh,
        registry: settings.registry,
        peers: None,
        is_edge: false,
        upload_bytes_per_second: None,
        download_bytes_per_second: None,
        store_bytes_max: 1 << 30,
        mirrored: fanout::local::Names::default(),
        engine: Address::from_environment().unwrap(),
        docker_labels: BTreeMap::from([("dev.longshore.test".to_owned(), settings.host)]),
        program: settings.program,
        control: settings.control,
    };
    Agent::run(config, CancellationToken::new()).await.unwrap();
}

/// Not a test of its own: the proxy's process.
#[tokio::test(flavor = "multi_thread")]
async fn proxy_process() {
    let Ok(paths) = std::env::var(PROXY_VARIABLE) else { return };
    let (control, state) = paths.split_once('|').unwrap();
    agent::proxy::run(agent::proxy::ProxyConfig::new(control, state), CancellationToken::new()).await.unwrap();
}

/// A host on the real engine.
pub(crate) struct HostRig {
    pub(crate) hub: FakeHub,
    pub(crate) host: String,
    pub(crate) publish: SocketAddr,
    folder: tempfile::TempDir,
    settings: AgentSettings,
    agent: Option<Child>,
    images: Vec<String>,
}

fn free(address: &str) -> SocketAddr {
    std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl HostRig {
    pub(crate) async fn start() -> Self {
        let hub = FakeHub::start().await;
        let folder = tempfile::tempdir().unwrap();
        let host = format!("t{}", &uuid::Uuid::now_v7().simple().to_string()[20..]);
        let program = folder.path().join("longshore");
        let binary = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\n{PROXY_VARIABLE}=\"$3|$5\" exec {} --exact host_rig::proxy_process --nocapture\n",
            binary.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let publish = free("127.0.0.1");
        let settings = AgentSettings {
            hub: hub.address.to_string(),
            data: folder.path().join("data"),
            token: hub.token.clone(),
            host: host.clone(),
            publish: publish.ip(),
            mesh: free("127.0.0.1"),
            registry: free("127.0.0.1"),
            program,
            control: folder.path().join("proxy.sock"),
        };
        Self { hub, host, publish, folder, settings, agent: None, images: Vec::new() }
    }

    pub(crate) fn agent_start(&mut self) {
        let path = self.folder.path().join("agent.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host_rig::agent_process", "--nocapture"])
            .env(AGENT_VARIABLE, serde_json::to_string(&self.settings).unwrap())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    /// `kill -9`.
    pub(crate) fn agent_kill(&mut self) {
        let mut child = self.agent.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// An image that answers with its version, in the hub's registry alone.
    pub(crate) fn image(&mut self, version: &str) -> ImageAddress {
        let tag = format!("longshore-test/{}:{version}", self.host);
        let context = tempfile::tempdir().unwrap();
        std::fs::write(context.path().join("server.pl"), SERVER).unwrap();
        let dockerfile = format!(
            "FROM debian:bookworm-slim\nCOPY server.pl /server.pl\nENV VERSION={version} HOST={}\nCMD [\"perl\", \"/server.pl\"]\n",
            self.host
        );
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        docker(&["build", "-q", "-t", &tag, &context.path().to_string_lossy()]);
        let saved = context.path().join("image.tar");
        docker(&["save", "-o", &saved.to_string_lossy(), &tag]);
        docker(&["rmi", &tag]);
        let repository = "vote/web";
        let manifest = self.upload(&std::fs::read(saved).unwrap(), repository);
        ImageAddress { repository: repository.parse().unwrap(), digest: manifest }
    }

    fn upload(&mut self, saved: &[u8], repository: &str) -> Digest {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut archive = tar::Archive::new(saved);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        let listing: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let put = |name: &str, media_type: &str| {
            let bytes = files[name].clone();
            let digest = Digest::sha256_of(&bytes).to_string();
            let size = bytes.len();
            let blob =
                Blob { media_type: "application/octet-stream".into(), digest: digest.clone(), bytes: bytes.into() };
            self.hub.blob(format!("/v2/{repository}/blobs/{digest}"), blob);
            serde_json::json!({"mediaType": media_type, "size": size, "digest": digest})
        };
        let config = put(listing[0]["Config"].as_str().unwrap(), "application/vnd.docker.container.image.v1+json");
        let layers: Vec<_> = listing[0]["Layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| put(layer.as_str().unwrap(), "application/vnd.docker.image.rootfs.diff.tar"))
            .collect();
        let media_type = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
        });
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = Digest::sha256_of(&bytes);
        let blob = Blob { media_type: media_type.to_owned(), digest: digest.to_string(), bytes: bytes.into() };
        self.hub.blob(format!("/v2/{repository}/manifests/{digest}"), blob);
        self.images.push(format!("{}/{repository}@{digest}", self.settings.registry));
        digest
    }

    pub(crate) fn proxy_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/proxy.log")).unwrap_or_default()
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        let filter = format!("label=dev.longshore.host={}", self.host);
        docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]).lines().map(str::to_owned).collect()
    }

    /// The host's networks.
    pub(crate) fn networks(&self) -> Vec<String> {
        let filter = format!("label=dev.longshore.host={}", self.host);
        docker(&["network", "ls", "-q", "--filter", &filter]).lines().map(str::to_owned).collect()
    }

    /// The halves of the host's networks that have a route now, as `ADDRESS/BITS`.
    pub(crate) fn routed(&self) -> BTreeSet<String> {
        let halves: BTreeSet<String> = subnets_of(&self.networks()).into_iter().map(upper_half).collect();
        routes().intersection(&halves).cloned().collect()
    }

    /// Routes of Longshore to networks that the engine does not have.
    pub(crate) fn routes_without_network(&self) -> BTreeSet<String> {
        let routes = routes();
        let all: Vec<String> = docker(&["network", "ls", "-q"]).lines().map(str::to_owned).collect();
        let halves: BTreeSet<String> = subnets_of(&all).into_iter().map(upper_half).collect();
        routes.difference(&halves).cloned().collect()
    }

    /// Counts, again and again, the containers that run on one of the app's volumes.
    pub(crate) fn watch_volume(&self, volume: &str) -> VolumeWatch {
        let filter = format!("volume=longshore-{}-prod-vote-{volume}", self.host);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut seen = BTreeSet::new();
            while !stopping.load(Ordering::Relaxed) {
                seen.insert(docker(&["ps", "-q", "--filter", &filter]).lines().count());
                std::thread::sleep(Duration::from_millis(50));
            }
            seen
        });
        VolumeWatch { stop, task }
    }
}

/// Numbers of containers that were seen on a volume.
pub(crate) struct VolumeWatch {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<BTreeSet<usize>>,
}

impl VolumeWatch {
    pub(crate) async fn stop(mut self) -> BTreeSet<usize> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await.unwrap()
    }
}

impl Drop for VolumeWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Subnets of these networks; one that went meanwhile has none.
fn subnets_of(networks: &[String]) -> Vec<Subnet> {
    let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
    let inspected = Command::new("docker").args(["network", "inspect", "--format", format]).args(networks).output();
    let text = inspected.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().filter_map(|subnet| subnet.parse().ok()).collect()
}

fn upper_half(subnet: Subnet) -> String {
    let lower = subnet.lower_half();
    format!("{}/{}", std::net::Ipv4Addr::from_bits(lower.broadcast().to_bits() + 1), lower.prefix_bits())
}

/// The local routes of Longshore on this machine, as `ADDRESS/BITS`.
fn routes() -> BTreeSet<String> {
    let protocol = agent::routes::ROUTE_PROTOCOL.to_string();
    let listed = Command::new("ip").args(["route", "show", "table", "local", "proto", &protocol]).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

#[allow(clippy::print_stderr, reason = "the logs of a test that failed are for whoever reads its output")]
impl Drop for HostRig {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let control = self.settings.control.with_extension("sock.lock");
        let pid = std::fs::read_to_string(control).ok().and_then(|pid| pid.trim().parse::<i32>().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default();
            eprintln!("the agent's log:\n{log}\nthe proxy's log:\n{}", self.proxy_log());
        }
        let label = format!("label=dev.longshore.host={}", self.host);
        let own = |kind: &[&str], remove: &[&str]| {
            let listed = Command::new("docker").args(kind).args(["-q", "--filter", &label]).output();
            let ids = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            for id in ids.lines() {
                let _ = Command::new("docker").args(remove).arg(id).output();
            }
        };
        own(&["ps", "-a"], &["rm", "-f"]);
        for subnet in subnets_of(&self.networks()) {
            let _ = Command::new("ip").args(["route", "del", "local", &upper_half(subnet), "dev", "lo"]).output();
        }
        own(&["network", "ls"], &["network", "rm"]);
        own(&["volume", "ls"], &["volume", "rm"]);
        for image in &self.images {
            let _ = Command::new("docker").args(["rmi", image]).output();
        }
    }
}

/// A load that counts and does not retry.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) failures: Arc<std::sync::Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Four clients: two on kept-alive connections, two on a new one for each request.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let failures = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks = (0..4)
            .map(|client| {
                let (stop, sent, failures) = (stop.clone(), sent.clone(), failures.clone());
                tokio::spawn(async move {
                    let mut kept: Option<TcpStream> = None;
                    while !stop.load(Ordering::Relaxed) {
                        sent.fetch_add(1, Ordering::Relaxed);
                        let mut stream = match kept.take() {
                            Some(stream) => stream,
                            None => match TcpStream::connect(address).await {
                                Ok(stream) => stream,
                                Err(error) => {
                                    failures.lock().unwrap().push(error.to_string());
                                    continue;
                                }
                            },
                        };
                        match ask(&mut stream).await {
                            Ok(_version) if client % 2 == 0 => kept = Some(stream),
                            Ok(_version) => {}
                            Err(error) => failures.lock().unwrap().push(error),
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                })
            })
            .collect();
        Self { stop, sent, failures, tasks }
    }

    /// Ends it; how many requests were sent, and what failed.
    pub(crate) async fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        (self.sent.load(Ordering::Relaxed), self.failures.lock().unwrap().clone())
    }
}

/// One request on this connection; the version that answered.
pub(crate) async fn ask(stream: &mut TcpStream) -> Result<String, String> {
    let exchange = async {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await?;
        let mut answer = Vec::new();
        loop {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).await?;
            if read == 0 {
                return Err(std::io::Error::other(format!("cut short: {}", String::from_utf8_lossy(&answer))));
            }
            answer.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                if !head.starts_with("HTTP/1.1 200") {
                    return Err(std::io::Error::other(format!("{head} {body}")));
                }
                if !body.is_empty() {
                    return Ok(body.to_owned());
                }
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(40), exchange).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}
