//! Which batch of work is due, for each service. Pure: what was seen, which containers run, how work ended and the clock go
//! in; batches come out.
//!
//! Level-triggered: events only say where to look. Work follows from the difference between source and target, so that an
//! event that is lost (and found by a later look), doubled or late changes nothing. Of a service one batch is under way at a
//! time; what changes meanwhile waits, and is one batch in the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use engine::ExecOptions;

use super::ledger::{Below, Ledger};
use super::rule::{Action, After, Filter};
use super::stamp::Stamp;

/// Quiet after a change that only copies: an editor's save is several events within a few milliseconds.
const QUIET_SYNC: Duration = Duration::from_millis(25);
/// Quiet after a change that restarts or rebuilds.
const QUIET_OTHER: Duration = Duration::from_millis(50);
/// Quiet while many paths change: a switch of branches pauses between files.
const QUIET_MANY: Duration = Duration::from_millis(200);
/// More pending paths than this are many.
const PATHS_MANY: usize = 100;
/// Without quiet, work begins so long after the first change, and with many paths so long.
const PATIENCE: Duration = Duration::from_millis(250);
const PATIENCE_MANY: Duration = Duration::from_secs(3);
/// Work that failed is tried again after this, then after twice as long, up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Paths of one rule in one batch at most.
pub(super) const BATCH_PATHS_MAX: usize = 10_000;

/// The containers of a service, as they run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Running {
    /// Id of the image that they were made from.
    pub image: String,
    /// Each container's id, and when it was started, in microseconds.
    pub containers: BTreeMap<String, i64>,
}

/// Work that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Names it when its end is told.
    pub id: u64,
    /// The service.
    pub service: String,
    /// What to do.
    pub work: BatchWork,
}

/// What a batch does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchWork {
    /// Build the service's image from what is there now, and replace its containers when that succeeded.
    Rebuild {
        /// How many watched paths changed.
        paths: usize,
    },
    /// Bring running containers up to date.
    Update(Update),
}

/// Files to copy and remove, and what follows, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Ids of the containers that all of it is for.
    pub containers: Vec<String>,
    /// What to copy and remove.
    pub syncs: Vec<SyncWork>,
    /// Commands to run in each container.
    pub execs: Vec<ExecOptions>,
    /// Whether to restart the containers.
    pub restart: bool,
}

/// What one rule has to copy and remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncWork {
    pub(super) rule: usize,
    /// The rule's path here.
    pub path: PathBuf,
    /// What stands for it in the containers.
    pub target: String,
    /// Paths below it to copy (the empty one is the rule's path itself), folders before what is in them.
    pub put: Vec<Below>,
    /// Paths below it to remove, with all that is below them.
    pub remove: Vec<Below>,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done. For each sync the state of each path that was copied, as it was read.
    Done(Vec<Vec<Copied>>),
    /// The same, but nothing could be removed: the image has no `rm`.
    NotRemoved(Vec<Vec<Copied>>),
    /// It failed, perhaps half done.
    Failed,
}

/// What became of a path that was to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// The containers have this state of it.
    Whole(Stamp),
    /// It changed while it was read, or is gone: this is what was there afterwards.
    Changing(Stamp),
}

/// A rule, and what is known of its paths.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) path: PathBuf,
    pub(super) action: Action,
    pub(super) filter: Filter,
    pub(super) ledger: Ledger,
    /// The containers that the ledger's target is of; `None` until there were some.
    pub(super) known: Option<Running>,
}

/// What a service waits for and works on.
#[derive(Debug)]
struct Service {
    name: String,
    rules: Vec<Watched>,
    can_build: bool,
    /// Its containers; `None` until they are told for the first time.
    running: Option<Running>,
    under_way: Option<Flight>,
    restart_owed: bool,
    execs_owed: Vec<usize>,
    first_change: Option<Duration>,
    last_change: Duration,
    retry: Option<(Duration, Duration)>,
    /// A build of this state failed; only a change is a reason for another.
    build_failed: bool,
    /// What is in the containers cannot be removed from them.
    rebuild_owed: bool,
    has_building: bool,
}

#[derive(Debug)]
enum Flight {
    Rebuild { id: u64, triggers: Vec<(usize, Vec<(Below, Stamp)>)> },
    Update { id: u64, update: Update, restart_rules: Vec<(usize, Vec<(Below, Stamp)>)>, execs: Vec<usize>, stale: bool },
}

/// What must be kept of a rule after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keep {
    /// These paths of the rule.
    Paths(Vec<Below>),
    /// All of the rule.
    All,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Planner {
    services: Vec<Service>,
    batches: u64,
    keep: BTreeMap<(usize, usize), Keep>,
}

impl Planner {
    pub(super) fn service_add(&mut self, name: String, can_build: bool, rules: Vec<Watched>) {
        self.services.push(Service {
            name,
            rules,
            can_build,
            running: None,
            under_way: None,
            restart_owed: false,
            execs_owed: Vec::new(),
            first_change: None,
            last_change: Duration::ZERO,
            retry: None,
            build_failed: false,
            rebuild_owed: false,
            has_building: false,
        });
    }

    /// Every rule, by its service's and its own number.
    pub(super) fn rules_mut(&mut self) -> impl Iterator<Item = (usize, usize, &mut Watched)> {
        self.services.iter_mut().enumerate().flat_map(|(service, of)| {
            of.rules.iter_mut().enumerate().map(move |(rule, watched)| (service, rule, watched))
        })
    }

    pub(super) fn rule(&self, service: usize, rule: usize) -> Option<&Watched> {
        self.services.get(service)?.rules.get(rule)
    }

    /// A look found news for this rule.
    pub(super) fn changed(&mut self, service: usize, rule: usize, now: Duration) {
        if let Some(service) = self.services.get_mut(service) {
            service.first_change.get_or_insert(now);
            service.last_change = now;
            if service.rules.get(rule).is_some_and(|rule| rule.action == Action::Rebuild) {
                service.build_failed = false;
            }
        }
    }

    /// What must be kept before any batch that was handed out since is begun.
    pub(super) fn keep_take(&mut self) -> BTreeMap<(usize, usize), Keep> {
        std::mem::take(&mut self.keep)
    }

    /// A build of the service's image begins, from the source as it is now.
    pub(super) fn build_begins(&mut self, service: &str) {
        if let Some(service) = self.services.iter_mut().find(|found| found.name == service) {
            service.build_begins();
        }
    }

    /// These are the service's containers now, running or not; none while they are being replaced. The first of them
    /// started at `began`.
    pub(super) fn running(&mut self, service: &str, running: Running, began: Duration, now: Duration) {
        let Some(number) = self.services.iter().position(|found| found.name == service) else { return };
        let service = &mut self.services[number];
        if service.running.as_ref() == Some(&running) {
            return;
        }
        let same = |of: &Running| of.containers.keys().eq(running.containers.keys());
        if let Some(Flight::Update { stale, .. }) = &mut service.under_way {
            *stale |= !service.running.as_ref().is_some_and(same);
        }
        service.running = Some(running.clone());
        service.retry = None;
        if running.containers.is_empty() {
            return;
        }
        for (rule, keep) in service.renew(&running, began) {
            self.keep.insert((number, rule), keep);
        }
        // What is pending for a new container waits for nobody's next keystroke.
        service.first_change = (service.pending() > 0).then(|| now.saturating_sub(PATIENCE_MANY));
    }

    /// How a batch ended.
    pub(super) fn ended(&mut self, batch: u64, outcome: &Outcome, now: Duration) {
        let is_it = |service: &Service| service.under_way.as_ref().is_some_and(|flight| flight.id() == batch);
        let Some(number) = self.services.iter().position(is_it) else { return };
        let service = &mut self.services[number];
        let Some(flight) = service.under_way.take() else { return };
        for (rule, paths) in service.land(flight, outcome, now) {
            self.keep_paths(number, rule, paths);
        }
    }

    fn keep_paths(&mut self, service: usize, rule: usize, paths: Vec<Below>) {
        match self.keep.entry((service, rule)).or_insert_with(|| Keep::Paths(Vec::new())) {
            Keep::All => {}
            Keep::Paths(kept) => kept.extend(paths),
        }
    }

    /// The batches that are due, and when to ask again if nothing happens until then.
    pub(super) fn due(&mut self, now: Duration) -> (Vec<Batch>, Option<Duration>) {
        let (mut batches, mut next) = (Vec::new(), None::<Duration>);
        for number in 0..self.services.len() {
            let service = &mut self.services[number];
            let Some(due) = service.due_at() else {
                // What came and went again is no reason to be impatient with the next change.
                if service.pending() == 0 {
                    service.first_change = None;
                }
                continue;
            };
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            self.batches += 1;
            let (work, touched) = service.begin(self.batches);
            batches.push(Batch { id: self.batches, service: service.name.clone(), work });
            for (rule, paths) in touched {
                self.keep_paths(number, rule, paths);
            }
        }
        (batches, next)
    }
}

impl Flight {
    fn id(&self) -> u64 {
        match self {
            Self::Rebuild { id, .. } | Self::Update { id, .. } => *id,
        }
    }
}

impl Service {
    fn build_begins(&mut self) {
        self.has_building = true;
        for rule in &mut self.rules {
            rule.ledger.build_begins();
        }
    }

    /// Containers that are not those of before: what they have follows from their image, or is what it was.
    fn renew(&mut self, running: &Running, began: Duration) -> Vec<(usize, Keep)> {
        let mut keep = Vec::new();
        let mut image_new = false;
        for (number, rule) in self.rules.iter_mut().enumerate() {
            let known = rule.known.replace(running.clone());
            if known.as_ref() == Some(running) {
                continue;
            }
            let image_same = known.as_ref().is_some_and(|known| known.image == running.image);
            let containers_same =
                known.as_ref().is_some_and(|known| known.containers.keys().eq(running.containers.keys()));
            let ledger = &mut rule.ledger;
            if !image_same {
                image_new = true;
                // Whoever starts a service from source starts it from an image of that source.
                if self.has_building { ledger.image_is_built() } else { ledger.image_is_source() }
            }
            match &rule.action {
                Action::Sync { .. } if containers_same => {}
                Action::Sync { initial: true, .. } => ledger.target_is_image_to_be_copied(),
                Action::Sync { .. } => ledger.target_is_image(),
                // They read what they read when they began.
                Action::Restart if known.is_none() || self.last_change < began => ledger.target_is_source(),
                Action::Restart => {}
                Action::Rebuild if image_same => {}
                Action::Rebuild => ledger.target_is_image(),
            }
            let all = !image_same || !containers_same || rule.action == Action::Restart;
            keep.push((number, if all { Keep::All } else { Keep::Paths(Vec::new()) }));
        }
        if image_new {
            self.has_building = false;
            self.rebuild_owed = false;
        }
        if self.last_change < began {
            self.restart_owed = false;
        }
        keep
    }

    fn pending(&self) -> usize {
        self.rules.iter().map(|rule| rule.ledger.pending()).sum()
    }

    fn pending_of(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.rules.iter().filter(|rule| wanted(&rule.action)).map(|rule| rule.ledger.pending()).sum()
    }

    /// A service that does not come up is built again, too, once it is known from what it was built.
    fn rebuild_due(&self) -> bool {
        let pending = self
            .rules
            .iter()
            .any(|rule| rule.action == Action::Rebuild && rule.known.is_some() && rule.ledger.pending() > 0);
        self.running.is_some() && (pending || self.rebuild_owed) && !self.build_failed
    }

    fn update_due(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.containers.is_empty())
            && (self.restart_owed
                || !self.execs_owed.is_empty()
                || self.pending_of(|action| *action != Action::Rebuild) > 0)
    }

    /// When the next batch is due; `None` when nothing is to be done, or not now.
    fn due_at(&self) -> Option<Duration> {
        if self.under_way.is_some() {
            return None;
        }
        let rebuild = self.rebuild_due();
        if !rebuild && !self.update_due() {
            return None;
        }
        let (quiet, patience) = match self.pending() {
            many if many > PATHS_MANY => (QUIET_MANY, PATIENCE_MANY),
            _ if rebuild || self.pending_of(|action| *action == Action::Restart) > 0 => (QUIET_OTHER, PATIENCE),
            _ => (QUIET_SYNC, PATIENCE),
        };
        let first = self.first_change.unwrap_or(self.last_change);
        let calm = (self.last_change + quiet).min(first + patience);
        Some(self.retry.map_or(calm, |(at, _)| calm.max(at)))
    }

    /// Begins a batch: what it does, and what must be kept first.
    fn begin(&mut self, id: u64) -> (BatchWork, Vec<(usize, Vec<Below>)>) {
        self.first_change = None;
        if self.rebuild_due() {
            let triggers: Vec<(usize, Vec<(Below, Stamp)>)> = self.pending_as_whole(&Action::Rebuild);
            let paths = triggers.iter().map(|(_, paths)| paths.len()).sum();
            self.build_begins();
            self.under_way = Some(Flight::Rebuild { id, triggers });
            return (BatchWork::Rebuild { paths }, Vec::new());
        }
        let containers = self.running.iter().flat_map(|running| running.containers.keys().cloned()).collect();
        let mut update = Update { containers, ..Update::default() };
        let (mut touched, mut complete) = (Vec::new(), true);
        for (number, rule) in self.rules.iter_mut().enumerate() {
            let Action::Sync { target, then, .. } = &rule.action else { continue };
            let work = rule.ledger.take(BATCH_PATHS_MAX);
            if work.put.is_empty() && work.remove.is_empty() {
                continue;
            }
            match then {
                After::Restart => self.restart_owed |= work.matters,
                After::Exec(_) if work.matters && !self.execs_owed.contains(&number) => self.execs_owed.push(number),
                _ => {}
            }
            complete &= work.put.len() + work.remove.len() == rule.ledger.pending();
            let put: Vec<Below> = work.put.into_iter().map(|(path, _)| path).collect();
            touched.push((number, work.remove.iter().chain(&put).cloned().collect()));
            let (path, target) = (rule.path.clone(), target.clone());
            update.syncs.push(SyncWork { rule: number, path, target, put, remove: work.remove });
        }
        let restart_rules = self.pending_as_whole(&Action::Restart);
        self.restart_owed |= !restart_rules.is_empty();
        // What follows a copy waits until all of it is copied.
        let mut execs = Vec::new();
        if complete {
            update.restart = self.restart_owed;
            execs.clone_from(&self.execs_owed);
            update.execs = execs.iter().filter_map(|rule| self.exec_of(*rule)).collect();
        }
        self.under_way = Some(Flight::Update { id, update: update.clone(), restart_rules, execs, stale: false });
        (BatchWork::Update(update), touched)
    }

    fn exec_of(&self, rule: usize) -> Option<ExecOptions> {
        match &self.rules.get(rule)?.action {
            Action::Sync { then: After::Exec(options), .. } => Some(options.clone()),
            _ => None,
        }
    }

    fn pending_as_whole(&self, action: &Action) -> Vec<(usize, Vec<(Below, Stamp)>)> {
        let rules = self.rules.iter().enumerate().filter(|(_, rule)| rule.action == *action);
        rules.map(|(number, rule)| (number, rule.ledger.pending_now())).filter(|(_, paths)| !paths.is_empty()).collect()
    }

    /// Takes in how a batch ended; returns what must be kept.
    fn land(&mut self, flight: Flight, outcome: &Outcome, now: Duration) -> Vec<(usize, Vec<Below>)> {
        let mut touched = Vec::new();
        match (flight, outcome) {
            // The containers that it was for are gone, and what the new ones have was worked out without it.
            (Flight::Update { stale: true, .. }, _) => {}
            (Flight::Rebuild { .. }, Outcome::Failed) => self.build_failed = true,
            (Flight::Rebuild { triggers, .. }, _) => {
                self.rebuild_owed = false;
                touched = self.settle(triggers);
            }
            (Flight::Update { update, .. }, Outcome::Failed) => {
                for sync in &update.syncs {
                    self.rules[sync.rule].ledger.doubt_above(sync.put.iter());
                }
                let wait = self.retry.map_or(RETRY_FIRST, |(_, wait)| (wait * 2).min(RETRY_LONGEST));
                self.retry = Some((now + wait, wait));
            }
            (
                Flight::Update { update, restart_rules, execs, .. },
                Outcome::Done(copied) | Outcome::NotRemoved(copied),
            ) => {
                self.retry = None;
                for (sync, copied) in update.syncs.iter().zip(copied) {
                    touched.push((sync.rule, self.settle_sync(sync, copied, now)));
                }
                if update.restart {
                    self.restart_owed = false;
                    touched.extend(self.settle(restart_rules));
                }
                self.execs_owed.retain(|rule| !execs.contains(rule));
                // What cannot be removed is not in the next image.
                self.rebuild_owed |= matches!(outcome, Outcome::NotRemoved(_)) && self.can_build;
            }
        }
        touched
    }

    fn settle(&mut self, rules: Vec<(usize, Vec<(Below, Stamp)>)>) -> Vec<(usize, Vec<Below>)> {
        let mut touched = Vec::new();
        for (rule, paths) in rules {
            for (path, stamp) in &paths {
                self.rules[rule].ledger.done(path, *stamp);
            }
            touched.push((rule, paths.into_iter().map(|(path, _)| path).collect()));
        }
        touched
    }

    fn settle_sync(&mut self, sync: &SyncWork, copied: &[Copied], now: Duration) -> Vec<Below> {
        let ledger = &mut self.rules[sync.rule].ledger;
        let mut is_news = false;
        for path in &sync.remove {
            ledger.done(path, Stamp::NONE);
        }
        for (path, copied) in sync.put.iter().zip(copied) {
            match copied {
                Copied::Whole(stamp) => {
                    // A copy that is newer than the last look is news, too.
                    is_news |= ledger.done(path, *stamp);
                }
                Copied::Changing(stamp) => {
                    ledger.look(path, *stamp);
                    is_news = true;
                }
            }
        }
        if is_news {
            self.first_change.get_or_insert(now);
            self.last_change = now;
        }
        sync.remove.iter().chain(&sync.put).cloned().collect()
    }
}
