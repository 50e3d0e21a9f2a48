//! Carries out what was decided, on the engine.

use std::collections::HashMap;
use std::sync::Arc;

use api::HostName;
use api::agent::{FAILURE_LOG_LINE_BYTES_MAX, FAILURE_LOG_LINES};
use api::delivery::ImageAddress;
use engine::ensure::{log_tail, network_ensure, volume_ensure};
use engine::{Engine, EngineError, ErrorKind, Labels, Progress};
use oci::Digest;
use tokio::sync::Mutex;

use super::action::Action;
use super::images::PulledImage;
use super::memory::{Failure, Work};
use super::names::{LABEL_APP, LABEL_ENV, LABEL_HOST, LABEL_SERVICE, holds_volumes};
use crate::edge::Edge;

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Image and volumes are there; the image under this reference.
    Prepared {
        /// The digest that was asked for.
        digest: Digest,
        /// The reference under which the engine has it.
        reference: String,
        /// The image as it was pulled for this, where it was not there already.
        pulled: Option<PulledImage>,
    },
    /// A container failed; this is why.
    Failed(Failure),
    /// It did not work now and may work later.
    Retry {
        /// What happened.
        error: String,
        /// The image could not be had: not tried for ever.
        pull: bool,
    },
    /// It will not work however often it is tried.
    Refused {
        /// What happened.
        error: String,
    },
}

/// The hands of the agent.
pub struct Actor {
    engine: Arc<dyn Engine>,
    edge: Arc<dyn Edge>,
    host: HostName,
    registry: String,
    hub: Option<String>,
    pulls: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
}

impl Actor {
    /// Works on this engine for this host. `registry` is `ADDRESS:PORT` of the host's own registry, as the engine
    /// reaches it; `hub` the name of the hub's, under which images are known to people.
    pub fn new(
        engine: Arc<dyn Engine>,
        edge: Arc<dyn Edge>,
        host: HostName,
        registry: String,
        hub: Option<String>,
    ) -> Self {
        Self { engine, edge, host, registry, hub, pulls: Mutex::new(HashMap::new()) }
    }

    /// Carries out one action.
    pub async fn act(&self, action: Action) -> Outcome {
        let result = match action {
            Action::Prepare { image, volumes, .. } => {
                for volume in &volumes {
                    if let Err(error) = volume_ensure(self.engine.as_ref(), volume).await {
                        return outcome_of(&error);
                    }
                }
                match self.image_ensure(&image).await {
                    Ok((reference, pulled)) => {
                        return Outcome::Prepared { digest: image.digest, reference, pulled };
                    }
                    Err(error) => Err(error),
                }
            }
            Action::Autopsy { spec, container, cause, .. } => {
                return Outcome::Failed(Failure { spec, error: cause, log: self.last_lines(&container).await });
            }
            Action::NetworkEnsure(network) => network_ensure(self.engine.as_ref(), &network).await.map(|_info| ()),
            Action::NetworkRemove { name, id } => self.network_remove(&name, &id).await,
            Action::Create { container, .. } => self.engine.container_create(&container).await.map(|_id| ()),
            Action::Start { work, container } => match self.volume_holder(&work, &container).await {
                Ok(None) => self.engine.container_start(&container).await,
                Ok(Some(holder)) => return Outcome::Retry { error: holder, pull: false },
                Err(error) => Err(error),
            },
            Action::Stop { container, grace, .. } => self.engine.container_stop(&container, grace).await,
            Action::Remove { container, .. } => self.engine.container_remove(&container).await,
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => outcome_of(&error),
        }
    }

    /// The reference under which the engine has the image. Pulled at most once for each digest, and not at all when the
    /// engine has it already under whatever name.
    async fn image_ensure(&self, image: &ImageAddress) -> Result<(String, Option<PulledImage>), EngineError> {
        let turn = self.pulls.lock().await.entry(image.digest).or_default().clone();
        let pulling = turn.lock().await;
        let reference = format!("{}/{}@{}", self.registry, image.repository, image.digest);
        let found = match self.image_find(&reference, &image.digest).await? {
            Some(found) => (found, None),
            None => {
                tracing::info!(reference, "pulling");
                self.engine.image_pull(&reference, Progress::none()).await?;
                let hub = self.hub.as_ref();
                let name = hub.map(|hub| format!("{hub}/{}:{}", image.repository, image.digest.short()));
                if let Some(name) = &name
                    && let Err(error) = self.engine.image_tag(&reference, name).await
                {
                    // For people alone: nothing depends on it.
                    tracing::warn!(%error, name, "an image did not get its own name on the engine");
                }
                let repository = image.repository.clone();
                let pulled = PulledImage { repository, reference: reference.clone(), name, unwanted_since: None };
                (reference, Some(pulled))
            }
        };
        drop(pulling);
        drop(turn);
        self.pulls.lock().await.retain(|_digest, turn| Arc::strong_count(turn) > 1);
        Ok(found)
    }

    async fn image_find(&self, reference: &str, digest: &Digest) -> Result<Option<String>, EngineError> {
        if self.engine.image_inspect(reference).await?.is_some() {
            return Ok(Some(reference.to_owned()));
        }
        let suffix = format!("@{digest}");
        let images = self.engine.image_list(&Labels::new()).await?;
        let mut names = images.into_iter().flat_map(|image| image.digests);
        Ok(names.find(|name| name.ends_with(&suffix) && !name.starts_with("<none>")))
    }

    /// Who runs on a volume that this container would write to; asked right before the start. Other services of the app
    /// may share a volume if the app says so; another container of the same service, or of anybody else, may not.
    async fn volume_holder(&self, work: &Work, container: &str) -> Result<Option<String>, EngineError> {
        let Some(mine) = self.engine.container_inspect(container).await? else { return Ok(None) };
        if mine.volumes.is_empty() {
            return Ok(None);
        }
        let same = |labels: &Labels, name: &str| labels.get(name) == mine.labels.get(name);
        for other in self.engine.container_list(&Labels::new()).await? {
            if other.id == mine.id || !holds_volumes(other.state) {
                continue;
            }
            let Some(volume) = other.volumes.intersection(&mine.volumes).next() else { continue };
            let same_app = [LABEL_HOST, LABEL_ENV, LABEL_APP].into_iter().all(|label| same(&other.labels, label));
            let declared = same_app && !same(&other.labels, LABEL_SERVICE);
            if !declared {
                let name = &other.name;
                return Ok(Some(format!(
                    "{work} waits for volume {volume}: container {name} on {} holds it",
                    self.host
                )));
            }
        }
        Ok(None)
    }

    async fn network_remove(&self, name: &str, id: &str) -> Result<(), EngineError> {
        if let Some(subnet) = self.engine.network_inspect(id).await?.and_then(|network| network.subnet)
            && let Err(error) = self.edge.route_remove(subnet).await
        {
            tracing::warn!(%error, network = name, "the route of a network that goes is left");
        }
        self.engine.network_remove(id).await
    }

    async fn last_lines(&self, container: &str) -> Vec<String> {
        let lines = u32::try_from(FAILURE_LOG_LINES).unwrap_or(u32::MAX);
        match log_tail(self.engine.as_ref(), container, lines).await {
            Ok(lines) => {
                let skip = lines.len().saturating_sub(FAILURE_LOG_LINES);
                lines.into_iter().skip(skip).map(|line| cut(line.text)).collect()
            }
            Err(error) => vec![format!("(its output could not be read: {error})")],
        }
    }
}

fn cut(mut line: String) -> String {
    if line.len() > FAILURE_LOG_LINE_BYTES_MAX {
        let end = (0..=FAILURE_LOG_LINE_BYTES_MAX).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
    }
    line
}

fn outcome_of(error: &EngineError) -> Outcome {
    let text = match &error.hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    match error.kind {
        ErrorKind::Pull => Outcome::Retry { error: text, pull: true },
        // What is not there, or in the way, is seen by the next look; the engine's own trouble passes.
        ErrorKind::Unreachable
        | ErrorKind::Timeout
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Forbidden => Outcome::Retry { error: text, pull: false },
        ErrorKind::Address | ErrorKind::TooOld | ErrorKind::Invalid | ErrorKind::Policy => {
            Outcome::Refused { error: text }
        }
        ErrorKind::Push | ErrorKind::PortTaken | ErrorKind::Engine => Outcome::Refused { error: text },
    }
}
