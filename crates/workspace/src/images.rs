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
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::error::{Error, ErrorKind};
use crate::policy::{self, Need};
use crate::progress::{Told, Voice};
use crate::released;
use crate::source::Context;
use crate::state::KnownImages;
use crate::wanted::{Origin, SourceBuild, WantedService};

/// Images pulled side by side; the engine takes the layers of each three at a time.
const PULLS_AT_ONCE: usize = 4;
/// Images of the workspace that are looked through for layers which need not be sent.
const HELD_LOOKED_AT_MAX: usize = 64;
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
    loads: Semaphore,
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
            loads: Semaphore::new(1),
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
            None => Ok(released::read(&self.0.hub, self.0.engine.as_ref(), service, image).await?.ids),
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
        self.0.voice.tell(Told::Pulling { service: service.to_owned() });
        match engine.place().await?.shares_network {
            true => self.pull(service, reference, image, &ids).await?,
            false => self.load(service, reference, image).await?,
        }
        self.0.voice.tell(Told::Pulled { service: service.to_owned() });
        Ok(ids)
    }

    /// Lets the engine pull from a registry of this process.
    async fn pull(
        &self,
        service: &str,
        reference: &str,
        image: &ImageAddress,
        ids: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let engine = &self.0.engine;
        let _turn = self.0.pulls.acquire().await;
        let registry = self.0.registry.get_or_try_init(|| Registry::open(self.0.hub.clone())).await?;
        let name = format!("{}/{}@{}", registry.address, image.repository, image.digest);
        engine.image_pull(&name, self.pull_progress(service)).await?;
        let found = engine.image_inspect(&name).await?.filter(|found| ids.contains(&found.id));
        let found = found.ok_or_else(|| another(&name))?;
        engine.image_tag(&found.id, reference).await?;
        Ok(engine.image_remove(&name).await?)
    }

    /// Sends the image to an engine that does not get to this machine's loopback.
    async fn load(&self, service: &str, reference: &str, image: &ImageAddress) -> Result<(), Error> {
        let engine = &self.0.engine;
        // One after another: a layer that several services have is sent once.
        let _turn = self.0.loads.acquire().await;
        let released = released::read(&self.0.hub, engine.as_ref(), service, image).await?;
        let ids = released.ids.clone();
        let whole = Archive::new(self.0.hub.clone(), service, released).await?;
        let partial = whole.without(&self.layers_held().await?);
        let id = match self.send(service, &partial).await {
            // What it had may have been removed meanwhile.
            Err(error) if partial.is_partial() => {
                tracing::debug!(%error, service, "all layers are sent");
                self.send(service, &whole).await?
            }
            result => result?,
        };
        if !ids.contains(&id) {
            return Err(another(&id));
        }
        engine.image_tag(&id, reference).await?;
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).insert(reference.to_owned(), ids);
        Ok(())
    }

    async fn send(&self, service: &str, archive: &Archive) -> Result<String, Error> {
        let (voice, service, total_bytes) = (self.0.voice.clone(), service.to_owned(), archive.layer_bytes());
        let body = archive.body(move |done_bytes| {
            voice.tell(Told::PullBytes { service: service.clone(), done_bytes, total_bytes });
        });
        Ok(self.0.engine.image_load(body, Progress::none()).await?)
    }

    /// The layers of the workspace's images that the engine has, image by image.
    async fn layers_held(&self) -> Result<Vec<Vec<String>>, Error> {
        let mut held = Vec::new();
        for reference in self.known().keys().take(HELD_LOOKED_AT_MAX) {
            held.extend(self.0.engine.image_inspect(reference).await?.map(|found| found.layers));
        }
        Ok(held)
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

/// The engine has something else than what the release's digest leads to.
fn another(name: &str) -> Error {
    let why = format!("the engine has something else under {name} than the hub says");
    Error::new(ErrorKind::Engine, why, "Remove that image, and try again.")
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
