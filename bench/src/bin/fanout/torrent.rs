//! libtorrent on the same lines: a process for each host, and a seed in the hub's place.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::future::{join_all, try_join_all};
use rig::engine::run;
use rig::namespaces::Place;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

const HOST_SCRIPT: &str = include_str!("torrent.py");
const MAKE_SCRIPT: &str = include_str!("torrent_make.py");
/// What pip is asked for.
const PACKAGE: &str = "libtorrent>=2,<3";
const PORT: u16 = 6881;
/// How long a process may take until it listens, in seconds.
const READY_SECONDS_MAX: u64 = 60;

/// How libtorrent is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// As it comes.
    Default,
    /// For one file to all on equal lines: no uTP, everybody is sent to, new choices every second, short pieces, the
    /// seed hands out each piece once before it repeats itself.
    Tuned,
}

impl Setting {
    fn session(self) -> Value {
        match self {
            Setting::Default => json!({}),
            Setting::Tuned => json!({
                "enable_outgoing_utp": false, "enable_incoming_utp": false,
                "unchoke_slots_limit": -1, "unchoke_interval": 1, "optimistic_unchoke_interval": 2,
                "connection_speed": 200, "torrent_connect_boost": 200, "smooth_connects": false,
                "connections_limit": 1000, "suggest_mode": 1, "initial_picker_threshold": 0,
                "out_enc_policy": 2, "in_enc_policy": 2,
            }),
        }
    }

    /// Bytes of a piece: what libtorrent itself would take for an image of this size, or shorter.
    fn piece_bytes(self) -> u32 {
        match self {
            Setting::Default => 0,
            Setting::Tuned => 64 * 1024,
        }
    }
}

/// How a swarm fared.
pub(crate) struct Fared {
    pub(crate) completed: Vec<Duration>,
    /// Bytes of pieces that the seed sent.
    pub(crate) seed_sent_bytes: u64,
}

/// An interpreter that has libtorrent; made in `cache` the first time.
pub(crate) fn python(cache: &Path) -> anyhow::Result<PathBuf> {
    let place = cache.join("libtorrent");
    let python = place.join("bin/python");
    let has = |python: &Path| std::process::Command::new(python).args(["-c", "import libtorrent"]).output();
    if !has(&python).is_ok_and(|output| output.status.success()) {
        eprintln!("Installing libtorrent from PyPI into {}", place.display());
        run(std::process::Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))
            .context("python3 cannot make a venv (Debian: apt-get install python3-venv)")?;
        run(std::process::Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
    }
    Ok(python)
}

struct Member {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Member {
    fn start(python: &Path, script: &Path, place: &Place, settings: &Value) -> anyhow::Result<Self> {
        let mut command = Command::from(place.command(python));
        command.arg(script).arg(settings.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { child, input, output })
    }

    async fn tell(&mut self, word: &str) -> anyhow::Result<()> {
        self.input.write_all(format!("{word}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    async fn says(&mut self) -> anyhow::Result<String> {
        self.output.next_line().await?.context("a process of libtorrent ended early")
    }

    async fn end(mut self) -> anyhow::Result<u64> {
        self.tell("end").await?;
        let sent = self.says().await?.parse()?;
        self.child.wait().await?;
        Ok(sent)
    }
}

/// All hosts want the image at once, from a seed; every one knows of all others from the beginning, as from a tracker.
pub(crate) async fn run_swarm(
    python: &Path,
    folder: &Path,
    image: &Path,
    seed: &Place,
    hosts: &[Place],
    setting: Setting,
    limit: Duration,
) -> anyhow::Result<Fared> {
    std::fs::create_dir_all(folder)?;
    let (script, make, torrent) = (folder.join("host.py"), folder.join("make.py"), folder.join("image.torrent"));
    std::fs::write(&script, HOST_SCRIPT)?;
    std::fs::write(&make, MAKE_SCRIPT)?;
    let mut command = std::process::Command::new(python);
    run(command.arg(make).arg(image).arg(&torrent).arg(setting.piece_bytes().to_string()))?;
    let peers: Vec<(Ipv4Addr, u16)> = [seed].into_iter().chain(hosts).map(|place| (place.address, PORT)).collect();
    let settings = |place: &Place, folder: &Path, seeds: bool| {
        let others: Vec<_> = peers.iter().filter(|(address, _)| *address != place.address).collect();
        json!({
            "listen": format!("{}:{PORT}", place.address), "torrent": torrent, "folder": folder, "peers": others,
            "seeds": seeds, "super_seeding": setting == Setting::Tuned, "session": setting.session(),
        })
    };
    let seeds = image.parent().context("the image is in a folder")?;
    let mut seed = Member::start(python, &script, seed, &settings(seed, seeds, true))?;
    let mut members = Vec::new();
    for (number, place) in hosts.iter().enumerate() {
        let folder = folder.join(format!("host-{number}"));
        members.push(Member::start(python, &script, place, &settings(place, &folder, false))?);
    }
    for member in members.iter_mut().chain([&mut seed]) {
        let ready = tokio::time::timeout(Duration::from_secs(READY_SECONDS_MAX), member.says()).await;
        ensure!(ready.context("libtorrent does not listen in time")?? == "ready");
    }
    let begun = Instant::now();
    for member in &mut members {
        member.tell("go").await?;
    }
    let done = members.iter_mut().map(|member| async move {
        ensure!(member.says().await? == "done");
        anyhow::Ok(begun.elapsed())
    });
    let completed =
        tokio::time::timeout(limit, try_join_all(done)).await.context("libtorrent is not done in time")??;
    let seed_sent_bytes = seed.end().await?;
    join_all(members.into_iter().map(Member::end)).await.into_iter().collect::<anyhow::Result<Vec<u64>>>()?;
    Ok(Fared { completed, seed_sent_bytes })
}
