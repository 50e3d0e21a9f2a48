//! Plain HTTP to the engine, one connection for one request: dropping the answer closes the connection, and that is how
//! the engine learns that nobody waits for its work any more.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use super::{Address, status_error, tls, transport_error};
use crate::build::TRACE_BYTES_MAX;
use crate::{EngineError, ErrorKind};

/// How long a connection to the engine may take to be made.
const CONNECT_SECONDS: u64 = 10;

/// How long a small answer may take.
const ANSWER_SECONDS: u64 = 60;

/// The longest line of a stream, and the longest small answer.
const LINE_BYTES_MAX: usize = TRACE_BYTES_MAX + 4096;

/// The engine takes any name for itself.
const HOST: &str = "docker";

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Asks the engine at one address.
#[derive(Debug, Clone)]
pub(super) struct RawClient {
    address: Address,
    api: Option<String>,
}

/// An answer that is a success, its body still to come.
pub(super) struct Answer {
    body: Incoming,
    what: String,
    _connection: AbortOnDropHandle<()>,
}

/// An answer of lines, each a JSON value.
pub(super) struct Lines {
    answer: Answer,
    buffer: BytesMut,
    /// How much of the buffer is known to have no line end.
    searched: usize,
    ended: bool,
}

impl RawClient {
    /// `api` is the version in the path; without one the engine takes its own.
    pub(super) fn new(address: Address, api: Option<String>) -> Self {
        Self { address, api }
    }

    /// Gets one JSON value.
    pub(super) async fn get_json<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, EngineError> {
        self.json(Method::GET, path, &[], empty(), what).await
    }

    /// Posts one JSON value and gets another.
    pub(super) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        value: &impl Serialize,
        what: &str,
    ) -> Result<T, EngineError> {
        self.json(Method::POST, path, &JSON, json_body(value, what)?, what).await
    }

    /// Posts nothing and wants to hear nothing but that it is done.
    pub(super) async fn post_empty(&self, path: &str, what: &str) -> Result<(), EngineError> {
        let work = async { self.answer(Method::POST, path, &[], empty(), what).await?.end().await };
        in_time(work, what).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Body,
        what: &str,
    ) -> Result<T, EngineError> {
        let work = async {
            let mut lines = Lines::of(self.answer(method, path, headers, body, what).await?);
            let value = lines.next::<T>().await?;
            value.ok_or_else(|| EngineError::new(ErrorKind::Engine, what, "the engine's answer is empty"))
        };
        in_time(work, what).await
    }

    /// Posts a body and reads the answer line by line. The answer's begin has no time limit: a build's may be long after.
    pub(super) async fn post_lines(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Body,
        what: &str,
    ) -> Result<Lines, EngineError> {
        Ok(Lines::of(self.answer(Method::POST, path, headers, body, what).await?))
    }

    /// Sends a request and returns its answer once it begins, which may take as long as the body does.
    pub(super) async fn answer(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Body,
        what: &str,
    ) -> Result<Answer, EngineError> {
        let (mut sender, connection) = self.connect(what).await?;
        let request = self.request(method, path, headers, body, what)?;
        let response = sender.send_request(request).await.map_err(|error| transport_error(what, &error))?;
        let status = response.status();
        let answer = Answer { body: response.into_body(), what: what.to_owned(), _connection: connection };
        if status.is_success() { Ok(answer) } else { Err(answer.refusal(status).await) }
    }

    /// Posts a request after which the connection is no longer HTTP, and returns the connection.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        value: Option<&(impl Serialize + Sync)>,
        what: &str,
    ) -> Result<TokioIo<Upgraded>, EngineError> {
        let (mut sender, connection) = self.connect(what).await?;
        let body = value.map_or_else(|| Ok(empty()), |value| json_body(value, what))?;
        let headers = [JSON[0], ("connection", "Upgrade"), ("upgrade", "tcp")];
        let request = self.request(Method::POST, path, &headers, body, what)?;
        let work = async { sender.send_request(request).await.map_err(|error| transport_error(what, &error)) };
        let mut response = in_time(work, what).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let answer = Answer { body: response.into_body(), what: what.to_owned(), _connection: connection };
            return Err(answer.refusal(status).await);
        }
        let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| transport_error(what, &error))?;
        Ok(TokioIo::new(upgraded))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Body,
        what: &str,
    ) -> Result<Request<Body>, EngineError> {
        let path = match &self.api {
            Some(api) => format!("/v{api}{path}"),
            None => path.to_owned(),
        };
        let mut request = Request::builder().method(method).uri(path).header(http::header::HOST, HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).map_err(|error| EngineError::new(ErrorKind::Invalid, what, error.to_string()))
    }

    /// Sends a request of another client as it is, on a connection that ends with the answer.
    pub(super) async fn forward<B>(&self, mut request: Request<B>) -> Result<Response<Incoming>, EngineError>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let what = format!("cannot ask the container engine at {}", self.address);
        let (mut sender, connection) = self.connect(&what).await?;
        // Whoever speaks to a server directly names the path alone.
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = path.into();
        }
        request.headers_mut().insert(http::header::HOST, http::HeaderValue::from_static(HOST));
        let response = sender.send_request(request).await.map_err(|error| transport_error(&what, &error))?;
        // With the answer read or dropped, the connection ends by itself.
        drop(connection.detach());
        Ok(response)
    }

    async fn connect<B>(&self, what: &str) -> Result<(SendRequest<B>, AbortOnDropHandle<()>), EngineError>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = Duration::from_secs(CONNECT_SECONDS);
        let late = |_elapsed| {
            EngineError::new(ErrorKind::Timeout, what, format!("{} did not take the connection", self.address))
        };
        let io_error = |error: std::io::Error| transport_error(what, &error);
        match &self.address {
            Address::Unix(path) => {
                let stream = tokio::time::timeout(limit, UnixStream::connect(path)).await.map_err(late)?;
                handshake(TokioIo::new(stream.map_err(io_error)?), what).await
            }
            Address::Tcp(host_port) => {
                let stream = tokio::time::timeout(limit, TcpStream::connect(host_port)).await.map_err(late)?;
                handshake(TokioIo::new(stream.map_err(io_error)?), what).await
            }
            Address::Tls(address) => {
                let stream = tokio::time::timeout(limit, tls::connect(address, what)).await.map_err(late)??;
                handshake(TokioIo::new(stream), what).await
            }
        }
    }
}

async fn handshake<I, B>(io: I, what: &str) -> Result<(SendRequest<B>, AbortOnDropHandle<()>), EngineError>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = http1::handshake(io).await.map_err(|error| transport_error(what, &error))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the engine ended");
        }
    });
    Ok((sender, AbortOnDropHandle::new(task)))
}

async fn in_time<T>(work: impl Future<Output = Result<T, EngineError>>, what: &str) -> Result<T, EngineError> {
    match tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS), work).await {
        Ok(result) => result,
        Err(_elapsed) => Err(EngineError::new(ErrorKind::Timeout, what, "the engine did not answer in time")),
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn json_body(value: &impl Serialize, what: &str) -> Result<Body, EngineError> {
    let text = serde_json::to_vec(value)
        .map_err(|error| EngineError::new(ErrorKind::Invalid, what, format!("it has no form in JSON: {error}")))?;
    Ok(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync())
}

#[derive(serde::Deserialize)]
struct ErrorMessage {
    message: String,
}

impl Answer {
    /// What the engine says with a status that is no success.
    async fn refusal(self, status: StatusCode) -> EngineError {
        let what = self.what.clone();
        let message = match Lines::of(self).rest().await {
            Ok(message) => message,
            Err(error) => return error,
        };
        let message = serde_json::from_slice::<ErrorMessage>(&message)
            .map_or_else(|_not_json| String::from_utf8_lossy(&message).into_owned(), |error| error.message);
        status_error(&what, status.as_u16(), &message)
    }

    /// Waits for the body's end.
    pub(super) async fn end(self) -> Result<(), EngineError> {
        Lines::of(self).rest().await.map(|_words| ())
    }

    /// The body as it comes.
    pub(super) fn bytes(self) -> impl Stream<Item = Result<Bytes, EngineError>> + Send + 'static {
        stream::try_unfold(self, |mut answer| async move {
            while let Some(frame) = answer.body.frame().await {
                let frame = frame.map_err(|error| transport_error(&answer.what, &error))?;
                if let Ok(data) = frame.into_data() {
                    return Ok(Some((data, answer)));
                }
            }
            Ok(None)
        })
    }
}

impl Lines {
    fn of(answer: Answer) -> Self {
        Self { answer, buffer: BytesMut::new(), searched: 0, ended: false }
    }

    /// The next line that is not empty; `None` at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, EngineError> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = found.map(|end| self.searched + end) {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                self.searched = 0;
                if !line.trim_ascii().is_empty() {
                    return self.parse(&line).map(Some);
                }
            } else if self.ended {
                let line = self.buffer.split();
                self.searched = 0;
                return if line.trim_ascii().is_empty() { Ok(None) } else { self.parse(&line).map(Some) };
            } else {
                self.searched = self.buffer.len();
                self.fill().await?;
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, EngineError> {
        serde_json::from_slice(line).map_err(|error| {
            EngineError::new(
                ErrorKind::Engine,
                &self.answer.what,
                format!("the engine's answer cannot be read: {error}"),
            )
        })
    }

    async fn fill(&mut self) -> Result<(), EngineError> {
        match self.answer.body.frame().await {
            None => self.ended = true,
            Some(frame) => {
                let frame = frame.map_err(|error| transport_error(&self.answer.what, &error))?;
                if let Ok(data) = frame.into_data() {
                    if self.buffer.len() + data.len() > LINE_BYTES_MAX {
                        let why = format!("the engine's answer has a line longer than {LINE_BYTES_MAX} bytes");
                        return Err(EngineError::new(ErrorKind::Engine, &self.answer.what, why));
                    }
                    self.buffer.extend_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    async fn rest(&mut self) -> Result<BytesMut, EngineError> {
        while !self.ended {
            self.fill().await?;
        }
        Ok(self.buffer.split())
    }
}
