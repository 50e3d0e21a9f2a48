//! Workspaces for tests: a few services with what they await, on one network and one volume.

use std::collections::BTreeMap;
use std::sync::Arc;

use compose::model::{Condition, Dependency};
use engine::fake::{Behaviour, FakeEngine};
use engine::wanted::{WantedHealthcheck, WantedRestart, WantedVolume};
use engine::{Engine, Health, NetworkSpec, VolumeSpec, WantedContainer};
use workspace::fill::Fill;
use workspace::images::Images;
use workspace::progress::{Told, Voice};
use workspace::settings::Step;
use workspace::supervisor::Supervisor;
use workspace::wanted::{LABEL_AWAITS, LABEL_SERVICE, LABEL_SLOT, Origin, Wanted, WantedService, labels_of};

pub(crate) const WORKSPACE: &str = "shop";

/// A service as a test describes it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) awaits: Vec<(String, Condition)>,
    pub(crate) is_job: bool,
}

impl Spec {
    pub(crate) fn new(name: &str, awaits: &[(&str, Condition)]) -> Self {
        let awaits = awaits.iter().map(|(name, condition)| ((*name).to_owned(), *condition)).collect();
        Self { name: name.to_owned(), version: 1, awaits, is_job: false }
    }

    pub(crate) fn job(mut self) -> Self {
        self.is_job = true;
        self
    }

    /// Its image's name; an image of a job ends at once.
    pub(crate) fn reference(&self) -> String {
        format!("{}:{}", if self.is_job { "job" } else { "service" }, self.version)
    }

    pub(crate) fn container(&self) -> WantedContainer {
        let network = format!("{WORKSPACE}_default");
        let mut container = WantedContainer::new(format!("{WORKSPACE}-{}-1", self.name), self.reference(), network);
        container.labels = labels_of(WORKSPACE);
        container.labels.insert(LABEL_SERVICE.to_owned(), self.name.clone());
        container.labels.insert(LABEL_SLOT.to_owned(), "1".to_owned());
        let awaits: Vec<&str> = self.awaits.iter().map(|(name, _)| name.as_str()).collect();
        container.labels.insert(LABEL_AWAITS.to_owned(), awaits.join(","));
        container.restart = WantedRestart::No;
        container.healthcheck = Some(match self.is_job {
            true => WantedHealthcheck::Disabled,
            false => WantedHealthcheck::Test {
                test: Some(vec!["CMD".to_owned(), "true".to_owned()]),
                interval: None,
                timeout: None,
                retries: None,
                start_period: None,
                start_interval: None,
            },
        });
        container.volumes.push(WantedVolume {
            volume: Some(format!("{WORKSPACE}_data")),
            target: "/data".to_owned(),
            read_only: true,
            no_copy: false,
        });
        container
    }
}

/// All that should be.
pub(crate) fn wanted(specs: &[Spec]) -> Wanted {
    let service = |spec: &Spec| {
        let awaits: BTreeMap<String, Dependency> = spec
            .awaits
            .iter()
            .map(|(name, condition)| {
                (name.clone(), Dependency { condition: *condition, restart: false, optional: false })
            })
            .collect();
        let origin = Origin::Image { reference: spec.reference() };
        let (containers, is_job) = (vec![spec.container()], spec.is_job);
        let service = WantedService { origin, containers, awaits, is_job, pull_policy: None };
        (spec.name.clone(), service)
    };
    let labels = labels_of(WORKSPACE);
    Wanted {
        networks: vec![NetworkSpec {
            name: format!("{WORKSPACE}_default"),
            labels: labels.clone(),
            internal: false,
            subnet: None,
            workspace: None,
        }],
        volumes: vec![VolumeSpec {
            name: format!("{WORKSPACE}_data"),
            driver: "local".to_owned(),
            labels,
            external: false,
            driver_opts: BTreeMap::new(),
        }],
        services: specs.iter().map(service).collect(),
        contents: BTreeMap::new(),
        fills: BTreeMap::new(),
        known: specs.iter().map(|spec| spec.name.clone()).collect(),
    }
}

/// What fills a service's volume, which all services mount: two steps.
pub(crate) fn fill(wanted: &mut Wanted, service: &str) {
    let step = |program: &str| Step { command: vec![program.to_owned()], input: None };
    let steps = vec![step("schema"), step("rows")];
    let made = Fill::new(service, &wanted.services[service], &wanted.volumes, steps, ".".as_ref());
    wanted.fills.extend(made.unwrap().map(|fill| (service.to_owned(), fill)));
}

/// An engine that can pull every image of these services.
pub(crate) fn engine() -> FakeEngine {
    let engine = FakeEngine::new();
    for version in 1..=3 {
        engine
            .registry_add(&format!("service:{version}"), Behaviour { health: Health::Healthy, ..Behaviour::default() });
        engine.registry_add(&format!("job:{version}"), Behaviour { exits: Some(0), ..Behaviour::default() });
    }
    engine
}

/// A supervisor that has just begun, and what it says.
pub(crate) async fn supervisor(engine: &FakeEngine) -> (Supervisor, tokio::sync::mpsc::Receiver<Told>) {
    let (voice, told) = Voice::new();
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    let hub = api::client::HubClient::new("http://127.0.0.1:9".parse().unwrap(), None).unwrap();
    let images = Images::new(shared.clone(), hub, ".".into(), labels_of(WORKSPACE), BTreeMap::new(), voice.clone());
    let supervisor = Supervisor::begin(shared, images, WORKSPACE, voice).await.unwrap();
    (supervisor, told)
}
