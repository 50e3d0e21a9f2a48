//! A process in a container, connected to this terminal.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};

use api::{Problem, Result};
use engine::{Session, SessionInput, SessionOutput, TerminalSize};
use futures::{StreamExt as _, stream};
use tokio::io::AsyncRead;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio_util::io::{ReaderStream, StreamReader};

/// What a terminal is taken for that does not say.
const SIZE_USUAL: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// This terminal, handing on every key; as it was again when this is dropped.
pub(super) struct Raw {
    before: String,
}

impl Drop for Raw {
    fn drop(&mut self) {
        stty(&[&self.before]);
    }
}

/// Whether somebody sits at both ends of it.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// What a process is connected to. With a terminal, keys go to it, Ctrl-C among them.
pub(super) fn input(terminal: bool, stdin: bool) -> Result<(SessionInput, Option<Raw>)> {
    let stdin = stdin.then(|| Box::pin(tokio::io::stdin()) as _);
    if !terminal {
        return Ok((SessionInput { stdin, terminal: None }, None));
    }
    let (sender, receiver) = watch::channel(size());
    let mut changes = signal(SignalKind::window_change())
        .map_err(|error| Problem::new(500, "signals", "Signals cannot be waited for").detail(error.to_string()))?;
    tokio::spawn(async move {
        while changes.recv().await.is_some() {
            if sender.send(size()).is_err() {
                return;
            }
        }
    });
    let raw = stty(&["-g"]).map(|before| Raw { before: before.trim().to_owned() });
    stty(&["raw", "-echo"]);
    Ok((SessionInput { stdin, terminal: Some(receiver) }, raw))
}

/// What is read, once something has happened.
pub(super) fn after(
    happened: oneshot::Receiver<()>,
    reader: impl AsyncRead + Send + 'static,
) -> impl AsyncRead + Send + 'static {
    let pieces = async move {
        match happened.await {
            Ok(()) => Some(ReaderStream::new(reader)),
            // It never will.
            Err(_dropped) => None,
        }
    };
    StreamReader::new(stream::once(pieces).flat_map(|pieces| stream::iter(pieces).flatten()))
}

/// Shows what a process writes until it ends, and gives its status.
pub(super) async fn show(mut session: Session) -> Result<i64> {
    while let Some(output) = session.next().await {
        match output.map_err(::workspace::Error::from)? {
            SessionOutput::Stdout(bytes) => write(&mut std::io::stdout().lock(), &bytes),
            SessionOutput::Stderr(bytes) => write(&mut std::io::stderr().lock(), &bytes),
            SessionOutput::Ended(status) => return Ok(status),
        }
    }
    Err(Problem::new(502, "engine", "The container engine ended the connection").hint("Try again."))
}

/// Ends this process as the other one ended.
pub(super) fn end_as(status: i64) -> Result<()> {
    match i32::try_from(status).unwrap_or(1) {
        0 => Ok(()),
        status => std::process::exit(status),
    }
}

fn write(out: &mut impl Write, bytes: &[u8]) {
    // Nobody may be reading any more; the process in the container goes on.
    let _closed = out.write_all(bytes).and_then(|()| out.flush());
}

fn size() -> TerminalSize {
    let text = stty(&["size"]).unwrap_or_default();
    let parsed = text.split_once(' ').and_then(|(rows, columns)| {
        Some(TerminalSize { rows: rows.trim().parse().ok()?, columns: columns.trim().parse().ok()? })
    });
    parsed.unwrap_or(SIZE_USUAL)
}

/// The system's own tool for terminals.
fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
