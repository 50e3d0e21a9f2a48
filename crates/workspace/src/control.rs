//! Messages to the process that holds a workspace, from other commands: over a socket in the workspace's folder, one line
//! of JSON each way.

use std::io;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::Problem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::error::{Error, ErrorKind};

/// The longest message.
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
/// How long a message may take to come.
const MESSAGE_SECONDS: u64 = 5;
/// Messages that may wait.
const MESSAGES_MAX: usize = 16;
/// The longest path of a socket.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// What another command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Run a service from source, or as the environment has it.
    Switch {
        /// The service.
        service: String,
        /// From source.
        develop: bool,
        /// The container's port that a debugger is to reach.
        debugger: Option<NonZeroU16>,
    },
    /// Stop a service and start it again; one that ended is started.
    Restart {
        /// The service.
        service: String,
    },
    /// Take everything down, and end.
    Down,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// It could not be done.
    Refused(Problem),
}

/// A message that waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// What is asked for.
    pub order: Order,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// Listens for messages as long as it lives.
pub struct Listener {
    path: PathBuf,
    orders: mpsc::Sender<Asked>,
    answering: TaskTracker,
    _task: AbortOnDropHandle<()>,
}

impl Listener {
    /// The way for orders from within this process.
    pub fn orders(&self) -> mpsc::Sender<Asked> {
        self.orders.clone()
    }

    /// Waits until answers that were given are sent.
    pub async fn finish(&self) {
        self.answering.close();
        let late = tokio::time::timeout(Duration::from_secs(MESSAGE_SECONDS), self.answering.wait()).await.is_err();
        if late {
            tracing::debug!("somebody does not take an answer");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // One that is left is replaced by the next that listens.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// Listens at `path`, for the process that holds the workspace.
///
/// # Errors
/// The path is too long for a socket, or cannot be used.
pub fn listen(path: &Path) -> Result<(Listener, mpsc::Receiver<Asked>), Error> {
    let failed = |error: io::Error| {
        let why = format!("no socket can be made at {}: {error}", path.display());
        Error::new(ErrorKind::State, why, "Set XDG_STATE_HOME to a shorter path, or mend its rights.")
    };
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(failed(io::Error::other(format!("the path has more than {SOCKET_PATH_BYTES_MAX} bytes"))));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let answering = TaskTracker::new();
    let (tracker, orders) = (answering.clone(), sender.clone());
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tracker.spawn(async move {
                if let Err(error) = serve(stream, sender).await {
                    tracing::debug!(%error, "a message was not answered");
                }
            });
        }
    });
    Ok((Listener { path: path.to_owned(), orders, answering, _task: AbortOnDropHandle::new(task) }, receiver))
}

async fn serve(stream: UnixStream, sender: mpsc::Sender<Asked>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MESSAGE_BYTES_MAX));
    tokio::time::timeout(Duration::from_secs(MESSAGE_SECONDS), reader.read_line(&mut line)).await??;
    let order: Order = serde_json::from_str(&line)?;
    let (answer, answered) = oneshot::channel();
    let ended = || io::Error::other("the workspace is about to end");
    sender.send(Asked { order, answer }).await.map_err(|_| ended())?;
    let answer = answered.await.map_err(|_| ended())?;
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await?;
    write.shutdown().await
}

/// Sends a message and waits for its answer, as long as that takes; `None` when nobody listens.
///
/// # Errors
/// It could not be done, or the other ended meanwhile.
pub async fn send(path: &Path, order: &Order) -> Result<Option<()>, Error> {
    let Ok(mut stream) = UnixStream::connect(path).await else { return Ok(None) };
    let broken = |error: io::Error| {
        let why = format!("the process that holds the workspace did not answer: {error}");
        Error::new(ErrorKind::Refused, why, "Try again; `longshore ps` shows how things stand.")
    };
    let mut text = serde_json::to_vec(order).map_err(|error| broken(error.into()))?;
    text.push(b'\n');
    stream.write_all(&text).await.map_err(broken)?;
    let mut line = String::new();
    BufReader::new(stream.take(MESSAGE_BYTES_MAX)).read_line(&mut line).await.map_err(broken)?;
    match serde_json::from_str(&line).map_err(|error| broken(error.into()))? {
        Answer::Done => Ok(Some(())),
        Answer::Refused(problem) => {
            Err(Error { kind: ErrorKind::Refused, why: problem.to_string(), hint: problem.hint })
        }
    }
}
