//! Releases, environments, promotions, plans, hosts: what delivery is asked and what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use compose::ServiceDefinition;
use futures::stream::BoxStream;
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::agent::{Desired, DesiredSeen, InstanceState, Report};
use crate::pipeline::Provenance;
use crate::{AppName, EnvName, HostName, Micros, Page, Problem, Result, ServiceAddress, ServiceName};

/// A release's identity: 16 hexadecimal digits of a SHA-256 over image digest and definition, so that the same image
/// with the same definition is the same release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(String);

/// The length of a release id in hexadecimal digits.
pub const RELEASE_ID_DIGITS: usize = 16;

impl ReleaseId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReleaseId {
    type Err = String;
    fn from_str(given: &str) -> std::result::Result<Self, String> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if given.len() == RELEASE_ID_DIGITS && given.bytes().all(hex) {
            Ok(Self(given.to_owned()))
        } else {
            Err(format!("a release id has {RELEASE_ID_DIGITS} hexadecimal digits; `longshore release ls` lists them"))
        }
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = String;
    fn try_from(given: String) -> std::result::Result<Self, String> {
        given.parse()
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> String {
        id.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where an image is and which it is. Nothing downstream of a build is addressed by tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAddress {
    /// The repository in the hub's registry: `APP/SERVICE`.
    pub repository: RepositoryName,
    /// An image's digest, or that of an index of several platforms.
    pub digest: Digest,
}

/// What a service is to be, for each environment that the commit said something about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definitions {
    /// `compose.yaml` alone: for environments without an overlay.
    pub base: ServiceDefinition,
    /// `compose.yaml` with `compose.ENV.yaml`.
    pub overlays: BTreeMap<EnvName, ServiceDefinition>,
}

impl Definitions {
    /// What holds in an environment.
    pub fn of(&self, env: &EnvName) -> &ServiceDefinition {
        self.overlays.get(env).unwrap_or(&self.base)
    }
}

/// A service's image with its definition and evidence. Immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Content identity.
    pub id: ReleaseId,
    /// The app.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// The image.
    pub image: ImageAddress,
    /// Definitions with every overlay of the commit.
    pub definitions: Definitions,
    /// Whether others await it with `service_completed_successfully`: it runs once per plan and is not kept running.
    pub job: bool,
    /// TCP ports on which it can be reached by name: `ports`, `expose` and the image's EXPOSE.
    pub ports: Vec<u16>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// When it was recorded first.
    pub created_at: Micros,
}

/// What the pipeline hands over after a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewReleases {
    /// The app.
    pub app: AppName,
    /// The commit.
    pub commit: String,
    /// One for each service that the run covered.
    pub releases: Vec<NewRelease>,
    /// Whether the run covered the whole app: services that are not in it are gone from the app.
    pub whole: bool,
}

/// A release without what delivery adds to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewRelease {
    /// The service.
    pub service: ServiceName,
    /// The image.
    pub image: ImageAddress,
    /// Definitions with every overlay.
    pub definitions: Definitions,
    /// Whether others await its end.
    pub job: bool,
    /// Ports on which it can be reached by name.
    pub ports: Vec<u16>,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// An environment as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: EnvName,
    /// What it says.
    pub spec: EnvironmentSpec,
    /// Counts its applied versions from 1.
    pub revision: u64,
    /// When this version was applied.
    pub applied_at: Micros,
}

/// What an environment's file says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// The environment that a release must have been in before; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EnvName>,
    /// The apps it is for; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppName>,
    /// Where it runs.
    pub target: Target,
    /// How a rollout goes.
    #[serde(default)]
    pub rollout: RolloutPolicy,
}

/// Where an environment runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// Hosts with a Docker engine and an agent.
    Docker {
        /// Hosts by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hosts: Vec<HostName>,
        /// And those with all of these labels.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
    },
}

/// How a rollout goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutPolicy {
    /// The budget: how many hosts may be worked on at once.
    pub max_unavailable: u32,
    /// How long a step may take until its containers are healthy, pull included, in seconds.
    pub step_seconds_max: u64,
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self { max_unavailable: 1, step_seconds_max: 300 }
    }
}

/// One difference between an applied environment and a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentChange {
    /// The environment.
    pub name: EnvName,
    /// What holds now; none when it is new.
    pub from: Option<EnvironmentSpec>,
    /// What the file says.
    pub to: EnvironmentSpec,
    /// The revision after it was applied; none when it was only compared.
    pub revision: Option<u64>,
}

/// What differs, service by service, between two environments or between an environment and the newest build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDifference {
    /// The service.
    pub service: ServiceName,
    /// On the left.
    pub from: Option<ReleaseBrief>,
    /// On the right.
    pub to: Option<ReleaseBrief>,
}

/// A release in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseBrief {
    /// Its id.
    pub id: ReleaseId,
    /// Its image.
    pub digest: Digest,
    /// The commit it was built from.
    pub commit: String,
}

/// What an environment has of an app: all that it takes to run the same elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentReleases {
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
    /// One for each service, by name; none when the environment has nothing of the app.
    pub releases: Vec<EnvironmentRelease>,
}

/// A service's release, with the definition that holds in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentRelease {
    /// Its id.
    pub id: ReleaseId,
    /// The service.
    pub service: ServiceName,
    /// Its image.
    pub image: ImageAddress,
    /// Its definition in the environment.
    pub definition: ServiceDefinition,
    /// Whether others await its end.
    pub job: bool,
    /// The commit it was built from.
    pub commit: String,
}

/// Asks for a promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// The app, or one service of it.
    pub address: ServiceAddress,
    /// Where to.
    pub to: EnvName,
    /// Skips the order of environments; needs a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_reason: Option<String>,
    /// Who asks, for the record.
    pub requested_by: String,
}

/// Asks for the release that an environment ran before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The app, or one service of it.
    pub address: ServiceAddress,
    /// Where.
    pub env: EnvName,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks, for the record.
    pub requested_by: String,
}

/// A frozen list of waves of steps under a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id: a UUIDv7.
    pub id: String,
    /// Where.
    pub env: EnvName,
    /// What app.
    pub app: AppName,
    /// What kind of change it carries out.
    pub kind: PlanKind,
    /// The services whose release changes.
    pub changes: Vec<PlanChange>,
    /// In order; a wave begins when the one before it is done.
    pub waves: Vec<Wave>,
    /// How far it is.
    pub state: PlanState,
    /// Why it stopped, for a person: with the last log lines of the container that never got healthy.
    pub error: Option<Problem>,
    /// Who asked.
    pub requested_by: String,
    /// Why it was forced, or rolled back.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at: Micros,
    /// When it ended.
    pub finished_at: Option<Micros>,
}

/// What kind of change a plan carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanKind {
    /// Releases enter an environment.
    Promotion,
    /// Earlier releases come back.
    Rollback,
}

/// A service whose release changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanChange {
    /// The service.
    pub service: ServiceName,
    /// What ran before; none when it is new there.
    pub from: Option<ReleaseId>,
    /// What is to run; none when the service is gone from the app.
    pub to: Option<ReleaseId>,
}

/// How far a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// Steps are under way.
    Running,
    /// A step failed; what was changed goes back.
    Reverting,
    /// The environment has the new releases.
    Succeeded,
    /// The environment has the releases it had.
    Failed,
}

impl PlanState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// Steps that may be under way together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Its steps.
    pub steps: Vec<Step>,
}

/// One change on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Counts a plan's steps from 1.
    pub number: u32,
    /// What is done.
    pub action: StepAction,
    /// Where.
    pub host: HostName,
    /// To which service.
    pub service: ServiceName,
    /// The release that is to run, or whose container is removed.
    pub release: ReleaseId,
    /// How many containers of it the host is to run.
    pub instances: u32,
    /// How far it is.
    pub state: StepState,
    /// When it began.
    pub started_at: Option<Micros>,
    /// When it ended.
    pub finished_at: Option<Micros>,
    /// What the agent says of it.
    pub detail: Option<String>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepAction {
    /// Starts a service where it does not run.
    Start,
    /// Replaces one release by another.
    Replace,
    /// Takes a service away.
    Remove,
    /// Runs a job to its end.
    Job,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its wave has not begun.
    Waiting,
    /// The host was told.
    Active,
    /// The host reports it done.
    Done,
    /// It failed; the host goes back.
    Failed,
    /// It was undone, or never begun, because another step failed.
    Reverted,
}

/// What a plan, or the way of a release into an environment, waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The service, or the whole app.
    pub address: ServiceAddress,
    /// The environment.
    pub env: EnvName,
    /// One sentence: what holds.
    pub summary: String,
    /// The reasons one by one, most important first.
    pub reasons: Vec<String>,
    /// What to do next, as a command where there is one.
    pub next: Option<String>,
    /// The plan that is meant, if any.
    pub plan: Option<String>,
}

/// A machine with an engine and an agent, as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was enrolled.
    pub enrolled_at: Micros,
    /// When it last reported; none when it never did.
    pub seen_at: Option<Micros>,
    /// Whether its last report is recent.
    pub up: bool,
    /// The number of the desired state it was told last.
    pub desired_number: u64,
    /// What it reported last.
    pub report: Option<Report>,
}

/// A running (or failing) container of a service, with what the engine itself says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The app.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// Where it runs.
    pub host: HostName,
    /// Which of the host's instances of this service.
    pub slot: u32,
    /// The release it was made from.
    pub release: ReleaseId,
    /// The digest of the image the engine runs it from.
    pub digest: Digest,
    /// The engine's id of the container.
    pub container: String,
    /// How it is.
    pub state: InstanceState,
    /// Since when.
    pub since: Micros,
}

/// All that the overview page shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// When this was so.
    pub at: Micros,
    /// Environments in their order.
    pub environments: Vec<EnvName>,
    /// Apps by name.
    pub apps: Vec<AppOverview>,
    /// Plans under way, then the last ended ones, newest first.
    pub plans: Vec<Plan>,
    /// Hosts by name.
    pub hosts: Vec<Host>,
}

/// An app in the overview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppOverview {
    /// The app.
    pub app: AppName,
    /// Its services by name.
    pub services: Vec<ServiceOverview>,
}

/// A service in the overview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOverview {
    /// The service.
    pub service: ServiceName,
    /// Whether it is a job.
    pub job: bool,
    /// The newest release that was built.
    pub newest: Option<ReleaseBrief>,
    /// Where it is.
    pub environments: BTreeMap<EnvName, ServiceInEnvironment>,
}

/// A service in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInEnvironment {
    /// What is to run.
    pub release: ReleaseBrief,
    /// Since when.
    pub since: Micros,
    /// What runs.
    pub instances: Vec<Instance>,
}

/// A line of a service's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The host.
    pub host: HostName,
    /// The service.
    pub service: ServiceName,
    /// Which of the host's instances.
    pub slot: u32,
    /// When the engine took it.
    pub at: Micros,
    /// Whether it came from standard error.
    pub stderr: bool,
    /// The text, without its line end.
    pub text: String,
}

/// Asks for a service's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// The environment.
    pub env: EnvName,
    /// The app, or one service of it.
    pub address: ServiceAddress,
    /// Go on as lines come.
    #[serde(default)]
    pub follow: bool,
    /// How many lines of the past, for each container; at most [`LOG_TAIL_LINES_MAX`].
    pub tail_lines: u32,
}

/// The most lines of the past that can be asked for, for each container.
pub const LOG_TAIL_LINES_MAX: u32 = 10_000;

/// Narrows a list of releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFilter {
    /// Only of this app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// Only of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
}

/// Delivery, as the command line, pages and the pipeline see it.
#[async_trait]
pub trait Delivery: Send + Sync {
    /// Records the releases of a run, all or none, and pins their images. Known ones are returned as they are.
    async fn release_record(&self, new: NewReleases) -> Result<Vec<Release>>;
    /// A release by id, or by an unambiguous beginning of it.
    async fn release_get(&self, id: &str) -> Result<Release>;
    /// Releases, newest first.
    async fn release_list(&self, filter: ReleaseFilter, after: Option<&str>, limit: u32) -> Result<Page<Release>>;

    /// Compares a file of environments with what holds and, unless `dry_run`, applies it: all or nothing.
    async fn env_apply(&self, text: &str, file_name: &str, dry_run: bool) -> Result<Vec<EnvironmentChange>>;
    /// Environments in their order.
    async fn env_list(&self) -> Result<Vec<Environment>>;
    /// What an environment has of an app.
    async fn env_releases(&self, app: &AppName, env: &EnvName) -> Result<EnvironmentReleases>;
    /// What differs between two environments, service by service; without `from`, between the newest build and `to`.
    async fn env_diff(&self, app: &AppName, from: Option<&EnvName>, to: &EnvName) -> Result<Vec<ServiceDifference>>;

    /// Plans a promotion and records it. Refused while another plan of the same app works on the environment, when the
    /// order of environments is skipped without a reason, and when nothing would change.
    async fn promote(&self, request: PromoteRequest) -> Result<Plan>;
    /// Plans the way back to what the environment ran before.
    async fn rollback(&self, request: RollbackRequest) -> Result<Plan>;
    /// A plan as it stands.
    async fn plan_get(&self, id: &str) -> Result<Plan>;
    /// Plans, newest first.
    async fn plan_list(
        &self,
        app: Option<&AppName>,
        env: Option<&EnvName>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Plan>>;
    /// What a plan, or the way of a release into an environment, waits for.
    async fn why(&self, address: &ServiceAddress, env: &EnvName) -> Result<Why>;

    /// Hosts by name.
    async fn host_list(&self, after: Option<&str>, limit: u32) -> Result<Page<Host>>;
    /// What runs in an environment, by service, host and slot.
    async fn instance_list(&self, app: &AppName, env: &EnvName) -> Result<Vec<Instance>>;
    /// Output of a service's containers, from every host.
    async fn logs(&self, request: LogRequest) -> Result<BoxStream<'static, Result<LogLine>>>;

    /// All that the overview page shows.
    async fn overview(&self) -> Result<Overview>;
    /// Counts changes of what the overview shows; wait on it rather than asking again and again.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Delivery, as fan-out sees it.
#[async_trait]
pub trait Rollouts: Send + Sync {
    /// Every host with its labels.
    async fn host_labels(&self) -> Result<BTreeMap<HostName, BTreeMap<String, String>>>;
    /// The images that hosts will need next: those of steps that wait, in the wave of each plan that is under way and in
    /// the one after it.
    async fn images_ahead(&self) -> Result<BTreeMap<HostName, Vec<ImageAddress>>>;
    /// The hosts that an environment runs on, by name.
    async fn env_hosts(&self, env: &EnvName) -> Result<Vec<HostName>>;
    /// The image of a release, by its id or an unambiguous beginning of it.
    async fn release_image(&self, id: &str) -> Result<(ReleaseId, ImageAddress)>;
    /// Counts changes after which the answers may be others.
    fn rollouts_changed(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Delivery, as agents see it.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Makes a host known, or gives a known one its labels.
    async fn host_enrolled(&self, host: &HostName, labels: BTreeMap<String, String>) -> Result<()>;
    /// The state a host should be in, as soon as it differs from what the agent has seen, or after `wait_seconds`
    /// (bounded by [`crate::agent::WAIT_SECONDS_MAX`]).
    async fn desired(&self, host: &HostName, seen: DesiredSeen, wait_seconds: u64) -> Result<Desired>;
    /// Takes what a host reports.
    async fn report(&self, host: &HostName, report: Report) -> Result<()>;
    /// Takes the output that a host sends for a log stream it was asked for, until either side ends it.
    async fn log_stream(&self, host: &HostName, stream: &str, lines: BoxStream<'static, Result<LogLine>>)
    -> Result<()>;
}

/// An event: what is deployed where changed. Told at least once, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deployed {
    /// There is a release.
    Release {
        /// Its id.
        release: ReleaseId,
        /// Its app.
        app: AppName,
        /// Its service.
        service: ServiceName,
        /// Its image.
        image: ImageAddress,
        /// When it was recorded first.
        created_at: Micros,
    },
    /// An environment has another release of a service, or none any more.
    Environment {
        /// The environment.
        env: EnvName,
        /// The app.
        app: AppName,
        /// The service.
        service: ServiceName,
        /// What it has from then on.
        release: Option<ReleaseId>,
        /// Since when.
        at: Micros,
    },
    /// A host runs other containers than before.
    Host {
        /// The host.
        host: HostName,
        /// When it said so.
        at: Micros,
        /// All that it runs, each once.
        running: Vec<Running>,
    },
}

/// Something that a host runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Running {
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// The release that it was made from.
    pub release: ReleaseId,
    /// The digest of the image that it runs from.
    pub digest: Digest,
}
