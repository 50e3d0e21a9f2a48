//! Access over HTTP: tokens on the main port; enrolment, renewal and the identity of hosts on the agent port.

use std::sync::Arc;

use api::access::{Access, EnrolRequest, HostIdentity, HostTokenRequest, RenewRequest};
use api::{HostName, Problem};
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Router};
use base::json::{self, JsonBody};
use base::listen::Peer;
use http::StatusCode;

use crate::error::AccessError;

/// Bytes of a request's body at most.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

type Shared = Arc<dyn Access>;

/// `POST /api/v1/host-tokens` and `POST /api/v1/hosts/{host}/revoke`.
pub fn api_routes(access: Shared) -> Router {
    Router::new()
        .route("/api/v1/host-tokens", post(host_token_create))
        .route("/api/v1/hosts/{host}/revoke", post(host_revoke))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(access)
}

/// `POST /agent/v1/enrol` (without a certificate) and `POST /agent/v1/renew`, for a listener of [`base::listen`].
pub fn agent_routes(access: Shared) -> Router {
    let renew = post(host_renew).layer(from_fn_with_state(Arc::clone(&access), host_required));
    Router::new()
        .route("/agent/v1/enrol", post(host_enrol))
        .route("/agent/v1/renew", renew)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(access)
}

/// Middleware for `axum::middleware::from_fn_with_state`: lets only requests through whose connection presented a good
/// certificate of a host (a33, a44), and gives them a [`HostIdentity`] extension.
pub async fn host_required(State(access): State<Shared>, mut request: Request, next: Next) -> Response {
    let certificate = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.clone());
    let identity = match certificate {
        None => Err(AccessError::CertificateMissing.into()),
        Some(certificate) => access.host_identify(&certificate).await,
    };
    match identity {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(problem) => {
            tracing::warn!(kind = %problem.kind, detail = %problem.detail, "agent refused");
            problem.into_response()
        }
    }
}

async fn host_token_create(
    State(access): State<Shared>,
    JsonBody(request): JsonBody<HostTokenRequest>,
) -> Result<Response, Problem> {
    let token = access.host_token_create(request).await?;
    Ok(json::response(StatusCode::CREATED, &token))
}

async fn host_revoke(
    State(access): State<Shared>,
    host: Result<Path<HostName>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(host) = host.map_err(|rejection| {
        Problem::new(400, "host-invalid", "This is no name of a host")
            .detail(rejection.body_text())
            .hint("`longshore host ls` lists hosts.")
    })?;
    let revoked = access.host_revoke(&host).await?;
    Ok(json::response(StatusCode::OK, &revoked))
}

async fn host_enrol(
    State(access): State<Shared>,
    JsonBody(request): JsonBody<EnrolRequest>,
) -> Result<Response, Problem> {
    let certificate = access.host_enrol(request).await?;
    Ok(json::response(StatusCode::OK, &certificate))
}

async fn host_renew(
    State(access): State<Shared>,
    Extension(identity): Extension<HostIdentity>,
    JsonBody(request): JsonBody<RenewRequest>,
) -> Result<Response, Problem> {
    let certificate = access.host_renew(&identity, request).await?;
    Ok(json::response(StatusCode::OK, &certificate))
}
