//! The real binary on limited lines: a hub and agents, beside libtorrent and direct pulls on the same lines.

use std::path::Path;
use std::time::{Duration, Instant};

use bench::process::busy_seconds;
use bench::report::Row;
use rig::lines::Passed;

use crate::ground::{Ground, HUB};
use crate::plot::Curve;
use crate::pull;
use crate::torrent::{self, Setting};

const MIB: u64 = 1 << 20;
const IMAGE_BYTES: u64 = 64 * MIB;
const RATIO_MAX: f64 = 1.2;
const COPIES_MAX: f64 = 1.05;
/// What a run may take, as a multiple of what its lines allow at best.
const PATIENCE: f64 = 8.0;

/// A fleet: hosts, and what each line carries in either direction, in bytes a second, packets and all.
pub(crate) struct Fleet {
    hosts: usize,
    rate: u64,
    /// Pulls past the agents take this many times as long, and are measured where that can be waited for.
    pulls_directly: bool,
}

/// Two cores bear 128 MiB/s in all, sent and received: with more hosts each line has less.
pub(crate) const FLEETS: [Fleet; 2] = [
    Fleet { hosts: 16, rate: 8 * MIB, pulls_directly: true },
    Fleet { hosts: 64, rate: 2 * MIB, pulls_directly: false },
];

impl Fleet {
    fn bound_seconds(&self) -> f64 {
        let (image, hosts, rate) = (IMAGE_BYTES as f64, self.hosts as f64, self.rate as f64);
        (image / rate).max(hosts * image / (rate + hosts * rate))
    }

    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.bound_seconds() * PATIENCE)
    }
}

/// How one way to bring the image to all hosts fared.
struct Fared {
    /// In seconds.
    completed: Vec<f64>,
    /// Copies of the image that left the hub or seed; from its line, packets and all, where nobody counts pieces.
    copies: f64,
    /// Copies that each host sent, packets and all.
    sent: Vec<f64>,
    /// Cores of this machine that were busy.
    busy_cores: f64,
}

impl Fared {
    fn slowest(&self) -> f64 {
        self.completed.iter().copied().fold(0.0, f64::max)
    }

    fn curve(&self, name: String, bound: f64) -> Curve {
        Curve {
            name,
            hosts: self.completed.len(),
            completed: self.completed.iter().map(|seconds| seconds / bound).collect(),
            uploads: self.sent.clone(),
            copies: self.copies,
        }
    }
}

/// Watches what one run costs.
struct Watch {
    before: std::collections::BTreeMap<String, Passed>,
    begun: Instant,
    busy: f64,
}

impl Watch {
    fn start(ground: &Ground) -> anyhow::Result<Self> {
        Ok(Self { before: ground.lines.passed()?, busy: busy_seconds()?, begun: Instant::now() })
    }

    fn fared(self, ground: &Ground, completed: &[Duration], copies: Option<f64>) -> anyhow::Result<Fared> {
        let busy_cores = (busy_seconds()? - self.busy) / self.begun.elapsed().as_secs_f64();
        let passed = ground.passed_since(&self.before)?;
        let sent = |name: &str| passed.get(name).map_or(0.0, |passed| passed.sent as f64 / IMAGE_BYTES as f64);
        Ok(Fared {
            completed: completed.iter().map(Duration::as_secs_f64).collect(),
            copies: copies.unwrap_or_else(|| sent(HUB)),
            sent: ground.hosts.iter().map(|host| sent(&host.name)).collect(),
            busy_cores,
        })
    }
}

pub(crate) async fn rows(
    fleet: &Fleet,
    binary: &Path,
    python: &Path,
    folder: &Path,
    curves: &mut Vec<Curve>,
) -> anyhow::Result<Vec<Row>> {
    let (hosts, bound) = (fleet.hosts, fleet.bound_seconds());
    let title = format!("{hosts} hosts at {} MiB/s", fleet.rate / MIB);
    let image = bench::noise(usize::try_from(IMAGE_BYTES)?, 5);
    let shared = folder.join("seed");
    std::fs::create_dir_all(&shared)?;
    std::fs::write(shared.join("image"), &image)?;
    let mut ground = Ground::start(binary, folder, hosts, &[image]).await?;

    let mut peers = Vec::new();
    for setting in [Setting::Default, Setting::Tuned] {
        eprintln!("{title}: libtorrent, {setting:?}");
        ground.lines.limit(fleet.rate)?;
        let places: Vec<_> = ground.hosts.iter().map(|host| host.place.clone()).collect();
        let seed = ground.lines.host(HUB)?.clone();
        let own = folder.join(format!("torrent-{setting:?}"));
        let watch = Watch::start(&ground)?;
        let image = shared.join("image");
        let swarm = torrent::run_swarm(python, &own, &image, &seed, &places, setting, fleet.limit()).await?;
        let copies = swarm.seed_sent_bytes as f64 / IMAGE_BYTES as f64;
        let fared = watch.fared(&ground, &swarm.completed, Some(copies))?;
        curves.push(fared.curve(format!("{title}: libtorrent, {setting:?}").to_lowercase(), bound));
        peers.push(fared);
        std::fs::remove_dir_all(&own)?;
    }

    let mut direct = None;
    if fleet.pulls_directly {
        eprintln!("{title}: pulls from the hub, about {:.0} s", bound * hosts as f64);
        let hub = ground.url()?;
        let pulls = ground.hosts.iter().map(|host| (host.place.clone(), hub.clone())).collect();
        let watch = Watch::start(&ground)?;
        let completed = pull::all(pulls, fleet.limit() * u32::try_from(hosts)?).await?;
        direct = Some(watch.fared(&ground, &completed, None)?);
    }

    eprintln!("{title}: agents");
    ground.agents_start(binary, &[&[]]).await?;
    let pulls = ground.hosts.iter().map(|host| (host.place.clone(), "http://127.0.0.1:5100".to_owned())).collect();
    let watch = Watch::start(&ground)?;
    let completed = pull::all(pulls, fleet.limit()).await?;
    let mut own = watch.fared(&ground, &completed, None)?;
    own.copies = 0.0;
    for host in &ground.hosts {
        own.copies += host.hub_bytes().await? as f64 / IMAGE_BYTES as f64;
    }
    curves.push(own.curve(format!("{title}: agents"), bound));

    let row = |what: &str, value: f64, unit: &str, peer: &str, peer_value: Option<f64>| Row {
        row: format!("real, {title}: {what}"),
        value,
        unit: unit.to_owned(),
        peer: peer.to_owned(),
        peer_value,
        target: String::new(),
        holds: None,
    };
    let (slowest, names) = (own.slowest() / bound, ["libtorrent, default", "libtorrent, tuned"]);
    let mut rows = Vec::new();
    for (name, peer) in names.iter().zip(&peers) {
        let compared = row("slowest host", slowest, "× T*", name, Some(peer.slowest() / bound));
        rows.push(Row { target: format!("≤ {RATIO_MAX} × T*"), holds: Some(slowest <= RATIO_MAX), ..compared });
        let compared = row("copies from the hub", own.copies, "copies", name, Some(peer.copies));
        rows.push(Row { target: format!("≤ {COPIES_MAX}"), holds: Some(own.copies <= COPIES_MAX), ..compared });
    }
    if let Some(direct) = &direct {
        rows.push(row("slowest host", slowest, "× T*", "pulls from the hub", Some(direct.slowest() / bound)));
        rows.push(row("copies from the hub", own.copies, "copies", "pulls from the hub", Some(direct.copies)));
    }
    let cores = peers.last().map(|peer| peer.busy_cores);
    rows.push(row("this machine", own.busy_cores, "cores busy", "libtorrent, tuned", cores));
    Ok(rows)
}
