//! Lists: repositories, tags, referrers. Paged by `n` and `last`, with a `Link` to what follows; a larger `n` than is
//! allowed is taken as the most that is (a01).

use axum::body::Body;
use axum::response::Response;
use http::{StatusCode, header};
use oci::{Digest, Endpoint, MANIFEST_BYTES_MAX, Query, RepositoryName, media};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Call, empty, set};
use crate::authorise::authorise_catalog;
use crate::error::Code;
use crate::store::Referrer;
use crate::{Error, PAGE_ITEMS_MAX};

/// What a referrer's media types, digest and size take at most, as a rule.
const REFERRER_BYTES_BESIDES_ANNOTATIONS: usize = 512;

pub(super) async fn catalog(call: &Call<'_>) -> Result<Response, Error> {
    authorise_catalog(call.service, call.caller)?;
    let (limit, last) = page(call)?;
    let mut names = call.service.store.repositories(last, limit + 1).await?;
    let next = next(&mut names, limit, &Endpoint::Catalog);
    Ok(answer(&json!({ "repositories": names }), "application/json", next))
}

pub(super) async fn tags(call: &Call<'_>, repository: &RepositoryName) -> Result<Response, Error> {
    let (limit, last) = page(call)?;
    let tags = match call.service.upstreams.of(repository) {
        Some(upstream) => upstream.tags(repository, last, limit + 1).await?,
        None => call.service.store.tags(repository, last, limit + 1).await?,
    };
    let mut tags = tags.ok_or_else(|| Error::RepositoryUnknown { repository: repository.clone() })?;
    let next = next(&mut tags, limit, &Endpoint::Tags { repository: repository.clone() });
    Ok(answer(&json!({ "name": repository, "tags": tags }), "application/json", next))
}

pub(super) async fn referrers(
    call: &Call<'_>,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response, Error> {
    let (limit, last) = page(call)?;
    let wanted = call.query.get("artifactType").filter(|wanted| !wanted.is_empty());
    let mut referrers = match call.service.upstreams.of(repository) {
        Some(upstream) => upstream.referrers(repository, digest, wanted, last, limit + 1).await?,
        None => call.service.store.referrers(repository, digest, wanted, last, limit + 1).await?,
    };
    let fitting = fitting(&referrers, limit);
    let more = referrers.len() > fitting;
    referrers.truncate(fitting);
    let next = referrers.last().filter(|_| more).map(|last| {
        let path = Endpoint::Referrers { repository: repository.clone(), digest: *digest };
        let query = Query::default().with("n", limit).with("last", last.digest);
        link(&path, &wanted.iter().fold(query, |query, wanted| query.with("artifactType", wanted)))
    });
    let manifests: Vec<Value> = referrers.iter().map(descriptor).collect::<Result<_, Error>>()?;
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests });
    let mut response = answer(&index, media::OCI_INDEX, next);
    if wanted.is_some() {
        set(&mut response, header::HeaderName::from_static("oci-filters-applied"), "artifactType");
    }
    Ok(response)
}

/// How many of these a page takes: an answer stays as short as the manifests that clients accept, but never empty.
fn fitting(referrers: &[Referrer], limit: u32) -> usize {
    let mut bytes = 0;
    let fits = |referrer: &&Referrer| {
        bytes += referrer.annotations.len() + REFERRER_BYTES_BESIDES_ANNOTATIONS;
        bytes <= MANIFEST_BYTES_MAX
    };
    let fitting = referrers.iter().take(limit as usize).take_while(fits).count();
    fitting.max(referrers.len().min(limit as usize).min(1))
}

fn descriptor(referrer: &Referrer) -> Result<Value, Error> {
    let damaged = |error: serde_json::Error| Error::Damaged { what: format!("annotations: {error}") };
    let annotations: Box<RawValue> = serde_json::from_str(&referrer.annotations).map_err(damaged)?;
    let mut descriptor = json!({ "mediaType": referrer.media_type, "digest": referrer.digest, "size": referrer.size });
    if let Some(artifact_type) = &referrer.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if annotations.get() != "{}" {
        descriptor["annotations"] = serde_json::to_value(annotations).map_err(damaged)?;
    }
    Ok(descriptor)
}

fn page<'a>(call: &'a Call<'_>) -> Result<(u32, &'a str), Error> {
    let limit = match call.query.get("n") {
        None => PAGE_ITEMS_MAX,
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_or(PAGE_ITEMS_MAX, |n: u32| n.min(PAGE_ITEMS_MAX))
        }
        Some(_) => {
            return Err(Error::Request { what: "n must be a whole number".to_owned(), code: Code::SizeInvalid });
        }
    };
    Ok((limit, call.query.get("last").unwrap_or_default()))
}

/// Cuts a list that was asked for with one item more than its limit, and says where it goes on.
fn next(items: &mut Vec<String>, limit: u32, path: &Endpoint) -> Option<String> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let last = items.last().filter(|_| more)?;
    Some(link(path, &Query::default().with("n", limit).with("last", last)))
}

fn link(path: &Endpoint, query: &Query) -> String {
    format!("<{path}?{query}>; rel=\"next\"")
}

fn answer(document: &Value, media_type: &str, next: Option<String>) -> Response {
    let mut response = empty(StatusCode::OK);
    *response.body_mut() = Body::from(document.to_string());
    set(&mut response, header::CONTENT_TYPE, media_type);
    if let Some(next) = next {
        set(&mut response, header::LINK, next);
    }
    response
}
