//! A content-addressed store: blobs by digest, uploads that can be resumed.
//!
//! Invariants:
//! - A blob is there whole and verified or not at all, whatever happens to process and power.
//! - What was answered with success survives `kill -9` and power loss: bytes, then their name, then the answer.
//! - A blob never changes; a blob that is pushed again is verified again and replaces the one that was there.
//! - What a crash left stored and unknown to the caller is named to the next process ([`BlobStore::unsettled`]).
//! - The store knows nothing of repositories or of who refers to a blob: what goes is the caller's decision. Bytes go in two
//!   steps, out of their place and then for good, so that a decision can be taken in between.

mod error;
mod files;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Weak;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use oci::{Algorithm, Digest, UploadName};
use tokio::sync::watch;

pub use error::{BlobError, BlobErrorKind};
pub use files::FileStore;
#[doc(hidden)]
pub use files::SyncPoint;

/// The largest blob taken.
pub const BLOB_BYTES_MAX: u64 = 256 << 30;
/// Uploads under way at most; more are refused until some end or expire.
pub const UPLOADS_OPEN_MAX: usize = 10_000;
/// Items of one page of [`BlobStore::list`] at most.
pub const PAGE_BLOBS_MAX: usize = 1000;

/// Bytes on their way in. An error ends the stream: what came before it counts.
pub type Body = BoxStream<'static, io::Result<Bytes>>;

/// A blob that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Where bytes are that are not in their blob's place any more: nobody can read them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Blobs that are to go, unless someone turns out to need them.
    Condemned,
    /// Blobs whose bytes are not those that their digest says.
    Damaged,
}

impl Aside {
    /// Both.
    pub const ALL: [Aside; 2] = [Aside::Condemned, Aside::Damaged];
}

/// A file in memory, of which the pieces of a body are slices.
#[derive(Clone, Debug)]
pub struct MappedFile {
    /// Gone when the last of the pieces is.
    pub file: Weak<File>,
    /// The addresses of its bytes, from the first of the file on.
    pub addresses: Range<usize>,
}

/// A blob, or a range of it, on its way out.
pub struct BlobRead {
    /// The length of the whole blob in bytes.
    pub size: u64,
    /// The range that the body holds.
    pub range: Range<u64>,
    /// The bytes, in large pieces.
    pub body: Body,
    /// Where the pieces come from, when they are slices of a file: who sends them may let the kernel take them from there.
    pub mapped: Option<MappedFile>,
}

/// Where blobs are kept.
///
/// Methods that change something go on to their end when their future is dropped: nothing is left half done.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Whether the blob is there.
    async fn stat(&self, digest: &Digest) -> Result<Option<BlobInfo>, BlobError>;

    /// Reads a blob, or the part of `range` that lies within it.
    ///
    /// # Errors
    /// `NotFound`; `RangeUnsatisfiable` when the range begins at or behind the end of a blob that is not empty.
    async fn read(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<BlobRead, BlobError>;

    /// Stores a blob whose bytes are verified as they come. When they are not `digest`, nothing is left.
    async fn put(&self, digest: &Digest, body: Body) -> Result<BlobInfo, BlobError>;

    /// The caller has noted elsewhere that these blobs, which it stored, are there.
    async fn settle(&self, digests: &[Digest]) -> Result<(), BlobError>;

    /// Blobs that an earlier process stored, or was just storing, and never settled. The caller looks which of them it
    /// knows, and settles them all.
    fn unsettled(&self) -> Vec<Digest>;

    /// Reads a blob to check it: in small pieces from the disk itself, past what is in memory.
    ///
    /// # Errors
    /// `NotFound`. What cannot be read is an error of the body.
    async fn scan(&self, digest: &Digest) -> Result<BlobRead, BlobError>;

    /// Takes blobs out of their place and keeps their bytes aside. Gives those that were there. Bodies being read go on to
    /// their end.
    async fn set_aside(&self, digests: &[Digest], aside: Aside) -> Result<Vec<BlobInfo>, BlobError>;

    /// Puts condemned blobs back into their place. One that was pushed meanwhile is there already: then the bytes aside
    /// go. Those that are not aside are passed over.
    async fn put_back(&self, digests: &[Digest]) -> Result<(), BlobError>;

    /// Removes bytes that were set aside for good, where they are there. Gives their number.
    async fn discard(&self, digests: &[Digest], aside: Aside) -> Result<u64, BlobError>;

    /// Blobs that were set aside, ordered and paged like [`BlobStore::list`].
    async fn list_aside(&self, aside: Aside, after: Option<&Digest>, limit: usize) -> Result<Vec<Digest>, BlobError>;

    /// Blobs in the order of algorithm and digest, those after `after`, at most `limit` ([`PAGE_BLOBS_MAX`]).
    async fn list(&self, after: Option<&Digest>, limit: usize) -> Result<Vec<BlobInfo>, BlobError>;

    /// Begins an upload. One that ends with a digest of another algorithm is read once more.
    async fn upload_create(&self, algorithm: Algorithm) -> Result<UploadName, BlobError>;

    /// How many bytes of an upload are there: where the next append begins.
    async fn upload_size(&self, upload: &UploadName) -> Result<u64, BlobError>;

    /// Appends to an upload of `offset` bytes; gives its new size. When the body breaks off, or the disk is full, what
    /// came is kept.
    ///
    /// Once answered, these bytes survive. Behind them a loss of power may leave others, which finishing finds out.
    ///
    /// # Errors
    /// `OffsetMismatch` when the upload has another size; `UploadBusy` while another append is under way.
    async fn upload_append(&self, upload: &UploadName, offset: u64, body: Body) -> Result<u64, BlobError>;

    /// Appends to an upload like [`BlobStore::upload_append`], but writes what comes at once and says in `grown` how many
    /// bytes [`BlobStore::upload_read`] finds.
    async fn upload_grow(&self, upload: &UploadName, body: Body, grown: watch::Sender<u64>) -> Result<u64, BlobError>;

    /// The part of `range` that an upload has by now. Nobody has verified these bytes.
    ///
    /// # Errors
    /// `UploadUnknown`, also when the upload has become a blob. A body goes on to its end whatever becomes of the upload.
    async fn upload_read(&self, upload: &UploadName, range: Range<u64>) -> Result<Body, BlobError>;

    /// Makes a blob of an upload. When its bytes are not `digest`, the upload is gone and nothing is left; when the disk
    /// has no room for its name, it can be tried again.
    async fn upload_finish(&self, upload: &UploadName, digest: &Digest) -> Result<BlobInfo, BlobError>;

    /// Gives an upload up.
    async fn upload_cancel(&self, upload: &UploadName) -> Result<(), BlobError>;

    /// Gives up the uploads that nothing was added to since `idle_since`, and names them.
    async fn upload_sweep(&self, idle_since: SystemTime) -> Result<Vec<UploadName>, BlobError>;
}

/// The bytes of `range`, which lies within the file, and the mapping that they are slices of. The file is never shortened as
/// long as the body, or a slice of it, is there: what is mapped and gone ends the process.
///
/// # Errors
/// The file cannot be read.
pub fn file_body(file: File, range: Range<u64>) -> io::Result<(Body, Option<MappedFile>)> {
    files::file_body(file, range)
}

/// The whole of `bytes` as a body.
pub fn body_of(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    Box::pin(futures::stream::once(async move { Ok(bytes) }))
}
