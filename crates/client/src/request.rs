//! Single requests: manifests and blobs' lengths, and what all requests share.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, Method, StatusCode};
use jiff::Timestamp;
use oci::{Digest, Document, Endpoint, MANIFEST_BYTES_MAX, Reference, RepositoryName, media};
use reqwest::{Body, RequestBuilder, Response};
use serde::Deserialize;
use tracing::Instrument as _;
use tracing::field::Empty;
use url::Url;

use crate::retry::{self, Patience};
use crate::{Client, ClientError, guard};

const ERROR_BYTES_MAX: u64 = 64 << 10;
const ERROR_CHARS_MAX: usize = 300;
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What a registry says of a manifest without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
}

/// A verified manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it says, validated.
    pub document: Document,
    /// Its bytes.
    pub content: Bytes,
}

/// What a token is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    Pull,
    Push,
    /// To take a blob from this other repository.
    Mount(&'a RepositoryName),
    Delete,
    Catalog,
}

impl Scope<'_> {
    /// As token services want it; several are divided by spaces.
    fn text(self, repository: &RepositoryName) -> String {
        match self {
            Scope::Pull => format!("repository:{repository}:pull"),
            Scope::Push => format!("repository:{repository}:pull,push"),
            Scope::Mount(from) => format!("repository:{repository}:pull,push repository:{from}:pull"),
            Scope::Delete => format!("repository:{repository}:delete,pull"),
            Scope::Catalog => "registry:catalog:*".to_owned(),
        }
    }
}

/// What an error says: the messages of the specification's form, else the text, cut.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: Option<String>,
        message: Option<String>,
    }
    let said = serde_json::from_slice::<Errors>(body).map(|list| {
        let texts =
            list.errors.into_iter().filter_map(|entry| entry.message.filter(|text| !text.is_empty()).or(entry.code));
        texts.collect::<Vec<_>>().join(", ")
    });
    let text = said.ok().filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    text.chars().take(ERROR_CHARS_MAX).flat_map(char::escape_debug).collect()
}

pub(crate) fn unreachable(host: &str, source: reqwest::Error) -> ClientError {
    ClientError::Unreachable { host: host.to_owned(), source: source.without_url() }
}

/// The whole body, at most `bytes_max` long.
pub(crate) async fn read_bounded(host: &str, mut response: Response, bytes_max: u64) -> Result<Bytes, ClientError> {
    let mut all = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) if (all.len() + bytes.len()) as u64 <= bytes_max => all.extend_from_slice(&bytes),
            Ok(Some(_)) => {
                let reason = format!("an answer of more than {bytes_max} bytes");
                return Err(ClientError::Protocol { host: host.to_owned(), reason });
            }
            Ok(None) => return Ok(all.freeze()),
            Err(source) => {
                return Err(unreachable(host, source));
            }
        }
    }
}

impl Client {
    /// Where a registry is.
    pub(crate) fn base(&self, reference: &Reference) -> Result<Url, ClientError> {
        let host = reference.host();
        let protocol = || ClientError::Protocol { host: host.to_owned(), reason: "its address is not one".to_owned() };
        self.0.resolver.meant(reference.address());
        let named = |scheme: &str| Url::parse(&format!("{scheme}://{}/", reference.address())).map_err(|_| protocol());
        let (plain, config) = (named("http")?, &self.0.config);
        let is_plain = guard::is_loopback(&plain) && !config.https.iter().any(|name| name == host)
            || config.plain_http.iter().any(|name| name == host);
        if is_plain { Ok(plain) } else { named("https") }
    }

    pub(crate) fn url(&self, reference: &Reference, endpoint: &Endpoint) -> Result<Url, ClientError> {
        let mut url = self.base(reference)?;
        url.set_path(&endpoint.to_string());
        Ok(url)
    }

    /// Sends a request, again with a token when the registry asks for one, and again after a while when it cannot answer
    /// now and the client has patience. `build` makes it, each time anew.
    pub(crate) async fn send(
        &self,
        reference: &Reference,
        scope: Scope<'_>,
        action: &'static str,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let (host, scope) = (reference.host(), scope.text(reference.repository()));
        let mut patience = Patience::new(self.1);
        loop {
            self.rest(host).await;
            let answer = self.send_once(reference, &scope, action, &build).await;
            let asked = match &answer {
                Ok(response) if retry::passes(response.status()) => retry::asked(response.headers(), Timestamp::now()),
                Err(ClientError::Unreachable { .. }) => None,
                Err(ClientError::Busy { seconds, .. }) => seconds.map(Duration::from_secs),
                Ok(_) | Err(_) => return answer,
            };
            let Some(wait) = patience.wait(asked, rand::random()) else { return answer };
            if asked.is_some() {
                self.rest_until(host, Instant::now() + wait);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits while a registry has asked to be left alone, whichever request it was that it told.
    async fn rest(&self, host: &str) {
        let until = self.0.resting.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        if let Some(until) = until.filter(|_| !self.1.is_zero()) {
            let until = until.min(Instant::now() + self.1);
            tokio::time::sleep_until(until.into()).await;
        }
    }

    fn rest_until(&self, host: &str, until: Instant) {
        let mut resting = self.0.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|_, until| *until > Instant::now());
        let known = resting.entry(host.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    async fn send_once(
        &self,
        reference: &Reference,
        scope: &str,
        action: &'static str,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let host = reference.host();
        for is_last in [false, true] {
            let mut request = build(&self.0.http);
            if let Some(authorization) = self.authorization(host, scope) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = self.ask(host, action, request).await?;
            if response.status() != StatusCode::UNAUTHORIZED || is_last {
                return Ok(response);
            }
            let base = self.base(reference)?;
            if !self.authenticate(host, &base, scope, response.headers()).await? {
                return Ok(response);
            }
        }
        Err(ClientError::Denied { host: host.to_owned(), action, message: String::new() })
    }

    /// Sends a request once, as it is.
    async fn ask(&self, host: &str, action: &'static str, request: RequestBuilder) -> Result<Response, ClientError> {
        let span = tracing::trace_span!(
            "registry request",
            otel.kind = "client",
            longshore.action = action,
            otel.status_code = Empty,
            server.address = host,
            http.response.status_code = Empty,
        );
        let answer = request.send().instrument(span.clone()).await;
        match &answer {
            Ok(response) => {
                span.record("http.response.status_code", i64::from(response.status().as_u16()));
            }
            Err(_) => {
                span.record("otel.status_code", "ERROR");
            }
        }
        answer.map_err(|source| unreachable(host, source))
    }

    /// The error that an answer stands for.
    pub(crate) async fn refused(
        &self,
        reference: &Reference,
        action: &'static str,
        what: String,
        response: Response,
    ) -> ClientError {
        let host = reference.host().to_owned();
        let status = response.status();
        let seconds = retry::asked(response.headers(), Timestamp::now()).map(retry::whole_seconds);
        match status {
            StatusCode::NOT_FOUND => ClientError::NotFound { what },
            StatusCode::TOO_MANY_REQUESTS => ClientError::Busy { host, action, seconds },
            // Maintenance, or a limit by another name. Without a time it may be over at once.
            StatusCode::SERVICE_UNAVAILABLE if seconds.is_some() => ClientError::Busy { host, action, seconds },
            _ => {
                let body = read_bounded(&host, response, ERROR_BYTES_MAX).await.unwrap_or_default();
                let message = message(&body);
                if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                    return ClientError::Denied { host, action, message };
                }
                ClientError::Status { host, action, status: status.as_u16(), message }
            }
        }
    }

    /// Whether there is a registry that lets us in.
    pub async fn ping(&self, reference: &Reference) -> Result<(), ClientError> {
        let url = self.url(reference, &Endpoint::Ping)?;
        let response = self.send(reference, Scope::Pull, "answer", |http| http.get(url.clone())).await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            _ => Err(self.refused(reference, "answer", format!("a registry at {}", reference.host()), response).await),
        }
    }

    pub(crate) fn manifest_url(&self, reference: &Reference) -> Result<Url, ClientError> {
        let endpoint =
            Endpoint::Manifest { repository: reference.repository().clone(), reference: reference.manifest() };
        self.url(reference, &endpoint)
    }

    /// What a reference leads to, without its bytes; none when it is not there.
    pub async fn manifest_head(&self, reference: &Reference) -> Result<Option<ManifestHead>, ClientError> {
        const ACTION: &str = "give a manifest";
        let url = self.manifest_url(reference)?;
        let accept = media::MANIFESTS.join(", ");
        let build = |http: &reqwest::Client| http.head(url.clone()).header(ACCEPT, &accept);
        let response = self.send(reference, Scope::Pull, ACTION, build).await?;
        let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let digest = match (text(CONTENT_DIGEST).map(str::parse), reference.digest()) {
                    (Some(Ok(digest)), _) => digest,
                    (None, Some(digest)) => *digest,
                    // The header is a SHOULD: then only the bytes tell.
                    _ => return self.manifest_get(reference).await.map(|manifest| Some(manifest.head())),
                };
                let media_type = text(CONTENT_TYPE).unwrap_or(media::OCI_MANIFEST).to_owned();
                Ok(Some(ManifestHead { digest, media_type }))
            }
            _ => Err(self.refused(reference, ACTION, reference.to_string(), response).await),
        }
    }

    /// A manifest, verified against the digest in the reference, or else against the one that the registry names.
    pub async fn manifest_get(&self, reference: &Reference) -> Result<RemoteManifest, ClientError> {
        const ACTION: &str = "give a manifest";
        let url = self.manifest_url(reference)?;
        let accept = media::MANIFESTS.join(", ");
        let build = |http: &reqwest::Client| http.get(url.clone()).header(ACCEPT, &accept);
        let response = self.send(reference, Scope::Pull, ACTION, build).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(reference, ACTION, reference.to_string(), response).await);
        }
        let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let content_type = text(CONTENT_TYPE).map(str::to_owned);
        let named = text(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        let content = read_bounded(reference.host(), response, MANIFEST_BYTES_MAX as u64).await?;
        let found = Digest::sha256_of(&content);
        let digest = reference.digest().copied().or(named).unwrap_or(found);
        if !digest.matches(&content) {
            let host = reference.host().to_owned();
            return Err(ClientError::DigestMismatch { host, expected: Box::new(digest), found: Box::new(found) });
        }
        let document = Document::parse(&content, content_type.as_deref())?;
        Ok(RemoteManifest { digest, document, content })
    }

    /// Pushes a manifest under the reference's digest or tag. All that it needs must be there.
    pub async fn manifest_put(
        &self,
        reference: &Reference,
        media_type: &str,
        content: Bytes,
    ) -> Result<(), ClientError> {
        const ACTION: &str = "take a manifest";
        let url = self.manifest_url(reference)?;
        let build = |http: &reqwest::Client| {
            http.put(url.clone()).header(CONTENT_TYPE, media_type).body(Body::from(content.clone()))
        };
        let response = self.send(reference, Scope::Push, ACTION, build).await?;
        match response.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.refused(reference, ACTION, reference.to_string(), response).await),
        }
    }

    pub(crate) fn decode<T: for<'de> Deserialize<'de>>(
        &self,
        reference: &Reference,
        body: &[u8],
        what: &str,
    ) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::Protocol {
            host: reference.host().to_owned(),
            reason: format!("{what} cannot be read: {error}"),
        })
    }

    /// Removes a tag, or a manifest with its tags. Says no when it is not there.
    pub async fn manifest_delete(&self, reference: &Reference) -> Result<bool, ClientError> {
        const ACTION: &str = "remove a manifest";
        let url = self.manifest_url(reference)?;
        let response = self.send(reference, Scope::Delete, ACTION, |http| http.delete(url.clone())).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(reference, ACTION, reference.to_string(), response).await),
        }
    }

    /// The length of a blob; none when the repository has none such.
    pub async fn blob_head(&self, reference: &Reference, digest: &Digest) -> Result<Option<u64>, ClientError> {
        const ACTION: &str = "give a blob";
        let endpoint = Endpoint::Blob { repository: reference.repository().clone(), digest: *digest };
        let url = self.url(reference, &endpoint)?;
        let build = |http: &reqwest::Client| http.request(Method::HEAD, url.clone());
        let response = self.send(reference, Scope::Pull, ACTION, build).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
                length.map(Some).ok_or_else(|| ClientError::Protocol {
                    host: reference.host().to_owned(),
                    reason: "a blob without Content-Length".to_owned(),
                })
            }
            _ => Err(self.refused(reference, ACTION, format!("blob {digest}"), response).await),
        }
    }
}

impl RemoteManifest {
    fn head(self) -> ManifestHead {
        ManifestHead { digest: self.digest, media_type: self.document.media_type.to_owned() }
    }

    /// The reference's digest form, for a reference to the repository it came from.
    pub fn pinned(&self, reference: &Reference) -> Reference {
        reference.clone().with_digest(self.digest)
    }
}
