//! What the engine says of containers, and what is said of services because of it.

use engine::ensure::log_tail;
use engine::wanted::WantedRestart;
use engine::{Container, ContainerState, EngineEvent, EventKind, Health};

use super::Supervisor;
use super::steps::{Ended, Outcome};
use crate::error::Error;
use crate::plan::{Decision, Standing, health_at_start};
use crate::progress::Told;
use crate::wanted::LABEL_SERVICE;

/// A container that ends so often in one run is not waited for any longer.
const DEATHS_MAX: u32 = 5;
/// Last lines of a container that failed.
const FAILURE_LINES: u32 = 20;

impl Supervisor {
    /// Takes in an event.
    pub(super) fn happened(&mut self, event: &EngineEvent) {
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
    pub(super) fn died(&mut self, id: &str, code: i64) {
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

    pub(super) fn runs_since_now(&mut self, id: &str) {
        let health = self.wanted_of(id).and_then(health_at_start).unwrap_or(Health::None);
        if let Some(found) = self.observed.containers.get_mut(id) {
            (found.state, found.health, found.exit_code) = (ContainerState::Running, health, None);
            self.memory.started.insert(id.to_owned());
        }
    }

    /// Asks the engine how one container is.
    pub(super) fn look_at(&mut self, id: &str) {
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

    pub(super) fn seen(&mut self, id: &str, found: Option<&Container>) {
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
    pub(super) fn tell(&mut self, decision: &Decision) {
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
