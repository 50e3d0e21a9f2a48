//! The loop: look, decide, tell the proxy, act, say how it stands; again when something happened or time has come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::agent::{Desired, EngineState, Progress};
use api::{HostName, Micros};
use engine::{Engine, EngineError, Labels};
use futures::StreamExt as _;
use oci::Digest;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::act::{Actor, Outcome};
use super::action::Action;
use super::decide::{Decision, Observed, SeenNetwork, SeenProxy, decide};
use super::images;
use super::memory::{Failure, Memory, Retry, Work};
use super::names::{LABEL_APP, LABEL_ENV, Member, ProjectKey, Role, owner_labels};
use super::report::{self, Standing};
use super::table::{Edges, table};
use super::wanted::Wanted;
use crate::edge::Edge;
use crate::proxy::status::Status;
use crate::proxy::table::Table;
use crate::state::Store;

/// How often the loop looks when everything is as it should be.
const IDLE_MILLIS: u64 = 2_000;
/// How often it looks while something is under way; events of the engine wake it in between.
const WORKING_MILLIS: u64 = 500;
/// How often it looks while a container drains, since the proxy sends no events.
const DRAINING_MILLIS: u64 = 100;
/// How soon it looks again after the proxy was given a table.
const AGAIN_MILLIS: u64 = 5;
/// The longest pause between two looks at an engine that does not answer.
const ENGINE_DOWN_MILLIS_MAX: u64 = 15_000;
/// How long the loop waits before it listens to the engine's events again.
const EVENTS_AGAIN_MILLIS: u64 = 1_000;
/// How often old images are looked for, in seconds.
const IMAGES_LOOK_SECONDS: i64 = 60;
/// The end of the name of a network that exists only while a subnet is chosen.
const PROBE_SUFFIX: &str = ".probe";

/// Tells the time. An argument, so that tests decide it.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// What the loop works with.
pub struct Parts {
    /// The host.
    pub host: HostName,
    /// Labels on everything that is made, beside Longshore's own.
    pub labels: Labels,
    /// Where the proxy listens.
    pub edges: Edges,
    /// `ADDRESS:PORT` of the host's own registry, as the engine reaches it.
    pub registry: String,
    /// The name of the hub's registry, `HOST[:PORT]`, with which images are tagged; none when it has none.
    pub hub_registry: Option<String>,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The proxy and the kernel's routes.
    pub edge: Arc<dyn Edge>,
    /// Where the memory is kept.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// What the hub says; `None` before it ever said anything.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// Where the loop says how the host stands.
    pub standing: watch::Sender<Standing>,
    /// Where it says which images run or may be rolled back to; `None` before it knows.
    pub keeps: watch::Sender<Option<BTreeSet<Digest>>>,
}

struct Started {
    work: Work,
    action: Action,
    limits: Option<(String, u64)>,
}

struct Served {
    table: Table,
    keys: BTreeSet<String>,
}

/// The converge loop of a host.
pub struct Converge {
    parts: Parts,
    actor: Arc<Actor>,
    memory: Memory,
    fresh: bool,
    tasks: JoinSet<Outcome>,
    started: HashMap<Id, Started>,
    served: Option<Served>,
    status: Option<Status>,
    digests: BTreeMap<String, Vec<String>>,
    version: Option<String>,
    failed_looks: u32,
    proxy_error: Option<String>,
    /// Old images being removed from the engine.
    removal: Option<AbortOnDropHandle<Result<Vec<Digest>, EngineError>>>,
    /// Not before then it is looked for old images again.
    removal_at: Micros,
}

impl Converge {
    /// Ready to run; reads what an earlier process remembered.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn new(parts: Parts) -> Result<Self, crate::state::StateError> {
        let kept = parts.store.kept_load()?;
        let fresh = kept.is_none();
        let (engine, edge) = (parts.engine.clone(), parts.edge.clone());
        let actor = Actor::new(engine, edge, parts.host.clone(), parts.registry.clone(), parts.hub_registry.clone());
        Ok(Self {
            parts,
            actor: Arc::new(actor),
            memory: Memory { kept: kept.unwrap_or_default(), ..Memory::default() },
            fresh,
            tasks: JoinSet::new(),
            started: HashMap::new(),
            served: None,
            status: None,
            digests: BTreeMap::new(),
            version: None,
            failed_looks: 0,
            proxy_error: None,
            removal: None,
            removal_at: Micros(0),
        })
    }

    /// Runs until `shutdown`. Actions under way are left to the engine; the next process finds what came of them.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let pulse = Arc::new(Notify::new());
        let events = watch_events(self.parts.engine.clone(), self.own_label(), pulse.clone());
        let _events = AbortOnDropHandle::new(tokio::spawn(events));
        loop {
            let pause = tokio::select! {
                () = shutdown.cancelled() => return,
                pause = self.turn() => pause,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = pulse.notified() => {}
                changed = self.parts.desired.changed() => {
                    if changed.is_err() {
                        // Nobody will say anything new; what was said last holds.
                        tokio::select! {
                            () = shutdown.cancelled() => return,
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                }
                Some(joined) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.finish(joined),
            }
        }
    }

    fn own_label(&self) -> Labels {
        owner_labels(&self.parts.host, &self.parts.labels)
    }

    /// One round; returns how long nothing has to be done.
    async fn turn(&mut self) -> Duration {
        // What ended before the look below is seen by it; nothing that is still under way is begun twice.
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.finish(joined);
        }
        // Of before the look: a machine that stood still after it must not have waited in vain for what it saw.
        let now = (self.parts.clock)();
        let observed = match self.observe().await {
            Ok(observed) => observed,
            Err(error) => return self.engine_is_down(&error),
        };
        self.failed_looks = 0;
        let before = self.memory.kept.clone();
        self.forget_what_is_gone(&observed);
        let desired = self.parts.desired.borrow_and_update().clone();
        let Some(desired) = desired else {
            self.save(&before);
            self.say(0, &observed, &Decision::default(), None, Vec::new());
            return Duration::from_millis(IDLE_MILLIS);
        };
        let wanted = Wanted::new(&self.parts.host, &self.parts.labels, &desired, &observed);
        self.forget_what_is_not_wanted(&wanted);
        let mut decision = decide(&wanted, &observed, &self.memory, now);
        if !decision.admit.is_empty() {
            self.memory.kept.admitted.extend(decision.admit.iter().cloned());
            decision = decide(&wanted, &observed, &self.memory, now);
        }
        for (key, progress) in &decision.services {
            if let (Progress::Done, Some(service)) =
                (progress, wanted.services.iter().find(|service| service.key == *key))
            {
                self.memory.kept.proven.insert(key.to_string(), service.spec.clone());
            }
        }
        self.note_retiring(&decision, now);
        let keeps = self.note_images(&wanted, now);
        if !self.save(&before) {
            return Duration::from_millis(WORKING_MILLIS);
        }
        let (put, mut warnings) = self.put_table(&desired, &observed, &decision).await;
        self.begin(&decision, &wanted);
        self.remove_old_images(keeps, now).await;
        warnings.extend(wanted.warnings.iter().cloned());
        self.say(desired.number, &observed, &decision, Some(&desired), warnings);
        self.pause(&decision, put, now)
    }

    fn pause(&self, decision: &Decision, put: bool, now: Micros) -> Duration {
        let working = !self.tasks.is_empty()
            || decision
                .services
                .iter()
                .map(|(_, progress)| progress)
                .chain(decision.jobs.iter().map(|(_, progress)| progress))
                .any(|progress| matches!(progress, Progress::Working { .. } | Progress::Waiting { .. }));
        let usual = match (put, decision.retiring.is_empty(), working) {
            (true, _, _) => AGAIN_MILLIS,
            (false, false, _) => DRAINING_MILLIS,
            (false, true, true) => WORKING_MILLIS,
            (false, true, false) => IDLE_MILLIS,
        };
        let usual = Duration::from_millis(usual);
        let least = Duration::from_millis(AGAIN_MILLIS);
        decision.wake_at.map_or(usual, |at| usual.min(at.since(now)).max(least))
    }

    async fn observe(&mut self) -> Result<Observed, EngineError> {
        if self.version.is_none() {
            self.version = Some(self.parts.engine.version().await?.engine);
            self.remove_probes().await?;
        }
        let containers = self.parts.engine.container_list(&self.own_label()).await?;
        let members: Vec<Member> =
            containers.into_iter().filter_map(|container| Member::read(&self.parts.host, container)).collect();
        let mut networks = BTreeMap::new();
        for network in self.parts.engine.network_list(&self.own_label()).await? {
            let label = |name: &str| network.labels.get(name).map(String::as_str).unwrap_or_default();
            let (Ok(env), Ok(app)) = (label(LABEL_ENV).parse(), label(LABEL_APP).parse()) else { continue };
            if !network.name.ends_with(PROBE_SUFFIX) {
                let project = ProjectKey { env, app };
                networks.insert(network.name, SeenNetwork { id: network.id, project, subnet: network.subnet });
            }
        }
        self.look_up_digests(&members).await?;
        let proxy = self.observe_proxy(&networks).await;
        Ok(Observed { members, networks, proxy })
    }

    async fn remove_probes(&self) -> Result<(), EngineError> {
        for network in self.parts.engine.network_list(&self.own_label()).await? {
            if network.name.ends_with(PROBE_SUFFIX) {
                self.parts.engine.network_remove(&network.id).await?;
            }
        }
        Ok(())
    }

    async fn look_up_digests(&mut self, members: &[Member]) -> Result<(), EngineError> {
        let used: BTreeSet<&String> = members.iter().map(|member| &member.container.image_id).collect();
        self.digests.retain(|image, _| used.contains(image));
        for image in used {
            if !self.digests.contains_key(image)
                && let Some(found) = self.parts.engine.image_inspect(image).await?
            {
                self.digests.insert(image.clone(), found.digests);
            }
        }
        Ok(())
    }

    async fn observe_proxy(&mut self, networks: &BTreeMap<String, SeenNetwork>) -> SeenProxy {
        let subnets: BTreeSet<_> = networks.values().filter_map(|network| network.subnet).collect();
        if let Err(error) = self.parts.edge.routes_ensure(&subnets).await {
            tracing::warn!(%error, "virtual addresses may not be reachable");
        }
        match self.parts.edge.status().await {
            Ok(status) => {
                if self.served.as_ref().is_some_and(|served| served.table.number != status.number) {
                    self.served = None;
                }
                self.status = Some(status);
                self.proxy_error = None;
            }
            Err(error) => {
                self.status = None;
                self.served = None;
                self.proxy_error = Some(format!("the proxy does not answer: {error}"));
            }
        }
        let active = self.status.iter().flat_map(|status| &status.upstreams);
        SeenProxy {
            in_table: self.served.as_ref().map(|served| served.keys.clone()),
            active: active
                .map(|upstream| (upstream.key.clone(), (upstream.active_requests, upstream.active_connections)))
                .collect(),
        }
    }

    fn engine_is_down(&mut self, error: &EngineError) -> Duration {
        self.version = None;
        self.failed_looks = self.failed_looks.saturating_add(1);
        let state = EngineState::Down { error: error.to_string() };
        self.parts.standing.send_if_modified(|standing| {
            let changed = standing.engine != state;
            standing.engine = state;
            changed
        });
        let millis = WORKING_MILLIS.saturating_mul(1 << self.failed_looks.min(6)).min(ENGINE_DOWN_MILLIS_MAX);
        Duration::from_millis(millis)
    }

    fn forget_what_is_gone(&mut self, observed: &Observed) {
        let ids: BTreeSet<&str> = observed.members.iter().map(Member::id).collect();
        self.memory.kept.admitted.retain(|id| ids.contains(id.as_str()));
        self.memory.kept.stopping.retain(|id| ids.contains(id.as_str()));
        self.memory.retiring_since.retain(|id, _| ids.contains(id.as_str()));
        if std::mem::take(&mut self.fresh) {
            // Nothing is remembered, so what works is what was let into traffic.
            let ready = observed.members.iter().filter(|member| matches!(member.role, Role::Slot(_)));
            let ready = ready.filter(|member| member.container.is_ready()).map(|member| member.container.id.clone());
            self.memory.kept.admitted.extend(ready);
        }
    }

    fn forget_what_is_not_wanted(&mut self, wanted: &Wanted) {
        let specs: BTreeMap<String, &str> = wanted
            .services
            .iter()
            .map(|service| (Work::Service(service.key.clone()).to_string(), service.spec.as_str()))
            .chain(wanted.jobs.iter().map(|job| (Work::Job(job.run.clone()).to_string(), job.spec.as_str())))
            .collect();
        let keys: BTreeSet<String> = wanted.services.iter().map(|service| service.key.to_string()).collect();
        self.memory.kept.failures.retain(|work, failure| specs.get(work).is_some_and(|spec| *spec == failure.spec));
        self.memory.kept.proven.retain(|key, _| keys.contains(key));
        self.memory.prepared.retain(|(work, _digest), _| specs.contains_key(&work.to_string()));
        self.memory.retries.retain(|work, retry| match &retry.spec {
            Some(spec) => specs.get(&work.to_string()).is_some_and(|now| now == spec),
            None => true,
        });
    }

    fn note_retiring(&mut self, decision: &Decision, now: Micros) {
        self.memory.retiring_since.retain(|id, _| decision.retiring.contains(id));
        for id in &decision.retiring {
            self.memory.retiring_since.entry(id.clone()).or_insert(now);
        }
    }

    /// Notes which images are wanted; gives those that stay.
    fn note_images(&mut self, wanted: &Wanted, now: Micros) -> BTreeSet<Digest> {
        let services = wanted.services.iter().map(|service| service.image.digest);
        let wanted: BTreeSet<Digest> = services.chain(wanted.jobs.iter().map(|job| job.image.digest)).collect();
        images::note_wanted(&mut self.memory.kept.images, &wanted, now);
        images::kept(&self.memory.kept.images, &wanted)
    }

    /// Has the engine remove what nothing needs any more, while nothing else is under way, now and then.
    async fn remove_old_images(&mut self, keeps: BTreeSet<Digest>, now: Micros) {
        if let Some(removal) = self.removal.take_if(|removal| removal.is_finished()) {
            match removal.await {
                Ok(Ok(gone)) => {
                    let before = self.memory.kept.clone();
                    self.memory.kept.images.retain(|digest, _image| !gone.contains(digest));
                    self.save(&before);
                }
                Ok(Err(error)) => tracing::warn!(%error, "old images stay on the engine"),
                Err(error) => tracing::warn!(%error, "the removal of old images broke off"),
            }
        }
        if self.removal.is_none() && self.tasks.is_empty() && now >= self.removal_at {
            let mut surplus = self.memory.kept.images.clone();
            surplus.retain(|digest, _image| !keeps.contains(digest));
            self.removal_at = now.plus_seconds(IMAGES_LOOK_SECONDS);
            if !surplus.is_empty() {
                let engine = self.parts.engine.clone();
                let removal = tokio::spawn(async move { images::remove(engine.as_ref(), surplus).await });
                self.removal = Some(AbortOnDropHandle::new(removal));
            }
        }
        self.parts.keeps.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&keeps);
            *current = Some(keeps);
            changed
        });
    }

    /// Writes the memory down if it changed; whether that worked.
    fn save(&mut self, before: &super::memory::Kept) -> bool {
        if self.memory.kept == *before {
            return true;
        }
        match self.parts.store.kept_save(&self.memory.kept) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "nothing is done until the memory can be written");
                self.memory.kept = before.clone();
                false
            }
        }
    }

    /// Gives the proxy its table if it does not have it; whether it was given one, and what it could not hold.
    async fn put_table(&mut self, desired: &Desired, observed: &Observed, decision: &Decision) -> (bool, Vec<String>) {
        let Parts { host, edges, .. } = &self.parts;
        let (mut table, mut warnings) = table(host, edges, desired, observed, &self.memory, &decision.retiring);
        warnings.extend(self.proxy_error.clone());
        let Some(status) = &self.status else { return (false, warnings) };
        if let Some(served) = &self.served {
            table.number = served.table.number;
            if served.table == table {
                return (false, warnings);
            }
        }
        table.number = status.number.saturating_add(1);
        match self.parts.edge.table_put(&table).await {
            Ok(status) => {
                let keys = table.routes.iter().flat_map(|route| &route.locals).map(|local| local.key.clone()).collect();
                self.status = Some(status);
                self.served = Some(Served { table, keys });
                (true, warnings)
            }
            Err(error) => {
                self.served = None;
                warnings.push(format!("the proxy did not take its table: {error}"));
                (false, warnings)
            }
        }
    }

    fn begin(&mut self, decision: &Decision, wanted: &Wanted) {
        let mut busy: BTreeSet<Work> = self.started.values().map(|started| started.work.clone()).collect();
        for action in &decision.actions {
            let work = action.work();
            if !busy.insert(work.clone()) {
                continue;
            }
            let before = self.memory.kept.clone();
            match action {
                Action::Stop { container, .. } => {
                    self.memory.kept.stopping.insert(container.clone());
                }
                Action::Start { container, .. } => {
                    self.memory.kept.stopping.remove(container);
                }
                _ => {}
            }
            if !self.save(&before) {
                return;
            }
            tracing::info!(%work, action = %name_of(action), "begins");
            let actor = self.actor.clone();
            let limits = wanted.limits(&work);
            let doing = action.clone();
            let task = self.tasks.spawn(async move { actor.act(doing).await });
            self.started.insert(task.id(), Started { work, action: action.clone(), limits });
        }
    }

    fn finish(&mut self, joined: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match joined {
            Ok(ended) => ended,
            Err(error) => (error.id(), Outcome::Retry { error: "it broke off".to_owned(), pull: false }),
        };
        let Some(started) = self.started.remove(&id) else { return };
        let Started { work, action, limits } = started;
        let before = self.memory.kept.clone();
        if matches!(action, Action::Create { .. }) && outcome != Outcome::Done {
            // The image or a volume may be gone.
            self.memory.prepared.retain(|(prepared, _digest), _| *prepared != work);
        }
        match outcome {
            Outcome::Done => {
                self.memory.retries.remove(&work);
            }
            Outcome::Prepared { digest, reference, pulled } => {
                self.memory.retries.remove(&work);
                if let Some(pulled) = pulled.filter(|_| self.memory.kept.images.len() < images::PULLED_MAX) {
                    self.memory.kept.images.insert(digest, pulled);
                }
                self.memory.prepared.insert((work, digest), reference);
            }
            Outcome::Failed(failure) => {
                tracing::warn!(%work, error = failure.error, "failed");
                self.memory.kept.failures.insert(work.to_string(), failure);
            }
            Outcome::Retry { error, pull } => self.again(work, limits, error, pull),
            Outcome::Refused { error } => {
                let proven = match (&work, &limits) {
                    (Work::Service(key), Some((spec, _))) => self.memory.kept.is_proven(key, spec),
                    _ => false,
                };
                let begins = matches!(action, Action::Prepare { .. } | Action::Create { .. } | Action::Start { .. });
                match limits {
                    Some((spec, _)) if begins && !proven => {
                        tracing::warn!(%work, error, "refused");
                        self.memory.kept.failures.insert(work.to_string(), Failure { spec, error, log: Vec::new() });
                    }
                    limits => self.again(work, limits, error, false),
                }
            }
        }
        // A failure that could not be written down is found again by the next look.
        self.save(&before);
    }

    fn again(&mut self, work: Work, limits: Option<(String, u64)>, error: String, pull: bool) {
        let now = (self.parts.clock)();
        let spec = limits.as_ref().map(|(spec, _)| spec.clone());
        let retry = Retry::after(self.memory.retries.get(&work), spec, error, now);
        tracing::warn!(%work, error = retry.error, attempts = retry.attempts, "is tried again");
        if let Some((spec, seconds)) = limits
            && pull
            && now.since(retry.since) >= Duration::from_secs(seconds)
        {
            let error = format!("the image could not be pulled for {seconds} s: {}", retry.error);
            self.memory.kept.failures.insert(work.to_string(), Failure { spec, error, log: Vec::new() });
            return;
        }
        self.memory.retries.insert(work, retry);
    }

    fn say(
        &self,
        number: u64,
        observed: &Observed,
        decision: &Decision,
        desired: Option<&Desired>,
        warnings: Vec<String>,
    ) {
        let standing = Standing {
            number,
            engine: EngineState::Up { version: self.version.clone().unwrap_or_default() },
            instances: report::instances(observed, &self.memory, &decision.retiring, &self.digests),
            services: desired.map(|desired| report::services(desired, decision)).unwrap_or_default(),
            jobs: report::jobs(decision),
            proxy: report::proxy(self.status.as_ref()),
            warnings: report::warnings(warnings),
        };
        self.parts.standing.send_if_modified(|current| {
            let changed = *current != standing;
            *current = standing;
            changed
        });
    }
}

fn name_of(action: &Action) -> String {
    match action {
        Action::NetworkEnsure(_) => "make the network".to_owned(),
        Action::NetworkRemove { .. } => "remove the network".to_owned(),
        Action::Prepare { image, .. } => format!("prepare {}@{}", image.repository, image.digest),
        Action::Create { container, .. } => format!("create {}", container.name),
        Action::Start { container, .. } => format!("start {container}"),
        Action::Autopsy { container, cause, .. } => format!("look into {container}: {cause}"),
        Action::Stop { container, .. } => format!("stop {container}"),
        Action::Remove { container, .. } => format!("remove {container}"),
    }
}

async fn watch_events(engine: Arc<dyn Engine>, label: Labels, pulse: Arc<Notify>) {
    loop {
        if let Ok(mut events) = engine.events(&label).await {
            // Events may have been missed before the stream was open.
            pulse.notify_one();
            while let Some(Ok(_event)) = events.next().await {
                pulse.notify_one();
            }
        }
        tokio::time::sleep(Duration::from_millis(EVENTS_AGAIN_MILLIS)).await;
    }
}
