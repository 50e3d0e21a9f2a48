//! Talking to a process in a container: what it is given, what it writes, how it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::AsyncRead;
use tokio::sync::watch;

use crate::EngineError;

/// A command to run in a container that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// The program and its arguments; there is no shell unless the program is one.
    pub command: Vec<String>,
    /// User and group, as `name`, `uid` or `uid:gid`; `None` is the container's.
    pub user: Option<String>,
    /// Where it starts; `None` is where the container does.
    pub working_dir: Option<String>,
    /// Environment variables beside, or in place of, the container's.
    pub environment: BTreeMap<String, String>,
    /// With all rights of the host's root within the container.
    pub privileged: bool,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What a process is connected to.
#[derive(Default)]
pub struct SessionInput {
    /// Its standard input, until the reader ends; `None` is none at all.
    pub stdin: Option<Pin<Box<dyn AsyncRead + Send>>>,
    /// It has a terminal of this size, which follows the sender's changes. Everything it writes is then
    /// [`SessionOutput::Stdout`]. For a container's first process its definition must say so, too.
    pub terminal: Option<watch::Receiver<TerminalSize>>,
}

impl fmt::Debug for SessionInput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionInput")
            .field("stdin", &self.stdin.is_some())
            .field("terminal", &self.terminal)
            .finish()
    }
}

/// What comes from a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOutput {
    /// It wrote this to standard output or to its terminal.
    Stdout(Bytes),
    /// It wrote this to standard error.
    Stderr(Bytes),
    /// It ended with this code; nothing comes after it.
    Ended(i64),
}

/// A process that one talks to: its output, the last of it [`SessionOutput::Ended`]. Dropping it ends the connection, and
/// not the process.
pub type Session = BoxStream<'static, Result<SessionOutput, EngineError>>;
