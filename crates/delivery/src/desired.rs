//! What a host should be: from placements, releases and hosts, one [`DesiredProject`] for each host and project. Pure.
//!
//! The desired state of a host is assembled project by project, so that a change in one app of one environment leaves the
//! others as they are.

use std::collections::{BTreeMap, BTreeSet};

use api::agent::{DesiredJob, DesiredProject, DesiredService, PublishedPort, RemoteHost, Route};
use api::delivery::{Release, ReleaseId, RolloutPolicy, StepAction, StepState};
use api::{HostName, ServiceName};
use compose::ServiceDefinition;

use crate::model::{Placements, PlanRecord, Project};

/// All that the desired state of a project's hosts depends on.
pub struct Input<'a> {
    /// The app and its environment.
    pub project: &'a Project,
    /// How a rollout goes there.
    pub policy: &'a RolloutPolicy,
    /// What should run where.
    pub placements: &'a Placements,
    /// What the environment has, by service; where a host runs nothing of a service, its routes follow this.
    pub current: &'a BTreeMap<ServiceName, ReleaseId>,
    /// Every release that is placed, current, or a job of `plan`.
    pub releases: &'a BTreeMap<ReleaseId, Release>,
    /// The plan under way, whose jobs hosts keep until it has ended.
    pub plan: Option<&'a PlanRecord>,
    /// Numbers of the services, the source of virtual addresses.
    pub numbers: &'a BTreeMap<ServiceName, u32>,
    /// Where hosts' proxies take connections from other hosts.
    pub meshes: &'a BTreeMap<HostName, String>,
}

/// How long an agent tries before it says that something failed: three quarters of what the hub waits, so that the
/// agent's own words, with the container's log, come before the hub's deadline.
pub fn agent_seconds(policy: &RolloutPolicy) -> u64 {
    (policy.step_seconds_max / 4).saturating_mul(3).max(1)
}

/// What each host is to be of a project. Hosts that run nothing of it are not in it.
pub fn desired(input: &Input<'_>) -> BTreeMap<HostName, DesiredProject> {
    let mut hosts: BTreeSet<&HostName> = input.placements.keys().map(|(_, host)| host).collect();
    hosts.extend(jobs(input).map(|record| &record.step.host));
    hosts
        .into_iter()
        .map(|host| {
            let project = DesiredProject {
                env: input.project.env.clone(),
                app: input.project.app.clone(),
                services: services_on(input, host),
                jobs: jobs_on(input, host),
                routes: routes_on(input, host),
            };
            (host.clone(), project)
        })
        .collect()
}

/// TCP ports on which a release can be reached by name.
pub fn ports(release: &Release, definition: &ServiceDefinition) -> BTreeSet<u16> {
    release.ports.iter().copied().chain(definition.service.ports_declared()).collect()
}

fn jobs<'a>(input: &'a Input<'_>) -> impl Iterator<Item = &'a crate::model::StepRecord> {
    let steps = input.plan.into_iter().filter(|plan| !plan.state.is_final()).flat_map(|plan| &plan.steps);
    steps.filter(|record| {
        // A job that was told stays, done or failed, so that the agent keeps its container as the proof that it ran.
        record.step.action == StepAction::Job && !matches!(record.step.state, StepState::Waiting | StepState::Reverted)
    })
}

fn definition<'a>(input: &Input<'a>, release: &'a Release) -> &'a ServiceDefinition {
    release.definitions.of(&input.project.env)
}

fn services_on(input: &Input<'_>, host: &HostName) -> Vec<DesiredService> {
    let placed = input.placements.iter().filter(|((_, placed_on), _)| placed_on == host);
    placed
        .filter_map(|((service, _), placed)| {
            let release = input.releases.get(&placed.release)?;
            Some(DesiredService {
                service: service.clone(),
                release: placed.release.clone(),
                image: release.image.clone(),
                definition: definition(input, release).clone(),
                instances: placed.instances,
                healthy_seconds_max: agent_seconds(input.policy),
            })
        })
        .collect()
}

fn jobs_on(input: &Input<'_>, host: &HostName) -> Vec<DesiredJob> {
    let Some(plan) = input.plan else { return Vec::new() };
    jobs(input)
        .filter(|record| record.step.host == *host)
        .filter_map(|record| {
            let release = input.releases.get(&record.step.release)?;
            Some(DesiredJob {
                run: plan.run(&record.step.service),
                service: record.step.service.clone(),
                release: record.step.release.clone(),
                image: release.image.clone(),
                definition: definition(input, release).clone(),
                seconds_max: agent_seconds(input.policy),
            })
        })
        .collect()
}

fn routes_on(input: &Input<'_>, host: &HostName) -> Vec<Route> {
    let services: BTreeSet<&ServiceName> = input.placements.keys().map(|(service, _)| service).collect();
    // While a port moves from one service to another, a host has it twice; the first keeps it until it lets go.
    let mut taken: BTreeSet<(u16, Option<std::net::IpAddr>)> = BTreeSet::new();
    services
        .into_iter()
        .filter_map(|service| {
            let release = route_release(input, service, host)?;
            let definition = definition(input, release);
            let ports: Vec<u16> = ports(release, definition).into_iter().collect();
            let number = *input.numbers.get(service)?;
            if ports.is_empty() {
                return None;
            }
            let networks = &definition.service.networks;
            let published = definition.service.ports.iter().filter_map(|port| {
                let published = port.published?;
                taken.insert((published, port.host_ip)).then_some(PublishedPort {
                    published,
                    target: port.target,
                    host_ip: port.host_ip,
                })
            });
            Some(Route {
                service: service.clone(),
                number,
                published: published.collect(),
                networks: networks.iter().map(|(key, n)| (key.clone(), n.aliases.iter().cloned().collect())).collect(),
                ports,
                remotes: remotes(input, service, host),
            })
        })
        .collect()
}

/// The release that says how a service is reached from a host: the host's own, else the environment's, else any.
fn route_release<'a>(input: &Input<'a>, service: &ServiceName, host: &HostName) -> Option<&'a Release> {
    let own = input.placements.get(&(service.clone(), host.clone())).map(|placed| &placed.release);
    let any = || {
        let mut placed = input.placements.iter().filter(|((name, _), _)| name == service);
        placed.next().map(|(_, placed)| &placed.release)
    };
    let release = own.or_else(|| input.current.get(service)).or_else(any)?;
    input.releases.get(release)
}

fn remotes(input: &Input<'_>, service: &ServiceName, host: &HostName) -> Vec<RemoteHost> {
    let others = input.placements.keys().filter(|(name, placed_on)| name == service && placed_on != host);
    others
        .filter_map(|(_, other)| {
            let mesh = input.meshes.get(other).filter(|mesh| !mesh.is_empty())?;
            Some(RemoteHost { host: other.clone(), mesh: mesh.clone() })
        })
        .collect()
}
