//! Manifests and indexes: by digest from the store where they are, otherwise from the hub; by tag from the hub, or, while it
//! is away, what the tag was last.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use oci::{Digest, Document, MANIFEST_BYTES_MAX, ManifestReference, RepositoryName};

use super::Inner;
use super::answer::{Refusal, SOURCE, ask, has_already, read, set, set_digest, unchanged};
use crate::store::ImageRecord;

pub(super) async fn get(
    inner: &Arc<Inner>,
    repository: RepositoryName,
    reference: ManifestReference,
    headers: &HeaderMap,
    with_body: bool,
) -> Result<Response, Refusal> {
    if let ManifestReference::Digest(digest) = &reference
        && let Some(record) = kept(inner, *digest).await.filter(|record| record.repository == repository)
    {
        return Ok(respond(&record, "disk", headers, with_body));
    }
    let path = match &reference {
        ManifestReference::Digest(digest) => format!("/v2/{repository}/manifests/{digest}"),
        ManifestReference::Tag(tag) => format!("/v2/{repository}/manifests/{tag}"),
    };
    // Whether it changed is answered from here, where it is kept in any case.
    let mut wanted = headers.clone();
    wanted.remove(http::header::IF_NONE_MATCH);
    let refusal = match ask(inner, Method::GET, path, &wanted).await {
        Ok(answer) if answer.status() == StatusCode::OK => {
            let record = taken(inner, repository, &reference, answer).await?;
            return Ok(respond(&record, "hub", headers, with_body));
        }
        Ok(answer) if !answer.status().is_server_error() => return Err(Refusal::of_hub(answer).await),
        Ok(answer) => Refusal::of_hub(answer).await,
        Err(refusal) => refusal,
    };
    let last = match &reference {
        ManifestReference::Digest(digest) => Some(*digest),
        ManifestReference::Tag(tag) => inner.store.tag(&repository, tag),
    };
    match last {
        Some(digest) => match kept(inner, digest).await.filter(|record| record.repository == repository) {
            Some(record) => {
                tracing::warn!(%repository, ?reference, %digest, why = refusal.text, "the hub does not answer: what the tag was last is used");
                Ok(respond(&record, "disk", headers, with_body))
            }
            None => Err(refusal),
        },
        None => Err(refusal),
    }
}

async fn kept(inner: &Inner, digest: Digest) -> Option<ImageRecord> {
    inner.store.image(digest).await.unwrap_or_else(|error| {
        tracing::warn!(%digest, %error, "a manifest that is kept cannot be read");
        None
    })
}

/// Takes the hub's answer, verified, and keeps it.
async fn taken(
    inner: &Inner,
    repository: RepositoryName,
    reference: &ManifestReference,
    answer: reqwest::Response,
) -> Result<ImageRecord, Refusal> {
    let wrong = |why: String| Refusal::new(StatusCode::BAD_GATEWAY, "MANIFEST_INVALID", why);
    let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let body = read(answer, MANIFEST_BYTES_MAX).await.map_err(Refusal::hub_away)?;
    let document = Document::parse(&body, media_type.as_deref()).map_err(|error| wrong(error.to_string()))?;
    let digest = match reference {
        ManifestReference::Digest(digest) if digest.matches(&body) => *digest,
        ManifestReference::Digest(digest) => return Err(wrong(format!("what the hub sent is not {digest}"))),
        ManifestReference::Tag(_) => Digest::sha256_of(&body),
    };
    let manifest = String::from_utf8(body.to_vec()).map_err(|error| wrong(error.to_string()))?;
    let media_type = document.media_type.to_owned();
    let record = ImageRecord { digest, repository: repository.clone(), media_type, manifest, grant: None };
    // What cannot be kept can be given on all the same.
    if let Err(error) = inner.store.image_keep(record.clone()).await {
        tracing::warn!(%digest, %error, "a manifest is not kept");
    } else if let ManifestReference::Tag(tag) = reference
        && let Err(error) = inner.store.tag_keep(repository, tag.clone(), digest).await
    {
        tracing::warn!(%digest, %error, "a tag is not remembered");
    }
    Ok(record)
}

fn respond(record: &ImageRecord, source: &str, headers: &HeaderMap, with_body: bool) -> Response {
    if has_already(headers, &record.digest) {
        return unchanged(&record.digest);
    }
    let body = if with_body { Body::from(record.manifest.clone()) } else { Body::empty() };
    let mut response = Response::new(body);
    set(&mut response, CONTENT_TYPE, &record.media_type);
    set(&mut response, CONTENT_LENGTH, record.manifest.len());
    set(&mut response, SOURCE, source);
    set_digest(&mut response, &record.digest);
    response
}
