//! A registry in memory that remembers what it was asked, and does wrong where it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use oci::{ContentRange, Digest, Document, Endpoint, ManifestReference, media};
use serde_json::{Value, json};

/// What a fault answers in the registry's place; none to let it answer itself.
pub(crate) type Fault = Box<dyn Fn(&Method, &str, &str) -> Option<Response> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) address: String,
    pub(crate) state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// By repository and digest or tag: media type and bytes.
    pub(crate) manifests: BTreeMap<(String, String), (String, Bytes)>,
    pub(crate) blobs: BTreeMap<(String, String), Bytes>,
    uploads: BTreeMap<String, Vec<u8>>,
    pub(crate) asked: Vec<String>,
    pub(crate) has_referrers: bool,
    pub(crate) fault: Option<Fault>,
}

impl Memory {
    pub(crate) async fn new(has_referrers: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { has_referrers, ..State::default() }));
        let shared = Arc::clone(&state);
        let answer = move |request: Request| {
            let shared = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
                shared.lock().unwrap().answer(&parts, body)
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Self { address, state }
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.state.lock().unwrap().fault = Some(fault);
    }

    /// The requests since the last time whose text holds this.
    pub(crate) fn asked(&self, part: &str) -> Vec<String> {
        let asked = std::mem::take(&mut self.state.lock().unwrap().asked);
        asked.into_iter().filter(|line| line.contains(part)).collect()
    }

    pub(crate) fn blob(&self, repository: &str, content: &[u8]) -> Value {
        let digest = Digest::sha256_of(content);
        let key = (repository.to_owned(), digest.to_string());
        self.state.lock().unwrap().blobs.insert(key, Bytes::copy_from_slice(content));
        json!({ "mediaType": media::OCI_LAYER, "digest": digest, "size": content.len() })
    }

    /// Puts a manifest under its digest and, if it is not empty, a tag, and gives its descriptor.
    pub(crate) fn manifest(&self, repository: &str, tag: &str, content: &Value) -> Value {
        let media_type = content["mediaType"].as_str().unwrap().to_owned();
        let bytes = Bytes::from(content.to_string());
        let digest = Digest::sha256_of(&bytes);
        let mut state = self.state.lock().unwrap();
        for reference in [digest.to_string(), tag.to_owned()].into_iter().filter(|reference| !reference.is_empty()) {
            state.manifests.insert((repository.to_owned(), reference), (media_type.clone(), bytes.clone()));
        }
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// An image of one layer.
    pub(crate) fn image(&self, repository: &str, tag: &str, layer: &[u8], subject: Option<&Value>) -> Value {
        let (config, layer) = (self.blob(repository, b"{}"), self.blob(repository, layer));
        let mut image =
            json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": [layer] });
        if let Some(subject) = subject {
            image["subject"] = subject.clone();
            image["artifactType"] = json!("application/x-test");
        }
        self.manifest(repository, tag, &image)
    }

    pub(crate) fn tags(&self, repository: &str) -> BTreeMap<String, Bytes> {
        let state = self.state.lock().unwrap();
        let of = state.manifests.iter().filter(|((name, reference), _)| name == repository && !reference.contains(':'));
        of.map(|((_, tag), (_, bytes))| (tag.clone(), bytes.clone())).collect()
    }
}

impl State {
    fn answer(&mut self, parts: &http::request::Parts, body: Bytes) -> Response {
        let (method, path, query) = (&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default());
        self.asked.push(format!("{method} {path}"));
        if let Some(response) = self.fault.as_ref().and_then(|fault| fault(method, path, query)) {
            return response;
        }
        let Ok(endpoint) = Endpoint::parse(path) else { return respond(404, &[], "") };
        let pair = |name: &str| {
            let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        match (method.clone(), endpoint) {
            (_, Endpoint::Ping) => respond(200, &[], "{}"),
            (_, Endpoint::Catalog) => {
                let names: BTreeSet<String> = self.manifests.keys().map(|(name, _)| name.clone()).collect();
                page("repositories", path, names, pair("last"), 2)
            }
            (_, Endpoint::Tags { repository }) => {
                let of = self.manifests.keys().filter(|(name, _)| *name == *repository.as_str());
                if of.clone().next().is_none() {
                    return respond(404, &[], "");
                }
                let tags: BTreeSet<String> = of.map(|(_, tag)| tag.clone()).filter(|tag| !tag.contains(':')).collect();
                page("tags", path, tags, pair("last"), 3)
            }
            (_, Endpoint::Referrers { repository, digest }) if self.has_referrers => {
                self.referrers(repository.as_str(), digest)
            }
            (Method::PUT, Endpoint::Manifest { repository, reference }) => {
                let media_type = parts.headers["content-type"].to_str().unwrap().to_owned();
                let document = Document::parse(&body, Some(&media_type)).unwrap();
                let digest = Digest::sha256_of(&body);
                let key = |reference: String| (repository.to_string(), reference);
                let is_missing = |need: &oci::Descriptor| {
                    let key = key(need.digest.to_string());
                    !self.blobs.contains_key(&key) && !self.manifests.contains_key(&key)
                };
                if document.references().any(is_missing) {
                    return respond(404, &[], r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"missing"}]}"#);
                }
                let named = match reference {
                    ManifestReference::Digest(digest) => digest.to_string(),
                    ManifestReference::Tag(tag) => tag.to_string(),
                };
                self.manifests.insert(key(named), (media_type.clone(), body.clone()));
                self.manifests.insert(key(digest.to_string()), (media_type, body));
                respond(201, &[], "")
            }
            (_, Endpoint::Manifest { repository, reference }) => {
                match self.manifests.get(&(repository.to_string(), reference.to_string())) {
                    Some((media_type, bytes)) => {
                        let digest = Digest::sha256_of(bytes).to_string();
                        let headers = [("content-type", media_type.as_str()), ("docker-content-digest", &digest)];
                        respond(200, &headers, bytes.clone())
                    }
                    None => respond(404, &[], ""),
                }
            }
            (_, Endpoint::Blob { repository, digest }) => {
                match self.blobs.get(&(repository.to_string(), digest.to_string())) {
                    Some(bytes) => respond(200, &[("content-length", &bytes.len().to_string())], bytes.clone()),
                    None => respond(404, &[], ""),
                }
            }
            (Method::POST, Endpoint::Uploads { repository }) => {
                if let (Some(digest), Some(from)) = (pair("mount"), pair("from"))
                    && let Some(bytes) = self.blobs.get(&(from, digest.clone())).cloned()
                {
                    self.blobs.insert((repository.to_string(), digest), bytes);
                    return respond(201, &[], "");
                }
                let upload = format!("upload-{}", self.asked.len());
                let location = format!("/v2/{repository}/blobs/uploads/{upload}");
                self.uploads.insert(upload, Vec::new());
                respond(202, &[("location", &location)], "")
            }
            (method, Endpoint::Upload { repository, upload }) => {
                let Some(bytes) = self.uploads.get_mut(&upload.to_string()) else { return respond(404, &[], "") };
                let range = parts.headers.get("content-range").map(|value| value.to_str().unwrap());
                if range.is_some_and(|text| text.parse::<ContentRange>().unwrap().first != bytes.len() as u64) {
                    return respond(416, &[], "");
                }
                bytes.extend_from_slice(&body);
                if method == Method::PUT {
                    let bytes = Bytes::from(std::mem::take(bytes));
                    let digest = Digest::sha256_of(&bytes).to_string();
                    if pair("digest").as_deref() != Some(&digest) {
                        return respond(400, &[], "");
                    }
                    self.uploads.remove(&upload.to_string());
                    self.blobs.insert((repository.to_string(), digest), bytes);
                    return respond(201, &[], "");
                }
                let range = format!("0-{}", bytes.len().saturating_sub(1));
                respond(if method == Method::GET { 204 } else { 202 }, &[("location", path), ("range", &range)], "")
            }
            _ => respond(404, &[], ""),
        }
    }

    fn referrers(&self, repository: &str, subject: Digest) -> Response {
        let of = self.manifests.iter().filter(|((name, reference), _)| name == repository && reference.contains(':'));
        let entries: Vec<Value> = of
            .filter(|(_, (media_type, bytes))| {
                let document = Document::parse(bytes, Some(media_type)).unwrap();
                document.subject().is_some_and(|found| found.digest == subject)
            })
            .map(|((_, digest), (media_type, bytes))| {
                json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries });
        respond(200, &[("content-type", media::OCI_INDEX)], index.to_string())
    }
}

/// A page as docker-registry makes it.
fn page(field: &str, path: &str, names: BTreeSet<String>, last: Option<String>, limit: usize) -> Response {
    let mut rest = names.into_iter().filter(|name| last.as_ref().is_none_or(|last| name > last));
    let names: Vec<String> = rest.by_ref().take(limit).collect();
    let body = json!({ field: names }).to_string();
    match (rest.next(), names.last()) {
        (Some(_), Some(last)) => {
            // Behind a proxy registries name the address that they know.
            let link = format!("<http://elsewhere.example{path}?last={last}&n={limit}>; rel=\"next\"");
            respond(200, &[("link", &link)], body)
        }
        _ => respond(200, &[], body),
    }
}

pub(crate) fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}
