//! `[registry]` of `hub.toml`, as it is read and checked.

use std::time::Duration;

use serde::Deserialize;

use crate::policy::Rules;
use crate::rights::HostRules;
use crate::upstream::UpstreamConfigs;

/// How long what nothing refers to stays unless told otherwise.
const GRACE_DEFAULT: Duration = Duration::from_secs(3600);
/// Within which time every blob is read again unless told otherwise: 30 days.
const SCRUB_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the platform team decides of the registry. Every key may be left out; without any there are no rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long what nothing refers to stays: a push has so long from its first blob to its manifest.
    #[serde(deserialize_with = "base::units::time")]
    pub grace: Duration,
    /// Within this time every blob is read again and compared with its digest.
    #[serde(deserialize_with = "base::units::time")]
    pub scrub: Duration,
    /// What holds for which repositories.
    #[serde(rename = "repositories")]
    pub rules: Rules,
    /// Which hosts may pull what.
    pub hosts: HostRules,
    /// Registries whose repositories are pulled through this one.
    pub upstreams: UpstreamConfigs,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace: GRACE_DEFAULT,
            scrub: SCRUB_DEFAULT,
            rules: Rules::default(),
            hosts: HostRules::default(),
            upstreams: UpstreamConfigs::default(),
        }
    }
}
