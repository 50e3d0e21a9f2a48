//! The host's part in the exchange of pieces: grants and trees from the hub, whom to speak with from its tracker, pieces from
//! and for other agents. Without the hub it goes on with what it was told last, as long as grants are good.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::delivery::ImageAddress;
use api::fanout::{ImageGrant, ImageRequest, PeerPlan, SignedGrant};
use api::{HostName, Micros};
use base::shutdown::Shutdown;
use base::tls::{SharedIdentity, TlsError};
use fanout::grant::{self, Grant};
use fanout::local::{Told, Want};
use fanout::peers::{Happened, Peers, PeersConfig, Role};
use fanout::piece::PieceTree;
use fanout::store::{Hold, ImageRecord, Stage, Store};
use oci::{Digest, Document};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::hub::HubClient;
use crate::registry::HostRegistry;

mod announce;
mod slow;

/// How often it is looked whether grants are to be renewed, in seconds.
const RENEW_SECONDS: u64 = 30;
/// How long other agents may take to give a tree when the hub does not, in seconds.
const TREE_SECONDS_MAX: u64 = 5;
/// Images that are fetched ahead at once.
const AHEAD_MAX: usize = 2;

/// What the exchange works with.
pub struct SwarmParts {
    /// This host.
    pub host: HostName,
    /// The pieces.
    pub store: Store,
    /// What is said of them.
    pub pulls: Arc<HostRegistry>,
    /// The hub.
    pub hub: Arc<HubClient>,
    /// Where the hub's agent port is, `HOST:PORT`.
    pub hub_address: String,
    /// Who this host is.
    pub identity: SharedIdentity,
    /// Where other agents reach this one.
    pub listener: TcpListener,
    /// Whether it serves its region.
    pub is_edge: bool,
    /// Bytes of pieces a second that may be sent.
    pub upload_bytes_per_second: Option<std::num::NonZeroU64>,
    /// Bytes a second that may be received.
    pub download_bytes_per_second: Option<std::num::NonZeroU64>,
}

/// A host in the exchange.
struct Swarm {
    host: HostName,
    store: Store,
    pulls: Arc<HostRegistry>,
    hub: Arc<HubClient>,
    hub_address: String,
    identity: SharedIdentity,
    address: SocketAddr,
    is_edge: bool,
    peers: Peers,
    shared: Mutex<Shared>,
    /// Something is to be announced at once.
    news: Notify,
    /// Something may have become whole in another way than by the exchange.
    brought: Notify,
    ahead: Semaphore,
}

#[derive(Default)]
struct Shared {
    /// Grants that are good, by image.
    grants: BTreeMap<Digest, (Grant, SignedGrant)>,
    /// Blobs that are being fetched, which keeps them.
    fetched: BTreeMap<Digest, Hold>,
    /// Whom to tell when nobody gives what is missing of a blob.
    wanted: BTreeMap<Digest, mpsc::Sender<String>>,
    /// Blobs that the exchange knows.
    offered: BTreeSet<Digest>,
    /// Images that are to be fetched ahead, as long as the tracker says so.
    ahead: BTreeMap<Digest, Ahead>,
    /// What the tracker said last.
    plan: PeerPlan,
    is_slow: bool,
}

/// An image that is to be fetched ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ahead {
    /// It is being asked for.
    Asked,
    /// Its blobs were begun, or those of the image that it has for this machine.
    Begun(Digest),
    /// It is tried again when the tracker says so again.
    Failed(String),
}

/// Takes part until the stop. `told` is what the host's registry lacks, and what it got elsewhere.
///
/// # Errors
/// The identity cannot be used.
pub async fn run(parts: SwarmParts, mut told: mpsc::Receiver<Told>, stop: CancellationToken) -> Result<(), TlsError> {
    let SwarmParts { host, store, pulls, hub, hub_address, identity, listener, is_edge, .. } = parts;
    let shutdown = Shutdown::new();
    let _ending = stop.clone().drop_guard();
    let config = PeersConfig {
        role: Role::Agent(host.clone()),
        upload_bytes_per_second: parts.upload_bytes_per_second,
        download_bytes_per_second: parts.download_bytes_per_second,
    };
    let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let (peers, mut happened) = Peers::start(config, &identity, Arc::new(store.clone()), shutdown.clone())?;
    let swarm = Arc::new(Swarm {
        host,
        store,
        pulls,
        hub,
        hub_address,
        identity,
        address,
        is_edge,
        peers: peers.clone(),
        shared: Mutex::default(),
        news: Notify::new(),
        brought: Notify::new(),
        ahead: Semaphore::new(AHEAD_MAX),
    });
    let listening = peers.listen(listener);
    let announcing = swarm.clone();
    let renewing = swarm.clone();
    let measuring = swarm.clone();
    let limits = (parts.upload_bytes_per_second, parts.download_bytes_per_second);
    tokio::select! {
        () = stop.cancelled() => {}
        () = listening => {}
        () = async move { announcing.announce().await } => {}
        () = async move { renewing.renew().await } => {}
        () = async move { measuring.measure(limits).await } => {}
        () = async {
            loop {
                tokio::select! {
                    Some(told) = told.recv() => match told {
                        Told::Want(want) => {
                            let swarm = swarm.clone();
                            tokio::spawn(async move { swarm.want(want).await });
                        }
                        Told::Brought(blob) => swarm.brought(blob).await,
                    },
                    Some(event) = happened.recv() => swarm.happened(event).await,
                    else => return,
                }
            }
        } => {}
    }
    shutdown.begin();
    Ok(())
}

impl Shared {
    /// A blob is given up here.
    fn starved(&mut self, blob: &Digest, why: &str) {
        self.fetched.remove(blob);
        let Self { ahead, grants, .. } = self;
        let has = |image: &Digest| grants.get(image).is_some_and(|(grant, _signed)| grant.blob(blob).is_some());
        for state in ahead.values_mut() {
            if matches!(state, Ahead::Begun(image) if has(image)) {
                *state = Ahead::Failed(why.to_owned());
            }
        }
    }
}

impl Swarm {
    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn want(self: &Arc<Self>, want: Want) {
        let Want { image, blob, begun, starves } = want;
        {
            let mut shared = self.shared();
            shared.wanted.retain(|_, starves| !starves.is_closed());
            shared.wanted.insert(blob, starves);
        }
        let result = match self.granted(&image).await {
            Ok(grant) => self.begin(&grant, blob).await,
            Err(why) => Err(why),
        };
        // Whoever asked may have given up meanwhile.
        let _ = begun.send(result);
    }

    /// Something of a blob came from the hub's registry: others can have it.
    async fn brought(&self, blob: Digest) {
        if !self.shared().offered.contains(&blob) {
            // What came without a tree can be offered when it is whole.
            if self.store.is_whole(&blob) {
                self.brought.notify_one();
            }
        } else if let Some(pieces) = self.store.pieces(&blob) {
            self.peers.kept(blob, pieces).await;
        }
    }

    async fn happened(self: &Arc<Self>, event: Happened) {
        match event {
            Happened::Complete(blob) => self.complete(blob),
            Happened::Starving(blob) => {
                let why = "no agent has what is missing of it".to_owned();
                let wanted = self.shared().wanted.get(&blob).cloned();
                if let Some(starves) = wanted.filter(|starves| !starves.is_closed()) {
                    // It may have been told already.
                    let _ = starves.try_send(why);
                    return;
                }
                self.shared().starved(&blob, &why);
                if let Err(error) = self.store.give_up(blob, why).await {
                    tracing::warn!(%blob, %error, "a blob that nobody gives was not given up");
                }
            }
            Happened::Complaints => self.news.notify_one(),
        }
    }

    /// All pieces of a blob are here. It is fetched until it is whole, so that it stays, or given up.
    fn complete(self: &Arc<Self>, blob: Digest) {
        let (swarm, changes) = (Arc::clone(self), self.store.watch(&blob));
        tokio::spawn(async move {
            if let Some(mut changes) = changes {
                // It ends where the store does.
                let _ = changes.wait_for(|progress| progress.stage != Stage::Arriving).await;
            }
            swarm.shared().fetched.remove(&blob);
            swarm.news.notify_one();
        });
    }

    /// A grant of this image that is good now.
    async fn granted(&self, image: &ImageAddress) -> Result<Grant, String> {
        let now = Micros::now();
        let known = self.shared().grants.get(&image.digest).map(|(grant, _signed)| grant.clone());
        if let Some(grant) = known.filter(|grant| now < grant.renew_at()) {
            return Ok(grant);
        }
        let kept = self.store.image(image.digest).await.map_err(|error| error.to_string())?;
        let kept = kept.and_then(|record| record.grant);
        let kept = kept.and_then(|signed| Some((self.verified(&signed).ok()?, signed)));
        match kept {
            Some((grant, signed)) if now < grant.renew_at() => {
                self.take_up(grant.clone(), signed).await;
                Ok(grant)
            }
            kept => match self.ask_grant(image).await {
                Ok(grant) => Ok(grant),
                // It is good for some time yet.
                Err(why) => match kept {
                    Some((grant, signed)) => {
                        tracing::warn!(why, "a grant is not renewed");
                        self.take_up(grant.clone(), signed).await;
                        Ok(grant)
                    }
                    None => Err(why),
                },
            },
        }
    }

    fn verified(&self, signed: &SignedGrant) -> Result<Grant, String> {
        let ca = self.identity.current();
        let grant = grant::verify(ca.ca(), &signed.payload, &signed.signature, Micros::now());
        let grant = grant.map_err(|error| error.to_string())?;
        grant.check_holder(&self.host).map_err(|error| error.to_string())?;
        Ok(grant)
    }

    async fn ask_grant(&self, image: &ImageAddress) -> Result<Grant, String> {
        let answer = self.ask_image(image).await?;
        let signed = answer.grant.ok_or("the hub is still making the trees of its blobs, or it is an index")?;
        let grant = self.verified(&signed)?;
        if grant.image.digest != image.digest {
            return Err("the hub granted another image".to_owned());
        }
        self.take_up(grant.clone(), signed).await;
        Ok(grant)
    }

    /// Asks the hub for an image, and keeps what it says.
    async fn ask_image(&self, image: &ImageAddress) -> Result<ImageGrant, String> {
        let request = ImageRequest { repository: image.repository.clone(), reference: image.digest.to_string() };
        let answer = self.hub.image(&request).await.map_err(|error| error.to_string())?;
        let manifest = String::from_utf8(answer.manifest.clone()).map_err(|error| error.to_string())?;
        let record = ImageRecord {
            digest: answer.digest,
            repository: image.repository.clone(),
            media_type: answer.media_type.clone(),
            manifest,
            grant: answer.grant.clone(),
        };
        self.store.image_keep(record).await.map_err(|error| error.to_string())?;
        Ok(answer)
    }

    /// Shows a grant to all from now on.
    async fn take_up(&self, grant: Grant, signed: SignedGrant) {
        self.peers.grant(signed.clone()).await;
        self.shared().grants.insert(grant.image.digest, (grant, signed));
    }

    /// Begins a blob, or offers it when it is whole.
    async fn begin(self: &Arc<Self>, grant: &Grant, blob: Digest) -> Result<(), String> {
        let granted = grant.blob(&blob).ok_or("the hub's grant does not list it")?;
        let (root, layout) = (granted.root, granted.layout().map_err(|error| error.to_string())?);
        if !self.store.is_whole(&blob) {
            let leaves = match self.hub.tree(&blob).await {
                Ok(leaves) => leaves,
                Err(error) => {
                    let limit = Duration::from_secs(TREE_SECONDS_MAX);
                    self.peers.tree(blob, limit).await.ok_or_else(|| error.to_string())?
                }
            };
            let tree = PieceTree::from_bytes(layout, root, &leaves).map_err(|error| error.to_string())?;
            let held = self.store.begin(blob, tree).await.map_err(|error| error.to_string())?;
            if held.progress().stage != Stage::Whole {
                self.shared().fetched.insert(blob, held);
            }
        }
        let tree = self.store.tree(blob).await.map_err(|error| error.to_string())?;
        let pieces = self.store.pieces(&blob).ok_or("it went while it was begun")?;
        if tree.root() != root {
            return Err("it is here with other hashes than the hub signed".to_owned());
        }
        if pieces.is_full() {
            self.complete(blob);
        }
        self.peers.blob(blob, root, layout, pieces).await;
        self.shared().offered.insert(blob);
        self.news.notify_one();
        Ok(())
    }

    /// Begins all blobs of an image; of an index, those of this machine's architecture. Gives which image that is.
    async fn fetch_ahead(self: &Arc<Self>, image: &ImageAddress) -> Result<Digest, String> {
        let _place = self.ahead.acquire().await.map_err(|error| error.to_string())?;
        let answer = self.ask_image(image).await?;
        let document =
            Document::parse(&answer.manifest, Some(&answer.media_type)).map_err(|error| error.to_string())?;
        let image = match document.manifests().iter().find(|child| is_native(child)) {
            Some(child) => ImageAddress { repository: image.repository.clone(), digest: child.digest },
            None => ImageAddress { repository: image.repository.clone(), digest: answer.digest },
        };
        let grant = self.granted(&image).await?;
        for blob in &grant.blobs {
            self.begin(&grant, blob.digest).await?;
        }
        Ok(image.digest)
    }

    /// Renews grants of what is here, and offers what became whole some other way.
    async fn renew(self: &Arc<Self>) {
        loop {
            let now = Micros::now();
            for image in self.store.images() {
                let is_here = !image.blobs.is_empty() && image.bytes_there == image.bytes;
                if !is_here {
                    continue;
                }
                let address = ImageAddress { repository: image.repository.clone(), digest: image.digest };
                let grant = match self.granted(&address).await {
                    Ok(grant) if now < grant.expires_at => grant,
                    Ok(_) | Err(_) => continue,
                };
                for (blob, _length) in &image.blobs {
                    if !self.shared().offered.contains(blob)
                        && let Err(why) = self.begin(&grant, *blob).await
                    {
                        tracing::debug!(%blob, why, "a blob is not given to others");
                    }
                }
            }
            let gone: Vec<Digest> =
                self.shared().offered.iter().filter(|blob| self.store.hold(blob).is_none()).copied().collect();
            for blob in gone {
                self.shared().offered.remove(&blob);
                self.peers.forget(blob).await;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(RENEW_SECONDS)) => {}
                () = self.brought.notified() => {}
            }
        }
    }
}

/// Whether an index's image is for this machine.
fn is_native(child: &oci::Descriptor) -> bool {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = child.platform.as_ref();
    platform.is_some_and(|platform| platform.os == "linux" && platform.architecture == architecture)
}
