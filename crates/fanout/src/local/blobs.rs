//! Blobs on their way to an engine: whole ones mapped, others while they arrive.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base::sendfile::SentFile;
use blobs::MappedFile;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE};
use http::{HeaderMap, Method, StatusCode};
use oci::{ByteRange, Digest, RepositoryName};

use super::Inner;
use super::answer::{Refusal, SOURCE, has_already, pass, set, set_digest, unchanged};
use super::fetch::{self, Coming};
use crate::store::StoreError;

pub(super) async fn get(
    inner: &Arc<Inner>,
    repository: RepositoryName,
    digest: Digest,
    headers: &HeaderMap,
    with_body: bool,
) -> Result<Response, Refusal> {
    let known = inner.store.length(&digest);
    if known.is_some() && has_already(headers, &digest) {
        return Ok(unchanged(&digest));
    }
    let path = format!("/v2/{repository}/blobs/{digest}");
    if !with_body {
        return match known {
            Some(length) => Ok(described(Body::empty(), &digest, length)),
            None => pass(inner, &Method::HEAD, path, headers).await,
        };
    }
    let source = match fetch::bring(inner, &repository, digest).await? {
        Coming::There => "disk",
        Coming::FromPeers => "peers",
        Coming::FromHub => "hub",
        // It cannot be kept here, which is no reason not to give it.
        Coming::Past => return pass(inner, &Method::GET, path, headers).await,
    };
    let length = inner.store.length(&digest).ok_or_else(|| gone(&digest))?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // A range that is not one byte range is ignored, as RFC 9110 says; so is one of other content than this.
    let is_of_this = header(IF_RANGE).is_none_or(|tag| tag.trim() == format!("\"{digest}\""));
    let range = header(RANGE).filter(|_| is_of_this).and_then(|text| text.parse::<ByteRange>().ok());
    let behind = |error: StoreError| Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", error.to_string());
    let range = match range.map(|range| range.resolve(length)).transpose() {
        Ok(range) => range,
        Err(_) => return Err(behind(StoreError::RangeUnsatisfiable { digest, length })),
    };
    let is_part = range.is_some();
    let read = inner.store.read(digest, range).await.map_err(|error| match error {
        error @ StoreError::RangeUnsatisfiable { .. } => behind(error),
        StoreError::NotFound { .. } => gone(&digest),
        error => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", error.to_string()),
    })?;
    let mut response = described(Body::from_stream(read.body), &digest, read.range.end - read.range.start);
    if let Some(MappedFile { file, addresses }) = read.mapped {
        response.extensions_mut().insert(SentFile { file, addresses });
    }
    if is_part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = read.range.end.saturating_sub(1);
        set(&mut response, CONTENT_RANGE, format_args!("bytes {}-{last}/{length}", read.range.start));
    }
    set(&mut response, SOURCE, source);
    Ok(response)
}

fn gone(digest: &Digest) -> Refusal {
    let text = format!("blob {digest} went while it was asked for; pull again");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", text)
}

fn described(body: Body, digest: &Digest, length: u64) -> Response {
    let mut response = Response::new(body);
    set(&mut response, CONTENT_LENGTH, length);
    set(&mut response, CONTENT_TYPE, "application/octet-stream");
    set(&mut response, ACCEPT_RANGES, "bytes");
    set(&mut response, CACHE_CONTROL, "max-age=31536000, immutable");
    set_digest(&mut response, digest);
    response
}
