//! What is pushed: blobs whose bytes follow from a number, and manifests over them.

use std::sync::Arc;

use bytes::Bytes;
use oci::{Algorithm, Digest, media};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::{Value, json};

/// Blobs that all repositories share, so that one lets go of what another takes up.
const SHARED_BLOBS: u64 = 24;
/// The longest blob that is pushed, in bytes.
const BLOB_BYTES_MAX: u64 = 40_000;
/// One blob in so many is longer, and takes several chunks.
const LONG_BLOB_EVERY: u64 = 12;
const LONG_BLOB_BYTES: usize = 300_000;
/// One blob in so many is named by its SHA-512.
const SHA512_EVERY: u64 = 10;

#[derive(Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
}

impl Blob {
    /// The same for the same number, for ever.
    pub(super) fn new(number: u64) -> Arc<Self> {
        let mut random = StdRng::seed_from_u64(number);
        let length = match number {
            // Nothing at all is content, too.
            0 => 0,
            _ if number.is_multiple_of(LONG_BLOB_EVERY) => LONG_BLOB_BYTES,
            _ => random.random_range(1..BLOB_BYTES_MAX) as usize,
        };
        let mut bytes = vec![0; length];
        random.fill_bytes(&mut bytes);
        let digest = match number.is_multiple_of(SHA512_EVERY) && number > 0 {
            true => {
                let mut hasher = oci::Hasher::new(Algorithm::Sha512);
                hasher.update(&bytes);
                hasher.finish()
            }
            false => Digest::sha256_of(&bytes),
        };
        Arc::new(Self { digest, bytes: Bytes::from(bytes) })
    }

    /// What the repositories of a lane share. The numbers of lanes do not meet.
    pub(super) fn shared(lane: u64) -> Vec<Arc<Self>> {
        (0..SHARED_BLOBS).map(|number| Self::new((lane << 32) * u64::from(number > 0) + number)).collect()
    }
}

/// A manifest, with what it needs.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) digest: Digest,
    pub(super) media_type: &'static str,
    pub(super) bytes: Bytes,
    pub(super) blobs: Vec<Arc<Blob>>,
    pub(super) children: Vec<Digest>,
    pub(super) subject: Option<Digest>,
}

impl Manifest {
    /// An image. `number` tells it from others over the same blobs.
    pub(super) fn image(number: u64, blobs: Vec<Arc<Blob>>, subject: Option<&Manifest>) -> Arc<Self> {
        let descriptor = |media_type: &str, blob: &Blob| json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len() });
        let (config, layers) = match blobs.split_first() {
            Some((config, layers)) => (
                descriptor(media::OCI_CONFIG, config),
                layers.iter().map(|layer| descriptor(media::OCI_LAYER, layer)).collect(),
            ),
            None => (Value::Null, Vec::new()),
        };
        let mut document = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
            "annotations": { "number": number.to_string() },
        });
        if let Some(subject) = subject {
            document["subject"] = subject.descriptor();
            document["artifactType"] = json!("application/vnd.example.note");
        }
        Self::new(media::OCI_MANIFEST, &document, blobs, Vec::new(), subject)
    }

    /// An index over manifests of the same repository.
    pub(super) fn index(number: u64, children: &[Arc<Manifest>]) -> Arc<Self> {
        let document = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX,
            "manifests": children.iter().map(|child| child.descriptor()).collect::<Vec<_>>(),
            "annotations": { "number": number.to_string() },
        });
        let children = children.iter().map(|child| child.digest).collect();
        Self::new(media::OCI_INDEX, &document, Vec::new(), children, None)
    }

    fn new(
        media_type: &'static str,
        document: &Value,
        blobs: Vec<Arc<Blob>>,
        children: Vec<Digest>,
        subject: Option<&Manifest>,
    ) -> Arc<Self> {
        let bytes = Bytes::from(document.to_string());
        let subject = subject.map(|subject| subject.digest);
        Arc::new(Self { digest: Digest::sha256_of(&bytes), media_type, bytes, blobs, children, subject })
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}
