//! The artifact and version that an archive's file name is made of.

/// What may stand before a version's last number: 1.0-beta-2.
const QUALIFIERS: &[&str] = &["alpha", "beta", "rc", "cr", "m", "b", "milestone", "pre", "ea", "snapshot"];
/// What may stand after its numbers and belongs to it; other words are classifiers.
const SUFFIXES: &[&str] = &[
    "alpha",
    "beta",
    "rc",
    "cr",
    "m",
    "b",
    "milestone",
    "pre",
    "ea",
    "snapshot",
    "final",
    "ga",
    "release",
    "jre",
    "android",
    "incubating",
    "incubator",
    "jdk",
    "sp",
    "redhat",
    "patch",
    "empty",
    "dev",
    "hadoop",
    "spark",
];

/// A file name taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FileName {
    /// What is before the version, or all but the extension.
    pub(super) artifact: String,
    /// Empty where the name has none.
    pub(super) version: String,
    stem: String,
}

impl FileName {
    pub(super) fn new(file_name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(file_name);
        let stem = name.rsplit_once('.').map_or(name.as_ref(), |(stem, _)| stem).to_owned();
        let parts: Vec<&str> = stem.split('-').collect();
        let Some(mut from) = parts.iter().rposition(|part| is_number(part)).filter(|at| *at > 0) else {
            return Self { artifact: stem.clone(), version: String::new(), stem };
        };
        let last = from;
        let part = |at: usize| parts.get(at).copied().unwrap_or_default();
        loop {
            if from >= 3 && is_word_of(QUALIFIERS, part(from - 1)) && is_number(part(from - 2)) {
                from -= 2;
            } else if from >= 2 && is_number(part(from - 1)) {
                from -= 1;
            } else {
                break;
            }
        }
        let after = parts.iter().skip(last + 1).take_while(|part| is_word_of(SUFFIXES, part)).count();
        Self {
            artifact: parts.get(..from).unwrap_or_default().join("-"),
            version: parts.get(from..=last + after).unwrap_or_default().join("-"),
            stem,
        }
    }

    /// Whether the name begins with an artifact, and goes on, if at all, with something else.
    pub(super) fn begins_with(&self, artifact: &str) -> bool {
        let rest = self.stem.strip_prefix(artifact);
        !artifact.is_empty() && rest.is_some_and(|rest| self.artifact == artifact || rest.is_empty() || rest.starts_with(['-', '.', '_']))
            // `log4j-1.2.17` is not `log4j-1`, and `netty` is not `netty-buffer`.
            && (self.artifact.len() <= artifact.len() || self.artifact.strip_prefix(artifact).is_some_and(is_classifier))
    }
}

/// A word that says how an archive was built rather than what of.
fn is_classifier(rest: &str) -> bool {
    ["-shaded", "-all", "-fat", "-uber", "-standalone", "-with-dependencies", "-jar-with-dependencies", "-exec"]
        .contains(&rest)
}

fn is_number(part: &str) -> bool {
    part.starts_with(|first: char| first.is_ascii_digit())
        || part
            .strip_prefix(['v', 'r'])
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()) && part.contains('.'))
}

fn is_word_of(words: &[&str], part: &str) -> bool {
    let word = part.trim_end_matches(|last: char| last.is_ascii_digit() || last == '.');
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}
