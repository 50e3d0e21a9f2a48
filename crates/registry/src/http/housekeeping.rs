//! `/api/v1/registry/`: housekeeping now, what it found, and what it would remove.

use std::sync::Arc;

use api::registry::Going;
use api::{Micros, Page, Problem};
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::page::PageQuery;
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::authorise::{Action, Caller, authorise};
use crate::{Collected, DamagedBlob, DamagedManifest, PAGE_ITEMS_MAX, Service};

/// Routes for the hub's own port.
pub fn api_routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/api/v1/registry/collect", post(collect))
        .route("/api/v1/registry/damaged", get(damaged))
        .route("/api/v1/registry/retention", get(retention))
        .with_state(service)
}

/// Collects what the grace has run out for, without waiting for the next time that it would be looked for.
async fn collect(State(service): State<Arc<Service>>) -> Result<Json<Collected>, Problem> {
    authorise(&service, Caller::Port, Action::Delete, None)?;
    let collected = service.collect(Micros::now()).await?;
    collected.map(Json).ok_or_else(|| {
        Problem::new(409, "registry-collecting", "Another hub collects now")
            .hint("It does the whole work: its log says what went.")
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: Option<Digest>,
    after_manifest: Option<String>,
}

#[derive(Serialize)]
struct Damaged {
    blobs: Vec<DamagedBlob>,
    manifests: Vec<DamagedManifest>,
}

/// Blobs whose bytes are lost or wrong, and manifests whose bytes are wrong: a page of each, those after `after` (a digest)
/// and `after_manifest` (`REPOSITORY@DIGEST`).
async fn damaged(
    State(service): State<Arc<Service>>,
    query: Result<Query<After>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Damaged>, Problem> {
    authorise(&service, Caller::Port, Action::Pull, None)?;
    let invalid = |detail: String| Problem::new(400, "query-invalid", "The query cannot be read").detail(detail);
    let Query(After { after, after_manifest }) = query.map_err(|error| invalid(error.body_text()))?;
    let after_manifest = match after_manifest {
        None => None,
        Some(text) => {
            let place =
                text.split_once('@').and_then(|(name, digest)| Some((name.parse().ok()?, digest.parse().ok()?)));
            Some(place.ok_or_else(|| invalid("after_manifest is not REPOSITORY@DIGEST".to_owned()))?)
        }
    };
    let blobs = service.blobs_damaged(after.as_ref(), PAGE_ITEMS_MAX).await?;
    let manifests = service.manifests_damaged(after_manifest.as_ref(), PAGE_ITEMS_MAX).await?;
    Ok(Json(Damaged { blobs, manifests }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Within {
    repository: Option<RepositoryName>,
    limit: Option<String>,
    after: Option<String>,
}

/// What retention would remove now, and why.
async fn retention(
    State(service): State<Arc<Service>>,
    query: Result<Query<Within>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page<Going>>, Problem> {
    let Query(Within { repository, limit, after }) = query
        .map_err(|error| Problem::new(400, "query-invalid", "The query cannot be read").detail(error.body_text()))?;
    authorise(&service, Caller::Port, Action::Pull, repository.as_ref())?;
    let page = PageQuery { limit, after }.request()?;
    Ok(Json(service.retention_preview(repository.as_ref(), &page, Micros::now()).await?))
}
