//! The fetching of a blob: one connection to the upstream, gone on with where it breaks, for any number of readers.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::blobs::{BLOB_BYTES_MAX, BlobError, BlobInfo};
use bytes::Bytes;
use client::ByteStream;
use futures::StreamExt;
use oci::{Digest, Reference, RepositoryName, UploadName};
use tokio::sync::watch;

use super::flight::locked;
use super::{ABSENT_HOLDS, ANSWER_WAIT, Upstream, UpstreamError, WRONG_HOLDS};

/// How often one fetch goes on after its connection broke.
const RESUMES_MAX: u32 = 10;
/// The pause before the first of them; it doubles with each.
const RESUME_PAUSE_FIRST: Duration = Duration::from_millis(100);
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A connection that brings fewer bytes than this in each of these spans is given up (a46).
const PACE_SPAN: Duration = Duration::from_secs(60);
const PACE_BYTES_MIN: u64 = 64 << 10;
/// A fetch that nobody reads for so long …
const UNREAD_MAX: Duration = Duration::from_secs(10);
/// … goes on when no more than this is missing: the next client will want it. Else it ends, and nothing is kept.
const UNREAD_BYTES_MAX: u64 = 256 << 20;

/// A blob on its way here.
pub(super) struct Fetch {
    pub(super) digest: Digest,
    /// Repositories that the upstream said have it; none once they have got their link.
    pub(super) repositories: Mutex<Option<HashSet<RepositoryName>>>,
    pub(super) state: watch::Sender<State>,
    pub(super) readers: AtomicUsize,
}

#[derive(Clone)]
pub(super) enum State {
    /// The upstream is asked.
    Asking,
    /// Its bytes arrive.
    Open(Growing),
    /// It is here, verified.
    Whole { size: u64 },
    /// It is not to be had.
    Failed(UpstreamError),
}

/// An upload that grows.
#[derive(Clone)]
pub(super) struct Growing {
    pub(super) size: u64,
    pub(super) upload: UploadName,
    /// Bytes that can be read by now, of which nobody has verified any.
    pub(super) grown: watch::Receiver<u64>,
}

impl Fetch {
    pub(super) fn new(digest: Digest, repository: RepositoryName) -> Self {
        Self {
            digest,
            repositories: Mutex::new(Some(HashSet::from([repository]))),
            state: watch::Sender::new(State::Asking),
            readers: AtomicUsize::new(0),
        }
    }

    fn is_unread(&self) -> bool {
        self.readers.load(Ordering::SeqCst) == 0
    }
}

impl Upstream {
    /// Fetches a blob to its end, whoever waits for it.
    pub(super) async fn fetch(self: Arc<Self>, fetch: Arc<Fetch>, repository: RepositoryName) {
        let outcome = self.fetch_whole(&fetch, &repository).await;
        let state = match outcome {
            Ok(blob) => State::Whole { size: blob.size },
            Err(error) => {
                match &error {
                    UpstreamError::NotFound { .. } => {
                        self.failed.put((repository.clone(), fetch.digest), error.clone(), ABSENT_HOLDS);
                    }
                    UpstreamError::Wrong { .. } => {
                        tracing::error!(%repository, blob = %fetch.digest, %error, "a blob is refused");
                        self.failed.put((repository.clone(), fetch.digest), error.clone(), WRONG_HOLDS);
                    }
                    _ => tracing::warn!(%repository, blob = %fetch.digest, %error, "a blob could not be fetched"),
                }
                State::Failed(error)
            }
        };
        locked(&self.fetches).remove(&fetch.digest);
        fetch.state.send_replace(state);
    }

    async fn fetch_whole(
        self: &Arc<Self>,
        fetch: &Arc<Fetch>,
        repository: &RepositoryName,
    ) -> Result<BlobInfo, UpstreamError> {
        let mut source = self.source(repository, fetch.digest).await?;
        self.counts.blobs_fetched.increment();
        source.fetch = Some(Arc::clone(fetch));
        let (size, upload) = (source.size, self.blobs.upload_create(fetch.digest.algorithm()).await?);
        let (sender, grown) = watch::channel(0);
        fetch.state.send_replace(State::Open(Growing { size, upload: upload.clone(), grown }));
        let arrived = self.blobs.upload_grow(&upload, source.into_body(), sender).await;
        if let Err(error) = arrived {
            // Gone already, where the store could not write.
            let _ = self.blobs.upload_cancel(&upload).await;
            return Err(self.broken(error));
        }
        let _held = self.keeper.holds.hold(fetch.digest).await;
        let blob = self.blobs.upload_finish(&upload, &fetch.digest).await.map_err(|error| self.broken(error))?;
        // Whoever comes from now on finds the link, or makes one for a repository of its own.
        while let Some(repository) = next_repository(fetch) {
            self.keeper.blob_link(&repository, blob).await?;
        }
        Ok(blob)
    }

    /// The blob's bytes from the upstream, not verified.
    pub(super) async fn source(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Source, UpstreamError> {
        let reference = self.reference_or_absent(repository)?;
        let opened = self.ask(ANSWER_WAIT, self.client.blob_open(&reference, &digest, 0)).await?;
        let wrong = |reason: String| UpstreamError::Wrong { host: self.host.clone(), reason };
        if opened.size > BLOB_BYTES_MAX {
            return Err(wrong(format!("{digest} is said to have {} bytes", opened.size)));
        }
        if opened.size == 0 && !digest.matches(b"") {
            return Err(wrong(format!("{digest} is said to be empty")));
        }
        Ok(Source {
            upstream: Arc::clone(self),
            reference,
            digest,
            size: opened.size,
            at: 0,
            stream: Some(opened.body),
            resumes: 0,
            pace: (Instant::now(), 0),
            fetch: None,
            unread_since: None,
        })
    }

    pub(super) fn broken(&self, error: BlobError) -> UpstreamError {
        let host = self.host.clone();
        match error {
            BlobError::DigestMismatch { .. } => UpstreamError::Wrong { host, reason: error.to_string() },
            BlobError::Body(source) if source.kind() == io::ErrorKind::InvalidData => {
                UpstreamError::Wrong { host, reason: source.to_string() }
            }
            BlobError::Body(source) => UpstreamError::Unavailable { host, reason: source.to_string() },
            error => error.into(),
        }
    }
}

/// Takes one of the repositories that wait for their link; after the last none can be added.
fn next_repository(fetch: &Fetch) -> Option<RepositoryName> {
    let mut waiting = locked(&fetch.repositories);
    let repositories = waiting.as_mut()?;
    let next = repositories.iter().next().cloned();
    match &next {
        Some(repository) => {
            repositories.remove(repository);
        }
        None => *waiting = None,
    }
    next
}

/// The bytes of a blob as an upstream sends them, over as many connections as it takes. Nobody has verified them.
pub(super) struct Source {
    upstream: Arc<Upstream>,
    reference: Reference,
    digest: Digest,
    size: u64,
    at: u64,
    stream: Option<ByteStream>,
    resumes: u32,
    /// When the present span began, and where.
    pace: (Instant, u64),
    fetch: Option<Arc<Fetch>>,
    unread_since: Option<Instant>,
}

impl Source {
    pub(super) fn into_body(self) -> ::blobs::Body {
        futures::stream::try_unfold(self, Self::next).boxed()
    }

    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            if self.at == self.size {
                return Ok(None);
            }
            self.unread_check()?;
            let Some(stream) = &mut self.stream else {
                self.resume().await?;
                continue;
            };
            let reason = match tokio::time::timeout(SILENCE_MAX, stream.next()).await {
                Ok(Some(Ok(bytes))) if bytes.len() as u64 > self.size - self.at => {
                    let text = format!("{} is longer than the {} bytes that were announced", self.digest, self.size);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Ok(Some(Ok(bytes))) => {
                    self.at += bytes.len() as u64;
                    self.upstream.counts.bytes.add(bytes.len() as u64);
                    if !self.keeps_pace() {
                        self.stream = None;
                    }
                    return Ok(Some((bytes, self)));
                }
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "the connection ended too early".to_owned(),
                Err(_) => "nothing came any more".to_owned(),
            };
            tracing::debug!(blob = %self.digest, at = self.at, reason, "a fetch broke off");
            self.stream = None;
        }
    }

    /// Goes on with a new connection where the last one broke.
    async fn resume(&mut self) -> io::Result<()> {
        loop {
            if self.resumes >= RESUMES_MAX {
                let text = format!("the connection broke {RESUMES_MAX} times; {} of {} bytes came", self.at, self.size);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            let pause = RESUME_PAUSE_FIRST.saturating_mul(1 << self.resumes.min(16)).min(RESUME_PAUSE_MAX);
            self.resumes += 1;
            tokio::time::sleep(pause).await;
            self.unread_check()?;
            let open = self.upstream.client.blob_open(&self.reference, &self.digest, self.at);
            match self.upstream.ask(ANSWER_WAIT, open).await {
                Ok(opened) if opened.size == self.size => {
                    self.stream = Some(opened.body);
                    self.pace = (Instant::now(), self.at);
                    return Ok(());
                }
                Ok(opened) => {
                    let text = format!("{} has {} bytes, then {}", self.digest, self.size, opened.size);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Err(UpstreamError::Unavailable { .. }) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn keeps_pace(&mut self) -> bool {
        let (since, from) = self.pace;
        if since.elapsed() < PACE_SPAN {
            return true;
        }
        self.pace = (Instant::now(), self.at);
        self.at - from >= PACE_BYTES_MIN
    }

    /// Fails when a long fetch is of no use to anyone.
    fn unread_check(&mut self) -> io::Result<()> {
        let is_unread = self.fetch.as_ref().is_some_and(|fetch| fetch.is_unread());
        if !is_unread || self.size - self.at <= UNREAD_BYTES_MAX {
            self.unread_since = None;
            return Ok(());
        }
        let since = *self.unread_since.get_or_insert_with(Instant::now);
        if since.elapsed() < UNREAD_MAX {
            return Ok(());
        }
        Err(io::Error::other("nobody waits for it any more"))
    }
}
