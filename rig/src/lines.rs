//! Machines on lines of a stated rate, without engines: whatever program sends, and whatever it makes of it, the kernel's
//! token buckets let no more through.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::engine::run;
use crate::namespaces::{BRIDGE, Place, Places, ip, namespace, needs};

/// What the kernel hands on as one packet and counts as one, as time on the line: beyond it a queue would hold one or two.
const PACKET_SECONDS: f64 = 0.004;
const PACKET_BYTES: std::ops::RangeInclusive<u32> = 4 * 1024..=64 * 1024;
/// What a line may send at once, in such packets.
const BURST_PACKETS: u32 = 4;
/// How long packets may wait for a line before they are lost.
const LATENCY: &str = "50ms";

/// How hosts send.
const CONGESTION_CONTROL: &str = "cubic";

/// Hosts, each in a network of its own with one line to all others; dropped, they are gone with all that runs there.
pub struct Lines {
    places: Places,
}

/// What passed a host's line so far, in bytes, packets and all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// From the host.
    pub sent: u64,
    /// To the host.
    pub received: u64,
}

impl Lines {
    /// Makes the hosts, with lines that have no limit yet. They send as Linux does where nobody chose otherwise, whatever this
    /// machine does: BBR, for one, takes a line without any delay for one that can hold nothing. As root, on Linux; one
    /// network at a time for each process.
    pub fn start(hosts: &[&str]) -> anyhow::Result<Self> {
        needs([("ip", "iproute2"), ("tc", "iproute2"), ("nsenter", "util-linux")])?;
        neighbours_allow(hosts.len())?;
        congestion_control_allow()?;
        let lines = Self { places: Places::free(Path::new("/"), hosts)? };
        lines.places.connect()?;
        for place in lines.places.hosts.values() {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", place.namespace.display()));
            let set = format!("echo {CONGESTION_CONTROL} > /proc/sys/net/ipv4/tcp_congestion_control");
            run(command.args(["sh", "-c", &set])).context("the hosts' congestion control cannot be set")?;
        }
        Ok(lines)
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> anyhow::Result<&Place> {
        self.places.host(name)
    }

    /// From now on no host's line carries more than so many bytes a second, in either direction.
    pub fn limit(&self, bytes_per_second: u64) -> anyhow::Result<()> {
        let packet =
            ((bytes_per_second as f64 * PACKET_SECONDS) as u32).clamp(*PACKET_BYTES.start(), *PACKET_BYTES.end());
        let (burst, packet) = ((BURST_PACKETS * packet).to_string(), packet.to_string());
        for host in self.places.hosts.keys() {
            for (place, link) in [(namespace(BRIDGE), host.as_str()), (namespace(host), "eth0")] {
                let mut command = Command::new("tc");
                command.args(["-netns", &place, "qdisc", "replace", "dev", link, "root", "tbf"]);
                command.args(["rate", &format!("{bytes_per_second}bps"), "burst", &burst]);
                run(command.args(["latency", LATENCY]))
                    .with_context(|| format!("the line of {host} is not limited"))?;
                ip(&["-n", &place, "link", "set", link, "gso_max_size", &packet])?;
            }
        }
        Ok(())
    }

    /// What passed each host's line since it was made.
    pub fn passed(&self) -> anyhow::Result<BTreeMap<String, Passed>> {
        #[derive(Deserialize)]
        struct Link {
            ifname: String,
            stats64: Stats,
        }
        #[derive(Deserialize)]
        struct Stats {
            rx: Count,
            tx: Count,
        }
        #[derive(Deserialize)]
        struct Count {
            bytes: u64,
        }
        let links: Vec<Link> = serde_json::from_str(&ip(&["-n", &namespace(BRIDGE), "-json", "-stats", "link"])?)?;
        let hosts = links.into_iter().filter(|link| self.places.hosts.contains_key(&link.ifname));
        // The bridge receives what the host sends.
        Ok(hosts
            .map(|link| (link.ifname, Passed { sent: link.stats64.rx.bytes, received: link.stats64.tx.bytes }))
            .collect())
    }
}

/// Lets every host know every other: the kernel has one table of neighbours for all networks of a machine, and forgets whom
/// it knows when that is full. A limit that is raised stays.
fn neighbours_allow(hosts: usize) -> anyhow::Result<()> {
    let needed = 2 * hosts * hosts;
    for limit in ["gc_thresh3", "gc_thresh2", "gc_thresh1"] {
        let path = format!("/proc/sys/net/ipv4/neigh/default/{limit}");
        let now: usize = std::fs::read_to_string(&path).with_context(|| path.clone())?.trim().parse()?;
        if now < needed {
            std::fs::write(&path, needed.to_string()).with_context(|| path.clone())?;
        }
    }
    Ok(())
}

/// Networks of their own may choose only from a list, which has what the machine itself uses and little else.
fn congestion_control_allow() -> anyhow::Result<()> {
    let path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = std::fs::read_to_string(path).context(path)?;
    if !allowed.split_whitespace().any(|name| name == CONGESTION_CONTROL) {
        std::fs::write(path, format!("{} {CONGESTION_CONTROL}", allowed.trim())).context(path)?;
    }
    Ok(())
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Err(error) = self.places.remove() {
            eprintln!("Not everything of the hosts' network could be removed: {error:#}");
        }
    }
}

/// Runs this in a host's network, on a thread of its own, from which nothing gets out: its sockets are the host's.
pub async fn inside<T, F>(place: &Place, work: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    let namespace = place.namespace.clone();
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        let outcome = move || {
            let network = File::open(&namespace).with_context(|| namespace.display().to_string())?;
            // SAFETY: the descriptor is open, and only this thread's network changes.
            #[allow(unsafe_code)]
            let entered = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
            if entered != 0 {
                bail!("{} cannot be entered: {}", namespace.display(), std::io::Error::last_os_error());
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        };
        // Whoever asked may have gone.
        let _ = done.send(outcome());
    })?;
    outcome.await.context("a thread in a host's network ended early")?
}
