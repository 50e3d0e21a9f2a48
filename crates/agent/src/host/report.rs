//! What the agent tells the hub, from what it saw and decided. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::Micros;
use api::agent::{
    Desired, EngineState, InstanceState, JobReport, ListenerReport, ProxyReport, ReportedInstance, ServiceReport,
};
use engine::{ContainerState, Health};
use oci::Digest;

use super::decide::{Decision, Observed};
use super::memory::Memory;
use super::names::{Member, ProjectKey, Role, ServiceKey};
use super::table::PUBLISHED;
use crate::proxy::status::Status;

/// The most warnings of a report.
const WARNINGS_MAX: usize = 50;

/// How a host stands: a report without its clock and what the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The number of the desired state that this was measured against; 0 before the first.
    pub number: u64,
    /// The engine.
    pub engine: EngineState,
    /// Its containers.
    pub instances: Vec<ReportedInstance>,
    /// The desired services.
    pub services: Vec<ServiceReport>,
    /// The desired jobs.
    pub jobs: Vec<JobReport>,
    /// The proxy's counts.
    pub proxy: ProxyReport,
    /// Anything else.
    pub warnings: Vec<String>,
}

impl Standing {
    /// Before anything was seen.
    pub fn unknown() -> Self {
        Self {
            number: 0,
            engine: EngineState::Down { error: "not asked yet".to_owned() },
            instances: Vec::new(),
            services: Vec::new(),
            jobs: Vec::new(),
            proxy: ProxyReport::default(),
            warnings: Vec::new(),
        }
    }

    /// Whether a person or the hub would want to know of the difference at once; counts alone can wait.
    pub fn differs(&self, other: &Self) -> bool {
        let quiet = |standing: &Self| {
            let mut standing = standing.clone();
            for listener in &mut standing.proxy.listeners {
                (listener.requests, listener.failed, listener.connections) = (0, 0, 0);
            }
            standing
        };
        quiet(self) != quiet(other)
    }
}

/// The containers as the engine says they are. `digests` are the references `repo@digest` of each image id.
pub fn instances(
    observed: &Observed,
    memory: &Memory,
    retiring: &BTreeSet<String>,
    digests: &BTreeMap<String, Vec<String>>,
) -> Vec<ReportedInstance> {
    observed
        .members
        .iter()
        .map(|member| ReportedInstance {
            env: member.key.project.env.clone(),
            app: member.key.project.app.clone(),
            service: member.key.service.clone(),
            slot: match member.role {
                Role::Slot(slot) => slot,
                Role::Job(_) => 0,
            },
            release: member.release.clone(),
            digest: digest(member, digests),
            container: member.container.id.clone(),
            state: state(member, memory, retiring),
            since: since(member),
            restarts: member.container.restarts,
        })
        .collect()
}

/// The digest that the engine itself gives the container's image. An image has several when an index and an image of it
/// were both pulled; the one that was asked for is preferred among them.
fn digest(member: &Member, digests: &BTreeMap<String, Vec<String>>) -> Digest {
    let known: Vec<Digest> = digests
        .get(&member.container.image_id)
        .into_iter()
        .flatten()
        .filter_map(|reference| reference.rsplit_once('@')?.1.parse().ok())
        .collect();
    if known.contains(&member.digest) { member.digest } else { known.first().copied().unwrap_or(member.digest) }
}

fn state(member: &Member, memory: &Memory, retiring: &BTreeSet<String>) -> InstanceState {
    let container = &member.container;
    match container.state {
        ContainerState::Exited | ContainerState::Dead | ContainerState::Removing => InstanceState::Exited,
        _ if retiring.contains(member.id()) => InstanceState::Draining,
        ContainerState::Created | ContainerState::Restarting => InstanceState::Starting,
        ContainerState::Paused => InstanceState::Unhealthy,
        ContainerState::Running => match container.health {
            Health::Healthy => InstanceState::Healthy,
            Health::Unhealthy => InstanceState::Unhealthy,
            Health::Starting => InstanceState::Starting,
            Health::None if memory.is_admitted(member.id()) => InstanceState::Healthy,
            Health::None => InstanceState::Starting,
        },
    }
}

fn since(member: &Member) -> Micros {
    let container = &member.container;
    let at = if member.is_running() { container.started } else { container.finished };
    at.or(container.created).unwrap_or_default()
}

/// Desired services with how they stand.
pub fn services(desired: &Desired, decision: &Decision) -> Vec<ServiceReport> {
    let progress: BTreeMap<&ServiceKey, _> = decision.services.iter().map(|(key, progress)| (key, progress)).collect();
    let mut reports = Vec::new();
    for project in &desired.projects {
        for service in &project.services {
            let project_key = ProjectKey { env: project.env.clone(), app: project.app.clone() };
            let key = ServiceKey { project: project_key, service: service.service.clone() };
            let Some(progress) = progress.get(&key) else { continue };
            reports.push(ServiceReport {
                env: project.env.clone(),
                app: project.app.clone(),
                service: service.service.clone(),
                release: service.release.clone(),
                progress: (*progress).clone(),
            });
        }
    }
    reports
}

/// Desired jobs with how they stand.
pub fn jobs(decision: &Decision) -> Vec<JobReport> {
    decision.jobs.iter().map(|(run, progress)| JobReport { run: run.clone(), progress: progress.clone() }).collect()
}

/// The proxy's counts, with the service that each listener leads to.
pub fn proxy(status: Option<&Status>) -> ProxyReport {
    let Some(status) = status else { return ProxyReport::default() };
    let listeners = status
        .listeners
        .iter()
        .map(|listener| {
            // A key is PREFIX/ADDRESS/ENV/APP/SERVICE.
            let service = listener.key.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
            ListenerReport {
                service,
                address: listener.address.to_string(),
                published: listener.key.starts_with(PUBLISHED),
                error: listener.error.clone().or_else(|| (!listener.bound).then(|| "not bound yet".to_owned())),
                requests: listener.requests_total,
                failed: listener.failed_total + listener.connections_failed_total,
                connections: listener.connections_total,
            }
        })
        .collect();
    ProxyReport { pid: Some(status.pid), listeners }
}

/// Warnings, each once, bounded.
pub fn warnings(all: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.into_iter().filter(|warning| seen.insert(warning.clone())).take(WARNINGS_MAX).collect()
}
