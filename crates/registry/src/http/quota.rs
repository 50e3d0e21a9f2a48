//! Uploads within a quota: refused before their bytes come where their length is known, broken off where it is not.

use std::sync::atomic::Ordering;

use http::header;
use oci::{Digest, RepositoryName, UploadName};

use super::Call;
use crate::Error;
use crate::quota::{Admitted, Room};

/// What is left for a blob of so many bytes, if that is known; none when no quota holds or the repository has the blob
/// already. It does not decide: what is kept in the end is held against what is left then.
async fn room(
    call: &Call<'_>,
    repository: &RepositoryName,
    digest: Option<&Digest>,
    bytes: Option<u64>,
) -> Result<Option<Room>, Error> {
    let room = match bytes {
        Some(bytes) => call.service.quotas.room_lately(&call.service.store, repository, bytes).await?,
        None => call.service.quotas.room(&call.service.store, repository).await?,
    };
    let Some(room) = room else { return Ok(None) };
    match digest {
        Some(digest) if call.service.store.blob_size(repository, digest).await?.is_some() => Ok(None),
        _ => Ok(Some(room)),
    }
}

/// Fails when the upload that a request begins, and with a digest also ends, cannot fit.
pub(super) async fn check(call: &Call<'_>, repository: &RepositoryName, digest: Option<&Digest>) -> Result<(), Error> {
    let bytes = digest.map_or(0, |_| length(call).unwrap_or_default());
    match room(call, repository, digest, Some(bytes)).await? {
        Some(room) => room.check(bytes),
        None => Ok(()),
    }
}

/// Adds bytes to an upload, which ends with them where a digest is given: then what is given back is to be kept until it
/// has ended. One that passes the quota is given up.
pub(super) async fn append(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &UploadName,
    offset: u64,
    body: blobs::Body,
    digest: Option<&Digest>,
) -> Result<(u64, Option<Admitted>), Error> {
    let whole = length(call).map(|length| offset.saturating_add(length));
    let Some(room) = room(call, repository, digest, whole).await? else {
        return Ok((call.service.blobs.upload_append(upload, offset, body).await?, None));
    };
    let outcome = within(call, &room, upload, offset, whole.unwrap_or(offset), body).await;
    let outcome = match outcome {
        // Others have pushed while these bytes came.
        Ok(size) if digest.is_some() => {
            let admitted = call.service.quotas.admit(&call.service.store, repository, size).await;
            admitted.map(|admitted| (size, admitted))
        }
        outcome => outcome.map(|size| (size, None)),
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
    whole: u64,
    body: blobs::Body,
) -> Result<u64, Error> {
    room.check(whole)?;
    let (body, over) = room.metered(offset, body);
    match call.service.blobs.upload_append(upload, offset, body).await {
        Err(_) if over.load(Ordering::Relaxed) => Err(room.exceeded(room.bytes().saturating_add(1))),
        appended => Ok(appended?),
    }
}

/// How long the request's body is, if it says so.
fn length(call: &Call<'_>) -> Option<u64> {
    call.header(header::CONTENT_LENGTH)?.parse().ok()
}
