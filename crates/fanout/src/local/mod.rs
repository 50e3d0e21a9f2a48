//! The registry of a host: `/v2/` on a loopback address, from which docker, containerd and podman pull. Manifests come from
//! the hub and are kept; blobs come from the store, while they arrive, too.
//!
//! Invariants: read-only; what is asked for is a digest or a name, never a path; a blob that the swarm does not give comes
//! from the hub, and never silently: it is logged, counted, and the answer says `Longshore-Source: hub`.

mod answer;
mod blobs;
mod fetch;
mod manifests;
mod names;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use api::Micros;
use api::delivery::ImageAddress;
use axum::extract::{Request, State};
use axum::response::Response;
use base::observe::{KnownRoutes, Observer};
use base::shutdown::Shutdown;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use oci::{Digest, Endpoint, Query};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use self::answer::{Refusal, ping};
use self::fetch::Fetches;
pub use self::names::{Names, NamesError};
use crate::store::Store;

/// What may wait for the exchange to hear it, at most; blobs that are wanted beyond that are asked of the hub.
pub const TOLD_MAX: usize = 1024;
/// Falls back to the hub that are remembered with their reasons.
const FALLBACKS_SHOWN: usize = 16;

/// How the hub's registry is asked: a method, path and query, headers. An error says that there was no answer, and why.
#[derive(Clone)]
pub struct HubReads(Arc<Ask>);

type Ask = dyn Fn(Method, String, HeaderMap) -> BoxFuture<'static, Result<reqwest::Response, String>> + Send + Sync;

impl HubReads {
    /// Asks with `ask`.
    pub fn new<F>(ask: F) -> Self
    where
        F: Fn(Method, String, HeaderMap) -> BoxFuture<'static, Result<reqwest::Response, String>>
            + Send
            + Sync
            + 'static,
    {
        Self(Arc::new(ask))
    }
}

/// What a host's registry tells the exchange.
#[derive(Debug)]
pub enum Told {
    /// A blob is wanted from other agents.
    Want(Want),
    /// Something of a blob came from the hub's registry: others can have it.
    Brought(Digest),
}

/// A blob that a host wants from other agents.
#[derive(Debug)]
pub struct Want {
    /// The image that has it.
    pub image: ImageAddress,
    /// The blob.
    pub blob: Digest,
    /// Told once the store has begun the blob, or why the swarm does not give it.
    pub begun: oneshot::Sender<Result<(), String>>,
    /// Told why when nobody gives what is missing: as long as somebody listens, the blob is not to be given up, because what is
    /// missing is brought from the hub's registry then, and whoever reads it notices nothing.
    pub starves: mpsc::Sender<String>,
}

/// A pull for which the swarm did not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// When.
    pub at: Micros,
    /// Of which blob.
    pub blob: Digest,
    /// Why.
    pub why: String,
}

/// How often the hub had to do what the swarm should.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallbacks {
    /// Since the agent was started.
    pub count: u64,
    /// The last of them, oldest first.
    pub last: VecDeque<Fallback>,
}

/// What a registry of a host stands on.
pub struct RegistryParts {
    /// The pieces on disk.
    pub store: Store,
    /// The hub.
    pub hub: HubReads,
    /// The swarm; none when the host takes no part in it.
    pub swarm: Option<mpsc::Sender<Told>>,
    /// The names of registries that it answers for.
    pub names: Names,
}

/// The registry of a host.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    store: Store,
    hub: HubReads,
    swarm: Option<mpsc::Sender<Told>>,
    names: Names,
    fetches: Fetches,
    fallbacks: Mutex<Fallbacks>,
    answers: AtomicU64,
}

impl Registry {
    /// A registry that does not listen yet.
    pub fn new(parts: RegistryParts) -> Self {
        let RegistryParts { store, hub, swarm, names } = parts;
        let (fetches, fallbacks, answers) = (Fetches::default(), Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { store, hub, swarm, names, fetches, fallbacks, answers }))
    }

    /// Answers until the stop.
    pub async fn serve(&self, listener: TcpListener, shutdown: Shutdown) {
        let app = axum::Router::new().fallback(dispatch).with_state(self.clone());
        let observer = Observer::new("host-registry", KnownRoutes::NONE);
        base::listen::serve(listener, None, app, observer, shutdown).await;
    }

    /// Manifests and blobs that were asked for.
    pub fn answers(&self) -> u64 {
        self.0.answers.load(Ordering::Relaxed)
    }

    /// What the hub had to do in the swarm's place.
    pub fn fallbacks(&self) -> Fallbacks {
        self.0.fallbacks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Inner {
    fn fell_back(&self, blob: Digest, why: &str) {
        tracing::warn!(%blob, why, "a blob comes from the hub, not from other agents");
        let mut fallbacks = self.fallbacks.lock().unwrap_or_else(PoisonError::into_inner);
        fallbacks.count += 1;
        if fallbacks.last.len() == FALLBACKS_SHOWN {
            fallbacks.last.pop_front();
        }
        fallbacks.last.push_back(Fallback { at: Micros::now(), blob, why: why.to_owned() });
    }
}

async fn dispatch(State(registry): State<Registry>, request: Request) -> Response {
    let (parts, _body) = request.into_parts();
    answer(&registry.0, &parts).await.unwrap_or_else(Refusal::into_response)
}

async fn answer(inner: &Arc<Inner>, request: &Parts) -> Result<Response, Refusal> {
    let (method, headers) = (&request.method, &request.headers);
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
            "a host's registry is read-only; push to the hub's",
        ));
    }
    let endpoint = Endpoint::parse(request.uri.path());
    let endpoint = endpoint.map_err(|error| Refusal::new(StatusCode::NOT_FOUND, "NAME_INVALID", error.to_string()))?;
    let query = request.uri.query().unwrap_or_default();
    let registry = Query::parse(query).get("ns").map(ToOwned::to_owned);
    let named = |repository| inner.names.resolve(registry.as_deref(), repository);
    let with_body = *method == Method::GET;
    if matches!(endpoint, Endpoint::Manifest { .. } | Endpoint::Blob { .. }) {
        inner.answers.fetch_add(1, Ordering::Relaxed);
    }
    match endpoint {
        Endpoint::Ping => Ok(ping()),
        Endpoint::Manifest { repository, reference } => {
            manifests::get(inner, named(repository)?, reference, headers, with_body).await
        }
        Endpoint::Blob { repository, digest } => {
            blobs::get(inner, named(repository)?, digest, headers, with_body).await
        }
        Endpoint::Tags { repository } => {
            answer::pass(inner, method, lists(&format!("{}/tags/list", named(repository)?), query), headers).await
        }
        Endpoint::Referrers { repository, digest } => {
            answer::pass(inner, method, lists(&format!("{}/referrers/{digest}", named(repository)?), query), headers)
                .await
        }
        Endpoint::Catalog if registry.is_none() => answer::pass(inner, method, lists("_catalog", query), headers).await,
        Endpoint::Catalog | Endpoint::Uploads { .. } | Endpoint::Upload { .. } => {
            Err(Refusal::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "a host's registry has no such thing"))
        }
    }
}

/// The path of a list on the hub, with the query but for what is meant for this registry alone.
fn lists(path: &str, query: &str) -> String {
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("ns=")).collect();
    if kept.is_empty() { format!("/v2/{path}") } else { format!("/v2/{path}?{}", kept.join("&")) }
}
