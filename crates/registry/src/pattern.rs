//! Patterns of names, in rules. `*` stands for any characters within a component of a repository's name, `**` for any
//! across components, `**/` for any number of whole components, none included. Everything else stands for itself.

use serde::Deserialize;

/// The longest pattern, in characters: as long as the longest name.
const PATTERN_CHARS_MAX: usize = 255;

/// Why a text is not a pattern, with what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty or too long.
    #[error("a pattern has 1 to {PATTERN_CHARS_MAX} characters")]
    Length,
    /// A character that no name has, and that is not a wildcard.
    #[error("`{pattern}` can match nothing: {allowed}")]
    Character {
        /// The pattern.
        pattern: String,
        /// What may stand in such a pattern.
        allowed: &'static str,
    },
}

/// A pattern of repositories' names, such as `team-a/**`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct RepositoryPattern(String);

/// A pattern of tags, such as `v*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TagPattern(String);

impl RepositoryPattern {
    /// Whether a repository of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every name that `other` matches is matched by this pattern, too. `other` is tried with names in which its
    /// wildcards are a character that no name has, so that only wildcards can match them, and `**` is of several depths.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        const ANY: &str = "\u{1}";
        let depth_max = self.0.matches('/').count() + 2;
        (1..=depth_max).all(|depth| {
            let across = vec![ANY; depth].join("/");
            let name = other.0.replace("**", &across).replace('*', ANY);
            self.matches(&name)
        })
    }
}

impl TagPattern {
    /// Whether this tag is meant.
    pub fn matches(&self, tag: &str) -> bool {
        matches(self.0.as_bytes(), tag.as_bytes())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RepositoryPattern {
    type Error = PatternError;

    fn try_from(pattern: String) -> Result<Self, PatternError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*".contains(c);
        let allowed = "a repository's name has lowercase letters, digits and . _ - /, a pattern * and ** as well";
        checked(pattern, fits, allowed).map(Self)
    }
}

impl TryFrom<String> for TagPattern {
    type Error = PatternError;

    fn try_from(pattern: String) -> Result<Self, PatternError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
        checked(pattern, fits, "a tag has letters, digits and . _ -, a pattern * as well").map(Self)
    }
}

fn checked(pattern: String, fits: impl Fn(char) -> bool, allowed: &'static str) -> Result<String, PatternError> {
    match pattern.chars().count() {
        1..=PATTERN_CHARS_MAX if pattern.chars().all(fits) => Ok(pattern),
        1..=PATTERN_CHARS_MAX => Err(PatternError::Character { pattern, allowed }),
        _ => Err(PatternError::Length),
    }
}

/// Matches by dynamic programming: time and memory are bounded by the product of the lengths, whatever the wildcards.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // `reached[at]`: the pattern so far can end at `at` of the name.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while !rest.is_empty() {
        let mut next = vec![false; name.len() + 1];
        let taken = if rest.starts_with(b"**/") {
            let mut any = false;
            for at in 0..=name.len() {
                any |= reached[at];
                next[at] = reached[at] || (any && at > 0 && name[at - 1] == b'/');
            }
            3
        } else if rest[0] == b'*' {
            let across = rest.starts_with(b"**");
            let mut any = false;
            for at in 0..=name.len() {
                any &= at == 0 || across || name[at - 1] != b'/';
                any |= reached[at];
                next[at] = any;
            }
            if across { 2 } else { 1 }
        } else {
            for at in 0..name.len() {
                next[at + 1] = reached[at] && name[at] == rest[0];
            }
            1
        };
        reached = next;
        rest = &rest[taken..];
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repository(text: &str) -> RepositoryPattern {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn wildcards_within_and_across_components() {
        for (pattern, matched, unmatched) in [
            ("a", &["a"][..], &["b", "a/a", "aa"][..]),
            ("team-a/*", &["team-a/x"], &["team-a", "team-a/x/y", "team-b/x"]),
            ("team-a/**", &["team-a/x", "team-a/x/y/z"], &["team-a", "team-ab/x"]),
            ("**", &["a", "a/b", "a/b/c"], &[]),
            ("*", &["a"], &["a/b"]),
            ("**/web", &["web", "a/web", "a/b/web"], &["aweb", "web/a", "a/b/xweb"]),
            ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["az", "a/bz", "a/b"]),
            ("a*c/d", &["ac/d", "abbc/d"], &["a/c/d", "abc"]),
            ("pr-*-*", &["pr-1-2", "pr---"], &["pr-1"]),
        ] {
            for name in matched {
                assert!(repository(pattern).matches(name), "{pattern} {name}");
            }
            for name in unmatched {
                assert!(!repository(pattern).matches(name), "{pattern} {name}");
            }
        }
        assert!(TagPattern::try_from("v*".to_owned()).unwrap().matches("v1.0_X"));
    }

    #[test]
    fn what_no_name_can_have_is_refused() {
        for text in ["Team/*", "a?", "a b", "", &"a".repeat(256)] {
            assert!(RepositoryPattern::try_from(text.to_owned()).is_err(), "{text}");
        }
        for text in ["a/b", "[ab]", ""] {
            assert!(TagPattern::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_what_is_narrower() {
        for (wide, narrow) in
            [("**", "a/*"), ("a/**", "a/b"), ("a/**", "a/*/c"), ("a/**", "a/**"), ("a*", "ab*"), ("**/x", "x")]
        {
            assert!(repository(wide).covers(&repository(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in
            [("a/*", "**"), ("a/*", "a/**"), ("*/*", "**"), ("a/b", "a/**"), ("ab*", "a*"), ("**/x", "**")]
        {
            assert!(!repository(wide).covers(&repository(narrow)), "{wide} {narrow}");
        }
    }

    /// The same by trying every way, which takes for ever on long texts.
    fn naive(pattern: &str, name: &str) -> bool {
        if let Some(rest) = pattern.strip_prefix("**/") {
            return naive(rest, name) || name.match_indices('/').any(|(at, _)| naive(rest, &name[at + 1..]));
        }
        if let Some(rest) = pattern.strip_prefix("**") {
            return (0..=name.len()).any(|at| naive(rest, &name[at..]));
        }
        if let Some(rest) = pattern.strip_prefix('*') {
            let component = name.find('/').unwrap_or(name.len());
            return (0..=component).any(|at| naive(rest, &name[at..]));
        }
        match (pattern.chars().next(), name.chars().next()) {
            (None, None) => true,
            (Some(wanted), Some(given)) => wanted == given && naive(&pattern[1..], &name[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_as_trying_every_way(pattern in "([ab/]|\\*|\\*\\*|\\*\\*/){1,7}", name in "[ab/]{0,8}") {
            prop_assert_eq!(repository(&pattern).matches(&name), naive(&pattern, &name));
        }
    }
}
