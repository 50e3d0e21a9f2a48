//! Processes in containers that one talks to: the connection stops being HTTP and becomes theirs.
//!
//! bollard tells a terminal's bytes from frames by their first byte, which is wrong for bytes below 3; so this is done here,
//! where it is known which of the two it is.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio_util::task::AbortOnDropHandle;

use super::raw::RawClient;
use super::{Connection, containers, transport_error};
use crate::{EngineError, ErrorKind, ExecOptions, Session, SessionInput, SessionOutput, TerminalSize};

/// Bytes of output read at once.
const READ_BYTES: usize = 16 * 1024;

/// A frame's head: the stream's number, three zeros, the length.
const HEAD_BYTES: usize = 8;

/// The engine closes the connection a moment before it knows the exit code.
const EXIT_LOOKS_MAX: u32 = 200;
const EXIT_LOOK_EVERY: Duration = Duration::from_millis(25);

/// The terminal is there a moment after the connection; until then its size cannot be set.
const RESIZE_TRIES_MAX: u32 = 20;
const RESIZE_TRY_EVERY: Duration = Duration::from_millis(50);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExecCreate<'a> {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    cmd: &'a [String],
    env: Vec<String>,
    privileged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExecStart {
    detach: bool,
    tty: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecState {
    running: bool,
    exit_code: Option<i64>,
}

pub(super) async fn exec(
    raw: &RawClient,
    container: &str,
    options: &ExecOptions,
    input: SessionInput,
) -> Result<Session, EngineError> {
    let what =
        format!("cannot run {} in container {container}", options.command.first().map_or("a command", String::as_str));
    let tty = input.terminal.is_some();
    let create = ExecCreate {
        attach_stdin: input.stdin.is_some(),
        attach_stdout: true,
        attach_stderr: true,
        tty,
        cmd: &options.command,
        env: options.environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        privileged: options.privileged,
        user: options.user.as_deref(),
        working_dir: options.working_dir.as_deref(),
    };
    let created: Created = raw.post_json(&format!("/containers/{container}/exec"), &create, &what).await?;
    let path = format!("/exec/{}", created.id);
    let io = raw.upgrade(&format!("{path}/start"), Some(&ExecStart { detach: false, tty }), &what).await?;
    let (asker, state_path, state_what) = (raw.clone(), format!("{path}/json"), what.clone());
    let exit = async move {
        for _look in 0..EXIT_LOOKS_MAX {
            let state: ExecState = asker.get_json(&state_path, &state_what).await?;
            if let (false, Some(code)) = (state.running, state.exit_code) {
                return Ok(code);
            }
            tokio::time::sleep(EXIT_LOOK_EVERY).await;
        }
        Err(EngineError::new(ErrorKind::Engine, state_what, "its output ended, and the engine says that it still runs"))
    };
    Ok(session(io, input, Box::pin(exit), raw.clone(), format!("{path}/resize"), what))
}

pub(super) async fn attach(docker: &Connection, container: &str, input: SessionInput) -> Result<Session, EngineError> {
    let what = format!("cannot connect to container {container}");
    let stdin = u8::from(input.stdin.is_some());
    let path = format!("/containers/{container}/attach?stream=1&stdout=1&stderr=1&stdin={stdin}");
    let io = docker.raw.upgrade(&path, None::<&()>, &what).await?;
    let (asker, name) = (docker.clone(), container.to_owned());
    let exit = async move { containers::wait(&asker, &name).await };
    let resize = format!("/containers/{container}/resize");
    Ok(session(io, input, Box::pin(exit), docker.raw.clone(), resize, what))
}

/// What is known of a connection that is being read.
struct Reading {
    io: ReadHalf<TokioIo<Upgraded>>,
    buffer: BytesMut,
    /// Frames, or a terminal's bytes as they are.
    framed: bool,
    /// Of the frame being read: standard error, and the bytes still to come.
    frame: Option<(bool, usize)>,
    exit: Option<BoxFuture<'static, Result<i64, EngineError>>>,
    what: String,
    /// Input and terminal sizes go with the connection.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

fn session(
    io: TokioIo<Upgraded>,
    input: SessionInput,
    exit: BoxFuture<'static, Result<i64, EngineError>>,
    raw: RawClient,
    resize: String,
    what: String,
) -> Session {
    let framed = input.terminal.is_none();
    let (read, mut write) = tokio::io::split(io);
    let mut tasks = Vec::new();
    if let Some(mut stdin) = input.stdin {
        tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
            // A process that reads no more of it is no failure of the session.
            let _cut = tokio::io::copy(&mut stdin, &mut write).await;
            let _closed = write.shutdown().await;
        })));
    }
    if let Some(mut sizes) = input.terminal {
        let what = what.clone();
        tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let size = *sizes.borrow_and_update();
                resize_to(&raw, &resize, size, &what).await;
                if sizes.changed().await.is_err() {
                    break;
                }
            }
        })));
    }
    let reading = Reading {
        io: read,
        buffer: BytesMut::with_capacity(READ_BYTES),
        framed,
        frame: None,
        exit: Some(exit),
        what,
        _tasks: tasks,
    };
    stream::try_unfold(reading, |mut reading| async move { Ok(reading.next().await?.map(|output| (output, reading))) })
        .boxed()
}

async fn resize_to(raw: &RawClient, path: &str, size: TerminalSize, what: &str) {
    let path = format!("{path}?h={}&w={}", size.rows, size.columns);
    for _try in 0..RESIZE_TRIES_MAX {
        match raw.post_empty(&path, what).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the terminal's size is not set yet"),
        }
        tokio::time::sleep(RESIZE_TRY_EVERY).await;
    }
}

impl Reading {
    /// The next output; `None` after the end was told.
    async fn next(&mut self) -> Result<Option<SessionOutput>, EngineError> {
        loop {
            if let Some((stderr, bytes)) = self.piece()? {
                let output = if stderr { SessionOutput::Stderr(bytes) } else { SessionOutput::Stdout(bytes) };
                return Ok(Some(output));
            }
            let Some(exit) = &mut self.exit else { return Ok(None) };
            self.buffer.reserve(READ_BYTES);
            let read = self.io.read_buf(&mut self.buffer).await.map_err(|error| transport_error(&self.what, &error))?;
            if read > 0 {
                continue;
            }
            if !self.buffer.is_empty() || self.frame.is_some() {
                let why = "the engine ended the connection in the middle of its output";
                return Err(EngineError::new(ErrorKind::Unreachable, &self.what, why));
            }
            let code = exit.await?;
            self.exit = None;
            return Ok(Some(SessionOutput::Ended(code)));
        }
    }

    /// What the buffer holds of output, whether of standard error, and the bytes.
    fn piece(&mut self) -> Result<Option<(bool, Bytes)>, EngineError> {
        if !self.framed {
            return Ok((!self.buffer.is_empty()).then(|| (false, self.buffer.split().freeze())));
        }
        loop {
            match self.frame {
                Some((_, 0)) => self.frame = None,
                Some((_, _)) if self.buffer.is_empty() => return Ok(None),
                Some((stderr, left)) => {
                    let bytes = self.buffer.split_to(left.min(self.buffer.len())).freeze();
                    let left = left - bytes.len();
                    self.frame = (left > 0).then_some((stderr, left));
                    return Ok(Some((stderr, bytes)));
                }
                None if self.buffer.len() < HEAD_BYTES => return Ok(None),
                None => {
                    let stream = self.buffer[0];
                    if stream > 2 {
                        let why = "the engine sent output that cannot be read; has the container a terminal?";
                        return Err(EngineError::new(ErrorKind::Engine, &self.what, why));
                    }
                    self.buffer.advance(4);
                    let bytes = usize::try_from(self.buffer.get_u32()).unwrap_or(usize::MAX);
                    self.frame = Some((stream == 2, bytes));
                }
            }
        }
    }
}
