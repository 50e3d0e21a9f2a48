//! From project, releases and the workspace's state to what should be. Pure.
//!
//! A service that the environment has, and that nobody works on, is exactly what the environment runs: image and
//! definition are the release's, whatever the checkout says. Overlays for the laptop hold for services from source.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use api::delivery::{EnvironmentRelease, EnvironmentReleases};
use compose::model::{Condition, Mode, Network, PullPolicy, Service, Volume};
use compose::{Project, ServiceDefinition};
use engine::Labels;
use engine::definition::{Identity, Role, wanted_container, wanted_networks, wanted_volumes};
use engine::machine::{Machine, Place, WantedPort};

use crate::error::{Error, ErrorKind};
use crate::hooks;
use crate::ports::{Assigned, Declared};
use crate::wanted::{
    LABEL_AWAITS, LABEL_CHECKOUT, LABEL_GRACE, LABEL_RELEASE, LABEL_SERVICE, LABEL_SLOT, LABEL_SOURCE, Origin,
    SourceBuild, Wanted, WantedService, labels_of,
};

/// Containers of one service at most: a laptop is no cluster.
const CONTAINERS_MAX: u32 = 32;
/// How many digits of a digest are in an image's name on the engine.
const NAME_DIGITS: usize = 16;

/// What a workspace is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The workspace's name on the engine.
    pub workspace: &'a str,
    /// Hash of the checkout's path.
    pub checkout: &'a str,
    /// The project as it is in the checkout.
    pub project: &'a Project,
    /// What the environment has; `None` when that is not known.
    pub releases: Option<&'a EnvironmentReleases>,
    /// Services from source because somebody wants to work on them.
    pub develop: &'a BTreeSet<String>,
    /// Services that are to run, with what they await; empty means all.
    pub services: &'a BTreeSet<String>,
}

/// A service before its image is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Its definition.
    pub definition: ServiceDefinition,
    /// Its release, unless it comes from the checkout.
    pub release: Option<EnvironmentRelease>,
}

/// The services that are to run, each with the definition that holds for it.
///
/// # Errors
/// [`ErrorKind::ServiceUnknown`], or [`ErrorKind::Refused`] for one that is to be built and has no `build`.
pub fn choose(parts: &Parts<'_>) -> Result<BTreeMap<String, Chosen>, Error> {
    for name in parts.services.iter().chain(parts.develop) {
        service_known(parts.project, name)?;
    }
    let mut chosen = BTreeMap::new();
    for name in parts.project.services.keys() {
        let releases = parts.releases.into_iter().flat_map(|releases| &releases.releases);
        let release = releases.into_iter().find(|release| release.service.as_str() == name);
        let release = release.filter(|_| !parts.develop.contains(name)).cloned();
        let definition = match &release {
            Some(release) => release.definition.clone(),
            None => parts.project.definition(name).unwrap_or_default(),
        };
        if release.is_none() && parts.develop.contains(name) && definition.service.build.is_none() {
            let why = format!("{name} only names an image: there is nothing to build it from");
            return Err(Error::new(ErrorKind::Refused, why, "Give it a `build` in compose.dev.yaml, or leave it out."));
        }
        chosen.insert(name.clone(), Chosen { definition, release });
    }
    if !parts.services.is_empty() {
        let mut reached: BTreeSet<String> = BTreeSet::new();
        let mut open: Vec<String> = parts.services.iter().cloned().collect();
        while let Some(name) = open.pop() {
            if let Some(service) = chosen.get(&name)
                && reached.insert(name)
            {
                open.extend(service.definition.service.depends_on.keys().cloned());
            }
        }
        chosen.retain(|name, _| reached.contains(name));
    }
    Ok(chosen)
}

/// Refuses a service that the project does not have, with those that it has.
///
/// # Errors
/// [`ErrorKind::ServiceUnknown`].
pub fn service_known(project: &Project, name: &str) -> Result<(), Error> {
    if project.services.contains_key(name) {
        return Ok(());
    }
    let names: Vec<&str> = project.services.keys().map(String::as_str).collect();
    let why = format!("the project has no service {name}");
    Err(Error::new(ErrorKind::ServiceUnknown, why, format!("It has: {}.", names.join(", "))))
}

/// The ports that the chosen services publish, in order of service and port.
pub fn ports(chosen: &BTreeMap<String, Chosen>) -> Vec<Declared> {
    let of_one = |(name, chosen): (&String, &Chosen)| {
        let ports = &chosen.definition.service.ports;
        let slots = (1..=count(chosen)).map(|slot| ports.iter().map(move |port| declared(name, slot, port)));
        slots.flatten().collect::<Vec<_>>()
    };
    chosen.iter().flat_map(of_one).collect()
}

/// What comes from outside of the project's own words.
#[derive(Debug, Clone, Copy)]
pub struct Outside<'a> {
    /// Digest of what goes into the build of each service that is built.
    pub inputs: &'a BTreeMap<String, String>,
    /// Ports of this machine, by [`Declared::key`].
    pub ports: &'a Assigned,
    /// The project's folder, absolute.
    pub folder: &'a str,
    /// The developer's own folder.
    pub home: Option<&'a str>,
    /// Where ports are published that the project publishes nowhere in particular.
    pub host_ip: Ipv4Addr,
    /// SHA-256 of the content of configs and secrets that are copied, by key.
    pub configs: &'a BTreeMap<String, String>,
    /// The same of secrets.
    pub secrets: &'a BTreeMap<String, String>,
}

/// All that should be.
///
/// # Errors
/// What a definition asks for cannot be had.
pub fn resolve(parts: &Parts<'_>, chosen: &BTreeMap<String, Chosen>, outside: &Outside<'_>) -> Result<Wanted, Error> {
    let mut wanted = Wanted { known: parts.project.services.keys().cloned().collect(), ..Wanted::default() };
    let jobs: BTreeSet<&String> = chosen
        .values()
        .flat_map(|chosen| &chosen.definition.service.depends_on)
        .filter(|(_, dependency)| dependency.condition == Condition::ServiceCompletedSuccessfully)
        .map(|(name, _)| name)
        .collect();
    let labels = labels_of(parts.workspace);
    let labels: Labels = labels.into_iter().chain([(LABEL_CHECKOUT.to_owned(), parts.checkout.to_owned())]).collect();
    let containers: BTreeMap<String, String> = chosen
        .iter()
        .map(|(name, chosen)| (name.clone(), container_name(parts.workspace, name, 1, &chosen.definition.service)))
        .collect();
    for (name, service) in chosen {
        let definition = &service.definition;
        let names = Names::new(parts.workspace, definition);
        let machine = |slot| machine(name, slot, definition, &containers, outside);
        let machines: Vec<Machine> = (1..=count(service)).map(machine).collect();
        let first = machine(1);
        let place = Place::Workspace(&first);
        for network in wanted_networks(definition, &names.networks, &labels, place)? {
            let is_external = network.workspace.as_ref().is_some_and(|network| network.external);
            if !is_external && !wanted.networks.iter().any(|known| known.name == network.name) {
                wanted.networks.push(network);
            }
        }
        for volume in wanted_volumes(definition, &names.volumes, &labels, place)? {
            if !wanted.volumes.iter().any(|known| known.name == volume.name) {
                wanted.volumes.push(volume);
            }
        }
        let (origin, reference) = origin(parts, name, service, outside.inputs)?;
        let is_job = jobs.contains(name);
        let mut awaits = definition.service.depends_on.clone();
        awaits.retain(|other, _| chosen.contains_key(other));
        let containers = (1..).zip(&machines).map(|(slot, machine)| {
            let mut labels = labels.clone();
            labels.insert(LABEL_SERVICE.to_owned(), name.clone());
            labels.insert(LABEL_SLOT.to_owned(), slot.to_string());
            match &origin {
                Origin::Release { id, .. } => drop(labels.insert(LABEL_RELEASE.to_owned(), id.to_string())),
                Origin::Source(source) => drop(labels.insert(LABEL_SOURCE.to_owned(), source.inputs.clone())),
                Origin::Image { .. } => {}
            }
            let awaited: Vec<&str> = awaits.keys().map(String::as_str).collect();
            labels.insert(LABEL_AWAITS.to_owned(), awaited.join(","));
            let identity = Identity {
                name: container_name(parts.workspace, name, slot, &definition.service),
                image: reference.clone(),
                labels,
                networks: names.networks.clone(),
                volumes: names.volumes.clone(),
                aliases: vec![name.clone()],
                extra_hosts: BTreeMap::new(),
                environment: BTreeMap::new(),
                role: if is_job { Role::Job } else { Role::Service },
            };
            let mut container = wanted_container(definition, &identity, Place::Workspace(machine))?;
            container.labels.insert(LABEL_GRACE.to_owned(), container.stop_grace.as_millis().to_string());
            let service = &definition.service;
            hooks::label(&mut container.labels, &service.post_start, &service.pre_stop);
            Ok(container)
        });
        let containers = containers.collect::<Result<Vec<_>, Error>>()?;
        let pull_policy = definition.service.pull_policy;
        if pull_policy == Some(PullPolicy::Build) && matches!(origin, Origin::Image { .. }) {
            let why = format!("{name} has `pull_policy: build`, and no `build`");
            return Err(Error::new(ErrorKind::ProjectInvalid, why, "Say how it is built, or give it another policy."));
        }
        let service = WantedService { origin, containers, awaits, is_job, pull_policy };
        wanted.services.insert(name.clone(), service);
    }
    Ok(wanted)
}

/// How many containers a service has here.
fn count(service: &Chosen) -> u32 {
    match (&service.release, service.definition.service.deploy.mode) {
        (_, Mode::Replicated { replicas: 0 }) => 0,
        // How many run elsewhere is about machines; one is what it takes here.
        (Some(_), _) | (None, Mode::Global) => 1,
        (None, Mode::Replicated { replicas }) => replicas.min(CONTAINERS_MAX),
    }
}

/// Names on the engine of what a definition calls by its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Networks, by key.
    pub networks: BTreeMap<String, String>,
    /// Volumes, by key.
    pub volumes: BTreeMap<String, String>,
}

impl Names {
    /// As Compose names them, with the workspace in the project's place.
    pub fn new(workspace: &str, definition: &ServiceDefinition) -> Self {
        let network = |(key, network): (&String, &Network)| {
            let own = || if network.external { key.clone() } else { format!("{workspace}_{key}") };
            (key.clone(), network.name.clone().unwrap_or_else(own))
        };
        let volume = |(key, volume): (&String, &Volume)| {
            let own = || if volume.external { key.clone() } else { format!("{workspace}_{key}") };
            (key.clone(), volume.name.clone().unwrap_or_else(own))
        };
        Self {
            networks: definition.networks.iter().map(network).collect(),
            volumes: definition.volumes.iter().map(volume).collect(),
        }
    }
}

/// A container's name: its own, or one of the workspace's.
fn container_name(workspace: &str, service: &str, slot: u32, definition: &Service) -> String {
    definition.container_name.clone().unwrap_or_else(|| format!("{workspace}-{service}-{slot}"))
}

/// What a container of a service finds on this machine.
fn machine(
    name: &str,
    slot: u32,
    definition: &ServiceDefinition,
    containers: &BTreeMap<String, String>,
    outside: &Outside<'_>,
) -> Machine {
    let port = |port: &compose::model::Port| WantedPort {
        target: port.target,
        protocol: port.protocol,
        // What a laptop runs is for who sits before it, unless the project says otherwise.
        host_ip: Some(port.host_ip.unwrap_or(IpAddr::V4(outside.host_ip))),
        published: outside.ports.get(&declared(name, slot, port).key()).copied(),
    };
    Machine {
        folder: outside.folder.to_owned(),
        home: outside.home.map(str::to_owned),
        containers: containers.clone(),
        ports: definition.service.ports.iter().map(port).collect(),
        configs: outside.configs.clone(),
        secrets: outside.secrets.clone(),
    }
}

fn declared(service: &str, slot: u32, port: &compose::model::Port) -> Declared {
    let (service, target) = (service.to_owned(), port.target);
    Declared { service, slot, target, protocol: port.protocol, published: port.published }
}

/// Where a service comes from, and its image's name on the engine.
fn origin(
    parts: &Parts<'_>,
    name: &str,
    service: &Chosen,
    inputs: &BTreeMap<String, String>,
) -> Result<(Origin, String), Error> {
    if let Some(release) = &service.release {
        let digits: String = release.image.digest.hex().chars().take(NAME_DIGITS).collect();
        let reference = format!("longshore/{}:{digits}", release.image.repository);
        return Ok((Origin::Release { id: release.id.clone(), image: release.image.clone() }, reference));
    }
    let definition = &service.definition.service;
    if let Some(build) = &definition.build {
        let inputs = inputs.get(name).cloned().unwrap_or_default();
        let digits: String = inputs.chars().take(NAME_DIGITS).collect();
        let reference = format!("longshore-source/{}/{name}:{digits}", parts.workspace);
        return Ok((Origin::Source(Box::new(SourceBuild { build: build.clone(), inputs })), reference));
    }
    let Some(reference) = definition.image.clone() else {
        let why = format!("{name} has neither `build` nor `image`");
        return Err(Error::new(ErrorKind::ProjectInvalid, why, "Give it one of them."));
    };
    Ok((Origin::Image { reference: reference.clone() }, reference))
}
