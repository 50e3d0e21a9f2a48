//! A hub's fan-out with everything around it in memory: a CA, images, hosts, rollouts, a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::access::{
    Access, EnrolRequest, HostCertificate, HostIdentity, HostRevoked, HostToken, HostTokenRequest, RenewRequest,
    SignPurpose,
};
use api::delivery::{ImageAddress, ReleaseId, Rollouts};
use api::fanout::{Announce, ImageGrant, ImageRequest, ImageStanding, PeerPlan};
use api::registry::{BlobBytes, Pin, Registry, StoredManifest};
use api::{EnvName, HostName, Micros, Problem};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use base::db::{DatabaseConfig, open};
use base::listen::Peer;
use base::shutdown::Shutdown;
use base::tasks::Tasks;
use bytes::Bytes;
use fanout::grant::{Grant, GrantError, verify};
use fanout::hub::{CONTEXT, Config, Deps, MIGRATIONS, Service, agent_routes};
use futures::StreamExt as _;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use oci::{Digest, RepositoryName, media};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SigningKey as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

/// How long anything that a test waits for may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A CA, and which serial numbers are void.
pub(crate) struct Ca {
    key: KeyPair,
    certificate: Vec<u8>,
    pub(crate) revoked: Mutex<Vec<String>>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { key, certificate, revoked: Mutex::default() }
    }
}

fn not_asked<T>() -> api::Result<T> {
    Err(Problem::new(501, "not-asked", "Fan-out never asks this"))
}

#[async_trait]
impl Access for Ca {
    async fn host_token_create(&self, _: HostTokenRequest) -> api::Result<HostToken> {
        not_asked()
    }
    async fn host_enrol(&self, _: EnrolRequest) -> api::Result<HostCertificate> {
        not_asked()
    }
    async fn host_renew(&self, _: &HostIdentity, _: RenewRequest) -> api::Result<HostCertificate> {
        not_asked()
    }
    async fn host_identify(&self, _: &[u8]) -> api::Result<HostIdentity> {
        not_asked()
    }
    async fn host_revoke(&self, _: &HostName) -> api::Result<HostRevoked> {
        not_asked()
    }
    async fn revoked_list(&self, limit: u32) -> api::Result<Vec<String>> {
        Ok(self.revoked.lock().unwrap().iter().take(limit as usize).cloned().collect())
    }
    async fn sign(&self, purpose: SignPurpose, bytes: &[u8]) -> api::Result<Vec<u8>> {
        Ok(self.key.sign(&purpose.message(bytes)).unwrap())
    }
    fn ca_certificate(&self) -> Vec<u8> {
        self.certificate.clone()
    }
}

/// Images by repository. Hosts without the label `team=a` may not pull from `team-a/…`.
#[derive(Default)]
pub(crate) struct Images {
    manifests: Mutex<BTreeMap<(String, String), StoredManifest>>,
    blobs: Mutex<BTreeMap<(String, Digest), Bytes>>,
    /// How often a blob was read.
    pub(crate) reads: AtomicUsize,
    /// Reading waits for a permit, where it is closed.
    pub(crate) gate: Mutex<Option<Arc<Semaphore>>>,
}

impl Images {
    pub(crate) fn blob_forget(&self, repository: &str, digest: &Digest) {
        self.blobs.lock().unwrap().remove(&(repository.to_owned(), *digest));
    }

    /// Other bytes under the same digest.
    pub(crate) fn blob_damage(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        self.blobs.lock().unwrap().insert((repository.to_owned(), *digest), Bytes::copy_from_slice(bytes));
    }

    /// An image of these layers, under a tag.
    pub(crate) fn push(&self, repository: &str, tag: &str, layers: &[&[u8]]) -> Digest {
        let blob = |bytes: &[u8], kind: &str| {
            let digest = Digest::sha256_of(bytes);
            self.blob_damage(repository, &digest, bytes);
            json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
        };
        let layers: Vec<_> = layers.iter().map(|layer| blob(layer, media::OCI_LAYER)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": blob(b"{}", media::OCI_CONFIG), "layers": layers,
        });
        self.manifest(repository, tag, media::OCI_MANIFEST, &manifest)
    }

    pub(crate) fn index(&self, repository: &str, tag: &str, child: Digest) -> Digest {
        let child = json!({ "mediaType": media::OCI_MANIFEST, "digest": child, "size": 1 });
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [child] });
        self.manifest(repository, tag, media::OCI_INDEX, &index)
    }

    fn manifest(&self, repository: &str, tag: &str, kind: &str, manifest: &serde_json::Value) -> Digest {
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::sha256_of(&bytes);
        let stored = StoredManifest { digest, media_type: kind.to_owned(), bytes };
        let mut manifests = self.manifests.lock().unwrap();
        for reference in [tag.to_owned(), digest.to_string()] {
            manifests.insert((repository.to_owned(), reference), stored.clone());
        }
        digest
    }
}

#[async_trait]
impl Registry for Images {
    async fn pin(&self, _: Pin) -> api::Result<()> {
        not_asked()
    }
    async fn unpin(&self, _: Pin) -> api::Result<()> {
        not_asked()
    }
    async fn manifest_get(&self, repository: &RepositoryName, reference: &str) -> api::Result<Option<StoredManifest>> {
        Ok(self.manifests.lock().unwrap().get(&(repository.to_string(), reference.to_owned())).cloned())
    }
    async fn manifest_put(&self, _: &RepositoryName, _: Option<&str>, _: &str, _: Bytes) -> api::Result<Digest> {
        not_asked()
    }
    async fn blob_put(&self, _: &RepositoryName, _: Bytes) -> api::Result<Digest> {
        not_asked()
    }
    async fn blob_get(&self, _: &RepositoryName, _: &Digest, _: u64) -> api::Result<Option<Bytes>> {
        not_asked()
    }
    async fn blob_open(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> api::Result<Option<BlobBytes>> {
        assert_eq!(range, None);
        self.reads.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let found = self.blobs.lock().unwrap().get(&(repository.to_string(), *digest)).cloned();
        Ok(found.map(|bytes| {
            let chunks: Vec<_> = bytes.chunks(50_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            BlobBytes { length: bytes.len() as u64, body: futures::stream::iter(chunks).boxed() }
        }))
    }
    async fn blobs_known(&self, digests: &[Digest]) -> api::Result<BTreeSet<Digest>> {
        let blobs = self.blobs.lock().unwrap();
        Ok(digests.iter().filter(|digest| blobs.keys().any(|(_, known)| known == *digest)).copied().collect())
    }
    async fn manifests_pushed(
        &self,
        _: &(Micros, String, String),
        _: u32,
    ) -> api::Result<Vec<api::registry::PushedManifest>> {
        Ok(Vec::new())
    }

    async fn manifest_is_here(&self, _: &RepositoryName, _: &Digest) -> api::Result<bool> {
        Ok(false)
    }

    async fn tags_leading_to(
        &self,
        _: &[(RepositoryName, Digest)],
    ) -> api::Result<BTreeMap<(RepositoryName, Digest), Vec<oci::Tag>>> {
        Ok(BTreeMap::new())
    }

    async fn said_of(&self, _: &RepositoryName, _: &Digest, _: u32) -> api::Result<Vec<api::registry::SaidOf>> {
        not_asked()
    }
    async fn manifest_delete(&self, _: &RepositoryName, _: &Digest) -> api::Result<bool> {
        not_asked()
    }
    fn is_mirror(&self, _: &RepositoryName) -> bool {
        false
    }
    fn host_check(&self, host: &HostIdentity, repository: &RepositoryName) -> api::Result<()> {
        if repository.as_str().starts_with("team-a/") && host.labels.get("team").is_none_or(|team| team != "a") {
            return Err(Problem::new(403, "denied", "The host may not pull this"));
        }
        Ok(())
    }
}

/// What delivery says.
pub(crate) struct Fleet {
    pub(crate) labels: Mutex<BTreeMap<HostName, BTreeMap<String, String>>>,
    pub(crate) ahead: Mutex<BTreeMap<HostName, Vec<ImageAddress>>>,
    pub(crate) env: Mutex<BTreeMap<EnvName, Vec<HostName>>>,
    pub(crate) releases: Mutex<BTreeMap<String, ImageAddress>>,
    changed: watch::Sender<u64>,
}

impl Fleet {
    pub(crate) fn changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Rollouts for Fleet {
    async fn host_labels(&self) -> api::Result<BTreeMap<HostName, BTreeMap<String, String>>> {
        Ok(self.labels.lock().unwrap().clone())
    }
    async fn images_ahead(&self) -> api::Result<BTreeMap<HostName, Vec<ImageAddress>>> {
        Ok(self.ahead.lock().unwrap().clone())
    }
    async fn env_hosts(&self, env: &EnvName) -> api::Result<Vec<HostName>> {
        let unknown = || Problem::new(404, "env-unknown", "There is no such environment");
        self.env.lock().unwrap().get(env).cloned().ok_or_else(unknown)
    }
    async fn release_image(&self, id: &str) -> api::Result<(ReleaseId, ImageAddress)> {
        let image = self.releases.lock().unwrap().get(id).cloned();
        image
            .map(|image| (id.parse().unwrap(), image))
            .ok_or_else(|| Problem::new(404, "release-unknown", "No such release"))
    }
    fn rollouts_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

pub(crate) struct World {
    pub(crate) ca: Arc<Ca>,
    pub(crate) images: Arc<Images>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) service: Service,
    database: DatabaseConfig,
    shutdown: Shutdown,
}

pub(crate) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// A host with labels.
pub(crate) fn identity(name: &str, labels: &[(&str, &str)]) -> HostIdentity {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    HostIdentity { host: host(name), serial: format!("{name}-1"), labels }
}

pub(crate) fn address(repository: &str, digest: Digest) -> ImageAddress {
    ImageAddress { repository: repository.parse().unwrap(), digest }
}

impl World {
    pub(crate) async fn new(database: DatabaseConfig) -> Self {
        let fleet = Fleet {
            labels: Mutex::default(),
            ahead: Mutex::default(),
            env: Mutex::default(),
            releases: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        let (ca, images, fleet) = (Arc::new(Ca::new()), Arc::new(Images::default()), Arc::new(fleet));
        let clock = Arc::new(AtomicI64::new(1_795_293_000_000_000));
        let service = opened(&database, &ca, &images, &fleet, &clock, "hub").await;
        Self { ca, images, fleet, clock, service, database, shutdown: Shutdown::new() }
    }

    /// The hub dies, and one of this name is opened on the same data.
    pub(crate) async fn reopened(mut self, replica: &str) -> Self {
        self.shutdown.begin();
        self.shutdown.drain(LIMIT).await;
        self.shutdown = Shutdown::new();
        self.service = opened(&self.database, &self.ca, &self.images, &self.fleet, &self.clock, replica).await;
        self
    }

    /// With background work from now on.
    pub(crate) fn working(self) -> Self {
        self.service.tasks_spawn(&Tasks::new(self.shutdown.clone()));
        self
    }

    pub(crate) fn now(&self) -> Micros {
        Micros(self.clock.load(Ordering::SeqCst))
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    /// A host asks for an image.
    pub(crate) async fn image(&self, who: &HostIdentity, repository: &str, reference: &str) -> api::Result<ImageGrant> {
        let request = ImageRequest { repository: repository.parse().unwrap(), reference: reference.to_owned() };
        ask(&self.service, Some(who), "POST", "/agent/v1/fanout/image", &request).await
    }

    /// The same, with its grant verified; none while there is none.
    pub(crate) async fn granted(&self, who: &HostIdentity, repository: &str, reference: &str) -> Option<Grant> {
        let answer = self.image(who, repository, reference).await.unwrap();
        answer.grant.map(|signed| self.verified(&signed.payload, &signed.signature).unwrap())
    }

    pub(crate) fn verified(&self, payload: &[u8], signature: &[u8]) -> Result<Grant, GrantError> {
        verify(&self.ca.ca_certificate(), payload, signature, self.now())
    }

    pub(crate) async fn tree(&self, who: &HostIdentity, digest: &Digest) -> (StatusCode, Bytes) {
        let path = format!("/agent/v1/fanout/trees/{digest}");
        call(&self.service, Some(who), "GET", &path, Vec::new()).await
    }

    pub(crate) async fn announce(&self, who: &HostIdentity, announce: &Announce) -> api::Result<PeerPlan> {
        ask(&self.service, Some(who), "POST", "/agent/v1/fanout/announce", announce).await
    }

    /// Announces again and again until the plan is so.
    pub(crate) async fn planned(
        &self,
        who: &HostIdentity,
        announce: &Announce,
        is_so: impl Fn(&PeerPlan) -> bool,
    ) -> PeerPlan {
        let (begun, mut announce) = (Instant::now(), announce.clone());
        loop {
            let plan = self.announce(who, &announce).await.unwrap();
            if is_so(&plan) {
                return plan;
            }
            assert!(begun.elapsed() < LIMIT, "{plan:#?}");
            announce.seen = plan.number;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

async fn opened(
    database: &DatabaseConfig,
    ca: &Arc<Ca>,
    images: &Arc<Images>,
    fleet: &Arc<Fleet>,
    clock: &Arc<AtomicI64>,
    replica: &str,
) -> Service {
    let clock = Arc::clone(clock);
    let deps = Deps {
        db: open(database, CONTEXT, MIGRATIONS).await.unwrap(),
        access: ca.clone(),
        registry: images.clone(),
        rollouts: fleet.clone(),
        clock: Arc::new(move || Micros(clock.load(Ordering::SeqCst))),
        replica: replica.to_owned(),
    };
    Service::new(Config::default(), deps)
}

/// One call on the agent port, by a host or by nobody.
pub(crate) async fn call(
    service: &Service,
    who: Option<&HostIdentity>,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> (StatusCode, Bytes) {
    let from: SocketAddr = "10.1.2.3:40000".parse().unwrap();
    let mut router: Router = agent_routes(service.clone()).layer(Extension(Peer { address: from, certificate: None }));
    if let Some(who) = who {
        router = router.layer(Extension(who.clone()));
    }
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let response = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes())
}

async fn ask<T: DeserializeOwned>(
    service: &Service,
    who: Option<&HostIdentity>,
    method: &str,
    path: &str,
    body: &impl Serialize,
) -> api::Result<T> {
    let (status, answer) = call(service, who, method, path, serde_json::to_vec(body).unwrap()).await;
    if status.is_success() {
        return Ok(serde_json::from_slice(&answer).unwrap());
    }
    Err(serde_json::from_slice(&answer).unwrap())
}

pub(crate) fn announcing(images: Vec<ImageStanding>) -> Announce {
    // Each stands for an image of one blob, which has its name.
    let digests = |is_wanted| images.iter().filter(|it| it.is_wanted == is_wanted).map(|it| it.digest).collect();
    Announce {
        seen: 0,
        wait_seconds: 1,
        address: "0.0.0.0:5101".parse().unwrap(),
        is_edge: false,
        is_slow: false,
        complaints: Vec::new(),
        fetching: digests(true),
        whole: digests(false),
        images,
        warnings: Vec::new(),
    }
}

pub(crate) fn standing(digest: Digest, bytes_there: u64) -> ImageStanding {
    ImageStanding {
        digest,
        bytes: 100,
        bytes_there,
        from_peers: bytes_there,
        from_hub: 0,
        from_disk: 0,
        bytes_per_second: 10,
        is_wanted: bytes_there < 100,
    }
}
