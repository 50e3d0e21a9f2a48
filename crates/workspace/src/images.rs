//! Images into the engine: those of releases from the hub, proven by their digest; those from source by a build; others as
//! the project names them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use api::Micros;
use api::client::HubClient;
use api::delivery::ImageAddress;
use client::pull_through;
use compose::model::PullPolicy;
use engine::build::BuildEvent;
use engine::{Engine, ErrorKind as EngineErrorKind, Labels, Progress, PullProgress};
use http::{HeaderMap, HeaderValue, Method, header};
use oci::{Digest, Document, DocumentKind, MANIFEST_BYTES_MAX, Platform, media};
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};
use crate::policy::{self, Need};
use crate::progress::{Told, Voice};
use crate::source::Context;
use crate::state::KnownImages;
use crate::wanted::{Origin, SourceBuild, WantedService};

/// Images pulled side by side; the engine takes the layers of each three at a time.
const PULLS_AT_ONCE: usize = 4;
/// Images built side by side.
const BUILDS_AT_ONCE: usize = 2;
/// Messages of one pull or build that may wait to be shown.
const PROGRESS_WAITING_MAX: usize = 64;

/// Gets images. Cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    hub: HubClient,
    /// The project's folder.
    root: PathBuf,
    labels: Labels,
    voice: Voice,
    known: Mutex<KnownImages>,
    pulls: Semaphore,
    builds: Semaphore,
    registry: OnceCell<Registry>,
}

/// A registry of this process, as long as it lives.
struct Registry {
    address: String,
    _end: tokio_util::sync::DropGuard,
}

impl Images {
    /// Gets images for one workspace. `known` is what was found out before; `labels` go on what is built.
    pub fn new(
        engine: Arc<dyn Engine>,
        hub: HubClient,
        root: PathBuf,
        labels: Labels,
        known: KnownImages,
        voice: Voice,
    ) -> Self {
        Self(Arc::new(Inner {
            engine,
            hub,
            root,
            labels,
            voice,
            known: Mutex::new(known),
            pulls: Semaphore::new(PULLS_AT_ONCE),
            builds: Semaphore::new(BUILDS_AT_ONCE),
            registry: OnceCell::new(),
        }))
    }

    /// All images that were identified so far.
    pub fn known(&self) -> KnownImages {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes sure that the engine has a service's image under its name, and gives the ids under which the engine may have
    /// it.
    ///
    /// # Errors
    /// It cannot be had; what the engine has under that name is something else.
    pub async fn ensure(&self, service: &str, wanted: &WantedService) -> Result<BTreeSet<String>, Error> {
        let Some(reference) = wanted.reference() else { return Ok(BTreeSet::new()) };
        let ids = match &wanted.origin {
            Origin::Release { image, .. } => self.release(service, reference, image).await?,
            Origin::Source(source) => BTreeSet::from([self
                .build(service, reference, source, wanted.pull_policy == Some(PullPolicy::Build))
                .await?]),
            Origin::Image { .. } => BTreeSet::from([self.named(service, reference, wanted.pull_policy).await?]),
        };
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).insert(reference.to_owned(), ids.clone());
        Ok(ids)
    }

    /// The ids under which the engine may have the image of a release: what was found out before, else from the hub.
    ///
    /// # Errors
    /// The hub cannot be asked.
    pub async fn ids(&self, service: &str, reference: &str, image: &ImageAddress) -> Result<BTreeSet<String>, Error> {
        match self.known().remove(reference) {
            Some(ids) => Ok(ids),
            None => self.identify(service, image).await,
        }
    }

    async fn release(&self, service: &str, reference: &str, image: &ImageAddress) -> Result<BTreeSet<String>, Error> {
        let engine = &self.0.engine;
        let ids = self.ids(service, reference, image).await?;
        if engine.image_inspect(reference).await?.is_some_and(|found| ids.contains(&found.id)) {
            return Ok(ids);
        }
        // Another workspace, or an agent on this machine, may have pulled it under a name of its own.
        for id in &ids {
            if let Some(found) = engine.image_inspect(id).await?
                && ids.contains(&found.id)
            {
                engine.image_tag(&found.id, reference).await?;
                return Ok(ids);
            }
        }
        let _turn = self.0.pulls.acquire().await;
        let registry = self.0.registry.get_or_try_init(|| Registry::open(self.0.hub.clone())).await?;
        let name = format!("{}/{}@{}", registry.address, image.repository, image.digest);
        self.0.voice.tell(Told::Pulling { service: service.to_owned() });
        engine.image_pull(&name, self.pull_progress(service)).await?;
        let found = engine.image_inspect(&name).await?.filter(|found| ids.contains(&found.id));
        let Some(found) = found else {
            let why = format!("the engine has something else under {name} than the hub says");
            return Err(Error::new(ErrorKind::Engine, why, "Remove that image, and try again."));
        };
        engine.image_tag(&found.id, reference).await?;
        engine.image_remove(&name).await?;
        self.0.voice.tell(Told::Pulled { service: service.to_owned() });
        Ok(ids)
    }

    /// The ids by which an engine may know an image: digest of the index, of the platform's manifest, or of its
    /// configuration. Each follows from the one before, so that none of them needs to be trusted.
    async fn identify(&self, service: &str, image: &ImageAddress) -> Result<BTreeSet<String>, Error> {
        let mut ids = BTreeSet::from([image.digest.to_string()]);
        let mut manifest = self.manifest(service, image, &image.digest).await?;
        if let DocumentKind::Index(index) = &manifest.kind {
            let version = self.0.engine.version().await?;
            let fits = |platform: &Platform| platform.os == version.os && platform.architecture == version.architecture;
            let entry = index.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(fits));
            let Some(entry) = entry else {
                let why = format!("the release of {service} has no image for {}/{}", version.os, version.architecture);
                let hint = format!("Run it from source: `longshore dev {service}`.");
                return Err(Error::new(ErrorKind::Refused, why, hint));
            };
            ids.insert(entry.digest.to_string());
            manifest = self.manifest(service, image, &entry.digest).await?;
        }
        if let DocumentKind::Manifest(manifest) = &manifest.kind {
            ids.insert(manifest.config.digest.to_string());
        }
        Ok(ids)
    }

    async fn manifest(&self, service: &str, image: &ImageAddress, digest: &Digest) -> Result<Document, Error> {
        let away = |why: String| {
            let why = format!("the release of {service} is not on this machine, and its image cannot be had: {why}");
            let hint = format!("Connect to the hub, or run it from source: `longshore dev {service}`.");
            Error::new(ErrorKind::HubUnreachable, why, hint)
        };
        let path = format!("/v2/{}/manifests/{digest}", image.repository);
        let mut headers = HeaderMap::new();
        let accepted = HeaderValue::from_str(&media::MANIFESTS.join(", "));
        headers.insert(header::ACCEPT, accepted.map_err(|error| away(error.to_string()))?);
        let asked = self.0.hub.registry(Method::GET, &path, headers).await;
        let mut response = asked.map_err(|problem| away(problem.to_string()))?;
        if !response.status().is_success() {
            return Err(away(format!("the hub answered {} to GET {path}", response.status())));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| away(error.to_string()))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MANIFEST_BYTES_MAX {
                return Err(away(format!("a manifest has more than {MANIFEST_BYTES_MAX} bytes")));
            }
        }
        if !digest.matches(&bytes) {
            return Err(away(format!("the hub gave other bytes than {digest}")));
        }
        Document::parse(&bytes, None).map_err(|error| away(error.to_string()))
    }

    async fn named(&self, service: &str, reference: &str, policy: Option<PullPolicy>) -> Result<String, Error> {
        let engine = &self.0.engine;
        let here = engine.image_inspect(reference).await?;
        let need = policy::need(policy, reference, here.as_ref(), Micros::now());
        let here = match (need, here) {
            (Need::Nothing, Some(here)) => return Ok(here.id),
            (Need::Forbidden, _) => {
                let why = format!("{reference} is not on this machine, and {service} has `pull_policy: never`");
                let hint = format!("Get it with `docker pull {reference}`, or give {service} another policy.");
                return Err(Error::new(ErrorKind::Refused, why, hint));
            }
            (_, here) => here,
        };
        let _turn = self.0.pulls.acquire().await;
        self.0.voice.tell(Told::Pulling { service: service.to_owned() });
        let pulled = engine.image_pull(reference, self.pull_progress(service)).await;
        match (pulled, here) {
            // A workspace goes on without a network, from what is on the machine.
            (Err(error), Some(here)) if !matches!(error.kind, EngineErrorKind::Unreachable) => {
                let note = format!("{service}: whether {reference} is the newest is not known: {}", error.why);
                self.0.voice.tell(Told::Note(note));
                return Ok(here.id);
            }
            (pulled, _) => pulled?,
        }
        self.0.voice.tell(Told::Pulled { service: service.to_owned() });
        if let Some(PullPolicy::Every { .. }) = policy {
            // Engines note when they tagged an image, and not always when they pulled it.
            engine.image_tag(reference, reference).await?;
        }
        let found = engine.image_inspect(reference).await?;
        found.map(|found| found.id).ok_or_else(|| {
            let why = format!("{reference} was pulled for {service}, and is not there");
            Error::new(ErrorKind::Engine, why, "Try again.")
        })
    }

    async fn build(
        &self,
        service: &str,
        reference: &str,
        source: &SourceBuild,
        each_time: bool,
    ) -> Result<String, Error> {
        let engine = &self.0.engine;
        if !each_time && let Some(found) = engine.image_inspect(reference).await? {
            return Ok(found.id);
        }
        let _turn = self.0.builds.acquire().await;
        self.0.voice.tell(Told::Building { service: service.to_owned() });
        let (root, build) = (self.0.root.clone(), source.build.clone());
        let context = tokio::task::spawn_blocking(move || Context::read(&root, &build)).await;
        let context = context.map_err(|error| Error::new(ErrorKind::Build, error.to_string(), "Try again."))??;
        let options = context.options(&source.build, reference, &self.0.labels);
        let (sender, mut receiver) = mpsc::channel(PROGRESS_WAITING_MAX);
        let (voice, name) = (self.0.voice.clone(), service.to_owned());
        let telling = async move {
            while let Some(event) = receiver.recv().await {
                match event {
                    BuildEvent::Step(step) if step.started.is_some() && step.completed.is_none() => {
                        voice.tell(Told::BuildStep { service: name.clone(), step: step.name });
                    }
                    BuildEvent::Log(log) => voice.tell(Told::BuildLog { service: name.clone(), text: log.text }),
                    BuildEvent::Step(_) | BuildEvent::Status(_) => {}
                }
            }
        };
        let building = engine.image_build(&options, context.tar(), Progress::to(sender));
        let (built, ()) = tokio::join!(building, telling);
        let built = built.map_err(|error| {
            let error = Error::from(error);
            Error { why: format!("{service}: {}", error.why), ..error }
        })?;
        self.0.voice.tell(Told::Built { service: service.to_owned() });
        Ok(built)
    }

    fn pull_progress(&self, service: &str) -> Progress<PullProgress> {
        let (sender, mut receiver) = mpsc::channel::<PullProgress>(PROGRESS_WAITING_MAX);
        let (voice, service) = (self.0.voice.clone(), service.to_owned());
        tokio::spawn(async move {
            let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            while let Some(progress) = receiver.recv().await {
                if let (Some(layer), Some(done), Some(total)) =
                    (progress.layer, progress.done_bytes, progress.total_bytes)
                    && progress.status == "Downloading"
                {
                    layers.insert(layer, (done, total));
                    let (done, total) = layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
                    voice.tell(Told::PullBytes { service: service.clone(), done_bytes: done, total_bytes: total });
                }
            }
        });
        Progress::to(sender)
    }
}

impl Registry {
    async fn open(hub: HubClient) -> Result<Self, Error> {
        let failed = |why: String| Error::new(ErrorKind::Engine, why, "Try again.");
        let listener = pull_through::listen(([127, 0, 0, 1], 0).into()).await;
        let listener = listener.map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?.to_string();
        let end = CancellationToken::new();
        let ask = move |method, path: String, headers| {
            let hub = hub.clone();
            async move { hub.registry(method, &path, headers).await }
        };
        let serving = pull_through::serve(listener, ask, end.clone());
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::warn!(%error, "the registry of this command ended");
            }
        });
        Ok(Self { address, _end: end.drop_guard() })
    }
}
