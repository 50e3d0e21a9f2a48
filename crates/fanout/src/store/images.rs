//! What is known of images: manifests byte for byte, grants, which blobs they have, what is pinned, and what tags were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::SystemTime;

use api::fanout::SignedGrant;
use oci::{Digest, Document, MANIFEST_BYTES_MAX, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use super::blob::locked;
use super::folders::{Kind, replace};
use super::shelf::{Inner, Shelf};
use super::{Counts, Stage, StoreError};

/// Images that are known at most; the least recently used goes first, never one that is pinned.
const IMAGES_MAX: usize = 4096;
/// Tags that are remembered at most; which one goes then is arbitrary.
const TAGS_MAX: usize = 16_384;
/// The longest file of an image, in bytes: a manifest and a grant, in JSON.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// The longest files of pins and tags, in bytes.
const LIST_BYTES_MAX: u64 = 32 << 20;

/// What is kept of an image or an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The manifest's digest.
    pub digest: Digest,
    /// Where the hub has it.
    pub repository: RepositoryName,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest, byte for byte.
    pub manifest: String,
    /// The right to exchange its blobs, with the roots of their trees.
    pub grant: Option<SignedGrant>,
}

impl ImageRecord {
    /// Its blobs with their lengths in bytes, each once; an index has none.
    ///
    /// # Errors
    /// The manifest is none, or is not what its digest says.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let wrong = |why: String| StoreError::Manifest { digest: self.digest, why };
        if self.manifest.len() > MANIFEST_BYTES_MAX {
            return Err(wrong(format!("it has more than {MANIFEST_BYTES_MAX} bytes")));
        }
        if !self.digest.matches(self.manifest.as_bytes()) {
            return Err(wrong("its bytes have another digest".to_owned()));
        }
        let document = Document::parse(self.manifest.as_bytes(), Some(&self.media_type));
        let document = document.map_err(|error| wrong(error.to_string()))?;
        let blobs: BTreeMap<Digest, u64> = document.blobs().map(|blob| (blob.digest, blob.size)).collect();
        Ok(blobs.into_iter().collect())
    }
}

/// An image, and what is there of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHeld {
    /// The manifest's digest.
    pub digest: Digest,
    /// Where the hub has it.
    pub repository: RepositoryName,
    /// Bytes of all its blobs.
    pub bytes: u64,
    /// Bytes of them that are there.
    pub bytes_there: u64,
    /// Those, by where they came from since the image was first known to this process: what was here before is disk's.
    pub counts: Counts,
    /// Whether something of it is being fetched.
    pub is_arriving: bool,
    /// Whether it is pinned.
    pub is_pinned: bool,
    /// Its blobs with their lengths in bytes.
    pub blobs: Vec<(Digest, u64)>,
}

/// What memory has of an image.
pub(super) struct Image {
    pub(super) repository: RepositoryName,
    pub(super) blobs: Vec<(Digest, u64)>,
    /// Images of an index.
    pub(super) children: Vec<Digest>,
    /// What peers and the hub had given of its blobs when it was first known: other images had asked for that.
    before: Counts,
    pub(super) used: u64,
}

/// Which image a tag was, by `REPOSITORY:TAG`.
pub(super) type Tags = BTreeMap<String, Digest>;

impl Shelf {
    pub(super) fn image_add(&mut self, record: &ImageRecord, used: u64) -> Result<(), StoreError> {
        let blobs = record.blobs()?;
        let document = Document::parse(record.manifest.as_bytes(), Some(&record.media_type));
        let children = document.map(|document| document.manifests().iter().map(|child| child.digest).collect());
        let children = children.unwrap_or_default();
        let before = self.images.get(&record.digest).map_or_else(|| self.counts_of(&blobs), |image| image.before);
        let image = Image { repository: record.repository.clone(), blobs, children, before, used };
        self.images.insert(record.digest, image);
        Ok(())
    }

    fn counts_of(&self, blobs: &[(Digest, u64)]) -> Counts {
        let mut counts = Counts::default();
        for blob in blobs.iter().filter_map(|(digest, _length)| self.blobs.get(digest)) {
            let of_blob = blob.counts();
            counts.peers += of_blob.peers;
            counts.hub += of_blob.hub;
        }
        counts
    }

    fn held(&self, digest: &Digest, image: &Image) -> ImageHeld {
        let (mut bytes_there, mut is_arriving) = (0, false);
        for blob in image.blobs.iter().filter_map(|(digest, _length)| self.blobs.get(digest)) {
            let progress = blob.progress.borrow();
            bytes_there += if progress.stage == Stage::Dormant { 0 } else { progress.bytes };
            is_arriving |= progress.stage == Stage::Arriving;
        }
        let now = self.counts_of(&image.blobs);
        let (peers, hub) = (now.peers.saturating_sub(image.before.peers), now.hub.saturating_sub(image.before.hub));
        let disk = u64::saturating_sub(bytes_there, peers + hub);
        ImageHeld {
            digest: *digest,
            repository: image.repository.clone(),
            bytes: image.blobs.iter().map(|(_digest, length)| length).sum(),
            bytes_there,
            counts: Counts { peers, hub, disk },
            is_arriving,
            is_pinned: self.pinned.contains(digest),
            blobs: image.blobs.clone(),
        }
    }
}

impl Inner {
    pub(super) fn image_keep(&self, mut record: ImageRecord) -> Result<(), StoreError> {
        record.blobs()?;
        if record.grant.is_none() {
            record.grant = self.image_read(&record.digest)?.and_then(|before| before.grant);
        }
        let text = serde_json::to_vec(&record)
            .map_err(|error| StoreError::Manifest { digest: record.digest, why: error.to_string() })?;
        replace(&self.folders.file(Kind::Image, &record.digest), &text)?;
        let mut shelf = locked(&self.shelf);
        shelf.image_add(&record, self.next_use())?;
        let oldest = shelf.images.iter().filter(|(digest, _image)| !shelf.pinned.contains(digest));
        let oldest = oldest.min_by_key(|(_digest, image)| image.used).map(|(digest, _image)| *digest);
        if let Some(oldest) = oldest.filter(|_| shelf.images.len() > IMAGES_MAX) {
            shelf.images.remove(&oldest);
            self.folders.remove(Kind::Image, &oldest)?;
        }
        Ok(())
    }

    pub(super) fn image(&self, digest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        match locked(&self.shelf).images.get_mut(digest) {
            None => return Ok(None),
            Some(image) => image.used = self.next_use(),
        }
        let path = self.folders.file(Kind::Image, digest);
        // What cannot be noted is forgotten with this process, and no more.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(self.image_read(digest)?.filter(|record| record.blobs().is_ok()))
    }

    /// An image's file; none when it is torn or not there.
    pub(super) fn image_read(&self, digest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        let path = self.folders.file(Kind::Image, digest);
        let text = base::folder::file_read(&path, RECORD_BYTES_MAX);
        let text = text.map_err(|error| StoreError::io("read", &path)(std::io::Error::other(error)))?;
        let record = text.and_then(|text| serde_json::from_slice::<ImageRecord>(&text).ok());
        Ok(record.filter(|record| record.digest == *digest))
    }

    /// The image that has a blob and was used last, and how long it says that the blob is, in bytes.
    pub(super) fn image_with(&self, blob: &Digest, repository: Option<&RepositoryName>) -> Option<(Digest, u64)> {
        let shelf = locked(&self.shelf);
        let images = shelf.images.iter().filter(|(_, image)| repository.is_none_or(|name| image.repository == *name));
        let found = images.filter_map(|(digest, image)| {
            let place = image.blobs.binary_search_by_key(blob, |(digest, _length)| *digest).ok()?;
            Some((image.used, *digest, image.blobs.get(place)?.1))
        });
        found.max_by_key(|(used, _, _)| *used).map(|(_, digest, length)| (digest, length))
    }

    pub(super) fn images(&self) -> Vec<ImageHeld> {
        let shelf = locked(&self.shelf);
        shelf.images.iter().map(|(digest, image)| shelf.held(digest, image)).collect()
    }

    pub(super) fn pin(&self, images: BTreeSet<Digest>) -> Result<(), StoreError> {
        if locked(&self.shelf).pinned == images {
            return Ok(());
        }
        write_list(&self.folders.pins(), &images)?;
        locked(&self.shelf).pinned = images;
        Ok(())
    }

    pub(super) fn tag_keep(&self, repository: &RepositoryName, tag: &Tag, digest: Digest) -> Result<(), StoreError> {
        let mut tags = locked(&self.tags);
        if tags.insert(tag_name(repository, tag), digest) == Some(digest) {
            return Ok(());
        }
        if tags.len() > TAGS_MAX {
            tags.pop_first();
        }
        write_list(&self.folders.tags(), &*tags)
    }

    pub(super) fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Option<Digest> {
        locked(&self.tags).get(&tag_name(repository, tag)).copied()
    }
}

fn tag_name(repository: &RepositoryName, tag: &Tag) -> String {
    format!("{repository}:{tag}")
}

fn write_list<T: Serialize>(path: &std::path::Path, list: &T) -> Result<(), StoreError> {
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| StoreError::io("write", path)(std::io::Error::other(error));
    let text = serde_json::to_vec(list).map_err(|error| failed(error.into()))?;
    base::folder::file_replace(path, &text, 0o600).map_err(|error| failed(error.into()))
}

/// A list that was written with the one before; empty when there is none, or it cannot be understood.
pub(super) fn read_list<T: Default + serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<T, StoreError> {
    let text = base::folder::file_read(path, LIST_BYTES_MAX);
    let text = text.map_err(|error| StoreError::io("read", path)(std::io::Error::other(error)))?;
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default())
}
