//! Plain HTTP to the engine, one connection for one request: dropping the answer closes the connection, and that is how
//! the engine learns that nobody waits for its work any more.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use super::{Address, status_error, transport_error};
use crate::build::TRACE_BYTES_MAX;
use crate::{EngineError, ErrorKind};

/// How long a connection to the engine may take to be made.
const CONNECT_SECONDS: u64 = 10;

/// How long a small answer may take.
const ANSWER_SECONDS: u64 = 60;

/// The longest line of a stream, and the longest small answer.
const LINE_BYTES_MAX: usize = TRACE_BYTES_MAX + 4096;

/// A body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Asks the engine at one address.
#[derive(Debug, Clone)]
pub(super) struct RawClient {
    address: Address,
    api: Option<String>,
}

/// An answer of lines, each a JSON value.
pub(super) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to have no line end.
    searched: usize,
    what: String,
    ended: bool,
    _connection: AbortOnDropHandle<()>,
}

impl RawClient {
    /// `api` is the version in the path; without one the engine takes its own.
    pub(super) fn new(address: Address, api: Option<String>) -> Self {
        Self { address, api }
    }

    /// Gets one JSON value.
    pub(super) async fn get_json<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, EngineError> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let work = async {
            let mut lines = self.send(Method::GET, path, &[], body, what).await?;
            lines
                .next::<T>()
                .await?
                .ok_or_else(|| EngineError::new(ErrorKind::Engine, what, "the engine's answer is empty"))
        };
        match tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS), work).await {
            Ok(result) => result,
            Err(_elapsed) => Err(EngineError::new(ErrorKind::Timeout, what, "the engine did not answer in time")),
        }
    }

    /// Posts a body and reads the answer line by line. The answer's begin has no time limit: a build's may be long after.
    pub(super) async fn post_lines(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        body: Body,
        what: &str,
    ) -> Result<Lines, EngineError> {
        self.send(Method::POST, path, headers, body, what).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Body,
        what: &str,
    ) -> Result<Lines, EngineError> {
        let (mut sender, connection) = self.connect(what).await?;
        let path = match &self.api {
            Some(api) => format!("/v{api}{path}"),
            None => path.to_owned(),
        };
        let mut request = Request::builder().method(method).uri(path).header(http::header::HOST, "docker");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request =
            request.body(body).map_err(|error| EngineError::new(ErrorKind::Invalid, what, error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| transport_error(what, &error))?;
        let status = response.status();
        let mut lines = Lines {
            body: response.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
            what: what.to_owned(),
            ended: false,
            _connection: connection,
        };
        if status == StatusCode::OK || status == StatusCode::CREATED {
            return Ok(lines);
        }
        let message = lines.rest().await?;
        let message = serde_json::from_slice::<ErrorMessage>(&message)
            .map_or_else(|_not_json| String::from_utf8_lossy(&message).into_owned(), |error| error.message);
        Err(status_error(what, status.as_u16(), &message))
    }

    async fn connect(
        &self,
        what: &str,
    ) -> Result<(hyper::client::conn::http1::SendRequest<Body>, AbortOnDropHandle<()>), EngineError> {
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
        }
    }
}

async fn handshake<I>(
    io: I,
    what: &str,
) -> Result<(hyper::client::conn::http1::SendRequest<Body>, AbortOnDropHandle<()>), EngineError>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| transport_error(what, &error))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the engine ended");
        }
    });
    Ok((sender, AbortOnDropHandle::new(task)))
}

#[derive(serde::Deserialize)]
struct ErrorMessage {
    message: String,
}

impl Lines {
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
            EngineError::new(ErrorKind::Engine, &self.what, format!("the engine's answer cannot be read: {error}"))
        })
    }

    async fn fill(&mut self) -> Result<(), EngineError> {
        match self.body.frame().await {
            None => self.ended = true,
            Some(frame) => {
                let frame = frame.map_err(|error| transport_error(&self.what, &error))?;
                if let Ok(data) = frame.into_data() {
                    if self.buffer.len() + data.len() > LINE_BYTES_MAX {
                        let why = format!("the engine's answer has a line longer than {LINE_BYTES_MAX} bytes");
                        return Err(EngineError::new(ErrorKind::Engine, &self.what, why));
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
