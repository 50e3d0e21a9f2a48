//! The host's registry and its store of pieces, as the agent runs them. When the store cannot be used, pulls go on past it,
//! straight to the hub, and the report says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use engine::{Engine, Labels};
use fanout::local::{HubReads, Registry, RegistryParts, Want};
use fanout::store::Store;
use futures::FutureExt as _;
use oci::{Digest, RepositoryName};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::AgentConfig;
use crate::hub::HubClient;
use crate::status::{AgentStatus, ImageStatus, StoreStatus};

/// The folder of the pieces within the agent's.
const STORE_FOLDER: &str = "fanout";
/// How often rates are taken, in milliseconds.
const RATE_MILLIS: u64 = 1_000;
/// How much the last second counts in a rate.
const RATE_WEIGHT: f64 = 0.3;
/// How long the report speaks of blobs for which the hub had to do, in seconds.
const FALLBACK_SHOWN_SECONDS: u64 = 600;
/// How long the engine may take to say what it has, in seconds.
const ENGINE_SECONDS_MAX: u64 = 5;

/// The host's registry and its store.
pub struct HostRegistry {
    config: AgentConfig,
    folder: PathBuf,
    /// Why they cannot be used, when they cannot.
    parts: Result<(Store, Registry), String>,
    rates: Mutex<BTreeMap<Digest, Rate>>,
    /// Known once it answered.
    engine: OnceLock<Arc<dyn Engine>>,
}

/// As `--mirror` has it.
fn mirror((host, prefix): (&str, Option<&RepositoryName>)) -> String {
    prefix.map_or_else(|| host.to_owned(), |prefix| format!("{host}={prefix}"))
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    bytes_there: u64,
    bytes_per_second: f64,
}

impl HostRegistry {
    /// Opens the store and a registry that asks `hub` for what nobody else gives.
    pub async fn open(config: &AgentConfig, hub: Arc<HubClient>, swarm: Option<mpsc::Sender<Want>>) -> Self {
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
        Self { config: config.clone(), folder, parts, rates: Mutex::default(), engine: OnceLock::new() }
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
        let (store, registry) = match &self.parts {
            Ok(parts) => parts,
            Err(why) => {
                say(Some(format!("the fan-out is down, images come from the hub alone: {why}")));
                return;
            }
        };
        let mut said: Option<(u64, Instant)> = None;
        let mut every = tokio::time::interval(Duration::from_millis(RATE_MILLIS));
        loop {
            every.tick().await;
            self.take_rates(store);
            let fallbacks = registry.fallbacks();
            let now = Instant::now();
            if fallbacks.count > said.map_or(0, |(count, _)| count) {
                said = Some((fallbacks.count, now));
                let why = fallbacks.last.back().map(|last| last.why.as_str()).unwrap_or_default();
                let count = fallbacks.count;
                say(Some(format!("{count} blobs came from the hub, not from other agents; last because: {why}")));
            } else if said.is_some_and(|(_, at)| now.duration_since(at).as_secs() >= FALLBACK_SHOWN_SECONDS) {
                said = Some((fallbacks.count, now));
                say(None);
            }
        }
    }

    fn take_rates(&self, store: &Store) {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let arriving = store.images().into_iter().filter(|image| image.bytes_there < image.bytes);
        *rates = arriving
            .map(|image| {
                let before = rates.get(&image.digest).copied();
                let before = before.unwrap_or(Rate { bytes_there: image.bytes_there, bytes_per_second: 0.0 });
                let seconds = Duration::from_millis(RATE_MILLIS).as_secs_f64();
                #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
                let last = image.bytes_there.saturating_sub(before.bytes_there) as f64 / seconds;
                let bytes_per_second = before.bytes_per_second * (1.0 - RATE_WEIGHT) + last * RATE_WEIGHT;
                (image.digest, Rate { bytes_there: image.bytes_there, bytes_per_second })
            })
            .collect();
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
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut twice = BTreeMap::new();
        for image in store.images() {
            let is_on_engine = engine_has.contains(&image.digest);
            if is_on_engine {
                let there = image.blobs.iter().filter(|(blob, _length)| store.is_whole(blob));
                twice.extend(there.copied());
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, for people")]
            let rate = rates.get(&image.digest).map_or(0, |rate| rate.bytes_per_second as u64);
            let missing = image.bytes.saturating_sub(image.bytes_there);
            status.images.push(ImageStatus {
                repository: image.repository,
                digest: image.digest,
                bytes: image.bytes,
                bytes_there: image.bytes_there,
                from_peers: image.counts.peers,
                from_hub: image.counts.hub,
                from_disk: image.counts.disk,
                bytes_per_second: rate,
                seconds_left: missing.checked_div(rate).filter(|_| missing > 0),
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
