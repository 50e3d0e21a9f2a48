//! One hub after another on one data folder: work, a crash, a start, a look at everything; and at the end of a folder,
//! everything is deleted and nothing may be left.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use super::check::Scope;
use super::content::Blob;
use super::disk::{Disk, FileSystem};
use super::hub::{Hub, Setup};
use super::model::Model;
use super::moment::{Crash, Moment, Trigger};
use super::upstream::{Puller, Upstream};
use super::wire::Wire;
use super::work::{Tally, Worker};
use super::{Fault, Stop};

/// Clients at once, each with a repository of its own.
const WORKERS: u64 = 4;
/// Clients that pull from an upstream through the hub: few, for they cost most of a round.
const PULLERS: usize = 1;
/// A fresh data folder now and then: a first start can be killed, too.
const ROUNDS_PER_FOLDER: u64 = 100;
/// Rounds after which all is looked at, and not only what changed.
const ROUNDS_PER_LOOK_AT_ALL: u64 = 20;
/// How long the registry keeps what nobody needs. Short, so that collection has work in every round; long enough for
/// what was just pushed to be kept over a crash.
const GRACE: Duration = Duration::from_secs(1);
/// How long what was pulled from the upstream is kept, until all is to go.
const KEEP: Duration = Duration::from_secs(3600);
/// How long a hub may live on when its disk has died.
const LIFE_WITHOUT_DISK_MICROS_MAX: u64 = 8_000;
/// How long collection may take to remove all that is left of a folder.
const EMPTY_SECONDS_MAX: u64 = 60;
const EMPTY_PAUSE: Duration = Duration::from_millis(300);

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kill,
    Shutdown(FileSystem),
}

/// How far a lane is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) rounds: u64,
    pub(super) slowest_start: Duration,
    pub(super) tally: Tally,
}

pub(super) struct Lane {
    pub(super) kind: Kind,
    /// No two lanes of a soak have the same.
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) rounds: u64,
    pub(super) binary: PathBuf,
    pub(super) recovery_max: Duration,
    pub(super) address: SocketAddr,
    pub(super) folder: PathBuf,
    pub(super) without_sync: bool,
    pub(super) progress: watch::Sender<Progress>,
}

impl Lane {
    /// Runs all rounds, or as far as the first fault.
    pub(super) async fn run(self) -> Result<(), Fault> {
        std::fs::create_dir_all(&self.folder).map_err(anyhow::Error::from)?;
        let disk = match self.kind {
            Kind::Kill => None,
            Kind::Shutdown(file_system) => Some(Disk::new(&self.folder, file_system)?),
        };
        let root = disk.as_ref().map_or(self.folder.as_path(), Disk::path).to_owned();
        let setup = Setup {
            binary: self.binary.clone(),
            recovery_max: self.recovery_max,
            address: self.address,
            folder: self.folder.clone(),
            without_sync: self.without_sync,
        };
        let upstream = Upstream::start(self.number).await?;
        let mut random = StdRng::seed_from_u64(self.seed ^ self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut done = 0;
        while done < self.rounds {
            let data = root.join(format!("data-{done}"));
            let rounds = ROUNDS_PER_FOLDER.min(self.rounds - done);
            setup.configure(&data, GRACE, upstream.address, KEEP)?;
            let shared = Arc::new(Blob::shared(self.number));
            let workers = (0..WORKERS).map(|worker| self.worker(worker, done, &shared, &mut random)).collect();
            let wire = || Wire::new(self.address, Trigger::new(Crash::None));
            let pullers = (0..PULLERS).map(|_| Puller::new(&upstream, wire(), random.random())).collect();
            let (upstream, disk) = (upstream.address, disk.as_ref());
            let mut folder = Folder { lane: &self, setup: &setup, disk, workers, pullers, upstream, data };
            for round in 0..rounds {
                folder.round(round, &mut random).await.map_err(|fault| fault.in_round(done + round))?;
            }
            folder.empty().await.map_err(|fault| fault.in_round(done + rounds))?;
            std::fs::remove_dir_all(&folder.data).map_err(anyhow::Error::from)?;
            done += rounds;
        }
        Ok(())
    }

    fn worker(&self, worker: u64, round: u64, shared: &Arc<Vec<Arc<Blob>>>, random: &mut StdRng) -> Worker {
        let name = |worker: u64| format!("soak/client-{worker}");
        // No connection yet: every round has its own.
        let nothing = Trigger::new(Crash::None);
        Worker {
            model: Model::new(name(worker), GRACE),
            wire: Wire::new(self.address, nothing),
            random: StdRng::seed_from_u64(random.random()),
            tally: Tally::default(),
            shared: Arc::clone(shared),
            others: (0..WORKERS).filter(|other| *other != worker).map(name).collect(),
            loses_power: self.kind != Kind::Kill,
            number: (self.number << 48) + (round << 24) + (worker << 20) + (1 << 47),
        }
    }
}

/// One data folder, and who works on it.
struct Folder<'a> {
    lane: &'a Lane,
    setup: &'a Setup,
    disk: Option<&'a Disk>,
    workers: Vec<Worker>,
    pullers: Vec<Puller>,
    upstream: SocketAddr,
    data: PathBuf,
}

impl Folder<'_> {
    async fn round(&mut self, round: u64, random: &mut StdRng) -> Result<(), Fault> {
        let mut hub = self.setup.start()?;
        let moment = Moment::choose(random);
        let crash = match self.disk {
            None => hub.crash(),
            Some(disk) => disk.crash()?,
        };
        let trigger = Trigger::new(crash);
        if let Moment::Starting(_) = moment {
            trigger.arm(moment);
            trigger.fired().await;
        } else {
            self.look(&mut hub, &trigger, round).await?;
            trigger.arm(moment);
            let works = join_all(self.workers.iter_mut().map(Worker::work));
            let pulls = join_all(self.pullers.iter_mut().map(Puller::work));
            let ends = async {
                trigger.fired().await;
                if self.disk.is_some() {
                    let life = random.random_range(0..LIFE_WITHOUT_DISK_MICROS_MAX);
                    tokio::time::sleep(Duration::from_micros(life)).await;
                }
                hub.kill();
            };
            let (works, pulls, ()) = tokio::join!(works, pulls, ends);
            for stop in works.into_iter().chain(pulls) {
                if let Stop::Fault(fault) = stop {
                    return Err(fault);
                }
            }
        }
        hub.kill();
        drop(hub);
        if let Some(disk) = self.disk {
            disk.power_on()?;
        }
        self.lane.progress.send_modify(|progress| {
            progress.rounds += 1;
            let workers = self.workers.iter_mut().map(|worker| &mut worker.tally);
            for tally in workers.chain(self.pullers.iter_mut().map(|puller| &mut puller.tally)) {
                progress.tally.merge(&std::mem::take(tally));
            }
        });
        Ok(())
    }

    /// Waits for the hub and compares what it serves with what it must.
    async fn look(&mut self, hub: &mut Hub, trigger: &Arc<Trigger>, round: u64) -> Result<(), Fault> {
        let took = hub.answers().await?;
        self.lane.progress.send_modify(|progress| progress.slowest_start = progress.slowest_start.max(took));
        let scope = if round.is_multiple_of(ROUNDS_PER_LOOK_AT_ALL) { Scope::Everything } else { Scope::Changed };
        self.check(trigger, scope).await
    }

    async fn check(&mut self, trigger: &Arc<Trigger>, scope: Scope) -> Result<(), Fault> {
        let checks = self.workers.iter_mut().map(|worker| {
            worker.wire = Wire::new(self.lane.address, Arc::clone(trigger));
            worker.check(scope)
        });
        let pulls = self.pullers.iter_mut().map(|puller| {
            puller.wire = Wire::new(self.lane.address, Arc::clone(trigger));
            puller.pull()
        });
        let (checks, pulls) = tokio::join!(join_all(checks), join_all(pulls));
        checks.into_iter().chain(pulls).collect::<Result<(), Stop>>().map_err(Stop::into_fault)
    }

    /// A last look at all; then every manifest is deleted, and no blob may be left on the disk.
    async fn empty(&mut self) -> Result<(), Fault> {
        let mut hub = self.setup.start()?;
        let trigger = Trigger::new(Crash::None);
        hub.answers().await?;
        self.check(&trigger, Scope::Everything).await?;
        let deletions = join_all(self.workers.iter_mut().map(Worker::delete_all)).await;
        deletions.into_iter().collect::<Result<(), Stop>>().map_err(Stop::into_fault)?;
        // Nobody pulls any more.
        self.setup.configure(&self.data, GRACE, self.upstream, GRACE)?;
        let begun = Instant::now();
        let left = loop {
            hub.kill();
            tokio::time::sleep(GRACE).await;
            // A hub that starts looks at once for what there is to collect.
            hub = self.setup.start()?;
            hub.answers().await?;
            tokio::time::sleep(EMPTY_PAUSE).await;
            let left = files(&self.data.join("registry").join("blobs")).context("what is left")?;
            if left.is_empty() || begun.elapsed() > Duration::from_secs(EMPTY_SECONDS_MAX) {
                break left;
            }
        };
        hub.kill();
        if let Some(one) = left.first() {
            let what = format!("{} blobs that nobody needs stay for ever, such as {}", left.len(), one.display());
            return Err(Fault::Leaked(what));
        }
        Ok(())
    }
}

/// All files below a folder.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}
