//! From project, releases and the workspace's state to what should be. Pure.
//!
//! A service that the environment has, and that nobody works on, is exactly what the environment runs: image and
//! definition are the release's, whatever the checkout says. Overlays for the laptop hold for services from source.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::{EnvironmentRelease, EnvironmentReleases};
use compose::model::{Mode, Volume};
use compose::{Project, ServiceDefinition};
use engine::definition::{Identity, Role, wanted_container, wanted_networks, wanted_volumes};
use engine::wanted::WantedRestart;
use engine::{Labels, WantedContainer};

use crate::error::{Error, ErrorKind};
use crate::ports::Declared;
use crate::wanted::{
    LABEL_AWAITS, LABEL_CHECKOUT, LABEL_GRACE, LABEL_RELEASE, LABEL_SERVICE, LABEL_SLOT, Origin, SourceBuild, Wanted,
    WantedService, labels_of,
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
        let name = name.clone();
        let declared = |port: &compose::model::Port| Declared {
            service: name.clone(),
            target: port.target,
            published: port.published,
        };
        chosen.definition.service.ports.iter().map(declared).collect::<Vec<_>>()
    };
    chosen.iter().flat_map(of_one).collect()
}

/// All that should be. `inputs` has the digest of what goes into the build of each service that is built.
///
/// # Errors
/// What a definition asks for cannot be had.
pub fn resolve(
    parts: &Parts<'_>,
    chosen: &BTreeMap<String, Chosen>,
    inputs: &BTreeMap<String, String>,
) -> Result<Wanted, Error> {
    let mut wanted = Wanted { known: parts.project.services.keys().cloned().collect(), ..Wanted::default() };
    let jobs: BTreeSet<&String> = chosen
        .values()
        .flat_map(|chosen| &chosen.definition.service.depends_on)
        .filter(|(_, dependency)| dependency.condition == compose::model::Condition::ServiceCompletedSuccessfully)
        .map(|(name, _)| name)
        .collect();
    let labels = labels_of(parts.workspace);
    let labels: Labels = labels.into_iter().chain([(LABEL_CHECKOUT.to_owned(), parts.checkout.to_owned())]).collect();
    for (name, service) in chosen {
        let definition = &service.definition;
        let names = Names::new(parts.workspace, definition);
        for network in wanted_networks(definition, &names.networks, &labels)? {
            if !wanted.networks.iter().any(|known| known.name == network.name) {
                wanted.networks.push(network);
            }
        }
        for volume in wanted_volumes(definition, &names.volumes, &labels)? {
            if !wanted.volumes.iter().any(|known| known.name == volume.name) {
                wanted.volumes.push(volume);
            }
        }
        let (origin, reference) = origin(parts, name, service, inputs)?;
        let is_job = jobs.contains(name);
        let mut awaits = definition.service.depends_on.clone();
        awaits.retain(|other, _| chosen.contains_key(other));
        let count = match (&service.release, definition.service.deploy.mode) {
            (_, Mode::Replicated { replicas: 0 }) => 0,
            // How many run elsewhere is about machines; one is what it takes here.
            (Some(_), _) | (None, Mode::Global) => 1,
            (None, Mode::Replicated { replicas }) => replicas.min(CONTAINERS_MAX),
        };
        let containers = (1..=count).map(|slot| {
            let mut labels = labels.clone();
            labels.insert(LABEL_SERVICE.to_owned(), name.clone());
            labels.insert(LABEL_SLOT.to_owned(), slot.to_string());
            if let Origin::Release { id, .. } = &origin {
                labels.insert(LABEL_RELEASE.to_owned(), id.to_string());
            }
            let awaited: Vec<&str> = awaits.keys().map(String::as_str).collect();
            labels.insert(LABEL_AWAITS.to_owned(), awaited.join(","));
            let role = if is_job { Role::Job } else { Role::Service };
            let container = format!("{}-{name}-{slot}", parts.workspace);
            make(definition, &names, container, name, reference.clone(), labels, role)
        });
        let containers = containers.collect::<Result<Vec<_>, Error>>()?;
        wanted.services.insert(name.clone(), WantedService { origin, containers, awaits, is_job });
    }
    Ok(wanted)
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
        let named = |key: &String| (key.clone(), format!("{workspace}_{key}"));
        let volume = |(key, volume): (&String, &Volume)| {
            let own = || if volume.external { key.clone() } else { format!("{workspace}_{key}") };
            (key.clone(), volume.name.clone().unwrap_or_else(own))
        };
        Self {
            networks: definition.networks.keys().map(named).collect(),
            volumes: definition.volumes.iter().map(volume).collect(),
        }
    }
}

/// The container of a service.
///
/// # Errors
/// What its definition asks for cannot be had.
pub fn make(
    definition: &ServiceDefinition,
    names: &Names,
    name: String,
    service: &str,
    reference: String,
    labels: Labels,
    role: Role,
) -> Result<WantedContainer, Error> {
    let identity = Identity {
        name,
        image: reference,
        labels,
        networks: names.networks.clone(),
        volumes: names.volumes.clone(),
        aliases: vec![service.to_owned()],
        extra_hosts: BTreeMap::new(),
        environment: BTreeMap::new(),
        role,
    };
    let mut container = wanted_container(definition, &identity)?;
    container.labels.insert(LABEL_GRACE.to_owned(), container.stop_grace.as_millis().to_string());
    if definition.service.restart_effective().is_none() {
        // An environment keeps running what says nothing of it; here somebody looks, and a crash is to be seen.
        container.restart = WantedRestart::No;
    }
    Ok(container)
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
        return Ok((Origin::Source(SourceBuild { build: build.clone(), inputs }), reference));
    }
    let Some(reference) = definition.image.clone() else {
        let why = format!("{name} has neither `build` nor `image`");
        return Err(Error::new(ErrorKind::ProjectInvalid, why, "Give it one of them."));
    };
    Ok((Origin::Image { reference: reference.clone() }, reference))
}
