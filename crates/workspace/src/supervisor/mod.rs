//! Carries out what [`crate::plan`] decides: an actor whose state is what it saw of the engine, whose messages are the
//! engine's events and the ends of its own steps. It may be killed at any moment, and the next one goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{
    ContainerState, ContainerSummary, Engine, EngineError, EngineEvent, ErrorKind as EngineErrorKind, WantedContainer,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::hooks::Undone;
use crate::images::Images;
use crate::plan::{Memory, Observed, Standing, decide, decide_end, health_key};
use crate::progress::{Told, Voice};
use crate::wanted::{Wanted, labels_of, place_of};

mod ends;
mod events;
mod steps;

use steps::{Ended, Outcome};

/// How often everything is looked at again, whatever the engine's events said.
const LOOK_SECONDS: u64 = 30;
/// Pauses between two tries to reach an engine that went away.
const AGAIN_MILLIS: [u64; 5] = [250, 500, 1000, 2000, 5000];

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
        if let Goal::Run(before) = &self.goal {
            let failed = |name: &str| self.memory.failed.contains_key(&health_key(name));
            let unhealthy = before.services.iter().filter(|(name, _)| failed(name));
            let references: BTreeSet<&str> = unhealthy.filter_map(|(_, service)| service.reference()).collect();
            self.memory.present.retain(|reference| !references.contains(reference.as_str()));
        }
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
