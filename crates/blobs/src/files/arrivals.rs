//! What a crash between a blob and the caller's note of it leaves: a blob that nobody knows of. Each blob has a mark from
//! before it gets its name until its caller has settled it; marks that a process finds when it opens the store tell what
//! an earlier one did not settle.
//!
//! A mark needs no wait for the disk: it is made before the blob's name, and the journal keeps that order.

use std::fs::File;

use oci::Digest;

use super::aside::remove;
use super::{Inner, locked};
use crate::BlobError;

impl Inner {
    pub(super) fn arrival_mark(&self, digest: &Digest) -> Result<(), BlobError> {
        let path = self.layout.arrival(digest);
        File::create(&path).map(drop).map_err(BlobError::io("make", path))
    }

    pub(super) fn arrivals_settle(&self, digests: &[Digest]) -> Result<(), BlobError> {
        for digest in digests {
            remove(self.layout.arrival(digest))?;
        }
        locked(&self.unsettled).retain(|digest| !digests.contains(digest));
        Ok(())
    }
}
