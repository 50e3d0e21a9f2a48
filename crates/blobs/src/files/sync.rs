//! Every place where the store waits for the disk. The crash tests take each one out and must then see a loss.

use std::fs::File;
use std::io;
use std::path::Path;

/// A place where the store waits for the disk.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPoint {
    /// The folders of a new store, before it opens.
    Layout,
    /// A blob's bytes, before they get their name.
    BlobFile,
    /// A blob's name, before the answer.
    BlobFolder,
    /// Bytes appended to an upload, before the answer.
    UploadFile,
    /// An upload's name, before the answer.
    UploadFolder,
    /// A blob's way out of its place, before the answer.
    AsideFolder,
    /// A blob's way back into its place, before the answer.
    BackFolder,
}

impl SyncPoint {
    /// Every one.
    pub const ALL: [SyncPoint; 7] = [
        SyncPoint::Layout,
        SyncPoint::BlobFile,
        SyncPoint::BlobFolder,
        SyncPoint::UploadFile,
        SyncPoint::UploadFolder,
        SyncPoint::AsideFolder,
        SyncPoint::BackFolder,
    ];
}

/// Waits for the disk, but at the points that a crash test took out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    skipped: Option<SyncPoint>,
}

impl Disk {
    pub(crate) fn without(point: SyncPoint) -> Self {
        Disk { skipped: Some(point) }
    }

    pub(crate) fn sync_file(&self, point: SyncPoint, file: &File) -> io::Result<()> {
        if self.skipped == Some(point) { Ok(()) } else { file.sync_all() }
    }

    pub(crate) fn sync_folder(&self, point: SyncPoint, folder: &Path) -> io::Result<()> {
        if self.skipped == Some(point) { Ok(()) } else { File::open(folder)?.sync_all() }
    }

    /// The whole file system at once: cheaper and surer than one wait for each of several hundred new folders.
    pub(crate) fn sync_file_system(&self, point: SyncPoint, folder: &Path) -> io::Result<()> {
        if self.skipped == Some(point) {
            return Ok(());
        }
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    }
}
