//! Decodes BuildKit's progress: `moby.buildkit.v1.StatusResponse` of `api/services/control/control.proto`, as it comes
//! base64-encoded in the engine's build stream. The messages are written by hand, so that no protoc is needed to build.

use base::clock::Micros;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use super::{BuildEvent, BuildLog, BuildStatus, BuildStep};

/// The longest trace that is decoded. BuildKit splits its output into chunks far below this.
pub const TRACE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A trace that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Longer than [`TRACE_BYTES_MAX`].
    #[error("a trace of {0} bytes is longer than the {TRACE_BYTES_MAX} allowed")]
    TooLong(usize),
    /// Not base64.
    #[error("a trace is not base64: {0}")]
    Base64(String),
    /// Not a StatusResponse.
    #[error("a trace is not a BuildKit status: {0}")]
    Protobuf(String),
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, repeated, tag = "1")]
    vertexes: Vec<Vertex>,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<VertexStatus>,
    #[prost(message, repeated, tag = "3")]
    logs: Vec<VertexLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Vertex {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bool, tag = "4")]
    cached: bool,
    #[prost(message, optional, tag = "5")]
    started: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    completed: Option<Timestamp>,
    #[prost(string, tag = "7")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct VertexStatus {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    vertex: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(int64, tag = "4")]
    current: i64,
    #[prost(int64, tag = "5")]
    total: i64,
    #[prost(message, optional, tag = "8")]
    completed: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct VertexLog {
    #[prost(string, tag = "1")]
    vertex: String,
    #[prost(message, optional, tag = "2")]
    timestamp: Option<Timestamp>,
    #[prost(int64, tag = "3")]
    stream: i64,
    #[prost(bytes = "vec", tag = "4")]
    msg: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Timestamp {
    /// Saturates: a time that does not fit is nonsense, but no reason to lose a build.
    fn micros(self) -> Micros {
        Micros(self.seconds.saturating_mul(1_000_000).saturating_add(i64::from(self.nanos) / 1000))
    }
}

/// Decodes one trace into its events: steps first, then statuses, then logs, each in the order they came.
///
/// # Errors
///
/// [`TraceError`] when the text is too long, not base64, or not the message.
pub fn trace_decode(aux_base64: &str) -> Result<Vec<BuildEvent>, TraceError> {
    if aux_base64.len() > TRACE_BYTES_MAX {
        return Err(TraceError::TooLong(aux_base64.len()));
    }
    let bytes = STANDARD.decode(aux_base64).map_err(|error| TraceError::Base64(error.to_string()))?;
    let status = StatusResponse::decode(bytes.as_slice()).map_err(|error| TraceError::Protobuf(error.to_string()))?;
    let steps = status.vertexes.into_iter().map(|vertex| {
        BuildEvent::Step(BuildStep {
            digest: vertex.digest,
            name: vertex.name,
            started: vertex.started.map(Timestamp::micros),
            completed: vertex.completed.map(Timestamp::micros),
            cached: vertex.cached,
            error: Some(vertex.error).filter(|error| !error.is_empty()),
        })
    });
    let statuses = status.statuses.into_iter().map(|status| {
        BuildEvent::Status(BuildStatus {
            step: status.vertex,
            name: if status.name.is_empty() { status.id } else { status.name },
            current: status.current,
            total: status.total,
            completed: status.completed.map(Timestamp::micros),
        })
    });
    let logs = status.logs.into_iter().map(|log| {
        BuildEvent::Log(BuildLog {
            step: log.vertex,
            stderr: log.stream == 2,
            at: log.timestamp.map(Timestamp::micros),
            text: String::from_utf8_lossy(&log.msg).into_owned(),
        })
    });
    Ok(steps.chain(statuses).chain(logs).collect())
}
