//! A hub's side of inspection over a database alone: nothing is in its registry, and what images hold is put into its
//! store by the test.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::Micros;
use api::access::{
    Access, EnrolRequest, HostCertificate, HostIdentity, HostRevoked, HostToken, HostTokenRequest, RenewRequest,
    SignPurpose,
};
use api::inspect::{Sought, Where};
use api::registry::{BlobBytes, Pin, PushedManifest, Registry, SaidOf, StoredManifest};
use api::{HostName, Problem};
use async_trait::async_trait;
use base::db::Db;
use base::page::PageQuery;
use bytes::Bytes;
use oci::{Digest, RepositoryName, Tag};

use super::store::{Entry, Kept, Key};
use super::{Config, Deps, Service};
use crate::component::{Component, Ecosystem, Evidence};

/// A hub of that name on the database.
pub(super) fn hub(db: &Db, folder: &std::path::Path, replica: &str) -> Service {
    let config = Config { folder: folder.to_owned(), secrets: false, webhook: None };
    hub_with(db, config, replica, Arc::new(Micros::now))
}

/// The same with what the hub sets, and with a time of its own.
pub(super) fn hub_with(
    db: &Db,
    config: Config,
    replica: &str,
    clock: Arc<dyn Fn() -> Micros + Send + Sync>,
) -> Service {
    let (access, registry) = (Arc::new(Signer::default()), Arc::new(Nothing));
    Service::new(config, Deps { db: db.clone(), access, registry, clock, replica: replica.to_owned() })
}

pub(super) fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

pub(super) fn image(number: u32) -> Digest {
    Digest::sha256_of(&number.to_le_bytes())
}

/// A component that says nothing of itself but its name and version.
pub(super) fn component(ecosystem: Ecosystem, name: &str, version: &str) -> Component {
    Component {
        ecosystem,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: None,
        source: None,
        licences: Vec::new(),
        evidence: Evidence::Installed,
    }
}

pub(super) fn entry(of: &Component) -> Entry {
    Entry {
        key: Key::of(of, None),
        evidence: of.evidence,
        is_owned: false,
        places: vec![(Some(0), vec![format!("/{}", of.name)])],
        licences: Vec::new(),
    }
}

/// What reading an image came to that has these.
pub(super) fn kept(number: i64, entries: Vec<Entry>) -> Kept {
    Kept {
        number,
        system: None,
        platform: None,
        unexamined: 0,
        secrets: None,
        components: entries.len() as u64,
        contents: Vec::new(),
        layers: Vec::new(),
        entries,
    }
}

impl Service {
    /// Has an image enter the registry, and gives its number.
    pub(super) async fn enters(&self, digest: Digest) -> i64 {
        let entered = vec![(repository(), digest, "v1".to_owned())];
        let after = (Micros(1), repository().to_string(), digest.to_string());
        self.store().entered(entered, Vec::new(), after, Micros(1)).await.unwrap();
        self.store().image(&digest).await.unwrap().unwrap().number
    }

    /// The first page of where something is.
    pub(super) async fn found(&self, sought: &Sought) -> Where {
        self.where_is(sought, false, &PageQuery::default().request().unwrap()).await.unwrap()
    }
}

/// A registry that has nothing.
struct Nothing;

type Answer<T> = api::Result<T>;

fn refused<T>() -> Answer<T> {
    Err(Problem::new(500, "not-here", "There is nothing behind this"))
}

#[async_trait]
impl Registry for Nothing {
    async fn pin(&self, _: Pin) -> Answer<()> {
        refused()
    }

    async fn unpin(&self, _: Pin) -> Answer<()> {
        refused()
    }

    async fn manifest_get(&self, _: &RepositoryName, _: &str) -> Answer<Option<StoredManifest>> {
        Ok(None)
    }

    async fn manifest_put(&self, _: &RepositoryName, _: Option<&str>, _: &str, _: Bytes) -> Answer<Digest> {
        refused()
    }

    async fn blob_put(&self, _: &RepositoryName, _: Bytes) -> Answer<Digest> {
        refused()
    }

    async fn blob_get(&self, _: &RepositoryName, _: &Digest, _: u64) -> Answer<Option<Bytes>> {
        Ok(None)
    }

    async fn blob_open(&self, _: &RepositoryName, _: &Digest, _: Option<Range<u64>>) -> Answer<Option<BlobBytes>> {
        Ok(None)
    }

    async fn blobs_known(&self, _: &[Digest]) -> Answer<BTreeSet<Digest>> {
        Ok(BTreeSet::new())
    }

    async fn manifests_pushed(&self, _: &(Micros, String, String), _: u32) -> Answer<Vec<PushedManifest>> {
        Ok(Vec::new())
    }

    async fn manifest_is_here(&self, _: &RepositoryName, _: &Digest) -> Answer<bool> {
        Ok(false)
    }

    async fn tags_leading_to(
        &self,
        _: &[(RepositoryName, Digest)],
    ) -> Answer<BTreeMap<(RepositoryName, Digest), Vec<Tag>>> {
        Ok(BTreeMap::new())
    }

    async fn said_of(&self, _: &RepositoryName, _: &Digest, _: u32) -> Answer<Vec<SaidOf>> {
        Ok(Vec::new())
    }

    async fn manifest_delete(&self, _: &RepositoryName, _: &Digest) -> Answer<bool> {
        refused()
    }

    fn is_mirror(&self, _: &RepositoryName) -> bool {
        false
    }

    fn host_check(&self, _: &HostIdentity, _: &RepositoryName) -> Answer<()> {
        Ok(())
    }
}

/// Signs with a number, each time another.
#[derive(Default)]
pub(super) struct Signer(AtomicUsize);

#[async_trait]
impl Access for Signer {
    async fn host_token_create(&self, _: HostTokenRequest) -> Answer<HostToken> {
        refused()
    }
    async fn host_enrol(&self, _: EnrolRequest) -> Answer<HostCertificate> {
        refused()
    }
    async fn host_renew(&self, _: &HostIdentity, _: RenewRequest) -> Answer<HostCertificate> {
        refused()
    }
    async fn host_identify(&self, _: &[u8]) -> Answer<HostIdentity> {
        refused()
    }
    async fn host_revoke(&self, _: &HostName) -> Answer<HostRevoked> {
        refused()
    }
    async fn revoked_list(&self, _: u32) -> Answer<Vec<String>> {
        refused()
    }
    async fn sign(&self, _: SignPurpose, _: &[u8]) -> Answer<Vec<u8>> {
        Ok(self.0.fetch_add(1, Ordering::SeqCst).to_le_bytes().to_vec())
    }
    fn ca_certificate(&self) -> Vec<u8> {
        b"certificate".to_vec()
    }
}
