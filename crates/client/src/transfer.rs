//! Blobs: verified while they stream in and resumed where a connection broke; sent whole or in chunks.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderValue, StatusCode};
use oci::{ContentRange, Digest, Endpoint, Hasher, Reference, RepositoryName};
use reqwest::{Body, Response};
use url::Url;

use crate::request::{Scope, unreachable};
use crate::{Client, ClientError, guard};

/// How often one download goes on after its connection broke without having brought [`RESUME_BYTES_MIN`].
pub const BLOB_RESUMES_MAX: u32 = 5;
/// A connection that brought so much before it broke does not count: large blobs come over bad lines too.
pub const RESUME_BYTES_MIN: u64 = 1 << 20;
/// Blobs up to this are sent in one request, larger ones in chunks of this, each of which can be sent again.
pub const CHUNK_BYTES: usize = 16 << 20;
const CHUNK_ATTEMPTS_MAX: u32 = 4;
const SMALL_ATTEMPTS_MAX: u32 = 3;

const GIVE: &str = "give a blob";
const TAKE: &str = "take a blob";

/// Bytes with the error that ends them.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// A blob, from an offset on, as a registry sends it.
pub struct BlobOpen {
    /// Bytes of the whole, as the registry says.
    pub size: u64,
    /// Its bytes from the offset on: not verified, and ended by a connection that breaks.
    pub body: ByteStream,
}

struct Download {
    client: Client,
    reference: Reference,
    digest: Digest,
    size: u64,
    at: u64,
    hasher: Option<Hasher>,
    stream: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
    resumes: u32,
    /// Where this connection began.
    begun_at: u64,
    /// Bytes to be passed over, from a registry that begins anew instead of going on.
    skip: u64,
}

impl Download {
    async fn connect(&mut self) -> Result<(), ClientError> {
        let response = self.client.blob_request(&self.reference, &self.digest, self.at).await?;
        self.skip = if response.status() == StatusCode::OK { self.at } else { 0 };
        self.begun_at = self.at;
        self.stream = Some(response.bytes_stream().boxed());
        Ok(())
    }

    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            if self.stream.is_none() {
                self.connect().await.map_err(io::Error::other)?;
            }
            let next = match &mut self.stream {
                Some(stream) => stream.next().await,
                None => None,
            };
            match next {
                Some(Ok(bytes)) if self.skip > 0 => {
                    let skipped = self.skip.min(bytes.len() as u64);
                    self.skip -= skipped;
                    let rest = bytes.slice(skipped as usize..);
                    if !rest.is_empty() {
                        let stream = self.stream.take().unwrap_or_else(|| futures::stream::empty().boxed());
                        self.stream = Some(futures::stream::iter([Ok(rest)]).chain(stream).boxed());
                    }
                }
                Some(Ok(bytes)) if self.at + bytes.len() as u64 > self.size => {
                    return Err(io::Error::other(self.protocol("a blob longer than its manifest says")));
                }
                Some(Ok(bytes)) => {
                    self.at += bytes.len() as u64;
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&bytes);
                    }
                    // The last bytes are held back until all are known to be right.
                    if self.at == self.size {
                        self.verify()?;
                    }
                    return Ok(Some((bytes, self)));
                }
                None if self.at == self.size => {
                    self.verify()?;
                    return Ok(None);
                }
                None | Some(Err(_))
                    if self.resumes < BLOB_RESUMES_MAX || self.at - self.begun_at >= RESUME_BYTES_MIN =>
                {
                    self.resumes = if self.at - self.begun_at >= RESUME_BYTES_MIN { 0 } else { self.resumes + 1 };
                    self.stream = None;
                }
                None => {
                    return Err(io::Error::other(self.protocol("a blob that ends before its time, again and again")));
                }
                Some(Err(error)) => return Err(io::Error::other(unreachable(self.reference.host(), error))),
            }
        }
    }

    fn protocol(&self, reason: &str) -> ClientError {
        ClientError::Protocol { host: self.reference.host().to_owned(), reason: reason.to_owned() }
    }

    fn verify(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        let error = ClientError::DigestMismatch {
            host: self.reference.host().to_owned(),
            expected: Box::new(self.digest),
            found: Box::new(found),
        };
        Err(io::Error::other(error))
    }
}

impl Client {
    /// Asks for a blob from an offset on.
    async fn blob_request(&self, reference: &Reference, digest: &Digest, at: u64) -> Result<Response, ClientError> {
        let endpoint = Endpoint::Blob { repository: reference.repository().clone(), digest: *digest };
        let url = self.url(reference, &endpoint)?;
        let build = |http: &reqwest::Client| {
            let request = http.get(url.clone());
            if at == 0 { request } else { request.header(RANGE, format!("bytes={at}-")) }
        };
        let response = self.send(reference, Scope::Pull, GIVE, build).await?;
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()?.parse().ok());
        match (response.status(), at, range) {
            // The whole is taken too, where a part was asked for: what was had already is passed over.
            (StatusCode::OK, ..) => Ok(response),
            (StatusCode::PARTIAL_CONTENT, _, Some(ContentRange { first, .. })) if first == at => Ok(response),
            (StatusCode::PARTIAL_CONTENT, ..) => Err(ClientError::Protocol {
                host: reference.host().to_owned(),
                reason: "it does not give the range that was asked for".to_owned(),
            }),
            _ => Err(self.refused(reference, GIVE, format!("blob {digest}"), response).await),
        }
    }

    /// Asks for a blob from an offset on. The caller verifies it and goes on where the connection breaks.
    pub async fn blob_open(&self, reference: &Reference, digest: &Digest, at: u64) -> Result<BlobOpen, ClientError> {
        let response = self.blob_request(reference, digest, at).await?;
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let is_whole = response.status() == StatusCode::OK;
        let size = if is_whole {
            text(CONTENT_LENGTH).and_then(|text| text.parse().ok())
        } else {
            text(CONTENT_RANGE).and_then(|text| text.parse::<ContentRange>().ok()?.size)
        };
        let size = size.ok_or_else(|| ClientError::Protocol {
            host: reference.host().to_owned(),
            reason: format!("it does not say how long blob {digest} is"),
        })?;
        let mut passed_over = if is_whole { at } else { 0 };
        let rest = move |mut bytes: Bytes| {
            let had = usize::try_from(passed_over).unwrap_or(usize::MAX).min(bytes.len());
            passed_over -= had as u64;
            let rest = bytes.split_off(had);
            futures::future::ready(Ok((!rest.is_empty()).then_some(rest)))
        };
        let body = response.bytes_stream().map_err(|error| io::Error::other(error.without_url()));
        Ok(BlobOpen { size, body: body.try_filter_map(rest).boxed() })
    }

    /// A blob of `size` bytes. The stream fails instead of ending when the bytes are not those of the digest.
    pub async fn blob_get(&self, reference: &Reference, digest: &Digest, size: u64) -> Result<ByteStream, ClientError> {
        let mut download = Download {
            client: self.clone(),
            reference: reference.clone(),
            digest: *digest,
            size,
            at: 0,
            hasher: Some(digest.hasher()),
            stream: None,
            resumes: 0,
            begun_at: 0,
            skip: 0,
        };
        download.connect().await?;
        Ok(futures::stream::try_unfold(download, Download::next).boxed())
    }

    /// Lets the registry take a blob from another of its repositories. Says no when it would rather have the bytes.
    pub async fn blob_mount(
        &self,
        reference: &Reference,
        from: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, ClientError> {
        let mut url = self.url(reference, &Endpoint::Uploads { repository: reference.repository().clone() })?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.as_str());
        let build = |http: &reqwest::Client| http.post(url.clone()).header(CONTENT_LENGTH, 0);
        let response = self.send(reference, Scope::Mount(from), TAKE, build).await?;
        match response.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                let upload = self.location(reference, &url, &response)?;
                // An upload that nobody wants; that it stays until it expires does no harm.
                let _ = self.send(reference, Scope::Push, TAKE, |http| http.delete(upload.clone())).await;
                Ok(false)
            }
            _ => Err(self.refused(reference, TAKE, reference.to_string(), response).await),
        }
    }

    fn location(&self, reference: &Reference, from: &Url, response: &Response) -> Result<Url, ClientError> {
        let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let url = text.and_then(|text| from.join(text).ok()).ok_or_else(|| ClientError::Protocol {
            host: reference.host().to_owned(),
            reason: "an upload without a Location".to_owned(),
        })?;
        // The Authorization header goes along: only to the registry itself (a13).
        let reason = if url.origin() != from.origin() { Some("uploads stay with the registry") } else { None };
        match reason.or_else(|| guard::refusal(from, &url)) {
            Some(reason) => Err(ClientError::Untrusted {
                host: reference.host().to_owned(),
                target: url.origin().ascii_serialization(),
                reason,
            }),
            None => Ok(url),
        }
    }

    /// Pushes a blob.
    pub async fn blob_push(
        &self,
        reference: &Reference,
        digest: &Digest,
        size: u64,
        mut body: ByteStream,
    ) -> Result<(), ClientError> {
        let mut chunk = next_chunk(&mut body).await?;
        if size <= CHUNK_BYTES as u64 {
            return self.small_push(reference, digest, chunk).await;
        }
        let mut upload = self.upload_begin(reference).await?;
        let mut at = 0;
        while at < size {
            if chunk.is_empty() {
                return Err(ClientError::Source(io::ErrorKind::UnexpectedEof.into()));
            }
            let length = chunk.len() as u64;
            // The next one is read while this one is sent.
            let (sent, next) = tokio::join!(self.chunk_push(reference, upload, at, chunk), next_chunk(&mut body));
            (upload, chunk) = (sent?, next?);
            at += length;
        }
        let response = self.upload_end(reference, upload, digest, Bytes::new()).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            // The end was heard and its answer lost: then the upload is gone and the blob is there.
            StatusCode::NOT_FOUND if self.blob_head(reference, digest).await?.is_some() => Ok(()),
            _ => Err(self.refused(reference, TAKE, format!("blob {digest}"), response).await),
        }
    }

    /// Pushes a blob in one request, and anew where a broken connection left half of it in the upload.
    async fn small_push(&self, reference: &Reference, digest: &Digest, content: Bytes) -> Result<(), ClientError> {
        for attempt in 1.. {
            let upload = self.upload_begin(reference).await?;
            let response = self.upload_end(reference, upload, digest, content.clone()).await?;
            match response.status() {
                StatusCode::CREATED => break,
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
                    if attempt < SMALL_ATTEMPTS_MAX =>
                {
                    if self.blob_head(reference, digest).await?.is_some() {
                        break;
                    }
                }
                _ => return Err(self.refused(reference, TAKE, format!("blob {digest}"), response).await),
            }
        }
        Ok(())
    }

    async fn upload_begin(&self, reference: &Reference) -> Result<Url, ClientError> {
        let start = self.url(reference, &Endpoint::Uploads { repository: reference.repository().clone() })?;
        let build = |http: &reqwest::Client| http.post(start.clone()).header(CONTENT_LENGTH, 0);
        let response = self.send(reference, Scope::Push, TAKE, build).await?;
        match response.status() {
            StatusCode::ACCEPTED => self.location(reference, &start, &response),
            _ => Err(self.refused(reference, TAKE, reference.to_string(), response).await),
        }
    }

    async fn upload_end(
        &self,
        reference: &Reference,
        mut upload: Url,
        digest: &Digest,
        rest: Bytes,
    ) -> Result<Response, ClientError> {
        upload.query_pairs_mut().append_pair("digest", &digest.to_string());
        let build = |http: &reqwest::Client| {
            let request = http.put(upload.clone()).header(CONTENT_TYPE, "application/octet-stream");
            request.body(Body::from(rest.clone()))
        };
        self.send(reference, Scope::Push, TAKE, build).await
    }

    /// Sends one chunk; after a broken connection asks how far it came and sends the rest.
    async fn chunk_push(
        &self,
        reference: &Reference,
        mut upload: Url,
        at: u64,
        chunk: Bytes,
    ) -> Result<Url, ClientError> {
        let end = at + chunk.len() as u64;
        let mut held = at;
        for attempt in 1..=CHUNK_ATTEMPTS_MAX {
            let rest = chunk.slice((held - at) as usize..);
            let range = format!("{held}-{}", end - 1);
            let build = |http: &reqwest::Client| {
                let request = http.patch(upload.clone()).header(CONTENT_TYPE, "application/octet-stream");
                request.header(CONTENT_RANGE, &range).body(Body::from(rest.clone()))
            };
            match self.send(reference, Scope::Push, TAKE, build).await {
                Ok(response) if response.status() == StatusCode::ACCEPTED => {
                    return self.location(reference, &upload, &response);
                }
                Ok(response) if response.status() != StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Err(self.refused(reference, TAKE, "the upload".to_owned(), response).await);
                }
                Err(error) if attempt == CHUNK_ATTEMPTS_MAX => return Err(error),
                Ok(_) | Err(_) => {}
            }
            let status = self.send(reference, Scope::Push, TAKE, |http| http.get(upload.clone())).await?;
            if !status.status().is_success() {
                return Err(self.refused(reference, TAKE, "the upload".to_owned(), status).await);
            }
            // `0-0` stands for one byte or none: taking it for none costs a 416 at most.
            let last = status.headers().get(RANGE).map(HeaderValue::to_str).and_then(Result::ok);
            let last = last.and_then(|text| text.parse::<ContentRange>().ok()).map_or(0, |range| range.last);
            held = if last == 0 { 0 } else { last + 1 };
            upload = self.location(reference, &upload, &status).unwrap_or(upload);
            if held == end {
                return Ok(upload);
            }
            if held < at || held > end {
                break;
            }
        }
        Err(ClientError::Protocol {
            host: reference.host().to_owned(),
            reason: "an upload does not hold what it took".to_owned(),
        })
    }
}

/// Why a source stopped, in its own words where it is a registry.
fn stopped(error: io::Error) -> ClientError {
    error.downcast().unwrap_or_else(ClientError::Source)
}

/// Up to [`CHUNK_BYTES`], and less only at the end. A piece is never cut: the last may make it a little more.
async fn next_chunk(body: &mut ByteStream) -> Result<Bytes, ClientError> {
    let mut chunk = BytesMut::new();
    while chunk.len() < CHUNK_BYTES
        && let Some(bytes) = body.try_next().await.map_err(stopped)?
    {
        chunk.extend_from_slice(&bytes);
    }
    Ok(chunk.freeze())
}
