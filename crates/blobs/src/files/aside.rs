//! Out of a blob's place and back: what is set aside is not there for anyone, and not gone yet.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use oci::Digest;

use super::Inner;
use super::sync::SyncPoint;
use crate::{Aside, BlobError, BlobInfo};

impl Inner {
    /// The new names first, then the old ones: with a file system that orders nothing, two names may be left, never none.
    pub(super) fn set_aside(&self, digests: &[Digest], aside: Aside) -> Result<Vec<BlobInfo>, BlobError> {
        let mut folders = BTreeSet::new();
        let mut moved = Vec::new();
        for digest in digests {
            let (folder, path) = self.layout.blob(digest);
            let size = match path.metadata() {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(BlobError::io("read", path)(error)),
            };
            fs::rename(&path, self.layout.aside(aside, digest)).map_err(BlobError::io("set aside", path))?;
            folders.insert(folder);
            moved.push(BlobInfo { digest: *digest, size });
        }
        if !moved.is_empty() {
            self.sync_folders(SyncPoint::AsideFolder, [self.layout.aside_folder(aside)])?;
            self.sync_folders(SyncPoint::AsideFolder, folders)?;
        }
        Ok(moved)
    }

    /// A blob that was pushed meanwhile stays as it is: both have the bytes that their name says.
    pub(super) fn put_back(&self, digests: &[Digest]) -> Result<(), BlobError> {
        let mut folders = BTreeSet::new();
        for digest in digests {
            let aside = self.layout.aside(Aside::Condemned, digest);
            let (folder, path) = self.layout.blob(digest);
            if self.layout.stat(digest)?.is_some() {
                remove(aside)?;
                continue;
            }
            match fs::rename(&aside, &path) {
                Ok(()) => {
                    folders.insert(folder);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(BlobError::io("put back", path)(error)),
            }
        }
        self.sync_folders(SyncPoint::BackFolder, folders)
    }

    /// A loss of power may bring these back; they are then discarded again.
    pub(super) fn discard(&self, digests: &[Digest], aside: Aside) -> Result<u64, BlobError> {
        let mut freed_bytes = 0;
        for digest in digests {
            freed_bytes += remove(self.layout.aside(aside, digest))?;
        }
        Ok(freed_bytes)
    }

    fn sync_folders(&self, point: SyncPoint, folders: impl IntoIterator<Item = PathBuf>) -> Result<(), BlobError> {
        for folder in folders {
            self.disk.sync_folder(point, &folder).map_err(BlobError::io("sync", folder))?;
        }
        Ok(())
    }
}

/// Removes a file, if it is there, and says how long it was.
pub(super) fn remove(path: PathBuf) -> Result<u64, BlobError> {
    let removed = path.metadata().and_then(|metadata| fs::remove_file(&path).map(|()| metadata.len()));
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        removed => removed.map_err(BlobError::io("remove", path)),
    }
}
