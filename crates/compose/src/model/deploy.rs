//! The `deploy` section of a service: copies, placement, limits, updates.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::is_default;

/// `deploy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// How many copies run where.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Which hosts may run the service.
    #[serde(skip_serializing_if = "is_default")]
    pub placement: Placement,
    /// Limits and reservations.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// How copies are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
    /// When a container is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Labels of the service as a whole, not of its containers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// How many copies of a service run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One on every host that the constraints allow.
    Global,
    /// A number of them.
    Replicated {
        /// How many; 0 switches the service off.
        replicas: u32,
    },
}

impl Default for Mode {
    fn default() -> Self {
        Mode::Replicated { replicas: 1 }
    }
}

/// Which hosts may run a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// All must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
}

impl Placement {
    /// Whether a host with this name and these labels may run the service.
    pub fn allows(&self, hostname: &str, labels: &BTreeMap<String, String>) -> bool {
        self.constraints.iter().all(|constraint| constraint.holds(hostname, labels))
    }
}

/// One condition on a host, such as `node.labels.data == true`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Constraint {
    /// What is looked at.
    pub attribute: Attribute,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: String,
}

impl Constraint {
    /// Whether it holds for a host. A label that a host does not have equals nothing.
    pub fn holds(&self, hostname: &str, labels: &BTreeMap<String, String>) -> bool {
        let actual = match &self.attribute {
            Attribute::Hostname => Some(hostname),
            Attribute::Label(key) => labels.get(key).map(String::as_str),
        };
        match self.operator {
            Operator::Equal => actual == Some(self.value.as_str()),
            Operator::NotEqual => actual != Some(self.value.as_str()),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.attribute {
            Attribute::Hostname => f.write_str("node.hostname")?,
            Attribute::Label(key) => write!(f, "node.labels.{key}")?,
        }
        let operator = match self.operator {
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
        };
        write!(f, " {operator} {}", self.value)
    }
}

/// What of a host a constraint looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// `node.hostname`: the host's name.
    Hostname,
    /// `node.labels.KEY`: a label of the host.
    Label(String),
}

/// How a constraint compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Limits and reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What a container may use at most.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: ResourceSet,
    /// What a container is promised. `pids` is never set here.
    #[serde(skip_serializing_if = "is_default")]
    pub reservations: ResourceSet,
}

/// Amounts of what a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceSet {
    /// Processors in billionths of one (the engine's NanoCpus).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<u64>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes; -1 is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
}

/// How copies of a service are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateConfig {
    /// Copies replaced at a time; 0 means all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Time between two batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_micros: Option<u64>,
    /// What happens when an update fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_action: Option<FailureAction>,
    /// Time after an update in which a failure counts against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_micros: Option<u64>,
    /// Which comes first: stopping the old or starting the new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<UpdateOrder>,
}

/// What happens when an update fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// Go on with the rest.
    Continue,
    /// Stop there.
    Pause,
    /// Go back to what ran before.
    Rollback,
}

/// Which comes first when a container is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The old one stops, then the new one starts.
    StopFirst,
    /// The new one starts, then the old one stops.
    StartFirst,
}

/// `deploy.restart_policy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// After which ends a container is started again.
    pub condition: RestartCondition,
    /// Time before it is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_micros: Option<u64>,
    /// At most so many times; without bound when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Time a container must have run for a start to count as good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_micros: Option<u64>,
}

/// After which ends a container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Never.
    None,
    /// When it ends with another status than 0.
    OnFailure,
    /// Whenever it ends.
    #[default]
    Any,
}
