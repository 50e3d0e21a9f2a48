//! Alerts: what new advisories mean for what is known here.

use std::collections::BTreeMap;

use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use super::Severity;
use crate::{AppName, EnvName, Micros, ServiceName};

/// What was told when advisories were taken in. Counts and names are those of that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Rises with every alert, in the order in which they are sent.
    pub number: u64,
    /// The message's id for those who receive it (`webhook-id`): the same however often it is sent.
    pub message: String,
    /// When it was recorded.
    pub at: Micros,
    /// What is new.
    pub news: News,
    /// How far its message is; none where there is no webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// What is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum News {
    /// One vulnerability, and what it affects.
    Advisory(AdvisoryNews),
    /// Many at once, counted.
    Summary(SummaryNews),
}

/// A vulnerability that affects images here, which nobody knew before, or that got worse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvisoryNews {
    /// Its name.
    pub id: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// What is wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// Whether it is known to be exploited.
    pub known_exploited: bool,
    /// When it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Micros>,
    /// Why this is news.
    pub reasons: Vec<AlertReason>,
    /// Versions that are not affected any more.
    pub fixed_in: Vec<String>,
    /// The components that it is about: the first of them.
    pub components: Vec<String>,
    /// How many of them there are.
    pub components_count: u64,
    /// The images that it is about, those that run somewhere first: the first of them.
    pub images: Vec<AlertImage>,
    /// How many of them there are.
    pub images_count: u64,
    /// Where they run: the first of them.
    pub running: Vec<AlertRunning>,
    /// In how many environments of services they run.
    pub running_count: u64,
}

/// Why an advisory is news.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AlertReason {
    /// Components are affected that were not known to be.
    Affected,
    /// It has become known to be exploited.
    Exploited,
    /// It is rated worse than before.
    Severity {
        /// How it was rated.
        before: Severity,
    },
}

/// An image that an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertImage {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its manifest.
    pub digest: Digest,
    /// A tag that led there, or to an index of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// A service that ran an affected image in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRunning {
    /// Its app.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvName,
    /// On how many hosts.
    pub hosts: u64,
}

/// Many vulnerabilities at once: those of the first file of advisories, or what was left of one that brought very many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryNews {
    /// Whether these are the first advisories that this hub has.
    pub first: bool,
    /// How many there are that affect anything here, by severity.
    pub severities: BTreeMap<Severity, u64>,
    /// Of these, those known to be exploited.
    pub known_exploited: u64,
    /// How many images they are about.
    pub images_count: u64,
    /// Their names, the worst first: the first of them.
    pub ids: Vec<String>,
}

impl SummaryNews {
    /// How many vulnerabilities there are.
    pub fn count(&self) -> u64 {
        self.severities.values().sum()
    }
}

/// How far a message is on its way to the webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Delivery {
    /// It waits to be sent, or to be sent again.
    Waiting {
        /// How often it was sent in vain.
        tries: u32,
        /// Why it failed the last time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// It was taken.
    Sent {
        /// When.
        at: Micros,
    },
    /// Nobody took it, and it is not sent again.
    Dead {
        /// Since when.
        at: Micros,
        /// Why it failed the last time.
        why: String,
    },
}
