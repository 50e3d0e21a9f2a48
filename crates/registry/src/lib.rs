//! The registry: OCI distribution over a content-addressed store.
//!
//! Invariants:
//! - Manifests are kept and served byte for byte.
//! - Rows never come before bytes: a blob is linked to a repository after the store has acknowledged it, a manifest is
//!   taken after everything that it needs is linked.
//! - A blob is read through a repository that has it, and every path to one (mounts too) passes [`authorise`].
//! - A repository under an upstream's prefix is filled by pulls alone, and may lack blobs that its manifests need
//!   ([`upstream`]).
//! - What is pinned, or needed by an index, is not deleted.
//! - Nothing is removed at once: what nothing needs since the grace is collected, beside pushes ([`collect`]). A blob that
//!   a repository has keeps its bytes: whoever links one sees to it that they are in their place before it answers.
//! - What is read back and is not what its digest says is not served ([`scrub`]).

mod authorise;
mod cache;
mod collect;
mod config;
mod error;
mod expiry;
mod figures;
mod foresight;
mod heal;
pub mod http;
mod keep;
mod pattern;
mod policy;
mod pull;
mod quota;
mod retention;
mod rights;
mod scrub;
mod store;
mod tasks;
mod unrecorded;
mod upstream;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use api::Micros;
use api::access::HostIdentity;
use api::registry::{BlobBytes, Pin, PushedManifest, Registry, SaidOf, StoredManifest};
use async_trait::async_trait;
use base::db::Db;
use base::tasks::{Tasks, Wake};
use blobs::BlobStore;
use bytes::Bytes;
use futures::StreamExt as _;
use oci::{Digest, Document, ManifestReference, RepositoryName, Tag};

use authorise::{Action, Caller, authorise};
pub use collect::Collected;
use collect::Collector;
pub use config::Config;
pub use error::Error;
pub use expiry::Expired;
pub use heal::{DamagedBlob, DamagedManifest, Source};
use keep::Keeper;
pub use pattern::{PatternError, RepositoryPattern, TagPattern};
pub use policy::{Retain, Rule, Rules, RulesError};
use quota::{Admitted, Quotas};
pub use rights::{HostRule, HostRules, HostRulesError};
pub use store::MIGRATIONS;
use store::Store;
use upstream::Upstreams;
pub use upstream::{Address, UPSTREAMS_MAX, UpstreamConfig, UpstreamConfigError, UpstreamConfigs, UpstreamError};

/// The context's name, and that of its database.
pub const CONTEXT: &str = "registry";
/// The most items of a page of tags, repositories or referrers (a01).
pub const PAGE_ITEMS_MAX: u32 = 1000;
/// Tags that one push of a manifest may write.
pub const TAGS_PER_PUSH_MAX: usize = 64;

/// What the registry works with.
pub struct Deps {
    /// A database opened with [`MIGRATIONS`].
    pub db: Db,
    /// Where blobs are kept.
    pub blobs: Arc<dyn BlobStore>,
    /// This hub's name among those that share the database; the same after a restart.
    pub replica: String,
    /// Asked in this order for bytes that were lost here.
    pub sources: Vec<Source>,
}

/// The registry of a hub.
pub struct Service {
    store: Store,
    blobs: Arc<dyn BlobStore>,
    keeper: Keeper,
    collector: tokio::sync::Mutex<Collector>,
    sources: Vec<Source>,
    grace: Duration,
    scrub_within: Duration,
    rules: Rules,
    host_rules: HostRules,
    quotas: Quotas,
    upstreams: Upstreams,
}

impl Service {
    /// The registry over its store. Nothing is swept or collected until [`Service::tasks_spawn`] was called.
    ///
    /// # Errors
    /// [`Error::UpstreamSetup`] when an upstream's password cannot be read or its client cannot be made.
    pub fn new(config: Config, deps: Deps) -> Result<Self, Error> {
        let collector = Collector::new(deps.db.clone(), deps.replica);
        let store = Store::new(deps.db, config.rules.clone());
        let keeper = Keeper::new(store.clone(), Arc::clone(&deps.blobs));
        let upstreams = Upstreams::open(&config.upstreams, &store, &deps.blobs, &keeper)?;
        let mut sources = deps.sources;
        sources.push(upstreams.source());
        Ok(Self {
            upstreams,
            keeper,
            store,
            blobs: deps.blobs,
            collector: tokio::sync::Mutex::new(collector),
            sources,
            grace: config.grace,
            scrub_within: config.scrub,
            quotas: Quotas::new(config.rules.clone()),
            rules: config.rules,
            host_rules: config.hosts,
        })
    }

    /// Starts the background work.
    pub fn tasks_spawn(self: &Arc<Self>, tasks: &Tasks) {
        tasks::spawn(Arc::clone(self), tasks);
        figures::spawn(Arc::clone(self), tasks);
        self.upstreams.tasks_spawn(tasks);
    }

    /// Is woken when a manifest was pushed or pulled through: for one task that looks at what enters.
    pub fn pushed(&self) -> Wake {
        self.store.pushed().clone()
    }

    /// Fails when a blob that a repository does not have yet passes its quota; what is given back is to be kept until the
    /// repository has it.
    async fn quota_admit_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bytes: u64,
    ) -> Result<Option<Admitted>, Error> {
        if !self.quotas.holds(repository) || self.store.blob_size(repository, digest).await?.is_some() {
            return Ok(None);
        }
        self.quotas.admit(&self.store, repository, bytes).await
    }

    /// Takes a manifest: checked, with everything that it needs already there. The tags of `tags`, and that of
    /// `reference`, lead to it from then on.
    async fn manifest_take(
        &self,
        repository: &RepositoryName,
        reference: &ManifestReference,
        tags: &[Tag],
        content_type: Option<&str>,
        bytes: Bytes,
    ) -> Result<Taken, Error> {
        let document = Document::parse(&bytes, content_type)?;
        let mut tags = tags.to_vec();
        let digest = match reference {
            ManifestReference::Digest(digest) if digest.matches(&bytes) => *digest,
            ManifestReference::Digest(digest) => return Err(Error::ManifestDigest { expected: *digest }),
            ManifestReference::Tag(tag) => {
                tags.push(tag.clone());
                Digest::sha256_of(&bytes)
            }
        };
        let subject = document.subject().map(|subject| subject.digest);
        let is_new = self.quotas.holds(repository)
            && self.store.manifest(repository, &ManifestReference::Digest(digest)).await?.is_none();
        let _admitted =
            if is_new { self.quotas.admit(&self.store, repository, bytes.len() as u64).await? } else { None };
        self.store.manifest_put(repository, digest, &document, bytes, tags, Micros::now()).await?;
        Ok(Taken { digest, subject })
    }
}

/// A manifest that was taken.
struct Taken {
    digest: Digest,
    subject: Option<Digest>,
}

#[async_trait]
impl Registry for Service {
    async fn pin(&self, pin: Pin) -> api::Result<()> {
        Ok(self.store.pin(pin, Micros::now()).await?)
    }

    async fn unpin(&self, pin: Pin) -> api::Result<()> {
        Ok(self.store.unpin(pin).await?)
    }

    async fn manifest_get(&self, repository: &RepositoryName, reference: &str) -> api::Result<Option<StoredManifest>> {
        let reference = reference.parse().map_err(Error::Path)?;
        Ok(self.manifest_find(repository, &reference).await?.map(|ready| ready.manifest.clone()))
    }

    async fn manifest_put(
        &self,
        repository: &RepositoryName,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> api::Result<Digest> {
        let reference = match tag {
            Some(tag) => {
                ManifestReference::Tag(tag.parse::<Tag>().map_err(|error| Error::Path(oci::PathError::Tag(error)))?)
            }
            None => ManifestReference::Digest(Digest::sha256_of(&bytes)),
        };
        self.upstreams.push_check(repository)?;
        Ok(self.manifest_take(repository, &reference, &[], Some(media_type), bytes).await?.digest)
    }

    async fn blob_put(&self, repository: &RepositoryName, bytes: Bytes) -> api::Result<Digest> {
        self.upstreams.push_check(repository)?;
        let _admitted = self.quota_admit_blob(repository, &Digest::sha256_of(&bytes), bytes.len() as u64).await?;
        Ok(self.keeper.blob_take(repository, bytes).await?)
    }

    async fn blob_get(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bytes_max: u64,
    ) -> api::Result<Option<Bytes>> {
        Ok(self.blob_read(repository, digest, bytes_max).await?)
    }

    async fn blob_open(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> api::Result<Option<BlobBytes>> {
        let found = match self.blob_find(repository, digest).await {
            Ok(found) => found,
            Err(Error::BlobUnknown { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (length, digest) = (found.size(), *digest);
        let (body, _) = self.blob_body(found, &digest, range).await?;
        let body = body.map(move |piece| piece.map_err(|source| Error::BlobRead { digest, source }.into()));
        Ok(Some(BlobBytes { length, body: body.boxed() }))
    }

    async fn blobs_known(&self, digests: &[Digest]) -> api::Result<BTreeSet<Digest>> {
        let mut known = BTreeSet::new();
        for digest in digests {
            if self.store.blob_is_linked(digest).await? {
                known.insert(*digest);
            }
        }
        Ok(known)
    }

    async fn manifests_pushed(&self, after: &(Micros, String, String), limit: u32) -> api::Result<Vec<PushedManifest>> {
        Ok(self.store.manifests_pushed(after, limit).await?)
    }

    async fn manifest_is_here(&self, repository: &RepositoryName, digest: &Digest) -> api::Result<bool> {
        Ok(self.store.content_size(repository, digest).await?.is_some())
    }

    async fn tags_leading_to(
        &self,
        manifests: &[(RepositoryName, Digest)],
    ) -> api::Result<BTreeMap<(RepositoryName, Digest), Vec<Tag>>> {
        Ok(self.store.tags_leading_to(manifests).await?)
    }

    async fn said_of(&self, repository: &RepositoryName, subject: &Digest, limit: u32) -> api::Result<Vec<SaidOf>> {
        let found = self.store.referrers(repository, subject, None, "", limit).await?;
        let said = |one: store::Referrer| SaidOf { digest: one.digest, artifact_type: one.artifact_type };
        Ok(found.into_iter().map(said).collect())
    }

    async fn manifest_delete(&self, repository: &RepositoryName, digest: &Digest) -> api::Result<bool> {
        Ok(self.store.manifest_delete(repository, *digest, Micros::now()).await?)
    }

    fn is_mirror(&self, repository: &RepositoryName) -> bool {
        self.upstreams.of(repository).is_some()
    }

    fn host_check(&self, host: &HostIdentity, repository: &RepositoryName) -> api::Result<()> {
        Ok(authorise(self, Caller::Host(host), Action::Pull, Some(repository))?)
    }
}
