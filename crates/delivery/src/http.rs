//! The routes under `/api/v1/`: decode, call, encode.

use std::convert::Infallible;
use std::sync::Arc;

use api::delivery::{
    Delivery, Environment, EnvironmentChange, EnvironmentReleases, Host, Instance, LogRequest, Overview, Plan,
    PromoteRequest, Release, ReleaseFilter, RollbackRequest, ServiceDifference, Why,
};
use api::{AppName, EnvName, Page, Problem, ServiceAddress, lines};
use axum::body::{Body, to_bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::page::{PageQuery, PageRequest};
use futures::{Stream, StreamExt as _};
use oci::{Digest, etag_matches};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_stream::wrappers::WatchStream;

use crate::environments::FILE_BYTES_MAX;
use crate::error::{Error, ErrorKind};

/// The most bytes of a request for a promotion or rollback.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

type Context = State<Arc<dyn Delivery>>;
type Queried<T> = Result<Query<T>, QueryRejection>;
type Pathed<T> = Result<Path<T>, PathRejection>;
type Answer<T> = Result<Json<T>, Problem>;

pub(crate) fn router(delivery: Arc<dyn Delivery>) -> Router {
    Router::new()
        .route("/api/v1/releases", get(release_list))
        .route("/api/v1/releases/{id}", get(release_get))
        .route("/api/v1/environments", get(env_list).post(env_apply))
        .route("/api/v1/environments/{env}/diff", get(env_diff))
        .route("/api/v1/environments/{env}/releases", get(env_releases))
        .route("/api/v1/promotions", post(promote))
        .route("/api/v1/rollbacks", post(rollback))
        .route("/api/v1/plans", get(plan_list))
        .route("/api/v1/plans/{id}", get(plan_get))
        .route("/api/v1/why", get(why))
        .route("/api/v1/hosts", get(host_list))
        .route("/api/v1/instances", get(instance_list))
        .route("/api/v1/logs", get(logs))
        .route("/api/v1/overview", get(overview))
        .route("/api/v1/events", get(events))
        .with_state(delivery)
}

fn invalid(what: impl std::fmt::Display) -> Problem {
    Error::new(ErrorKind::RequestInvalid, what.to_string(), "`longshore help` shows how to ask for this.").into()
}

fn query<T>(queried: Queried<T>) -> Result<T, Problem> {
    queried.map(|Query(query)| query).map_err(|rejection| invalid(rejection.body_text()))
}

fn path<T>(pathed: Pathed<T>) -> Result<T, Problem> {
    pathed.map(|Path(path)| path).map_err(|rejection| invalid(rejection.body_text()))
}

fn page(queried: Queried<PageQuery>) -> Result<PageRequest, Problem> {
    query(queried)?.request()
}

/// A body that is no longer than allowed.
pub(crate) async fn bytes(body: Body, bytes_max: usize) -> Result<axum::body::Bytes, Problem> {
    to_bytes(body, bytes_max).await.map_err(|_| {
        Error::new(
            ErrorKind::TooLarge,
            format!("the body broke off or has more than {bytes_max} bytes"),
            "Send less, and try again if the connection broke.",
        )
        .into()
    })
}

/// A JSON body that is no longer than allowed.
pub(crate) async fn json<T: DeserializeOwned>(body: Body, bytes_max: usize) -> Result<T, Problem> {
    serde_json::from_slice(&bytes(body, bytes_max).await?).map_err(invalid)
}

async fn release_list(
    State(delivery): Context,
    filter: Queried<ReleaseFilter>,
    page_query: Queried<PageQuery>,
) -> Answer<Page<Release>> {
    let page = page(page_query)?;
    Ok(Json(delivery.release_list(query(filter)?, page.after.as_deref(), page.limit).await?))
}

async fn release_get(State(delivery): Context, id: Pathed<String>) -> Answer<Release> {
    Ok(Json(delivery.release_get(&path(id)?).await?))
}

async fn env_list(State(delivery): Context) -> Answer<Vec<Environment>> {
    Ok(Json(delivery.env_list().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyQuery {
    file_name: String,
    #[serde(default)]
    dry_run: bool,
}

async fn env_apply(State(delivery): Context, asked: Queried<ApplyQuery>, body: Body) -> Answer<Vec<EnvironmentChange>> {
    let ApplyQuery { file_name, dry_run } = query(asked)?;
    let text = bytes(body, FILE_BYTES_MAX).await?;
    let text = std::str::from_utf8(&text).map_err(|error| invalid(format!("{file_name} is not UTF-8: {error}")))?;
    Ok(Json(delivery.env_apply(text, &file_name, dry_run).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    app: AppName,
    from: Option<EnvName>,
}

async fn env_diff(
    State(delivery): Context,
    env: Pathed<EnvName>,
    asked: Queried<DiffQuery>,
) -> Answer<Vec<ServiceDifference>> {
    let DiffQuery { app, from } = query(asked)?;
    Ok(Json(delivery.env_diff(&app, from.as_ref(), &path(env)?).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleasesQuery {
    app: AppName,
}

/// A workspace asks with every start, and mostly nothing has changed since.
async fn env_releases(
    State(delivery): Context,
    env: Pathed<EnvName>,
    asked: Queried<ReleasesQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let releases: EnvironmentReleases = delivery.env_releases(&query(asked)?.app, &path(env)?).await?;
    let body = serde_json::to_vec(&releases).map_err(|error| Problem::internal(&error))?;
    let digest = Digest::sha256_of(&body);
    let tag = [(header::ETAG, format!("\"{digest}\""))];
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.into_iter().any(|known| etag_matches(known, &digest)) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn promote(State(delivery): Context, body: Body) -> Result<(StatusCode, Json<Plan>), Problem> {
    let request: PromoteRequest = json(body, REQUEST_BYTES_MAX).await?;
    Ok((StatusCode::CREATED, Json(delivery.promote(request).await?)))
}

async fn rollback(State(delivery): Context, body: Body) -> Result<(StatusCode, Json<Plan>), Problem> {
    let request: RollbackRequest = json(body, REQUEST_BYTES_MAX).await?;
    Ok((StatusCode::CREATED, Json(delivery.rollback(request).await?)))
}

#[derive(Deserialize)]
struct PlansQuery {
    app: Option<AppName>,
    env: Option<EnvName>,
}

async fn plan_list(
    State(delivery): Context,
    asked: Queried<PlansQuery>,
    page_query: Queried<PageQuery>,
) -> Answer<Page<Plan>> {
    let PlansQuery { app, env } = query(asked)?;
    let page = page(page_query)?;
    Ok(Json(delivery.plan_list(app.as_ref(), env.as_ref(), page.after.as_deref(), page.limit).await?))
}

async fn plan_get(State(delivery): Context, id: Pathed<String>) -> Answer<Plan> {
    Ok(Json(delivery.plan_get(&path(id)?).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyQuery {
    address: ServiceAddress,
    env: EnvName,
}

async fn why(State(delivery): Context, asked: Queried<WhyQuery>) -> Answer<Why> {
    let WhyQuery { address, env } = query(asked)?;
    Ok(Json(delivery.why(&address, &env).await?))
}

async fn host_list(State(delivery): Context, page_query: Queried<PageQuery>) -> Answer<Page<Host>> {
    let page = page(page_query)?;
    Ok(Json(delivery.host_list(page.after.as_deref(), page.limit).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstancesQuery {
    app: AppName,
    env: EnvName,
}

async fn instance_list(State(delivery): Context, asked: Queried<InstancesQuery>) -> Answer<Vec<Instance>> {
    let InstancesQuery { app, env } = query(asked)?;
    Ok(Json(delivery.instance_list(&app, &env).await?))
}

async fn logs(State(delivery): Context, asked: Queried<LogRequest>) -> Result<Response, Problem> {
    let stream = delivery.logs(query(asked)?).await?;
    let body = Body::from_stream(lines::encode(stream).map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, lines::MEDIA_TYPE)], body).into_response())
}

async fn overview(State(delivery): Context) -> Answer<Overview> {
    Ok(Json(delivery.overview().await?))
}

/// One event `change` with the count as its data: at once, and then whenever the overview shows something else.
async fn events(State(delivery): Context) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = WatchStream::new(delivery.changes());
    Sse::new(changes.map(|count| Ok(Event::default().event("change").data(count.to_string()))))
        .keep_alive(KeepAlive::default())
}
