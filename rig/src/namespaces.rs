//! Machines that are apart, on one machine: a network namespace for each host, on a bridge in a namespace of its own, and
//! in each a container engine of its own.
//!
//! This machine is on the bridge as well, so that a hub and a load reach the hosts. The names of the namespaces carry the
//! id of the process that made them: what a killed process left behind is found, and removed, by the next.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use rustix::process::{Pid, Signal, kill_process};

use crate::engine::{on_path, run};

/// Begins the names of all namespaces made here; the process's id and the host's name follow.
const PREFIX: &str = "longshore-";
/// The bridge's own place among the hosts.
pub(crate) const BRIDGE: &str = "bridge";
/// How long an engine may take until it answers.
const START_SECONDS_MAX: u64 = 60;
/// How long one answer of an engine may take.
const ANSWER_SECONDS_MAX: u64 = 120;
/// How long processes of a namespace may take to end before they are killed.
const END_SECONDS_MAX: u64 = 30;
/// The size of the disk that the engines keep everything on; what they do not use takes no room.
const DISK_BYTES: u64 = 32 << 30;
/// Where engines that others are to reach listen: Docker's usual port without TLS.
pub const ENGINE_PORT: u16 = 2375;
/// What a limited link may send at once, and how long packets may wait in it.
const LINK_BURST: &str = "1mb";
const LINK_LATENCY: &str = "400ms";
/// How many blocks of addresses are tried.
const BLOCKS_TRIED_MAX: u32 = 200;

/// A host.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its network namespace, as a file.
    pub namespace: PathBuf,
    /// Its address, which other hosts and this machine reach.
    pub address: Ipv4Addr,
    /// Its engine's socket.
    pub socket: PathBuf,
}

impl Place {
    /// A command that runs in the host's network; its process is the program's own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display())).arg(program);
        command
    }
}

/// The hosts, and where they find this machine.
#[derive(Debug, Clone)]
pub struct Places {
    /// This machine's address among the hosts.
    pub machine: Ipv4Addr,
    /// Hosts by name.
    pub hosts: BTreeMap<String, Place>,
}

impl Places {
    /// A host by its name.
    pub fn host(&self, name: &str) -> anyhow::Result<&Place> {
        self.hosts.get(name).with_context(|| format!("no host {name}"))
    }

    /// The engine of a host.
    pub fn docker(&self, host: &str) -> anyhow::Result<Docker> {
        let socket = self.host(host)?.socket.display().to_string();
        Ok(Docker::connect_with_unix(&socket, ANSWER_SECONDS_MAX, bollard::API_DEFAULT_VERSION)?)
    }

    /// Addresses that nobody has, for these hosts; nothing is made yet. What a killed process left behind goes.
    pub(crate) fn free(folder: &Path, hosts: &[&str]) -> anyhow::Result<Self> {
        remove_left_behind()?;
        let block = free_block()?;
        let place = |(name, number): (&&str, u8)| {
            let place = Place {
                namespace: Path::new("/run/netns").join(namespace(name)),
                address: address(block, number),
                socket: folder.join(name).join("engine.sock"),
            };
            ((*name).to_owned(), place)
        };
        Ok(Self { machine: address(block, 1), hosts: hosts.iter().zip(11..).map(place).collect() })
    }

    /// The bridge has a namespace to itself, where no engine's rules forbid to pass packets on.
    pub(crate) fn connect(&self) -> anyhow::Result<()> {
        let (bridge, outside) = (namespace(BRIDGE), outside_link());
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "bridge", "up"])?;
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", "machine", "netns", &bridge])?;
        ip(&["-n", &bridge, "link", "set", "machine", "master", "bridge", "up"])?;
        ip(&["address", "add", &format!("{}/24", self.machine), "dev", &outside])?;
        ip(&["link", "set", &outside, "up"])?;
        for (host, place) in &self.hosts {
            let inside = namespace(host);
            ip(&["netns", "add", &inside])?;
            ip(&["-n", &inside, "link", "set", "lo", "up"])?;
            ip(&["-n", &bridge, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", &inside])?;
            ip(&["-n", &bridge, "link", "set", host, "master", "bridge", "up"])?;
            ip(&["-n", &inside, "address", "add", &format!("{}/24", place.address), "dev", "eth0"])?;
            ip(&["-n", &inside, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    /// Ends all that runs in the hosts' networks, and takes the networks away.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        let names = self.hosts.keys().map(|host| namespace(host)).chain([namespace(BRIDGE)]);
        remove_namespaces(&names.collect::<Vec<_>>())
    }
}

/// Programs must be there; each with the package that has it.
pub(crate) fn needs<'a>(programs: impl IntoIterator<Item = (&'a str, &'a str)>) -> anyhow::Result<()> {
    for (program, package) in programs {
        ensure!(on_path(program), "{program} is not there: install it (Debian: apt-get install {package})");
    }
    Ok(())
}

/// Hosts that run; dropped, they are gone.
pub struct Network {
    places: Places,
    folder: PathBuf,
    daemons: Vec<Child>,
    /// The engines listen on their hosts' addresses as well.
    open: bool,
}

impl Network {
    /// Makes the hosts and starts their engines, which keep everything in `folder`. As root, on Linux; one network at a
    /// time for each process.
    pub async fn start(folder: &Path, hosts: &[&str]) -> anyhow::Result<Self> {
        Self::begin(folder, hosts, false).await
    }

    /// The same with engines that are reached at [`ENGINE_PORT`] of their hosts' addresses besides.
    pub async fn start_open(folder: &Path, hosts: &[&str]) -> anyhow::Result<Self> {
        Self::begin(folder, hosts, true).await
    }

    async fn begin(folder: &Path, hosts: &[&str], open: bool) -> anyhow::Result<Self> {
        let network = [("ip", "iproute2"), ("nsenter", "util-linux"), ("iptables", "iptables")];
        let engine = [("dockerd", "docker.io"), ("containerd", "containerd"), ("mkfs.ext4", "e2fsprogs")];
        needs(network.into_iter().chain(engine))?;
        let places = Places::free(folder, hosts)?;
        // From here on, whatever fails, dropping takes away what was made.
        let mut network = Self { places, folder: folder.to_owned(), daemons: Vec::new(), open };
        network.disk()?;
        network.places.connect()?;
        for host in hosts {
            network.engine_start(host).await.with_context(|| format!("the engine of {host}"))?;
        }
        Ok(network)
    }

    /// The hosts.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Lets no link carry more than so many bits a second in either direction: neither this machine's, nor a host's.
    pub fn limit(&self, megabits: u32) -> anyhow::Result<()> {
        let rate = format!("{megabits}mbit");
        let shape = |namespace: Option<&str>, link: &str| {
            let mut command = Command::new("tc");
            if let Some(namespace) = namespace {
                command.args(["-netns", namespace]);
            }
            command.args(["qdisc", "replace", "dev", link, "root", "tbf", "rate", &rate, "burst", LINK_BURST]);
            run(command.args(["latency", LINK_LATENCY])).with_context(|| format!("the link {link} is not limited"))
        };
        let bridge = namespace(BRIDGE);
        shape(None, &outside_link())?;
        shape(Some(&bridge), "machine")?;
        for host in self.places.hosts.keys() {
            shape(Some(&bridge), host)?;
            shape(Some(&namespace(host)), "eth0")?;
        }
        Ok(())
    }

    /// Bytes that left this machine for the hosts, packets and all.
    pub fn machine_sent_bytes(&self) -> anyhow::Result<u64> {
        let file = format!("/sys/class/net/{}/statistics/tx_bytes", outside_link());
        Ok(std::fs::read_to_string(&file).context(file)?.trim().parse()?)
    }

    /// Removes every container first, so that none is waited for; then all the rest, as dropping does.
    pub async fn end(self) -> anyhow::Result<()> {
        for host in self.places.hosts.keys() {
            let docker = self.places.docker(host)?;
            let all = ListContainersOptionsBuilder::default().all(true).build();
            for id in docker.list_containers(Some(all)).await?.into_iter().filter_map(|container| container.id) {
                let options = RemoveContainerOptionsBuilder::default().force(true).build();
                docker.remove_container(&id, Some(options)).await?;
            }
        }
        Ok(())
    }

    /// The engines' folder is a disk of its own, in one file beside it: removing that is quick, where removing the many
    /// files of images can take minutes.
    fn disk(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let file = self.disk_file();
        std::fs::File::create(&file)?.set_len(DISK_BYTES)?;
        let options = "lazy_itable_init=1,nodiscard";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal", "-E", options]).arg(&file))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&self.folder))?;
        Ok(())
    }

    fn disk_file(&self) -> PathBuf {
        self.folder.with_extension("ext4")
    }

    async fn engine_start(&mut self, host: &str) -> anyhow::Result<()> {
        let folder = self.folder.join(host);
        std::fs::create_dir_all(&folder)?;
        // The daemons would otherwise read the machine's own configuration, and share the machine's containerd.
        let (containerd, dockerd) = (folder.join("containerd.toml"), folder.join("dockerd.json"));
        std::fs::write(&containerd, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")?;
        std::fs::write(&dockerd, "{}\n")?;
        let address = folder.join("containerd.sock");

        let mut command = self.places.host(host)?.command(Path::new("containerd"));
        command.arg("--config").arg(&containerd).arg("--address").arg(&address).args(["--log-level", "warn"]);
        command.arg("--root").arg(folder.join("containerd")).arg("--state").arg(folder.join("containerd-run"));
        self.daemon(command, &folder.join("containerd.log"))?;
        let limit = Duration::from_secs(START_SECONDS_MAX);
        let listens = || async { std::os::unix::net::UnixStream::connect(&address).ok() };
        crate::until("containerd does not answer", limit, listens).await?;

        let place = self.places.host(host)?;
        let mut command = place.command(Path::new("dockerd"));
        command.arg("--config-file").arg(&dockerd).arg("--containerd").arg(&address).args(["--log-level", "warn"]);
        command.arg("--host").arg(format!("unix://{}", place.socket.display()));
        if self.open {
            command.arg("--tls=false").arg(format!("--host=tcp://{}:{ENGINE_PORT}", place.address));
        }
        command.arg("--data-root").arg(folder.join("docker")).arg("--exec-root").arg(folder.join("docker-run"));
        command.arg("--pidfile").arg(folder.join("dockerd.pid"));
        let log = folder.join("dockerd.log");
        self.daemon(command, &log)?;
        let answers = || async { self.places.docker(host).ok()?.ping().await.ok() };
        crate::until("dockerd does not answer", limit, answers)
            .await
            .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(())
    }

    fn daemon(&mut self, mut command: Command, log: &Path) -> anyhow::Result<()> {
        let log = std::fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.daemons.push(child);
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let removed = self.places.remove();
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if let Err(error) = removed.and_then(|()| unmount(&self.folder)) {
            eprintln!("Not everything of the hosts' network could be removed: {error:#}");
        }
        let _ = std::fs::remove_file(self.disk_file());
    }
}

pub(crate) fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("ip").args(arguments)).with_context(|| format!("ip {}", arguments.join(" ")))
}

pub(crate) fn namespace(host: &str) -> String {
    format!("{PREFIX}{}-{host}", std::process::id())
}

/// This machine's end of its way to the bridge; a name of a link has 15 bytes at most.
fn outside_link() -> String {
    format!("longs{}", std::process::id())
}

fn address(block: [u8; 2], number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, block[0], block[1], number)
}

/// A private /24 to which this machine has no way yet.
fn free_block() -> anyhow::Result<[u8; 2]> {
    let seed = std::process::id().wrapping_mul(2_654_435_761);
    for n in 0..BLOCKS_TRIED_MAX {
        let [a, b, ..] = seed.wrapping_add(n.wrapping_mul(40_503 << 16)).to_be_bytes();
        let network = format!("{}/24", address([a, b], 0));
        let routes = [
            ip(&["-4", "route", "show", "table", "all", "match", &network])?,
            ip(&["-4", "route", "show", "table", "all", "root", &network])?,
        ];
        if routes.iter().flat_map(|text| text.lines()).all(|route| route.starts_with("default")) {
            return Ok([a, b]);
        }
    }
    anyhow::bail!("this machine has ways to all of 10.0.0.0/8: no private addresses are free for the hosts")
}

/// Removes the namespaces of processes that are gone.
pub fn remove_left_behind() -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(()) };
    let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let orphans = names.into_iter().filter(|name| {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(maker, _)| maker);
        maker.is_some_and(|maker| maker.parse::<u32>().is_ok() && !Path::new("/proc").join(maker).exists())
    });
    remove_namespaces(&orphans.collect::<Vec<_>>())
}

/// Ends what runs in the namespaces and removes them. Engines end first and stop their containers; shims, whose children
/// are containers, last.
fn remove_namespaces(names: &[String]) -> anyhow::Result<()> {
    let is_engine = |pid: &Pid| name_of(*pid) == "dockerd";
    let engines: Vec<Pid> = pids(names).into_iter().filter(is_engine).collect();
    signal(&engines, Signal::TERM);
    wait(|| !pids(names).iter().any(is_engine));
    signal(&pids(names), Signal::TERM);
    wait(|| pids(names).is_empty());
    let rest = pids(names);
    for &shim in rest.iter().filter(|&&pid| name_of(pid).starts_with("containerd-shim")) {
        signal(&children(shim), Signal::KILL);
    }
    signal(&rest, Signal::KILL);
    wait(|| pids(names).is_empty());
    for name in names.iter().filter(|name| Path::new("/run/netns").join(name).exists()) {
        ip(&["netns", "delete", name])?;
    }
    Ok(())
}

fn wait(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() && begun.elapsed() < Duration::from_secs(END_SECONDS_MAX) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pids(names: &[String]) -> Vec<Pid> {
    let listed = names.iter().filter_map(|name| ip(&["netns", "pids", name]).ok()).collect::<String>();
    numbers(&listed)
}

fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    numbers(&std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default())
}

fn numbers(text: &str) -> Vec<Pid> {
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn name_of(pid: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default().trim().to_owned()
}

fn signal(pids: &[Pid], signal: Signal) {
    for &pid in pids {
        let _ = kill_process(pid, signal);
    }
}

/// Takes away all mounts in a folder: its disk, and what a killed engine left.
pub fn unmount(folder: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point).starts_with(folder));
    for point in points.collect::<Vec<_>>().into_iter().rev() {
        run(Command::new("umount").args(["--lazy", point]))?;
    }
    Ok(())
}
