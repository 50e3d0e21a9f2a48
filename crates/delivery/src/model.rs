//! What delivery keeps and reckons with beside the wire types: placements, hosts as the planner sees them, steps with
//! what was there before. Pure.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use api::agent::{HOST_DOWN_SECONDS, Report};
use api::delivery::{
    Environment, NewRelease, PlanChange, PlanKind, PlanState, RELEASE_ID_DIGITS, Release, ReleaseBrief, ReleaseId,
    RolloutPolicy, Step, StepState, Target, Wave,
};
use api::{AppName, EnvName, HostName, Micros, Problem, ServiceName};
use oci::Digest;
use serde::Serialize;

/// An app in an environment: what a plan works on, and what a host calls a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project {
    /// The environment.
    pub env: EnvName,
    /// The app.
    pub app: AppName,
}

impl std::fmt::Display for Project {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.env, self.app)
    }
}

/// What a host is to run of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The release.
    pub release: ReleaseId,
    /// How many containers of it, at least 1.
    pub instances: u32,
}

/// Placements of one app in one environment. What is not in it does not run.
pub type Placements = BTreeMap<(ServiceName, HostName), Placed>;

/// A host as planner and executor see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its name.
    pub name: HostName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it last reported.
    pub seen_at: Option<Micros>,
    /// Where other hosts reach its proxy.
    pub mesh: Option<String>,
    /// Why its engine does not answer, if its last report says so.
    pub engine_error: Option<String>,
}

impl HostView {
    /// Whether its last report is recent.
    pub fn is_up(&self, now: Micros) -> bool {
        is_up(self.seen_at, now)
    }
}

/// Whether a report of that time is recent.
pub fn is_up(seen_at: Option<Micros>, now: Micros) -> bool {
    seen_at.is_some_and(|seen| now.since(seen).as_secs() < HOST_DOWN_SECONDS)
}

/// A host's last report and when it came, by the hub's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// When it came.
    pub at: Micros,
    /// What it said.
    pub report: Arc<Report>,
}

/// What is undone of a step when the plan reverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Nothing (yet).
    No,
    /// The host was told to go back at this time.
    Active(Micros),
    /// The host is back, or did not say so in time.
    Done,
}

/// A step with what the executor must remember of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// As others see it.
    pub step: Step,
    /// In which wave it is, from 0.
    pub wave: u32,
    /// What the host ran of the service before.
    pub before: Option<Placed>,
    /// The number of the host's desired state that carried the last change of this step.
    pub told: u64,
    /// How far it is undone.
    pub undo: Undo,
}

/// A plan with what the executor must remember of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRecord {
    /// Its id.
    pub id: String,
    /// What it works on.
    pub project: Project,
    /// What kind of change it is.
    pub kind: PlanKind,
    /// Releases that change.
    pub changes: Vec<PlanChange>,
    /// The budget, frozen with the plan.
    pub policy: RolloutPolicy,
    /// Its steps by number.
    pub steps: Vec<StepRecord>,
    /// How far it is.
    pub state: PlanState,
    /// Why it stopped.
    pub error: Option<Problem>,
    /// Who asked.
    pub requested_by: String,
    /// Why it was forced or rolled back.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at: Micros,
    /// When it ended.
    pub finished_at: Option<Micros>,
}

impl PlanRecord {
    /// As others see it.
    pub fn to_plan(&self) -> api::delivery::Plan {
        let mut waves: Vec<Wave> = Vec::new();
        for record in &self.steps {
            while waves.len() <= usize::try_from(record.wave).unwrap_or(usize::MAX) {
                waves.push(Wave { steps: Vec::new() });
            }
            if let Some(wave) = waves.last_mut() {
                wave.steps.push(record.step.clone());
            }
        }
        api::delivery::Plan {
            id: self.id.clone(),
            env: self.project.env.clone(),
            app: self.project.app.clone(),
            kind: self.kind,
            changes: self.changes.clone(),
            waves,
            state: self.state,
            error: self.error.clone(),
            requested_by: self.requested_by.clone(),
            reason: self.reason.clone(),
            created_at: self.created_at,
            finished_at: self.finished_at,
        }
    }

    /// The run id of a job in this plan.
    pub fn run(&self, service: &ServiceName) -> String {
        format!("{}/{service}", self.id)
    }

    /// The wave that is under way: the first with a step that is not done, and how many there are.
    pub fn wave_current(&self) -> (u32, u32) {
        let count = self.steps.last().map_or(0, |last| last.wave + 1);
        let current = self.steps.iter().find(|record| record.step.state != StepState::Done).map_or(count, |r| r.wave);
        (current, count)
    }
}

#[derive(Serialize)]
struct Identity<'a> {
    app: &'a AppName,
    service: &'a ServiceName,
    #[serde(flatten)]
    what: IdentityParts<'a>,
}

#[derive(Serialize)]
struct IdentityParts<'a> {
    image: String,
    base: &'a compose::ServiceDefinition,
    overlays: &'a BTreeMap<EnvName, compose::ServiceDefinition>,
    job: bool,
    ports: BTreeSet<u16>,
}

/// The identity of a release: the first [`RELEASE_ID_DIGITS`] hexadecimal digits of the SHA-256 over the canonical JSON
/// of all that it says but where it comes from.
///
/// # Errors
/// The definition has no JSON form, which does not happen to one that was read from a file.
pub fn release_id(app: &AppName, new: &NewRelease) -> Result<ReleaseId, String> {
    let identity = Identity {
        app,
        service: &new.service,
        what: IdentityParts {
            image: format!("{}@{}", new.image.repository, new.image.digest),
            base: &new.definitions.base,
            overlays: &new.definitions.overlays,
            job: new.job,
            ports: new.ports.iter().copied().collect(),
        },
    };
    let bytes = serde_json::to_vec(&identity).map_err(|error| error.to_string())?;
    let hex = Digest::sha256_of(&bytes).hex();
    hex.get(..RELEASE_ID_DIGITS).unwrap_or_default().parse()
}

/// A release in a line.
pub fn brief(release: &Release) -> ReleaseBrief {
    ReleaseBrief { id: release.id.clone(), digest: release.image.digest, commit: release.provenance.commit.clone() }
}

/// Whether an environment runs on a host.
pub fn target_matches(target: &Target, name: &HostName, labels: &BTreeMap<String, String>) -> bool {
    let Target::Docker { hosts, labels: wanted } = target;
    hosts.contains(name)
        || (!wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key).is_some_and(|label| label == value)))
}

/// Whether an environment is for an app.
pub fn is_for_app(environment: &Environment, app: &AppName) -> bool {
    environment.spec.apps.is_empty() || environment.spec.apps.contains(app)
}

/// Environments in their order: each after the one it names, otherwise as they are given.
pub fn environments_ordered(environments: Vec<Environment>) -> Vec<Environment> {
    let mut left = environments;
    let mut ordered: Vec<Environment> = Vec::new();
    while !left.is_empty() {
        let ready = left.iter().position(|environment| {
            let known = |name: &EnvName| ordered.iter().any(|other| other.name == *name);
            let missing = |name: &EnvName| !left.iter().any(|other| other.name == *name);
            environment.spec.after.as_ref().is_none_or(|after| known(after) || missing(after))
        });
        // A circle cannot be applied; were there one, its first member would begin.
        ordered.push(left.remove(ready.unwrap_or(0)));
    }
    ordered
}
