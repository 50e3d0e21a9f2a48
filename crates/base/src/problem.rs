//! Errors on the wire: RFC 9457 `application/problem+json` with a stable kind, a cause and a next step.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::db::{DbError, DbErrorKind};

/// The media type of a problem document.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// A refusal or failure as RFC 9457 describes it, with two members more: `kind`, the stable code that programs and exit
/// codes depend on, and `hint`, the next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Stable kebab-case code, for example `page-limit-invalid`.
    pub kind: String,
    /// What went wrong, the same for every problem of this kind.
    pub title: String,
    /// Why, for this one occurrence; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without detail and hint.
    pub fn new(status: u16, kind: impl Into<String>, title: impl Into<String>) -> Self {
        Self { status, kind: kind.into(), title: title.into(), detail: String::new(), hint: None }
    }

    /// Adds why it happened this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error that the caller cannot do anything about. `error` is logged with its causes and not sent.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        let causes = causes(error);
        tracing::error!(error = %causes, "internal error");
        Self::new(500, "internal", "Something failed inside the server").hint("the server's log says what; try again")
    }
}

/// An error with its causes, for people; the innermost tells most.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<DbError> for Problem {
    /// What is temporary becomes 503, or 507, with a reason, everything else an internal error.
    fn from(error: DbError) -> Self {
        if !error.is_temporary() {
            return Self::internal(&error);
        }
        tracing::warn!(%error, "the database is not available");
        let (status, kind) = match error.kind() {
            DbErrorKind::Full => (507, "database-full"),
            DbErrorKind::Unavailable => (503, "database-unavailable"),
            _ => (503, "database-busy"),
        };
        Self::new(status, kind, "The database cannot do it now")
            .detail(error.to_string())
            .hint(error.hint().unwrap_or("try again"))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_over_the_wire_and_back() {
        let problem = Problem::new(409, "tag-exists", "The tag exists").detail("`v1` is taken").hint("choose another");
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            text,
            r#"{"status":409,"kind":"tag-exists","title":"The tag exists","detail":"`v1` is taken","hint":"choose another"}"#
        );
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
        let response = problem.into_response();
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()["content-type"], PROBLEM_MEDIA_TYPE);
    }

    #[test]
    fn a_status_that_does_not_exist_is_a_server_error() {
        assert_eq!(Problem::new(7, "odd", "Odd").into_response().status(), 500);
    }
}
