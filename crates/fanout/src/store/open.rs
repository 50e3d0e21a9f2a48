//! Opening a store: what a crash left is repaired or removed, in an order in which it may be killed at any point.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use oci::Digest;

use super::StoreError;
use super::blob::{Blob, locked, tree_load};
use super::folders::{Folders, Kind};
use super::images::read_list;
use super::shelf::{Inner, Shelf};

pub(super) fn open(folder: &Path, budget_bytes: u64) -> Result<Inner, StoreError> {
    let folders = Folders::open(folder)?;
    folders.empty_trash()?;
    for (digest, _metadata) in folders.list(Kind::Fill)? {
        // Nobody can say how far its bytes are right.
        folders.remove(Kind::Fill, &digest)?;
    }
    let mut shelf = Shelf::default();
    let mut found: Vec<(SystemTime, Kind, Digest, Metadata)> = Vec::new();
    for kind in [Kind::Blob, Kind::Part] {
        found.extend(
            folders.list(kind)?.into_iter().map(|(digest, metadata)| {
                (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), kind, digest, metadata)
            }),
        );
    }
    // The order of their last uses.
    found.sort_by_key(|(used, _, digest, _)| (*used, *digest));
    let mut uses = 0;
    for (_, kind, digest, metadata) in found {
        uses += 1;
        let layout = tree_load(&folders, &digest)?.map(|tree| tree.layout());
        let layout = layout.filter(|layout| kind == Kind::Part || layout.length() == metadata.len());
        let blob = match (kind, layout) {
            (Kind::Blob, Some(layout)) => Blob::found_whole(digest, layout, uses),
            (_, Some(layout)) if !shelf.blobs.get(&digest).is_some_and(|blob| blob.is_whole()) => {
                Blob::new(digest, layout.length(), uses)
            }
            // Without a tree of that length nothing of it can be verified again.
            _ => {
                folders.remove(kind, &digest)?;
                continue;
            }
        };
        shelf.blobs.insert(digest, Arc::new(blob));
    }
    remove_orphans(&folders, &shelf)?;
    shelf.pinned = read_list::<BTreeSet<Digest>>(&folders.pins())?;
    let tags = read_list::<BTreeMap<String, Digest>>(&folders.tags())?;
    let mut images: Vec<(SystemTime, Digest)> = Vec::new();
    for (digest, metadata) in folders.list(Kind::Image)? {
        images.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest));
    }
    images.sort_unstable();
    let inner = Inner::new(folders, budget_bytes, shelf, tags, uses + images.len() as u64);
    for (used, (_, digest)) in images.iter().enumerate() {
        let record = inner.image_read(digest)?;
        let is_kept = match record {
            Some(record) => locked(&inner.shelf).image_add(&record, used as u64).is_ok(),
            None => false,
        };
        if !is_kept {
            inner.folders.remove(Kind::Image, digest)?;
        }
    }
    inner.trim()?;
    Ok(inner)
}

/// Trees and journals of blobs that are gone.
fn remove_orphans(folders: &Folders, shelf: &Shelf) -> Result<(), StoreError> {
    for kind in [Kind::Tree, Kind::Journal] {
        for (digest, _metadata) in folders.list(kind)? {
            let blob = shelf.blobs.get(&digest);
            if blob.is_none_or(|blob| kind == Kind::Journal && blob.is_whole()) {
                folders.remove(kind, &digest)?;
            }
        }
    }
    Ok(())
}
