//! Docker, the engine underneath: through bollard, and through plain HTTP where bollard gets in the way (builds without
//! a session, and the digest at the end of a push).

mod address;
mod archives;
mod body;
mod build;
mod containers;
mod context;
mod events;
mod images;
mod logs;
mod machine;
mod networks;
mod place;
mod raw;
mod sessions;
mod stats;
mod summaries;
mod tls;
mod volumes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::OnceCell;

pub use address::{Address, TlsAddress};

use crate::build::{BuildError, BuildEvent, BuildOptions, TarBody};
use crate::{
    Container, ContainerStats, ContainerSummary, EngineError, EngineEvent, EngineVersion, ErrorKind, ExecOptions,
    Image, Labels, LogLine, LogOptions, Network, NetworkSpec, Place, Progress, PullProgress, Session, SessionInput,
    Volume, VolumeSpec, WantedContainer,
};

/// The oldest Engine API that is spoken: that of Docker 20.10.
const API_OLDEST: (usize, usize) = (1, 41);

/// How long an ordinary call may take until its answer begins. Creating a container on a busy disk is the slowest.
const CALL_SECONDS: u64 = 120;

/// A Docker engine at one address. Nothing is asked of it until it is used, so that a process can start before its
/// engine does.
#[derive(Debug, Clone)]
pub struct Docker {
    address: Address,
    connection: Arc<OnceCell<Connection>>,
    place: Arc<OnceCell<Place>>,
}

impl Docker {
    /// The engine at this address.
    pub fn new(address: Address) -> Self {
        Self { address, connection: Arc::default(), place: Arc::default() }
    }

    /// The engine at this address, which must answer now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unreachable`], [`ErrorKind::Forbidden`], or [`ErrorKind::TooOld`] for an engine older than 20.10.
    pub async fn connect(address: Address) -> Result<Self, EngineError> {
        let docker = Self::new(address);
        docker.connection().await?;
        Ok(docker)
    }

    /// An image of this engine as `docker save` gives it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is no image of that name.
    pub async fn image_save(&self, image: &str) -> Result<TarBody, EngineError> {
        archives::save(&self.connection().await?.raw, image).await
    }

    /// Where this engine is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Agrees on an API version with the first call: the newest that both sides know.
    async fn connection(&self) -> Result<&Connection, EngineError> {
        self.connection.get_or_try_init(|| Connection::open(&self.address)).await
    }
}

/// An engine that has answered.
#[derive(Debug, Clone)]
struct Connection {
    client: bollard::Docker,
    raw: raw::RawClient,
}

impl Connection {
    /// The API version that was agreed on.
    fn api(&self) -> (usize, usize) {
        let agreed = self.client.client_version();
        (agreed.major_version, agreed.minor_version)
    }

    async fn open(address: &Address) -> Result<Self, EngineError> {
        let what = format!("cannot reach the container engine at {address}");
        let client = match address {
            Address::Unix(path) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), CALL_SECONDS, bollard::API_DEFAULT_VERSION)
            }
            Address::Tcp(host_port) => bollard::Docker::connect_with_http(
                &format!("http://{host_port}"),
                CALL_SECONDS,
                bollard::API_DEFAULT_VERSION,
            ),
            Address::Tls(tls) => bollard::Docker::connect_with_custom_transport(
                tls::transport(raw::RawClient::new(address.clone(), None)),
                Some(format!("http://{}", tls.host_port)),
                CALL_SECONDS,
                bollard::API_DEFAULT_VERSION,
            ),
        }
        .map_err(|error| failed(&what, error))?;
        // `/version` without a version in its path is what any engine answers; a versioned path is refused by an older one.
        let version = raw::RawClient::new(address.clone(), None).get_json::<ServerVersion>("/version", &what).await?;
        let server = version_parse(&version.api_version).ok_or_else(|| {
            EngineError::new(ErrorKind::Engine, &what, format!("it says its API version is {:?}", version.api_version))
        })?;
        if server < API_OLDEST {
            return Err(EngineError::new(
                ErrorKind::TooOld,
                format!("the container engine at {address} is too old"),
                format!(
                    "it is {} with API {}.{}, and {}.{} is the oldest that is supported",
                    version.version, server.0, server.1, API_OLDEST.0, API_OLDEST.1
                ),
            ));
        }
        let client = client.negotiate_version().await.map_err(|error| failed(&what, error))?;
        let agreed = client.client_version();
        let api = format!("{}.{}", agreed.major_version, agreed.minor_version);
        Ok(Self { client, raw: raw::RawClient::new(address.clone(), Some(api)) })
    }

    /// The client for a call whose answer takes up to `extra` longer than usual.
    fn patient(&self, extra: Duration) -> bollard::Docker {
        self.client.clone().with_timeout(Duration::from_secs(CALL_SECONDS) + extra)
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServerVersion {
    version: String,
    api_version: String,
}

fn version_parse(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Filters that match objects with all of these labels.
fn label_filters(labels: &Labels) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.iter().map(|(key, value)| format!("{key}={value}")).collect())])
}

/// An error of bollard in Longshore's words.
fn failed(what: &str, error: bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { status_code, message } => status_error(what, status_code, &message),
        Error::RequestTimeoutError => EngineError::new(ErrorKind::Timeout, what, "the engine did not answer in time"),
        Error::SocketNotFoundError(path) => {
            EngineError::new(ErrorKind::Unreachable, what, format!("there is no socket at {path}"))
        }
        Error::UnsupportedURISchemeError { uri } => {
            EngineError::new(ErrorKind::Address, what, format!("{uri} is not supported"))
        }
        Error::DockerStreamError { error } => EngineError::new(ErrorKind::Engine, what, error),
        other => transport_error(what, &other),
    }
}

/// The engine's answer with this status, as an error.
fn status_error(what: &str, status: u16, message: &str) -> EngineError {
    let message = message.trim();
    let kind = match status {
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        // Engines give a taken subnet as 403 or 500, never as a conflict.
        _ if ["Pool overlaps", "networks have overlapping IPv", "has active endpoints"]
            .iter()
            .any(|known| message.contains(known)) =>
        {
            ErrorKind::Conflict
        }
        _ if message.contains("port is already allocated") || message.contains("bind: address already in use") => {
            ErrorKind::PortTaken
        }
        401 | 403 => ErrorKind::Forbidden,
        400 => ErrorKind::Invalid,
        _ => ErrorKind::Engine,
    };
    let why = if message.is_empty() { format!("the engine answered {status}") } else { message.to_owned() };
    let error = EngineError::new(kind, what, why);
    // Forbidden's usual hint is about the socket, and here the socket was fine.
    if kind == ErrorKind::Forbidden { EngineError { hint: None, ..error } } else { error }
}

/// What went wrong below HTTP: whether anybody is there, and whether this user may ask.
fn transport_error(what: &str, error: &(dyn std::error::Error + 'static)) -> EngineError {
    let mut reasons = vec![error.to_string()];
    let mut kind = ErrorKind::Engine;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let text = current.to_string();
        if reasons.last() != Some(&text) {
            reasons.push(text);
        }
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            kind = match io.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                std::io::ErrorKind::TimedOut => ErrorKind::Timeout,
                _ => ErrorKind::Unreachable,
            };
        }
        if let Some(hyper) = current.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled())
        {
            kind = ErrorKind::Unreachable;
        }
        cause = current.source();
    }
    // The innermost reason is the one that a person can act on.
    let why = reasons.pop().unwrap_or_default();
    EngineError::new(kind, what, why)
}

#[async_trait]
impl crate::Engine for Docker {
    async fn version(&self) -> Result<EngineVersion, EngineError> {
        let what = format!("cannot ask the container engine at {} for its version", self.address);
        let connection = self.connection().await?;
        let version = connection.client.version().await.map_err(|error| failed(&what, error))?;
        let agreed = connection.client.client_version();
        Ok(EngineVersion {
            engine: version.version.unwrap_or_default(),
            api: format!("{}.{}", agreed.major_version, agreed.minor_version),
            os: version.os.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
        })
    }

    async fn image_pull(&self, reference: &str, progress: Progress<PullProgress>) -> Result<(), EngineError> {
        images::pull(self.connection().await?, reference, progress).await
    }

    async fn place(&self) -> Result<Place, EngineError> {
        let connection = self.connection().await?;
        self.place.get_or_try_init(|| place::place(connection, &self.address)).await.copied()
    }

    async fn image_load(&self, archive: TarBody, progress: Progress<PullProgress>) -> Result<String, EngineError> {
        archives::load(self.connection().await?, archive, progress).await
    }

    async fn image_push(&self, reference: &str, progress: Progress<PullProgress>) -> Result<String, EngineError> {
        images::push(self.connection().await?, reference, progress).await
    }

    async fn image_tag(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        images::tag(self.connection().await?, image, reference).await
    }

    async fn image_inspect(&self, image: &str) -> Result<Option<Image>, EngineError> {
        images::inspect(self.connection().await?, image).await
    }

    async fn image_list(&self, labels: &Labels) -> Result<Vec<Image>, EngineError> {
        images::list(self.connection().await?, labels).await
    }

    async fn image_remove(&self, image: &str) -> Result<(), EngineError> {
        images::remove(self.connection().await?, image).await
    }

    async fn image_build(
        &self,
        options: &BuildOptions,
        context: TarBody,
        progress: Progress<BuildEvent>,
    ) -> Result<String, BuildError> {
        build::build(&self.connection().await?.raw, options, context, progress).await
    }

    async fn container_create(&self, wanted: &WantedContainer) -> Result<String, EngineError> {
        containers::create(self.connection().await?, wanted).await
    }

    async fn container_start(&self, container: &str) -> Result<(), EngineError> {
        containers::start(self.connection().await?, container).await
    }

    async fn container_stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        containers::stop(self.connection().await?, container, grace).await
    }

    async fn container_restart(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        containers::restart(self.connection().await?, container, grace).await
    }

    async fn container_kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        containers::kill(self.connection().await?, container, signal).await
    }

    async fn container_remove(&self, container: &str) -> Result<(), EngineError> {
        containers::remove(self.connection().await?, container).await
    }

    async fn container_inspect(&self, container: &str) -> Result<Option<Container>, EngineError> {
        containers::inspect(self.connection().await?, container).await
    }

    async fn container_list(&self, labels: &Labels) -> Result<Vec<Container>, EngineError> {
        containers::list(self.connection().await?, labels).await
    }

    async fn container_summaries(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
        summaries::list(self.connection().await?, labels).await
    }

    async fn container_logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        logs::logs(self.connection().await?, container, options).await
    }

    async fn container_wait(&self, container: &str) -> Result<i64, EngineError> {
        containers::wait(self.connection().await?, container).await
    }

    async fn container_stats(&self, container: &str) -> Result<ContainerStats, EngineError> {
        stats::stats(&self.connection().await?.raw, container).await
    }

    async fn container_exec(
        &self,
        container: &str,
        options: &ExecOptions,
        input: SessionInput,
    ) -> Result<Session, EngineError> {
        sessions::exec(&self.connection().await?.raw, container, options, input).await
    }

    async fn container_attach(&self, container: &str, input: SessionInput) -> Result<Session, EngineError> {
        sessions::attach(self.connection().await?, container, input).await
    }

    async fn container_archive_put(&self, container: &str, folder: &str, archive: TarBody) -> Result<(), EngineError> {
        archives::put(&self.connection().await?.raw, container, folder, archive).await
    }

    async fn container_archive_get(&self, container: &str, path: &str) -> Result<TarBody, EngineError> {
        archives::get(&self.connection().await?.raw, container, path).await
    }

    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        networks::create(self.connection().await?, spec).await
    }

    async fn network_inspect(&self, network: &str) -> Result<Option<Network>, EngineError> {
        networks::inspect(self.connection().await?, network).await
    }

    async fn network_list(&self, labels: &Labels) -> Result<Vec<Network>, EngineError> {
        networks::list(self.connection().await?, labels).await
    }

    async fn network_remove(&self, network: &str) -> Result<(), EngineError> {
        networks::remove(self.connection().await?, network).await
    }

    async fn network_connect(&self, network: &str, container: &str, aliases: &[String]) -> Result<(), EngineError> {
        networks::connect(self.connection().await?, network, container, body::endpoint(aliases, None)).await
    }

    async fn volume_create(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        volumes::create(self.connection().await?, spec).await
    }

    async fn volume_inspect(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        volumes::inspect(self.connection().await?, name).await
    }

    async fn volume_list(&self, labels: &Labels) -> Result<Vec<Volume>, EngineError> {
        volumes::list(self.connection().await?, labels).await
    }

    async fn volume_remove(&self, name: &str) -> Result<(), EngineError> {
        volumes::remove(self.connection().await?, name).await
    }

    async fn events(
        &self,
        labels: &Labels,
    ) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        events::events(self.connection().await?, labels).await
    }
}
