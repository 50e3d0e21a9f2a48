//! `/v2/`: the OCI distribution protocol. Decodes, authorises, calls, encodes.

mod blobs;
mod housekeeping;
mod images;
mod lists;
mod manifests;
mod quota;
mod routes;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use api::access::HostIdentity;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use oci::{Digest, Endpoint, PathError, Query, RepositoryName, etag_matches};

use crate::authorise::{Action, Caller, authorise};
use crate::{Error, Service};

pub use housekeeping::api_routes;
pub use images::images_routes;
pub use routes::ROUTES;

/// The header that names a manifest's or blob's digest.
const DOCKER_CONTENT_DIGEST: header::HeaderName = header::HeaderName::from_static("docker-content-digest");

/// Of a method that is refused.
const METHOD_CHARS_SHOWN: usize = 16;

/// How long a request's body may be silent.
const BODY_IDLE_MAX: Duration = Duration::from_secs(60);

/// The registry as the hub's own port shows it.
#[derive(Clone)]
pub struct Port {
    service: Arc<Service>,
}

/// The registry on the hub's own port.
pub fn main_port(service: Arc<Service>) -> Port {
    Port { service }
}

/// Routes for the agent port: hosts read. Who speaks is what the port's wiring read from the client certificate, an
/// `Extension<HostIdentity>`; without it nothing is answered.
pub fn host_routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v2", any(dispatch))
        .route("/v2/", any(dispatch))
        .route("/v2/{*rest}", any(dispatch))
        .with_state(service)
}

impl Port {
    /// Whether a request is the registry's to answer.
    pub fn is_for(&self, uri: &Uri) -> bool {
        uri.path().strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The answer to a request that is the registry's.
    pub async fn answer(&self, request: Request) -> Response {
        answer(&self.service, Caller::Port, request).await.unwrap_or_else(IntoResponse::into_response)
    }
}

/// A request that was authorised, with what handlers need of it.
struct Call<'a> {
    service: &'a Service,
    caller: Caller<'a>,
    headers: &'a HeaderMap,
    query: Query,
}

impl Call<'_> {
    /// Every further repository that a call touches is authorised like the one in its path.
    fn authorise(&self, action: Action, repository: &RepositoryName) -> Result<(), Error> {
        authorise(self.service, self.caller, action, Some(repository))
    }

    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the caller has this content already and asks only whether it changed.
    fn has_already(&self, digest: &Digest) -> bool {
        self.header(header::IF_NONE_MATCH).is_some_and(|tags| etag_matches(tags, digest))
    }
}

async fn dispatch(
    State(service): State<Arc<Service>>,
    Extension(identity): Extension<HostIdentity>,
    request: Request,
) -> Response {
    answer(&service, Caller::Host(&identity), request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(service: &Service, caller: Caller<'_>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let endpoint = Endpoint::parse(parts.uri.path()).map_err(|error| match error {
        // Nothing has such a name: who reads is told what the specification says of all that is not there.
        PathError::Tag(error) if parts.method != Method::PUT => Error::TagUnknown(error),
        error => Error::Path(error),
    })?;
    let action = match (&parts.method, &endpoint) {
        (&Method::GET | &Method::HEAD, Endpoint::Upload { .. }) => Action::Push,
        (&Method::GET | &Method::HEAD, _) => Action::Pull,
        (&Method::DELETE, Endpoint::Upload { .. }) => Action::Push,
        (&Method::DELETE, _) => Action::Delete,
        _ => Action::Push,
    };
    authorise(service, caller, action, endpoint.repository())?;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let call = Call { service, caller, headers: &parts.headers, query };
    let with_body = parts.method == Method::GET;
    match endpoint {
        Endpoint::Manifest { repository, reference } if with_body || parts.method == Method::HEAD => {
            Box::pin(manifests::get(&call, &repository, &reference, with_body)).await
        }
        endpoint => answer_other(&call, endpoint, parts.method, body).await,
    }
}

/// What is not the reading of a manifest. Each answer is made in a box of its own, or every request would have room for the
/// largest of them.
async fn answer_other(call: &Call<'_>, endpoint: Endpoint, method: Method, body: Body) -> Result<Response, Error> {
    match (endpoint, method) {
        (Endpoint::Ping, Method::GET | Method::HEAD) => Ok(ping()),
        (Endpoint::Catalog, Method::GET | Method::HEAD) => Box::pin(lists::catalog(call)).await,
        (Endpoint::Tags { repository }, Method::GET | Method::HEAD) => Box::pin(lists::tags(call, &repository)).await,
        (Endpoint::Referrers { repository, digest }, Method::GET | Method::HEAD) => {
            Box::pin(lists::referrers(call, &repository, &digest)).await
        }
        (Endpoint::Manifest { repository, reference }, Method::PUT) => {
            Box::pin(manifests::put(call, &repository, &reference, body)).await
        }
        (Endpoint::Manifest { repository, reference }, Method::DELETE) => {
            Box::pin(manifests::delete(call, &repository, &reference)).await
        }
        (Endpoint::Blob { repository, digest }, Method::GET) => Box::pin(blobs::get(call, &repository, &digest)).await,
        (Endpoint::Blob { repository, digest }, Method::HEAD) => {
            Box::pin(blobs::head(call, &repository, &digest)).await
        }
        (Endpoint::Blob { repository, digest }, Method::DELETE) => {
            Box::pin(blobs::delete(call, &repository, digest)).await
        }
        (Endpoint::Uploads { repository }, Method::POST) => Box::pin(uploads::create(call, &repository, body)).await,
        (Endpoint::Upload { repository, upload }, Method::GET) => {
            Box::pin(uploads::status(call, &repository, &upload)).await
        }
        (Endpoint::Upload { repository, upload }, Method::PATCH) => {
            Box::pin(uploads::append(call, &repository, &upload, body)).await
        }
        (Endpoint::Upload { repository, upload }, Method::PUT) => {
            Box::pin(uploads::finish(call, &repository, &upload, body)).await
        }
        (Endpoint::Upload { repository, upload }, Method::DELETE) => {
            Box::pin(uploads::cancel(call, &repository, &upload)).await
        }
        (endpoint, method) => Err(Error::Method {
            method: method.as_str().chars().take(METHOD_CHARS_SHOWN).collect(),
            allowed: allowed(&endpoint),
        }),
    }
}

/// The methods of a path, as the `Allow` header has them.
fn allowed(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Ping | Endpoint::Catalog | Endpoint::Tags { .. } | Endpoint::Referrers { .. } => "GET, HEAD",
        Endpoint::Manifest { .. } => "GET, HEAD, PUT, DELETE",
        Endpoint::Blob { .. } => "GET, HEAD, DELETE",
        Endpoint::Uploads { .. } => "POST",
        Endpoint::Upload { .. } => "GET, PATCH, PUT, DELETE",
    }
}

fn ping() -> Response {
    let version =
        (header::HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));
    ([version, (header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], "{}").into_response()
}

/// Puts a header whose value is made of checked names and numbers.
fn set(response: &mut Response, name: header::HeaderName, value: impl std::fmt::Display) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        response.headers_mut().insert(name, value);
    }
}

fn set_digest(response: &mut Response, digest: &Digest) {
    set(response, DOCKER_CONTENT_DIGEST, digest);
}

/// The answer to who has this content already.
fn unchanged(digest: &Digest) -> Response {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    set(&mut response, header::ETAG, format_args!("\"{digest}\""));
    set_digest(&mut response, digest);
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
