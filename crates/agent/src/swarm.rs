//! The host's part in the exchange of pieces: grants and trees from the hub, whom to speak with from its tracker, pieces from
//! and for other agents. Without the hub it goes on with what it was told last, as long as grants are good.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::delivery::ImageAddress;
use api::fanout::{
    ANNOUNCE_BLOBS_MAX, ANNOUNCE_IMAGES_MAX, ANNOUNCE_SECONDS_MAX, Announce, COMPLAINTS_MAX, ImageGrant, ImageRequest,
    ImageStanding, Parent, PeerPlan, SignedGrant,
};
use api::{HostName, Micros};
use base::shutdown::Shutdown;
use base::tls::{SharedIdentity, TlsError};
use fanout::core::{Parents, STRIPES, Source};
use fanout::grant::{self, Grant};
use fanout::local::Want;
use fanout::peers::{Happened, Peers, PeersConfig, Plan, Role, Who};
use fanout::piece::PieceTree;
use fanout::store::{Hold, ImageRecord, Stage, Store};
use oci::{Digest, Document};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::hub::HubClient;

/// How long an announcement is held open while something arrives, in seconds: the tracker is told how far it is.
const ARRIVING_SECONDS: u64 = 1;
/// The pause after the hub did not answer, in seconds.
const AWAY_SECONDS: u64 = 2;
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
    /// The hub.
    pub hub: Arc<HubClient>,
    /// Where the hub's agent port is, `HOST:PORT`.
    pub hub_address: String,
    /// Who this host is.
    pub identity: SharedIdentity,
    /// Where other agents reach this one.
    pub listener: TcpListener,
    /// Bytes of pieces a second that may be sent.
    pub upload_bytes_per_second: Option<std::num::NonZeroU64>,
    /// Bytes a second that may be received.
    pub download_bytes_per_second: Option<std::num::NonZeroU64>,
}

/// A host in the exchange.
struct Swarm {
    host: HostName,
    store: Store,
    hub: Arc<HubClient>,
    hub_address: String,
    identity: SharedIdentity,
    address: SocketAddr,
    peers: Peers,
    shared: Mutex<Shared>,
    /// Something is to be announced at once.
    news: Notify,
    ahead: Semaphore,
}

#[derive(Default)]
struct Shared {
    /// Grants that are good, by image.
    grants: BTreeMap<Digest, (Grant, SignedGrant)>,
    /// Blobs that are being fetched, which keeps them.
    fetched: BTreeMap<Digest, Hold>,
    /// Blobs that the exchange knows.
    offered: BTreeSet<Digest>,
    /// Images that are being fetched ahead.
    ahead: BTreeSet<Digest>,
}

/// Takes part until the stop. `wants` are the blobs that the host's registry lacks.
///
/// # Errors
/// The identity cannot be used.
pub async fn run(parts: SwarmParts, mut wants: mpsc::Receiver<Want>, stop: CancellationToken) -> Result<(), TlsError> {
    let SwarmParts { host, store, hub, hub_address, identity, listener, .. } = parts;
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
        hub,
        hub_address,
        identity,
        address,
        peers: peers.clone(),
        shared: Mutex::default(),
        news: Notify::new(),
        ahead: Semaphore::new(AHEAD_MAX),
    });
    let listening = peers.listen(listener);
    let announcing = swarm.clone();
    let renewing = swarm.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = listening => {}
        () = async move { announcing.announce().await } => {}
        () = async move { renewing.renew().await } => {}
        () = async {
            loop {
                tokio::select! {
                    Some(want) = wants.recv() => {
                        let swarm = swarm.clone();
                        tokio::spawn(async move { swarm.want(want).await });
                    }
                    Some(event) = happened.recv() => swarm.happened(event).await,
                    else => return,
                }
            }
        } => {}
    }
    shutdown.begin();
    Ok(())
}

impl Swarm {
    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn want(&self, want: Want) {
        let Want { image, blob, begun } = want;
        let result = match self.granted(&image).await {
            Ok(grant) => self.begin(&grant, blob).await,
            Err(why) => Err(why),
        };
        // Whoever asked may have given up meanwhile.
        let _ = begun.send(result);
    }

    async fn happened(&self, event: Happened) {
        match event {
            Happened::Complete(blob) => {
                self.shared().fetched.remove(&blob);
                self.news.notify_one();
            }
            Happened::Starving(blob) => {
                self.shared().fetched.remove(&blob);
                let why = "no agent has what is missing of it".to_owned();
                if let Err(error) = self.store.give_up(blob, why).await {
                    tracing::warn!(%blob, %error, "a blob that nobody gives was not given up");
                }
            }
            Happened::Complaints => self.news.notify_one(),
        }
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
    async fn begin(&self, grant: &Grant, blob: Digest) -> Result<(), String> {
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
        self.peers.blob(blob, root, layout, pieces).await;
        self.shared().offered.insert(blob);
        self.news.notify_one();
        Ok(())
    }

    /// Says what is here and what is wanted, and does what the tracker says.
    async fn announce(self: Arc<Self>) {
        let mut plan = PeerPlan::default();
        loop {
            let announce = self.standing(plan.number).await;
            let said = tokio::select! {
                said = self.hub.announce(&announce) => said,
                () = self.news.notified() => continue,
            };
            match said {
                Ok(said) => {
                    plan = said;
                    self.follow(&plan).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the tracker was not told how images stand");
                    tokio::time::sleep(Duration::from_secs(AWAY_SECONDS)).await;
                }
            }
        }
    }

    async fn standing(&self, seen: u64) -> Announce {
        let (fetched, offered): (BTreeSet<Digest>, BTreeSet<Digest>) = {
            let shared = self.shared();
            (shared.fetched.keys().copied().collect(), shared.offered.clone())
        };
        let mut images: Vec<ImageStanding> = self
            .store
            .images()
            .into_iter()
            .filter(|image| image.bytes > 0 && image.bytes_there > 0 || self.is_wanted(&image.blobs, &fetched))
            .map(|image| ImageStanding {
                digest: image.digest,
                bytes: image.bytes,
                bytes_there: image.bytes_there,
                from_peers: image.counts.peers,
                from_hub: image.counts.hub,
                from_disk: image.counts.disk,
                bytes_per_second: 0,
                is_wanted: self.is_wanted(&image.blobs, &fetched),
            })
            .collect();
        images.sort_by_key(|image| !image.is_wanted);
        images.truncate(ANNOUNCE_IMAGES_MAX);
        let complaints = self.peers.status().await.complaints.into_iter();
        let complaints = complaints.filter_map(|who| match who {
            Who::Host(host) => Some(host),
            Who::Hub => None,
        });
        let is_given = |blob: &Digest| !fetched.contains(blob) && self.store.is_whole(blob);
        let is_arriving = images.iter().any(|image| image.is_wanted);
        Announce {
            seen,
            wait_seconds: if is_arriving { ARRIVING_SECONDS } else { ANNOUNCE_SECONDS_MAX },
            address: self.address,
            is_edge: false,
            is_slow: false,
            complaints: complaints.take(COMPLAINTS_MAX).collect(),
            images,
            fetching: fetched.iter().copied().take(ANNOUNCE_BLOBS_MAX).collect(),
            whole: offered.into_iter().filter(is_given).take(ANNOUNCE_BLOBS_MAX).collect(),
            warnings: Vec::new(),
        }
    }

    fn is_wanted(&self, blobs: &[(Digest, u64)], fetched: &BTreeSet<Digest>) -> bool {
        blobs.iter().any(|(blob, _length)| fetched.contains(blob))
    }

    async fn follow(self: &Arc<Self>, plan: &PeerPlan) {
        self.peers.revoked().replace(plan.revoked.iter().cloned());
        let hub = match tokio::net::lookup_host(&self.hub_address).await {
            Ok(mut found) => found.next().filter(|_| plan.hub_is_neighbour),
            Err(_) => None,
        };
        let parents = plan.trees.iter().map(|trees| {
            let mut parents: Parents<HostName> = [const { None }; STRIPES];
            for (place, parent) in parents.iter_mut().zip(&trees.parents) {
                *place = parent.as_ref().map(|parent| match parent {
                    Parent::Hub => Source::Hub,
                    Parent::Host(host) => Source::Host(host.clone()),
                });
            }
            (trees.digest, parents)
        });
        let neighbours = plan.neighbours.iter().map(|neighbour| (neighbour.host.clone(), neighbour.address)).collect();
        self.peers.plan(Plan { neighbours, hub, parents: parents.collect() }).await;
        for image in &plan.prefetch {
            if self.shared().ahead.insert(image.digest) {
                let (swarm, image) = (self.clone(), image.clone());
                tokio::spawn(async move {
                    if let Err(why) = swarm.fetch_ahead(&image).await {
                        tracing::warn!(image = %image.digest, why, "an image is not fetched ahead");
                        // It is tried again when the tracker says so again.
                        swarm.shared().ahead.remove(&image.digest);
                    }
                });
            }
        }
    }

    /// Fetches all blobs of an image; of an index, those of this machine's architecture.
    async fn fetch_ahead(&self, image: &ImageAddress) -> Result<(), String> {
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
        Ok(())
    }

    /// Renews grants of what is here, and offers what became whole some other way.
    async fn renew(&self) {
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
            tokio::time::sleep(Duration::from_secs(RENEW_SECONDS)).await;
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
