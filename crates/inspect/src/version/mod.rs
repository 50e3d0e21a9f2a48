//! The version order of each package ecosystem.
//!
//! A version is turned into a key once; keys of one scheme compare as plain bytes. So every order here is total and
//! transitive by construction, also where an ecosystem's own tool goes round in circles, and comparing needs no parsing.

use std::cmp::Ordering;
use std::fmt;

mod apk;
mod composer;
mod dpkg;
mod gem;
mod key;
mod maven;
mod nuget;
mod pep440;
mod rpm;
mod semver;

#[cfg(test)]
mod tests;

use key::Key;

/// The longest version that is read, in bytes.
pub const MAX_VERSION_BYTES: usize = 1024;

/// Characters of a version that an error repeats.
const EXCERPT_CHARACTERS: usize = 64;

/// Whose rules order versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Debian and Ubuntu: `[epoch:]upstream[-revision]`, deb-version(7).
    Dpkg,
    /// RPM: `[epoch:]version[-release]`, rpm-version(7).
    Rpm,
    /// Alpine: `digits{.digits}[letter]{_suffix[n]}[~hash][-rN]`, apk-version(8), with the older form of a digit after
    /// the letter.
    Apk,
    /// Maven's `ComparableVersion`.
    Maven,
    /// Python: PEP 440.
    Pep440,
    /// Semantic Versioning 2.0, cargo's too. A leading `v`, missing minor or patch numbers and leading zeros are
    /// allowed, because advisories have them.
    SemVer,
    /// npm: Semantic Versioning as node-semver reads it in its loose mode.
    Npm,
    /// Ruby: `Gem::Version`.
    RubyGems,
    /// Go: Semantic Versioning with or without its `v`; the toolchain's own `go1.22rc1` as well.
    Go,
    /// .NET: two to four numbers, then as Semantic Versioning without regard to case.
    NuGet,
    /// PHP: what Composer normalises. Branches (`dev-main`) have no order.
    Packagist,
    /// Bitnami: Semantic Versioning, but a bare number after the hyphen is a later revision, not a pre-release.
    Bitnami,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 12] = [
        Self::Dpkg,
        Self::Rpm,
        Self::Apk,
        Self::Maven,
        Self::Pep440,
        Self::SemVer,
        Self::Npm,
        Self::RubyGems,
        Self::Go,
        Self::NuGet,
        Self::Packagist,
        Self::Bitnami,
    ];

    /// The scheme's name, for messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dpkg => "Debian",
            Self::Rpm => "RPM",
            Self::Apk => "Alpine",
            Self::Maven => "Maven",
            Self::Pep440 => "Python",
            Self::SemVer => "SemVer",
            Self::Npm => "npm",
            Self::RubyGems => "RubyGems",
            Self::Go => "Go",
            Self::NuGet => "NuGet",
            Self::Packagist => "Packagist",
            Self::Bitnami => "Bitnami",
        }
    }

    /// Compares two versions. Where many are compared with one, [`Version::parse`] each once instead.
    ///
    /// # Errors
    /// Where one of them is not a version of this scheme.
    pub fn compare(self, a: &str, b: &str) -> Result<Ordering, VersionError> {
        Ok(Version::parse(self, a)?.cmp(&Version::parse(self, b)?))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version that is ready to be compared. Equal are those that the scheme calls equal (`1.0` and `1.0.0` in Python),
/// not those that are spelt alike. Versions of different schemes have an order too, but one that means nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    scheme: Scheme,
    key: Box<[u8]>,
}

impl Version {
    /// Reads a version of `scheme`, in time linear in its length.
    ///
    /// # Errors
    /// Where it is not one, is empty, or is longer than [`MAX_VERSION_BYTES`].
    pub fn parse(scheme: Scheme, text: &str) -> Result<Self, VersionError> {
        if text.len() > MAX_VERSION_BYTES {
            return Err(VersionError::TooLong { scheme, length: text.len() });
        }
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace());
        if trimmed.is_empty() {
            return Err(VersionError::Empty { scheme });
        }
        let malformed = |what| VersionError::Malformed { scheme, text: excerpt(text), what };
        if trimmed.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(malformed("has a control character"));
        }
        let mut key = Key::with_capacity(trimmed.len());
        match scheme {
            Scheme::Dpkg => dpkg::read(trimmed.as_bytes(), &mut key),
            Scheme::Rpm => rpm::read(trimmed.as_bytes(), &mut key),
            Scheme::Apk => apk::read(trimmed.as_bytes(), &mut key),
            Scheme::Maven => maven::read(trimmed.as_bytes(), &mut key),
            Scheme::Pep440 => pep440::read(trimmed.as_bytes(), &mut key),
            Scheme::SemVer => semver::read(trimmed.as_bytes(), &mut key),
            Scheme::Npm => semver::read_npm(trimmed.as_bytes(), &mut key),
            Scheme::RubyGems => gem::read(trimmed.as_bytes(), &mut key),
            Scheme::Go => semver::read_go(trimmed.as_bytes(), &mut key),
            Scheme::NuGet => nuget::read(trimmed.as_bytes(), &mut key),
            Scheme::Packagist => composer::read(trimmed.as_bytes(), &mut key),
            Scheme::Bitnami => semver::read_bitnami(trimmed.as_bytes(), &mut key),
        }
        .map_err(malformed)?;
        Ok(Self { scheme, key: key.finish() })
    }

    /// The scheme it is ordered by.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bytes that versions of this scheme are compared by.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The key alone, for tables whose scheme is known.
    pub fn into_key(self) -> Box<[u8]> {
        self.key
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.scheme, self.key.escape_ascii())
    }
}

/// Why a text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// There is nothing in it.
    #[error("an empty {scheme} version")]
    Empty {
        /// The scheme.
        scheme: Scheme,
    },
    /// It is longer than [`MAX_VERSION_BYTES`].
    #[error("a {scheme} version of {length} bytes; at most {MAX_VERSION_BYTES} are read")]
    TooLong {
        /// The scheme.
        scheme: Scheme,
        /// Its length in bytes.
        length: usize,
    },
    /// It breaks the scheme's grammar, or has no place in its order.
    #[error("\"{text}\" is not a {scheme} version: it {what}")]
    Malformed {
        /// The scheme.
        scheme: Scheme,
        /// An excerpt of the text, escaped.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(EXCERPT_CHARACTERS).flat_map(char::escape_debug).collect();
    if text.chars().nth(EXCERPT_CHARACTERS).is_some() {
        excerpt.push('…');
    }
    excerpt
}
