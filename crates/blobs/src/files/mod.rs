//! Blobs in a folder of a local file system.

mod arrivals;
mod aside;
mod layout;
mod read;
mod scan;
mod sync;
mod write;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use oci::{Algorithm, Digest, Hasher, UploadName};
use tokio::sync::{OwnedMutexGuard, watch};
use tracing::Instrument as _;

use self::layout::Layout;
pub(crate) use self::read::body as file_body;
use self::sync::Disk;
pub use self::sync::SyncPoint;
use self::write::{Budget, Writer, hash_file};
use crate::{Aside, BlobError, BlobInfo, BlobRead, BlobStore, Body, PAGE_BLOBS_MAX, UPLOADS_OPEN_MAX};

/// A store in a folder, which one process uses at a time.
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

struct Inner {
    layout: Layout,
    disk: Disk,
    uploads: Mutex<HashMap<UploadName, Session>>,
    /// Blobs that an earlier process stored and did not settle.
    unsettled: Mutex<Vec<Digest>>,
    budget: Budget,
}

/// One upload. Whoever changes it holds the lock; nobody waits for it.
type Session = Arc<tokio::sync::Mutex<Upload>>;

struct Upload {
    size: u64,
    /// Of all bytes so far; none for an upload that an earlier process began.
    hasher: Option<Hasher>,
    is_gone: bool,
}

impl FileStore {
    /// Opens the store in `root`, making and repairing what is missing there. Uploads of an earlier process go on.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        Self::open_on(root.into(), Disk::default()).await
    }

    /// A store that does not wait for the disk at one point: for the tests that show that it must.
    #[doc(hidden)]
    pub async fn open_without(root: impl Into<PathBuf>, point: SyncPoint) -> Result<Self, BlobError> {
        Self::open_on(root.into(), Disk::without(point)).await
    }

    async fn open_on(root: PathBuf, disk: Disk) -> Result<Self, BlobError> {
        blocking(move || {
            let layout = Layout::open(&root, &disk)?;
            let mut uploads = HashMap::new();
            for (name, size) in layout.upload_list()? {
                let upload = Upload { size, hasher: None, is_gone: false };
                uploads.insert(name, Arc::new(tokio::sync::Mutex::new(upload)));
            }
            let unsettled = Mutex::new(layout.arrival_list()?);
            let uploads = Mutex::new(uploads);
            Ok(FileStore(Arc::new(Inner { layout, disk, uploads, unsettled, budget: Budget::new() })))
        })
        .await
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work to its end, even when nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BlobError::Interrupted))
}

/// Runs a future to its end, even when nobody waits for it any more.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, BlobError>> + Send + 'static,
) -> Result<T, BlobError> {
    tokio::spawn(work).await.unwrap_or(Err(BlobError::Interrupted))
}

/// A file that is removed unless it became a blob. `None` once that is settled.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "could not remove a temporary file; it goes at the next start");
        }
    }
}

impl Temporary {
    /// Leaves the file where it is.
    fn keep(&mut self) {
        self.0 = None;
    }
}

/// Why verified bytes have not become a blob.
struct Unpublished {
    error: BlobError,
    /// Whether the bytes are on disk, and only their name is missing.
    can_go_on: bool,
}

impl From<BlobError> for Unpublished {
    fn from(error: BlobError) -> Self {
        Self { error, can_go_on: false }
    }
}

impl Inner {
    fn uploads(&self) -> MutexGuard<'_, HashMap<UploadName, Session>> {
        locked(&self.uploads)
    }

    fn session(&self, upload: &UploadName) -> Result<Session, BlobError> {
        self.uploads().get(upload).cloned().ok_or_else(|| BlobError::UploadUnknown { upload: upload.clone() })
    }

    fn lock(&self, upload: &UploadName) -> Result<OwnedMutexGuard<Upload>, BlobError> {
        let guard =
            self.session(upload)?.try_lock_owned().map_err(|_| BlobError::UploadBusy { upload: upload.clone() })?;
        if guard.is_gone { Err(BlobError::UploadUnknown { upload: upload.clone() }) } else { Ok(guard) }
    }

    fn forget(&self, name: &UploadName, upload: &mut Upload) {
        upload.is_gone = true;
        self.uploads().remove(name);
    }

    /// The order that holds: the bytes, their name, the folder that has the name; then the caller may answer. A blob of
    /// the same name gives way: what is on disk is not taken on trust when verified bytes are at hand.
    ///
    /// What cannot be named because the disk is full stays in `temporary`, safe on disk.
    fn publish(&self, file: &File, temporary: &mut Temporary, digest: Digest) -> Result<BlobInfo, Unpublished> {
        let (folder, target) = self.layout.blob(&digest);
        let Some(path) = temporary.0.clone() else {
            return Err(BlobError::Interrupted.into());
        };
        self.disk.sync_file(SyncPoint::BlobFile, file).map_err(BlobError::io("sync", &path))?;
        let size = file.metadata().map_err(BlobError::io("read", &path))?.len();
        let named = self
            .arrival_mark(&digest)
            .and_then(|()| fs::rename(&path, &target).map_err(BlobError::io("name", &target)));
        if let Err(error) = named {
            return Err(Unpublished { can_go_on: matches!(error, BlobError::NoSpace { .. }), error });
        }
        temporary.0 = None;
        self.disk.sync_folder(SyncPoint::BlobFolder, &folder).map_err(BlobError::io("sync", &folder))?;
        Ok(BlobInfo { digest, size })
    }

    async fn put(self: Arc<Self>, digest: Digest, body: Body) -> Result<BlobInfo, BlobError> {
        let path = self.layout.new_put();
        let mut temporary = Temporary(Some(path.clone()));
        let file = blocking({
            let path = path.clone();
            move || File::create_new(&path).map_err(BlobError::io("make", path))
        })
        .await?;
        let pumped = Writer::new(file, digest.hasher()).pump(body, &path, &self.budget).await;
        pumped.result?;
        let Some(Writer { file, hasher: Some(hasher), .. }) = pumped.writer else {
            return Err(BlobError::Interrupted);
        };
        let found = hasher.finish();
        if found != digest {
            return Err(BlobError::DigestMismatch { expected: digest, found: Box::new(found) });
        }
        let budget = self.budget.clone();
        budget.turn(move || self.publish(&file, &mut temporary, digest).map_err(|failed| failed.error)).await
    }

    async fn append(
        self: Arc<Self>,
        name: UploadName,
        mut upload: OwnedMutexGuard<Upload>,
        body: Body,
        grown: Option<watch::Sender<u64>>,
    ) -> Result<u64, BlobError> {
        let path = self.layout.upload(&name);
        let (size, hasher) = (upload.size, upload.hasher.take());
        let opened = blocking({
            let path = path.clone();
            move || Writer::open_at(&path, size, hasher).map_err(BlobError::io("open", path))
        })
        .await;
        let writer = match opened {
            Ok(mut writer) => {
                writer.grown = grown;
                writer
            }
            Err(error) => {
                self.abandon(&name, &mut upload).await;
                return Err(error);
            }
        };
        let pumped = writer.pump(body, &path, &self.budget).await;
        let outcome = match (pumped.writer, &pumped.result) {
            (Some(writer), Ok(()) | Err(BlobError::Body(_) | BlobError::TooLarge | BlobError::NoSpace { .. })) => {
                upload.size = writer.size;
                upload.hasher = writer.hasher;
                let disk = self.disk.clone();
                let path = path.clone();
                let is_full = matches!(pumped.result, Err(BlobError::NoSpace { .. }));
                let sync = move || {
                    if is_full {
                        // A full disk may have taken the beginning of what the hash does not hold.
                        writer.file.set_len(writer.size).map_err(BlobError::io("cut", &path))?;
                    }
                    disk.sync_file(SyncPoint::UploadFile, &writer.file).map_err(BlobError::io("sync", path))
                };
                self.budget.turn(sync).await
            }
            _ => Err(BlobError::Interrupted),
        };
        // After a failed write or sync nobody can say what is on disk: such an upload has ended. That the disk is full
        // is said before anything is written.
        if outcome.is_err() {
            self.abandon(&name, &mut upload).await;
        }
        pumped.result?;
        outcome?;
        Ok(upload.size)
    }

    async fn abandon(&self, name: &UploadName, upload: &mut Upload) {
        self.forget(name, upload);
        let temporary = Temporary(Some(self.layout.upload(name)));
        let _ = blocking(move || {
            drop(temporary);
            Ok(())
        })
        .await;
    }

    async fn finish(
        self: Arc<Self>,
        name: UploadName,
        mut upload: OwnedMutexGuard<Upload>,
        digest: Digest,
    ) -> Result<BlobInfo, BlobError> {
        let path = self.layout.upload(&name);
        let mut temporary = Temporary(Some(path.clone()));
        let hasher = upload.hasher.take().filter(|hasher| hasher.algorithm() == digest.algorithm());
        let inner = Arc::clone(&self);
        let work = move || {
            let end = || -> Result<BlobInfo, Unpublished> {
                let found = match hasher {
                    Some(hasher) => hasher.finish(),
                    None => hash_file(&path, digest.algorithm()).map_err(read::failed(&path))?,
                };
                if found != digest {
                    return Err(BlobError::DigestMismatch { expected: digest, found: Box::new(found) }.into());
                }
                let file = File::open(&path).map_err(BlobError::io("open", &path))?;
                inner.publish(&file, &mut temporary, digest)
            };
            let outcome = end();
            if matches!(&outcome, Err(Unpublished { can_go_on: true, .. })) {
                temporary.keep();
            }
            Ok(outcome)
        };
        let outcome = self.budget.turn(work).await.unwrap_or_else(|error| Err(error.into()));
        // Whatever came, this upload has ended, unless only its name is missing.
        if !matches!(&outcome, Err(Unpublished { can_go_on: true, .. })) {
            self.forget(&name, &mut upload);
        }
        outcome.map_err(|failed| failed.error)
    }

    fn create(&self, algorithm: Algorithm) -> Result<UploadName, BlobError> {
        let text = uuid::Uuid::now_v7().to_string();
        let name: UploadName = text.parse().map_err(|_| BlobError::Interrupted)?;
        let upload = Upload { size: 0, hasher: Some(Hasher::new(algorithm)), is_gone: false };
        {
            let mut uploads = self.uploads();
            if uploads.len() >= UPLOADS_OPEN_MAX {
                return Err(BlobError::TooManyUploads);
            }
            match uploads.entry(name.clone()) {
                Entry::Occupied(_) => return Err(BlobError::UploadBusy { upload: name }),
                Entry::Vacant(entry) => entry.insert(Arc::new(tokio::sync::Mutex::new(upload))),
            };
        }
        let path = self.layout.upload(&name);
        let made = File::create_new(&path)
            .and_then(|_| self.disk.sync_folder(SyncPoint::UploadFolder, &self.layout.uploads()))
            .map_err(BlobError::io("make", &path));
        if let Err(error) = made {
            self.uploads().remove(&name);
            drop(Temporary(Some(path)));
            return Err(error);
        }
        Ok(name)
    }

    fn read(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<BlobRead, BlobError> {
        let (_, path) = self.layout.blob(digest);
        let not_found = BlobError::NotFound { digest: *digest };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found),
            Err(error) => return Err(read::failed(&path)(error)),
        };
        let size = file.metadata().map_err(read::failed(&path))?.len();
        if size == 0 && !digest.matches(b"") {
            return Err(not_found);
        }
        let range = read::clip(range, size).ok_or(BlobError::RangeUnsatisfiable { digest: *digest, size })?;
        let (body, mapped) = read::body(file, range.clone()).map_err(read::failed(&path))?;
        Ok(BlobRead { size, range, body, mapped })
    }

    /// Removes an upload whose lock is held.
    fn remove(&self, name: &UploadName, upload: &mut Upload) -> Result<(), BlobError> {
        let path = self.layout.upload(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BlobError::io("remove", path)(error)),
            _ => {
                self.forget(name, upload);
                Ok(())
            }
        }
    }

    fn sweep(&self, idle_since: SystemTime) -> Result<Vec<UploadName>, BlobError> {
        let names: Vec<UploadName> = self.uploads().keys().cloned().collect();
        let mut swept = Vec::new();
        for name in names {
            let Ok(mut upload) = self.lock(&name) else { continue };
            if is_idle(&self.layout.upload(&name), idle_since)? {
                self.remove(&name, &mut upload)?;
                swept.push(name);
            }
        }
        Ok(swept)
    }
}

/// Whether nothing was added since; a file that is gone has nobody to add to it.
fn is_idle(path: &Path, idle_since: SystemTime) -> Result<bool, BlobError> {
    match path.metadata().and_then(|metadata| metadata.modified()) {
        Ok(modified) => Ok(modified < idle_since),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(read::failed(path)(error)),
    }
}

#[async_trait]
impl BlobStore for FileStore {
    async fn stat(&self, digest: &Digest) -> Result<Option<BlobInfo>, BlobError> {
        let (inner, digest) = (Arc::clone(&self.0), *digest);
        blocking(move || inner.layout.stat(&digest)).await
    }

    async fn read(&self, digest: &Digest, range: Option<Range<u64>>) -> Result<BlobRead, BlobError> {
        let (inner, digest) = (Arc::clone(&self.0), *digest);
        let span = tracing::trace_span!("blob open", longshore.blob = %digest);
        blocking(move || inner.read(&digest, range)).instrument(span).await
    }

    async fn put(&self, digest: &Digest, body: Body) -> Result<BlobInfo, BlobError> {
        let span = tracing::trace_span!("blob store", longshore.blob = %digest);
        detached(Arc::clone(&self.0).put(*digest, body)).instrument(span).await
    }

    async fn scan(&self, digest: &Digest) -> Result<BlobRead, BlobError> {
        let (inner, digest) = (Arc::clone(&self.0), *digest);
        blocking(move || inner.scan(&digest)).await
    }

    async fn settle(&self, digests: &[Digest]) -> Result<(), BlobError> {
        let (inner, digests) = (Arc::clone(&self.0), digests.to_vec());
        blocking(move || inner.arrivals_settle(&digests)).await
    }

    fn unsettled(&self) -> Vec<Digest> {
        locked(&self.0.unsettled).clone()
    }

    async fn set_aside(&self, digests: &[Digest], aside: Aside) -> Result<Vec<BlobInfo>, BlobError> {
        let (inner, digests) = (Arc::clone(&self.0), digests.to_vec());
        blocking(move || inner.set_aside(&digests, aside)).await
    }

    async fn put_back(&self, digests: &[Digest]) -> Result<(), BlobError> {
        let (inner, digests) = (Arc::clone(&self.0), digests.to_vec());
        blocking(move || inner.put_back(&digests)).await
    }

    async fn discard(&self, digests: &[Digest], aside: Aside) -> Result<u64, BlobError> {
        let (inner, digests) = (Arc::clone(&self.0), digests.to_vec());
        blocking(move || inner.discard(&digests, aside)).await
    }

    async fn list_aside(&self, aside: Aside, after: Option<&Digest>, limit: usize) -> Result<Vec<Digest>, BlobError> {
        let (inner, after) = (Arc::clone(&self.0), after.copied());
        blocking(move || inner.layout.aside_list(aside, after.as_ref(), limit.min(PAGE_BLOBS_MAX))).await
    }

    async fn list(&self, after: Option<&Digest>, limit: usize) -> Result<Vec<BlobInfo>, BlobError> {
        let (inner, after) = (Arc::clone(&self.0), after.copied());
        blocking(move || inner.layout.list(after, limit.min(PAGE_BLOBS_MAX))).await
    }

    async fn upload_create(&self, algorithm: Algorithm) -> Result<UploadName, BlobError> {
        let inner = Arc::clone(&self.0);
        self.0.budget.turn(move || inner.create(algorithm)).await
    }

    async fn upload_size(&self, upload: &UploadName) -> Result<u64, BlobError> {
        let session = self.0.session(upload)?;
        if let Ok(upload) = session.try_lock() {
            return Ok(upload.size);
        }
        // While an append runs, the file itself says how far it is.
        let path = self.0.layout.upload(upload);
        let unknown = BlobError::UploadUnknown { upload: upload.clone() };
        blocking(move || match path.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown),
            Err(error) => Err(read::failed(&path)(error)),
        })
        .await
    }

    async fn upload_append(&self, upload: &UploadName, offset: u64, body: Body) -> Result<u64, BlobError> {
        let guard = self.0.lock(upload)?;
        if guard.size != offset {
            return Err(BlobError::OffsetMismatch { upload: upload.clone(), offset, size: guard.size });
        }
        let span = tracing::trace_span!("upload append", longshore.upload = %upload);
        detached(Arc::clone(&self.0).append(upload.clone(), guard, body, None)).instrument(span).await
    }

    async fn upload_grow(&self, upload: &UploadName, body: Body, grown: watch::Sender<u64>) -> Result<u64, BlobError> {
        let guard = self.0.lock(upload)?;
        let span = tracing::trace_span!("upload append", longshore.upload = %upload);
        detached(Arc::clone(&self.0).append(upload.clone(), guard, body, Some(grown))).instrument(span).await
    }

    async fn upload_read(&self, upload: &UploadName, range: Range<u64>) -> Result<Body, BlobError> {
        let path = self.0.layout.upload(upload);
        let unknown = BlobError::UploadUnknown { upload: upload.clone() };
        blocking(move || {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown),
                Err(error) => return Err(read::failed(&path)(error)),
            };
            let size = file.metadata().map_err(read::failed(&path))?.len();
            let range = range.start.min(size)..range.end.min(size);
            read::body(file, range).map(|(body, _)| body).map_err(read::failed(&path))
        })
        .await
    }

    async fn upload_finish(&self, upload: &UploadName, digest: &Digest) -> Result<BlobInfo, BlobError> {
        let guard = self.0.lock(upload)?;
        let span = tracing::trace_span!("upload finish", longshore.upload = %upload, longshore.blob = %digest);
        detached(Arc::clone(&self.0).finish(upload.clone(), guard, *digest)).instrument(span).await
    }

    async fn upload_cancel(&self, upload: &UploadName) -> Result<(), BlobError> {
        let mut guard = self.0.lock(upload)?;
        let (inner, upload) = (Arc::clone(&self.0), upload.clone());
        blocking(move || inner.remove(&upload, &mut guard)).await
    }

    async fn upload_sweep(&self, idle_since: SystemTime) -> Result<Vec<UploadName>, BlobError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.sweep(idle_since)).await
    }
}
