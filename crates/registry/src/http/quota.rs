//! Uploads within a quota: refused before their bytes come where their length is known, broken off where it is not.

use std::sync::atomic::Ordering;

use http::header;
use oci::{Digest, RepositoryName, UploadName};

use super::Call;
use crate::Error;
use crate::quota::Room;

/// What is left for a blob; none when no quota holds or the repository has the blob already.
async fn room(call: &Call<'_>, repository: &RepositoryName, digest: Option<&Digest>) -> Result<Option<Room>, Error> {
    let Some(room) = call.service.quota_room(repository).await? else { return Ok(None) };
    match digest {
        Some(digest) if call.service.store.blob_size(repository, digest).await?.is_some() => Ok(None),
        _ => Ok(Some(room)),
    }
}

/// Fails when the upload that a request begins, and with a digest also ends, cannot fit.
pub(super) async fn check(call: &Call<'_>, repository: &RepositoryName, digest: Option<&Digest>) -> Result<(), Error> {
    match room(call, repository, digest).await? {
        Some(room) => room.check(digest.map_or(0, |_| length(call))),
        None => Ok(()),
    }
}

/// Adds bytes to an upload, which ends with them where a digest is given. One that passes the quota is given up.
pub(super) async fn append(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
    offset: u64,
    body: blobs::Body,
    digest: Option<&Digest>,
) -> Result<u64, Error> {
    let Some(room) = room(call, repository, digest).await? else {
        return Ok(call.service.blobs.upload_append(upload, offset, body).await?);
    };
    let outcome = within(call, &room, upload, offset, body).await;
    let outcome = match outcome {
        // Others have pushed while these bytes came.
        Ok(size) if size > offset && digest.is_some() => match call.service.quota_room(repository).await? {
            Some(room) => room.check(size).map(|()| size),
            None => Ok(size),
        },
        outcome => outcome,
    };
    if matches!(outcome, Err(Error::QuotaExceeded { .. })) {
        call.service.blobs.upload_cancel(upload).await?;
        call.service.store.upload_delete(upload).await?;
    }
    outcome
}

async fn within(
    call: &Call<'_>,
    room: &Room,
    upload: &UploadName,
    offset: u64,
    body: blobs::Body,
) -> Result<u64, Error> {
    room.check(offset.saturating_add(length(call)))?;
    let (body, over) = room.metered(offset, body);
    match call.service.blobs.upload_append(upload, offset, body).await {
        Err(_) if over.load(Ordering::Relaxed) => Err(room.exceeded(room.bytes().saturating_add(1))),
        appended => Ok(appended?),
    }
}

/// As far as the request says; 0 when it does not.
fn length(call: &Call<'_>) -> u64 {
    call.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()).unwrap_or_default()
}
