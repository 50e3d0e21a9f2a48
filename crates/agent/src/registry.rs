//! The host's registry and its store of pieces, as the agent runs them. When the store cannot be used, pulls go on past it,
//! straight to the hub, and the report says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use api::Micros;
use api::fanout::{ANNOUNCE_WARNINGS_MAX, ImageStanding, WARNING_BYTES_MAX};
use engine::{Engine, Labels};
use fanout::local::{HubReads, Registry, RegistryParts, Told};
use fanout::store::{ImageHeld, Store};
use futures::FutureExt as _;
use oci::{Digest, RepositoryName};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::AgentConfig;
use crate::hub::HubClient;
use crate::rates::Rates;
use crate::status::{AgentStatus, ExchangeStatus, ImageStatus, StoreStatus};

/// The folder of the pieces within the agent's.
const STORE_FOLDER: &str = "fanout";
/// How often rates are taken, in milliseconds.
const RATE_MILLIS: u64 = 1_000;
/// How long it is spoken of blobs for which the hub had to do, in seconds.
const FALLBACK_SHOWN_SECONDS: u64 = 600;
/// How long the engine may take to say what it has, in seconds.
const ENGINE_SECONDS_MAX: u64 = 5;

/// The host's registry and its store.
pub struct HostRegistry {
    config: AgentConfig,
    folder: PathBuf,
    /// Why they cannot be used, when they cannot.
    parts: Result<(Store, Registry), String>,
    begun: Instant,
    rates: Mutex<Rates>,
    /// What the exchange says of itself, once it runs.
    exchange: Mutex<Option<ExchangeStatus>>,
    /// Known once it answered.
    engine: OnceLock<Arc<dyn Engine>>,
}

/// As `--mirror` has it.
fn mirror((host, prefix): (&str, Option<&RepositoryName>)) -> String {
    prefix.map_or_else(|| host.to_owned(), |prefix| format!("{host}={prefix}"))
}

impl HostRegistry {
    /// Opens the store and a registry that asks `hub` for what nobody else gives.
    pub async fn open(config: &AgentConfig, hub: Arc<HubClient>, swarm: Option<mpsc::Sender<Told>>) -> Self {
        let folder = config.data.join(STORE_FOLDER);
        let reads = HubReads::new(move |method, path, headers| {
            let hub = hub.clone();
            async move { hub.registry(method, &path, headers).await.map_err(|error| error.to_string()) }.boxed()
        });
        let parts = match Store::open(&folder, config.store_bytes_max).await {
            Ok(store) => {
                let names = config.mirrored.clone();
                let registry = Registry::new(RegistryParts { store: store.clone(), hub: reads, swarm, names });
                Ok((store, registry))
            }
            Err(error) => Err(error.to_string()),
        };
        Self {
            config: config.clone(),
            folder,
            parts,
            begun: Instant::now(),
            rates: Mutex::default(),
            exchange: Mutex::default(),
            engine: OnceLock::new(),
        }
    }

    /// The pieces; none when they cannot be used.
    pub fn store(&self) -> Option<&Store> {
        self.parts.as_ref().ok().map(|(store, _registry)| store)
    }

    /// Says which engine is asked for what it holds.
    pub fn engine_set(&self, engine: Arc<dyn Engine>) {
        let _ = self.engine.set(engine);
    }

    /// Answers pulls until the stop.
    pub async fn serve(&self, listener: TcpListener, hub: Arc<HubClient>, stop: CancellationToken) {
        match &self.parts {
            Ok((_store, registry)) => {
                let shutdown = base::shutdown::Shutdown::new();
                tokio::select! {
                    () = registry.serve(listener, shutdown.clone()) => {}
                    () = stop.cancelled() => {
                        shutdown.begin();
                        shutdown.drain(Duration::from_secs(base::shutdown::DRAIN_SECONDS)).await;
                    }
                }
            }
            Err(_) => {
                let ask = move |method, path: String, headers| {
                    let hub = hub.clone();
                    async move { hub.registry(method, &path, headers).await }
                };
                if let Err(error) = client::pull_through::serve(listener, ask, stop).await {
                    tracing::error!(%error, "the host's registry ended");
                }
            }
        }
    }

    /// Pins what runs and what may be rolled back to, whenever that changes.
    pub async fn pin(&self, mut keeps: watch::Receiver<Option<BTreeSet<Digest>>>) {
        let Some(store) = self.store() else { return };
        loop {
            let images = keeps.borrow_and_update().clone();
            if let Some(images) = images
                && let Err(error) = store.pin(images).await
            {
                tracing::warn!(%error, "what may not go from the store could not be noted");
            }
            if keeps.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes rates, and tells `say` what a person should know of the host's pulls, whenever that changes.
    pub async fn watch(&self, say: impl Fn(Option<String>)) {
        let mut said = None;
        let mut every = tokio::time::interval(Duration::from_millis(RATE_MILLIS));
        loop {
            every.tick().await;
            if let Some(store) = self.store() {
                let arriving = store.images().into_iter().filter(|image| image.bytes_there < image.bytes);
                let arriving = arriving.map(|image| (image.digest, image.bytes_there));
                self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(self.begun.elapsed(), arriving);
            }
            let warnings = self.warnings();
            let now = (!warnings.is_empty()).then(|| warnings.join("; "));
            if now != said {
                said = now;
                say(said.clone());
            }
        }
    }

    /// What the exchange says of itself from now on.
    pub fn exchange_set(&self, exchange: ExchangeStatus) {
        *self.exchange.lock().unwrap_or_else(PoisonError::into_inner) = Some(exchange);
    }

    fn exchange(&self) -> Option<ExchangeStatus> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a person should know of the host's pulls, worst first: at most [`ANNOUNCE_WARNINGS_MAX`], none longer than
    /// [`WARNING_BYTES_MAX`].
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match &self.parts {
            Err(why) => warnings.push(format!("the fan-out is down, images come from the hub alone: {why}")),
            Ok((_store, registry)) => {
                let fallbacks = registry.fallbacks();
                let recent = |at: Micros| Micros::now().since(at).as_secs() < FALLBACK_SHOWN_SECONDS;
                if let Some(last) = fallbacks.last.back().filter(|last| recent(last.at)) {
                    let (count, why) = (fallbacks.count, &last.why);
                    let blobs = if count == 1 { "blob" } else { "blobs" };
                    warnings
                        .push(format!("{count} {blobs} came from the hub, not from other agents; last because: {why}"));
                }
            }
        }
        warnings.extend(self.exchange().into_iter().flat_map(|exchange| exchange.warnings));
        warnings.truncate(ANNOUNCE_WARNINGS_MAX);
        for warning in &mut warnings {
            warning.truncate(warning.floor_char_boundary(WARNING_BYTES_MAX));
        }
        warnings
    }

    /// How the images stand; none when the store cannot be used.
    pub fn standings(&self) -> Vec<(ImageHeld, ImageStanding)> {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let images = self.store().map(Store::images).unwrap_or_default();
        let stand = |image: ImageHeld| {
            let standing = ImageStanding {
                digest: image.digest,
                bytes: image.bytes,
                bytes_there: image.bytes_there,
                from_peers: image.counts.peers,
                from_hub: image.counts.hub,
                from_disk: image.counts.disk,
                bytes_per_second: rates.of(&image.digest),
                is_wanted: image.is_arriving,
            };
            (image, standing)
        };
        images.into_iter().map(stand).collect()
    }

    /// How everything stands now.
    pub async fn status(&self) -> AgentStatus {
        let engine_has = self.engine_digests().await;
        let mut status = AgentStatus {
            host: self.config.host.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            registry: self.config.registry.to_string(),
            mirrored: self.config.mirrored.iter().map(mirror).collect(),
            ports: Vec::new(),
            answers: 0,
            store: StoreStatus { folder: self.folder.clone(), ..StoreStatus::default() },
            images: Vec::new(),
            held_twice_bytes: 0,
            fallbacks: fanout::local::Fallbacks::default(),
            exchange: self.exchange(),
            trouble: None,
        };
        let (store, registry) = match &self.parts {
            Ok(parts) => parts,
            Err(why) => {
                status.trouble = Some(why.clone());
                return status;
            }
        };
        let usage = store.usage();
        status.store.budget_bytes = usage.budget_bytes;
        status.store.used_bytes = usage.used_bytes;
        status.store.kept_bytes = usage.kept_bytes;
        status.fallbacks = registry.fallbacks();
        status.answers = registry.answers();
        let mut twice = BTreeMap::new();
        for (image, standing) in self.standings() {
            let is_on_engine = engine_has.contains(&image.digest);
            if is_on_engine {
                let there = image.blobs.iter().filter(|(blob, _length)| store.is_whole(blob));
                twice.extend(there.copied());
            }
            status.images.push(ImageStatus {
                repository: image.repository,
                digest: image.digest,
                bytes: standing.bytes,
                bytes_there: standing.bytes_there,
                from_peers: standing.from_peers,
                from_hub: standing.from_hub,
                from_disk: standing.from_disk,
                bytes_per_second: standing.bytes_per_second,
                seconds_left: standing.seconds_left(),
                is_kept: image.is_pinned,
                is_on_engine,
            });
        }
        status.held_twice_bytes = twice.values().sum();
        status
    }

    /// The digests under which the engine has images; none when it does not say.
    async fn engine_digests(&self) -> BTreeSet<Digest> {
        let Some(engine) = self.engine.get() else { return BTreeSet::new() };
        let limit = Duration::from_secs(ENGINE_SECONDS_MAX);
        match tokio::time::timeout(limit, engine.image_list(&Labels::new())).await {
            Ok(Ok(images)) => {
                let names = images.into_iter().flat_map(|image| image.digests);
                names.filter_map(|name| name.rsplit_once('@')?.1.parse().ok()).collect()
            }
            Ok(Err(_)) | Err(_) => BTreeSet::new(),
        }
    }
}
