//! An engine in memory, for tests of what decides about containers. It keeps the rules that those decisions lean on
//! (names and subnets are taken once, networks in use stay, removal is idempotent) and runs nothing.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base::clock::Micros;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast;

pub use files::FakeFile;

use crate::build::{BuildError, BuildEvent, BuildFailure, BuildOptions, TarBody};
use crate::wanted::WantedHealthcheck;
use crate::{
    Container, ContainerState, ContainerStats, ContainerSummary, Engine, EngineError, EngineEvent, EngineVersion,
    ErrorKind, EventKind, ExecOptions, Health, Image, Labels, LogLine, LogOptions, LogStream, Network, NetworkSpec,
    Place, Progress, PullProgress, Session, SessionInput, SessionOutput, Subnet, Volume, VolumeSpec, WantedContainer,
};

/// Events that a slow reader may be behind.
const EVENTS_MAX: usize = 1024;

/// What the containers of an image do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// What a healthcheck says right after the start.
    pub health: Health,
    /// The container ends at once with this code.
    pub exits: Option<i64>,
    /// What it writes at its start.
    pub output: Vec<String>,
    /// The image has a healthcheck of its own.
    pub healthcheck: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { health: Health::Healthy, exits: None, output: Vec::new(), healthcheck: false }
    }
}

/// An engine in memory. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct FakeEngine {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<EngineEvent>,
}

#[derive(Debug, Default)]
struct State {
    registry: BTreeMap<String, Behaviour>,
    images: BTreeMap<String, Image>,
    containers: BTreeMap<String, FakeContainer>,
    networks: BTreeMap<String, Network>,
    volumes: BTreeMap<String, Volume>,
    holders_most: BTreeMap<String, usize>,
    calls: Vec<String>,
    calls_left: Option<usize>,
    made: u64,
    programs: BTreeMap<String, Option<Reply>>,
    stats: BTreeMap<String, ContainerStats>,
    elsewhere: bool,
}

/// What a program that is run in a container answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// What it writes to standard output, after what it was given on standard input.
    pub output: String,
    /// The code that it ends with.
    pub code: i64,
}

#[derive(Debug)]
struct FakeContainer {
    seen: Container,
    wanted: WantedContainer,
    log: Vec<LogLine>,
    files: files::Files,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self { state: Arc::default(), events: broadcast::channel(EVENTS_MAX).0 }
    }
}

impl FakeEngine {
    /// An engine with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an image into the registry that every reference is pulled from.
    pub fn registry_add(&self, reference: &str, behaviour: Behaviour) {
        self.lock().registry.insert(reference.to_owned(), behaviour);
    }

    /// Makes a container's healthcheck say something.
    pub fn health_set(&self, container: &str, health: Health) {
        self.change(container, EventKind::Health(health), |container| container.health = health);
    }

    /// Makes a container end by itself.
    pub fn exit(&self, container: &str, code: i64) {
        self.change(container, EventKind::Die(code), |container| end(container, code));
    }

    /// After so many more changing calls, every call fails as if the engine were gone; `None` brings it back.
    pub fn fail_after(&self, calls: Option<usize>) {
        self.lock().calls_left = calls;
    }

    /// The changing calls so far, as `container_start web-1`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The most containers that ever ran with this volume at one time.
    pub fn volume_holders_most(&self, volume: &str) -> usize {
        self.lock().holders_most.get(volume).copied().unwrap_or(0)
    }

    /// Gives every image a program, or takes one away (`rm` is there otherwise, and removes).
    pub fn program_set(&self, program: &str, reply: Option<Reply>) {
        self.lock().programs.insert(program.to_owned(), reply);
    }

    /// Says what a container takes.
    pub fn stats_set(&self, container: &str, stats: ContainerStats) {
        self.lock().stats.insert(container.to_owned(), stats);
    }

    /// Moves the engine into a virtual machine.
    pub fn move_elsewhere(&self) {
        self.lock().elsewhere = true;
    }

    /// The files that were put into a container, by path without a slash at the beginning.
    pub fn files(&self, container: &str) -> BTreeMap<String, FakeFile> {
        self.lock().container_mut(container).map(|found| found.files.all()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, container: &str) -> Result<(), EngineError> {
        let (exits, health) = {
            let mut state = self.lock();
            let image = state.container(container)?.wanted.image.clone();
            let behaviour = state.registry.get(&image).cloned().unwrap_or_default();
            let number = u8::try_from(state.made % 200).unwrap_or(0) + 2;
            let subnets: BTreeMap<String, Option<Subnet>> =
                state.networks.values().map(|network| (network.name.clone(), network.subnet)).collect();
            let taken = state.ports_taken();
            let found = state.container(container)?;
            if found.seen.state == ContainerState::Running {
                return Ok(());
            }
            if let Some(port) = ports(&found.wanted).find(|port| taken.contains(port)) {
                let what = format!("cannot start container {container}");
                let why = format!("Bind for 127.0.0.1:{port} failed: port is already allocated");
                return Err(EngineError::new(ErrorKind::PortTaken, what, why));
            }
            found.seen.state = ContainerState::Running;
            found.seen.started = Some(Micros::now());
            found.seen.exit_code = None;
            let checked = match &found.wanted.healthcheck {
                Some(WantedHealthcheck::Test { .. }) => true,
                Some(WantedHealthcheck::Disabled) => false,
                None => behaviour.healthcheck,
            };
            found.seen.health = if checked { behaviour.health } else { Health::None };
            for name in found.seen.networks.clone() {
                if let Some(Some(subnet)) = subnets.get(&name) {
                    let address = Ipv4Addr::from_bits(subnet.network().to_bits() + u32::from(number));
                    found.seen.addresses.insert(name, address.into());
                }
            }
            let line = |text: String| LogLine { stream: LogStream::Stdout, at: Micros::now(), text };
            found.log.extend(behaviour.output.into_iter().map(line));
            for volume in found.seen.volumes.clone() {
                let holds = |found: &&FakeContainer| {
                    found.seen.state == ContainerState::Running && found.seen.volumes.contains(&volume)
                };
                let holders = state.containers.values().filter(holds).count();
                let most = state.holders_most.entry(volume.clone()).or_default();
                *most = holders.max(*most);
            }
            (behaviour.exits, checked.then_some(behaviour.health))
        };
        self.change(container, EventKind::Start, |_container| {});
        if let Some(health) = health.filter(|health| *health != Health::Starting && exits.is_none()) {
            self.change(container, EventKind::Health(health), |_container| {});
        }
        if let Some(code) = exits {
            self.exit(container, code);
        }
        Ok(())
    }

    fn change(&self, container: &str, kind: EventKind, change: impl FnOnce(&mut Container)) {
        let mut state = self.lock();
        if let Some(found) = state.container_mut(container) {
            change(&mut found.seen);
            let (container, labels) = (found.seen.id.clone(), found.seen.labels.clone());
            // Nobody may be listening.
            let _unheard = self.events.send(EngineEvent { kind, container, labels, at: Micros::now() });
        }
    }
}

fn end(container: &mut Container, code: i64) {
    container.state = ContainerState::Exited;
    container.exit_code = Some(code);
    container.finished = Some(Micros::now());
    container.addresses.clear();
}

fn carries(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Ports of the machine that a container has published.
fn ports(wanted: &WantedContainer) -> impl Iterator<Item = u16> {
    wanted.machine.iter().flat_map(|machine| &machine.ports).filter_map(|port| port.published)
}

impl State {
    /// Ports of the machine that somebody listens on.
    fn ports_taken(&self) -> BTreeSet<u16> {
        let running = self.containers.values().filter(|found| found.seen.state == ContainerState::Running);
        running.flat_map(|found| ports(&found.wanted)).collect()
    }

    /// Notes a call; fails it when the engine is to be gone.
    fn call(&mut self, text: String) -> Result<(), EngineError> {
        self.answer()?;
        if let Some(left) = &mut self.calls_left {
            *left -= 1;
        }
        self.calls.push(text);
        Ok(())
    }

    fn answer(&self) -> Result<(), EngineError> {
        if self.calls_left == Some(0) {
            return Err(EngineError::new(ErrorKind::Unreachable, "cannot reach the container engine", "it is gone"));
        }
        Ok(())
    }

    fn id(&mut self) -> String {
        self.made += 1;
        hex::encode(Sha256::digest(self.made.to_be_bytes()))
    }

    fn container_mut(&mut self, container: &str) -> Option<&mut FakeContainer> {
        self.containers.values_mut().find(|found| found.seen.id == container || found.seen.name == container)
    }

    fn container(&mut self, container: &str) -> Result<&mut FakeContainer, EngineError> {
        self.container_mut(container).ok_or_else(|| missing("container", container))
    }

    fn network_name(&self, network: &str) -> Option<String> {
        self.networks
            .values()
            .find(|found| found.id == network || found.name == network)
            .map(|found| found.name.clone())
    }

    fn on_network(&self, network: &str) -> BTreeSet<String> {
        let on = |container: &&FakeContainer| {
            container.seen.state == ContainerState::Running && container.seen.networks.contains(network)
        };
        self.containers.values().filter(on).map(|container| container.seen.id.clone()).collect()
    }

    fn image_add(&mut self, reference: &str, id: String) {
        let image = Image {
            id: id.clone(),
            tags: Vec::new(),
            digests: Vec::new(),
            labels: Labels::new(),
            layers: Vec::new(),
            exposed: BTreeSet::new(),
            volumes: BTreeSet::new(),
            entrypoint: Vec::new(),
            healthcheck: self.registry.get(reference).is_some_and(|behaviour| behaviour.healthcheck),
            architecture: "amd64".to_owned(),
            tagged: None,
            size_bytes: 0,
        };
        self.images.insert(id, image.clone());
        self.images.insert(reference.to_owned(), image);
    }
}

fn missing(kind: &str, name: &str) -> EngineError {
    EngineError::new(ErrorKind::NotFound, format!("cannot use {kind} {name}"), format!("there is no such {kind}"))
}

fn conflict(kind: &str, name: &str, why: &str) -> EngineError {
    EngineError::new(ErrorKind::Conflict, format!("cannot change {kind} {name}"), why)
}

#[async_trait]
impl Engine for FakeEngine {
    async fn version(&self) -> Result<EngineVersion, EngineError> {
        self.lock().answer()?;
        let text = |text: &str| text.to_owned();
        Ok(EngineVersion { engine: text("0"), api: text("1.41"), os: text("linux"), architecture: text("amd64") })
    }

    async fn image_pull(&self, reference: &str, _progress: Progress<PullProgress>) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.call(format!("image_pull {reference}"))?;
        if !state.registry.contains_key(reference) {
            return Err(EngineError::new(ErrorKind::Pull, format!("cannot pull {reference}"), "not in the registry"));
        }
        let id = format!("sha256:{}", hex::encode(Sha256::digest(reference)));
        state.image_add(reference, id);
        Ok(())
    }

    async fn place(&self) -> Result<Place, EngineError> {
        let state = self.lock();
        state.answer()?;
        Ok(if state.elsewhere { Place::ELSEWHERE } else { Place::HERE })
    }

    async fn image_load(&self, archive: TarBody, _progress: Progress<PullProgress>) -> Result<String, EngineError> {
        let invalid = |why: String| EngineError::new(ErrorKind::Invalid, "cannot load the image", why);
        let bytes = files::whole(archive).await.map_err(|error| invalid(error.to_string()))?;
        let image = files::image_of(&bytes).map_err(|error| invalid(error.to_string()))?;
        let (id, references) = image.ok_or_else(|| invalid("the archive holds no image".to_owned()))?;
        let mut state = self.lock();
        state.call(format!("image_load {id}"))?;
        for reference in references.iter().chain([&id]) {
            state.image_add(reference, id.clone());
        }
        Ok(id)
    }

    async fn image_push(&self, reference: &str, _progress: Progress<PullProgress>) -> Result<String, EngineError> {
        let mut state = self.lock();
        state.call(format!("image_push {reference}"))?;
        let id = state.images.get(reference).ok_or_else(|| missing("image", reference))?.id.clone();
        state.registry.insert(reference.to_owned(), Behaviour::default());
        Ok(id)
    }

    async fn image_tag(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.call(format!("image_tag {image} {reference}"))?;
        let found = state.images.get(image).ok_or_else(|| missing("image", image))?.clone();
        let found = Image { tagged: Some(Micros::now()), ..found };
        state.images.insert(reference.to_owned(), found);
        Ok(())
    }

    async fn image_inspect(&self, image: &str) -> Result<Option<Image>, EngineError> {
        let state = self.lock();
        state.answer()?;
        Ok(state.images.get(image).cloned())
    }

    async fn image_list(&self, labels: &Labels) -> Result<Vec<Image>, EngineError> {
        let state = self.lock();
        state.answer()?;
        let by_id: BTreeMap<&str, &Image> = state.images.values().map(|image| (image.id.as_str(), image)).collect();
        Ok(by_id.into_values().filter(|image| carries(&image.labels, labels)).cloned().collect())
    }

    async fn image_remove(&self, image: &str) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.call(format!("image_remove {image}"))?;
        state.images.remove(image);
        Ok(())
    }

    async fn image_build(
        &self,
        options: &BuildOptions,
        mut context: TarBody,
        _progress: Progress<BuildEvent>,
    ) -> Result<String, BuildError> {
        let mut hasher = Sha256::new();
        while let Some(piece) = context.next().await {
            let piece = piece.map_err(|error| {
                let message = format!("the build context cannot be read: {error}");
                BuildError::Failed(Box::new(BuildFailure {
                    step: None,
                    line: None,
                    lines: Vec::new(),
                    message,
                    hint: None,
                }))
            })?;
            hasher.update(&piece);
        }
        let id = format!("sha256:{}", hex::encode(hasher.finalize()));
        let mut state = self.lock();
        state.call("image_build".to_owned())?;
        for tag in &options.tags {
            state.image_add(tag, id.clone());
        }
        Ok(id)
    }

    async fn container_create(&self, wanted: &WantedContainer) -> Result<String, EngineError> {
        wanted.check()?;
        let mut state = self.lock();
        state.call(format!("container_create {}", wanted.name))?;
        if state.container_mut(&wanted.name).is_some() {
            return Err(conflict("container", &wanted.name, "the name is taken"));
        }
        let image_id = state.images.get(&wanted.image).ok_or_else(|| missing("image", &wanted.image))?.id.clone();
        if let Some(absent) = wanted.networks.keys().find(|name| !state.networks.contains_key(*name)) {
            return Err(missing("network", absent));
        }
        let volumes: BTreeSet<String> = wanted.volumes.iter().filter_map(|volume| volume.volume.clone()).collect();
        for name in &volumes {
            let volume = Volume { name: name.clone(), driver: "local".to_owned(), labels: Labels::new() };
            state.volumes.entry(name.clone()).or_insert(volume);
        }
        let id = state.id();
        let seen = Container {
            id: id.clone(),
            name: wanted.name.clone(),
            image: wanted.image.clone(),
            image_id,
            labels: wanted.labels_with_hash(),
            state: ContainerState::Created,
            health: Health::None,
            health_output: None,
            exit_code: None,
            out_of_memory: false,
            error: None,
            created: Some(Micros::now()),
            started: None,
            finished: None,
            restarts: 0,
            networks: wanted.networks.keys().cloned().collect(),
            addresses: BTreeMap::new(),
            volumes,
            user: wanted.user.clone().unwrap_or_default(),
        };
        let files = files::Files::default();
        state.containers.insert(id.clone(), FakeContainer { seen, wanted: wanted.clone(), log: Vec::new(), files });
        drop(state);
        self.change(&id, EventKind::Create, |_container| {});
        Ok(id)
    }

    async fn container_start(&self, container: &str) -> Result<(), EngineError> {
        self.lock().call(format!("container_start {container}"))?;
        self.start(container)
    }

    async fn container_stop(&self, container: &str, _grace: Duration) -> Result<(), EngineError> {
        {
            let mut state = self.lock();
            state.call(format!("container_stop {container}"))?;
            match state.container_mut(container) {
                Some(found) if found.seen.state == ContainerState::Running => {}
                _ => return Ok(()),
            }
        }
        self.exit(container, 0);
        Ok(())
    }

    async fn container_restart(&self, container: &str, _grace: Duration) -> Result<(), EngineError> {
        {
            let mut state = self.lock();
            state.call(format!("container_restart {container}"))?;
            state.container(container)?;
        }
        self.exit(container, 0);
        self.start(container)
    }

    async fn container_kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        {
            let mut state = self.lock();
            state.call(format!("container_kill {container} {signal}"))?;
            state.container(container)?;
        }
        if signal == "SIGKILL" {
            self.exit(container, 137);
        }
        Ok(())
    }

    async fn container_remove(&self, container: &str) -> Result<(), EngineError> {
        self.lock().call(format!("container_remove {container}"))?;
        self.change(container, EventKind::Destroy, |_container| {});
        self.lock().containers.retain(|id, found| id != container && found.seen.name != container);
        Ok(())
    }

    async fn container_inspect(&self, container: &str) -> Result<Option<Container>, EngineError> {
        let mut state = self.lock();
        state.answer()?;
        Ok(state.container_mut(container).map(|found| found.seen.clone()))
    }

    async fn container_list(&self, labels: &Labels) -> Result<Vec<Container>, EngineError> {
        let state = self.lock();
        state.answer()?;
        let carrying = state.containers.values().map(|found| &found.seen).filter(|seen| carries(&seen.labels, labels));
        let mut containers: Vec<Container> = carrying.cloned().collect();
        containers.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(containers)
    }

    async fn container_summaries(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
        let summary = |found: Container| ContainerSummary {
            id: found.id,
            name: found.name,
            image_id: found.image_id,
            labels: found.labels,
            state: found.state,
            health: if found.state == ContainerState::Running { found.health } else { Health::None },
            exit_code: found.exit_code,
            networks: found.networks,
            ports: BTreeSet::new(),
            created: found.created.unwrap_or(Micros(0)),
        };
        Ok(self.container_list(labels).await?.into_iter().map(summary).collect())
    }

    async fn container_logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        let mut state = self.lock();
        state.answer()?;
        let log = &state.container(container)?.log;
        let tail = options.tail_lines.map_or(log.len(), |lines| usize::try_from(lines).unwrap_or(usize::MAX));
        let lines: Vec<_> = log
            .iter()
            .skip(log.len().saturating_sub(tail))
            .filter(|line| options.since.is_none_or(|since| line.at >= since))
            .cloned()
            .map(Ok)
            .collect();
        Ok(stream::iter(lines).boxed())
    }

    async fn container_wait(&self, container: &str) -> Result<i64, EngineError> {
        let mut ends = self.events.subscribe();
        loop {
            {
                let mut state = self.lock();
                state.answer()?;
                let found = state.container(container)?;
                if found.seen.state == ContainerState::Exited {
                    return Ok(found.seen.exit_code.unwrap_or(0));
                }
            }
            // Behind or not, the container is looked at again.
            let _event = ends.recv().await;
        }
    }

    async fn container_stats(&self, container: &str) -> Result<ContainerStats, EngineError> {
        let mut state = self.lock();
        state.answer()?;
        let name = state.container(container)?.seen.name.clone();
        Ok(state.stats.get(&name).copied().unwrap_or_default())
    }

    async fn container_exec(
        &self,
        container: &str,
        options: &ExecOptions,
        input: SessionInput,
    ) -> Result<Session, EngineError> {
        let mut given = Vec::new();
        if let Some(mut stdin) = input.stdin {
            let read = stdin.read_to_end(&mut given).await;
            read.map_err(|error| EngineError::new(ErrorKind::Engine, "cannot read the input", error.to_string()))?;
        }
        let mut state = self.lock();
        state.call(format!("container_exec {container} {}", options.command.join(" ")))?;
        let program = options.command.first().cloned().unwrap_or_default();
        let known = state.programs.get(&program).cloned();
        let found = state.container(container)?;
        if found.seen.state != ContainerState::Running {
            return Err(conflict("container", container, "it is not running"));
        }
        let (output, code) = match known {
            Some(Some(reply)) => (reply.output, reply.code),
            None if program == "rm" => {
                for path in options.command.iter().skip(1).filter(|word| !word.starts_with('-')) {
                    found.files.remove(path);
                }
                (String::new(), 0)
            }
            _ => {
                let why = format!("exec failed: {program:?}: executable file not found in $PATH: unknown\r\n");
                (format!("OCI runtime {why}"), 127)
            }
        };
        given.extend_from_slice(output.as_bytes());
        let written = (!given.is_empty()).then(|| SessionOutput::Stdout(Bytes::from(given)));
        Ok(stream::iter(written.into_iter().chain([SessionOutput::Ended(code)]).map(Ok)).boxed())
    }

    async fn container_attach(&self, container: &str, _input: SessionInput) -> Result<Session, EngineError> {
        self.lock().container(container)?;
        let (engine, name) = (self.clone(), container.to_owned());
        let ended = stream::once(async move {
            let code = loop {
                let mut ends = engine.events.subscribe();
                let found = engine.container_inspect(&name).await?.ok_or_else(|| missing("container", &name))?;
                match found.state {
                    ContainerState::Exited => break found.exit_code.unwrap_or(0),
                    // Behind or not, the container is looked at again.
                    _ => drop(ends.recv().await),
                }
            };
            let log = engine.container_logs(&name, LogOptions::default()).await?;
            let mut output: Vec<_> = log
                .map(|line| line.map(|line| SessionOutput::Stdout(Bytes::from(format!("{}\n", line.text)))))
                .collect()
                .await;
            output.push(Ok(SessionOutput::Ended(code)));
            Ok::<_, EngineError>(stream::iter(output))
        });
        Ok(ended.try_flatten().boxed())
    }

    async fn container_archive_put(&self, container: &str, folder: &str, archive: TarBody) -> Result<(), EngineError> {
        let what = format!("cannot put files into {folder} of container {container}");
        let invalid = |error: std::io::Error| EngineError::new(ErrorKind::Invalid, &what, error.to_string());
        let bytes = files::whole(archive).await.map_err(invalid)?;
        let mut state = self.lock();
        state.call(format!("container_archive_put {container} {folder}"))?;
        let found = state.container(container)?;
        if !found.files.is_folder(folder) {
            return Err(EngineError::new(ErrorKind::NotFound, &what, format!("there is no folder {folder}")));
        }
        found.files.unpack(folder, &bytes).map_err(invalid)
    }

    async fn container_archive_get(&self, container: &str, path: &str) -> Result<TarBody, EngineError> {
        let what = format!("cannot read {path} of container {container}");
        let mut state = self.lock();
        state.answer()?;
        let packed = state.container(container)?.files.pack(path);
        let packed = packed.map_err(|error| EngineError::new(ErrorKind::Engine, &what, error.to_string()))?;
        let bytes =
            packed.ok_or_else(|| EngineError::new(ErrorKind::NotFound, &what, format!("there is no {path}")))?;
        Ok(TarBody::from_stream(stream::iter([Ok(Bytes::from(bytes))])))
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        let mut state = self.lock();
        state.call(format!("network_create {}", spec.name))?;
        if state.networks.contains_key(&spec.name) {
            return Err(conflict("network", &spec.name, "the name is taken"));
        }
        let taken: BTreeSet<Subnet> = state.networks.values().filter_map(|network| network.subnet).collect();
        let subnet = match spec.subnet {
            Some(subnet) if taken.contains(&subnet) => {
                return Err(conflict("network", &spec.name, "Pool overlaps with other one on this address space"));
            }
            Some(subnet) => Some(subnet),
            None => (0..=255_u8)
                .filter_map(|number| format!("10.{number}.0.0/16").parse().ok())
                .find(|subnet| !taken.contains(subnet)),
        };
        let network = Network {
            id: state.id(),
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            internal: spec.internal,
            subnet,
            range: spec.subnet.map(|subnet| subnet.lower_half().to_string()),
            gateway: subnet.map(Subnet::gateway),
            containers: BTreeSet::new(),
        };
        let id = network.id.clone();
        state.networks.insert(spec.name.clone(), network);
        Ok(id)
    }

    async fn network_inspect(&self, network: &str) -> Result<Option<Network>, EngineError> {
        let state = self.lock();
        state.answer()?;
        let found = state.network_name(network).and_then(|name| state.networks.get(&name).cloned());
        Ok(found.map(|network| Network { containers: state.on_network(&network.name), ..network }))
    }

    async fn network_list(&self, labels: &Labels) -> Result<Vec<Network>, EngineError> {
        let state = self.lock();
        state.answer()?;
        Ok(state.networks.values().filter(|network| carries(&network.labels, labels)).cloned().collect())
    }

    async fn network_remove(&self, network: &str) -> Result<(), EngineError> {
        let mut state = self.lock();
        let name = state.network_name(network);
        state.call(format!("network_remove {}", name.as_deref().unwrap_or(network)))?;
        let Some(name) = name else { return Ok(()) };
        if !state.on_network(&name).is_empty() {
            return Err(conflict("network", &name, "it has active endpoints"));
        }
        state.networks.remove(&name);
        Ok(())
    }

    async fn network_connect(&self, network: &str, container: &str, aliases: &[String]) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.call(format!("network_connect {network} {container}"))?;
        let name = state.network_name(network).ok_or_else(|| missing("network", network))?;
        let found = state.container(container)?;
        found.seen.networks.insert(name.clone());
        found.wanted.networks.insert(name, aliases.to_vec());
        Ok(())
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.call(format!("volume_create {}", spec.name))?;
        let volume = Volume { name: spec.name.clone(), driver: spec.driver.clone(), labels: spec.labels.clone() };
        state.volumes.entry(spec.name.clone()).or_insert(volume);
        Ok(())
    }

    async fn volume_inspect(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        let state = self.lock();
        state.answer()?;
        Ok(state.volumes.get(name).cloned())
    }

    async fn volume_list(&self, labels: &Labels) -> Result<Vec<Volume>, EngineError> {
        let state = self.lock();
        state.answer()?;
        Ok(state.volumes.values().filter(|volume| carries(&volume.labels, labels)).cloned().collect())
    }

    async fn volume_remove(&self, name: &str) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.call(format!("volume_remove {name}"))?;
        if state.containers.values().any(|found| found.seen.volumes.contains(name)) {
            return Err(conflict("volume", name, "it is in use"));
        }
        state.volumes.remove(name);
        Ok(())
    }

    async fn events(
        &self,
        labels: &Labels,
    ) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        self.lock().answer()?;
        let (receiver, labels) = (self.events.subscribe(), labels.clone());
        let events = stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((event, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let carrying = events.filter(move |event| std::future::ready(carries(&event.labels, &labels)));
        Ok(carrying.map(Ok).boxed())
    }
}
