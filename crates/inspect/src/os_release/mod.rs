//! Which operating system a file tree is: os-release(5), and what stands in for it in older ones.

use std::io;

use crate::content::Content;

/// Bytes of such a file.
pub const BYTES_MAX: usize = 64 << 10;
/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 1 << 10;

/// What a file says of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsRelease {
    /// `debian`, `alpine`, `rhel`; `linux` where that is not said.
    pub id: String,
    /// What it is alike, the closest first: `rhel`, `fedora`.
    pub id_like: Vec<String>,
    /// `12`, `3.19.1`, `9.3`. Debian's unstable has none.
    pub version_id: Option<String>,
    /// `bookworm`.
    pub codename: Option<String>,
    /// For people: `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: Option<String>,
}

/// Why a file, or a line of it, does not say which operating system it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes cannot be had.
    #[error("the file cannot be read: {kind}")]
    Read {
        /// What went wrong; `FileTooLarge` past [`BYTES_MAX`].
        kind: io::ErrorKind,
    },
    /// Not text.
    #[error("the file is not text in UTF-8")]
    Text,
    /// A line that is no assignment, or one with a value that a shell would read otherwise.
    #[error("line {line} is not an assignment of one value")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A value is longer than one may be.
    #[error("the value in line {line} has more than {VALUE_BYTES_MAX} bytes")]
    TooLong {
        /// Counted from 1.
        line: usize,
    },
    /// The file says nothing that names a system.
    #[error("the file names no operating system")]
    Nothing,
}

/// The files, the one that counts most first.
const FILES: [&[u8]; 5] =
    [b"etc/os-release", b"usr/lib/os-release", b"etc/alpine-release", b"etc/redhat-release", b"etc/debian_version"];

/// Whether [`read`] has something to say of the file at this path inside the image, without leading slash.
pub fn wants(path: &[u8]) -> bool {
    rank(path).is_some()
}

/// Which of several files counts: the visible one with the lowest rank that can be read.
pub fn rank(path: &[u8]) -> Option<usize> {
    FILES.iter().position(|file| *file == path)
}

/// Reads one of the files. The second is the first line that could not be used beside what could be.
pub fn read(path: &[u8], content: Content<'_>) -> Result<(OsRelease, Option<Error>), Error> {
    let bytes = content.whole(BYTES_MAX).map_err(|error| Error::Read { kind: error.kind() })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::Text)?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let of_line = |release: fn(&str) -> Option<OsRelease>| {
        let line = line.filter(|line| line.len() <= VALUE_BYTES_MAX && !line.contains(char::is_control));
        line.and_then(release).map(|release| (release, None)).ok_or(Error::Nothing)
    };
    match path {
        b"etc/debian_version" => of_line(debian),
        b"etc/alpine-release" => of_line(alpine),
        b"etc/redhat-release" => of_line(red_hat),
        _ => assignments(text),
    }
}

fn assignments(text: &str) -> Result<(OsRelease, Option<Error>), Error> {
    const NAMES: [&str; 6] = ["ID", "ID_LIKE", "VERSION_ID", "VERSION_CODENAME", "PRETTY_NAME", "NAME"];
    let mut values: [Option<String>; NAMES.len()] = Default::default();
    let mut broken = None;
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let assignment = line.split_once('=').filter(|(name, _)| is_name(name));
        let Some((name, value)) = assignment.and_then(|(name, value)| Some((name, unquote(value)?))) else {
            broken.get_or_insert(Error::Line { line: number });
            continue;
        };
        if value.len() > VALUE_BYTES_MAX {
            broken.get_or_insert(Error::TooLong { line: number });
        } else if let Some((_, place)) = NAMES.iter().zip(&mut values).find(|(known, _)| **known == name) {
            // The later of two counts, as in a shell.
            *place = Some(value).filter(|value| !value.is_empty());
        }
    }
    if values.iter().all(Option::is_none) {
        return Err(broken.unwrap_or(Error::Nothing));
    }
    let [id, id_like, version_id, codename, pretty_name, name] = values;
    let release = OsRelease {
        id: id.unwrap_or_else(|| "linux".to_owned()),
        id_like: id_like.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect(),
        version_id,
        codename,
        pretty_name: pretty_name.or(name),
    };
    Ok((release, broken))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The value of an assignment: without quotes, in single, or in double ones, where backslashes escape. `None` where a
/// shell would expand something, join parts, or go on in the next line.
fn unquote(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('\'') {
        let inner = rest.strip_suffix('\'')?;
        return (!inner.contains('\'')).then(|| inner.to_owned());
    }
    let (inner, is_quoted) = match text.strip_prefix('"') {
        Some(rest) => (rest.strip_suffix('"')?, true),
        None => (text, false),
    };
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next()? {
                escaped if !is_quoted || matches!(escaped, '$' | '"' | '\\' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            '"' | '$' | '`' => return None,
            '\'' | ' ' | '\t' | ';' | '&' | '|' | '<' | '>' | '(' | ')' if !is_quoted => return None,
            char if char.is_control() => return None,
            char => value.push(char),
        }
    }
    Some(value)
}

fn release(id: &str, version_id: Option<&str>, codename: Option<&str>, pretty_name: String) -> OsRelease {
    OsRelease {
        id: id.to_owned(),
        id_like: Vec::new(),
        version_id: version_id.map(str::to_owned),
        codename: codename.map(str::to_owned),
        pretty_name: Some(pretty_name),
    }
}

/// `12.5`, or `trixie/sid` before a release. Debian's `VERSION_ID` has the first number alone.
fn debian(line: &str) -> Option<OsRelease> {
    let pretty_name = format!("Debian GNU/Linux {line}");
    if line.starts_with(|char: char| char.is_ascii_digit()) {
        let version = line.split(['.', ' ']).next();
        Some(release("debian", version, None, pretty_name))
    } else {
        let codename = line.split('/').next().filter(|name| name.bytes().all(|byte| byte.is_ascii_alphabetic()));
        codename.filter(|name| !name.is_empty()).map(|name| release("debian", None, Some(name), pretty_name))
    }
}

fn alpine(line: &str) -> Option<OsRelease> {
    let is_version = line.starts_with(|char: char| char.is_ascii_digit()) && !line.contains(char::is_whitespace);
    is_version.then(|| release("alpine", Some(line), None, format!("Alpine Linux v{line}")))
}

/// `CentOS Linux release 7.9.2009 (Core)`.
fn red_hat(line: &str) -> Option<OsRelease> {
    const IDS: [(&str, &str); 8] = [
        ("Red Hat", "rhel"),
        ("CentOS", "centos"),
        ("Fedora", "fedora"),
        ("Rocky", "rocky"),
        ("AlmaLinux", "almalinux"),
        ("Oracle", "ol"),
        ("Scientific", "scientific"),
        ("Amazon", "amzn"),
    ];
    let (name, rest) = line.split_once(" release ")?;
    let version = rest.split_ascii_whitespace().next()?;
    let codename = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(name, _)| name);
    let known = IDS.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, id)| (*id).to_owned());
    let id = known.or_else(|| name.split_ascii_whitespace().next().map(str::to_ascii_lowercase))?;
    Some(release(&id, Some(version), codename, line.to_owned()))
}

#[cfg(test)]
mod tests;
