//! What agents say to the hub about images, and what it answers: grants, trees of hashes, whom to exchange pieces with.
//!
//! | call | body | answer |
//! | --- | --- | --- |
//! | `POST /agent/v1/fanout/image` | [`ImageRequest`] | [`ImageGrant`] |
//! | `GET /agent/v1/fanout/trees/{digest}` | | the leaves of a blob's tree one after the other, 32 bytes each |
//! | `POST /agent/v1/fanout/announce` | [`Announce`] | [`PeerPlan`], at once if its number is not `seen`, else when it changes or after the wait |
//!
//! Level-triggered like [`crate::agent`]: an announcement says all that is, a plan all that is to be, so that a tracker
//! that was restarted knows everything again after one round.

use std::net::SocketAddr;

use async_trait::async_trait;
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::delivery::{ImageAddress, ReleaseId};
use crate::{EnvName, HostName, Micros, Page, Result};

/// The most blobs of an image that a grant lists; an image with more is pulled from the hub.
pub const GRANT_BLOBS_MAX: usize = 1024;
/// The most bytes of a grant.
pub const GRANT_BYTES_MAX: usize = 512 * 1024;
/// The most bytes of an answer with an image's manifest and grant.
pub const IMAGE_GRANT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest that an announcement is held open, in seconds.
pub const ANNOUNCE_SECONDS_MAX: u64 = 10;
/// The most bytes of an announcement or a plan.
pub const ANNOUNCE_BYTES_MAX: usize = 1024 * 1024;
/// The most images that a host announces: those it takes or serves now come first.
pub const ANNOUNCE_IMAGES_MAX: usize = 256;
/// The most blobs that a host announces as whole, and as being fetched.
pub const ANNOUNCE_BLOBS_MAX: usize = 4096;
/// The most warnings of an announcement.
pub const ANNOUNCE_WARNINGS_MAX: usize = 16;
/// The most bytes of a warning.
pub const WARNING_BYTES_MAX: usize = 512;
/// The most neighbours of a plan.
pub const NEIGHBOURS_MAX: usize = 512;
/// The most hosts of which a host complains.
pub const COMPLAINTS_MAX: usize = 64;
/// The most serial numbers of revoked certificates in a plan, the newest first.
pub const REVOKED_MAX: usize = 4096;
/// The most images that a host is told to fetch ahead of time.
pub const PREFETCH_MAX: usize = 256;

/// Asks for an image: its manifest, and the right to exchange its blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRequest {
    /// The repository in the hub's registry.
    pub repository: RepositoryName,
    /// A digest or a tag.
    pub reference: String,
}

/// An image that the host may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageGrant {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest byte for byte.
    #[serde(with = "base64_text")]
    pub manifest: Vec<u8>,
    /// The right to exchange its blobs. None for an index, whose images are asked for one by one, and while the hub is
    /// still making the trees of its blobs: then it comes from the hub, or is asked for again.
    pub grant: Option<SignedGrant>,
}

/// A grant as the hub signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedGrant {
    /// The grant as JSON, byte for byte as it was signed.
    #[serde(with = "base64_text")]
    pub payload: Vec<u8>,
    /// The CA's signature over [`crate::access::SignPurpose::Grant`]'s prefix and the payload: ECDSA P-256 with SHA-256
    /// in ASN.1 DER.
    #[serde(with = "base64_text")]
    pub signature: Vec<u8>,
}

/// What an agent says of itself and of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// The number of the plan that it has; 0 before the first.
    pub seen: u64,
    /// How long the hub may wait for another plan, in seconds; at most [`ANNOUNCE_SECONDS_MAX`].
    pub wait_seconds: u64,
    /// Where peers reach this agent. An unspecified address (`0.0.0.0`) stands for the one that the hub sees.
    pub address: SocketAddr,
    /// Whether it serves a region.
    pub is_edge: bool,
    /// Whether it gives away too slowly for others to depend on it.
    #[serde(default)]
    pub is_slow: bool,
    /// Hosts that sent it wrong pieces, or none that they promised; at most [`COMPLAINTS_MAX`].
    #[serde(default)]
    pub complaints: Vec<HostName>,
    /// How its images stand; at most [`ANNOUNCE_IMAGES_MAX`].
    pub images: Vec<ImageStanding>,
    /// Blobs that it fetches; at most [`ANNOUNCE_BLOBS_MAX`].
    pub fetching: Vec<Digest>,
    /// Blobs that it has whole and gives to others; at most [`ANNOUNCE_BLOBS_MAX`].
    pub whole: Vec<Digest>,
    /// What a person should know, worst first; at most [`ANNOUNCE_WARNINGS_MAX`].
    pub warnings: Vec<String>,
}

/// How an image stands on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageStanding {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Of those, bytes that are there and verified.
    pub bytes_there: u64,
    /// Bytes that came from other agents.
    pub from_peers: u64,
    /// Bytes that came from the hub.
    pub from_hub: u64,
    /// Bytes that were on the disk already.
    pub from_disk: u64,
    /// How fast it arrives now.
    pub bytes_per_second: u64,
    /// Whether it is being fetched.
    pub is_wanted: bool,
}

impl ImageStanding {
    /// How long the rest takes at that rate, in seconds; none when nothing is missing, or nothing comes.
    pub fn seconds_left(&self) -> Option<u64> {
        let missing = self.bytes.saturating_sub(self.bytes_there);
        (missing > 0 && self.bytes_per_second > 0).then(|| missing.div_ceil(self.bytes_per_second))
    }
}

/// Whom a host is to exchange pieces with, and what it is to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerPlan {
    /// Changes with the plan. It says nothing but whether two plans are the same.
    pub number: u64,
    /// Other agents to be connected with, those that `trees` names among them; at most [`NEIGHBOURS_MAX`].
    pub neighbours: Vec<Neighbour>,
    /// Whether the hub itself may be asked for pieces: not where an edge serves the region.
    pub hub_is_neighbour: bool,
    /// The edge that serves the host's region; none where there is none, and for an edge.
    #[serde(default)]
    pub edge: Option<HostName>,
    /// Why pieces come from the hub although the region has, or had, an edge: for people.
    #[serde(default)]
    pub note: Option<String>,
    /// Who sends the pieces of the blobs that are fetched, as far as that was planned; the rest is asked for by choice.
    pub trees: Vec<BlobTrees>,
    /// Serial numbers (lowercase hexadecimal of the bytes in the certificate) of certificates that were revoked and have not expired; connections with them are
    /// cut. At most [`REVOKED_MAX`].
    pub revoked: Vec<String>,
    /// Images that the host is to have before it is asked to run them, and, if it is an edge, those that hosts of its region
    /// fetch; at most [`PREFETCH_MAX`].
    pub prefetch: Vec<ImageAddress>,
}

/// Who sends the pieces of a blob to a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobTrees {
    /// The digest of the blob.
    pub digest: Digest,
    /// For each stripe of its pieces.
    pub parents: Vec<Option<Parent>>,
}

/// Who sends a stripe.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parent {
    /// The hub.
    Hub,
    /// Another agent.
    Host(HostName),
}

/// Another agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its host, as its certificate must name it.
    pub host: HostName,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Whether it is in the same rack or region.
    pub is_near: bool,
}

/// Asks for a release's image to be on all hosts of an environment before anything runs from it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreheatRequest {
    /// The release: its id or an unambiguous beginning of it.
    pub release: String,
    /// The environment.
    pub env: EnvName,
    /// Who asks.
    pub requested_by: String,
}

/// An image that the hosts of an environment are to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preheat {
    /// The release.
    pub release: ReleaseId,
    /// The environment.
    pub env: EnvName,
    /// Its image.
    pub image: ImageAddress,
    /// The hosts, by name.
    pub hosts: Vec<HostName>,
    /// Those of them that have it whole.
    pub done: Vec<HostName>,
    /// Until when hosts keep it for this.
    pub ends_at: Micros,
}

/// An image that hosts have or fetch, as they announced it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swarm {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Where it was asked for last; none when that was before this hub was started.
    pub repository: Option<RepositoryName>,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Hosts that have it or fetch it.
    pub hosts: u64,
    /// Hosts that have it whole.
    pub done: u64,
    /// Bytes that hosts took from one another.
    pub from_peers: u64,
    /// Bytes that left the hub.
    pub from_hub: u64,
    /// Bytes that hosts had on their disks already.
    pub from_disk: u64,
    /// How many copies left the hub, in hundredths.
    pub hub_copies_percent: u64,
    /// How fast all hosts together receive it now.
    pub bytes_per_second: u64,
    /// How long the slowest host will take at its rate, in seconds; none when none fetches it or one does not move.
    pub seconds_left: Option<u64>,
    /// The hosts that will be last, the last first; at most [`SLOWEST_MAX`].
    pub slowest: Vec<SwarmHost>,
}

/// A host in a [`Swarm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmHost {
    /// The host.
    pub host: HostName,
    /// How the image stands there.
    pub standing: ImageStanding,
    /// How long it will take at its rate, in seconds; none when it does not move or is done.
    pub seconds_left: Option<u64>,
    /// Why it is slower than others, as far as the hub can tell; none for one that is not.
    pub why: Option<String>,
    /// When it said so.
    pub at: Micros,
}

/// The most hosts that [`Swarm::slowest`] lists.
pub const SLOWEST_MAX: usize = 10;

/// The most images that [`Fanout::release_swarms`] gives.
pub const RELEASE_IMAGES_MAX: usize = 32;

/// Fan-out, as the command line and pages see it.
#[async_trait]
pub trait Fanout: Send + Sync {
    /// Has an image fetched by all hosts of an environment. Asking again says how far they are.
    async fn preheat(&self, request: PreheatRequest) -> Result<Preheat>;
    /// Images that hosts have or fetch: those that are being fetched first, then by digest.
    async fn swarm_list(&self, after: Option<&str>, limit: u32) -> Result<Page<Swarm>>;
    /// The hosts of one of them, by name.
    async fn swarm_hosts(&self, digest: &Digest, after: Option<&str>, limit: u32) -> Result<Page<SwarmHost>>;
    /// The images of these releases, as far as hosts have or fetch them: at most [`RELEASE_IMAGES_MAX`], by digest.
    async fn release_swarms(&self, releases: &[ReleaseId]) -> Result<Vec<Swarm>>;
    /// Counts changes of what the list shows; wait on it rather than asking again and again.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Bytes as standard base64 text.
mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(de::Error::custom)
    }
}
