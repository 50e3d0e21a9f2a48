//! A hub and its hosts as processes of the real binary, each on loopback addresses of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use api::Micros;
use api::access::HostTokenRequest;
use api::client::{HubClient, PageQuery};
use api::delivery::{Host, Plan, PlanState};
use base::guard::TokenFile;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::namespaces::Places;

/// The hub's port on its address, for the API, pages and the registry.
pub(crate) const HUB_PORT: u16 = 5000;
/// The hub's port for agents.
pub(crate) const AGENT_PORT: u16 = 5001;
/// Where a host's proxy takes connections from other hosts.
const MESH_PORT: u16 = 5200;
/// Where agents reach one another.
pub const PEERS_PORT: u16 = 5101;
/// Where a host's agent is a registry for its engine.
pub const REGISTRY_PORT: u16 = 5100;
/// An agent has looked at its proxy again after so long.
const PROXY_LOOK_SECONDS: i64 = 3;
/// How often counts may change before they must stand still.
const SETTLE_LOOKS_MAX: usize = 8;
/// How long a process may take until it answers, or until it has ended.
const PROCESS_SECONDS_MAX: u64 = 30;

/// What a stage is made of.
pub struct Options {
    /// The `longshore` binary.
    pub binary: PathBuf,
    /// Where everything is kept; also how its processes are found again.
    pub folder: PathBuf,
    /// `127.A.B.`: the hub has number 1, hosts 11 and up.
    pub block: [u8; 2],
    /// A label (`KEY=VALUE`) for all that is made in the engine.
    pub label: String,
    /// Hosts with their labels.
    pub hosts: Vec<(&'static str, BTreeMap<String, String>)>,
    /// Whether builds use the machine's own network.
    pub host_network: bool,
}

/// A hub and its hosts.
pub struct Stage {
    options: Options,
    places: Option<Places>,
    client: HubClient,
    hub: Option<Process>,
    agents: BTreeMap<String, Process>,
}

/// A block of loopback addresses in which the hub's ports are free: `preferred` first, then by chance.
pub fn free_block(preferred: [u8; 2]) -> anyhow::Result<[u8; 2]> {
    let free = |block: [u8; 2]| {
        let address = Ipv4Addr::new(127, block[0], block[1], 1);
        [HUB_PORT, AGENT_PORT].iter().all(|&port| TcpListener::bind((address, port)).is_ok())
    };
    let seed = std::process::id();
    let others = (0..200_u32).map(|n| {
        let mixed = seed.wrapping_mul(2_654_435_761).wrapping_add(n.wrapping_mul(40_503));
        [(mixed >> 24) as u8 | 1, (mixed >> 16) as u8]
    });
    std::iter::once(preferred).chain(others).find(|&block| free(block)).context("no free loopback addresses")
}

impl Stage {
    /// Starts the hub, then the hosts, and waits until the hub has heard from each.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_on(options, None).await
    }

    /// The same, with hosts that are apart: each in a network of its own and with an engine of its own. The hub stays on
    /// this machine, and builds with its engine.
    pub async fn start_apart(options: Options, places: Places) -> anyhow::Result<Self> {
        Self::start_on(options, Some(places)).await
    }

    async fn start_on(options: Options, places: Option<Places>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&options.folder)?;
        let mut stage = Self {
            client: HubClient::new(hub_url(options.block), None).map_err(refused)?,
            hub: None,
            agents: BTreeMap::new(),
            places,
            options,
        };
        let network = if stage.options.host_network { "network = \"host\"\n" } else { "" };
        let (key, value) = stage.options.label.split_once('=').context("a label is KEY=VALUE")?;
        std::fs::write(
            stage.options.folder.join("hub.toml"),
            format!(
                "listen = \"{}:{HUB_PORT}\"\nagent_listen = \"{}:{AGENT_PORT}\"\ndata = {:?}\n\n[build]\n{network}labels = {{ {key:?} = {value:?} }}\n",
                stage.address(1),
                stage.agent_address(),
                stage.data().display().to_string(),
            ),
        )?;
        stage.hub_start().await?;
        let token = TokenFile::read(&stage.data()).context("the hub's token cannot be read")?;
        stage.client = HubClient::new(hub_url(stage.options.block), token).map_err(refused)?;
        for (name, _) in stage.options.hosts.clone() {
            stage.host_enrol(name).await?;
        }
        stage.hosts_up().await?;
        Ok(stage)
    }

    /// The hub's data folder.
    pub fn data(&self) -> PathBuf {
        self.options.folder.join("hub")
    }

    /// What talks to the hub.
    pub fn client(&self) -> &HubClient {
        &self.client
    }

    /// Where the overview page is.
    pub fn url(&self) -> String {
        self.client.hub().to_string()
    }

    /// The names that images have in the engine: on the hub, and on each host's agent.
    pub fn registries(&self) -> Vec<String> {
        registries(self.options.block, self.options.hosts.len())
    }

    /// Where a host publishes a port.
    pub fn published(&self, host: &str, port: u16) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::from((self.host_address(host)?, port)))
    }

    /// The process of an agent.
    pub fn agent_pid(&self, host: &str) -> Option<u32> {
        self.agents.get(host).map(|process| process.pid)
    }

    /// Starts the hub and waits until it answers.
    pub async fn hub_start(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.options.binary);
        command.arg("hub").arg("--config").arg(self.options.folder.join("hub.toml"));
        self.hub = Some(Process::start(command, &self.options.folder.join("hub.log"))?);
        self.hub_answers().await
    }

    async fn hub_answers(&self) -> anyhow::Result<()> {
        crate::until("the hub does not answer (see hub.log)", Duration::from_secs(PROCESS_SECONDS_MAX), || async {
            self.client.env_list().await.ok()
        })
        .await
        .map(|_| ())
        .with_context(|| self.log_end("hub.log"))
    }

    /// `kill -9` of the hub.
    pub fn hub_kill(&mut self) -> anyhow::Result<()> {
        self.hub.take().context("the hub does not run")?.kill()
    }

    /// `kill -9` of an agent. Its proxy lives on.
    pub fn agent_kill(&mut self, host: &str) -> anyhow::Result<()> {
        self.agents.remove(host).with_context(|| format!("the agent of {host} does not run"))?.kill()
    }

    /// Starts an agent that was enrolled before.
    pub fn agent_start(&mut self, host: &str) -> anyhow::Result<()> {
        self.agent_spawn(host, None)
    }

    async fn host_enrol(&mut self, host: &'static str) -> anyhow::Result<()> {
        let labels = self.options.hosts.iter().find(|(name, _)| *name == host).map(|(_, labels)| labels.clone());
        let request =
            HostTokenRequest { host: Some(host.parse()?), labels: labels.unwrap_or_default(), ttl_seconds: 600 };
        let token = self.client.host_token_create(&request).await.map_err(refused)?;
        self.agent_spawn(host, Some(&token.token))
    }

    fn agent_spawn(&mut self, host: &str, token: Option<&str>) -> anyhow::Result<()> {
        let address = self.host_address(host)?;
        let place = self.places.as_ref().map(|places| places.host(host)).transpose()?;
        let binary = &self.options.binary;
        let mut command = place.map_or_else(|| Command::new(binary), |place| place.command(binary));
        command.arg("agent").arg("--data").arg(self.options.folder.join(host));
        command.args(["--name", host, "--hub-agent", &format!("{}:{AGENT_PORT}", self.agent_address())]);
        command.args(["--address", &address.to_string(), "--mesh", &format!("{address}:{MESH_PORT}")]);
        command.args(["--peers", &format!("{address}:{PEERS_PORT}")]);
        // An engine trusts a registry without TLS on loopback alone, of which every network has its own.
        let registry = if place.is_some() { Ipv4Addr::LOCALHOST } else { address };
        command.args(["--registry", &format!("{registry}:{REGISTRY_PORT}"), "--engine-label", &self.options.label]);
        if let Some(place) = place {
            command.args(["--engine", &format!("unix://{}", place.socket.display())]);
        }
        if let Some(token) = token {
            command.args(["--join", token]);
        }
        let process = Process::start(command, &self.options.folder.join(format!("{host}.log")))?;
        self.agents.insert(host.to_owned(), process);
        Ok(())
    }

    /// Waits until the hub has heard from every host.
    pub async fn hosts_up(&self) -> anyhow::Result<Vec<Host>> {
        let wanted = self.options.hosts.len();
        crate::until("not all hosts report to the hub", Duration::from_secs(PROCESS_SECONDS_MAX), || async {
            let hosts = self.hosts().await.ok()?;
            (hosts.iter().filter(|host| host.up).count() == wanted).then_some(hosts)
        })
        .await
        .with_context(|| {
            self.options.hosts.iter().map(|(host, _)| self.log_end(&format!("{host}.log"))).collect::<String>()
        })
    }

    /// Hosts as the hub knows them.
    pub async fn hosts(&self) -> anyhow::Result<Vec<Host>> {
        Ok(self.client.host_list(&PageQuery::default()).await.map_err(refused)?.items)
    }

    /// HTTP requests that the proxies answered on the published ports of a service (`ENV/APP/SERVICE`), and how many of
    /// those failed, by host. An agent looks at its proxy every other second, so this asks until nothing changes any more.
    pub async fn proxy_requests(&self, service: &str) -> anyhow::Result<BTreeMap<String, (u64, u64)>> {
        let mut last = self.proxy_requests_after(service, Micros::now()).await?;
        for _ in 0..SETTLE_LOOKS_MAX {
            let again = self.proxy_requests_after(service, Micros::now().plus_seconds(PROXY_LOOK_SECONDS)).await?;
            if again == last {
                return Ok(again);
            }
            last = again;
        }
        bail!("the proxies of {service} go on counting")
    }

    /// The same as every host reports it after a moment.
    async fn proxy_requests_after(&self, service: &str, begun: Micros) -> anyhow::Result<BTreeMap<String, (u64, u64)>> {
        let fresh = || async {
            let hosts = self.hosts().await.ok()?;
            let reported = |host: &Host| host.report.as_ref().is_some_and(|report| report.clock > begun);
            hosts.iter().all(reported).then_some(hosts)
        };
        let limit = Duration::from_secs(3 * api::agent::REPORT_SECONDS);
        let hosts = crate::until("the hosts do not report", limit, fresh).await?;
        let count = |host: &Host| {
            let listeners = host.report.iter().flat_map(|report| &report.proxy.listeners);
            let ours = listeners.filter(|listener| listener.published && listener.service == service);
            ours.fold((0, 0), |(requests, failed), listener| (requests + listener.requests, failed + listener.failed))
        };
        Ok(hosts.iter().map(|host| (host.name.to_string(), count(host))).collect())
    }

    /// Waits until a plan has ended, whatever happens to the hub meanwhile.
    pub async fn plan_end(&self, plan: &str, limit: Duration) -> anyhow::Result<Plan> {
        crate::until("the plan does not end", limit, || async {
            self.client.plan_get(plan).await.ok().filter(|plan| plan.state.is_final())
        })
        .await
    }

    /// Waits until a plan has succeeded.
    pub async fn plan_success(&self, plan: &str, limit: Duration) -> anyhow::Result<Plan> {
        let plan = self.plan_end(plan, limit).await?;
        if plan.state != PlanState::Succeeded {
            bail!(
                "the rollout to {} failed: {}",
                plan.env,
                plan.error.as_ref().map(ToString::to_string).unwrap_or_default()
            );
        }
        Ok(plan)
    }

    /// The last lines of a log, for an error.
    pub fn log_end(&self, log: &str) -> String {
        let text = std::fs::read_to_string(self.options.folder.join(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("\n--- {log}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// Ends every process of the stage, proxies included, and waits for it.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        let running = self.agents.values().chain(self.hub.iter()).map(|process| process.pid).collect::<Vec<_>>();
        for process in self.agents.values_mut().chain(self.hub.as_mut()) {
            process.terminate();
        }
        for process in std::mem::take(&mut self.agents).into_values().chain(self.hub.take()) {
            process.wait_or_kill().await?;
        }
        end_processes(&self.options.folder, &running).await
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        let [a, b] = self.options.block;
        Ipv4Addr::new(127, a, b, number)
    }

    fn agent_address(&self) -> Ipv4Addr {
        self.places.as_ref().map_or_else(|| self.address(1), |places| places.machine)
    }

    fn host_address(&self, host: &str) -> anyhow::Result<Ipv4Addr> {
        if let Some(places) = &self.places {
            return Ok(places.host(host)?.address);
        }
        let place =
            self.options.hosts.iter().position(|(name, _)| *name == host).with_context(|| format!("no host {host}"))?;
        Ok(self.address(11 + u8::try_from(place)?))
    }
}

fn hub_url(block: [u8; 2]) -> url::Url {
    let text = format!("http://127.{}.{}.1:{HUB_PORT}", block[0], block[1]);
    text.parse().unwrap_or_else(|_| unreachable!("an address of digits"))
}

/// The names that a stage's images have in the engine.
pub fn registries(block: [u8; 2], hosts: usize) -> Vec<String> {
    let [a, b] = block;
    let hub = format!("127.{a}.{b}.1:{HUB_PORT}/");
    std::iter::once(hub).chain((0..hosts).map(|n| format!("127.{a}.{b}.{}:{REGISTRY_PORT}/", 11 + n))).collect()
}

fn refused(problem: api::Problem) -> anyhow::Error {
    anyhow::anyhow!("{problem}")
}

/// Ends every process that has `folder` on its command line: what an earlier stage left behind.
pub async fn end_processes(folder: &Path, known: &[u32]) -> anyhow::Result<()> {
    let wanted = folder.as_os_str().as_encoded_bytes().to_vec();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_ours = line.windows(wanted.len()).any(|part| part == wanted);
        let command = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        if is_ours && matches!(command, b"hub" | b"agent" | b"proxy") && !known.contains(&(pid as u32)) {
            found.extend(Pid::from_raw(pid));
        }
    }
    for &pid in &found {
        let _ = kill_process(pid, Signal::TERM);
    }
    let gone = |pid: Pid| test_kill_process(pid).is_err();
    let all = || async { found.iter().all(|&pid| gone(pid)).then_some(()) };
    if crate::until("a process does not end", Duration::from_secs(PROCESS_SECONDS_MAX), all).await.is_err() {
        for &pid in found.iter().filter(|&&pid| !gone(pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

/// A process of the real binary.
struct Process {
    pid: u32,
    child: std::process::Child,
}

impl Process {
    fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{:?} cannot be started", command.get_program()))?;
        Ok(Self { pid: child.id(), child })
    }

    fn kill(mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the process had ended by itself");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn terminate(&mut self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    async fn wait_or_kill(mut self) -> anyhow::Result<()> {
        for _ in 0..PROCESS_SECONDS_MAX * 20 {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
