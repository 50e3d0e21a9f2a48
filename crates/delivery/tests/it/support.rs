//! What the tests are made of: services in short words, releases, agents that do as they are told.

use std::collections::{BTreeMap, BTreeSet};

use api::agent::{
    DesiredProject, EngineState, InstanceState, JobReport, Progress, ProxyReport, Report, ReportedInstance,
    ServiceReport,
};
use api::delivery::{Definitions, ImageAddress, NewRelease, Release, ReleaseId};
use api::pipeline::Provenance;
use api::registry::{Pin, Registry, StoredManifest};
use api::{AppName, EnvName, HostName, Micros, ServiceName};
use async_trait::async_trait;
use bytes::Bytes;
use compose::ServiceDefinition;
use compose::model::{
    Attribute, Condition, Constraint, Dependency, Mode, Mount, Operator, Port, Protocol, ServiceNetwork,
};
use delivery::model::{HostView, Project, release_id};
use oci::{Digest, RepositoryName};

pub(crate) fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub(crate) fn project(env: &str) -> Project {
    Project { env: name(env), app: name("shop") }
}

pub(crate) fn host(named: &str, labels: &[(&str, &str)], now: Micros) -> HostView {
    HostView {
        name: name(named),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        seen_at: Some(now),
        mesh: Some(format!("{named}:5200")),
        engine_error: None,
    }
}

/// A service in short words.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) named: String,
    pub(crate) definition: ServiceDefinition,
    pub(crate) job: bool,
    pub(crate) version: u32,
    pub(crate) overlays: BTreeMap<EnvName, ServiceDefinition>,
}

impl Spec {
    pub(crate) fn new(named: &str) -> Self {
        let mut definition = ServiceDefinition::default();
        definition.service.image = Some(named.to_owned());
        definition.service.networks.insert("default".to_owned(), ServiceNetwork::default());
        definition.networks.insert("default".to_owned(), compose::model::Network::default());
        Self { named: named.to_owned(), definition, job: false, version: 1, overlays: BTreeMap::new() }
    }

    pub(crate) fn global(mut self) -> Self {
        self.definition.service.deploy.mode = Mode::Global;
        self
    }

    pub(crate) fn replicas(mut self, replicas: u32) -> Self {
        self.definition.service.deploy.mode = Mode::Replicated { replicas };
        self
    }

    pub(crate) fn volume(mut self) -> Self {
        let source = format!("{}-data", self.named);
        self.definition.volumes.insert(source.clone(), compose::model::Volume::default());
        self.definition.service.volumes.push(Mount::Volume {
            source: Some(source),
            target: "/data".to_owned(),
            read_only: false,
            no_copy: false,
            options: compose::model::MountOptions::default(),
        });
        self
    }

    pub(crate) fn job(mut self) -> Self {
        self.job = true;
        self
    }

    pub(crate) fn awaits(mut self, other: &str) -> Self {
        let dependency = Dependency { condition: Condition::ServiceStarted, restart: false, optional: false };
        self.definition.service.depends_on.insert(other.to_owned(), dependency);
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.definition.service.deploy.placement.constraints.push(Constraint {
            attribute: Attribute::Label(key.to_owned()),
            operator: Operator::Equal,
            value: value.to_owned(),
        });
        self
    }

    pub(crate) fn publish(mut self, published: u16, target: u16) -> Self {
        self.definition.service.ports.push(Port {
            target,
            published: Some(published),
            host_ip: None,
            protocol: Protocol::Tcp,
            name: None,
            ..Port::default()
        });
        self
    }

    /// With other ports in an environment.
    pub(crate) fn publish_in(mut self, env: &str, published: u16, target: u16) -> Self {
        let mut definition = self.definition.clone();
        definition.service.ports.clear();
        let other = Self { definition, ..self.clone() }.publish(published, target);
        self.overlays.insert(name(env), other.definition);
        self
    }

    pub(crate) fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn new_release(&self) -> NewRelease {
        let image = Digest::sha256_of(format!("{} {}", self.named, self.version).as_bytes());
        NewRelease {
            service: name(&self.named),
            image: ImageAddress { repository: name::<RepositoryName>(&format!("shop/{}", self.named)), digest: image },
            definitions: Definitions { base: self.definition.clone(), overlays: self.overlays.clone() },
            job: self.job,
            ports: self.definition.service.ports_declared().into_iter().collect(),
            provenance: Provenance {
                run: "run".to_owned(),
                repository: "file:///shop".to_owned(),
                commit: format!("{:040}", self.version),
                builder: "test".to_owned(),
                inputs_digest: image,
                inputs: BTreeMap::new(),
                reason: "first build".to_owned(),
                started_at: Micros(0),
                finished_at: Micros(1),
                statement: None,
            },
        }
    }

    pub(crate) fn release(&self) -> Release {
        let app: AppName = name("shop");
        let new = self.new_release();
        Release {
            id: release_id(&app, &new).unwrap(),
            app,
            service: new.service,
            image: new.image,
            definitions: new.definitions,
            job: new.job,
            ports: new.ports,
            provenance: new.provenance,
            created_at: Micros(0),
        }
    }
}

pub(crate) fn releases(specs: &[Spec]) -> BTreeMap<ServiceName, Release> {
    specs.iter().map(Spec::release).map(|release| (release.service.clone(), release)).collect()
}

/// What becomes of something that an agent is to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Works,
    Fails,
    Lasts,
}

/// An agent that does as it is told: the old one keeps running until the new one works, a job runs once.
#[derive(Clone, Default)]
pub(crate) struct Agent {
    pub(crate) number: u64,
    pub(crate) running: BTreeMap<(EnvName, AppName, ServiceName), (ReleaseId, u32, Digest)>,
    /// How often each run of a job was begun.
    pub(crate) runs: BTreeMap<String, u32>,
    services: Vec<ServiceReport>,
    jobs: Vec<JobReport>,
}

impl Agent {
    pub(crate) fn take(
        &mut self,
        number: u64,
        projects: &[DesiredProject],
        outcome: impl Fn(&ServiceName, &ReleaseId) -> Outcome,
    ) {
        assert!(number >= self.number, "numbers never fall");
        self.number = number;
        let failed = |detail: &str| Progress::Failed {
            error: detail.to_owned(),
            log: (1..=120).map(|line| format!("line {line}")).collect(),
        };
        let mut wanted = BTreeSet::new();
        self.services.clear();
        let before = std::mem::take(&mut self.jobs);
        for project in projects {
            for service in &project.services {
                let key = (project.env.clone(), project.app.clone(), service.service.clone());
                let new = (service.release.clone(), service.instances, service.image.digest);
                wanted.insert(key.clone());
                let runs = self.running.get(&key).is_some_and(|(release, instances, _)| {
                    (release, instances) == (&service.release, &service.instances)
                });
                let progress = match outcome(&service.service, &service.release) {
                    _ if runs => Progress::Done,
                    Outcome::Works => {
                        self.running.insert(key, new);
                        Progress::Done
                    }
                    Outcome::Fails => failed("never healthy"),
                    Outcome::Lasts => Progress::Working { detail: "pulling".to_owned() },
                };
                self.services.push(ServiceReport {
                    env: project.env.clone(),
                    app: project.app.clone(),
                    service: service.service.clone(),
                    release: service.release.clone(),
                    progress,
                });
            }
            for job in &project.jobs {
                let known = before.iter().find(|known| known.run == job.run).map(|known| known.progress.clone());
                let progress = match known {
                    Some(ended @ (Progress::Done | Progress::Failed { .. })) => ended,
                    _ => match outcome(&job.service, &job.release) {
                        Outcome::Lasts => Progress::Working { detail: "running".to_owned() },
                        ended => {
                            *self.runs.entry(job.run.clone()).or_default() += 1;
                            if ended == Outcome::Works { Progress::Done } else { failed("exit status 1") }
                        }
                    },
                };
                self.jobs.push(JobReport { run: job.run.clone(), progress });
            }
        }
        self.running.retain(|key, _| wanted.contains(key));
    }

    pub(crate) fn report(&self, host: &HostName, now: Micros) -> Report {
        let instance = |((env, app, service), (release, count, digest)): (
            &(EnvName, AppName, ServiceName),
            &(ReleaseId, u32, Digest),
        )| {
            let one = ReportedInstance {
                env: env.clone(),
                app: app.clone(),
                service: service.clone(),
                slot: 0,
                release: release.clone(),
                digest: *digest,
                container: format!("{host}-{env}-{service}-{release}"),
                state: InstanceState::Healthy,
                since: Micros(0),
                restarts: 0,
            };
            (0..*count).map(move |slot| ReportedInstance { slot, ..one.clone() })
        };
        Report {
            number: self.number,
            clock: now,
            agent_version: "test".to_owned(),
            mesh: format!("{host}:5200"),
            engine: EngineState::Up { version: "20.10".to_owned() },
            instances: self.running.iter().flat_map(instance).collect(),
            services: self.services.clone(),
            jobs: self.jobs.clone(),
            proxy: ProxyReport::default(),
            warnings: Vec::new(),
        }
    }
}

/// A registry that has every manifest but those it is told to miss.
#[derive(Default)]
pub(crate) struct FakeRegistry {
    pub(crate) pins: std::sync::Mutex<BTreeSet<(String, String)>>,
    pub(crate) missing: std::sync::Mutex<BTreeSet<String>>,
}

#[async_trait]
impl Registry for FakeRegistry {
    async fn pin(&self, pin: Pin) -> api::Result<()> {
        if self.missing.lock().unwrap().contains(&pin.digest.to_string()) {
            return Err(api::Problem::new(404, "manifest-unknown", "The manifest is not there"));
        }
        self.pins.lock().unwrap().insert((pin.digest.to_string(), pin.holder));
        Ok(())
    }

    async fn unpin(&self, pin: Pin) -> api::Result<()> {
        self.pins.lock().unwrap().remove(&(pin.digest.to_string(), pin.holder));
        Ok(())
    }

    async fn manifest_get(&self, _: &RepositoryName, _: &str) -> api::Result<Option<StoredManifest>> {
        Ok(None)
    }

    async fn manifest_put(&self, _: &RepositoryName, _: Option<&str>, _: &str, bytes: Bytes) -> api::Result<Digest> {
        Ok(Digest::sha256_of(&bytes))
    }

    async fn blob_put(&self, _: &RepositoryName, bytes: Bytes) -> api::Result<Digest> {
        Ok(Digest::sha256_of(&bytes))
    }

    async fn blob_get(&self, _: &RepositoryName, _: &Digest, _: u64) -> api::Result<Option<Bytes>> {
        Ok(None)
    }

    async fn blob_open(
        &self,
        _: &RepositoryName,
        _: &Digest,
        _: Option<std::ops::Range<u64>>,
    ) -> api::Result<Option<api::registry::BlobBytes>> {
        Ok(None)
    }

    async fn blobs_known(&self, _: &[Digest]) -> api::Result<BTreeSet<Digest>> {
        Ok(BTreeSet::new())
    }

    async fn manifests_pushed(
        &self,
        _: &(Micros, String, String),
        _: u32,
    ) -> api::Result<Vec<api::registry::PushedManifest>> {
        Ok(Vec::new())
    }

    async fn manifest_is_here(&self, _: &RepositoryName, _: &Digest) -> api::Result<bool> {
        Ok(false)
    }

    async fn tags_leading_to(
        &self,
        _: &[(RepositoryName, Digest)],
    ) -> api::Result<BTreeMap<(RepositoryName, Digest), Vec<oci::Tag>>> {
        Ok(BTreeMap::new())
    }

    async fn said_of(&self, _: &RepositoryName, _: &Digest, _: u32) -> api::Result<Vec<api::registry::SaidOf>> {
        Ok(Vec::new())
    }

    async fn manifest_delete(&self, _: &RepositoryName, _: &Digest) -> api::Result<bool> {
        Ok(false)
    }

    fn is_mirror(&self, _: &RepositoryName) -> bool {
        false
    }

    fn host_check(&self, _: &api::access::HostIdentity, _: &RepositoryName) -> api::Result<()> {
        Ok(())
    }
}
