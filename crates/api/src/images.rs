//! What the registry holds, as people look at it: repositories, tags, an image with its layers and who speaks of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use base::page::PageRequest;
use oci::{Digest, ManifestReference, PathError, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::{Micros, Page, Result};

/// Tags and referrers that are counted or listed with one thing at most.
pub const LISTED_MAX: u32 = 1000;

/// A repository in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryBrief {
    /// Its name.
    pub name: RepositoryName,
    /// How many tags it has; [`LISTED_MAX`] stands for that many or more.
    pub tags: u64,
    /// The tag that was written last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Tag>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged_at: Option<Micros>,
}

/// What a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestKind {
    /// An image of one platform.
    Image,
    /// Several manifests, of several platforms as a rule.
    Index,
    /// Something else that is kept like an image: a chart, a signature.
    Artifact,
}

/// A tag in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagBrief {
    /// The tag.
    pub tag: Tag,
    /// Where it leads.
    pub digest: Digest,
    /// What is there.
    pub kind: ManifestKind,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Bytes of all that a pull of everything would transfer, without the manifests.
    pub size: u64,
    /// When the tag was written last.
    pub tagged_at: Micros,
    /// Whether a signature is there. Nobody has verified it.
    pub has_signature: bool,
}

/// The order of a list of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagOrder {
    /// Those written last come first.
    #[default]
    Newest,
    /// By name.
    Name,
    /// The largest come first.
    Largest,
}

/// A page of a repository's tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagPage {
    /// The repository.
    pub repository: RepositoryBrief,
    /// Its tags.
    #[serde(flatten)]
    pub page: Page<TagBrief>,
}

/// What another manifest says about this one, by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// A signature. Nobody has verified it.
    Signature,
    /// An attestation: how it was built, what was tested.
    Attestation,
    /// What is in it.
    Sbom,
    /// Something else.
    Other,
}

/// A manifest that speaks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// What it says, by its type.
    pub meaning: Meaning,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The tag by which it is found, where it does not name its subject (older cosign).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// When it was pushed.
    pub pushed_at: Micros,
}

/// One of an index's manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// `linux/arm64/v8`, where the index says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Bytes of all its blobs; none when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The index's annotations of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One layer, with the step that made it where the configuration says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes, compressed as it is kept.
    pub size: u64,
    /// The step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The file name that an artifact gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// An image's configuration, or why there is none to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Configuration {
    /// What a container of it runs.
    Image(Box<oci::ImageConfig>),
    /// Of another type than an image's: nothing here reads it.
    Foreign {
        /// Its media type.
        media_type: String,
    },
    /// It could not be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// A manifest with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The repository.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// What it is.
    pub kind: ManifestKind,
    /// The type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Bytes of all that it refers to.
    pub size: u64,
    /// When it was pushed last.
    pub pushed_at: Micros,
    /// Tags that lead here, at most [`LISTED_MAX`].
    pub tags: Vec<Tag>,
    /// What it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its configuration; none for an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// An index's manifests.
    pub children: Vec<Child>,
    /// What speaks of it, at most [`LISTED_MAX`].
    pub referrers: Vec<Referrer>,
    /// Who keeps it from deletion, at most [`LISTED_MAX`].
    pub pins: Vec<String>,
}

/// The registry, as those who look at it see it.
#[async_trait]
pub trait Images: Send + Sync {
    /// Repositories whose name holds `search`, by name.
    async fn repositories(&self, search: &str, page: &PageRequest) -> Result<Page<RepositoryBrief>>;
    /// A repository's tags. Fails when there is no such repository.
    async fn tags(&self, repository: &RepositoryName, order: TagOrder, page: &PageRequest) -> Result<TagPage>;
    /// A manifest by tag or digest. Fails when there is none such.
    async fn image(&self, repository: &RepositoryName, reference: &ManifestReference) -> Result<Image>;
}

/// A repository, or a manifest in it, as people write it: `NAME`, `NAME:TAG`, `NAME@DIGEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageAddress {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest, where one is named.
    pub reference: Option<ManifestReference>,
}

impl FromStr for ImageAddress {
    type Err = PathError;

    fn from_str(text: &str) -> std::result::Result<Self, PathError> {
        let repository = |name: &str| name.parse().map_err(PathError::Repository);
        if let Some((name, digest)) = text.split_once('@') {
            let digest = digest.parse().map_err(PathError::Digest)?;
            return Ok(Self { repository: repository(name)?, reference: Some(ManifestReference::Digest(digest)) });
        }
        if let Some((name, tag)) = text.split_once(':') {
            let tag = tag.parse().map_err(PathError::Tag)?;
            return Ok(Self { repository: repository(name)?, reference: Some(ManifestReference::Tag(tag)) });
        }
        Ok(Self { repository: repository(text)?, reference: None })
    }
}

impl fmt::Display for ImageAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            None => self.repository.fmt(f),
            Some(ManifestReference::Tag(tag)) => write!(f, "{}:{tag}", self.repository),
            Some(ManifestReference::Digest(digest)) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        let digest = format!("team/app@sha256:{}", "a".repeat(64));
        for text in ["app", "team/app", "team/app:1.2", digest.as_str()] {
            assert_eq!(text.parse::<ImageAddress>().unwrap().to_string(), text);
        }
        for text in ["", "App", "app:", "app@", "app:1@x", "app:a/b", "app@sha256:1", "a//b", "../a"] {
            assert!(text.parse::<ImageAddress>().is_err(), "{text}");
        }
    }
}
