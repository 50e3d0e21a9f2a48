//! What the ends of steps change in what a supervisor knows.

use engine::{ContainerState, Health, NetworkSpec};

use super::steps::{Ended, Outcome};
use super::{Goal, Supervisor, unreachable};
use crate::error::{Error, ErrorKind};
use crate::plan::{Action, health_key};
use crate::progress::Told;
use crate::resolve::{self, HEALTH_HINT};
use crate::wanted::{LABEL_SERVICE, WantedService};

impl Supervisor {
    /// Takes in what a step came to.
    pub(super) fn finish(&mut self, ended: Ended) {
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
            (Action::Image { reference, .. }, Outcome::Image(ids, has_healthcheck)) => {
                if !has_healthcheck {
                    self.health_missing(&reference);
                }
                self.memory.images.insert(reference.clone(), ids);
                self.memory.present.insert(reference);
            }
            (Action::Create { .. }, Outcome::Created(summary)) => {
                self.observed.containers.entry(summary.id.clone()).or_insert(*summary);
            }
            (Action::Start { service, id }, outcome) => {
                self.memory.started.insert(id.clone());
                self.memory.unhooked.remove(&id);
                self.undone.end(&id);
                self.memory.restart.remove(&service);
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
    pub(super) fn replaced(&mut self, service: &str) {
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

    /// Says of the services of an image that are awaited to be healthy that they never are.
    fn health_missing(&mut self, reference: &str) {
        let Goal::Run(wanted) = &self.goal else { return };
        let of_it = |service: &&WantedService| service.reference() == Some(reference) && !service.health_for.is_empty();
        for (name, service) in wanted.services.iter().filter(|(_, service)| of_it(service)) {
            let why = format!("{}, nor has its image", resolve::health_missing(name, &service.health_for));
            self.memory.failed.insert(health_key(name), why.clone());
            self.voice.tell(Told::Failed { service: name.clone(), why: format!("{why}\n{HEALTH_HINT}") });
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
}
