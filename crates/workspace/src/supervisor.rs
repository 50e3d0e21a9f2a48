//! Carries out what [`crate::plan`] decides: an actor whose state is what it saw of the engine, whose messages are the
//! engine's events and the ends of its own steps. It may be killed at any moment, and the next one goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compose::model::Hook;
use engine::ensure::{log_tail, volume_ensure};
use engine::wanted::{STOP_GRACE_DEFAULT, WantedRestart};
use engine::{
    Container, ContainerState, ContainerSummary, Engine, EngineError, EngineEvent, ErrorKind as EngineErrorKind,
    EventKind, Health, Network, NetworkSpec, WantedContainer,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::task::JoinSet;

use crate::contents;
use crate::error::{Error, ErrorKind};
use crate::hooks::{self, LABEL_POST_START, LABEL_PRE_STOP, Undone};
use crate::images::Images;
use crate::plan::{Action, Decision, Memory, Observed, Standing, decide, decide_end, health_at_start};
use crate::progress::{Told, Voice};
use crate::wanted::{LABEL_GRACE, LABEL_SERVICE, LABEL_WORKSPACE, Wanted, labels_of, place_of};

/// How often everything is looked at again, whatever the engine's events said.
const LOOK_SECONDS: u64 = 30;
/// Pauses between two tries to reach an engine that went away.
const AGAIN_MILLIS: [u64; 5] = [250, 500, 1000, 2000, 5000];
/// A container that ends so often in one run is not waited for any longer.
const DEATHS_MAX: u32 = 5;
/// Last lines of a container that failed.
const FAILURE_LINES: u32 = 20;

/// What a workspace is to come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// All that should be is, and nothing else.
    Run(Arc<Wanted>),
    /// Nothing runs.
    Stopped,
    /// Nothing is there but volumes.
    Gone,
}

/// Keeps one workspace.
pub struct Supervisor {
    engine: Arc<dyn Engine>,
    images: Images,
    workspace: String,
    voice: Voice,
    observed: Observed,
    memory: Memory,
    goal: Goal,
    standing: BTreeMap<String, Standing>,
    tasks: JoinSet<Ended>,
    events: Option<BoxStream<'static, Result<EngineEvent, EngineError>>>,
    /// Containers whose start is under way and not seen yet.
    starting: BTreeSet<String>,
    /// Containers that this process stops: their end is no failure.
    stopping: BTreeSet<String>,
    /// Containers that somebody else in this process restarts: they count as what they were until that is over.
    restarting: BTreeSet<String>,
    /// Containers whose next end belongs to a restart, and is no failure, whenever it is heard of.
    ending: BTreeSet<String>,
    deaths: BTreeMap<String, u32>,
    /// The engine does not answer, since so many tries.
    lost: Option<usize>,
    /// Something happened that is not understood from events alone.
    is_dirty: bool,
    /// Containers are killed rather than asked to stop.
    in_haste: bool,
    /// Containers whose `post_start` hooks did not all run.
    undone: Undone,
    /// A container did not start because somebody else took its port.
    port_taken: bool,
}

/// A step that has ended.
struct Ended {
    key: String,
    action: Option<Action>,
    result: Result<Outcome, Error>,
}

enum Outcome {
    Done,
    /// Volumes that were found though they do not carry the workspace's label.
    Volumes(BTreeSet<String>),
    Network(Box<Network>),
    Image(BTreeSet<String>),
    Created(Box<ContainerSummary>),
    Seen(Option<Box<Container>>),
}

impl Supervisor {
    /// Begins with what is there now.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn begin(
        engine: Arc<dyn Engine>,
        images: Images,
        workspace: &str,
        voice: Voice,
    ) -> Result<Self, EngineError> {
        let mut supervisor = Self::with(engine, images, workspace, voice, Observed::default());
        supervisor.observe().await?;
        Ok(supervisor)
    }

    /// Begins with what somebody has just seen. `observed` must have been asked for after `events`.
    pub fn with(engine: Arc<dyn Engine>, images: Images, workspace: &str, voice: Voice, observed: Observed) -> Self {
        let running = |container: &&ContainerSummary| container.state == ContainerState::Running;
        let started = observed.containers.values().filter(running).map(|container| container.id.clone()).collect();
        let memory = Memory { images: images.known(), started, ..Memory::default() };
        Self {
            engine,
            images,
            workspace: workspace.to_owned(),
            voice,
            observed,
            memory,
            goal: Goal::Stopped,
            standing: BTreeMap::new(),
            tasks: JoinSet::new(),
            events: None,
            starting: BTreeSet::new(),
            stopping: BTreeSet::new(),
            restarting: BTreeSet::new(),
            ending: BTreeSet::new(),
            deaths: BTreeMap::new(),
            lost: None,
            is_dirty: false,
            in_haste: false,
            port_taken: false,
            undone: Undone::default(),
        }
    }

    /// Remembers in a folder which containers' hooks are still to run, and takes up what was left there.
    #[must_use]
    pub fn remembering(mut self, folder: PathBuf) -> Self {
        self.undone = Undone::kept(folder);
        self.undone.retain(|id| self.observed.containers.contains_key(id));
        self.memory.unhooked.clone_from(self.undone.containers());
        self
    }

    /// Changes what the workspace is to come to. What failed before is tried again.
    pub fn aim(&mut self, goal: Goal) {
        self.goal = goal;
        self.memory.failed.clear();
        self.memory.images = self.images.known();
        self.deaths.clear();
        self.standing.clear();
        self.port_taken = false;
    }

    /// Stops a service's containers and starts them again; those that ended are started. What failed about the service is
    /// tried again. Whether there is such a service to run.
    pub fn restart(&mut self, service: &str) -> bool {
        let Goal::Run(wanted) = &self.goal else { return false };
        let Some(of_it) = wanted.services.get(service) else { return false };
        self.memory.failed.remove(&format!("image {}", of_it.reference().unwrap_or_default()));
        for slot in 1..=of_it.containers.len() {
            self.memory.failed.remove(&format!("container {service} {slot}"));
        }
        let here = self
            .observed
            .containers
            .values()
            .filter(|found| place_of(&found.labels).is_some_and(|(of, _)| of == service));
        for found in here {
            self.memory.failed.remove(&format!("container {}", found.id));
            self.deaths.remove(&found.id);
            if !matches!(found.state, ContainerState::Running | ContainerState::Restarting | ContainerState::Paused) {
                self.memory.started.remove(&found.id);
            }
            self.memory.restart.insert(service.to_owned());
        }
        true
    }

    /// Containers are killed rather than asked to stop, from now on.
    pub fn hurry(&mut self) {
        self.in_haste = true;
        for container in self.observed.containers.values().filter(|container| self.stopping.contains(&container.id)) {
            let (engine, id) = (self.engine.clone(), container.id.clone());
            // One that has just ended needs no signal.
            self.tasks.spawn(async move {
                let _ended = engine.container_kill(&id, "SIGKILL").await;
                Ended { key: format!("kill {id}"), action: None, result: Ok(Outcome::Done) }
            });
        }
    }

    /// These containers are restarted, for a reason of their own, from now until [`Supervisor::restart_ends`].
    pub fn restart_begins(&mut self, containers: &[String]) {
        self.restarting.extend(containers.iter().cloned());
        self.ending.extend(containers.iter().cloned());
    }

    /// They were restarted, or could not be.
    pub fn restart_ends(&mut self, containers: &[String]) {
        for id in containers {
            if self.restarting.remove(id) {
                self.look_at(id);
            }
        }
    }

    /// What is there.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Images that were identified so far.
    pub fn images_known(&self) -> crate::state::KnownImages {
        self.images.known()
    }

    /// How each service stands.
    pub fn standing(&self) -> &BTreeMap<String, Standing> {
        &self.standing
    }

    /// What did not work, in the order of keys.
    pub fn failures(&self) -> impl Iterator<Item = &String> {
        self.memory.failed.values()
    }

    /// Whether a container did not start because somebody else took its port after it was found free.
    pub fn port_was_taken(&self) -> bool {
        self.port_taken
    }

    /// Goes on until nothing is left to do.
    ///
    /// # Errors
    /// The engine went away.
    pub async fn settle(&mut self) -> Result<(), Error> {
        while !self.turn() {
            self.wait().await;
            if let Some(tries) = self.lost
                && tries >= AGAIN_MILLIS.len()
            {
                let why = format!("cannot reach the container engine, for workspace {}", self.workspace);
                return Err(EngineError::new(EngineErrorKind::Unreachable, why, "it went away and stays away").into());
            }
        }
        Ok(())
    }

    /// Begins all that can be begun; whether nothing is left to do.
    pub fn turn(&mut self) -> bool {
        if self.lost.is_some() {
            return false;
        }
        let decision = match &self.goal {
            Goal::Run(wanted) => decide(wanted, &self.observed, &self.memory),
            Goal::Stopped => decide_end(&self.observed, &self.memory, false),
            Goal::Gone => decide_end(&self.observed, &self.memory, true),
        };
        self.tell(&decision);
        let is_settled = decision.is_settled && self.tasks.is_empty() && !self.is_dirty;
        for action in decision.actions {
            self.spawn(action);
        }
        is_settled
    }

    /// Waits until something has happened.
    pub async fn wait(&mut self) {
        if let Some(tries) = self.lost {
            let pause = AGAIN_MILLIS.get(tries).or(AGAIN_MILLIS.last()).copied().unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            return self.find_again(tries).await;
        }
        if self.is_dirty && self.tasks.is_empty() {
            self.is_dirty = false;
            if let Err(error) = self.observe().await {
                self.lose(&error);
            }
            return;
        }
        if self.events.is_none() {
            // Events begin before the look, so that nothing is missed between the two.
            if let Err(error) = self.listen_and_look().await {
                self.lose(&error);
            }
            return;
        }
        let Some(events) = &mut self.events else { return };
        tokio::select! {
            Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => match ended {
                Ok(ended) => self.finish(ended),
                Err(error) => {
                    tracing::warn!(%error, "a step broke off");
                    self.is_dirty = true;
                }
            },
            event = events.next() => match event {
                Some(Ok(event)) => self.happened(&event),
                Some(Err(error)) => self.lose(&error),
                None => self.lose(&EngineError::new(EngineErrorKind::Unreachable, "cannot follow events", "the engine ended them")),
            },
            () = tokio::time::sleep(Duration::from_secs(LOOK_SECONDS)) => self.is_dirty = true,
        }
    }

    async fn listen_and_look(&mut self) -> Result<(), EngineError> {
        let events = self.engine.events(&labels_of(&self.workspace)).await?;
        if self.tasks.is_empty() {
            self.observe().await?;
        } else {
            self.is_dirty = true;
        }
        self.events = Some(events);
        Ok(())
    }

    /// Looks at everything. Only while no step is under way: a list may be older than a step's end.
    async fn observe(&mut self) -> Result<(), EngineError> {
        let mut observed = look(self.engine.as_ref(), &self.workspace).await?;
        for id in &self.restarting {
            if let (Some(known), Some(found)) = (self.observed.containers.get(id), observed.containers.get_mut(id)) {
                (found.state, found.health, found.exit_code) = (known.state, known.health, known.exit_code);
            }
        }
        self.observed = observed;
        let running = self.observed.containers.values().filter(|found| found.state == ContainerState::Running);
        self.memory.started.extend(running.map(|found| found.id.clone()));
        Ok(())
    }

    fn lose(&mut self, error: &EngineError) {
        self.events = None;
        if self.lost.is_none() {
            self.lost = Some(0);
            self.voice.tell(Told::Engine { up: false, why: error.to_string() });
        }
    }

    async fn find_again(&mut self, tries: usize) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(ended) = ended {
                self.finish(ended);
            }
        }
        match self.listen_and_look().await {
            Ok(()) => {
                self.lost = None;
                // What ended with the engine did not end by itself.
                let running = self.observed.containers.values().filter(|found| found.state == ContainerState::Running);
                self.memory.started = running.map(|found| found.id.clone()).collect();
                self.starting.clear();
                self.stopping.clear();
                self.deaths.clear();
                self.voice.tell(Told::Engine { up: true, why: String::new() });
            }
            Err(_still) => self.lost = Some(tries + 1),
        }
    }

    fn wanted(&self, service: &str, slot: usize) -> Option<&WantedContainer> {
        let Goal::Run(wanted) = &self.goal else { return None };
        wanted.services.get(service)?.containers.get(slot.checked_sub(1)?)
    }

    /// What a container of the workspace was made from, if that is still what its place wants.
    fn wanted_of(&self, id: &str) -> Option<&WantedContainer> {
        let (service, slot) = crate::wanted::place_of(&self.observed.containers.get(id)?.labels)?;
        self.wanted(service, slot)
    }

    fn spawn(&mut self, action: Action) {
        let (engine, key) = (self.engine.clone(), action.key());
        if !self.memory.busy.insert(key.clone()) {
            return;
        }
        match &action {
            Action::Start { id, .. } => {
                self.starting.insert(id.clone());
                self.stopping.remove(id);
                if !self.hooks(id, LABEL_POST_START).is_empty() {
                    self.undone.begin(id);
                    self.memory.unhooked.insert(id.clone());
                }
            }
            Action::Stop { id, .. } | Action::Remove { id, .. } => {
                self.stopping.insert(id.clone());
            }
            _ => {}
        }
        let work = Work {
            engine,
            workspace: self.workspace.clone(),
            images: self.images.clone(),
            grace: self.grace(&action),
            runs: self.runs(&action),
            hooks: match &action {
                Action::Start { id, .. } => self.hooks(id, LABEL_POST_START),
                Action::Stop { id, .. } | Action::Remove { id, .. } if !self.in_haste => self.hooks(id, LABEL_PRE_STOP),
                _ => Vec::new(),
            },
            voice: self.voice.clone(),
            wanted: match &self.goal {
                Goal::Run(wanted) => Some(wanted.clone()),
                Goal::Stopped | Goal::Gone => None,
            },
        };
        let container = match &action {
            Action::Create { service, slot } => self.wanted(service, *slot).cloned(),
            Action::Start { id, .. } => self.wanted_of(id).cloned(),
            _ => None,
        };
        let service = match (&action, &self.goal) {
            (Action::Image { service, .. }, Goal::Run(wanted)) => wanted.services.get(service).cloned(),
            _ => None,
        };
        let image_id = match &container {
            Some(container) => self.memory.images.get(&container.image).and_then(|ids| ids.first()).cloned(),
            None => None,
        };
        let fill = match (&action, &self.goal) {
            (Action::Fill { service, .. } | Action::FillBegin { service }, Goal::Run(wanted)) => {
                wanted.fills.get(service).cloned()
            }
            _ => None,
        };
        if let Action::Fill { service, .. } = &action {
            self.voice.tell(Told::Filling { service: service.clone() });
        }
        self.tasks.spawn(async move {
            if let Some(fill) = fill {
                let result = match &action {
                    Action::Fill { id, .. } => fill.run(work.engine.as_ref(), id).await.map(|()| BTreeSet::new()),
                    _ => fill.begin(work.engine.as_ref()).await,
                };
                return Ended { key, action: Some(action), result: result.map(Outcome::Volumes) };
            }
            let result = match &action {
                Action::NetworkRemove(name) => work.engine.network_remove(name).await.map(|()| Outcome::Done),
                Action::NetworkCreate(spec) => work.network(spec).await,
                Action::VolumeEnsure(spec) => volume_ensure(work.engine.as_ref(), spec).await.map(|()| Outcome::Done),
                Action::VolumeRemove(name) => work.engine.volume_remove(name).await.map(|()| Outcome::Done),
                Action::FillBegin { .. } | Action::Fill { .. } => Ok(Outcome::Done),
                Action::Image { service: name, .. } => {
                    let Some(service) = service else {
                        return Ended { key, action: Some(action), result: Ok(Outcome::Done) };
                    };
                    let result = work.images.ensure(name, &service).await.map(Outcome::Image);
                    return Ended { key, action: Some(action), result };
                }
                Action::Create { .. } => match container {
                    Some(container) => work.create(&container, image_id.unwrap_or_default()).await,
                    None => Ok(Outcome::Done),
                },
                Action::Start { id, .. } => work.start(id, container.as_ref()).await,
                Action::Stop { service, id } => work.stop(service, id).await.map(|()| Outcome::Done),
                Action::Remove { service, id, .. } => work.remove(service, id).await,
            };
            Ended { key, action: Some(action), result: result.map_err(Error::from) }
        });
    }

    fn hooks(&self, id: &str, label: &str) -> Vec<Hook> {
        self.observed.containers.get(id).map(|found| hooks::of(&found.labels, label)).unwrap_or_default()
    }

    fn grace(&self, action: &Action) -> Duration {
        let (Action::Stop { id, .. } | Action::Remove { id, .. }) = action else { return STOP_GRACE_DEFAULT };
        if self.in_haste {
            return Duration::ZERO;
        }
        let label = self.observed.containers.get(id).and_then(|found| found.labels.get(LABEL_GRACE));
        label.and_then(|millis| millis.parse().ok()).map_or(STOP_GRACE_DEFAULT, Duration::from_millis)
    }

    fn runs(&self, action: &Action) -> bool {
        let Action::Remove { id, .. } = action else { return false };
        let state = self.observed.containers.get(id).map(|found| found.state);
        matches!(state, Some(ContainerState::Running | ContainerState::Restarting | ContainerState::Paused))
    }

    /// Takes in what a step came to.
    fn finish(&mut self, ended: Ended) {
        self.memory.busy.remove(&ended.key);
        let Some(action) = ended.action else {
            match ended.result {
                Ok(Outcome::Seen(found)) => self.seen(ended.key.trim_start_matches("look "), found.as_deref()),
                Err(error) if error.kind == ErrorKind::EngineAway => self.lose(&unreachable(error)),
                _ => {}
            }
            return;
        };
        if let (Action::Fill { service, .. }, Err(_)) = (&action, &ended.result) {
            // Another try begins with new volumes.
            self.memory.fresh.remove(service);
        }
        let outcome = match ended.result {
            Ok(outcome) => outcome,
            Err(error) if error.kind == ErrorKind::EngineAway => {
                // The engine is asked again once it answers.
                return self.lose(&unreachable(error));
            }
            Err(error) => return self.failed(ended.key, &action, &error),
        };
        match (action, outcome) {
            (Action::NetworkCreate(_), Outcome::Network(network)) => {
                self.observed.networks.insert(network.name.clone(), *network);
            }
            (Action::NetworkRemove(name), _) => {
                self.observed.networks.remove(&name);
            }
            (Action::VolumeEnsure(spec), _) => {
                if let Goal::Run(wanted) = &self.goal {
                    let filled = wanted.fills.iter().filter(|(_, fill)| fill.volumes.contains(&spec.name));
                    self.memory.fresh.extend(filled.map(|(service, _)| service.clone()));
                }
                self.observed.volumes.insert(spec.name);
            }
            (Action::VolumeRemove(name), _) => {
                self.observed.volumes.remove(&name);
            }
            (Action::FillBegin { service }, Outcome::Volumes(there)) => match &self.goal {
                Goal::Run(wanted) if there.is_empty() => {
                    let marker = wanted.fills.get(&service).map(|fill| fill.marker.name.clone());
                    self.observed.volumes.extend(marker);
                }
                _ => self.observed.volumes.extend(there),
            },
            (Action::Fill { service, .. }, Outcome::Volumes(_)) => {
                if let Goal::Run(wanted) = &self.goal
                    && let Some(fill) = wanted.fills.get(&service)
                {
                    self.observed.volumes.remove(&fill.marker.name);
                }
                self.voice.tell(Told::Filled { service });
            }
            (Action::Image { reference, .. }, Outcome::Image(ids)) => {
                self.memory.images.insert(reference.clone(), ids);
                self.memory.present.insert(reference);
            }
            (Action::Create { .. }, Outcome::Created(summary)) => {
                self.observed.containers.entry(summary.id.clone()).or_insert(*summary);
            }
            (Action::Start { service, id }, outcome) => {
                self.memory.started.insert(id.clone());
                self.memory.restart.remove(&service);
                self.memory.unhooked.remove(&id);
                self.undone.end(&id);
                // Events may have said more by now than what was true right after the start.
                if self.starting.remove(&id) {
                    match outcome {
                        Outcome::Seen(found) => self.seen(&id, found.as_deref()),
                        _ => self.runs_since_now(&id),
                    }
                }
                self.voice.tell(Told::Started { service });
            }
            (Action::Stop { service, id }, _) => {
                if let Some(found) = self.observed.containers.get_mut(&id) {
                    (found.state, found.health) = (ContainerState::Exited, Health::None);
                }
                self.memory.started.remove(&id);
                self.memory.restart.remove(&service);
                self.stopping.remove(&id);
                self.voice.tell(Told::Stopped { service });
            }
            (Action::Remove { service, id, name, replaced }, _) => {
                self.observed.containers.remove(&id);
                self.stopping.remove(&id);
                self.memory.unhooked.remove(&id);
                self.undone.end(&id);
                if replaced {
                    self.replaced(&service);
                }
                self.voice.tell(Told::Removed { name });
            }
            _ => {}
        }
    }

    /// Marks the services that are restarted when one that they await is replaced.
    fn replaced(&mut self, service: &str) {
        let Goal::Run(wanted) = &self.goal else { return };
        let dependents = wanted
            .services
            .iter()
            .filter(|(_, dependent)| dependent.awaits.get(service).is_some_and(|dependency| dependency.restart));
        for (name, _) in dependents {
            let runs =
                self.observed.containers.values().any(|found| {
                    found.labels.get(LABEL_SERVICE) == Some(name) && found.state == ContainerState::Running
                });
            if runs {
                self.memory.restart.insert(name.clone());
            }
        }
    }

    fn failed(&mut self, key: String, action: &Action, error: &Error) {
        if let Action::Start { id, .. } = action {
            self.starting.remove(id);
            self.port_taken |= error.kind == ErrorKind::PortTaken;
        }
        let service = match action {
            Action::Image { service, .. }
            | Action::Create { service, .. }
            | Action::Start { service, .. }
            | Action::Stop { service, .. }
            | Action::Remove { service, .. } => service.clone(),
            Action::NetworkRemove(name) | Action::NetworkCreate(NetworkSpec { name, .. }) => name.clone(),
            Action::FillBegin { service } | Action::Fill { service, .. } => service.clone(),
            Action::VolumeEnsure(spec) => spec.name.clone(),
            Action::VolumeRemove(name) => name.clone(),
        };
        self.memory.failed.insert(key, error.why.clone());
        let hint = error.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default();
        self.voice.tell(Told::Failed { service, why: format!("{}{hint}", error.why) });
    }

    /// Takes in an event.
    fn happened(&mut self, event: &EngineEvent) {
        let id = &event.container;
        if !self.observed.containers.contains_key(id) {
            // A container that somebody else makes, or one whose creation has not ended yet.
            if event.kind != EventKind::Create && !self.memory.busy.iter().any(|key| key.starts_with("container ")) {
                self.is_dirty = true;
            }
            return;
        }
        if self.restarting.contains(id) && event.kind != EventKind::Destroy {
            if matches!(event.kind, EventKind::Die(_)) {
                self.ending.remove(id);
            }
            return;
        }
        match event.kind {
            EventKind::Create | EventKind::OutOfMemory => {}
            EventKind::Start => {
                // Where the image decides about a healthcheck, the step that starts it looks.
                let is_known = self.wanted_of(id).and_then(health_at_start).is_some();
                match self.starting.contains(id) {
                    true if is_known => {
                        self.starting.remove(id);
                        self.runs_since_now(id);
                    }
                    true => {}
                    false => self.look_at(id),
                }
            }
            EventKind::Health(health) => {
                self.starting.remove(id);
                if let Some(found) = self.observed.containers.get_mut(id) {
                    (found.state, found.health) = (ContainerState::Running, health);
                }
            }
            EventKind::Die(code) => self.died(id, code),
            EventKind::Destroy => {
                self.observed.containers.remove(id);
            }
        }
    }

    /// An event may be of a run before this one, so the engine is asked how the container is now.
    fn died(&mut self, id: &str, code: i64) {
        self.starting.remove(id);
        self.memory.started.insert(id.to_owned());
        if self.stopping.contains(id) {
            return;
        }
        let is_failure = !self.ending.remove(id);
        if is_failure && self.wanted_of(id).is_some_and(|container| container.restart != WantedRestart::No) {
            let deaths = self.deaths.entry(id.to_owned()).or_default();
            *deaths += 1;
            if *deaths >= DEATHS_MAX {
                let why = format!("it ended {deaths} times, the last time with status {code}");
                self.memory.failed.insert(format!("container {id}"), why);
            }
        }
        self.look_at(id);
    }

    fn runs_since_now(&mut self, id: &str) {
        let health = self.wanted_of(id).and_then(health_at_start).unwrap_or(Health::None);
        if let Some(found) = self.observed.containers.get_mut(id) {
            (found.state, found.health, found.exit_code) = (ContainerState::Running, health, None);
            self.memory.started.insert(id.to_owned());
        }
    }

    /// Asks the engine how one container is.
    fn look_at(&mut self, id: &str) {
        let (engine, id, key) = (self.engine.clone(), id.to_owned(), format!("look {id}"));
        if !self.memory.busy.insert(key.clone()) {
            self.is_dirty = true;
        } else {
            self.tasks.spawn(async move {
                let found = engine.container_inspect(&id).await;
                let result = found.map(|found| Outcome::Seen(found.map(Box::new))).map_err(Error::from);
                Ended { key, action: None, result }
            });
        }
    }

    fn seen(&mut self, id: &str, found: Option<&Container>) {
        match (found, self.observed.containers.get_mut(id)) {
            (Some(found), Some(known)) => {
                (known.state, known.health, known.exit_code) = (found.state, found.health, found.exit_code);
            }
            (None, Some(_)) => {
                self.observed.containers.remove(id);
            }
            (_, None) => {}
        }
    }

    /// Says what changed about services.
    fn tell(&mut self, decision: &Decision) {
        for (service, standing) in &decision.standing {
            if self.standing.get(service) == Some(standing) {
                continue;
            }
            let was = self.standing.get(service).copied();
            let service = service.clone();
            match standing {
                Standing::Ready if was.is_some() => self.voice.tell(Told::Ready { service }),
                Standing::Completed if was.is_some() => self.voice.tell(Told::Completed { service }),
                Standing::Unhealthy | Standing::Failed => self.tell_failure(service),
                _ => {}
            }
        }
        self.standing.clone_from(&decision.standing);
    }

    /// Says why a container failed, with its last lines.
    fn tell_failure(&mut self, service: String) {
        let bad = self.observed.containers.values().find(|found| {
            found.labels.get(LABEL_SERVICE) == Some(&service)
                && (found.health == Health::Unhealthy
                    || matches!(found.state, ContainerState::Exited | ContainerState::Restarting))
        });
        // Other failures were said when they happened.
        let Some(found) = bad else { return };
        let what = match (found.health, found.exit_code) {
            (Health::Unhealthy, _) => "its healthcheck fails".to_owned(),
            (_, Some(code)) => format!("it ended with status {code}"),
            _ => "it ended".to_owned(),
        };
        let (engine, voice, id) = (self.engine.clone(), self.voice.clone(), found.id.clone());
        let key = format!("tell {id}");
        self.tasks.spawn(async move {
            let lines = log_tail(engine.as_ref(), &id, FAILURE_LINES).await.unwrap_or_default();
            let lines: String = lines.iter().map(|line| format!("\n  {}", line.text)).collect();
            voice.tell(Told::Failed { service, why: format!("{what}{lines}") });
            Ended { key, action: None, result: Ok(Outcome::Done) }
        });
    }
}

fn unreachable(error: Error) -> EngineError {
    EngineError::new(EngineErrorKind::Unreachable, error.why, "the engine does not answer")
}

/// Everything of a workspace, with three calls side by side.
///
/// # Errors
/// The engine does not answer.
pub async fn look(engine: &dyn Engine, workspace: &str) -> Result<Observed, EngineError> {
    let labels = labels_of(workspace);
    let (containers, networks, volumes) = tokio::try_join!(
        engine.container_summaries(&labels),
        engine.network_list(&labels),
        engine.volume_list(&labels)
    )?;
    Ok(Observed {
        containers: containers.into_iter().map(|found| (found.id.clone(), found)).collect(),
        networks: networks.into_iter().map(|network| (network.name.clone(), network)).collect(),
        volumes: volumes.into_iter().map(|volume| volume.name).collect(),
    })
}

/// What a step needs.
struct Work {
    engine: Arc<dyn Engine>,
    workspace: String,
    images: Images,
    grace: Duration,
    runs: bool,
    /// What is run in the container after its start, or before its stop.
    hooks: Vec<Hook>,
    voice: Voice,
    wanted: Option<Arc<Wanted>>,
}

impl Work {
    async fn network(&self, spec: &NetworkSpec) -> Result<Outcome, EngineError> {
        let id = match self.engine.network_create(spec).await {
            Ok(id) => id,
            Err(error) if error.kind == EngineErrorKind::Conflict => {
                // One that a killed command made is just as good.
                let found = self.engine.network_inspect(&spec.name).await?.filter(|found| self.is_ours(&found.labels));
                return found.map(|found| Outcome::Network(Box::new(found))).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        Ok(Outcome::Network(Box::new(Network {
            id,
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            internal: spec.internal,
            subnet: spec.subnet,
            range: None,
            gateway: None,
            containers: BTreeSet::new(),
        })))
    }

    async fn create(&self, wanted: &WantedContainer, image_id: String) -> Result<Outcome, EngineError> {
        let summary = |id: String, image_id: String| ContainerSummary {
            id,
            name: wanted.name.clone(),
            image_id,
            labels: wanted.labels_with_hash(),
            state: ContainerState::Created,
            health: Health::None,
            exit_code: None,
            networks: wanted.networks.keys().cloned().collect(),
            ports: BTreeSet::new(),
            created: base::clock::Micros::now(),
        };
        match self.engine.container_create(wanted).await {
            Ok(id) => Ok(Outcome::Created(Box::new(summary(id, image_id)))),
            Err(error) if error.kind == EngineErrorKind::Conflict => {
                let found = self.engine.container_inspect(&wanted.name).await?;
                let found = found.filter(|found| self.is_ours(&found.labels)).ok_or_else(|| {
                    let hint =
                        format!("Remove it (`docker rm {}`), or give the workspace another name with -p.", wanted.name);
                    error.clone().with_hint(hint)
                })?;
                let known = summary(found.id, found.image_id);
                let (labels, networks) = (found.labels, found.networks);
                let (state, health, exit_code) = (found.state, found.health, found.exit_code);
                let known = ContainerSummary { labels, networks, state, health, exit_code, ..known };
                Ok(Outcome::Created(Box::new(known)))
            }
            Err(error) => Err(error),
        }
    }

    async fn start(&self, id: &str, wanted: Option<&WantedContainer>) -> Result<Outcome, EngineError> {
        let files = wanted.and_then(|wanted| wanted.machine.as_ref()).map(|machine| machine.files.as_slice());
        if let (Some(files @ [_, ..]), Some(all)) = (files, &self.wanted) {
            // With every start: a command that was killed may have created it and not come to this.
            self.engine.container_archive_put(id, "/", contents::tar(files, &all.contents)).await?;
        }
        self.engine.container_start(id).await?;
        hooks::run(self.engine.as_ref(), id, &self.hooks).await?;
        if self.hooks.is_empty() && wanted.and_then(health_at_start).is_some() {
            return Ok(Outcome::Done);
        }
        Ok(Outcome::Seen(self.engine.container_inspect(id).await?.map(Box::new)))
    }

    async fn stop(&self, service: &str, id: &str) -> Result<(), EngineError> {
        match hooks::run(self.engine.as_ref(), id, &self.hooks).await {
            Ok(()) => {}
            // It ended by itself meanwhile.
            Err(error) if matches!(error.kind, EngineErrorKind::NotFound | EngineErrorKind::Conflict) => {}
            Err(error) if error.kind == EngineErrorKind::Unreachable => return Err(error),
            // What is to stop stops: a hook that fails would keep it for ever.
            Err(error) => {
                self.voice.tell(Told::Note(format!("{service}: pre_stop: {error}; it is stopped all the same")));
            }
        }
        self.engine.container_stop(id, self.grace).await
    }

    async fn remove(&self, service: &str, id: &str) -> Result<Outcome, EngineError> {
        if self.runs {
            self.stop(service, id).await?;
        }
        self.engine.container_remove(id).await?;
        Ok(Outcome::Done)
    }

    fn is_ours(&self, labels: &engine::Labels) -> bool {
        labels.get(LABEL_WORKSPACE) == Some(&self.workspace)
    }
}
