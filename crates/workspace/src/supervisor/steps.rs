//! Steps of a supervisor: each is a task that calls the engine, and ends with what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use compose::model::Hook;
use engine::ensure::volume_ensure;
use engine::wanted::STOP_GRACE_DEFAULT;
use engine::{
    Container, ContainerState, ContainerSummary, Engine, EngineError, ErrorKind as EngineErrorKind, Health, Network,
    NetworkSpec, WantedContainer,
};

use super::{Goal, Supervisor};
use crate::contents;
use crate::error::Error;
use crate::hooks::{self, LABEL_POST_START, LABEL_PRE_STOP};
use crate::images::Images;
use crate::plan::{Action, health_at_start};
use crate::progress::{Told, Voice};
use crate::wanted::{LABEL_GRACE, LABEL_WORKSPACE, Wanted, WantedService};

/// A step that has ended.
pub(super) struct Ended {
    pub(super) key: String,
    pub(super) action: Option<Action>,
    pub(super) result: Result<Outcome, Error>,
}

pub(super) enum Outcome {
    Done,
    /// Volumes that were found though they do not carry the workspace's label.
    Volumes(BTreeSet<String>),
    Network(Box<Network>),
    /// The ids under which the engine may have it, and whether it has a healthcheck where somebody needs it.
    Image(BTreeSet<String>, bool),
    Created(Box<ContainerSummary>),
    Seen(Option<Box<Container>>),
}

impl Supervisor {
    pub(super) fn spawn(&mut self, action: Action) {
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
        let network = match &action {
            Action::NetworkRemove(name) => self.observed.networks.get(name).map(|network| network.id.clone()),
            _ => None,
        };
        self.tasks.spawn(async move {
            if let Some(fill) = fill {
                let result = match &action {
                    Action::Fill { id, .. } => fill.run(work.engine.as_ref(), id).await.map(|()| BTreeSet::new()),
                    _ => fill.begin(work.engine.as_ref()).await,
                };
                return Ended { key, action: Some(action), result: result.map(Outcome::Volumes) };
            }
            let result = match &action {
                Action::NetworkRemove(name) => {
                    let network = network.as_ref().unwrap_or(name);
                    work.engine.network_remove(network).await.map(|()| Outcome::Done)
                }
                Action::NetworkCreate(spec) => work.network(spec).await,
                Action::VolumeEnsure(spec) => volume_ensure(work.engine.as_ref(), spec).await.map(|()| Outcome::Done),
                Action::VolumeRemove(name) => work.engine.volume_remove(name).await.map(|()| Outcome::Done),
                Action::FillBegin { .. } | Action::Fill { .. } => Ok(Outcome::Done),
                Action::Image { service: name, .. } => {
                    let Some(service) = service else {
                        return Ended { key, action: Some(action), result: Ok(Outcome::Done) };
                    };
                    let result = work.image(name, &service).await;
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

    /// The image of a service, and whether it has a healthcheck where somebody needs it.
    async fn image(&self, name: &str, service: &WantedService) -> Result<Outcome, Error> {
        let ids = self.images.ensure(name, service).await?;
        let reference = service.reference().unwrap_or_default();
        let mut others = self.wanted.iter().flat_map(|wanted| wanted.services.values());
        let is_needed = others.any(|other| other.reference() == Some(reference) && !other.health_for.is_empty());
        let has_healthcheck = match is_needed {
            true => self.engine.image_inspect(reference).await?.is_none_or(|image| image.healthcheck),
            false => true,
        };
        Ok(Outcome::Image(ids, has_healthcheck))
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
