//! What other contexts ask of the registry in process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::access::HostIdentity;
use crate::images::ManifestKind;
use crate::{Micros, Result};

/// Why a digest may not be collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Where the manifest is.
    pub repository: RepositoryName,
    /// What is kept, with everything that it refers to.
    pub digest: Digest,
    /// Who keeps it, unique for each reason: `release/…`.
    pub holder: String,
}

/// A tag, or a manifest without one, that the rules of retention would let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    /// Where it is.
    pub repository: RepositoryName,
    /// The tag; none for a manifest without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Where the tag leads, or the manifest.
    pub digest: Digest,
    /// When the tag was pushed last, or since when the manifest has none.
    pub since: Micros,
    /// The `match` of the rule that lets it go.
    pub rule: String,
    /// Why, for people.
    pub why: String,
}

/// A manifest byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type as it was pushed.
    pub media_type: String,
    /// Its bytes as they were pushed.
    pub bytes: Bytes,
}

/// A blob that is being read.
pub struct BlobBytes {
    /// The whole blob's length in bytes.
    pub length: u64,
    /// Its bytes, or those of the range that was asked for.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// A manifest that was pushed, or pulled through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedManifest {
    /// When, the last time.
    pub pushed_at: Micros,
    /// Where it is.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// What it is, by its types.
    pub kind: ManifestKind,
}

/// A manifest that says something about another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidOf {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub artifact_type: Option<String>,
}

/// The registry, as the hub's other contexts see it.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Keeps a manifest and all that it refers to from collection. A second pin of the same holder changes nothing.
    /// Fails when the manifest is not there.
    async fn pin(&self, pin: Pin) -> Result<()>;
    /// Lets go of a pin. Unknown pins are no error.
    async fn unpin(&self, pin: Pin) -> Result<()>;
    /// A manifest by digest or tag; none when the repository has none such.
    async fn manifest_get(&self, repository: &RepositoryName, reference: &str) -> Result<Option<StoredManifest>>;
    /// Stores a manifest whose blobs and children are there, under its digest and, if given, a tag.
    async fn manifest_put(
        &self,
        repository: &RepositoryName,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest>;
    /// Stores a small blob (a configuration, a statement).
    async fn blob_put(&self, repository: &RepositoryName, bytes: Bytes) -> Result<Digest>;
    /// A small blob, at most `bytes_max` long; none when the repository has none such.
    async fn blob_get(&self, repository: &RepositoryName, digest: &Digest, bytes_max: u64) -> Result<Option<Bytes>>;
    /// A blob of any length, read as it is asked for: all of it, or a range within it. None when the repository has none
    /// such.
    async fn blob_open(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<BlobBytes>>;
    /// Which of these blobs any repository has.
    async fn blobs_known(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>>;
    /// Manifests by the time of their last push, then repository and digest: those after `after`, at most `limit`. One that
    /// is pushed while others are listed may come with a time shortly before theirs.
    async fn manifests_pushed(&self, after: &(Micros, String, String), limit: u32) -> Result<Vec<PushedManifest>>;
    /// Whether a repository has a manifest. Nothing is fetched for it.
    async fn manifest_is_here(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool>;
    /// Tags that lead to manifests, or to an index that has one, by name: at most so many for all of them as a list has.
    async fn tags_leading_to(
        &self,
        manifests: &[(RepositoryName, Digest)],
    ) -> Result<BTreeMap<(RepositoryName, Digest), Vec<Tag>>>;
    /// What is here that names a manifest as its subject, by digest: at most `limit`. Nothing is fetched for it.
    async fn said_of(&self, repository: &RepositoryName, subject: &Digest, limit: u32) -> Result<Vec<SaidOf>>;
    /// Removes a manifest; what it alone needed is collected later. Says whether it was there. Fails when it is pinned,
    /// needed by an index or under an immutable tag.
    async fn manifest_delete(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool>;
    /// Whether a repository is filled from another registry alone: nothing can be stored in it.
    fn is_mirror(&self, repository: &RepositoryName) -> bool;
    /// Refuses a host that the rules do not let pull from a repository.
    fn host_check(&self, host: &HostIdentity, repository: &RepositoryName) -> Result<()>;
}
