//! Which hosts may pull what: `[[registry.hosts]]` of `hub.toml`. The first rule whose `match` fits a repository holds for
//! it; what no rule is about, every host may pull.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci::RepositoryName;
use serde::Deserialize;

use crate::pattern::RepositoryPattern;

/// Rules at most.
const RULES_MAX: usize = 1000;

/// Repositories that are for some hosts alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Which repositories.
    #[serde(rename = "match")]
    pub repositories: RepositoryPattern,
    /// The labels, all of them, that a host's token must have given it; none lets every host pull.
    pub labels: BTreeMap<String, String>,
}

/// Rules in their order, checked. Cheap to clone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<HostRule>")]
pub struct HostRules(Arc<[HostRule]>);

/// Why rules cannot be meant so, with what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostRulesError {
    /// Too many.
    #[error("there are more than {RULES_MAX} rules for hosts")]
    TooMany,
    /// An earlier rule leaves nothing for this one.
    #[error(
        "the rule for `{rule}` is never reached, because the one for `{earlier}` stands before it; put the narrower one first"
    )]
    Unreachable {
        /// The later one.
        rule: String,
        /// The earlier one.
        earlier: String,
    },
}

impl TryFrom<Vec<HostRule>> for HostRules {
    type Error = HostRulesError;

    fn try_from(rules: Vec<HostRule>) -> Result<Self, HostRulesError> {
        if rules.len() > RULES_MAX {
            return Err(HostRulesError::TooMany);
        }
        for (at, rule) in rules.iter().enumerate() {
            if let Some(earlier) = rules[..at].iter().find(|earlier| earlier.repositories.covers(&rule.repositories)) {
                return Err(HostRulesError::Unreachable {
                    rule: rule.repositories.as_str().to_owned(),
                    earlier: earlier.repositories.as_str().to_owned(),
                });
            }
        }
        Ok(Self(rules.into()))
    }
}

impl HostRules {
    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host with these labels may pull from a repository.
    pub fn may_pull(&self, labels: &BTreeMap<String, String>, repository: &RepositoryName) -> bool {
        let rule = self.0.iter().find(|rule| rule.repositories.matches(repository.as_str()));
        rule.is_none_or(|rule| rule.labels.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::Config;

    fn read(text: &str) -> Result<Config, String> {
        base::config::parse::<Config>("hub.toml", text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_rule_that_fits_says_which_labels_a_host_needs() {
        let config = read(
            "[[hosts]]\nmatch = \"team-a/open\"\nlabels = {}\n\
             [[hosts]]\nmatch = \"team-a/**\"\nlabels = { team = \"a\", zone = \"eu\" }\n",
        )
        .unwrap();
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        for (repository, given, may) in [
            ("team-a/web", labels(&[("team", "a"), ("zone", "eu"), ("more", "")]), true),
            ("team-a/web", labels(&[("team", "a")]), false),
            ("team-a/web", labels(&[("team", "b"), ("zone", "eu")]), false),
            ("team-a/web/deep", labels(&[]), false),
            ("team-a/open", labels(&[]), true),
            ("team-ab", labels(&[]), true),
        ] {
            assert_eq!(config.hosts.may_pull(&given, &repository.parse().unwrap()), may, "{repository} {given:?}");
        }
    }

    #[test]
    fn an_error_says_what_is_right() {
        for (text, wanted) in [
            ("[[hosts]]\nmatch = \"a\"", "missing field `labels`"),
            ("[[hosts]]\nmatch = \"a\"\nlabel = {}", "did you mean `labels`?"),
            (
                "[[hosts]]\nmatch = \"**\"\nlabels = {}\n[[hosts]]\nmatch = \"a\"\nlabels = {}",
                "put the narrower one first",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
