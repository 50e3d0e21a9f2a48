//! Blobs that a number stands for, and images of them.

use std::path::Path;

use bytes::Bytes;
use fanout::piece::{Layout, PieceTree, TreeBuilder};
use fanout::store::{BlobRead, ImageRecord, PieceKept, Source, Store, StoreError};
use futures::TryStreamExt as _;
use oci::{Digest, media};

/// A blob, its tree and its digest.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    pub(crate) tree: PieceTree,
}

pub(crate) fn sample(seed: u64, length: usize) -> Sample {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    let mut builder = TreeBuilder::new(Layout::of(length as u64).unwrap());
    builder.update(&bytes);
    Sample { digest: Digest::sha256_of(&bytes), tree: builder.finish().unwrap(), bytes: bytes.into() }
}

impl Sample {
    pub(crate) fn pieces(&self) -> u32 {
        self.tree.layout().pieces()
    }

    pub(crate) fn piece(&self, piece: u32) -> Bytes {
        let range = self.tree.layout().range(piece).unwrap();
        self.bytes.slice(range.start as usize..range.end as usize)
    }

    pub(crate) async fn write(&self, store: &Store, piece: u32) -> Result<PieceKept, StoreError> {
        store.piece_write(self.digest, piece, self.piece(piece), Source::Peer).await
    }

    /// Begins it and gives all its pieces.
    pub(crate) async fn keep(&self, store: &Store) {
        let _held = store.begin(self.digest, self.tree.clone()).await.unwrap();
        for piece in 0..self.pieces() {
            self.write(store, piece).await.unwrap();
        }
        assert!(store.is_whole(&self.digest));
    }

    /// Where the store has it when it is whole.
    pub(crate) fn file(&self, folder: &Path, kind: &str) -> std::path::PathBuf {
        folder.join(kind).join(format!("sha256-{}", self.digest.hex()))
    }
}

/// An image of these blobs, the first being its configuration.
pub(crate) fn image(blobs: &[Sample]) -> ImageRecord {
    let described = |blob: &Sample, media_type: &str| serde_json::json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len() });
    let layers: Vec<_> = blobs[1..].iter().map(|blob| described(blob, media::OCI_LAYER)).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": described(&blobs[0], media::OCI_CONFIG), "layers": layers,
    });
    let manifest = manifest.to_string();
    ImageRecord {
        digest: Digest::sha256_of(manifest.as_bytes()),
        repository: "team/app".parse().unwrap(),
        media_type: media::OCI_MANIFEST.to_owned(),
        manifest,
        grant: None,
    }
}

pub(crate) async fn read_all(read: BlobRead) -> std::io::Result<Vec<u8>> {
    read.body
        .try_fold(Vec::new(), async |mut all, bytes| {
            all.extend_from_slice(&bytes);
            Ok(all)
        })
        .await
}

/// A folder in memory where there is one: `kill -9` leaves what is in the page cache, so a disk would only cost time.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
