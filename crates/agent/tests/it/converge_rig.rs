//! A host in memory for the converge loop: the engine's fake under a clock that runs fast, with images that get healthy
//! late, never, or crash, stops and requests that take time, and a death or news of the hub at any call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent::edge::{Edge, EdgeError};
use agent::host::converge::{Converge, Parts};
use agent::host::names::{LABEL_DIGEST, LABEL_SERVICE};
use agent::host::report::Standing;
use agent::host::table::Edges;
use agent::proxy::client::ClientError;
use agent::proxy::status::{Status, UpstreamStatus};
use agent::proxy::table::Table;
use agent::state::Store;
use api::Micros;
use api::agent::{Desired, DesiredJob, DesiredProject, DesiredService, DesiredStreams, Route};
use api::delivery::ImageAddress;
use async_trait::async_trait;
use compose::ServiceDefinition;
use engine::build::{BuildError, BuildEvent, BuildOptions, TarBody};
use engine::fake::{Behaviour, FakeEngine};
use engine::{
    Container, ContainerState, ContainerStats, ContainerSummary, Engine, EngineError, EngineEvent, EngineVersion,
    ExecOptions, Health, Image, Labels, LogLine, LogOptions, Network, NetworkSpec, Place, Progress, PullProgress,
    Session, SessionInput, Subnet, Volume, VolumeSpec, WantedContainer,
};
use futures::stream::BoxStream;
use oci::Digest;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How much faster than the real one the rig's clock runs.
const HASTE: i64 = 40;
/// How long requests that are under way when a container leaves the table take, in the rig's milliseconds.
const REQUEST_MILLIS: i64 = 1_500;
/// How long a container takes to stop, in the rig's milliseconds.
const STOP_MILLIS: i64 = 1_000;
/// How long the machine stands still, in the rig's milliseconds: longer than a container may take to be healthy.
const STALL_MILLIS: i64 = 40_000;
pub(crate) const REGISTRY: &str = "127.0.0.1:5100";

/// What containers of an image do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Healthy some seconds after the start.
    HealthyAfter(i64),
    /// Never.
    Never,
    /// Ends every second.
    Crashes,
    /// Ends after some seconds with a code: a job.
    Ends(i64, i64),
}

type News = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct World {
    natures: BTreeMap<Digest, Nature>,
    created: BTreeMap<String, Micros>,
    started: BTreeMap<String, Micros>,
    finished: BTreeMap<String, Micros>,
    calls: usize,
    dies: Option<(usize, bool)>,
    news: Option<(usize, News)>,
    ending: BTreeSet<String>,
    running_most: BTreeMap<String, usize>,
    table: Table,
    busy_until: BTreeMap<String, Micros>,
    served_least: Option<usize>,
    violations: Vec<String>,
    starts: Vec<String>,
    stalls: bool,
}

/// The name of the hub's registry.
pub(crate) const HUB_REGISTRY: &str = "hub.example";

/// The host. Clones are the same host.
#[derive(Clone)]
pub(crate) struct Rig {
    engine: FakeEngine,
    world: Arc<Mutex<World>>,
    died: Arc<Notify>,
    begun: Instant,
    base: Micros,
    /// An engine takes one start after the other: only the first of two starts anything.
    starting: Arc<tokio::sync::Mutex<()>>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            engine: FakeEngine::new(),
            world: Arc::default(),
            died: Arc::default(),
            starting: Arc::default(),
            begun: Instant::now(),
            base: Micros::now(),
        }
    }

    pub(crate) fn now(&self) -> Micros {
        let micros = i64::try_from(self.begun.elapsed().as_micros()).unwrap();
        Micros(self.base.0 + micros * HASTE)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of an image that nobody pushed.
    pub(crate) fn image_missing(service: &str, version: &str) -> ImageAddress {
        let digest = Digest::sha256_of(format!("{service} {version}").as_bytes());
        ImageAddress { repository: format!("vote/{service}").parse().unwrap(), digest }
    }

    /// Puts an image of this nature into the registry.
    pub(crate) fn image(&self, service: &str, version: &str, nature: Nature) -> ImageAddress {
        let address = Self::image_missing(service, version);
        let digest = address.digest;
        let output = (0..150).map(|line| format!("{service} {version} line {line}")).collect();
        let behaviour = Behaviour { output, ..Behaviour::default() };
        self.engine.registry_add(&format!("{REGISTRY}/vote/{service}@{digest}"), behaviour);
        self.world().natures.insert(digest, nature);
        address
    }

    /// The agent dies at its `n`-th changing call from now, before or after the engine carried it out.
    pub(crate) fn dies_at(&self, call: usize, after: bool) {
        let mut world = self.world();
        world.dies = Some((world.calls + call, after));
    }

    pub(crate) fn lives(&self) {
        self.world().dies = None;
    }

    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// Something happens right before the `n`-th changing call from now.
    pub(crate) fn news_at(&self, call: usize, news: impl FnOnce() + Send + 'static) {
        let mut world = self.world();
        world.news = Some((world.calls + call, Box::new(news)));
    }

    /// What has not happened yet happens now.
    pub(crate) fn news_now(&self) {
        let news = self.world().news.take();
        if let Some((_, news)) = news {
            news();
        }
    }

    /// From now on the service `web` must always be served.
    pub(crate) fn guard(&self) {
        self.world().served_least = Some(usize::MAX);
    }

    /// The fewest healthy containers of `web` to which a table led since [`Rig::guard`].
    pub(crate) fn served_least(&self) -> usize {
        self.world().served_least.unwrap()
    }

    /// The most containers of a service that ever ran at one time.
    pub(crate) fn running_most(&self, service: &str) -> usize {
        self.world().running_most.get(service).copied().unwrap_or(0)
    }

    /// The machine stands still once, after the next look at containers of which one is not healthy yet.
    pub(crate) fn stall(&self) {
        self.world().stalls = true;
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let mut violations = self.world().violations.clone();
        let volume = "longshore-h1-prod-vote-data";
        let most = self.engine.volume_holders_most(volume);
        if most > 1 {
            violations.push(format!("{most} containers held {volume} at once"));
        }
        violations
    }

    /// Names of the containers that were ever started, in order.
    pub(crate) fn starts(&self) -> Vec<String> {
        self.world().starts.clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.world().calls
    }

    pub(crate) fn table(&self) -> Table {
        self.world().table.clone()
    }

    pub(crate) fn fake(&self) -> &FakeEngine {
        &self.engine
    }

    /// All containers, as they are now.
    pub(crate) async fn containers(&self) -> Vec<Container> {
        self.container_list(&Labels::new()).await.unwrap()
    }

    /// An agent on this host, as a task that dies with the returned token or by being aborted.
    pub(crate) fn agent(
        &self,
        folder: &Path,
        desired: watch::Receiver<Option<Arc<Desired>>>,
    ) -> (tokio::task::JoinHandle<()>, watch::Receiver<Standing>) {
        let (standing_in, standing) = watch::channel(Standing::unknown());
        let clock = self.clone();
        let converge = Converge::new(Parts {
            host: "h1".parse().unwrap(),
            labels: Labels::new(),
            edges: Edges { publish: "127.0.0.1".parse().unwrap(), mesh: None },
            registry: REGISTRY.to_owned(),
            hub_registry: Some(HUB_REGISTRY.to_owned()),
            engine: Arc::new(self.clone()),
            edge: Arc::new(self.clone()),
            store: Store::new(folder),
            clock: Arc::new(move || clock.now()),
            desired,
            standing: standing_in,
            keeps: watch::Sender::new(None),
        })
        .unwrap();
        (tokio::spawn(converge.run(CancellationToken::new())), standing)
    }

    /// A changing call: here the agent may die, for ever.
    async fn enter(&self) -> bool {
        let (now, late, news) = {
            let mut world = self.world();
            world.calls += 1;
            let calls = world.calls;
            let dies = world.dies.is_some_and(|(at, _)| calls > at);
            let news = world.news.take_if(|(at, _)| calls > *at);
            (dies, world.dies.is_some_and(|(_, after)| after), news)
        };
        if let Some((_, news)) = news {
            news();
        }
        if now && !late {
            self.die().await;
        }
        now
    }

    async fn leave(&self, dies: bool) {
        if dies {
            self.die().await;
        }
    }

    async fn die(&self) {
        self.died.notify_one();
        std::future::pending::<()>().await;
    }

    /// A container as it is at this time of the rig's clock.
    fn age(&self, mut container: Container) -> Container {
        let now = self.now();
        let mut world = self.world();
        container.created = world.created.get(&container.id).copied();
        container.started = world.started.get(&container.id).copied();
        let digest: Option<Digest> = container.labels.get(LABEL_DIGEST).and_then(|digest| digest.parse().ok());
        let nature = digest.and_then(|digest| world.natures.get(&digest).copied());
        let Some(started) = container.started else { return container };
        let seconds = i64::try_from(now.since(started).as_secs()).unwrap();
        if container.state == ContainerState::Running {
            match nature {
                Some(Nature::HealthyAfter(after)) => {
                    container.health = if seconds >= after { Health::Healthy } else { Health::Starting };
                }
                Some(Nature::Never) => container.health = Health::Starting,
                Some(Nature::Crashes) => {
                    container.state = ContainerState::Restarting;
                    container.restarts = u32::try_from(seconds).unwrap();
                    container.exit_code = Some(7);
                }
                Some(Nature::Ends(after, code)) if seconds >= after => {
                    container.state = ContainerState::Exited;
                    container.exit_code = Some(code);
                }
                Some(Nature::Ends(..)) | None => {}
            }
        }
        if container.state == ContainerState::Exited {
            container.finished = Some(*world.finished.entry(container.id.clone()).or_insert(now));
        }
        container
    }

    fn is_serving(&self, container: &Container) -> bool {
        container.labels.get(LABEL_SERVICE).is_some_and(|service| service == "web") && container.is_ready()
    }

    /// No container may end that the table leads to, or on which requests are under way.
    fn check_end(&self, container: &str) {
        let now = self.now();
        let mut world = self.world();
        let led_to = world.table.routes.iter().flat_map(|route| &route.locals).any(|local| local.key == container);
        if led_to {
            world.violations.push(format!("{container} ended while the table led to it"));
        }
        if world.busy_until.get(container).is_some_and(|until| *until > now) {
            world.violations.push(format!("{container} ended while requests were under way"));
        }
    }
}

#[async_trait]
impl Edge for Rig {
    async fn status(&self) -> Result<Status, EdgeError> {
        let now = self.now();
        let world = self.world();
        let upstreams = world.busy_until.iter().filter(|(_, until)| **until > now).map(|(key, _)| UpstreamStatus {
            key: key.clone(),
            active_requests: 1,
            active_connections: 0,
            draining: true,
        });
        Ok(Status {
            number: world.table.number,
            pid: 1,
            version: "0".to_owned(),
            upstreams: upstreams.collect(),
            listeners: Vec::new(),
            mesh: None,
        })
    }

    async fn table_put(&self, table: &Table) -> Result<Status, EdgeError> {
        // The engine may be gone by now; who serves is then not known.
        let running = self.container_list(&Labels::new()).await.ok();
        let dies = self.enter().await;
        table.validate().unwrap();
        {
            let now = self.now();
            let mut world = self.world();
            if table.number <= world.table.number {
                let (kind, detail) = ("older-table".to_owned(), String::new());
                return Err(ClientError::Refused { kind, detail }.into());
            }
            let keys = |table: &Table| -> BTreeSet<String> {
                table.routes.iter().flat_map(|route| &route.locals).map(|local| local.key.clone()).collect()
            };
            for left in keys(&world.table).difference(&keys(table)) {
                world.busy_until.insert(left.clone(), Micros(now.0 + REQUEST_MILLIS * 1_000));
            }
            for back in keys(table) {
                world.busy_until.remove(&back);
            }
            for ending in keys(table).intersection(&world.ending.clone()) {
                world.violations.push(format!("the table led to {ending} while it was being stopped"));
            }
            let web = table.routes.iter().filter(|route| route.service.to_string() == "prod/vote/web");
            let served = web
                .flat_map(|route| &route.locals)
                .filter(|local| !world.ending.contains(&local.key))
                .filter(|local| running.iter().flatten().any(|found| found.id == local.key && self.is_serving(found)))
                .count();
            if let Some(least) = world.served_least.as_mut().filter(|_| running.is_some()) {
                *least = served.min(*least);
                if served == 0 {
                    world.violations.push("the table led to no healthy container of web".to_owned());
                }
            }
            world.table = table.clone();
        }
        self.leave(dies).await;
        self.status().await
    }

    async fn routes_ensure(&self, _subnets: &BTreeSet<Subnet>) -> Result<(), EdgeError> {
        Ok(())
    }

    async fn route_remove(&self, _subnet: Subnet) -> Result<(), EdgeError> {
        Ok(())
    }
}

macro_rules! changing {
    ($self:ident, $call:expr) => {{
        let dies = $self.enter().await;
        let result = $call.await;
        $self.leave(dies).await;
        result
    }};
}

#[async_trait]
impl Engine for Rig {
    async fn version(&self) -> Result<EngineVersion, EngineError> {
        self.engine.version().await
    }
    async fn image_pull(&self, reference: &str, progress: Progress<PullProgress>) -> Result<(), EngineError> {
        changing!(self, self.engine.image_pull(reference, progress))
    }
    async fn place(&self) -> Result<Place, EngineError> {
        self.engine.place().await
    }
    async fn image_load(&self, archive: TarBody, progress: Progress<PullProgress>) -> Result<String, EngineError> {
        self.engine.image_load(archive, progress).await
    }
    async fn image_push(&self, reference: &str, progress: Progress<PullProgress>) -> Result<String, EngineError> {
        self.engine.image_push(reference, progress).await
    }
    async fn image_tag(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        self.engine.image_tag(image, reference).await
    }
    async fn image_inspect(&self, image: &str) -> Result<Option<Image>, EngineError> {
        self.engine.image_inspect(image).await
    }
    async fn image_list(&self, labels: &Labels) -> Result<Vec<Image>, EngineError> {
        self.engine.image_list(labels).await
    }
    async fn image_remove(&self, image: &str) -> Result<(), EngineError> {
        self.engine.image_remove(image).await
    }
    async fn image_build(
        &self,
        options: &BuildOptions,
        context: TarBody,
        progress: Progress<BuildEvent>,
    ) -> Result<String, BuildError> {
        self.engine.image_build(options, context, progress).await
    }
    async fn container_create(&self, wanted: &WantedContainer) -> Result<String, EngineError> {
        let dies = self.enter().await;
        let id = self.engine.container_create(wanted).await;
        if let Ok(id) = &id {
            self.world().created.insert(id.clone(), self.now());
        }
        self.leave(dies).await;
        id
    }
    async fn container_start(&self, container: &str) -> Result<(), EngineError> {
        let dies = self.enter().await;
        let one_by_one = self.starting.lock().await;
        let found = self.engine.container_inspect(container).await?;
        if let Some(found) = found.filter(|found| found.state != ContainerState::Running) {
            self.world().starts.push(found.name);
        }
        self.world().started.insert(container.to_owned(), self.now());
        self.world().finished.remove(container);
        let done = self.engine.container_start(container).await;
        drop(one_by_one);
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for found in self.engine.container_list(&Labels::new()).await.unwrap_or_default() {
            if let (ContainerState::Running, Some(service)) = (found.state, found.labels.get(LABEL_SERVICE)) {
                *running.entry(service.clone()).or_default() += 1;
            }
        }
        for (service, count) in running {
            let mut world = self.world();
            let most = world.running_most.entry(service).or_default();
            *most = count.max(*most);
        }
        self.leave(dies).await;
        done
    }
    async fn container_stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        let dies = self.enter().await;
        self.check_end(container);
        self.world().ending.insert(container.to_owned());
        let (rig, id) = (self.clone(), container.to_owned());
        // The engine goes on with a stop when whoever asked for it is gone.
        let stopping = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(u64::try_from(STOP_MILLIS * 1_000 / HASTE).unwrap())).await;
            if rig.world().ending.contains(&id) {
                rig.engine.container_stop(&id, grace).await?;
                rig.world().ending.remove(&id);
            }
            Ok(())
        });
        self.leave(dies).await;
        stopping.await.unwrap()
    }
    async fn container_kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        changing!(self, self.engine.container_kill(container, signal))
    }
    async fn container_remove(&self, container: &str) -> Result<(), EngineError> {
        let dies = self.enter().await;
        self.check_end(container);
        let done = self.engine.container_remove(container).await;
        self.leave(dies).await;
        done
    }
    async fn container_inspect(&self, container: &str) -> Result<Option<Container>, EngineError> {
        Ok(self.engine.container_inspect(container).await?.map(|container| self.age(container)))
    }
    async fn container_list(&self, labels: &Labels) -> Result<Vec<Container>, EngineError> {
        let found = self.engine.container_list(labels).await?.into_iter();
        let found: Vec<Container> = found.map(|container| self.age(container)).collect();
        let is_starting = found.iter().any(|found| found.health == Health::Starting);
        if is_starting && std::mem::take(&mut self.world().stalls) {
            tokio::time::sleep(Duration::from_micros(u64::try_from(STALL_MILLIS * 1_000 / HASTE).unwrap())).await;
        }
        Ok(found)
    }
    async fn container_summaries(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
        self.engine.container_summaries(labels).await
    }
    async fn container_logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        self.engine.container_logs(container, options).await
    }
    async fn container_wait(&self, container: &str) -> Result<i64, EngineError> {
        self.engine.container_wait(container).await
    }
    async fn container_restart(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        changing!(self, self.engine.container_restart(container, grace))
    }
    async fn container_stats(&self, container: &str) -> Result<ContainerStats, EngineError> {
        self.engine.container_stats(container).await
    }
    async fn container_exec(
        &self,
        container: &str,
        options: &ExecOptions,
        input: SessionInput,
    ) -> Result<Session, EngineError> {
        self.engine.container_exec(container, options, input).await
    }
    async fn container_attach(&self, container: &str, input: SessionInput) -> Result<Session, EngineError> {
        self.engine.container_attach(container, input).await
    }
    async fn container_archive_put(&self, container: &str, folder: &str, archive: TarBody) -> Result<(), EngineError> {
        self.engine.container_archive_put(container, folder, archive).await
    }
    async fn container_archive_get(&self, container: &str, path: &str) -> Result<TarBody, EngineError> {
        self.engine.container_archive_get(container, path).await
    }
    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        changing!(self, self.engine.network_create(spec))
    }
    async fn network_inspect(&self, network: &str) -> Result<Option<Network>, EngineError> {
        self.engine.network_inspect(network).await
    }
    async fn network_list(&self, labels: &Labels) -> Result<Vec<Network>, EngineError> {
        self.engine.network_list(labels).await
    }
    async fn network_remove(&self, network: &str) -> Result<(), EngineError> {
        changing!(self, self.engine.network_remove(network))
    }
    async fn network_connect(&self, network: &str, container: &str, aliases: &[String]) -> Result<(), EngineError> {
        self.engine.network_connect(network, container, aliases).await
    }
    async fn volume_create(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        changing!(self, self.engine.volume_create(spec))
    }
    async fn volume_inspect(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        self.engine.volume_inspect(name).await
    }
    async fn volume_list(&self, labels: &Labels) -> Result<Vec<Volume>, EngineError> {
        self.engine.volume_list(labels).await
    }
    async fn volume_remove(&self, name: &str) -> Result<(), EngineError> {
        self.engine.volume_remove(name).await
    }
    async fn events(
        &self,
        labels: &Labels,
    ) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        self.engine.events(labels).await
    }
}

/// A service's definition, from JSON as it comes over the wire.
pub(crate) fn definition(volume: bool, more: serde_json::Value) -> ServiceDefinition {
    let mut service = serde_json::json!({
        "networks": {"default": {}},
        "healthcheck": {"test": {"shell": "true"}},
    });
    let object = service.as_object_mut().unwrap();
    if volume {
        let mount = serde_json::json!([{"type": "volume", "source": "data", "target": "/data"}]);
        object.insert("volumes".to_owned(), mount);
    }
    object.extend(more.as_object().unwrap().clone());
    let volumes = if volume { serde_json::json!({"data": {}}) } else { serde_json::json!({}) };
    serde_json::from_value(serde_json::json!({
        "service": service, "networks": {"default": {}}, "volumes": volumes,
    }))
    .unwrap()
}

pub(crate) fn release(service: &str, version: &str) -> api::delivery::ReleaseId {
    Digest::sha256_of(format!("release {service} {version}").as_bytes()).hex()[..16].parse().unwrap()
}

pub(crate) fn service(name: &str, version: &str, image: ImageAddress, definition: ServiceDefinition) -> DesiredService {
    DesiredService {
        service: name.parse().unwrap(),
        release: release(name, version),
        image,
        definition,
        instances: 1,
        healthy_seconds_max: 20,
    }
}

pub(crate) fn job(run: &str, version: &str, image: ImageAddress) -> DesiredJob {
    DesiredJob {
        run: run.to_owned(),
        service: "migrate".parse().unwrap(),
        release: release("migrate", version),
        image,
        definition: definition(false, serde_json::json!({})),
        seconds_max: 60,
    }
}

pub(crate) fn route(name: &str, number: u32, port: u16) -> Route {
    Route {
        service: name.parse().unwrap(),
        number,
        networks: BTreeMap::from([("default".to_owned(), Vec::new())]),
        ports: vec![port],
        published: Vec::new(),
        remotes: Vec::new(),
    }
}

pub(crate) fn desired(number: u64, services: Vec<DesiredService>, jobs: Vec<DesiredJob>) -> Arc<Desired> {
    let routes = vec![route("web", 0, 80), route("db", 1, 5432)];
    let (env, app) = ("prod".parse().unwrap(), "vote".parse().unwrap());
    Arc::new(Desired {
        hub: "hub".to_owned(),
        number,
        host: "h1".parse().unwrap(),
        projects: vec![DesiredProject { env, app, services, jobs, routes }],
        streams: DesiredStreams::default(),
    })
}

/// Waits until the agent says something of this number, or a higher one, that holds.
pub(crate) async fn until(
    standing: &mut watch::Receiver<Standing>,
    number: u64,
    what: &str,
    holds: impl Fn(&Standing) -> bool,
) -> Standing {
    let found = {
        let reached = standing.wait_for(|standing| standing.number >= number && holds(standing));
        let waited = tokio::time::timeout(Duration::from_secs(60), reached).await;
        waited.ok().map(|reached| reached.expect("the agent ended").clone())
    };
    found.unwrap_or_else(|| panic!("never {what}: {:#?}", *standing.borrow()))
}
