//! Manifests, byte for byte.

use api::Micros;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use oci::{Endpoint, MANIFEST_BYTES_MAX, ManifestReference, PathError, RepositoryName, Tag};

use super::{BODY_IDLE_MAX, Call, DOCKER_CONTENT_DIGEST, empty, set, set_digest, unchanged};
use crate::{Error, TAGS_PER_PUSH_MAX};

/// What a manifest is sent with, and room for what layers add.
const MANIFEST_HEADERS: usize = 8;

pub(super) async fn get(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &ManifestReference,
    with_body: bool,
) -> Result<Response, Error> {
    let found = call.service.manifest_find(repository, reference).await?;
    let Some(ready) = found else { return Err(unknown(repository, reference)) };
    if !with_body
        && let ManifestReference::Digest(digest) = reference
        && !call.service.manifest_promise(repository, *digest).await?
    {
        return Err(unknown(repository, reference));
    }
    if call.has_already(&ready.manifest.digest) {
        return Ok(unchanged(&ready.manifest.digest));
    }
    let mut headers = HeaderMap::with_capacity(MANIFEST_HEADERS);
    headers.insert(header::CONTENT_LENGTH, ready.content_length.clone());
    headers.insert(header::CONTENT_TYPE, ready.content_type.clone());
    headers.insert(header::ETAG, ready.etag.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(DOCKER_CONTENT_DIGEST, ready.digest.clone());
    let mut response = Response::new(if with_body { Body::from(ready.manifest.bytes.clone()) } else { Body::empty() });
    *response.headers_mut() = headers;
    Ok(response)
}

pub(super) async fn put(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &ManifestReference,
    body: Body,
) -> Result<Response, Error> {
    // One byte more than is allowed: enough to know that it is too long (a02).
    let reading = tokio::time::timeout(BODY_IDLE_MAX, to_bytes(body, MANIFEST_BYTES_MAX + 1));
    let silent = || Error::ManifestBody { reason: "its bytes stopped coming".to_owned(), too_long: false };
    let bytes = reading.await.map_err(|_| silent())?.map_err(|error| {
        let reason = error.to_string();
        let too_long = reason.contains("length limit");
        Error::ManifestBody { reason, too_long }
    })?;
    let tags = tags(call, reference)?;
    let content_type = call.header(header::CONTENT_TYPE);
    let taken = call.service.manifest_take(repository, reference, &tags, content_type, bytes).await?;
    let by_digest =
        Endpoint::Manifest { repository: repository.clone(), reference: ManifestReference::Digest(taken.digest) };
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, by_digest);
    set_digest(&mut response, &taken.digest);
    if let Some(subject) = taken.subject {
        set(&mut response, header::HeaderName::from_static("oci-subject"), subject);
    }
    for tag in tags {
        if let Ok(value) = HeaderValue::try_from(tag.as_str()) {
            response.headers_mut().append(header::HeaderName::from_static("oci-tag"), value);
        }
    }
    Ok(response)
}

/// The tags that a manifest pushed by digest gets in the same step.
fn tags(call: &Call<'_>, reference: &ManifestReference) -> Result<Vec<Tag>, Error> {
    if matches!(reference, ManifestReference::Tag(_)) {
        return Ok(Vec::new());
    }
    let tags = call.query.all("tag").map(|tag| tag.parse().map_err(|error| Error::Path(PathError::Tag(error))));
    let tags: Vec<Tag> = tags.collect::<Result<_, _>>()?;
    if tags.len() > TAGS_PER_PUSH_MAX { Err(Error::TooManyTags { count: tags.len() }) } else { Ok(tags) }
}

pub(super) async fn delete(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &ManifestReference,
) -> Result<Response, Error> {
    let was_there = match reference {
        ManifestReference::Tag(tag) => call.service.store.tag_delete(repository, tag, Micros::now()).await?,
        ManifestReference::Digest(digest) => {
            call.service.store.manifest_delete(repository, *digest, Micros::now()).await?
        }
    };
    if was_there { Ok(empty(StatusCode::ACCEPTED)) } else { Err(unknown(repository, reference)) }
}

fn unknown(repository: &RepositoryName, reference: &ManifestReference) -> Error {
    Error::ManifestUnknown { repository: repository.clone(), reference: reference.clone() }
}
