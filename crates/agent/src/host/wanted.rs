//! From what the hub says a host should be to the containers, networks and volumes that are wanted there. Pure.
//!
//! Names of an app's other services are given to a container when it is made. A limit: a service that comes to the app
//! later has its name in containers that depend on it (they are made again) and in those made after it, and in no
//! other one that already runs, because nothing but a new container could bring it there. On the same host the engine's
//! own names lead to it meanwhile. Whoever needs a name says so with `depends_on`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::HostName;
use api::agent::{Desired, DesiredJob, DesiredProject, DesiredService};
use api::delivery::{ImageAddress, ReleaseId};
use compose::ServiceDefinition;
use compose::model::UpdateOrder;
use engine::definition::{self, Identity, wanted_container, wanted_networks, wanted_volumes};
use engine::machine::Place;
use engine::wanted::WantedRestart;
use engine::{EngineError, Labels, NetworkSpec, VolumeSpec, WantedContainer};

use super::decide::{DRAIN_SECONDS_DEFAULT, Observed};
use super::memory::Work;
use super::names::{
    LABEL_DIGEST, LABEL_GRACE, LABEL_JOB, LABEL_NAMES, LABEL_RELEASE, LABEL_SERVICE, LABEL_SLOT, LABEL_SPEC, Member,
    ProjectKey, Role, ServiceKey, container_name, names_to_label, network_name, project_labels, volume_name,
};
use super::table::virtual_address;

/// Which comes first when a container is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The new one starts, takes over, then the old one stops.
    StartFirst,
    /// The old one stops, then the new one starts.
    StopFirst,
}

/// A container as it should be, but for its slot and the reference under which the engine has its image.
#[derive(Debug, Clone, PartialEq)]
struct Template {
    host: HostName,
    key: ServiceKey,
    container: WantedContainer,
    spec: String,
    names: BTreeMap<String, IpAddr>,
}

/// A service that is to run on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedService {
    /// Which.
    pub key: ServiceKey,
    /// Its release.
    pub release: ReleaseId,
    /// Its image.
    pub image: ImageAddress,
    /// How many containers.
    pub instances: u32,
    /// How long a container may take to become healthy.
    pub healthy_seconds_max: u64,
    /// How one is replaced.
    pub order: Order,
    /// When the engine starts it again.
    pub restart: WantedRestart,
    /// How long what is under way may take when one is replaced.
    pub drain: Duration,
    /// Networks it is on, by their name on the engine.
    pub networks: Vec<String>,
    /// Volumes it mounts.
    pub volumes: Vec<VolumeSpec>,
    /// Hash of all that its containers are.
    pub spec: String,
    needed: BTreeSet<String>,
    template: Template,
}

/// A job that is to run on this host once.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedJob {
    /// The run.
    pub run: String,
    /// Its image.
    pub image: ImageAddress,
    /// How long it may run.
    pub seconds_max: u64,
    /// Networks it is on, by their name on the engine.
    pub networks: Vec<String>,
    /// Volumes it mounts.
    pub volumes: Vec<VolumeSpec>,
    /// Hash of all that it is.
    pub spec: String,
    template: Template,
}

/// Something desired that this host does not make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The service, if it is one.
    pub service: Option<ServiceKey>,
    /// The run, if it is a job.
    pub run: Option<String>,
    /// Why.
    pub error: String,
}

/// All that a host should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Networks.
    pub networks: Vec<NetworkSpec>,
    /// Services.
    pub services: Vec<WantedService>,
    /// Jobs.
    pub jobs: Vec<WantedJob>,
    /// What is not made.
    pub refused: Vec<Refused>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Wanted {
    /// All that the hub wants of this host. `extra` labels go on everything.
    pub fn new(host: &HostName, extra: &Labels, desired: &Desired, observed: &Observed) -> Self {
        let mut wanted = Self::default();
        for project in &desired.projects {
            let key = ProjectKey { env: project.env.clone(), app: project.app.clone() };
            let context = Context { host, labels: project_labels(host, &key, extra), key, project, observed };
            context.networks(&mut wanted);
            for service in &project.services {
                match context.service(service) {
                    Ok(service) => wanted.services.push(service),
                    Err(error) => wanted.refused.push(Refused {
                        service: Some(context.service_key(&service.service)),
                        run: None,
                        error: explain(&error),
                    }),
                }
                if service.definition.service.has_writable_volume()
                    && order_of(service) == Some(UpdateOrder::StartFirst)
                {
                    wanted.warnings.push(format!(
                        "{} asks for `order: start-first` but writes to a volume, so it is stopped first",
                        context.service_key(&service.service)
                    ));
                }
            }
            for job in &project.jobs {
                match context.job(job) {
                    Ok(job) => wanted.jobs.push(job),
                    Err(error) => {
                        wanted.refused.push(Refused {
                            service: None,
                            run: Some(job.run.clone()),
                            error: explain(&error),
                        });
                    }
                }
            }
        }
        wanted
    }

    /// The specification wanted for this work and how many seconds it may take, if it is wanted.
    pub fn limits(&self, work: &Work) -> Option<(String, u64)> {
        match work {
            Work::Service(key) => {
                let service = self.services.iter().find(|service| service.key == *key)?;
                Some((service.spec.clone(), service.healthy_seconds_max))
            }
            Work::Job(run) => {
                let job = self.jobs.iter().find(|job| job.run == *run)?;
                Some((job.spec.clone(), job.seconds_max))
            }
            Work::Network(_) => None,
        }
    }
}

impl WantedService {
    /// Whether a container is as it should be: the same specification, and no name that it knows or needs has moved.
    pub fn is_current(&self, member: &Member) -> bool {
        let names = &self.template.names;
        member.spec == self.spec
            && member.names.iter().all(|(name, address)| names.get(name).is_none_or(|now| now == address))
            && self.needed.iter().all(|name| !names.contains_key(name) || member.names.contains_key(name))
    }

    /// The container for a slot; `reference` is the name under which the engine has its image.
    pub fn container(&self, slot: u32, reference: &str) -> WantedContainer {
        self.template.container(&Role::Slot(slot), reference)
    }
}

impl WantedJob {
    /// The run's container; `reference` is the name under which the engine has its image.
    pub fn container(&self, reference: &str) -> WantedContainer {
        self.template.container(&Role::Job(self.run.clone()), reference)
    }
}

impl Template {
    fn container(&self, role: &Role, reference: &str) -> WantedContainer {
        let mut made = self.container.clone();
        match role {
            Role::Slot(slot) => made.labels.insert(LABEL_SLOT.to_owned(), slot.to_string()),
            Role::Job(run) => made.labels.insert(LABEL_JOB.to_owned(), run.clone()),
        };
        made.labels.insert(LABEL_SPEC.to_owned(), self.spec.clone());
        made.labels.insert(LABEL_NAMES.to_owned(), names_to_label(&self.names));
        made.labels.insert(LABEL_GRACE.to_owned(), made.stop_grace.as_millis().to_string());
        for (name, address) in &self.names {
            made.extra_hosts.entry(name.clone()).or_insert_with(|| vec![address.to_string()]);
        }
        made.name = container_name(&self.host, &self.key, role, &made.hash());
        made.image = reference.to_owned();
        made
    }
}

fn explain(error: &EngineError) -> String {
    match &error.hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

fn order_of(service: &DesiredService) -> Option<UpdateOrder> {
    service.definition.service.deploy.update_config.as_ref().and_then(|update| update.order)
}

struct Context<'a> {
    host: &'a HostName,
    key: ProjectKey,
    labels: Labels,
    project: &'a DesiredProject,
    observed: &'a Observed,
}

impl Context<'_> {
    fn service_key(&self, service: &api::ServiceName) -> ServiceKey {
        ServiceKey { project: self.key.clone(), service: service.clone() }
    }

    fn networks(&self, wanted: &mut Wanted) {
        let definitions = self.project.services.iter().map(|service| &service.definition);
        let definitions = definitions.chain(self.project.jobs.iter().map(|job| &job.definition));
        let mut networks: BTreeMap<String, NetworkSpec> = BTreeMap::new();
        for definition in definitions {
            match wanted_networks(definition, &self.network_names(definition), &self.labels, Place::Host) {
                Ok(specs) => networks.extend(specs.into_iter().map(|spec| (spec.name.clone(), spec))),
                // Every service that is on it is refused with the same reason.
                Err(error) => wanted.warnings.push(format!("{}: {error}", self.key)),
            }
        }
        wanted.networks.extend(networks.into_values());
    }

    fn network_names(&self, definition: &ServiceDefinition) -> BTreeMap<String, String> {
        let keys = definition.networks.keys().chain(definition.service.networks.keys());
        keys.map(|key| (key.clone(), network_name(self.host, &self.key, key))).collect()
    }

    fn volume_names(&self, definition: &ServiceDefinition) -> BTreeMap<String, String> {
        let given = |key: &str| definition.volumes.get(key).and_then(|volume| volume.name.clone());
        let own = |key: &String| given(key).unwrap_or_else(|| volume_name(self.host, &self.key, key));
        definition.volumes.keys().map(|key| (key.clone(), own(key))).collect()
    }

    fn service(&self, service: &DesiredService) -> Result<WantedService, EngineError> {
        let definition = &service.definition;
        let key = self.service_key(&service.service);
        let role = definition::Role::Service;
        let template = self.template(&key, &service.release, &service.image, definition, role)?;
        let order = match (definition.service.has_writable_volume(), order_of(service)) {
            (true, _) | (false, Some(UpdateOrder::StopFirst)) => Order::StopFirst,
            (false, Some(UpdateOrder::StartFirst) | None) => Order::StartFirst,
        };
        let drain = definition
            .service
            .stop_grace_period_micros
            .map_or(Duration::from_secs(DRAIN_SECONDS_DEFAULT), Duration::from_micros);
        Ok(WantedService {
            key,
            release: service.release.clone(),
            image: service.image.clone(),
            instances: service.instances,
            healthy_seconds_max: service.healthy_seconds_max,
            order,
            restart: template.container.restart,
            drain,
            networks: template.container.networks.keys().cloned().collect(),
            volumes: self.volumes(definition)?,
            spec: template.spec.clone(),
            needed: definition.service.depends_on.keys().cloned().collect(),
            template,
        })
    }

    fn job(&self, job: &DesiredJob) -> Result<WantedJob, EngineError> {
        let key = self.service_key(&job.service);
        let template = self.template(&key, &job.release, &job.image, &job.definition, definition::Role::Job)?;
        Ok(WantedJob {
            run: job.run.clone(),
            image: job.image.clone(),
            seconds_max: job.seconds_max,
            networks: template.container.networks.keys().cloned().collect(),
            volumes: self.volumes(&job.definition)?,
            spec: template.spec.clone(),
            template,
        })
    }

    fn template(
        &self,
        key: &ServiceKey,
        release: &ReleaseId,
        image: &ImageAddress,
        definition: &ServiceDefinition,
        role: definition::Role,
    ) -> Result<Template, EngineError> {
        let mut labels = self.labels.clone();
        labels.insert(LABEL_SERVICE.to_owned(), key.service.to_string());
        labels.insert(LABEL_RELEASE.to_owned(), release.to_string());
        labels.insert(LABEL_DIGEST.to_owned(), image.digest.to_string());
        let identity = Identity {
            name: key.to_string(),
            image: String::new(),
            labels,
            networks: self.network_names(definition),
            volumes: self.volume_names(definition),
            aliases: vec![key.service.to_string()],
            extra_hosts: BTreeMap::new(),
            environment: BTreeMap::new(),
            role,
        };
        let container = wanted_container(definition, &identity, Place::Host)?;
        let nameless = WantedContainer { name: String::new(), ..container };
        let spec = nameless.hash();
        Ok(Template {
            host: self.host.clone(),
            key: key.clone(),
            container: nameless,
            spec,
            names: self.names(definition),
        })
    }

    fn volumes(&self, definition: &ServiceDefinition) -> Result<Vec<VolumeSpec>, EngineError> {
        wanted_volumes(definition, &self.volume_names(definition), &self.labels, Place::Host)
    }

    /// Names of services on shared networks, and the virtual addresses that lead to them wherever they run.
    fn names(&self, definition: &ServiceDefinition) -> BTreeMap<String, IpAddr> {
        let mut names = BTreeMap::new();
        for route in self.project.routes.iter().filter(|route| !route.ports.is_empty()) {
            for network in definition.service.networks.keys() {
                let Some(aliases) = route.networks.get(network) else { continue };
                let name = network_name(self.host, &self.key, network);
                let Some(address) = virtual_address(self.observed, &name, route.number) else { continue };
                names.entry(route.service.to_string()).or_insert(address);
                for alias in aliases {
                    names.entry(alias.clone()).or_insert(address);
                }
            }
        }
        names
    }
}
