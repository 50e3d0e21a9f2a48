//! What an agent remembers beside what the engine's labels say: who was let into traffic, what failed, what was tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::Micros;
use oci::Digest;
use serde::{Deserialize, Serialize};

use super::images::PulledImage;
use super::names::ServiceKey;

/// The longest pause between two tries, in seconds.
const RETRY_SECONDS_MAX: i64 = 30;

/// Something of which at most one action is under way at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// A service's containers.
    Service(ServiceKey),
    /// A run of a job.
    Job(String),
    /// A network, by its name on the engine.
    Network(String),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "service {key}"),
            Self::Job(run) => write!(f, "job {run}"),
            Self::Network(name) => write!(f, "network {name}"),
        }
    }
}

/// Something desired that did not work, and is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was desired: another specification is another try.
    pub spec: String,
    /// What happened.
    pub error: String,
    /// The container's last lines, oldest first.
    pub log: Vec<String>,
}

/// What survives a restart of the agent. All of it is written before anything that depends on it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Ids of containers that were ready once and take, or took, traffic.
    #[serde(default)]
    pub admitted: BTreeSet<String>,
    /// Ids of containers whose stop was begun: they take no requests until they are started again.
    #[serde(default)]
    pub stopping: BTreeSet<String>,
    /// The specification with which each service was last as desired.
    #[serde(default)]
    pub proven: BTreeMap<String, String>,
    /// What failed, by [`Work`].
    #[serde(default)]
    pub failures: BTreeMap<String, Failure>,
    /// Images that this agent had the engine pull, by the digest that was asked for.
    #[serde(default)]
    pub images: BTreeMap<Digest, PulledImage>,
}

impl Kept {
    /// The failure of this work for this specification.
    pub fn failure(&self, work: &Work, spec: &str) -> Option<&Failure> {
        self.failures.get(&work.to_string()).filter(|failure| failure.spec == spec)
    }

    /// Whether the service was last as desired with this specification, so that trouble now is not the release's.
    pub fn is_proven(&self, key: &ServiceKey, spec: &str) -> bool {
        self.proven.get(&key.to_string()).is_some_and(|proven| proven == spec)
    }
}

/// When something that failed for a passing reason is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// What was desired then; another specification starts afresh.
    pub spec: Option<String>,
    /// Since when it fails.
    pub since: Micros,
    /// How often it has.
    pub attempts: u32,
    /// Not before then.
    pub at: Micros,
    /// What happened last.
    pub error: String,
}

impl Retry {
    /// The next try after one more failure: 1, 2, 4, … 30 seconds later.
    pub fn after(previous: Option<&Self>, spec: Option<String>, error: String, now: Micros) -> Self {
        let attempts = previous.map_or(0, |retry| retry.attempts).saturating_add(1);
        let pause = 1_i64.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(RETRY_SECONDS_MAX);
        let since = previous.map_or(now, |retry| retry.since);
        Self { spec, since, attempts, at: now.plus_seconds(pause.min(RETRY_SECONDS_MAX)), error }
    }
}

/// All that an agent remembers. What is not in [`Kept`] may be lost: it is found out again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// What survives a restart.
    pub kept: Kept,
    /// The reference under which the engine has an image, for work whose image and volumes are there.
    pub prepared: BTreeMap<(Work, Digest), String>,
    /// Since when a container takes no new requests.
    pub retiring_since: BTreeMap<String, Micros>,
    /// What waits for another try.
    pub retries: BTreeMap<Work, Retry>,
}

impl Memory {
    /// Whether the container was ready once.
    pub fn is_admitted(&self, container: &str) -> bool {
        self.kept.admitted.contains(container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut retry: Option<Retry> = None;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let next = Retry::after(retry.as_ref(), None, "x".into(), Micros(0));
            pauses.push(next.at.seconds());
            retry = Some(next);
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert!(pauses.iter().all(|pause| (1..=30).contains(pause)));
    }
}
