//! A blob that comes from the hub in one run, from its first byte to its last, because there is no tree for it or no peer.
//! Its digest and a tree are made while it is written.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, Hasher};

use super::blob::{At, Blob, tree_load};
use super::folders::Kind;
use super::shelf::Inner;
use super::{Hold, Source, Store, StoreError};
use crate::piece::{Layout, TreeBuilder};

/// What became of the wish to fill a blob.
pub enum FillBegun {
    /// It is the caller's to fill.
    Mine(Fill),
    /// It is there, or on its way already: by another fill, or in pieces, of which the caller may give those that lack.
    Others(Hold),
}

/// A blob being filled. When it is dropped before its end, nothing is kept, and those who wait are told.
pub struct Fill {
    inner: Arc<Inner>,
    blob: Arc<Blob>,
    /// None when it has ended.
    work: Option<Box<Work>>,
}

struct Work {
    file: File,
    written: u64,
    hasher: Hasher,
    tree: TreeBuilder,
}

impl Store {
    /// Begins to fill a blob of `length` bytes. One of which pieces are on disk goes on in pieces.
    ///
    /// # Errors
    /// [`StoreError::BudgetFull`], [`StoreError::NoSpace`], or [`StoreError::OtherTree`] when the blob that is on its way has
    /// another length.
    pub async fn fill(&self, digest: Digest, length: u64) -> Result<FillBegun, StoreError> {
        let shared = self.0.clone();
        self.blocking(move |inner| {
            let layout = Layout::of(length)?;
            let blob = inner.room_for(digest, length)?;
            let begun = {
                let _turn = blob.turn();
                match blob.at() {
                    At::Arriving(_) | At::Filling | At::Whole(_) => Ok(None),
                    At::Dormant => match tree_load(&inner.folders, &digest)?.filter(|tree| tree.layout() == layout) {
                        Some(tree) => blob.begin(&inner.folders, tree).map(|()| None),
                        None => begin(inner, &blob, layout).map(Some),
                    },
                }
            };
            let begun = begun.inspect_err(|_error| inner.forget(&blob))?;
            inner.touch(&blob);
            Ok(match begun {
                Some(work) => FillBegun::Mine(Fill { inner: shared, blob, work: Some(work) }),
                None => FillBegun::Others(Hold(blob)),
            })
        })
        .await
    }
}

fn begin(inner: &Inner, blob: &Blob, layout: Layout) -> Result<Box<Work>, StoreError> {
    let path = inner.folders.file(Kind::Fill, &blob.digest);
    let file = File::create(&path).map_err(StoreError::io("make", path))?;
    blob.filling_set();
    Ok(Box::new(Work { file, written: 0, hasher: blob.digest.hasher(), tree: TreeBuilder::new(layout) }))
}

impl Fill {
    /// Bytes that were written: where a request that goes on begins.
    pub fn written(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.written)
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`StoreError::LengthMismatch`] when more come than the blob has; [`StoreError::NoSpace`]. The fill is over then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let Some(mut work) = self.work.take() else { return Err(StoreError::Interrupted) };
        let (inner, blob) = (self.inner.clone(), self.blob.clone());
        let written = tokio::task::spawn_blocking(move || {
            let found = work.written + bytes.len() as u64;
            if found > blob.length {
                return Err(StoreError::LengthMismatch { digest: blob.digest, length: blob.length, found });
            }
            let path = inner.folders.file(Kind::Fill, &blob.digest);
            work.file.write_all_at(&bytes, work.written).map_err(StoreError::io("write", path))?;
            work.hasher.update(&bytes);
            work.tree.update(&bytes);
            work.written = found;
            blob.counted(Source::Hub, bytes.len() as u64);
            blob.progress.send_modify(|progress| progress.bytes = found);
            Ok(work)
        });
        match written.await.map_err(|_| StoreError::Interrupted).flatten() {
            Ok(work) => {
                self.work = Some(work);
                Ok(())
            }
            Err(error) => {
                self.end(&error.to_string());
                Err(error)
            }
        }
    }

    /// Verifies the digest of what was written and makes the blob whole.
    ///
    /// # Errors
    /// [`StoreError::LengthMismatch`], [`StoreError::DigestMismatch`]: nothing is kept then.
    pub async fn finish(mut self) -> Result<Hold, StoreError> {
        let Some(work) = self.work.take() else { return Err(StoreError::Interrupted) };
        let (inner, blob) = (self.inner.clone(), self.blob.clone());
        let finished = tokio::task::spawn_blocking(move || {
            let (digest, length) = (blob.digest, blob.length);
            if work.written != length {
                return Err(StoreError::LengthMismatch { digest, length, found: work.written });
            }
            let found = work.hasher.finish();
            if found != digest {
                return Err(StoreError::DigestMismatch { digest, found: Box::new(found) });
            }
            let mismatch = |_error| StoreError::LengthMismatch { digest, length, found: work.written };
            let tree = work.tree.finish().map_err(mismatch)?;
            let _turn = blob.turn();
            blob.fill_finish(&inner.folders, &work.file, &tree)
        });
        match finished.await.map_err(|_| StoreError::Interrupted).flatten() {
            Ok(()) => Ok(Hold(self.blob.clone())),
            Err(error) => {
                self.end(&error.to_string());
                Err(error)
            }
        }
    }

    fn end(&self, why: &str) {
        let turn = self.blob.turn();
        if matches!(self.blob.at(), At::Filling) {
            // What is left is an orphan that the next start removes.
            let _ = self.inner.folders.remove(Kind::Fill, &self.blob.digest);
            self.blob.dormant_set(why);
        }
        drop(turn);
        self.inner.forget(&self.blob);
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if self.work.is_some() {
            self.end("the fetch from the hub broke off");
        }
    }
}
