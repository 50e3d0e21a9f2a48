//! Package URLs (purl): `pkg:type/namespace/name@version?qualifiers#subpath`, parsed strictly and written in the one
//! canonical form.
//!
//! The rules are those of ECMA-427 and of the registered type definitions: which parts are lowercased, and that some
//! types have no namespace. A namespace that a type requires may be missing all the same: a jar without a known group
//! and a Debian package on an unknown distribution must be named too.

mod component;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

pub use component::{Distribution, split_name};

/// The longest text that is read as a package URL, in bytes.
pub const PURL_BYTES_MAX: usize = 8 * 1024;
/// The most qualifiers that one package URL may have.
pub const QUALIFIERS_MAX: usize = 64;

/// A package URL. A value of this type is valid and normalised: two are equal exactly when their texts are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purl {
    package_type: String,
    namespace: Option<String>,
    name: String,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
    subpath: Option<String>,
}

/// Why a text or its parts make no package URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurlError {
    /// Longer than [`PURL_BYTES_MAX`].
    #[error("the package URL has {bytes} bytes, at most {PURL_BYTES_MAX} are read")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It does not begin with `pkg:`.
    #[error("a package URL begins with \"pkg:\"")]
    NoScheme,
    /// A space, a control character or one outside ASCII, which must be percent-encoded.
    #[error("the character at byte {at} must be percent-encoded")]
    Character {
        /// Where, in bytes from the start.
        at: usize,
    },
    /// No type, or one with characters that a type cannot have.
    #[error("the package URL has no valid type")]
    Type,
    /// No name.
    #[error("the package URL has no name")]
    NoName,
    /// A percent sign without two hexadecimal digits, or bytes that are not UTF-8 once decoded.
    #[error("the percent-encoding in the {part} is broken")]
    Encoding {
        /// Which component.
        part: &'static str,
    },
    /// An encoded slash within a segment of the namespace or subpath, or a dot segment.
    #[error("a segment of the {part} is empty, a dot, or holds a slash")]
    Segment {
        /// Which component.
        part: &'static str,
    },
    /// A namespace where the type has none.
    #[error("packages of type {package_type} have no namespace")]
    NamespaceProhibited {
        /// The type.
        package_type: String,
    },
    /// A key with characters that keys cannot have, or a pair without `=`.
    #[error("the package URL has a qualifier with an invalid key")]
    QualifierKey,
    /// The same key twice.
    #[error("the qualifier \"{key}\" is given twice")]
    QualifierTwice {
        /// The key.
        key: String,
    },
    /// More than [`QUALIFIERS_MAX`].
    #[error("more than {QUALIFIERS_MAX} qualifiers")]
    TooManyQualifiers,
}

impl Purl {
    /// A package URL of a type, a namespace (segments joined by `/`, empty for none) and a name, none of them encoded.
    pub fn new(package_type: &str, namespace: &str, name: &str) -> Result<Self, PurlError> {
        let package_type = package_type.to_ascii_lowercase();
        let starts_with_letter = package_type.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_with_letter || !package_type.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') {
            return Err(PurlError::Type);
        }
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(PurlError::NoName);
        }
        let segments: Vec<&str> = namespace.split('/').filter(|segment| !segment.is_empty()).collect();
        let namespace = (!segments.is_empty()).then(|| segments.join("/"));
        let rules = Rules::of(&package_type);
        if namespace.is_some() && rules.namespace_prohibited {
            return Err(PurlError::NamespaceProhibited { package_type });
        }
        let namespace =
            namespace.map(|namespace| if rules.namespace_lowercase { namespace.to_lowercase() } else { namespace });
        let mut name = if rules.name_lowercase { name.to_lowercase() } else { name.to_owned() };
        if package_type == "pypi" {
            name = name.replace('_', "-");
        }
        Ok(Self { package_type, namespace, name, version: None, qualifiers: BTreeMap::new(), subpath: None })
    }

    /// The same with a version; an empty one is none.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        self.version = (!version.is_empty()).then(|| version.to_owned());
        self
    }

    /// The same with one more qualifier; an empty value is none.
    pub fn with_qualifier(mut self, key: &str, value: &str) -> Result<Self, PurlError> {
        let starts_with_letter = key.starts_with(|c: char| c.is_ascii_lowercase());
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if !starts_with_letter || !key.bytes().all(allowed) {
            return Err(PurlError::QualifierKey);
        }
        if value.is_empty() {
            return Ok(self);
        }
        if self.qualifiers.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(PurlError::QualifierTwice { key: key.to_owned() });
        }
        if self.qualifiers.len() > QUALIFIERS_MAX {
            return Err(PurlError::TooManyQualifiers);
        }
        Ok(self)
    }

    /// An OCI image: the last segment of `repository`, with the digest as the version.
    pub fn oci(
        repository: &str,
        tag: Option<&str>,
        digest: Option<&str>,
        architecture: Option<&str>,
    ) -> Result<Self, PurlError> {
        let name = repository.rsplit('/').next().unwrap_or(repository);
        Self::new("oci", "", name)?
            .with_version(digest.unwrap_or_default())
            .with_qualifier("repository_url", repository)?
            .with_qualifier("arch", architecture.unwrap_or_default())?
            .with_qualifier("tag", tag.unwrap_or_default())
    }

    /// The type, lowercase: `deb`, `npm`.
    pub fn package_type(&self) -> &str {
        &self.package_type
    }

    /// The namespace, decoded, its segments joined by `/`.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The name, decoded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, decoded; never empty.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The value of a qualifier, decoded; never empty.
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.qualifiers.get(key).map(String::as_str)
    }

    /// All qualifiers by key.
    pub fn qualifiers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.qualifiers.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The subpath, decoded, its segments joined by `/`.
    pub fn subpath(&self) -> Option<&str> {
        self.subpath.as_deref()
    }
}

/// What the registered definition of a type says beyond the common rules.
struct Rules {
    namespace_lowercase: bool,
    name_lowercase: bool,
    namespace_prohibited: bool,
}

impl Rules {
    fn of(package_type: &str) -> Self {
        let (namespace_lowercase, name_lowercase, namespace_prohibited) = match package_type {
            "alpm" | "apk" | "bitbucket" | "composer" | "deb" | "github" => (true, true, false),
            "rpm" => (true, false, false),
            "oci" | "pypi" => (false, true, true),
            "cargo" | "gem" | "nuget" => (false, false, true),
            _ => (false, false, false),
        };
        Self { namespace_lowercase, name_lowercase, namespace_prohibited }
    }
}

impl FromStr for Purl {
    type Err = PurlError;

    fn from_str(text: &str) -> Result<Self, PurlError> {
        if text.len() > PURL_BYTES_MAX {
            return Err(PurlError::TooLong { bytes: text.len() });
        }
        if let Some(at) = text.bytes().position(|b| !b.is_ascii_graphic()) {
            return Err(PurlError::Character { at });
        }
        let (rest, subpath) = split_last(text, '#');
        let (rest, qualifiers) = split_last(rest, '?');
        let rest = match rest.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("pkg") => rest,
            _ => return Err(PurlError::NoScheme),
        };
        let (package_type, path) = rest.trim_start_matches('/').split_once('/').ok_or(PurlError::Type)?;
        // An npm scope may stand there with its `@` not encoded: after a slash, and with another one behind it.
        let is_scope = |at: usize| (at == 0 || path[..at].ends_with('/')) && path[at..].contains('/');
        let separator = path.rmatch_indices('@').map(|(at, _)| at).find(|&at| !is_scope(at));
        let (path, version) = match separator {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (path, ""),
        };
        let path = path.trim_matches('/');
        let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
        let namespace = segments(namespace, "namespace")?;
        let mut purl =
            Self::new(package_type, &namespace, &decode(name, "name")?)?.with_version(&decode(version, "version")?);
        for pair in qualifiers.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(PurlError::QualifierKey)?;
            purl = purl.with_qualifier(&key.to_ascii_lowercase(), &decode(value, "qualifiers")?)?;
        }
        let subpath = segments(subpath, "subpath")?;
        purl.subpath = (!subpath.is_empty()).then_some(subpath);
        Ok(purl)
    }
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.package_type)?;
        for segment in self.namespace.iter().flat_map(|namespace| namespace.split('/')) {
            encode(f, segment)?;
            f.write_char('/')?;
        }
        encode(f, &self.name)?;
        if let Some(version) = &self.version {
            f.write_char('@')?;
            encode(f, version)?;
        }
        for (index, (key, value)) in self.qualifiers.iter().enumerate() {
            write!(f, "{}{key}=", if index == 0 { '?' } else { '&' })?;
            encode(f, value)?;
        }
        for (index, segment) in self.subpath.iter().flat_map(|subpath| subpath.split('/')).enumerate() {
            f.write_char(if index == 0 { '#' } else { '/' })?;
            encode(f, segment)?;
        }
        Ok(())
    }
}

fn split_last(text: &str, separator: char) -> (&str, &str) {
    text.rsplit_once(separator).unwrap_or((text, ""))
}

/// The decoded segments that are not empty, joined by `/`. Dot segments of a subpath are dropped, as the rules say.
fn segments(text: &str, part: &'static str) -> Result<String, PurlError> {
    let mut joined = String::new();
    for segment in text.split('/') {
        let decoded = decode(segment, part)?;
        if decoded.contains('/') {
            return Err(PurlError::Segment { part });
        }
        if decoded.is_empty() || (part == "subpath" && (decoded == "." || decoded == "..")) {
            continue;
        }
        if !joined.is_empty() {
            joined.push('/');
        }
        joined.push_str(&decoded);
    }
    Ok(joined)
}

fn decode(text: &str, part: &'static str) -> Result<String, PurlError> {
    let broken = || PurlError::Encoding { part };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return Err(broken()) };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

fn encode(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':') {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}
