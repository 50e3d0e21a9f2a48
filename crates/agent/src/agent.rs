//! The agent's process: identity, protocol, converge loop, the host's registry, and what holds them together.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::agent::{Desired, DesiredSeen, REPORT_SECONDS, Report};
use api::{HostName, Micros};
use base::folder::{self, FolderError};
use base::tls::Fingerprint;
use client::pull_through::ListenError;
use engine::{Docker, Engine, EngineError, Labels};
use fanout::local::TOLD_MAX;
use rand::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::AgentConfig;
use crate::edge::{HostEdge, ProxyProgram};
use crate::host::converge::{Converge, Parts};
use crate::host::names::{LABEL_HOST, LABEL_HUB};
use crate::host::report::Standing;
use crate::host::table::Edges;
use crate::hub::{HubClient, HubError, HubName};
use crate::identity::{HostIdentity, IdentityError};
use crate::ports::Ports;
use crate::proxy::table::Mesh;
use crate::registry::HostRegistry;
use crate::routes;
use crate::state::{StateError, Store};
use crate::status;
use crate::streams;
use crate::swarm::{self, SwarmParts};

/// The longest pause between two tries to reach the hub or the engine, in seconds.
const AGAIN_SECONDS_MAX: u64 = 15;
/// The shortest time between two reports, in milliseconds: changes come in bursts.
const REPORT_MILLIS_MIN: u64 = 100;
/// How often it is looked whether the certificate is to be renewed, in seconds.
const RENEW_LOOK_SECONDS: u64 = 60;
/// How much of the CA's fingerprint tells hubs apart.
const HUB_LABEL_DIGITS: usize = 16;
const PROXY_STATE_FILE: &str = "proxy.json";
const PROXY_LOG_FILE: &str = "proxy.log";

/// Why an agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is kept there.
    #[error(transparent)]
    State(#[from] StateError),
    /// Who this host is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The host's registry.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Where other agents reach this one.
    #[error(
        "other agents cannot reach this one on {address}: {source}; stop what uses that port, or choose another with --peers"
    )]
    Peers {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The engine's address makes no sense, or the engine is too old.
    #[error(transparent)]
    Engine(EngineError),
    /// Another hub has a host of this name on this engine.
    #[error(
        "the engine already has {what} of a host {host} that belongs to another hub; give this host another name with \
         --name, or remove what is left of the other: it has the label dev.longshore.host={host}"
    )]
    NameTaken {
        /// The name.
        host: HostName,
        /// What was found.
        what: String,
    },
    /// The socket that says how the agent stands cannot be made.
    #[error(
        "the socket in the data folder that says how the agent stands cannot be made: {source}; is its path too long?"
    )]
    Status {
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder of the proxy's control socket cannot be made.
    #[error("cannot make the folder of the proxy's control socket {}: {source}", path.display())]
    Control {
        /// The control socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The agent of a host.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Runs until `shutdown`. What runs on the host, and the proxy, go on without it.
    ///
    /// Waits for a hub or an engine that cannot be reached; enrols on the first start. Without the hub it goes on with
    /// what the hub said last.
    ///
    /// # Errors
    /// Whatever a person has to see to: see [`AgentError`].
    pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
        let name = HubName::parse(&config.hub)?;
        let _lock = folder::lock(&config.data)?;
        let store = Store::new(&config.data);
        let last = store.desired_load()?;
        // A host that is new to its hub keeps nothing going, and a person is there who reads why it does not start.
        let Ports { registry, peers: peers_listener, others } =
            Ports::open(config.registry, config.peers, last.is_some()).await?;
        let registry_address = registry.local_addr().unwrap_or(config.registry);
        if let Some(parent) = config.control.parent() {
            let failed = |source| AgentError::Control { path: config.control.clone(), source };
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let Some(identity) = enrolled(&config, &name, &shutdown).await? else { return Ok(()) };
        let hub = Arc::new(HubClient::new(&name, identity.shared())?);
        let ca = Fingerprint::of(identity.shared().current().ca());
        let certificate = identity.shared().clone();
        let files = identity.files();
        let mesh = Mesh { listen: config.mesh, certificate: files.certificate, key: files.key, ca: files.ca };
        let (standing_in, standing) = watch::channel(Standing::unknown());
        let (desired_in, desired) = watch::channel(last.map(Arc::new));
        let notes = Notes::default();
        notes.set(Note::Ports, (!others.is_empty()).then(|| others.join("; ")));

        let protocol = Protocol {
            host: config.host.clone(),
            mesh: config.mesh.to_string(),
            hub: hub.clone(),
            store: store.clone(),
            notes: notes.clone(),
        };
        let _tasks = [
            own(listen_to_hub(protocol.clone(), desired_in)),
            own(report_to_hub(protocol.clone(), standing)),
            own(renew(identity, hub.clone(), notes.clone())),
        ];
        let (keeps_in, keeps) = watch::channel(None);
        let (swarm, told) = peers_listener.as_ref().map(|_| mpsc::channel(TOLD_MAX)).unzip();
        let pulls = Arc::new(HostRegistry::open(&config, hub.clone(), swarm).await);
        let exchange = peers_listener.zip(told).zip(pulls.store().cloned()).map(|((listener, told), store)| {
            let parts = SwarmParts {
                host: config.host.clone(),
                store,
                pulls: pulls.clone(),
                hub: hub.clone(),
                hub_address: config.hub.clone(),
                identity: certificate,
                listener,
                is_edge: config.is_edge,
                upload_bytes_per_second: config.upload_bytes_per_second,
                download_bytes_per_second: config.download_bytes_per_second,
            };
            let stop = shutdown.child_token();
            own(async move {
                if let Err(error) = swarm::run(parts, told, stop).await {
                    tracing::error!(%error, "the host takes no part in the exchange of pieces");
                }
            })
        });
        let _exchange = exchange;
        let asked = status::listen(&config.data).map_err(|source| AgentError::Status { source })?;
        let _pulls = [
            own({
                let (pulls, hub, stop) = (pulls.clone(), hub.clone(), shutdown.clone());
                async move { pulls.serve(registry, hub, stop).await }
            }),
            own({
                let (pulls, notes) = (pulls.clone(), notes.clone());
                async move { pulls.watch(|said| notes.set(Note::Fanout, said)).await }
            }),
            own({
                let pulls = pulls.clone();
                async move { pulls.pin(keeps).await }
            }),
            own(status::serve(asked, pulls.clone(), others)),
        ];

        let Some(docker) = reach_engine(&config, &standing_in, &shutdown).await? else { return Ok(()) };
        let engine: Arc<dyn Engine> = Arc::new(docker);
        pulls.engine_set(engine.clone());
        let labels = owned(&config, ca);
        name_is_free(engine.as_ref(), &config.host, &labels).await?;
        prune_routes(engine.as_ref()).await;
        let _streams =
            own(streams::run(config.host.clone(), engine.clone(), hub.clone(), desired.clone(), shutdown.clone()));
        let edge = HostEdge::new(ProxyProgram {
            program: config.program.clone(),
            control: config.control.clone(),
            state: config.data.join(PROXY_STATE_FILE),
            log: config.data.join(PROXY_LOG_FILE),
        });
        let converge = Converge::new(Parts {
            host: config.host.clone(),
            labels,
            edges: Edges { publish: config.publish, mesh: Some(mesh) },
            registry: registry_address.to_string(),
            hub_registry: config.mirrored.own().map(ToOwned::to_owned),
            engine,
            edge: Arc::new(edge),
            store,
            clock: Arc::new(Micros::now),
            desired,
            standing: standing_in,
            keeps: keeps_in,
        })?;
        converge.run(shutdown).await;
        Ok(())
    }
}

fn own(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// What the protocol's tasks want a person to know; each replaces what it said before.
#[derive(Debug, Clone, Default)]
struct Notes(Arc<Mutex<[Option<String>; 4]>>);

#[derive(Debug, Clone, Copy)]
enum Note {
    Desired = 0,
    Renewal = 1,
    Fanout = 2,
    Ports = 3,
}

impl Notes {
    fn set(&self, note: Note, text: Option<String>) {
        if let Some(text) = &text {
            tracing::warn!("{text}");
        }
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = notes.get_mut(note as usize) {
            *place = text;
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }
}

/// Pauses between tries: twice as long each time, within a bound, and never the same for two hosts.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let seconds = 1_u64.checked_shl(self.attempts.min(8)).unwrap_or(AGAIN_SECONDS_MAX).min(AGAIN_SECONDS_MAX);
        self.attempts = self.attempts.saturating_add(1);
        Duration::from_secs(seconds).mul_f64(rand::rng().random_range(0.5..1.0))
    }

    fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// The host's identity; `None` when the stop came first.
async fn enrolled(
    config: &AgentConfig,
    hub: &HubName,
    shutdown: &CancellationToken,
) -> Result<Option<HostIdentity>, AgentError> {
    let mut backoff = Backoff::default();
    loop {
        match HostIdentity::load_or_enrol(config, hub).await {
            Ok(identity) => return Ok(Some(identity)),
            Err(IdentityError::Hub(error)) if error.is_passing() => {
                tracing::warn!(%error, "cannot enrol yet");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// The engine; `None` when the stop came first.
async fn reach_engine(
    config: &AgentConfig,
    standing: &watch::Sender<Standing>,
    shutdown: &CancellationToken,
) -> Result<Option<Docker>, AgentError> {
    let mut backoff = Backoff::default();
    loop {
        match Docker::connect(config.engine.clone()).await {
            Ok(docker) => return Ok(Some(docker)),
            Err(error) if error.kind == engine::ErrorKind::Address => return Err(AgentError::Engine(error)),
            Err(error) => {
                tracing::warn!(%error, "the engine cannot be used");
                standing.send_modify(|standing| {
                    standing.engine = api::agent::EngineState::Down { error: error.to_string() };
                });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// The configured labels, with the one that says which hub this host belongs to.
fn owned(config: &AgentConfig, ca: Fingerprint) -> Labels {
    let hub = ca.to_string().chars().take(HUB_LABEL_DIGITS).collect();
    let mut labels = config.docker_labels.clone();
    labels.insert(LABEL_HUB.to_owned(), hub);
    labels
}

/// Refuses to share a name with a host of another hub: what one makes would have the names of what the other has.
async fn name_is_free(engine: &dyn Engine, host: &HostName, labels: &Labels) -> Result<(), AgentError> {
    let named = Labels::from([(LABEL_HOST.to_owned(), host.to_string())]);
    let foreign = |found: &Labels| found.get(LABEL_HUB) != labels.get(LABEL_HUB);
    let containers = engine.container_list(&named).await.map_err(AgentError::Engine)?;
    let networks = engine.network_list(&named).await.map_err(AgentError::Engine)?;
    let container = containers.iter().find(|container| foreign(&container.labels));
    let network = networks.iter().find(|network| foreign(&network.labels));
    let what = container
        .map(|container| format!("container {}", container.name))
        .or_else(|| network.map(|network| format!("network {}", network.name)));
    what.map_or(Ok(()), |what| Err(AgentError::NameTaken { host: host.clone(), what }))
}

async fn prune_routes(engine: &dyn Engine) {
    let subnets: BTreeSet<_> = match engine.network_list(&Labels::new()).await {
        Ok(networks) => networks.into_iter().filter_map(|network| network.subnet).collect(),
        Err(error) => return tracing::warn!(%error, "routes of networks that are gone may be left"),
    };
    if let Err(error) = routes::prune(&subnets).await {
        tracing::warn!(%error, "routes of networks that are gone may be left");
    }
}

#[derive(Clone)]
struct Protocol {
    host: HostName,
    mesh: String,
    hub: Arc<HubClient>,
    store: Store,
    notes: Notes,
}

/// Long-polls the desired state. What is accepted is on disk before it is acted upon.
async fn listen_to_hub(protocol: Protocol, desired: watch::Sender<Option<Arc<Desired>>>) {
    let mut backoff = Backoff::default();
    loop {
        let known = desired.borrow().clone();
        let seen = known.as_ref().map_or_else(DesiredSeen::default, |known| DesiredSeen {
            number: known.number,
            streams: known.streams.number,
        });
        let pause = match protocol.hub.desired(seen).await {
            Ok(None) => None,
            Ok(Some(said)) => match accept(&protocol, known.as_deref(), &said) {
                Ok(()) => {
                    protocol.notes.set(Note::Desired, None);
                    desired.send_replace(Some(Arc::new(said)));
                    None
                }
                Err(why) => {
                    protocol.notes.set(Note::Desired, Some(why));
                    Some(backoff.next())
                }
            },
            Err(error) => {
                tracing::warn!(%error, "going on with what the hub said last");
                Some(backoff.next())
            }
        };
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => backoff.reset(),
        }
    }
}

fn accept(protocol: &Protocol, known: Option<&Desired>, said: &Desired) -> Result<(), String> {
    if said.host != protocol.host {
        return Err(format!(
            "the hub speaks of host {}, and this is {}; nothing was changed",
            said.host, protocol.host
        ));
    }
    if let Some(known) = known {
        if known.hub != said.hub {
            return Err(format!(
                "another hub ({}) answers in place of {}; nothing was changed; if that is meant, give the host a new data folder and enrol it there",
                said.hub, known.hub
            ));
        }
        if said.number < known.number {
            return Err(format!(
                "the hub says state {} after state {}, as one restored from a backup would; nothing was changed",
                said.number, known.number
            ));
        }
        if said.number == known.number {
            return Ok(());
        }
    }
    protocol.store.desired_save(said).map_err(|error| format!("what the hub says cannot be kept: {error}"))
}

/// Reports at once when something changed, and regularly when nothing did.
async fn report_to_hub(protocol: Protocol, mut standing: watch::Receiver<Standing>) {
    let mut backoff = Backoff::default();
    let mut sent: Option<Standing> = None;
    loop {
        let now = standing.borrow_and_update().clone();
        let report = Report {
            number: now.number,
            clock: Micros::now(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            mesh: protocol.mesh.clone(),
            engine: now.engine.clone(),
            instances: now.instances.clone(),
            services: now.services.clone(),
            jobs: now.jobs.clone(),
            proxy: now.proxy.clone(),
            warnings: protocol.notes.all().into_iter().chain(now.warnings.iter().cloned()).collect(),
        };
        if let Err(error) = protocol.hub.report(&report).await {
            tracing::warn!(%error, "the hub was not told how the host stands");
            tokio::time::sleep(backoff.next()).await;
            continue;
        }
        backoff.reset();
        sent.replace(now);
        let next = Instant::now() + Duration::from_secs(REPORT_SECONDS);
        tokio::time::sleep(Duration::from_millis(REPORT_MILLIS_MIN)).await;
        loop {
            if sent.as_ref().is_none_or(|sent| standing.borrow().differs(sent)) {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => break,
                changed = standing.changed() => if changed.is_err() { return },
            }
        }
    }
}

async fn renew(mut identity: HostIdentity, hub: Arc<HubClient>, notes: Notes) {
    loop {
        if Micros::now() >= identity.renew_at() {
            match identity.renew(&hub).await {
                Ok(()) => {
                    notes.set(Note::Renewal, None);
                    tracing::info!(expires_at = %identity.expires_at(), "the certificate was renewed");
                    if let Err(error) = hub.reconnect() {
                        tracing::warn!(%error, "old connections stay in use");
                    }
                }
                Err(error) => {
                    let until = identity.expires_at();
                    let text = format!("the host's certificate, good until {until}, could not be renewed: {error}");
                    notes.set(Note::Renewal, Some(text));
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(RENEW_LOOK_SECONDS)).await;
    }
}
