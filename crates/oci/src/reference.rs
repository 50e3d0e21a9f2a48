//! Image references as people write them: `redis`, `ghcr.io/team/app:1.2`, `localhost:5000/app@sha256:…`.
//!
//! The rules are those of Docker's `reference` package: the first component is a host when it holds a dot or a colon,
//! is `localhost`, or has an uppercase letter; without one the host is `docker.io`, where a lone name lies in `library/`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, DigestError, ManifestReference, NameError, RepositoryName, Tag, excerpt};

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_LEGACY: &str = "index.docker.io";
const DOCKER_HUB_ADDRESS: &str = "registry-1.docker.io";
const OFFICIAL: &str = "library/";
const HOST_BYTES_MAX: usize = 255;

/// A reference with its host made explicit. Its text form is canonical.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    repository: RepositoryName,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no name in it.
    #[error("the image reference is empty; write it as [HOST/]NAME[:TAG][@DIGEST]")]
    Empty,
    /// The part before the first slash.
    #[error("registry host \"{host}\" is not valid; write it as a name or address with an optional :PORT")]
    Host {
        /// An excerpt of the host.
        host: String,
    },
    /// Docker reads 64 hexadecimal digits as an image's id.
    #[error(
        "image \"{text}\" reads as an image id, not as a name; put a tag or a host with it, or choose another name"
    )]
    LooksLikeId {
        /// An excerpt of the name.
        text: String,
    },
    /// Repository or tag.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

fn is_host(text: &str) -> bool {
    if text.len() > HOST_BYTES_MAX {
        return false;
    }
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            // A zone (fe80::1%eth0) is refused by Ipv6Addr, as Docker's grammar does.
            if address.parse::<Ipv6Addr>().is_err() || !(port.is_empty() || port.starts_with(':')) {
                return false;
            }
            (None, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(text), None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.is_none_or(|name| name.split('.').all(is_label))
        && port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

impl Reference {
    /// A reference to a repository, without tag or digest. The host is checked and normalised.
    pub fn new(host: &str, repository: RepositoryName) -> Result<Self, ReferenceError> {
        if !is_host(host) {
            return Err(ReferenceError::Host { host: excerpt(host) });
        }
        let host = if host == DOCKER_HUB_LEGACY { DOCKER_HUB } else { host };
        let repository = if host == DOCKER_HUB && !repository.as_str().contains('/') {
            format!("{OFFICIAL}{repository}").parse()?
        } else {
            repository
        };
        Ok(Reference { host: host.to_owned(), repository, tag: None, digest: None })
    }

    /// The registry as it is named: `docker.io`, `localhost:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where to connect to: as named, but for Docker Hub.
    pub fn address(&self) -> &str {
        if self.host == DOCKER_HUB { DOCKER_HUB_ADDRESS } else { &self.host }
    }

    /// The repository.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The tag, if given.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with this tag and no digest.
    pub fn with_tag(self, tag: Tag) -> Self {
        Reference { tag: Some(tag), digest: None, ..self }
    }

    /// The same, pinned to this digest. A tag stays, as a remark.
    pub fn with_digest(self, digest: Digest) -> Self {
        Reference { digest: Some(digest), ..self }
    }

    /// What to ask the registry for: the digest, else the tag, else `latest`.
    pub fn manifest(&self) -> ManifestReference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => ManifestReference::Digest(*digest),
            (None, Some(tag)) => ManifestReference::Tag(tag.clone()),
            (None, None) => ManifestReference::Tag(Tag::latest()),
        }
    }

    /// The short form that Docker shows: `redis:7` for `docker.io/library/redis:7`.
    pub fn familiar(&self) -> String {
        let repository = self.repository.as_str();
        let short = repository.strip_prefix(OFFICIAL).filter(|name| !name.contains('/')).unwrap_or(repository);
        let whole = Reference { tag: None, digest: None, ..self.clone() };
        // `docker.io/localhost/a` must not become `localhost/a`, which is somewhere else.
        let is_clear = self.host == DOCKER_HUB && short.parse().is_ok_and(|read: Reference| read == whole);
        let name = if is_clear { short.to_owned() } else { whole.to_string() };
        self.with_suffix(name)
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag.as_str());
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_hex) {
            return Err(ReferenceError::LooksLikeId { text: excerpt(text) });
        }
        let (host, path) = match rest.split_once('/') {
            Some((host, path))
                if host.contains(['.', ':'])
                    || host == "localhost"
                    || host.bytes().any(|byte| byte.is_ascii_uppercase()) =>
            {
                (host, path)
            }
            _ => (DOCKER_HUB, rest),
        };
        // A colon in the last component begins the tag; a port's colon lies before a slash.
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse::<Tag>()?)),
            _ => (path, None),
        };
        if path.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let reference = Reference::new(host, path.parse()?)?;
        Ok(Reference { tag, digest, ..reference })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.host, self.repository)))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::name::deserialize_text(deserializer, "an image reference")
    }
}
