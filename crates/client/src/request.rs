//! Single requests: manifests, tags, referrers, and what all requests share.

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use http::{HeaderName, Method, StatusCode};
use oci::{Descriptor, Digest, Document, Endpoint, MANIFEST_BYTES_MAX, Reference, Tag, media};
use reqwest::{Body, RequestBuilder, Response};
use serde::Deserialize;
use url::Url;

use crate::{Client, ClientError, guard};

const ERROR_BYTES_MAX: u64 = 64 << 10;
const ERROR_CHARS_MAX: usize = 300;
const LIST_BYTES_MAX: u64 = 16 << 20;
const REFERRER_PAGES_MAX: usize = 100;
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

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<Tag>>,
}

#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Pull,
    Push,
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
                return Err(ClientError::Unreachable { host: host.to_owned(), source: source.without_url() });
            }
        }
    }
}

impl Client {
    /// Where a registry is.
    pub(crate) fn base(&self, reference: &Reference) -> Result<Url, ClientError> {
        let host = reference.host();
        let protocol = || ClientError::Protocol { host: host.to_owned(), reason: "its address is not one".to_owned() };
        let plain = Url::parse(&format!("http://{}/", reference.address())).map_err(|_| protocol())?;
        if guard::is_loopback(&plain) || self.0.config.plain_http.iter().any(|name| name == host) {
            return Ok(plain);
        }
        Url::parse(&format!("https://{}/", reference.address())).map_err(|_| protocol())
    }

    pub(crate) fn url(&self, reference: &Reference, endpoint: &Endpoint) -> Result<Url, ClientError> {
        let mut url = self.base(reference)?;
        url.set_path(&endpoint.to_string());
        Ok(url)
    }

    /// Sends a request, and once more with a token when the registry asks for one. `build` makes it, each time anew.
    pub(crate) async fn send(
        &self,
        reference: &Reference,
        scope: Scope,
        action: &'static str,
        build: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let host = reference.host();
        let actions = match scope {
            Scope::Pull => "pull",
            Scope::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", reference.repository());
        for is_last in [false, true] {
            let mut request = build(&self.0.http);
            if let Some(authorization) = self.authorization(host, &scope) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request
                .send()
                .await
                .map_err(|source| ClientError::Unreachable { host: host.to_owned(), source: source.without_url() })?;
            if response.status() != StatusCode::UNAUTHORIZED || is_last {
                return Ok(response);
            }
            let base = self.base(reference)?;
            if !self.authenticate(host, &base, &scope, response.headers()).await? {
                return Ok(response);
            }
        }
        Err(ClientError::Denied { host: host.to_owned(), action })
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
        match status {
            StatusCode::NOT_FOUND => ClientError::NotFound { what },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ClientError::Denied { host, action },
            _ => {
                let body = read_bounded(&host, response, ERROR_BYTES_MAX).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&body);
                let message = text.chars().take(ERROR_CHARS_MAX).flat_map(char::escape_debug).collect();
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

    fn manifest_url(&self, reference: &Reference) -> Result<Url, ClientError> {
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

    /// The tags after `last`, in their order, at most `limit`; an empty page ends the list.
    pub async fn tag_list(
        &self,
        reference: &Reference,
        last: Option<&Tag>,
        limit: u32,
    ) -> Result<Vec<Tag>, ClientError> {
        const ACTION: &str = "list tags";
        let mut url = self.url(reference, &Endpoint::Tags { repository: reference.repository().clone() })?;
        url.query_pairs_mut().append_pair("n", &limit.to_string());
        if let Some(last) = last {
            url.query_pairs_mut().append_pair("last", last.as_str());
        }
        let response = self.send(reference, Scope::Pull, ACTION, |http| http.get(url.clone())).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(reference, ACTION, reference.to_string(), response).await);
        }
        let body = read_bounded(reference.host(), response, LIST_BYTES_MAX).await?;
        let list: TagList = self.decode(reference, &body, "a tag list")?;
        Ok(list.tags.unwrap_or_default())
    }

    /// All that refers to `digest`, with this artifact type if one is given. A registry without the referrers API has
    /// them under a tag made of the digest.
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, ClientError> {
        const ACTION: &str = "list referrers";
        let endpoint = Endpoint::Referrers { repository: reference.repository().clone(), digest: *digest };
        let mut url = self.url(reference, &endpoint)?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut found = Vec::new();
        for _ in 0..REFERRER_PAGES_MAX {
            let response = self.send(reference, Scope::Pull, ACTION, |http| http.get(url.clone())).await?;
            let next = response.headers().get(LINK).and_then(|value| next_page(value.to_str().ok()?));
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => {
                    let tag = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
                    let Ok(tag) = tag.parse::<Tag>() else { break };
                    match self.manifest_get(&reference.clone().with_tag(tag)).await {
                        Ok(index) => found.extend_from_slice(index.document.manifests()),
                        Err(ClientError::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                    break;
                }
                _ => return Err(self.refused(reference, ACTION, reference.to_string(), response).await),
            }
            let body = read_bounded(reference.host(), response, LIST_BYTES_MAX).await?;
            let index = Document::parse(&body, Some(media::OCI_INDEX))?;
            found.extend_from_slice(index.manifests());
            let Some(next) = next else { break };
            let joined = url.join(&next).ok().filter(|joined| joined.origin() == url.origin());
            url = joined.ok_or_else(|| ClientError::Protocol {
                host: reference.host().to_owned(),
                reason: "the next page lies elsewhere".to_owned(),
            })?;
        }
        // Filtering is optional for registries.
        found.retain(|entry| artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted)));
        Ok(found)
    }

    fn decode<T: for<'de> Deserialize<'de>>(
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

/// The target of `<…>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("rel=\"next\"").then(|| target.to_owned())
}
