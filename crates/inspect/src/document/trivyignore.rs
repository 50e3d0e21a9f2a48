//! Reads `.trivyignore` and `.trivyignore.yaml`, the lists of what a team has decided to ignore.
//!
//! The plain form has an identifier in each line, comments after `#`, and `exp:YYYY-MM-DD`. The YAML form has lists by
//! kind, whose entries may be narrowed to paths and package URLs. An entry ends when its day begins, in UTC.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

use crate::purl::Purl;

/// The longest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// The longest pattern of a path, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// What kind of result an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Vulnerabilities.
    Vulnerability,
    /// Secrets, by rule.
    Secret,
    /// Licences, by name.
    Licence,
    /// Misconfigurations, which Longshore does not look for.
    Misconfiguration,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is about; `None` for all kinds.
    pub kind: Option<Kind>,
    /// The identifier: `CVE-2021-44228`.
    pub id: String,
    /// Patterns of paths, of which one must match; none for all.
    pub paths: Vec<String>,
    /// Package URLs, of which one must match; none for all.
    pub purls: Vec<Purl>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Why it is there.
    pub statement: Option<String>,
}

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// Longer than [`FILE_BYTES_MAX`].
    #[error("the file has {bytes} bytes, at most {FILE_BYTES_MAX} are read")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the file is not UTF-8")]
    Encoding,
    /// A line that cannot be read.
    #[error("line {line}: {why}")]
    Line {
        /// Which, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// An entry that cannot be read.
    #[error("{list}, entry {number}: {why}")]
    Entry {
        /// The list.
        list: &'static str,
        /// Which, counted from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Not the YAML that is expected.
    #[error("{why}")]
    Yaml {
        /// What is wrong, and where.
        why: String,
    },
}

/// What a result is, to be compared with the entries.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its identifier and aliases.
    pub ids: &'a [String],
    /// The path in the image.
    pub path: Option<&'a str>,
    /// The component's package URLs.
    pub purls: &'a [Purl],
}

impl Entry {
    /// Whether this has ended at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether this says to ignore `candidate` at `now`.
    pub fn applies(&self, candidate: &Candidate<'_>, now: Timestamp) -> bool {
        let path = candidate.path.map(|path| path.trim_start_matches('/'));
        !self.has_expired(now)
            && self.kind.is_none_or(|kind| kind == candidate.kind)
            && candidate.ids.contains(&self.id)
            && (self.paths.is_empty() || path.is_some_and(|path| self.paths.iter().any(|glob| matches(glob, path))))
            && (self.purls.is_empty() || self.purls.iter().any(|purl| candidate.purls.iter().any(|p| covers(purl, p))))
    }
}

/// Whether `stated` means `found`: no version is any version, and what qualifiers it states must be there.
fn covers(stated: &Purl, found: &Purl) -> bool {
    (stated.package_type(), stated.namespace(), stated.name())
        == (found.package_type(), found.namespace(), found.name())
        && stated.version().is_none_or(|version| found.version() == Some(version))
        && stated.qualifiers().all(|(key, value)| found.qualifier(key) == Some(value))
        && stated.subpath().is_none_or(|subpath| found.subpath() == Some(subpath))
}

/// Reads the plain form.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, IgnoreError> {
    let mut entries = Vec::new();
    for (index, line) in text(bytes)?.lines().enumerate() {
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(id) = words.next() else { continue };
        let wrong = |why| IgnoreError::Line { line: index + 1, why };
        let mut expires = None;
        for word in words {
            let Some(date) = word.strip_prefix("exp:") else {
                let word: String = word.chars().take(64).flat_map(char::escape_debug).collect();
                return Err(wrong(format!("\"{word}\" is neither a comment nor exp:YYYY-MM-DD")));
            };
            expires = Some(day(date).ok_or_else(|| wrong("exp: takes a day as YYYY-MM-DD".to_owned()))?);
        }
        entries.push(Entry {
            kind: None,
            id: id.to_owned(),
            paths: Vec::new(),
            purls: Vec::new(),
            expires,
            statement: None,
        });
    }
    Ok(entries)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    vulnerabilities: Option<Vec<Raw>>,
    misconfigurations: Option<Vec<Raw>>,
    secrets: Option<Vec<Raw>>,
    licenses: Option<Vec<Raw>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: String,
    paths: Option<Vec<String>>,
    purls: Option<Vec<String>>,
    expired_at: Option<String>,
    statement: Option<String>,
}

/// Reads the YAML form.
pub fn read_yaml(bytes: &[u8]) -> Result<Vec<Entry>, IgnoreError> {
    let file: Option<File> = serde_saphyr::from_str(text(bytes)?).map_err(|error| {
        let why = error.without_snippet().to_string();
        IgnoreError::Yaml { why: why.lines().next().unwrap_or_default().to_owned() }
    })?;
    let Some(file) = file else { return Ok(Vec::new()) };
    let lists = [
        ("vulnerabilities", Kind::Vulnerability, file.vulnerabilities),
        ("misconfigurations", Kind::Misconfiguration, file.misconfigurations),
        ("secrets", Kind::Secret, file.secrets),
        ("licenses", Kind::Licence, file.licenses),
    ];
    let mut entries = Vec::new();
    for (list, kind, raw) in lists {
        for (index, raw) in raw.into_iter().flatten().enumerate() {
            entries.push(entry(kind, raw).map_err(|why| IgnoreError::Entry { list, number: index + 1, why })?);
        }
    }
    Ok(entries)
}

fn entry(kind: Kind, raw: Raw) -> Result<Entry, String> {
    let paths = raw.paths.unwrap_or_default();
    for path in &paths {
        if path.len() > PATTERN_BYTES_MAX {
            return Err(format!("a path has more than {PATTERN_BYTES_MAX} bytes"));
        }
        if path.contains(['[', '{', '\\']) {
            return Err("a path has a pattern other than *, ** and ?".to_owned());
        }
    }
    let purls = raw.purls.unwrap_or_default();
    let purls = purls.iter().map(|purl| purl.parse::<Purl>().map_err(|error| error.to_string()));
    let expires = raw.expired_at.map(|date| day(&date).ok_or("expired_at takes a day as YYYY-MM-DD")).transpose()?;
    Ok(Entry {
        kind: Some(kind),
        id: raw.id,
        paths,
        purls: purls.collect::<Result<_, _>>()?,
        expires,
        statement: raw.statement,
    })
}

fn text(bytes: &[u8]) -> Result<&str, IgnoreError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(IgnoreError::TooLong { bytes: bytes.len() });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| IgnoreError::Encoding)
}

/// The beginning of a day in UTC, or a time as it is.
fn day(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let date: Date = text.parse().ok().filter(|_| text.len() == "YYYY-MM-DD".len())?;
    date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Whether a path matches a pattern, in which `**` stands for any number of segments, `*` for anything within one and
/// `?` for one character.
fn matches(pattern: &str, path: &str) -> bool {
    let path: Vec<&str> = path.split('/').collect();
    // Which beginnings of the path the pattern so far can match, by their number of segments.
    let mut reached = vec![false; path.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for part in pattern.trim_start_matches('/').split('/') {
        if part == "**" {
            let from = reached.iter().position(|reached| *reached).unwrap_or(reached.len());
            reached.iter_mut().skip(from).for_each(|reached| *reached = true);
            continue;
        }
        let segment = |segment: &str| segment_matches(part, segment);
        let next = path.iter().zip(&reached).map(|(name, reached)| *reached && segment(name));
        reached = std::iter::once(false).chain(next).collect();
    }
    reached.last() == Some(&true)
}

fn segment_matches(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for wanted in pattern.chars() {
        if wanted == '*' {
            let from = reached.iter().position(|reached| *reached).unwrap_or(reached.len());
            reached.iter_mut().skip(from).for_each(|reached| *reached = true);
            continue;
        }
        let next = name.iter().zip(&reached).map(|(c, reached)| *reached && (wanted == '?' || wanted == *c));
        reached = std::iter::once(false).chain(next).collect();
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_plain_form_has_ids_comments_and_days() {
        let entries =
            read(b"# all of these\nCVE-2021-44228\n\n  CVE-2023-1 exp:2024-05-02 # until then\n\tsecret-rule\n");
        let entries = entries.unwrap_or_default();
        let ids: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["CVE-2021-44228", "CVE-2023-1", "secret-rule"]);
        let ids = ["GHSA-x".to_owned(), "CVE-2023-1".to_owned()];
        let candidate = Candidate { kind: Kind::Vulnerability, ids: &ids, path: None, purls: &[] };
        let applies = |now| entries.iter().any(|entry| entry.applies(&candidate, at(now)));
        assert!(applies("2024-05-01T23:59:59Z"));
        assert!(!applies("2024-05-02T00:00:00Z"), "an entry ends when its day begins");
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_place() {
        let error = |text: &[u8]| read(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error(b"CVE-1\nCVE-2 exp:soon\n"), "line 2: exp: takes a day as YYYY-MM-DD");
        assert_eq!(error(b"CVE-1 CVE-2\n"), "line 1: \"CVE-2\" is neither a comment nor exp:YYYY-MM-DD");
        let error = |text: &str| read_yaml(text.as_bytes()).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            error("secrets:\n  - id: a\n  - id: b\n    paths: ['[ab]']\n"),
            "secrets, entry 2: a path has a pattern other than *, ** and ?"
        );
        assert!(error("vulnerabilities:\n  - id: a\n    path: [x]\n").contains("path"));
        assert!(read(&vec![b'a'; FILE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn the_yaml_form_is_narrowed_by_kind_path_and_purl() {
        let text = "vulnerabilities:\n  - id: CVE-2022-40897\n    paths:\n      - \"usr/local/**/METADATA\"\n    \
                    statement: Accept the risk\n  - id: CVE-2024-1\n    purls:\n      - \"pkg:deb/debian/bash\"\n    \
                    expired_at: 2030-01-01\nsecrets:\nlicenses:\n  - id: GPL-3.0\n";
        let entries = read_yaml(text.as_bytes()).unwrap_or_default();
        assert_eq!(entries.len(), 3);
        let now = at("2026-01-01T00:00:00Z");
        let bash: Vec<Purl> = "pkg:deb/debian/bash@5.2?arch=amd64".parse().into_iter().collect();
        let ignored = |kind, id: &str, path, purls| {
            let ids = [id.to_owned()];
            entries.iter().any(|entry| entry.applies(&Candidate { kind, ids: &ids, path, purls }, now))
        };
        let deep = Some("/usr/local/lib/python3.11/site-packages/setuptools/METADATA");
        assert!(ignored(Kind::Vulnerability, "CVE-2022-40897", deep, &[]));
        assert!(!ignored(Kind::Vulnerability, "CVE-2022-40897", Some("/usr/lib/METADATA"), &[]));
        assert!(!ignored(Kind::Vulnerability, "CVE-2022-40897", None, &[]));
        assert!(ignored(Kind::Vulnerability, "CVE-2024-1", None, &bash));
        assert!(!ignored(Kind::Vulnerability, "CVE-2024-1", None, &[]));
        assert!(ignored(Kind::Licence, "GPL-3.0", None, &[]));
        assert!(!ignored(Kind::Vulnerability, "GPL-3.0", None, &[]), "an entry is about its own kind alone");
        assert!(entries.iter().any(|entry| entry.has_expired(at("2030-01-01T00:00:00Z"))));
        assert_eq!(read_yaml(b"# nothing\n"), Ok(Vec::new()));
    }

    #[test]
    fn patterns_match_as_paths_do() {
        assert!(matches("**/a.jar", "a.jar") && matches("**/a.jar", "x/y/a.jar") && matches("x/**", "x/y/z"));
        assert!(matches("x/*.ja?", "x/b.jar") && !matches("x/*.jar", "x/y/b.jar") && !matches("*", "x/y"));
        assert!(matches("/etc/passwd", "etc/passwd") && !matches("etc", "etc/passwd"));
    }
}
