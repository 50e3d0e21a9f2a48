//! What to do next on a host, given what it should be, what it is, and the time. Pure: the same arguments give the same
//! decision, so that an agent that was killed at any moment goes on where it was.
//!
//! Invariants, held by the tests beside the converge loop:
//!
//! - a container is stopped only after it left the proxy's table and its requests ended, or had their time;
//! - a start-first service always has an admitted container once it had one;
//! - a container that may write to a volume is created only when no other of its service runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::Micros;
use api::agent::Progress;
use engine::wanted::WantedRestart;
use engine::{Container, ContainerState, Health, Subnet};

use super::action::Action;
use super::memory::{Memory, Work};
use super::names::{Member, ProjectKey, Role, ServiceKey};
use super::wanted::{Order, Wanted, WantedJob, WantedService};

/// How long a container without a healthcheck must have run to count as healthy.
pub const SETTLE_SECONDS: i64 = 2;
/// How long a container's connections have to end when its definition gives no `stop_grace_period`.
pub const DRAIN_SECONDS_DEFAULT: u64 = 30;
/// How long HTTP requests have to end before a container is stopped that must go before its successor starts.
pub const DRAIN_FIRST_SECONDS: u64 = 5;
/// How often a container may end and be started again before it counts as crashing for good.
pub const CRASHES_MAX: u32 = 5;
/// The pause before a container that ended is made or started again, in seconds.
const AGAIN_SECONDS: i64 = 1;

/// A network as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNetwork {
    /// The engine's id of it.
    pub id: String,
    /// The project it belongs to.
    pub project: ProjectKey,
    /// Its subnet.
    pub subnet: Option<Subnet>,
}

/// What of the proxy matters for replacing containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenProxy {
    /// Ids of the containers to which the table in force leads; `None` before this agent has put one.
    pub in_table: Option<BTreeSet<String>>,
    /// HTTP requests and other connections that are under way, by container.
    pub active: BTreeMap<String, (u64, u64)>,
}

/// What is, all of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// This host's containers.
    pub members: Vec<Member>,
    /// This host's networks, by their name on the engine.
    pub networks: BTreeMap<String, SeenNetwork>,
    /// The proxy.
    pub proxy: SeenProxy,
}

/// What to do, and how things stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// Actions that may all be carried out at the same time; of several for one [`Work`] only the first.
    pub actions: Vec<Action>,
    /// Containers that became ready: they take traffic from now on.
    pub admit: Vec<String>,
    /// Containers that take no new requests from now on.
    pub retiring: BTreeSet<String>,
    /// How each desired service stands.
    pub services: Vec<(ServiceKey, Progress)>,
    /// How each desired job stands, by run.
    pub jobs: Vec<(String, Progress)>,
    /// When to look again even if nothing happens.
    pub wake_at: Option<Micros>,
}

enum Step {
    Done,
    Do(Box<Action>, String),
    Wait(String),
    Failed,
}

impl Step {
    fn doing(action: Action, detail: String) -> Self {
        Self::Do(Box::new(action), detail)
    }
}

enum Ready {
    Yes,
    Later(Option<Micros>),
    Never(String),
}

/// Decides.
pub fn decide(wanted: &Wanted, observed: &Observed, memory: &Memory, now: Micros) -> Decision {
    let mut turn = Turn { observed, memory, now, decision: Decision::default() };
    turn.networks(wanted);
    for service in &wanted.services {
        let progress = turn.service(service);
        turn.decision.services.push((service.key.clone(), progress));
    }
    for job in &wanted.jobs {
        let progress = turn.job(job);
        turn.decision.jobs.push((job.run.clone(), progress));
    }
    turn.undesired(wanted);
    let mut decision = turn.decision;
    for refused in &wanted.refused {
        let progress = Progress::Failed { error: refused.error.clone(), log: Vec::new() };
        match (&refused.service, &refused.run) {
            (Some(key), _) => decision.services.push((key.clone(), progress)),
            (None, Some(run)) => decision.jobs.push((run.clone(), progress)),
            (None, None) => {}
        }
    }
    // What failed for a passing reason waits for its next try; everything about the same thing waits with it.
    decision.actions.retain(|action| {
        let Some(retry) = memory.retries.get(&action.work()).filter(|retry| retry.at > now) else { return true };
        decision.wake_at = Some(decision.wake_at.map_or(retry.at, |at| at.min(retry.at)));
        false
    });
    decision
}

struct Turn<'a> {
    observed: &'a Observed,
    memory: &'a Memory,
    now: Micros,
    decision: Decision,
}

impl Turn<'_> {
    fn wake_at(&mut self, at: Micros) {
        self.decision.wake_at = Some(self.decision.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn networks(&mut self, wanted: &Wanted) {
        for network in &wanted.networks {
            if !self.observed.networks.contains_key(&network.name) {
                self.decision.actions.push(Action::NetworkEnsure(network.clone()));
            }
        }
        let wanted_names: BTreeSet<&str> = wanted.networks.iter().map(|network| network.name.as_str()).collect();
        for (name, network) in &self.observed.networks {
            let used = self.observed.members.iter().any(|member| member.key.project == network.project);
            if !wanted_names.contains(name.as_str()) && !used {
                self.decision.actions.push(Action::NetworkRemove { name: name.clone(), id: network.id.clone() });
            }
        }
    }

    fn service(&mut self, service: &WantedService) -> Progress {
        let work = Work::Service(service.key.clone());
        let mut working = None;
        let mut failed = false;
        for slot in 0..service.instances {
            match self.slot(service, slot) {
                Step::Done => {}
                Step::Failed => failed = true,
                Step::Wait(detail) => {
                    working = Some(detail);
                    break;
                }
                Step::Do(action, detail) => {
                    self.decision.actions.push(*action);
                    working = Some(detail);
                    break;
                }
            }
        }
        let surplus: Vec<&Member> = self
            .members(&service.key)
            .filter(|member| matches!(member.role, Role::Slot(slot) if slot >= service.instances))
            .collect();
        for member in &surplus {
            match self.retire(member, Duration::from_secs(DRAIN_SECONDS_DEFAULT), true) {
                Step::Do(action, detail) => {
                    self.decision.actions.push(*action);
                    working.get_or_insert(detail);
                }
                Step::Wait(detail) => {
                    working.get_or_insert(detail);
                }
                Step::Done | Step::Failed => {}
            }
        }
        if failed && let Some(failure) = self.memory.kept.failure(&work, &service.spec) {
            return Progress::Failed { error: failure.error.clone(), log: failure.log.clone() };
        }
        match (working, self.memory.retries.get(&work)) {
            (Some(detail), Some(retry)) => {
                Progress::Working { detail: format!("{detail}; try {} failed: {}", retry.attempts, retry.error) }
            }
            (Some(detail), None) => Progress::Working { detail },
            (None, _) => Progress::Done,
        }
    }

    fn slot(&mut self, service: &WantedService, slot: u32) -> Step {
        let work = Work::Service(service.key.clone());
        let here = |member: &&Member| member.role == Role::Slot(slot);
        let (mut current, mut others): (Vec<&Member>, Vec<&Member>) =
            self.members(&service.key).filter(here).partition(|member| service.is_current(member));
        // One container alone is the slot's; a second one can only be left over from a change that was changed back.
        current.sort_by_key(|member| {
            (self.memory.is_admitted(member.id()), member.is_running(), member.container.created)
        });
        let latest = current.pop();
        others.extend(current);

        if let Some(never_served) = others.iter().find(|member| !self.memory.is_admitted(member.id())) {
            let name = &never_served.container.name;
            return Step::doing(remove(&work, never_served), format!("removing {name}, which never served"));
        }
        // A stop that was begun is finished: until then the container may refuse requests at any moment.
        let stopping = |member: &&&Member| member.is_running() && self.memory.kept.stopping.contains(member.id());
        if let Some(member) = latest.iter().chain(&others).find(stopping) {
            return Step::doing(stop(&work, member), format!("stopping {}", member.container.name));
        }
        let failed = self.memory.kept.failure(&work, &service.spec).is_some();
        match latest {
            Some(member) if failed && !self.memory.is_admitted(member.id()) => {
                Step::doing(remove(&work, member), format!("removing {}, which failed", member.container.name))
            }
            None if failed => self.fall_back(&work, &others),
            None => self.make(service, slot, &others),
            Some(member) => self.bring_up(service, member, &others),
        }
    }

    /// After a failure: what ran before goes on.
    fn fall_back(&mut self, work: &Work, others: &[&Member]) -> Step {
        let best = others.iter().max_by_key(|member| (member.is_running(), member.container.created));
        let Some(best) = best else { return Step::Failed };
        if best.is_running() {
            return Step::Failed;
        }
        let detail = format!("starting {} again, which ran before", best.container.name);
        match self.pause_after(&best.container) {
            Some(at) => {
                self.wake_at(at);
                Step::Wait(detail)
            }
            None if self.memory.retries.contains_key(work) => {
                self.decision.actions.push(start(work, best));
                Step::Failed
            }
            None => Step::doing(start(work, best), detail),
        }
    }

    /// There is no container for the slot yet.
    fn make(&mut self, service: &WantedService, slot: u32, others: &[&Member]) -> Step {
        let work = Work::Service(service.key.clone());
        if let Some(missing) = service.networks.iter().find(|name| !self.observed.networks.contains_key(*name)) {
            return Step::Wait(format!("waiting for network {missing}"));
        }
        let Some(reference) = self.memory.prepared.get(&(work.clone(), service.image.digest)) else {
            let detail = format!("pulling {}@{}", service.image.repository, service.image.digest);
            let (image, volumes) = (service.image.clone(), service.volumes.clone());
            return Step::doing(Action::Prepare { work, image, volumes }, detail);
        };
        if let Some(step) = self.clear_the_way(service, others) {
            return step;
        }
        let container = Box::new(service.container(slot, reference));
        let detail = format!("creating {}", container.name);
        Step::doing(Action::Create { work, container }, detail)
    }

    /// Where two must never run at once, what runs is stopped first. It is kept until its successor is healthy.
    fn clear_the_way(&mut self, service: &WantedService, others: &[&Member]) -> Option<Step> {
        if service.order == Order::StartFirst {
            return None;
        }
        let running = others.iter().find(|member| member.is_running())?;
        Some(self.retire(running, Duration::from_secs(DRAIN_FIRST_SECONDS), false))
    }

    /// The slot has its container: start it, await its health, let it into traffic, and end what it replaces.
    fn bring_up(&mut self, service: &WantedService, member: &Member, others: &[&Member]) -> Step {
        let work = Work::Service(service.key.clone());
        let container = &member.container;
        let name = &container.name;
        let admitted = self.memory.is_admitted(member.id());
        let proven = self.memory.kept.is_proven(&service.key, &service.spec);
        match container.state {
            ContainerState::Created => {
                if let Some(step) = self.clear_the_way(service, others) {
                    return step;
                }
                Step::doing(start(&work, member), format!("starting {name}"))
            }
            ContainerState::Exited | ContainerState::Dead if admitted || proven => match self.pause_after(container) {
                Some(at) => {
                    self.wake_at(at);
                    Step::Wait(format!("{name} ended and is made again"))
                }
                None => Step::doing(remove(&work, member), format!("{name} ended and is made again")),
            },
            ContainerState::Exited | ContainerState::Dead => {
                if let Some(step) = self.clear_the_way(service, others) {
                    return step;
                }
                let stays_down = matches!(service.restart, WantedRestart::No | WantedRestart::OnFailure(_));
                if stays_down || container.error.is_some() || container.state == ContainerState::Dead {
                    return Step::doing(
                        autopsy(&work, &service.spec, member, how_it_ended(container)),
                        format!("{name} ended"),
                    );
                }
                if let Some(at) = self.pause_after(container) {
                    self.wake_at(at);
                    return Step::Wait(format!("{name} ended and is started again"));
                }
                // The engine starts it again by itself, unless a person or the engine's own end stopped it.
                Step::doing(start(&work, member), format!("starting {name} again"))
            }
            _ if admitted => {
                for other in others {
                    let step = self.retire(other, service.drain, true);
                    if !matches!(step, Step::Done) {
                        return step;
                    }
                }
                if container.is_ready() {
                    Step::Done
                } else {
                    Step::Wait(format!("{name} is not healthy{}", last_check(container)))
                }
            }
            _ => {
                if let Some(step) = self.clear_the_way(service, others) {
                    return step;
                }
                match self.readiness(service, container) {
                    Ready::Yes => {
                        self.decision.admit.push(container.id.clone());
                        self.wake_at(self.now);
                        Step::Wait(format!("{name} is healthy and takes over"))
                    }
                    Ready::Never(cause) if !proven => {
                        Step::doing(autopsy(&work, &service.spec, member, cause.clone()), cause)
                    }
                    Ready::Never(cause) => Step::Wait(cause),
                    Ready::Later(at) => {
                        if let Some(at) = at {
                            self.wake_at(at);
                        }
                        Step::Wait(format!("waiting for {name} to become healthy{}", last_check(container)))
                    }
                }
            }
        }
    }

    fn readiness(&self, service: &WantedService, container: &Container) -> Ready {
        let begun = match container.restarts {
            0 => container.started.or(container.created),
            // Each restart moves the start; the time allowed counts from the first.
            _ => container.created.or(container.started),
        }
        .unwrap_or(self.now);
        if container.state == ContainerState::Running {
            match container.health {
                Health::Healthy => return Ready::Yes,
                Health::None => {
                    let settled = container.started.unwrap_or(self.now).plus_seconds(SETTLE_SECONDS);
                    if self.now >= settled {
                        return Ready::Yes;
                    }
                    if container.restarts < CRASHES_MAX {
                        return Ready::Later(Some(settled));
                    }
                }
                Health::Starting | Health::Unhealthy => {}
            }
        }
        if container.restarts >= CRASHES_MAX {
            return Ready::Never(format!("{} keeps ending: {}", container.name, how_it_ended(container)));
        }
        let seconds = i64::try_from(service.healthy_seconds_max).unwrap_or(i64::MAX);
        let deadline = begun.plus_seconds(seconds);
        if self.now >= deadline {
            let last = last_check(container);
            return Ready::Never(format!("{} did not become healthy within {seconds} s{last}", container.name));
        }
        Ready::Later(Some(deadline))
    }

    /// Takes a container out of the table, waits for what is under way, stops it and, if it is not kept, removes it.
    fn retire(&mut self, member: &Member, time_max: Duration, drop_it: bool) -> Step {
        let work = Work::Service(member.key.clone());
        let name = &member.container.name;
        if !member.is_running() {
            return if drop_it { Step::doing(remove(&work, member), format!("removing {name}")) } else { Step::Done };
        }
        if !self.memory.is_admitted(member.id()) {
            return Step::doing(remove(&work, member), format!("removing {name}, which never served"));
        }
        self.decision.retiring.insert(member.container.id.clone());
        let left_table = self.observed.proxy.in_table.as_ref().is_some_and(|keys| !keys.contains(member.id()));
        let (requests, connections) = self.observed.proxy.active.get(member.id()).copied().unwrap_or_default();
        // A successor that has to wait for the stop does not wait for connections that may live for days.
        let busy = if drop_it { requests + connections } else { requests };
        let since = self.memory.retiring_since.get(member.id()).copied().unwrap_or(self.now);
        let until = since.plus(time_max);
        if (left_table && busy == 0) || self.now >= until {
            return Step::doing(stop(&work, member), format!("stopping {name}"));
        }
        self.wake_at(until);
        Step::Wait(format!("draining {name}: {requests} requests and {connections} connections are under way"))
    }

    fn job(&mut self, job: &WantedJob) -> Progress {
        let work = Work::Job(job.run.clone());
        let run = Role::Job(job.run.clone());
        let member = self.observed.members.iter().find(|member| member.role == run);
        if let Some(failure) = self.memory.kept.failure(&work, &job.spec) {
            if let Some(member) = member.filter(|member| member.is_running()) {
                self.decision.actions.push(stop(&work, member));
            }
            return Progress::Failed { error: failure.error.clone(), log: failure.log.clone() };
        }
        let (action, detail) = match member {
            None => match self.job_make(job) {
                Ok(action) => (Some(action), "preparing the job".to_owned()),
                Err(detail) => (None, detail),
            },
            Some(member) => {
                let container = &member.container;
                match (container.state, container.exit_code) {
                    (ContainerState::Created, _) => {
                        (Some(start(&work, member)), format!("starting {}", container.name))
                    }
                    (ContainerState::Exited | ContainerState::Dead, Some(0)) if container.error.is_none() => {
                        return Progress::Done;
                    }
                    (ContainerState::Exited | ContainerState::Dead, _) => {
                        let cause = how_it_ended(container);
                        (Some(autopsy(&work, &job.spec, member, cause.clone())), cause)
                    }
                    _ => self.job_wait(&work, job, member),
                }
            }
        };
        self.decision.actions.extend(action);
        match self.memory.retries.get(&work) {
            Some(retry) => {
                Progress::Working { detail: format!("{detail}; try {} failed: {}", retry.attempts, retry.error) }
            }
            None => Progress::Working { detail },
        }
    }

    fn job_make(&mut self, job: &WantedJob) -> Result<Action, String> {
        let work = Work::Job(job.run.clone());
        if let Some(missing) = job.networks.iter().find(|name| !self.observed.networks.contains_key(*name)) {
            return Err(format!("waiting for network {missing}"));
        }
        Ok(match self.memory.prepared.get(&(work.clone(), job.image.digest)) {
            None => Action::Prepare { work, image: job.image.clone(), volumes: job.volumes.clone() },
            Some(reference) => Action::Create { work, container: Box::new(job.container(reference)) },
        })
    }

    fn job_wait(&mut self, work: &Work, job: &WantedJob, member: &Member) -> (Option<Action>, String) {
        let seconds = i64::try_from(job.seconds_max).unwrap_or(i64::MAX);
        let deadline = member.container.started.unwrap_or(self.now).plus_seconds(seconds);
        if self.now >= deadline {
            let cause = format!("{} did not end within {seconds} s", member.container.name);
            return (Some(autopsy(work, &job.spec, member, cause.clone())), cause);
        }
        self.wake_at(deadline);
        (None, format!("{} is running", member.container.name))
    }

    /// What is not desired ends; volumes stay.
    fn undesired(&mut self, wanted: &Wanted) {
        let refused = wanted.refused.iter().filter_map(|refused| refused.service.as_ref());
        let services: BTreeSet<&ServiceKey> =
            wanted.services.iter().map(|service| &service.key).chain(refused).collect();
        let runs: BTreeSet<&str> = wanted.jobs.iter().map(|job| job.run.as_str()).collect();
        for member in &self.observed.members {
            match &member.role {
                Role::Slot(_) if services.contains(&member.key) => {}
                Role::Slot(_) => {
                    let step = self.retire(member, Duration::from_secs(DRAIN_SECONDS_DEFAULT), true);
                    if let Step::Do(action, _detail) = step {
                        self.decision.actions.push(*action);
                    }
                }
                Role::Job(run) if runs.contains(run.as_str()) => {}
                Role::Job(run) => {
                    let work = Work::Job(run.clone());
                    self.decision.actions.push(if member.is_running() {
                        stop(&work, member)
                    } else {
                        remove(&work, member)
                    });
                }
            }
        }
    }

    /// When a container that has just ended may be started or made again; `None` is now.
    fn pause_after(&self, container: &Container) -> Option<Micros> {
        let at = container.finished?.plus_seconds(AGAIN_SECONDS);
        (at > self.now).then_some(at)
    }

    fn members<'a>(&self, key: &'a ServiceKey) -> impl Iterator<Item = &'a Member> + use<'a, '_>
    where
        Self: 'a,
    {
        let observed: &Observed = self.observed;
        observed.members.iter().filter(move |member| member.key == *key && matches!(member.role, Role::Slot(_)))
    }
}

fn start(work: &Work, member: &Member) -> Action {
    Action::Start { work: work.clone(), container: member.container.id.clone() }
}

fn stop(work: &Work, member: &Member) -> Action {
    Action::Stop { work: work.clone(), container: member.container.id.clone(), grace: member.grace }
}

fn remove(work: &Work, member: &Member) -> Action {
    Action::Remove { work: work.clone(), container: member.container.id.clone() }
}

fn autopsy(work: &Work, spec: &str, member: &Member, cause: String) -> Action {
    Action::Autopsy { work: work.clone(), spec: spec.to_owned(), container: member.container.id.clone(), cause }
}

fn how_it_ended(container: &Container) -> String {
    let name = &container.name;
    if let Some(error) = container.error.as_deref().filter(|error| !error.is_empty()) {
        return format!("{name} could not be started: {error}");
    }
    let memory = if container.out_of_memory { ", killed for want of memory" } else { "" };
    match container.exit_code {
        Some(code) => format!("{name} ended with exit code {code}{memory}"),
        None => format!("{name} ended{memory}"),
    }
}

fn last_check(container: &Container) -> String {
    let said = container.health_output.as_deref().map(str::trim).filter(|said| !said.is_empty());
    said.map_or_else(String::new, |said| {
        format!("; its last check said: {}", said.chars().take(200).collect::<String>())
    })
}
