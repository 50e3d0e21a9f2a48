//! The registry under crashes: clients push, tag, delete and pull while the hub is killed, or the file system below it is
//! shut down, again and again. What was acknowledged must hold, what is served must be right, what nobody needs must go.
//!
//! The expected state is kept outside of the hub. Each repository has one writer, so that after an answer it is exact; what
//! was under way when the crash came may be done or not, but not half.

mod check;
mod content;
mod disk;
mod hub;
mod lane;
mod model;
mod moment;
mod sabotage;
mod upstream;
mod wire;
mod work;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;

pub use self::disk::FileSystem;
use self::lane::{Kind, Lane, Progress};
pub use self::work::Tally;
use crate::stage::free_block;

/// Lanes of kills at once.
const KILL_LANES: u64 = 2;
/// A hub whose waits for the disk are lies must be found out within so many rounds.
const CONTROL_ROUNDS_MAX: u64 = 20;
/// How often progress is told.
const PROGRESS_PAUSE: Duration = Duration::from_secs(10);
const FOLDER_PREFIX: &str = "longshore-soak-";

/// How long and on what.
pub struct Options {
    /// The `longshore` binary.
    pub binary: PathBuf,
    /// `kill -9` so often.
    pub kills: u64,
    /// A file system is shut down so often.
    pub shutdowns: Vec<(FileSystem, u64)>,
    /// From the start of a hub to its first right answer; longer is a fault.
    pub recovery_max: Duration,
    /// The same seed does the same work; when the crashes come also depends on the machine.
    pub seed: u64,
}

/// What a soak found.
#[derive(Debug, Default)]
pub struct Summary {
    /// Rounds by kind.
    pub rounds: Vec<(String, u64)>,
    /// What was acknowledged.
    pub tally: Tally,
    /// From the start of a hub to its first right answer.
    pub slowest_start: Duration,
    /// What went wrong, at most one thing a lane.
    pub faults: Vec<Fault>,
}

/// What must not happen.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An acknowledged change does not hold.
    #[error("lost: {0}")]
    Lost(String),
    /// Something is served that is not what its name says.
    #[error("wrong bytes: {0}")]
    Wrong(String),
    /// The hub failed where it must not.
    #[error("failed: {0}")]
    Failed(String),
    /// The hub took too long to come back.
    #[error("slow: {0}")]
    Slow(String),
    /// What nobody needs is not collected.
    #[error("left: {0}")]
    Leaked(String),
    /// The soak itself does not work here.
    #[error("{0:#}")]
    Rig(#[from] anyhow::Error),
}

impl Fault {
    fn in_round(self, round: u64) -> Self {
        let told = |text: String| format!("round {round}: {text}");
        match self {
            Self::Lost(text) => Self::Lost(told(text)),
            Self::Wrong(text) => Self::Wrong(told(text)),
            Self::Failed(text) => Self::Failed(told(text)),
            Self::Slow(text) => Self::Slow(told(text)),
            Self::Leaked(text) => Self::Leaked(told(text)),
            Self::Rig(error) => Self::Rig(error.context(format!("round {round}"))),
        }
    }
}

/// What ends the work of a client.
#[derive(Debug)]
enum Stop {
    /// The crash: what was asked for last may have happened or not.
    Crashed,
    Fault(Fault),
}

impl Stop {
    fn into_fault(self) -> Fault {
        match self {
            Self::Crashed => Fault::Failed("the hub went away while nothing took it".to_owned()),
            Self::Fault(fault) => fault,
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Runs the soak to its end. Every lane stops at its first fault; folders of lanes with faults are kept.
pub fn run(options: Options) -> anyhow::Result<Summary> {
    let mounts = !options.shutdowns.is_empty();
    apart(mounts, move || async move {
        let mut lanes = Vec::new();
        for lane in 0..KILL_LANES {
            let rounds = options.kills / KILL_LANES + u64::from(lane < options.kills % KILL_LANES);
            lanes.push((Kind::Kill, rounds));
        }
        lanes.extend(options.shutdowns.iter().map(|(file_system, rounds)| (Kind::Shutdown(*file_system), *rounds)));
        lanes.retain(|(_, rounds)| *rounds > 0);
        soak(&options, lanes, false).await
    })
}

/// The same with a hub whose every wait for the disk is a lie, on an ext4 that is shut down. Gives the fault that it was
/// found out by; none means that the soak proves nothing.
pub fn run_control(options: Options) -> anyhow::Result<Option<Fault>> {
    let summary = apart(true, move || async move {
        soak(&options, vec![(Kind::Shutdown(FileSystem::Ext4), CONTROL_ROUNDS_MAX)], true).await
    })?;
    match summary.faults.into_iter().next() {
        Some(Fault::Rig(error)) => Err(error),
        fault => Ok(fault),
    }
}

/// On a thread that has, with all that it starts, `mounts` of its own.
fn apart<T, F, Fut>(mounts: bool, work: F) -> anyhow::Result<T>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<T>>,
    T: Send + 'static,
{
    let thread = std::thread::spawn(move || {
        if mounts {
            disk::mounts_apart()?;
        }
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work())
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn soak(options: &Options, lanes: Vec<(Kind, u64)>, without_sync: bool) -> anyhow::Result<Summary> {
    leftovers_remove();
    let folder = std::env::temp_dir().join(format!("{FOLDER_PREFIX}{}-{}", std::process::id(), u8::from(without_sync)));
    let mut summary = Summary::default();
    let mut running = Vec::new();
    for (number, (kind, rounds)) in (1..).zip(lanes) {
        let (progress, told) = watch::channel(Progress::default());
        let lane = Lane {
            kind,
            number,
            seed: options.seed,
            rounds,
            binary: options.binary.clone(),
            recovery_max: options.recovery_max,
            address: address(number)?,
            folder: folder.join(number.to_string()),
            without_sync,
            progress,
        };
        running.push((kind, rounds, told, tokio::spawn(lane.run())));
    }
    let watched: Vec<_> = running.iter().map(|(kind, rounds, told, _)| (*kind, *rounds, told.clone())).collect();
    let telling = tokio::spawn(tell(watched));
    for (kind, _, told, task) in running {
        if let Err(fault) = task.await.context("a lane ended early")? {
            summary.faults.push(fault);
        }
        let progress = told.borrow();
        summary.rounds.push((name(kind), progress.rounds));
        summary.tally.merge(&progress.tally);
        summary.slowest_start = summary.slowest_start.max(progress.slowest_start);
    }
    telling.abort();
    match summary.faults.is_empty() || without_sync {
        true => std::fs::remove_dir_all(&folder)?,
        false => keep(&folder)?,
    }
    Ok(summary)
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::Kill => "kill -9".to_owned(),
        Kind::Shutdown(FileSystem::Ext4) => "shutdowns of ext4".to_owned(),
        Kind::Shutdown(FileSystem::Xfs) => "shutdowns of XFS".to_owned(),
    }
}

async fn tell(lanes: Vec<(Kind, u64, watch::Receiver<Progress>)>) {
    loop {
        tokio::time::sleep(PROGRESS_PAUSE).await;
        let told: Vec<String> = lanes
            .iter()
            .map(|(kind, rounds, told)| format!("{} of {rounds} {}", told.borrow().rounds, name(*kind)))
            .collect();
        eprintln!("{}", told.join(", "));
    }
}

/// An address of the lane's own, with the hub's ports free on it.
fn address(lane: u64) -> anyhow::Result<SocketAddr> {
    let [.., pid_high, pid_low] = std::process::id().to_be_bytes();
    let block = free_block([pid_high ^ 0x80 | 1, pid_low.wrapping_add(lane as u8)])?;
    Ok(SocketAddr::from((Ipv4Addr::new(127, block[0], block[1], 1), crate::stage::HUB_PORT)))
}

/// For whoever looks into a fault: under a name that the next soak does not remove.
fn keep(folder: &Path) -> anyhow::Result<()> {
    let kept = folder.with_file_name(format!("{FOLDER_PREFIX}fault-{}", std::process::id()));
    std::fs::rename(folder, &kept)?;
    eprintln!("the folders of lanes with faults are kept in {}", kept.display());
    Ok(())
}

/// Removes what killed soaks left.
fn leftovers_remove() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX));
        let owner = owner.and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
