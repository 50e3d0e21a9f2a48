//! Reading a blob to check it: from the disk and not from memory, a piece at a time, and nothing stays in the page cache.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use oci::Digest;
use rustix::fs::{Advice, fadvise};

use super::{Inner, read};
use crate::{BlobError, BlobRead, Body};

/// Read at once: large enough for a disk, small enough to hash between two requests.
const PIECE_BYTES: u64 = 1 << 20;

impl Inner {
    /// Unlike [`Inner::read`] without a mapping: a sector that cannot be read is an error and not the end of the process.
    pub(super) fn scan(&self, digest: &Digest) -> Result<BlobRead, BlobError> {
        let (_, path) = self.layout.blob(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::NotFound { digest: *digest });
            }
            Err(error) => return Err(read::failed(&path)(error)),
        };
        let size = file.metadata().map_err(read::failed(&path))?.len();
        Ok(BlobRead { size, range: 0..size, body: pieces(Arc::new(file), size), mapped: None })
    }
}

fn pieces(file: Arc<File>, size: u64) -> Body {
    stream::try_unfold((file, 0), move |(file, at)| async move {
        let length = PIECE_BYTES.min(size - at);
        let Some(some) = NonZeroU64::new(length) else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || {
            // Advice that is not taken costs time alone.
            let _ = fadvise(&file, at, Some(some), Advice::DontNeed);
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, at)?;
            let _ = fadvise(&file, at, Some(some), Advice::DontNeed);
            Ok::<_, io::Error>((Bytes::from(bytes), file))
        });
        let (bytes, file) = read.await.map_err(io::Error::other)??;
        Ok(Some((bytes, (file, at + length))))
    })
    .boxed()
}
