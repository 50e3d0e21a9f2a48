//! The paths under `/v2/`: a repository name may itself hold slashes, so they are read from the right.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, DigestError, NameError, RepositoryName, Tag, excerpt};

const UPLOAD_NAME_BYTES_MAX: usize = 64;

/// What a path under `/v2/` names. Which methods it takes is the registry's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/`
    Ping,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags {
        /// The repository.
        repository: RepositoryName,
    },
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest {
        /// The repository.
        repository: RepositoryName,
        /// Tag or digest.
        reference: ManifestReference,
    },
    /// `/v2/NAME/blobs/DIGEST`
    Blob {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// `/v2/NAME/blobs/uploads/`
    Uploads {
        /// The repository.
        repository: RepositoryName,
    },
    /// `/v2/NAME/blobs/uploads/ID`
    Upload {
        /// The repository.
        repository: RepositoryName,
        /// The upload.
        upload: UploadName,
    },
    /// `/v2/NAME/referrers/DIGEST`
    Referrers {
        /// The repository.
        repository: RepositoryName,
        /// The subject.
        digest: Digest,
    },
}

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManifestReference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// An upload's name: letters, digits and dashes, at most 64 bytes, so that it can name a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadName(String);

/// Why a path names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No endpoint has this shape.
    #[error("\"{path}\" is not a path of the distribution protocol")]
    Unknown {
        /// An excerpt of the path.
        path: String,
    },
    /// The repository's name.
    #[error(transparent)]
    Repository(NameError),
    /// The tag.
    #[error(transparent)]
    Tag(NameError),
    /// The digest.
    #[error(transparent)]
    Digest(DigestError),
    /// The upload's name.
    #[error("upload name \"{text}\" is not one that this registry gives out")]
    Upload {
        /// An excerpt of the name.
        text: String,
    },
}

impl UploadName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UploadName {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let fits = (1..=UPLOAD_NAME_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            Ok(UploadName(text.to_owned()))
        } else {
            Err(PathError::Upload { text: excerpt(text) })
        }
    }
}

impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ManifestReference {
    type Err = PathError;

    /// A tag holds no colon and a digest always does, so there is no doubt which is meant.
    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.contains(':') {
            text.parse().map(ManifestReference::Digest).map_err(PathError::Digest)
        } else {
            text.parse().map(ManifestReference::Tag).map_err(PathError::Tag)
        }
    }
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestReference::Tag(tag) => tag.fmt(f),
            ManifestReference::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Undoes percent-encoding once. An encoded slash or control character is refused: a proxy on the way may have read it
/// otherwise than we would.
fn decode(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        let byte = u8::try_from(high << 4 | low).ok()?;
        if byte == b'/' || byte.is_ascii_control() {
            return None;
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok()
}

impl Endpoint {
    /// Reads a request's path (without the query; percent-encoding is undone here).
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let unknown = || PathError::Unknown { path: excerpt(path) };
        let decoded = decode(path).ok_or_else(unknown)?;
        let rest = match decoded.strip_prefix("/v2").ok_or_else(unknown)? {
            "" | "/" => return Ok(Endpoint::Ping),
            "/_catalog" => return Ok(Endpoint::Catalog),
            rest => rest.strip_prefix('/').ok_or_else(unknown)?,
        };
        let repository = |name: &str| name.parse::<RepositoryName>().map_err(PathError::Repository);
        let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            let repository = repository(name)?;
            if last.is_empty() {
                return Ok(Endpoint::Uploads { repository });
            }
            return Ok(Endpoint::Upload { repository, upload: last.parse()? });
        }
        let (name, kind) = before.rsplit_once('/').ok_or_else(unknown)?;
        match (kind, last) {
            ("tags", "list") => Ok(Endpoint::Tags { repository: repository(name)? }),
            ("manifests", reference) => {
                Ok(Endpoint::Manifest { repository: repository(name)?, reference: reference.parse()? })
            }
            ("blobs", "uploads") => Ok(Endpoint::Uploads { repository: repository(name)? }),
            ("blobs", digest) => {
                Ok(Endpoint::Blob { repository: repository(name)?, digest: digest.parse().map_err(PathError::Digest)? })
            }
            ("referrers", digest) => Ok(Endpoint::Referrers {
                repository: repository(name)?,
                digest: digest.parse().map_err(PathError::Digest)?,
            }),
            _ => Err(unknown()),
        }
    }

    /// The repository named, if one is.
    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Endpoint::Ping | Endpoint::Catalog => None,
            Endpoint::Tags { repository }
            | Endpoint::Manifest { repository, .. }
            | Endpoint::Blob { repository, .. }
            | Endpoint::Uploads { repository }
            | Endpoint::Upload { repository, .. }
            | Endpoint::Referrers { repository, .. } => Some(repository),
        }
    }
}

/// The path itself: every character in it may stand in a URL as it is.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Ping => f.write_str("/v2/"),
            Endpoint::Catalog => f.write_str("/v2/_catalog"),
            Endpoint::Tags { repository } => write!(f, "/v2/{repository}/tags/list"),
            Endpoint::Manifest { repository, reference } => write!(f, "/v2/{repository}/manifests/{reference}"),
            Endpoint::Blob { repository, digest } => write!(f, "/v2/{repository}/blobs/{digest}"),
            Endpoint::Uploads { repository } => write!(f, "/v2/{repository}/blobs/uploads/"),
            Endpoint::Upload { repository, upload } => write!(f, "/v2/{repository}/blobs/uploads/{upload}"),
            Endpoint::Referrers { repository, digest } => write!(f, "/v2/{repository}/referrers/{digest}"),
        }
    }
}
