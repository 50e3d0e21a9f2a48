//! Manifests and indexes: read from bytes that are kept elsewhere, and refused where two readers could differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::name::{null_as_default, size};
use crate::{Digest, excerpt, media};

/// The largest manifest taken, as the distribution specification advises (a02).
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most descriptors taken in one manifest: far above real images, far below what 4 MiB could hold.
pub const REFERENCES_MAX: usize = 8192;

/// A pointer to content: what it is, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Bytes of the content.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Other places that have it. Never followed (a14).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What an index's entry runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of the artifact pointed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's words.
    pub architecture: String,
    /// Operating system in Go's words.
    pub os: String,
    /// Of Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Of Windows.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// CPU variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// An image of one platform, or an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// OCI lets it be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// What this says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index of several manifests: one for each platform, usually.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// OCI lets it be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries.
    #[serde(deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// What this says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A validated document, with the media type that it is served under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// One of [`media::MANIFESTS`].
    pub media_type: &'static str,
    /// What it says.
    pub kind: DocumentKind,
}

/// Which of the two it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// One image.
    Manifest(Box<Manifest>),
    /// Several.
    Index(Box<Index>),
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Over [`MANIFEST_BYTES_MAX`].
    #[error(
        "the manifest has {bytes} bytes, the most that is taken is {MANIFEST_BYTES_MAX}; put large data into a layer"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Over [`REFERENCES_MAX`].
    #[error("the manifest refers to {count} things, the most that is taken is {REFERENCES_MAX}")]
    TooManyReferences {
        /// How many.
        count: usize,
    },
    /// Not the JSON that its type asks for.
    #[error("the manifest does not follow its specification: {reason}")]
    Malformed {
        /// What the parser said.
        reason: String,
    },
    /// Two readers could take it for two things (a03).
    #[error("the manifest is ambiguous: {reason}; push a document that can be read in one way only")]
    Ambiguous {
        /// What is said twice or in two ways.
        reason: String,
    },
    /// Docker's manifest version 2 schema 1.
    #[error(
        "the manifest is of Docker's schema 1, which carries no verifiable config and is not taken; push it again with \
         Docker 1.10 or later, or convert it with skopeo copy --format oci"
    )]
    Schema1,
    /// A media type that is not taken.
    #[error(
        "manifests of type \"{media_type}\" are not taken; push an OCI image manifest or index, or Docker's schema 2"
    )]
    UnsupportedMediaType {
        /// An excerpt of the type.
        media_type: String,
    },
}

/// The keys at the top, each once. Readers in Go take keys without regard to case, so `Layers` counts as `layers`.
struct Keys(BTreeSet<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                const KNOWN: [&str; 9] = [
                    "schemaVersion",
                    "mediaType",
                    "artifactType",
                    "config",
                    "layers",
                    "manifests",
                    "subject",
                    "annotations",
                    "fsLayers",
                ];
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(&key) && *known != key) {
                        return Err(serde::de::Error::custom(format!(
                            "the key \"{}\" is in the wrong case",
                            excerpt(&key)
                        )));
                    }
                    if !keys.insert(key.clone()) {
                        return Err(serde::de::Error::custom(format!("the key \"{}\" stands twice", excerpt(&key))));
                    }
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(KeysVisitor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    schema_version: Option<u64>,
    media_type: Option<String>,
}

fn malformed(error: serde_json::Error) -> ManifestError {
    ManifestError::Malformed { reason: error.to_string() }
}

fn known_media_type(text: &str) -> Result<&'static str, ManifestError> {
    if matches!(text, media::DOCKER_SCHEMA1 | media::DOCKER_SCHEMA1_SIGNED) {
        return Err(ManifestError::Schema1);
    }
    media::MANIFESTS
        .into_iter()
        .find(|known| *known == text)
        .ok_or_else(|| ManifestError::UnsupportedMediaType { media_type: excerpt(text) })
}

fn is_index(media_type: &str) -> bool {
    matches!(media_type, media::OCI_INDEX | media::DOCKER_LIST)
}

impl Document {
    /// Reads and checks a document. `content_type` is the header it came with; parameters after a semicolon are ignored.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let content_type = content_type
            .map(|text| text.split(';').next().unwrap_or_default().trim())
            .map(known_media_type)
            .transpose()?;
        let Keys(keys) = serde_json::from_slice(bytes).map_err(|error| {
            let reason = error.to_string();
            if error.is_data() && (reason.contains("stands twice") || reason.contains("wrong case")) {
                ManifestError::Ambiguous { reason }
            } else {
                ManifestError::Malformed { reason }
            }
        })?;
        let header: Header = serde_json::from_slice(bytes).map_err(malformed)?;
        if keys.contains("fsLayers") || header.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        if header.schema_version != Some(2) {
            return Err(ManifestError::Malformed { reason: "schemaVersion must be 2".to_owned() });
        }
        let has_manifests = keys.contains("manifests");
        if has_manifests && (keys.contains("layers") || keys.contains("config")) {
            let reason = "it has \"manifests\" like an index and \"layers\" or \"config\" like an image".to_owned();
            return Err(ManifestError::Ambiguous { reason });
        }
        let own = header.media_type.as_deref().map(known_media_type).transpose()?;
        let media_type = match (content_type, own) {
            (Some(sent), Some(own)) if sent != own => {
                let reason = format!("its mediaType is {own} and its Content-Type is {sent}");
                return Err(ManifestError::Ambiguous { reason });
            }
            (Some(sent @ (media::DOCKER_LIST | media::DOCKER_MANIFEST)), None) => {
                return Err(ManifestError::Malformed { reason: format!("a {sent} must name its mediaType") });
            }
            (Some(known), _) | (None, Some(known)) => known,
            (None, None) if has_manifests => media::OCI_INDEX,
            (None, None) => media::OCI_MANIFEST,
        };
        if is_index(media_type) != has_manifests {
            let reason = format!("it is sent as {media_type} and has the fields of another type");
            return Err(ManifestError::Ambiguous { reason });
        }
        let kind = if has_manifests {
            DocumentKind::Index(Box::new(serde_json::from_slice(bytes).map_err(malformed)?))
        } else {
            DocumentKind::Manifest(Box::new(serde_json::from_slice(bytes).map_err(malformed)?))
        };
        let document = Document { media_type, kind };
        match document.references().count() {
            count if count > REFERENCES_MAX => Err(ManifestError::TooManyReferences { count }),
            _ => Ok(document),
        }
    }

    /// The manifests of an index; none for an image.
    pub fn manifests(&self) -> &[Descriptor] {
        match &self.kind {
            DocumentKind::Manifest(_) => &[],
            DocumentKind::Index(index) => &index.manifests,
        }
    }

    /// Config and layers of an image; none for an index.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let manifest = match &self.kind {
            DocumentKind::Manifest(manifest) => Some(&**manifest),
            DocumentKind::Index(_) => None,
        };
        manifest.into_iter().flat_map(|manifest| std::iter::once(&manifest.config).chain(&manifest.layers))
    }

    /// All that must be there before this document is of use. The subject is not among them.
    pub fn references(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests().iter().chain(self.blobs())
    }

    /// What this document says something about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.kind {
            DocumentKind::Manifest(manifest) => manifest.subject.as_ref(),
            DocumentKind::Index(index) => index.subject.as_ref(),
        }
    }

    /// Annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match &self.kind {
            DocumentKind::Manifest(manifest) => &manifest.annotations,
            DocumentKind::Index(index) => &index.annotations,
        }
    }

    /// The artifact type as the referrers API shows it: its own, else for an image the config's media type.
    pub fn artifact_type(&self) -> Option<&str> {
        match &self.kind {
            DocumentKind::Manifest(manifest) => {
                let own = manifest.artifact_type.as_deref().filter(|text| !text.is_empty());
                own.or(Some(manifest.config.media_type.as_str()))
            }
            DocumentKind::Index(index) => index.artifact_type.as_deref().filter(|text| !text.is_empty()),
        }
    }
}
