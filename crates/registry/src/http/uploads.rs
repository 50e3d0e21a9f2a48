//! Uploads: in one request, in two, or in chunks that follow one another; and mounts of blobs from other repositories.

use std::time::Duration;

use api::Micros;
use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use futures::StreamExt;
use http::{StatusCode, header};
use oci::{Algorithm, ContentRange, Digest, Endpoint, RepositoryName, UploadName};
use tracing::Instrument as _;

use super::{BODY_IDLE_MAX, Call, empty, quota, set, set_digest};
use crate::Error;
use crate::authorise::Action;
use crate::error::Code;

/// Repositories looked at when a mount does not say from which.
const MOUNT_SOURCES_MAX: u32 = 100;

/// How long, and how much of, a body is read that nobody wants any more.
const UNWANTED_MAX: Duration = Duration::from_secs(10);
const UNWANTED_BYTES_MAX: usize = 64 << 20;

pub(super) async fn create(call: &Call<'_>, repository: &RepositoryName, body: Body) -> Result<Response, Error> {
    // From here on it is read even if it is refused: a connection closed over unread bytes would take the answer along.
    let body = stream(body, None);
    if let Some(response) = mount(call, repository).await? {
        return Ok(response);
    }
    let digest = call.query.get("digest").map(digest).transpose()?;
    let named = call.query.get("digest-algorithm").map(algorithm).transpose()?;
    let algorithm = digest.as_ref().map(Digest::algorithm).or(named).unwrap_or(Algorithm::Sha256);
    quota::check(call, repository, digest.as_ref()).await?;
    let upload = call.service.blobs.upload_create(algorithm).await?;
    if let Err(error) = call.service.store.upload_create(repository, &upload, Micros::now()).await {
        call.service.blobs.upload_cancel(&upload).await?;
        return Err(error);
    }
    match digest {
        None => {
            let mut response = empty(StatusCode::ACCEPTED);
            describe(&mut response, repository, &upload, 0);
            Ok(response)
        }
        Some(digest) => {
            let (_, _admitted) = quota::append(call, repository, &upload, 0, body, Some(&digest)).await?;
            complete(call, repository, &upload, digest).await
        }
    }
}

fn algorithm(name: &str) -> Result<Algorithm, Error> {
    let what = || "digest-algorithm must be sha256 or sha512".to_owned();
    let found = Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
    found.ok_or_else(|| Error::Request { what: what(), code: Code::DigestInvalid })
}

/// A blob that another repository has becomes this one's too, if the caller may read it there (a06); when none is named,
/// any will do. Where that cannot be, an upload begins, as the specification says.
async fn mount(call: &Call<'_>, repository: &RepositoryName) -> Result<Option<Response>, Error> {
    let Some(blob) = call.query.get("mount") else { return Ok(None) };
    let digest = digest(blob)?;
    let has_it = match call.query.get("from").map(str::parse::<RepositoryName>) {
        Some(Err(error)) => return Err(Error::Path(oci::PathError::Repository(error))),
        Some(Ok(from)) => vec![from],
        None => call.service.store.blob_repositories(&digest, MOUNT_SOURCES_MAX).await?,
    };
    let Some(from) = has_it.iter().find(|from| call.authorise(Action::Pull, from).is_ok()) else {
        return Ok(None);
    };
    let _admitted = match call.service.store.blob_size(from, &digest).await? {
        Some(size) => call.service.quota_admit_blob(repository, &digest, size).await?,
        None => None,
    };
    let is_mounted = call.service.keeper.blob_mount(from, repository, digest).await?;
    Ok(is_mounted.then(|| created(repository, &digest)))
}

pub(super) async fn status(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
) -> Result<Response, Error> {
    known(call, repository, upload).await?;
    let size = match call.service.keeper.unrecorded.get(upload) {
        Some(blob) => blob.size,
        None => call.service.blobs.upload_size(upload).await?,
    };
    let mut response = empty(StatusCode::NO_CONTENT);
    describe(&mut response, repository, upload, size);
    Ok(response)
}

pub(super) async fn append(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
    body: Body,
) -> Result<Response, Error> {
    known(call, repository, upload).await?;
    let chunk = chunk(call, upload, body).await?;
    let (size, _) = quota::append(call, repository, upload, chunk.offset, chunk.body, None).await?;
    let mut response = empty(StatusCode::ACCEPTED);
    describe(&mut response, repository, upload, size);
    Ok(response)
}

pub(super) async fn finish(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
    body: Body,
) -> Result<Response, Error> {
    known(call, repository, upload).await?;
    let Some(wanted) = call.query.get("digest") else {
        let what = "the upload's digest is missing: end it with PUT …?digest=sha256:…".to_owned();
        return Err(Error::Request { what, code: Code::DigestInvalid });
    };
    let wanted = digest(wanted)?;
    let _admitted = if call.service.keeper.unrecorded.get(upload).is_some_and(|blob| blob.digest == wanted) {
        // What is sent again is verified already.
        drop(stream(body, None));
        None
    } else {
        let chunk = chunk(call, upload, body).await?;
        quota::append(call, repository, upload, chunk.offset, chunk.body, Some(&wanted)).await?.1
    };
    complete(call, repository, upload, wanted).await
}

pub(super) async fn cancel(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
) -> Result<Response, Error> {
    known(call, repository, upload).await?;
    call.service.blobs.upload_cancel(upload).await?;
    call.service.store.upload_delete(upload).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The last of an upload's bytes are there.
async fn complete(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
    digest: Digest,
) -> Result<Response, Error> {
    let keeper = call.service.keeper.clone();
    let (repository, upload) = (repository.clone(), upload.clone());
    // A task of its own: a caller that goes away must not leave bytes without their row.
    let publish = async move {
        keeper.upload_finish(&repository, &upload, digest).await?;
        Ok(created(&repository, &digest))
    };
    let finished = tokio::spawn(publish.instrument(tracing::trace_span!("blob publish")));
    finished.await.unwrap_or(Err(Error::Blob(blobs::BlobError::Interrupted)))
}

/// An upload is continued in the repository that it was begun in, and nowhere else (a05).
async fn known(call: &Call<'_>, repository: &RepositoryName, upload: &UploadName) -> Result<(), Error> {
    if call.service.store.upload_is_of(repository, upload).await? {
        return Ok(());
    }
    Err(Error::UploadUnknown { repository: repository.clone(), upload: upload.clone() })
}

/// Bytes of an upload, and where they belong.
struct Chunk {
    offset: u64,
    body: blobs::Body,
}

async fn chunk(call: &Call<'_>, upload: &UploadName, body: Body) -> Result<Chunk, Error> {
    Ok(match range(call)? {
        Some(range) => Chunk { offset: range.first, body: stream(body, Some(range.length())) },
        None => Chunk { offset: call.service.blobs.upload_size(upload).await?, body: stream(body, None) },
    })
}

/// Where a chunk lies, if the client says so. Its length must then be that of the body (a04).
fn range(call: &Call<'_>) -> Result<Option<ContentRange>, Error> {
    let Some(text) = call.header(header::CONTENT_RANGE) else { return Ok(None) };
    let invalid = |what: String| Error::Request { what, code: Code::SizeInvalid };
    let range: ContentRange = text.parse().map_err(|error: oci::RangeError| invalid(error.to_string()))?;
    let length = call.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    match length {
        Some(length) if length != range.length() => {
            Err(invalid(format!("Content-Range covers {} bytes and Content-Length says {length}", range.length())))
        }
        _ => Ok(Some(range)),
    }
}

fn digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|error| Error::Path(oci::PathError::Digest(error)))
}

/// The body as the store takes it; one that is silent for too long (a46), or longer than was announced (a04), breaks off.
fn stream(body: Body, bytes_max: Option<u64>) -> blobs::Body {
    let body = Incoming { bytes: Some(body.into_data_stream()), left: bytes_max.unwrap_or(u64::MAX) };
    futures::stream::unfold(body, |mut body| async move {
        let piece = tokio::time::timeout(BODY_IDLE_MAX, body.bytes.as_mut()?.next()).await;
        let piece = match piece {
            Ok(None) => {
                drop(body.bytes.take());
                return None;
            }
            Ok(Some(Ok(piece))) => match body.left.checked_sub(piece.len() as u64) {
                Some(left) => {
                    body.left = left;
                    return Some((Ok(piece), body));
                }
                None => {
                    let error = std::io::Error::other("the body is longer than its Content-Range");
                    return Some((Err(error), body));
                }
            },
            Ok(Some(Err(error))) => std::io::Error::other(error),
            Err(_) => std::io::ErrorKind::TimedOut.into(),
        };
        drop(body.bytes.take());
        Some((Err(piece), body))
    })
    .boxed()
}

/// A body that is read, for a while, after nobody wants it any more: the caller is still sending, and a connection that
/// is closed over unread bytes may take the answer along.
struct Incoming {
    bytes: Option<BodyDataStream>,
    left: u64,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let (Some(mut bytes), Ok(runtime)) = (self.bytes.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(tokio::time::timeout(UNWANTED_MAX, async move {
            let mut left = UNWANTED_BYTES_MAX;
            while let Some(Ok(piece)) = bytes.next().await
                && let Some(rest) = left.checked_sub(piece.len())
            {
                left = rest;
            }
        }));
    }
}

fn describe(response: &mut Response, repository: &RepositoryName, upload: &UploadName, size: u64) {
    let location = Endpoint::Upload { repository: repository.clone(), upload: upload.clone() };
    set(response, header::LOCATION, location);
    set(response, header::RANGE, format_args!("0-{}", size.saturating_sub(1)));
    set(response, header::HeaderName::from_static("docker-upload-uuid"), upload);
}

fn created(repository: &RepositoryName, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, header::LOCATION, Endpoint::Blob { repository: repository.clone(), digest: *digest });
    set_digest(&mut response, digest);
    response
}
