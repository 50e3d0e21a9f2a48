//! Uploads: in one request, in two, or in chunks that follow one another; and mounts of blobs from other repositories.

use api::Micros;
use axum::body::Body;
use axum::response::Response;
use futures::{StreamExt, TryStreamExt};
use http::{StatusCode, header};
use oci::{ContentRange, Digest, Endpoint, RepositoryName, UploadName};

use super::{BODY_IDLE_MAX, Call, empty, set, set_digest};
use crate::Error;
use crate::authorise::Action;
use crate::error::Code;

pub(super) async fn create(call: &Call<'_>, repository: &RepositoryName, body: Body) -> Result<Response, Error> {
    if let Some(response) = mount(call, repository).await? {
        return Ok(response);
    }
    let digest = call.query.get("digest").map(digest).transpose()?;
    let upload = call.service.blobs.upload_create().await?;
    call.service.store.upload_create(repository, &upload, Micros::now()).await?;
    match digest {
        None => {
            let mut response = empty(StatusCode::ACCEPTED);
            describe(&mut response, repository, &upload, 0);
            Ok(response)
        }
        Some(digest) => complete(call, repository, &upload, 0, digest, body).await,
    }
}

/// A blob that another repository has becomes this one's too, if the caller may read it there (a06). Where that cannot
/// be, an upload begins, as the specification says.
async fn mount(call: &Call<'_>, repository: &RepositoryName) -> Result<Option<Response>, Error> {
    let (Some(blob), Some(from)) = (call.query.get("mount"), call.query.get("from")) else { return Ok(None) };
    let digest = digest(blob)?;
    let from: RepositoryName = from.parse().map_err(|error| Error::Path(oci::PathError::Repository(error)))?;
    if call.authorise(Action::Pull, &from).is_err() {
        return Ok(None);
    }
    let is_mounted = call.service.keeper.blob_mount(&from, repository, digest).await?;
    Ok(is_mounted.then(|| created(repository, &digest)))
}

pub(super) async fn status(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
) -> Result<Response, Error> {
    known(call, repository, upload).await?;
    let size = call.service.blobs.upload_size(upload).await?;
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
    let offset = match range(call)? {
        Some(range) => range.first,
        None => call.service.blobs.upload_size(upload).await?,
    };
    let size = call.service.blobs.upload_append(upload, offset, stream(body)).await?;
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
    let offset = match range(call)? {
        Some(range) => range.first,
        None => call.service.blobs.upload_size(upload).await?,
    };
    complete(call, repository, upload, offset, wanted, body).await
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

async fn complete(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
    offset: u64,
    digest: Digest,
    body: Body,
) -> Result<Response, Error> {
    call.service.blobs.upload_append(upload, offset, stream(body)).await?;
    let keeper = call.service.keeper.clone();
    let (repository, upload) = (repository.clone(), upload.clone());
    // A task of its own: a caller that goes away must not leave bytes without their row.
    let finished = tokio::spawn(async move {
        keeper.upload_finish(&repository, &upload, digest).await?;
        Ok(created(&repository, &digest))
    });
    finished.await.unwrap_or(Err(Error::Blob(blobs::BlobError::Interrupted)))
}

/// An upload is continued in the repository that it was begun in, and nowhere else (a05).
async fn known(call: &Call<'_>, repository: &RepositoryName, upload: &UploadName) -> Result<(), Error> {
    if call.service.store.upload_is_of(repository, upload).await? {
        return Ok(());
    }
    Err(Error::UploadUnknown { repository: repository.clone(), upload: upload.clone() })
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

/// The body as the store takes it; one that is silent for too long breaks off (a46).
fn stream(body: Body) -> blobs::Body {
    let bytes = body.into_data_stream().map_err(std::io::Error::other);
    futures::stream::unfold(Some(bytes), |bytes| async move {
        let mut bytes = bytes?;
        match tokio::time::timeout(BODY_IDLE_MAX, bytes.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(bytes))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    })
    .boxed()
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
