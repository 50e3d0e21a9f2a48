//! One connection to the hub, and what an answer says about it: each call is answered, refused, or broken off by the crash.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::moment::Trigger;
use super::{Fault, Stop};

/// How long the hub may take for one answer.
const ANSWER_SECONDS_MAX: u64 = 30;
/// How much of a refusal is shown.
const SHOWN_BYTES_MAX: usize = 200;

/// An answer that came whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// For a fault's description.
    pub(super) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN_BYTES_MAX)]).into_owned();
        format!("{} {}", self.status, text.trim())
    }

    pub(super) fn refuses_with(&self, code: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(code)
    }
}

pub(super) struct Wire {
    address: SocketAddr,
    trigger: Arc<Trigger>,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl Wire {
    pub(super) fn new(address: SocketAddr, trigger: Arc<Trigger>) -> Self {
        Self { address, trigger, kept: None }
    }

    /// One request and its answer. Before the crash a hub that fails or closes the connection is a fault; from then on
    /// only what it still answers with success counts, and everything else means that nobody knows. So does what is
    /// answered just while the power goes.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Stop> {
        let name = format!("{method} {path}");
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
        let comes_after = self.trigger.is_over();
        let answer = match tokio::time::timeout(limit, self.exchange(method, path, headers, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no answer within {ANSWER_SECONDS_MAX} s")),
        };
        match answer {
            Ok(answer) if answer.status.is_success() && (comes_after || !self.trigger.is_blurred()) => {
                self.trigger.answered();
                Ok(answer)
            }
            _ if self.trigger.has_fired() => Err(Stop::Crashed),
            Ok(answer) if answer.status.is_server_error() => {
                Err(Fault::Failed(format!("{name} before the crash: {}", answer.shown())).into())
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(Fault::Failed(format!("{name} before the crash: {error:#}")).into()),
        }
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, Stop> {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut sender = match self.kept.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        sender.ready().await?;
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.trigger.asked();
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if !parts.headers.get(header::CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close")) {
            self.kept = Some(sender);
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}
