//! Retention: which tags and manifests go, and why. Pure.

use std::time::Duration;

use api::Micros;
use oci::{Digest, Tag};

use crate::policy::Rule;

/// A tag, as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagAge {
    pub(crate) tag: Tag,
    pub(crate) digest: Digest,
    /// When it was last pushed.
    pub(crate) pushed_at: Micros,
    /// Whether someone holds what it leads to.
    pub(crate) is_pinned: bool,
    /// Whether it says something about a manifest that is there ([`subject_of`]).
    pub(crate) has_subject: bool,
}

/// Judges the tags of one repository, which come in the order of their pushes, the last one first.
pub(crate) struct Judge<'r> {
    rule: &'r Rule,
    now: Micros,
    /// How many tags each `retain` of the rule was about so far.
    seen: Vec<u32>,
}

impl<'r> Judge<'r> {
    pub(crate) fn new(rule: &'r Rule, now: Micros) -> Self {
        Self { rule, now, seen: vec![0; rule.retain.len()] }
    }

    /// Why the next tag goes; none when it stays. It stays when it is immutable or no `retain` is about it; when it is
    /// pinned, or signs or describes an image that is there; and when any `retain` that is about it keeps it.
    pub(crate) fn tag(&mut self, tag: &TagAge) -> Option<String> {
        if self.rule.is_immutable(&tag.tag) || tag.has_subject {
            return None;
        }
        let age = self.now.since(tag.pushed_at);
        let (mut is_kept, mut why) = (tag.is_pinned, Vec::new());
        for (retain, seen) in
            self.rule.retain.iter().zip(&mut self.seen).filter(|(retain, _)| retain.is_about(&tag.tag))
        {
            *seen = seen.saturating_add(1);
            is_kept |= retain.last.is_some_and(|last| *seen <= last);
            is_kept |= retain.pushed_within.is_some_and(|within| age <= within);
            why.extend(retain.last.map(|last| format!("not among the last {last}")));
        }
        let is_covered = self.rule.retain.iter().any(|retain| retain.is_about(&tag.tag));
        (is_covered && !is_kept).then(|| {
            why.dedup();
            why.push(format!("pushed {} ago", days(age)));
            why.join(", ")
        })
    }
}

/// Why a manifest goes that has been without a tag since a time, and that nothing else needs; none when it stays.
pub(crate) fn untagged(rule: &Rule, since: Micros, now: Micros) -> Option<String> {
    let age = now.since(since);
    rule.retain_untagged.filter(|stays| age > *stays).map(|_| format!("without a tag for {}", days(age)))
}

/// The manifest that a tag such as `sha256-….sig` says something about: signatures, attestations and referrers are kept
/// under such tags by clients that do not use the referrers API.
pub(crate) fn subject_of(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// The tags of [`subject_of`] that clients are known to use: of referrers, and of cosign's signatures, attestations and
/// bills of materials.
pub(crate) fn tags_about(manifest: &Digest) -> [String; 4] {
    let stem = manifest.to_string().replace(':', "-");
    ["", ".sig", ".att", ".sbom"].map(|suffix| format!("{stem}{suffix}"))
}

fn days(age: Duration) -> String {
    match age.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Config;

    const RULES: &str = "[[repositories]]\nmatch = \"**\"\nimmutable_tags = [\"v*\"]\nretain_untagged = \"5d\"\nretain = [\
         { tags = [\"a*\", \"c*\"], last = 2 }, \
         { tags = [\"b*\", \"c*\"], pushed_within = \"3d\" }, \
         { tags = [\"d*\", \"v*\"], last = 1, pushed_within = \"2d\" }]";
    const DAY: i64 = 86_400;

    fn rule() -> Rule {
        let config: Config = base::config::parse("hub.toml", RULES).unwrap();
        config.rules.iter().next().unwrap().clone()
    }

    /// Asks of every tag by itself who keeps it.
    fn naive_goes(rule: &Rule, tags: &[TagAge], at: usize, now: Micros) -> bool {
        let tag = &tags[at];
        let about: Vec<_> = rule.retain.iter().filter(|retain| retain.is_about(&tag.tag)).collect();
        if about.is_empty() || tag.is_pinned || tag.has_subject || tag.tag.as_str().starts_with('v') {
            return false;
        }
        !about.iter().any(|retain| {
            let is_newer = |other: &&TagAge| {
                (other.pushed_at, other.tag.as_str()) > (tag.pushed_at, tag.tag.as_str())
                    && retain.is_about(&other.tag)
                    && !other.has_subject
                    && !other.tag.as_str().starts_with('v')
            };
            let newer = tags.iter().filter(is_newer).count() as u32;
            retain.last.is_some_and(|last| newer < last)
                || retain.pushed_within.is_some_and(|within| tag.pushed_at.plus(within) >= now)
        })
    }

    fn tag(name: &str, day: i64, flags: u8) -> TagAge {
        TagAge {
            tag: name.parse().unwrap(),
            digest: Digest::sha256_of(b""),
            pushed_at: Micros::from_seconds(day * DAY),
            is_pinned: flags == 0,
            has_subject: flags == 1,
        }
    }

    proptest! {
        #[test]
        fn what_goes_is_what_nothing_keeps(
            tags in prop::collection::btree_map("[abcdev][0-9]", (0..12i64, 0..8u8), 0..30),
            now in 8..14i64,
        ) {
            let (rule, now) = (rule(), Micros::from_seconds(now * DAY));
            let mut tags: Vec<TagAge> = tags.iter().map(|(name, (day, flags))| tag(name, *day, *flags)).collect();
            tags.sort_by(|a, b| (b.pushed_at, b.tag.as_str()).cmp(&(a.pushed_at, a.tag.as_str())));
            let mut judge = Judge::new(&rule, now);
            for (at, tag) in tags.iter().enumerate() {
                prop_assert_eq!(judge.tag(tag).is_some(), naive_goes(&rule, &tags, at, now), "{:?}", tag);
            }
        }
    }

    #[test]
    fn the_reason_is_for_people() {
        let rule = rule();
        let now = Micros::from_seconds(100 * DAY);
        let mut judge = Judge::new(&rule, now);
        assert_eq!(judge.tag(&tag("d1", 60, 9)), None);
        assert_eq!(judge.tag(&tag("d2", 55, 9)).unwrap(), "not among the last 1, pushed 45 days ago");
        assert_eq!(judge.tag(&tag("b1", 55, 9)).unwrap(), "pushed 45 days ago");
        assert_eq!(untagged(&rule, Micros::from_seconds(94 * DAY), now).unwrap(), "without a tag for 6 days");
        assert_eq!(untagged(&rule, Micros::from_seconds(95 * DAY), now), None);
    }

    #[test]
    fn tags_that_say_something_about_a_manifest() {
        let digest = Digest::sha256_of(b"subject");
        let unusual = format!("sha256-{}.sbom.x", digest.hex());
        for tag in tags_about(&digest).into_iter().chain([unusual]) {
            assert_eq!(subject_of(&tag.parse().unwrap()), Some(digest));
        }
        for text in ["v1", "sha256-abc.sig", "latest-1"] {
            assert_eq!(subject_of(&text.parse().unwrap()), None);
        }
    }
}
