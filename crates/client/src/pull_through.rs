//! A registry of one machine, for its engine to pull from. Passes reads of `/v2/…` on to the hub, so that the engine needs
//! neither certificates nor the hub's address. Keeps nothing; the engine verifies every digest.

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base::problem::Problem;
use http::header::{
    ACCEPT, ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, LINK, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const DISTRIBUTION_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const REQUEST_HEADERS: [HeaderName; 4] = [ACCEPT, RANGE, IF_RANGE, IF_NONE_MATCH];
const RESPONSE_HEADERS: [HeaderName; 10] = [
    CONTENT_TYPE,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    ACCEPT_RANGES,
    ETAG,
    LAST_MODIFIED,
    CACHE_CONTROL,
    LINK,
    DISTRIBUTION_VERSION,
    CONTENT_DIGEST,
];

/// The registry cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "the registry of this machine cannot listen on {address}: {source}; stop what uses that port, or choose another address"
)]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Opens the registry's socket.
///
/// # Errors
/// The address is in use, or is not one of this machine.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Serves until `shutdown`. `hub` asks it: a method, path and query, headers.
///
/// # Errors
/// The socket broke.
pub async fn serve<A, F, E>(listener: TcpListener, hub: A, shutdown: CancellationToken) -> std::io::Result<()>
where
    A: Fn(Method, String, HeaderMap) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<reqwest::Response, E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let router = Router::new().fallback(pass::<A, F, E>).with_state(hub);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn pass<A, F, E>(State(hub): State<A>, request: Request) -> Response
where
    A: Fn(Method, String, HeaderMap) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<reqwest::Response, E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let path = request.uri().path();
    if path != "/v2" && !path.starts_with("/v2/") {
        return Problem::new(404, "not-found", "There is nothing here")
            .detail("a machine's registry answers under /v2/ alone")
            .into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let what = format!("{} {path} was asked for", request.method());
        let mut refusal = Problem::new(405, "read-only", "A machine's registry is read-only")
            .detail(what)
            .hint("push to the hub's registry")
            .into_response();
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let target = request.uri().path_and_query().map_or_else(|| path.to_owned(), ToString::to_string);
    let headers = request_headers(request.headers());
    match hub(request.method().clone(), target.clone(), headers).await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), response_headers(answer.headers()));
            let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
            if request.method() == Method::HEAD {
                *response.body_mut() = Body::empty();
            }
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            response
        }
        Err(error) => {
            tracing::warn!(%error, target, "a pull could not be passed on");
            Problem::new(StatusCode::BAD_GATEWAY.as_u16(), "hub-unreachable", "The hub does not answer")
                .detail(error.to_string())
                .into_response()
        }
    }
}

/// What of an engine's request the hub is told.
pub fn request_headers(headers: &HeaderMap) -> HeaderMap {
    chosen(headers, &REQUEST_HEADERS)
}

/// What of the hub's answer the engine is told.
pub fn response_headers(headers: &HeaderMap) -> HeaderMap {
    chosen(headers, &RESPONSE_HEADERS)
}

fn chosen(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in names {
        for value in headers.get_all(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
