//! Fan-out over HTTP: decode, call, encode. On the agent port who speaks is what the port's wiring read from the client
//! certificate, an `Extension<HostIdentity>`; without it nothing is answered.

use std::sync::Arc;

use api::Problem;
use api::access::HostIdentity;
use api::fanout::{ANNOUNCE_BYTES_MAX, Announce, Fanout, ImageRequest, PreheatRequest};
use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base::json::{self, JsonBody};
use base::listen::Peer;
use base::page::PageQuery;
use http::{StatusCode, header};
use oci::Digest;

use super::Service;

/// Bytes of a request that is no announcement.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// `/agent/v1/fanout/…`: images, trees, announcements.
pub fn agent_routes(service: Service) -> Router {
    let announce = post(announce).layer(DefaultBodyLimit::max(ANNOUNCE_BYTES_MAX));
    Router::new()
        .route("/agent/v1/fanout/image", post(image))
        .route("/agent/v1/fanout/trees/{digest}", get(tree))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .route("/agent/v1/fanout/announce", announce)
        .with_state(service)
}

/// `/api/v1/fanout…` and `/api/v1/preheats`.
pub fn api_routes(fanout: Arc<dyn Fanout>) -> Router {
    Router::new()
        .route("/api/v1/fanout", get(swarm_list))
        .route("/api/v1/fanout/{digest}", get(swarm_hosts))
        .route("/api/v1/preheats", post(preheat))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(fanout)
}

fn invalid(what: String) -> Problem {
    Problem::new(400, "request-invalid", "The request is not valid")
        .detail(what)
        .hint("An image is named by the digest of its manifest, such as sha256:…")
}

fn digest(path: Result<Path<Digest>, PathRejection>) -> Result<Digest, Problem> {
    path.map(|Path(digest)| digest).map_err(|rejection| invalid(rejection.body_text()))
}

async fn image(
    State(service): State<Service>,
    Extension(host): Extension<HostIdentity>,
    JsonBody(request): JsonBody<ImageRequest>,
) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &service.image_grant(&host, request).await?))
}

async fn tree(
    State(service): State<Service>,
    Extension(host): Extension<HostIdentity>,
    path: Result<Path<Digest>, PathRejection>,
) -> Result<Response, Problem> {
    let leaves = service.tree_leaves(&host, &digest(path)?).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], leaves).into_response())
}

async fn announce(
    State(service): State<Service>,
    Extension(host): Extension<HostIdentity>,
    Extension(peer): Extension<Peer>,
    JsonBody(announce): JsonBody<Announce>,
) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &service.announce(&host, peer.address, announce).await?))
}

async fn swarm_list(
    State(fanout): State<Arc<dyn Fanout>>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(page) = page.map_err(|rejection| invalid(rejection.body_text()))?;
    let page = page.request()?;
    Ok(json::response(StatusCode::OK, &fanout.swarm_list(page.after.as_deref(), page.limit).await?))
}

async fn swarm_hosts(
    State(fanout): State<Arc<dyn Fanout>>,
    path: Result<Path<Digest>, PathRejection>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(page) = page.map_err(|rejection| invalid(rejection.body_text()))?;
    let page = page.request()?;
    let hosts = fanout.swarm_hosts(&digest(path)?, page.after.as_deref(), page.limit).await?;
    Ok(json::response(StatusCode::OK, &hosts))
}

async fn preheat(
    State(fanout): State<Arc<dyn Fanout>>,
    JsonBody(request): JsonBody<PreheatRequest>,
) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &fanout.preheat(request).await?))
}
