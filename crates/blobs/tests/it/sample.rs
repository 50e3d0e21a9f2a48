//! Bytes that a number stands for, and what is asked of a whole store.

use std::path::Path;

use blobs::{BlobRead, BlobStore, Body, FileStore};
use futures::TryStreamExt;
use oci::{Algorithm, Digest};

/// `length` bytes that look random and follow from `seed`.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = oci::Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

pub(crate) async fn read_all(read: BlobRead) -> Vec<u8> {
    read_body(read.body).await
}

pub(crate) async fn read_body(mut body: Body) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = body.try_next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}

/// Every blob that the store lists has the bytes that its name says.
pub(crate) async fn check_all(store: &FileStore) -> Result<Vec<Digest>, String> {
    let mut digests: Vec<Digest> = Vec::new();
    loop {
        let page = store.list(digests.last(), 7).await.map_err(|error| error.to_string())?;
        for blob in &page {
            let read = store.read(&blob.digest, None).await.map_err(|error| error.to_string())?;
            if !blob.digest.matches(&read_all(read).await) {
                return Err(format!("{} has wrong bytes", blob.digest));
            }
            digests.push(blob.digest);
        }
        if page.is_empty() {
            return Ok(digests);
        }
    }
}

/// A folder in memory where there is one: `kill -9` leaves what is in the page cache, so a disk would only cost time.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}
