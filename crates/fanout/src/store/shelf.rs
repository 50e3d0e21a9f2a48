//! All blobs of a store: which there are, what they may take together, and which goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use oci::Digest;

use super::blob::{At, Blob, locked};
use super::folders::{Folders, Kind};
use super::images::{Image, Tags};
use super::{StoreError, Usage};

pub(super) struct Inner {
    pub(super) folders: Folders,
    budget_bytes: u64,
    /// Grows with each use of anything.
    uses: AtomicU64,
    pub(super) shelf: Mutex<Shelf>,
    pub(super) tags: Mutex<Tags>,
}

#[derive(Default)]
pub(super) struct Shelf {
    pub(super) blobs: HashMap<Digest, Arc<Blob>>,
    pub(super) images: BTreeMap<Digest, Image>,
    pub(super) pinned: BTreeSet<Digest>,
}

impl Shelf {
    /// Blobs of pinned images, and of the images of pinned indexes.
    fn pinned_blobs(&self) -> BTreeSet<Digest> {
        let pinned = self.pinned.iter().filter_map(|image| self.images.get(image));
        let children = pinned.clone().flat_map(|index| &index.children).filter_map(|image| self.images.get(image));
        pinned.chain(children).flat_map(|image| image.blobs.iter().map(|(digest, _length)| *digest)).collect()
    }

    fn used_bytes(&self) -> u64 {
        self.blobs.values().map(|blob| blob.length).sum()
    }
}

/// Nobody but the shelf has it: new users come through the shelf alone, which is locked.
fn is_idle(blob: &Arc<Blob>) -> bool {
    Arc::strong_count(blob) == 1
}

impl Inner {
    pub(super) fn new(folders: Folders, budget_bytes: u64, shelf: Shelf, tags: Tags, uses: u64) -> Self {
        Self { folders, budget_bytes, uses: AtomicU64::new(uses), shelf: Mutex::new(shelf), tags: Mutex::new(tags) }
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Blob>> {
        locked(&self.shelf).blobs.get(digest).cloned()
    }

    pub(super) fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn touch(&self, blob: &Blob) {
        blob.touch(&self.folders, self.next_use());
    }

    /// The blob, or a new one for which there is room: what was used least recently goes for it.
    pub(super) fn room_for(&self, digest: Digest, length: u64) -> Result<Arc<Blob>, StoreError> {
        let mut shelf = locked(&self.shelf);
        if let Some(blob) = shelf.blobs.get(&digest) {
            if blob.length == length {
                return Ok(blob.clone());
            }
            // Another length is another blob's tree. That of a blob that nobody fetches may be the wrong one.
            if !is_idle(blob) || !matches!(blob.at(), At::Dormant) {
                return Err(StoreError::OtherTree { digest });
            }
            self.take_out(&mut shelf, &digest)?;
        }
        self.make_room(&mut shelf, length)?;
        let blob = Arc::new(Blob::new(digest, length, self.next_use()));
        shelf.blobs.insert(digest, blob.clone());
        drop(shelf);
        self.folders.empty_trash()?;
        Ok(blob)
    }

    /// Keeps within a budget that may be smaller than the last one was.
    pub(super) fn trim(&self) -> Result<(), StoreError> {
        let result = self.make_room(&mut locked(&self.shelf), 0);
        match result {
            Err(error @ StoreError::BudgetFull { .. }) => tracing::warn!(%error, "the store holds more than it may"),
            result => result?,
        }
        self.folders.empty_trash()
    }

    fn make_room(&self, shelf: &mut Shelf, length: u64) -> Result<(), StoreError> {
        let mut used = shelf.used_bytes();
        if used.saturating_add(length) <= self.budget_bytes {
            return Ok(());
        }
        let pinned = shelf.pinned_blobs();
        let mut idle: Vec<(u64, Digest, u64)> = shelf
            .blobs
            .values()
            .filter(|blob| is_idle(blob) && !pinned.contains(&blob.digest))
            .map(|blob| (blob.used.load(Ordering::Relaxed), blob.digest, blob.length))
            .collect();
        let kept = used - idle.iter().map(|(_, _, length)| length).sum::<u64>();
        if kept.saturating_add(length) > self.budget_bytes {
            return Err(StoreError::BudgetFull { length, budget: self.budget_bytes, kept });
        }
        idle.sort_unstable();
        for (_, digest, freed) in idle {
            if used.saturating_add(length) <= self.budget_bytes {
                break;
            }
            self.take_out(shelf, &digest)?;
            tracing::info!(%digest, bytes = freed, "a blob made room: it was used least recently");
            used -= freed;
        }
        Ok(())
    }

    /// Takes a blob off the shelf, its name first: without that the rest is an orphan.
    fn take_out(&self, shelf: &mut Shelf, digest: &Digest) -> Result<(), StoreError> {
        for kind in [Kind::Blob, Kind::Part, Kind::Fill] {
            self.folders.trash_file(kind, digest)?;
        }
        shelf.blobs.remove(digest);
        self.folders.remove(Kind::Journal, digest)?;
        self.folders.remove(Kind::Tree, digest)
    }

    /// What was begun in vain takes no room: forgets a blob that nobody but the caller has and that left nothing on disk.
    pub(super) fn forget(&self, blob: &Arc<Blob>) {
        let mut shelf = locked(&self.shelf);
        let is_nothing = matches!(blob.at(), At::Dormant) && !self.folders.file(Kind::Part, &blob.digest).exists();
        // The shelf's and the caller's.
        if is_nothing && Arc::strong_count(blob) == 2 {
            shelf.blobs.remove(&blob.digest);
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let shelf = locked(&self.shelf);
        let pinned = shelf.pinned_blobs();
        let whole = shelf.blobs.values().filter(|blob| blob.is_whole()).count();
        let kept = shelf.blobs.values().filter(|blob| !is_idle(blob) || pinned.contains(&blob.digest));
        Usage {
            budget_bytes: self.budget_bytes,
            used_bytes: shelf.used_bytes(),
            kept_bytes: kept.map(|blob| blob.length).sum(),
            blobs_whole: whole,
            blobs_unfinished: shelf.blobs.len() - whole,
        }
    }
}
