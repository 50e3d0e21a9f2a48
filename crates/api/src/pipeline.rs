//! Git to release: what is asked of the build server and what it answers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::stream::BoxStream;
use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::delivery::ReleaseId;
use crate::{AppName, Micros, Page, Result, ServiceName};

/// Asks for a build of an app at a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    /// A URL or a path on the hub's machine, as `git clone` takes it.
    pub repository: String,
    /// A branch, tag or commit.
    pub reference: String,
    /// Where the app's `compose.yaml` is inside the repository; empty is its root.
    #[serde(default)]
    pub folder: String,
    /// Only these services; empty means all.
    #[serde(default)]
    pub services: Vec<ServiceName>,
}

/// A run of the build server over the services of one app at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id: a UUIDv7.
    pub id: String,
    /// What was asked.
    pub request: BuildRequest,
    /// The app, once `compose.yaml` was read.
    pub app: Option<AppName>,
    /// The full commit id, once resolved.
    pub commit: Option<String>,
    /// How far it is.
    pub state: RunState,
    /// Why it failed, for a person.
    pub error: Option<crate::Problem>,
    /// One for each service, in build order.
    pub builds: Vec<Build>,
    /// When it was asked for.
    pub created_at: Micros,
    /// When it ended.
    pub finished_at: Option<Micros>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for its turn.
    Queued,
    /// Clones or builds.
    Running,
    /// Every service has its release.
    Succeeded,
    /// No release was recorded.
    Failed,
}

/// One service of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The service.
    pub service: ServiceName,
    /// What became of it.
    pub outcome: BuildOutcome,
    /// Why it was built, or why not: "rebuilt because vote/app.py changed", "unchanged since 3f2a91c".
    pub reason: String,
    /// The image, once it is in the registry.
    pub digest: Option<Digest>,
    /// The release, once it is recorded.
    pub release: Option<ReleaseId>,
    /// When work on it began.
    pub started_at: Option<Micros>,
    /// When it ended.
    pub finished_at: Option<Micros>,
}

/// What became of one service of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildOutcome {
    /// Not begun.
    Waiting,
    /// Under way.
    Building,
    /// A new image.
    Built,
    /// Same inputs as an earlier build: its image stands.
    Reused,
    /// An `image:` of others, pinned to a digest and copied in.
    Pinned,
    /// It failed.
    Failed,
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLogLine {
    /// Its place in the log, from 0.
    pub number: u64,
    /// When it was written.
    pub at: Micros,
    /// The service it belongs to, if any.
    pub service: Option<ServiceName>,
    /// The text, without its line end.
    pub text: String,
}

/// Where an image comes from and what went into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run that built it.
    pub run: String,
    /// The repository as it was given.
    pub repository: String,
    /// The full commit id.
    pub commit: String,
    /// Engine and version that built it.
    pub builder: String,
    /// SHA-256 over all inputs: the build's identity.
    pub inputs_digest: Digest,
    /// The inputs one by one, as name and digest or value: `context`, `dockerfile`, `target`, `arg:NAME`, `base:REFERENCE`.
    pub inputs: BTreeMap<String, String>,
    /// Why it was built.
    pub reason: String,
    /// When the build began.
    pub started_at: Micros,
    /// When its image was in the registry.
    pub finished_at: Micros,
    /// The in-toto statement that says all this, a referrer of the image.
    pub statement: Option<Digest>,
}

/// The build server.
#[async_trait]
pub trait Pipeline: Send + Sync {
    /// Queues a run. Fails at once when the queue is full.
    async fn run_create(&self, request: BuildRequest) -> Result<Run>;
    /// A run as it stands.
    async fn run_get(&self, id: &str) -> Result<Run>;
    /// Runs, newest first.
    async fn run_list(&self, app: Option<&AppName>, after: Option<&str>, limit: u32) -> Result<Page<Run>>;
    /// A run's log from a line on; with `follow`, until the run has ended.
    async fn run_log(&self, id: &str, from: u64, follow: bool) -> Result<BoxStream<'static, Result<RunLogLine>>>;
}
