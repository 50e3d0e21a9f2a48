//! The agent's side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::control::{Refusal, STATUS_PATH, TABLE_PATH};
use super::status::Status;
use super::table::Table;

const CALL_TIME_MAX: Duration = Duration::from_secs(30);
const STATUS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Speaks to the proxy on one control socket; a connection for each call.
#[derive(Clone, Debug)]
pub struct ProxyClient {
    socket: PathBuf,
}

/// Why a call to the proxy failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers on the socket: start a proxy.
    #[error("no proxy answers on {}: {source}; start one with `longshore proxy --control {}`", socket.display(), socket.display())]
    Absent {
        /// The control socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The proxy refused; with kind `older-table` it serves a table of a higher number.
    #[error("the proxy refused ({kind}): {detail}")]
    Refused {
        /// Stable code.
        kind: String,
        /// What, why and what next.
        detail: String,
    },
    /// The call broke off; the proxy may have carried it out.
    #[error("the call to the proxy broke off: {detail}; ask for its status and repeat the call")]
    Broken {
        /// What happened.
        detail: String,
    },
}

impl ProxyClient {
    /// A client of the proxy on `socket`; connects with each call.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Puts a whole table. When this returns, the table is on disk, new requests follow it, and the status tells what
    /// was bound. Putting the same table again is fine; a lower number than the proxy's is refused (`older-table`).
    pub async fn put_table(&self, table: &Table) -> Result<Status, ClientError> {
        let body = serde_json::to_vec(table).map_err(broken)?;
        self.call(Method::PUT, TABLE_PATH, body).await
    }

    /// The proxy's state at this moment.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.call(Method::GET, STATUS_PATH, Vec::new()).await
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Status, ClientError> {
        timeout(CALL_TIME_MAX, self.exchange(method, path, body))
            .await
            .map_err(|_| broken(format!("no answer within {CALL_TIME_MAX:?}")))?
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Status, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Absent { socket: self.socket.clone(), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "proxy")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), STATUS_BYTES_MAX).collect().await.map_err(broken)?.to_bytes();
        driver.abort();
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes).map_err(broken);
        }
        let Refusal { kind, detail, .. } = serde_json::from_slice(&bytes).map_err(broken)?;
        Err(ClientError::Refused { kind, detail })
    }
}

fn broken(detail: impl ToString) -> ClientError {
    ClientError::Broken { detail: detail.to_string() }
}
