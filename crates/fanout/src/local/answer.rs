//! Answers of a host's registry: as the distribution specification has them, and what is passed on from the hub.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use client::pull_through::{request_headers, response_headers};
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use oci::Digest;
use serde_json::json;

use super::Inner;

/// Where the bytes of an answer came from: `disk`, `peers` or `hub`.
pub(super) const SOURCE: HeaderName = HeaderName::from_static("longshore-source");
const DISTRIBUTION_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The longest refusal of the hub that is passed on, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// A refusal as the specification has it.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    code: &'static str,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into() }
    }

    /// Nobody can be asked.
    pub(super) fn hub_away(why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", format!("the hub cannot be asked: {why}"))
    }

    /// The hub's own refusal, with its words.
    pub(super) async fn of_hub(answer: reqwest::Response) -> Self {
        let status = answer.status();
        let text = match read(answer, REFUSAL_BYTES_MAX).await {
            Ok(body) => String::from_utf8_lossy(&body).trim().to_owned(),
            Err(why) => why,
        };
        let code = match status {
            StatusCode::NOT_FOUND => "NOT_FOUND",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "DENIED",
            _ => "UNKNOWN",
        };
        Self::new(status, code, format!("the hub said: {text}"))
    }

    pub(super) fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.text }] });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        set(&mut response, CONTENT_TYPE, "application/json");
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            set(&mut response, http::header::ALLOW, "GET, HEAD");
        }
        response
    }
}

/// Puts a header whose value is made of checked names and numbers.
pub(super) fn set(response: &mut Response, name: HeaderName, value: impl std::fmt::Display) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        response.headers_mut().insert(name, value);
    }
}

pub(super) fn set_digest(response: &mut Response, digest: &Digest) {
    set(response, ETAG, format_args!("\"{digest}\""));
    set(response, CONTENT_DIGEST, digest);
}

/// Whether the caller has this content already and asks only whether it changed.
pub(super) fn has_already(headers: &HeaderMap, digest: &Digest) -> bool {
    let tags = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    tags.is_some_and(|tags| oci::etag_matches(tags, digest))
}

pub(super) fn unchanged(digest: &Digest) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    set_digest(&mut response, digest);
    response
}

pub(super) fn ping() -> Response {
    let mut response = Response::new(Body::from("{}"));
    set(&mut response, DISTRIBUTION_VERSION, "registry/2.0");
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// Asks the hub with what of the headers it is to know.
pub(super) async fn ask(
    inner: &Inner,
    method: Method,
    path: String,
    headers: &HeaderMap,
) -> Result<reqwest::Response, Refusal> {
    (inner.hub.0)(method, path, request_headers(headers)).await.map_err(Refusal::hub_away)
}

/// Passes a read on to the hub, and its answer back.
pub(super) async fn pass(
    inner: &Inner,
    method: &Method,
    path: String,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let answer = ask(inner, method.clone(), path, headers).await?;
    let (status, headers) = (answer.status(), response_headers(answer.headers()));
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from_stream(answer.bytes_stream()) };
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    set(&mut response, SOURCE, "hub");
    Ok(response)
}

/// The whole of a small answer.
pub(super) async fn read(mut answer: reqwest::Response, bytes_max: usize) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| format!("its answer broke off: {error}"))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("its answer has more than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
