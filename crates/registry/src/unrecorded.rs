//! Uploads that became blobs while the database had no room for their rows: ended again, they need nothing but the row.
//! Kept in memory, and bounded: a client whose upload is not here begins a new one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blobs::BlobInfo;
use oci::UploadName;

/// Uploads remembered at most.
const UPLOADS_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct Unrecorded(Mutex<HashMap<UploadName, BlobInfo>>);

impl Unrecorded {
    pub(crate) fn get(&self, upload: &UploadName) -> Option<BlobInfo> {
        self.entries().get(upload).copied()
    }

    pub(crate) fn insert(&self, upload: UploadName, blob: BlobInfo) {
        let mut entries = self.entries();
        if entries.len() < UPLOADS_MAX {
            entries.insert(upload, blob);
        }
    }

    pub(crate) fn remove(&self, upload: &UploadName) {
        self.entries().remove(upload);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<UploadName, BlobInfo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
