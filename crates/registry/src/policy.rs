//! The platform team's rules: which tags never change, how much repositories may hold, what goes after which time.
//!
//! The first rule whose `match` fits a repository holds for it, and no other.

use std::sync::Arc;
use std::time::Duration;

use oci::{RepositoryName, Tag};
use serde::Deserialize;

use crate::pattern::{RepositoryPattern, TagPattern};

/// Rules at most.
const RULES_MAX: usize = 1000;
/// Patterns of tags in one list at most.
const PATTERNS_MAX: usize = 100;

/// What holds for the repositories that its pattern matches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which repositories.
    #[serde(rename = "match")]
    pub repositories: RepositoryPattern,
    /// Tags that are neither moved to another digest nor deleted once they are there.
    #[serde(default)]
    pub immutable_tags: Vec<TagPattern>,
    /// Bytes that the repositories of this rule may hold together.
    #[serde(default, rename = "quota", deserialize_with = "base::units::size_option")]
    pub quota_bytes: Option<u64>,
    /// Which tags go. A tag that none of these is about stays, and of one that several are about each may keep it.
    #[serde(default)]
    pub retain: Vec<Retain>,
    /// How long a manifest without a tag stays that nothing else needs; for ever when left out.
    #[serde(default, deserialize_with = "base::units::time_option")]
    pub retain_untagged: Option<Duration>,
}

/// Which of the tags that it is about stay: those that are among the last, and those that are young. The others go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retain {
    /// The tags that this is about.
    pub tags: Vec<TagPattern>,
    /// The so many that were pushed last stay.
    #[serde(default)]
    pub last: Option<u32>,
    /// Those that were pushed within this time stay.
    #[serde(default, deserialize_with = "base::units::time_option")]
    pub pushed_within: Option<Duration>,
}

impl Rule {
    /// Whether a tag stays as it is for ever.
    pub fn is_immutable(&self, tag: &Tag) -> bool {
        self.immutable_tags.iter().any(|pattern| pattern.matches(tag.as_str()))
    }
}

impl Retain {
    /// Whether this is about a tag.
    pub fn is_about(&self, tag: &Tag) -> bool {
        self.tags.iter().any(|pattern| pattern.matches(tag.as_str()))
    }
}

/// Rules in their order, checked. Cheap to clone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<Rule>")]
pub struct Rules(Arc<[Rule]>);

/// Why rules cannot be meant so, with what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Too many rules or patterns.
    #[error("there are more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most.
        max: usize,
    },
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
    /// No pattern of tags.
    #[error("`retain` of `{rule}` has no tags: say which it is about, such as tags = [\"pr-*\"]")]
    NoTags {
        /// The rule.
        rule: String,
    },
    /// Nothing would be kept.
    #[error(
        "`retain` of `{rule}` keeps none of its tags: say how many, such as last = 20, how young, such as pushed_within = \"30d\", or both"
    )]
    KeepsNothing {
        /// The rule.
        rule: String,
    },
}

impl TryFrom<Vec<Rule>> for Rules {
    type Error = RulesError;

    fn try_from(rules: Vec<Rule>) -> Result<Self, RulesError> {
        if rules.len() > RULES_MAX {
            return Err(RulesError::TooMany { what: "rules for repositories", max: RULES_MAX });
        }
        for (at, rule) in rules.iter().enumerate() {
            let name = || rule.repositories.as_str().to_owned();
            if let Some(earlier) = rules[..at].iter().find(|earlier| earlier.repositories.covers(&rule.repositories)) {
                return Err(RulesError::Unreachable {
                    rule: name(),
                    earlier: earlier.repositories.as_str().to_owned(),
                });
            }
            let lists = rule.retain.iter().map(|retain| &retain.tags).chain([&rule.immutable_tags]);
            if rule.retain.len() > PATTERNS_MAX || lists.into_iter().any(|list| list.len() > PATTERNS_MAX) {
                return Err(RulesError::TooMany { what: "patterns of tags in one list", max: PATTERNS_MAX });
            }
            for retain in &rule.retain {
                if retain.tags.is_empty() {
                    return Err(RulesError::NoTags { rule: name() });
                }
                if retain.last.unwrap_or_default() == 0 && retain.pushed_within.is_none() {
                    return Err(RulesError::KeepsNothing { rule: name() });
                }
            }
        }
        Ok(Self(rules.into()))
    }
}

impl Rules {
    /// The rule that holds for a repository.
    pub fn of(&self, repository: &RepositoryName) -> Option<&Rule> {
        self.find(repository.as_str()).map(|(_, rule)| rule)
    }

    /// The same by the name's text, with the rule's place among the rules.
    pub(crate) fn find(&self, repository: &str) -> Option<(usize, &Rule)> {
        self.0.iter().enumerate().find(|(_, rule)| rule.repositories.matches(repository))
    }

    /// All rules in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn read(text: &str) -> Result<Config, String> {
        base::config::parse::<Config>("hub.toml", text).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_read_and_the_first_that_fits_holds() {
        let config = read(
            "grace = \"2h\"\n\
             [[repositories]]\nmatch = \"team-a/web\"\nquota = \"1 GiB\"\n\
             [[repositories]]\nmatch = \"team-a/**\"\nimmutable_tags = [\"v*\"]\nretain_untagged = \"7d\"\n\
             retain = [{ tags = [\"pr-*\"], last = 20, pushed_within = \"30d\" }]\n",
        )
        .unwrap();
        assert_eq!((config.grace.as_secs(), config.scrub.as_secs()), (7200, 30 * 86_400));
        let rule = |name: &str| config.rules.of(&name.parse().unwrap());
        assert_eq!(rule("team-a/web").unwrap().quota_bytes, Some(1 << 30));
        let wide = rule("team-a/api").unwrap();
        assert_eq!((wide.quota_bytes, wide.retain[0].last), (None, Some(20)));
        assert!(wide.is_immutable(&"v1".parse().unwrap()) && !wide.is_immutable(&"pr-1".parse().unwrap()));
        assert!(rule("team-b/api").is_none());
    }

    #[test]
    fn an_error_says_where_and_what_is_right() {
        for (text, wanted) in [
            ("grase = \"1h\"", "hub.toml:1:1: unknown field `grase`, expected one of"),
            ("grase = \"1h\"", "did you mean `grace`?"),
            ("grace = 3600", "invalid type: integer `3600`, expected a string"),
            ("grace = \"3600\"", "write a whole number and s, min, h, d or w, such as \"30d\""),
            ("[[repositories]]\nmatch = \"a\"\nquotas = \"1 B\"", "did you mean `quota`?"),
            ("[[repositories]]\nmatch = \"a\"\nquota = \"50G\"", "such as \"50 GiB\""),
            ("[[repositories]]\nquota = \"50 GB\"", "missing field `match`"),
            ("[[repositories]]\nmatch = \"A/**\"", "`A/**` can match nothing"),
            ("[[repositories]]\nmatch = \"**\"\n[[repositories]]\nmatch = \"a\"", "put the narrower one first"),
            ("[[repositories]]\nmatch = \"a\"\nretain = [{ tags = [\"*\"] }]", "keeps none of its tags"),
            ("[[repositories]]\nmatch = \"a\"\nretain = [{ tags = [], last = 1 }]", "has no tags"),
            ("[[repositories]]\nmatch = \"a\"\nretain = [{ last = 1 }]", "missing field `tags`"),
            (
                "[[repositories]]\nmatch = \"a\"\nretain = [{ tags = [\"*\"], days = 3 }]",
                "unknown field `days`, expected one of `tags`, `last`, `pushed_within`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
