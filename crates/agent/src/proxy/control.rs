//! The control socket: takes whole tables and tells the status, as HTTP/1 with JSON bodies.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listeners::Listeners;
use super::mesh_listener::MeshListener;
use super::state::{self, beside};
use super::status::Status;
use super::table::Table;
use super::{ProxyConfig, ProxyError, Shared};

pub(crate) const TABLE_PATH: &str = "/v1/table";
pub(crate) const STATUS_PATH: &str = "/v1/status";
const TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
const CONTROL_CONNECTIONS_MAX: usize = 64;
const CONTROL_REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
const CONTROL_STOP_TIME_MAX: Duration = Duration::from_secs(2);
const BIND_RETRY_PERIOD: Duration = Duration::from_secs(1);
/// Certificates are looked at once in so many periods of [`BIND_RETRY_PERIOD`].
const IDENTITY_PERIODS: u64 = 60;
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// What goes wrong with a request on the control socket, as it is told to the client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) kind: String,
    pub(crate) detail: String,
    #[serde(skip)]
    status: StatusCode,
}

/// The control socket and all that it controls.
pub(crate) struct Control {
    keeper: Arc<Mutex<Keeper>>,
    socket: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Holds the current table and makes a new one real.
struct Keeper {
    shared: Arc<Shared>,
    listeners: Listeners,
    mesh: MeshListener,
    table: Table,
    state_file: PathBuf,
    /// Nothing is bound any more, whatever still comes.
    stopped: bool,
}

impl Control {
    /// Serves `table` if there is one, and opens the socket. The caller holds the lock of the socket.
    pub(crate) async fn start(
        config: &ProxyConfig,
        shared: Arc<Shared>,
        table: Option<Table>,
    ) -> Result<Self, ProxyError> {
        let socket = open_socket(&config.control_socket)
            .map_err(|source| ProxyError::ControlSocket { path: config.control_socket.clone(), source })?;
        let mut keeper = Keeper {
            listeners: Listeners::new(shared.clone()),
            mesh: MeshListener::new(shared.clone()),
            shared,
            table: Table::default(),
            state_file: config.state_file.clone(),
            stopped: false,
        };
        if let Some(table) = table {
            keeper.serve(table).await;
        }
        let keeper = Arc::new(Mutex::new(keeper));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(socket, keeper.clone(), stop.clone(), tasks.clone()));
        tasks.spawn(keep(keeper.clone(), stop.clone()));
        Ok(Self { keeper, socket: config.control_socket.clone(), stop, tasks })
    }

    /// Closes all listeners and the socket; clients under way go on.
    pub(crate) async fn stop(self) {
        let mut keeper = self.keeper.lock().await;
        keeper.stopped = true;
        keeper.listeners.stop().await;
        keeper.mesh.close().await;
        drop(keeper);
        self.stop.cancel();
        self.tasks.close();
        if timeout(CONTROL_STOP_TIME_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!("a control connection is left behind");
        }
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::warn!(%error, "cannot remove the control socket");
        }
    }
}

impl Keeper {
    async fn put(&mut self, table: Table) -> Result<Status, Refusal> {
        table.validate().map_err(|e| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-table", e.to_string()))?;
        if table.number < self.table.number {
            let detail = format!(
                "table {} is older than {}, which is served; number the next one from the status",
                table.number, self.table.number
            );
            return Err(Refusal::new(StatusCode::CONFLICT, "older-table", detail));
        }
        if self.stopped {
            let detail = "this proxy is stopping; put the table to the next one".to_owned();
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail));
        }
        if table != self.table {
            let (path, copy) = (self.state_file.clone(), table.clone());
            let saved = tokio::task::spawn_blocking(move || state::save(&path, &copy)).await;
            if let Err(error) = saved.unwrap_or_else(|e| Err(io::Error::other(e))) {
                let detail = format!(
                    "cannot keep the table in {}: {error}; the table before is still served",
                    self.state_file.display()
                );
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "state-file", detail));
            }
        }
        self.serve(table).await;
        Ok(self.status())
    }

    async fn serve(&mut self, table: Table) {
        self.shared.routes.swap(&table);
        self.listeners.apply(&table).await;
        self.mesh.apply(table.mesh.as_ref()).await;
        self.table = table;
    }

    fn status(&self) -> Status {
        Status {
            number: self.shared.routes.number(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            upstreams: self.shared.routes.upstreams(),
            listeners: self.listeners.status(),
            mesh: self.mesh.status(),
        }
    }
}

impl Refusal {
    fn new(status: StatusCode, kind: &str, detail: String) -> Self {
        Self { kind: kind.to_owned(), detail, status }
    }
}

/// Binds the socket where nobody else can reach it before its mode is set.
fn open_socket(path: &std::path::Path) -> io::Result<UnixListener> {
    let new = beside(path, "new");
    for stale in [&new, path] {
        match fs::remove_file(stale) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    let socket = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(socket)
}

/// Tries what could not be bound again, and looks at the certificates, until `stop`.
async fn keep(keeper: Arc<Mutex<Keeper>>, stop: CancellationToken) {
    let mut ticks = interval(BIND_RETRY_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 1u64.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let mut keeper = keeper.lock().await;
        if keeper.stopped {
            return;
        }
        keeper.listeners.bind_missing();
        keeper.mesh.bind_missing();
        if tick.is_multiple_of(IDENTITY_PERIODS) || keeper.mesh.lacks_identity() {
            keeper.mesh.refresh_identity().await;
        }
    }
}

async fn accept(socket: UnixListener, keeper: Arc<Mutex<Keeper>>, stop: CancellationToken, tasks: TaskTracker) {
    let permits = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a control connection");
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                    continue;
                }
            }
        };
        let (keeper, stop) = (keeper.clone(), stop.clone());
        tasks.spawn(async move {
            serve(stream, keeper, stop).await;
            drop(permit);
        });
    }
}

async fn serve(stream: UnixStream, keeper: Arc<Mutex<Keeper>>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let keeper = keeper.clone();
        async move {
            let answered = timeout(CONTROL_REQUEST_TIME_MAX, answer(&keeper, request)).await;
            let late = || Refusal::new(StatusCode::GATEWAY_TIMEOUT, "too-slow", "the request took too long".into());
            Ok::<_, Infallible>(match answered.unwrap_or_else(|_| Err(late())) {
                Ok(status) => json(StatusCode::OK, &status),
                Err(refusal) => json(refusal.status, &refusal),
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONTROL_REQUEST_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a control connection ended early");
    }
}

async fn answer(keeper: &Arc<Mutex<Keeper>>, request: Request<Incoming>) -> Result<Status, Refusal> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, STATUS_PATH) => Ok(keeper.lock().await.status()),
        (&Method::PUT, TABLE_PATH) => {
            let bad = |detail: String| Refusal::new(StatusCode::BAD_REQUEST, "bad-table", detail);
            let body = Limited::new(request.into_body(), TABLE_BYTES_MAX);
            let bytes = body.collect().await.map_err(|e| bad(e.to_string()))?.to_bytes();
            let table = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
            // A put that was begun is carried out even when its client leaves: half of a table must not stay.
            let keeper = keeper.clone();
            let put = tokio::spawn(async move { keeper.lock().await.put(table).await });
            put.await
                .unwrap_or_else(|e| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string())))
        }
        (method, path) => {
            let detail = format!("there is no {method} {path}; there are PUT {TABLE_PATH} and GET {STATUS_PATH}");
            Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", detail))
        }
    }
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Full<Bytes>> {
    let (status, bytes) = match serde_json::to_vec(value) {
        Ok(bytes) => (status, bytes),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
