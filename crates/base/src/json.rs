//! JSON bodies of requests: bounded, and refused with a problem document that says where they are wrong.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Extracts the body of a request as `T`. Its size is bounded by axum's `DefaultBodyLimit` (2 MiB unless a route sets
/// another).
#[derive(Clone, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::new(413, "body-too-large", "The request is too large").hint("send less at once")
            } else {
                Problem::new(400, "body-unreadable", "The request's body cannot be read").detail(rejection.body_text())
            }
        })?;
        parse(&bytes).map(Self)
    }
}

/// Reads a JSON document that came from outside.
///
/// # Errors
/// 400 `body-invalid` with line, column and reason.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::new(400, "body-invalid", "The request's body is not what it should be")
            .detail(error.to_string())
            .hint("the API's description says which members there are")
    })
}

/// Answers with JSON.
pub fn response<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(http::header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => Problem::internal(&error).into_response(),
    }
}
