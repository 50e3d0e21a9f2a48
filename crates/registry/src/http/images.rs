//! `/api/v1/images`: repositories, tags and images as JSON.

use std::sync::Arc;

use api::images::{Image, ImageAddress, Images, RepositoryBrief, TagOrder};
use api::{Page, Problem};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base::page::PageQuery;
use serde::Deserialize;

type Context = State<Arc<dyn Images>>;

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    search: String,
    limit: Option<String>,
    after: Option<String>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    order: TagOrder,
    limit: Option<String>,
    after: Option<String>,
}

/// `/api/v1/images` lists repositories (`search`), `/api/v1/images/NAME` tags (`order`: `newest`, `name` or `largest`),
/// and `/api/v1/images/NAME:TAG` or `NAME@DIGEST` shows an image. Lists are paged by `limit` and `after`.
pub fn images_routes(images: Arc<dyn Images>) -> Router {
    Router::new()
        .route("/api/v1/images", get(repositories))
        .route("/api/v1/images/{*address}", get(image))
        .with_state(images)
}

fn invalid(what: String) -> Problem {
    Problem::new(400, "request-invalid", "The request is not right").detail(what)
}

fn query<T>(queried: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    queried.map(|Query(query)| query).map_err(|rejection| invalid(rejection.body_text()))
}

async fn repositories(
    State(images): Context,
    queried: Result<Query<Search>, QueryRejection>,
) -> Result<Json<Page<RepositoryBrief>>, Problem> {
    let Search { search, limit, after } = query(queried)?;
    let page = PageQuery { limit, after }.request()?;
    Ok(Json(images.repositories(&search, &page).await?))
}

async fn image(
    State(images): Context,
    address: Result<Path<String>, PathRejection>,
    queried: Result<Query<Tags>, QueryRejection>,
) -> Result<Response, Problem> {
    let Path(address) = address.map_err(|rejection| invalid(rejection.body_text()))?;
    let ImageAddress { repository, reference } =
        address.parse().map_err(|error: oci::PathError| invalid(error.to_string()))?;
    if let Some(reference) = reference {
        let image: Image = images.image(&repository, &reference).await?;
        return Ok(Json(image).into_response());
    }
    let Tags { order, limit, after } = query(queried)?;
    let page = PageQuery { limit, after }.request()?;
    Ok(Json(images.tags(&repository, order, &page).await?).into_response())
}
