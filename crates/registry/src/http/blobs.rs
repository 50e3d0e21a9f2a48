//! Blobs: whole or in ranges, through a repository that has them.

use api::Micros;
use axum::body::Body;
use axum::response::Response;
use base::sendfile::SentFile;
use blobs::MappedFile;
use http::{StatusCode, header};
use oci::{ByteRange, Digest, RepositoryName};

use super::{Call, empty, set, set_digest, unchanged};
use crate::Error;

/// What a blob's bytes are to a browser: nothing that it should show.
const MEDIA_TYPE: &str = "application/octet-stream";

pub(super) async fn get(call: &Call<'_>, repository: &RepositoryName, digest: &Digest) -> Result<Response, Error> {
    let found = call.service.blob_find(repository, digest).await?;
    let size = found.size();
    if call.has_already(digest) {
        return Ok(unchanged(digest));
    }
    // A range that is not one byte range is ignored, as RFC 9110 says; so is one of other content than this.
    let is_of_this = call.header(header::IF_RANGE).is_none_or(|tag| tag.trim() == format!("\"{digest}\""));
    let range = call.header(header::RANGE).filter(|_| is_of_this).and_then(|text| text.parse::<ByteRange>().ok());
    let range = match range.map(|range| range.resolve(size)).transpose() {
        Ok(range) => range,
        Err(_) => return Err(Error::Blob(blobs::BlobError::RangeUnsatisfiable { digest: *digest, size })),
    };
    let partial = range.is_some();
    let sent = range.clone().unwrap_or(0..size);
    let (body, mapped) = call.service.blob_body(found, digest, range).await?;
    let mut response = Response::new(Body::from_stream(body));
    if let Some(MappedFile { file, addresses }) = mapped {
        response.extensions_mut().insert(SentFile { file, addresses });
    }
    set(&mut response, header::CONTENT_LENGTH, sent.end - sent.start);
    if partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = sent.end.saturating_sub(1);
        set(&mut response, header::CONTENT_RANGE, format_args!("bytes {}-{last}/{size}", sent.start));
    }
    describe(&mut response, digest);
    Ok(response)
}

pub(super) async fn head(call: &Call<'_>, repository: &RepositoryName, digest: &Digest) -> Result<Response, Error> {
    let size = call.service.blob_length(repository, digest).await?;
    if !call.service.blob_promise(repository, *digest).await? {
        return Err(Error::BlobUnknown { repository: repository.clone(), digest: *digest });
    }
    if call.has_already(digest) {
        return Ok(unchanged(digest));
    }
    let mut response = empty(StatusCode::OK);
    set(&mut response, header::CONTENT_LENGTH, size);
    describe(&mut response, digest);
    Ok(response)
}

pub(super) async fn delete(call: &Call<'_>, repository: &RepositoryName, digest: Digest) -> Result<Response, Error> {
    if call.service.store.blob_unlink(repository, digest, Micros::now()).await? {
        Ok(empty(StatusCode::ACCEPTED))
    } else {
        Err(Error::BlobUnknown { repository: repository.clone(), digest })
    }
}

fn describe(response: &mut Response, digest: &Digest) {
    set(response, header::CONTENT_TYPE, MEDIA_TYPE);
    set(response, header::ACCEPT_RANGES, "bytes");
    set(response, header::ETAG, format_args!("\"{digest}\""));
    set(response, header::CACHE_CONTROL, "max-age=31536000, immutable");
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set_digest(response, digest);
}
