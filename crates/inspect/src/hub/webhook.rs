//! The webhook to which alerts are sent, in the form of Standard Webhooks (<https://www.standardwebhooks.com>): JSON with
//! `type`, `timestamp` and `data`, and the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::inspect::{Alert, AlertReason, News};
use api::{Micros, Problem};
use aws_lc_rs::hmac;
use base::problem::causes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::redirect::Policy;
use serde::Serialize;
use url::Url;

use super::Settings;

/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the receiver may take to answer: less than what is left of a lease when sending begins.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(9);
/// A secret's file has at most so many bytes.
const SECRET_FILE_BYTES_MAX: u64 = 4096;
/// What secrets begin with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks has it.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// One of two is missing.
    #[error("webhook and webhook_secret_file stand together under [inspect], or neither")]
    Half,
    /// The address.
    #[error("the webhook's address {0}")]
    Address(&'static str),
    /// The secret. What is in the file is not shown.
    #[error("the webhook's secret cannot be read from {}: {reason}", file.display())]
    Secret {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// TLS or the like.
    #[error("no client can be made for the webhook: {0}")]
    Client(String),
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        Self::new(400, "config-invalid", "The hub's configuration is not right").detail(error.to_string()).hint(
            "A secret is made with `echo whsec_$(openssl rand -base64 32)`; give the receiver the same, and the hub a \
             file that it alone can read.",
        )
    }
}

/// A receiver of alerts. Cheap to clone.
#[derive(Clone)]
pub struct Webhook {
    // An address may hold a token: it is never shown.
    url: Url,
    key: Arc<hmac::Key>,
    client: reqwest::Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// What came of sending a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// The receiver does not want this message.
    Refused(String),
    /// The receiver is not there, or takes nothing.
    Failed(String),
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: &'a Alert,
}

impl Webhook {
    /// The webhook of these settings; none where there is none.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub fn open(settings: &Settings) -> Result<Option<Self>, WebhookError> {
        let (url, file) = match (&settings.webhook, &settings.webhook_secret_file) {
            (None, None) => return Ok(None),
            (Some(url), Some(file)) => (url, file),
            _ => return Err(WebhookError::Half),
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(WebhookError::Address("is none that begins with https:// or http://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookError::Address("has a password in it; messages are signed instead"));
        }
        let secret = secret(file).map_err(|reason| WebhookError::Secret { file: file.clone(), reason })?;
        Self::with(url.clone(), &secret, ANSWER_TIME_MAX).map(Some)
    }

    pub(super) fn with(url: Url, secret: &[u8], answer_time_max: Duration) -> Result<Self, WebhookError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(answer_time_max)
            // Who can redirect could have the hub send to where nobody wanted it to.
            .redirect(Policy::none())
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| WebhookError::Client(causes(&error.without_url())))?;
        Ok(Self { url, key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)), client })
    }

    /// Sends an alert once.
    pub(super) async fn send(&self, alert: &Alert, now: Micros) -> Outcome {
        let alert = Alert { delivery: None, ..alert.clone() };
        let body = Body { kind: kind(&alert.news), timestamp: alert.at.to_string(), data: &alert };
        let (body, headers) = match serde_json::to_vec(&body) {
            Ok(body) => match self.headers(&alert.message, now, &body) {
                Ok(headers) => (body, headers),
                Err(error) => return Outcome::Refused(error.to_string()),
            },
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        // What the receiver says beyond its status is not read: the connection goes with the answer.
        match self.client.post(self.url.clone()).headers(headers).body(body).send().await {
            Ok(answer) => outcome(answer.status()),
            Err(error) => Outcome::Failed(causes(&error.without_url())),
        }
    }

    fn headers(&self, message: &str, now: Micros, body: &[u8]) -> Result<HeaderMap, http::header::InvalidHeaderValue> {
        let (timestamp, signature) = (now.seconds(), self.signature(message, now, body));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("webhook-id", HeaderValue::from_str(message)?);
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        headers.insert("webhook-signature", HeaderValue::from_str(&signature)?);
        Ok(headers)
    }

    fn signature(&self, message: &str, now: Micros, body: &[u8]) -> String {
        let mut signed = format!("{message}.{}.", now.seconds()).into_bytes();
        signed.extend_from_slice(body);
        format!("v1,{}", STANDARD.encode(hmac::sign(&self.key, &signed)))
    }
}

/// The type of a message.
fn kind(news: &News) -> &'static str {
    match news {
        News::Advisory(news) if news.reasons.contains(&AlertReason::Affected) => "advisory.affected",
        News::Advisory(_) => "advisory.worse",
        News::Summary(_) => "advisory.summary",
    }
}

fn outcome(status: StatusCode) -> Outcome {
    let said = status.as_u16();
    match said {
        200..300 => Outcome::Taken,
        300..400 => Outcome::Failed(format!("it answers {said} and leads elsewhere, where nothing is sent")),
        // Who may send, where to and how often is not the message's fault.
        401 | 403 | 404 | 407 | 408 | 410 | 425 | 429 => Outcome::Failed(format!("it answers {said}")),
        400..500 => Outcome::Refused(format!("it answers {said}")),
        _ => Outcome::Failed(format!("it answers {said}")),
    }
}

fn secret(file: &Path) -> Result<Vec<u8>, String> {
    let bytes = base::folder::file_read(file, SECRET_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("there is no such file")?;
    // Neither the bytes nor what is wrong with them may be shown (a37).
    let wanted = || {
        let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
        format!("it is not {SECRET_PREFIX} followed by {least} to {most} bytes in base64")
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| wanted())?.trim_end_matches(['\r', '\n']);
    let secret = STANDARD.decode(text.strip_prefix(SECRET_PREFIX).ok_or_else(wanted)?).map_err(|_| wanted())?;
    if SECRET_BYTES.contains(&secret.len()) { Ok(secret) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let webhook = Webhook::with("https://hooks.example/".parse().unwrap(), &secret, ANSWER_TIME_MAX).unwrap();
        // The vector of the specification's own libraries.
        assert_eq!(
            webhook.signature(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                Micros::from_seconds(1_614_265_330),
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }
}
