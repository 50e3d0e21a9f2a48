//! The pipeline over HTTP: decode, call, encode. Who may call is decided before, by the hub's guard.

use std::sync::Arc;

use api::pipeline::{BuildRequest, Pipeline, Run};
use api::{AppName, Page, Problem, lines};
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::page::PageQuery;
use futures::StreamExt as _;
use serde::Deserialize;

/// The longest build request, in bytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// `/api/v1/builds` and what is below it.
pub fn router(pipeline: Arc<dyn Pipeline>) -> Router {
    Router::new()
        .route("/api/v1/builds", post(run_create).get(run_list))
        .route("/api/v1/builds/{id}", get(run_get))
        .route("/api/v1/builds/{id}/log", get(run_log))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(pipeline)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    app: Option<AppName>,
    limit: Option<String>,
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    follow: bool,
}

fn invalid(status: u16, why: String) -> Problem {
    Problem::new(status, "build-request-invalid", "The build request is not valid").detail(why)
}

async fn run_create(
    State(pipeline): State<Arc<dyn Pipeline>>,
    request: Result<Json<BuildRequest>, JsonRejection>,
) -> api::Result<Response> {
    let Json(request) = request.map_err(|error| invalid(error.status().as_u16(), error.body_text()))?;
    let run = pipeline.run_create(request).await?;
    Ok((axum::http::StatusCode::ACCEPTED, Json(run)).into_response())
}

async fn run_list(
    State(pipeline): State<Arc<dyn Pipeline>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> api::Result<Json<Page<Run>>> {
    let Query(query) = query.map_err(|error| invalid(400, error.body_text()))?;
    let page = PageQuery { limit: query.limit, after: query.after }.request()?;
    Ok(Json(pipeline.run_list(query.app.as_ref(), page.after.as_deref(), page.limit).await?))
}

async fn run_get(State(pipeline): State<Arc<dyn Pipeline>>, Path(id): Path<String>) -> api::Result<Json<Run>> {
    Ok(Json(pipeline.run_get(&id).await?))
}

async fn run_log(
    State(pipeline): State<Arc<dyn Pipeline>>,
    Path(id): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> api::Result<Response> {
    let Query(query) = query.map_err(|error| invalid(400, error.body_text()))?;
    let log = pipeline.run_log(&id, query.from, query.follow).await?;
    let body = Body::from_stream(lines::encode(log).map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CONTENT_TYPE, lines::MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], body).into_response())
}
