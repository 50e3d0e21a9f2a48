//! Building an image with BuildKit: what is asked, what is told on the way, how it ends.
//!
//! BuildKit runs inside the engine and is reached through `POST /build?version=2` with a tar as body and no session. So
//! whatever needs a session (secrets, SSH, contexts that stay with the client) fails, and says so.

mod context;
mod failure;
mod ignore;
mod trace;

use std::collections::BTreeMap;

use base::clock::Micros;
use serde::{Deserialize, Serialize};

pub use context::TarBody;
pub(crate) use failure::FailureCollector;
pub use failure::{BuildError, BuildFailure, FAILURE_LINES_MAX};
pub use ignore::{Ignore, IgnoreError, Matcher, PATTERN_BYTES_MAX, PATTERNS_MAX};

pub use trace::{TRACE_BYTES_MAX, TraceError, trace_decode};

/// What to build from the tar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildOptions {
    /// Path of the Dockerfile in the tar; `None` is `Dockerfile`.
    pub dockerfile: Option<String>,
    /// Values of the Dockerfile's ARGs.
    pub args: BTreeMap<String, String>,
    /// Stage to build; `None` is the last.
    pub target: Option<String>,
    /// Labels added to the image.
    pub labels: BTreeMap<String, String>,
    /// References given to the image, `host/repo:tag`.
    pub tags: Vec<String>,
    /// Network of the RUN steps: `default`, `none` or `host`.
    pub network: Option<String>,
    /// Runs every step again.
    pub no_cache: bool,
    /// Address of a Git repository or archive that the engine fetches as the context, in place of the tar's files.
    pub remote: Option<String>,
    /// Asks for bases again, though the engine has them.
    pub pull: bool,
    /// Platform of the image; `None` is the engine's own.
    pub platform: Option<String>,
    /// Images whose steps may be taken over.
    pub cache_from: Vec<String>,
    /// Names that RUN steps find: addresses by name.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Size of `/dev/shm` in RUN steps (engines from 23 on; older ones take no notice).
    pub shm_bytes: Option<u64>,
    /// Limits of processes in RUN steps, soft and hard (engines from 23 on).
    pub ulimits: BTreeMap<String, (i64, i64)>,
}

/// What a build tells on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildEvent {
    /// A step was planned, began or ended; the same step comes several times, each time whole.
    Step(BuildStep),
    /// A part of a step's work, such as one layer of a pull.
    Status(BuildStatus),
    /// A step wrote something.
    Log(BuildLog),
}

/// One step of a build (BuildKit calls it a vertex).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStep {
    /// Names it within the build.
    pub digest: String,
    /// What it does, such as `[2/3] RUN make`.
    pub name: String,
    /// When it began.
    pub started: Option<Micros>,
    /// When it ended.
    pub completed: Option<Micros>,
    /// Its result was there already.
    pub cached: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// How far a part of a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStatus {
    /// Digest of the step.
    pub step: String,
    /// What is being done, such as `extracting sha256:…`.
    pub name: String,
    /// Units done, bytes where they are bytes.
    pub current: i64,
    /// Units in all; 0 when not known.
    pub total: i64,
    /// When it ended.
    pub completed: Option<Micros>,
}

/// Output of a step; not always whole lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildLog {
    /// Digest of the step.
    pub step: String,
    /// Written to standard error.
    pub stderr: bool,
    /// When it was written.
    pub at: Option<Micros>,
    /// What was written; bytes that are not UTF-8 are replaced.
    pub text: String,
}
