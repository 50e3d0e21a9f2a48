//! Inspection over HTTP: decode, call, encode.

use std::sync::Arc;

use api::Problem;
use api::inspect::{DocumentFormat, InsideFilter, Inspect, Sought};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base::json;
use base::page::PageQuery;
use http::{StatusCode, header};
use oci::Digest;
use serde::Deserialize;

use super::findings::FILE_BYTES_MAX;

/// `/api/v1/inside…`, `/api/v1/where` and `/api/v1/advisories`.
pub fn api_routes(inspect: Arc<dyn Inspect>) -> Router {
    Router::new()
        .route("/api/v1/inside/{digest}", get(inside))
        .route("/api/v1/inside/{digest}/inventory", get(inventory))
        .route("/api/v1/inside/{digest}/components", get(components))
        .route("/api/v1/inside/{digest}/findings", get(findings))
        .route("/api/v1/inside/{digest}/unexamined", get(unexamined))
        .route("/api/v1/inside/{digest}/secrets", get(secrets))
        .route("/api/v1/inside/{digest}/document/{format}", get(document))
        .route("/api/v1/inside/{digest}/evidence", get(evidence))
        .route("/api/v1/inside/{digest}/difference/{second}", get(difference))
        .route("/api/v1/where", get(find))
        .route("/api/v1/advisories", get(advisories).put(advisories_take))
        .route("/api/v1/advisories/news", get(alerts))
        .layer(DefaultBodyLimit::max(FILE_BYTES_MAX))
        .with_state(inspect)
}

type Inspection = State<Arc<dyn Inspect>>;
type InPath<T> = Result<Path<T>, PathRejection>;
type InQuery<T> = Result<Query<T>, QueryRejection>;

fn invalid(what: String) -> Problem {
    Problem::new(400, "request-invalid", "The request is not valid")
        .detail(what)
        .hint("An image is named by the digest of its manifest, such as sha256:…; what is sought by name or id.")
}

fn path<T>(path: InPath<T>) -> Result<T, Problem> {
    path.map(|Path(value)| value).map_err(|rejection| invalid(rejection.body_text()))
}

fn query<T>(query: InQuery<T>) -> Result<T, Problem> {
    query.map(|Query(value)| value).map_err(|rejection| invalid(rejection.body_text()))
}

async fn inside(State(inspect): Inspection, digest: InPath<Digest>) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &inspect.inside(&path(digest)?).await?))
}

async fn inventory(State(inspect): Inspection, digest: InPath<Digest>) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &inspect.inventory(&path(digest)?).await?))
}

async fn components(
    State(inspect): Inspection,
    digest: InPath<Digest>,
    filter: InQuery<InsideFilter>,
    page: InQuery<PageQuery>,
) -> Result<Response, Problem> {
    let page = query(page)?.request()?;
    Ok(json::response(StatusCode::OK, &inspect.components(&path(digest)?, &query(filter)?, &page).await?))
}

async fn findings(
    State(inspect): Inspection,
    digest: InPath<Digest>,
    filter: InQuery<InsideFilter>,
    page: InQuery<PageQuery>,
) -> Result<Response, Problem> {
    let page = query(page)?.request()?;
    Ok(json::response(StatusCode::OK, &inspect.findings(&path(digest)?, &query(filter)?, &page).await?))
}

async fn unexamined(
    State(inspect): Inspection,
    digest: InPath<Digest>,
    page: InQuery<PageQuery>,
) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &inspect.unexamined(&path(digest)?, &query(page)?.request()?).await?))
}

async fn secrets(
    State(inspect): Inspection,
    digest: InPath<Digest>,
    page: InQuery<PageQuery>,
) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &inspect.secrets(&path(digest)?, &query(page)?.request()?).await?))
}

async fn document(State(inspect): Inspection, of: InPath<(Digest, DocumentFormat)>) -> Result<Response, Problem> {
    let (digest, format) = path(of)?;
    let media_type = match format {
        DocumentFormat::Json => "application/json",
        DocumentFormat::Cyclonedx => "application/vnd.cyclonedx+json",
        DocumentFormat::Spdx => "application/spdx+json",
        DocumentFormat::Sarif => "application/sarif+json",
    };
    let bytes = inspect.document(&digest, format).await?;
    Ok(([(header::CONTENT_TYPE, media_type)], bytes).into_response())
}

async fn evidence(State(inspect): Inspection, digest: InPath<Digest>) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &inspect.evidence(&path(digest)?).await?))
}

async fn difference(State(inspect): Inspection, digests: InPath<(Digest, Digest)>) -> Result<Response, Problem> {
    let (first, second) = path(digests)?;
    Ok(json::response(StatusCode::OK, &inspect.difference(&first, &second).await?))
}

/// What is sought: one of a component's name, an advisory and a licence.
#[derive(Deserialize)]
struct Where {
    component: Option<String>,
    ecosystem: Option<String>,
    version: Option<String>,
    advisory: Option<String>,
    licence: Option<String>,
    #[serde(default)]
    history: bool,
}

async fn find(
    State(inspect): Inspection,
    asked: InQuery<Where>,
    page: InQuery<PageQuery>,
) -> Result<Response, Problem> {
    let Where { component, ecosystem, version, advisory, licence, history } = query(asked)?;
    let sought = match (component, advisory, licence) {
        (Some(name), None, None) => Sought::Component { ecosystem, name, version },
        (None, Some(id), None) => Sought::Advisory { id },
        (None, None, Some(id)) => Sought::Licence { id },
        _ => return Err(invalid("say one of component, advisory and licence".to_owned())),
    };
    let page = query(page)?.request()?;
    Ok(json::response(StatusCode::OK, &inspect.find(&sought, history, &page).await?))
}

async fn advisories(State(inspect): Inspection) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &inspect.advisories().await?))
}

async fn alerts(State(inspect): Inspection, page: InQuery<PageQuery>) -> Result<Response, Problem> {
    Ok(json::response(StatusCode::OK, &inspect.alerts(&query(page)?.request()?).await?))
}

async fn advisories_take(State(inspect): Inspection, file: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let file = file.map_err(|rejection| invalid(rejection.body_text()))?;
    Ok(json::response(StatusCode::OK, &inspect.advisories_take(file).await?))
}
