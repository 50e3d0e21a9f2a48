//! The folders of a store: `blobs/sha256/ab/abcdef…`, `uploads/ID`, `condemned/sha256-abcdef…`, `damaged/` and `arrivals/`
//! likewise, and `format`, which is there once all else is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci::{Algorithm, Digest, UploadName};

use super::sync::{Disk, SyncPoint};
use crate::{Aside, BlobError, BlobInfo};

const FORMAT: &str = "longshore blobs 1\n";
const FORMAT_BYTES_MAX: u64 = 256;
/// No upload's name holds a dot, so that these files cannot be asked for; nobody can resume one.
const PUT_SUFFIX: &str = ".put";

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes what is missing, refuses what a later version wrote, removes what a crash left.
    pub(crate) fn open(root: &Path, disk: &Disk) -> Result<Self, BlobError> {
        let layout = Layout { root: root.to_owned() };
        let is_known = layout.check_format()?;
        let mut is_new = !is_known;
        for folder in layout.folders() {
            is_new |= !folder.exists();
            match fs::create_dir_all(&folder).and_then(|()| folder.metadata()) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(BlobError::io("use as a folder", folder)(io::ErrorKind::NotADirectory.into())),
                Err(error) => return Err(BlobError::io("make the folder", folder)(error)),
            }
        }
        for algorithm in Algorithm::ALL {
            let parent = layout.algorithm(algorithm);
            for first in 0..=u8::MAX {
                let folder = parent.join(format!("{first:02x}"));
                match fs::create_dir(&folder) {
                    Ok(()) => is_new = true,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(BlobError::io("make the folder", folder)(error)),
                }
            }
        }
        if is_new {
            disk.sync_file_system(SyncPoint::Layout, root).map_err(BlobError::io("sync", root))?;
        }
        if !is_known {
            layout.write_format(disk)?;
        }
        layout.sweep_puts()?;
        Ok(layout)
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.root.clone(), self.uploads(), self.arrivals()];
        folders.extend(Aside::ALL.map(|aside| self.aside_folder(aside)));
        folders.extend(Algorithm::ALL.map(|algorithm| self.algorithm(algorithm)));
        folders
    }

    fn check_format(&self) -> Result<bool, BlobError> {
        let path = self.root.join("format");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(BlobError::io("read", path)(error)),
        };
        let mut found = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, FORMAT_BYTES_MAX), &mut found)
            .map_err(BlobError::io("read", &path))?;
        if found == FORMAT.as_bytes() {
            return Ok(true);
        }
        let found = String::from_utf8_lossy(&found).trim().escape_debug().to_string();
        Err(BlobError::UnknownFormat { path: self.root.clone(), found })
    }

    /// Comes after the sync of the folders: where it stands, they stand. Its name may be lost, and is written again.
    fn write_format(&self, disk: &Disk) -> Result<(), BlobError> {
        let path = self.root.join("format");
        let temporary = self.root.join("format.new");
        File::create(&temporary)
            .and_then(|mut file| {
                file.write_all(FORMAT.as_bytes())?;
                disk.sync_file(SyncPoint::Layout, &file)
            })
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(BlobError::io("write", path))
    }

    fn sweep_puts(&self) -> Result<(), BlobError> {
        for entry in read_folder(&self.uploads())? {
            if entry.to_string_lossy().ends_with(PUT_SUFFIX) {
                fs::remove_file(&entry).map_err(BlobError::io("remove", entry))?;
            }
        }
        Ok(())
    }

    fn algorithm(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(crate) fn upload(&self, upload: &UploadName) -> PathBuf {
        self.uploads().join(upload.as_str())
    }

    /// A file for a blob that comes in one piece.
    pub(crate) fn new_put(&self) -> PathBuf {
        self.uploads().join(format!("{}{PUT_SUFFIX}", uuid::Uuid::now_v7()))
    }

    /// The folder of a blob, and the blob in it.
    pub(crate) fn blob(&self, digest: &Digest) -> (PathBuf, PathBuf) {
        let hex = digest.hex();
        let folder = self.algorithm(digest.algorithm()).join(&hex[..2]);
        let path = folder.join(hex);
        (folder, path)
    }

    pub(crate) fn aside_folder(&self, aside: Aside) -> PathBuf {
        self.root.join(match aside {
            Aside::Condemned => "condemned",
            Aside::Damaged => "damaged",
        })
    }

    /// A blob that was set aside.
    pub(crate) fn aside(&self, aside: Aside, digest: &Digest) -> PathBuf {
        self.aside_folder(aside).join(flat(digest))
    }

    fn arrivals(&self) -> PathBuf {
        self.root.join("arrivals")
    }

    /// The mark of a blob that was stored and is not settled.
    pub(crate) fn arrival(&self, digest: &Digest) -> PathBuf {
        self.arrivals().join(flat(digest))
    }

    pub(crate) fn arrival_list(&self) -> Result<Vec<Digest>, BlobError> {
        Ok(read_folder(&self.arrivals())?.iter().filter_map(|path| flat_digest(path)).collect())
    }

    /// Blobs that were set aside, in order.
    pub(crate) fn aside_list(
        &self,
        aside: Aside,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, BlobError> {
        let mut digests: Vec<Digest> = read_folder(&self.aside_folder(aside))?
            .iter()
            .filter_map(|path| flat_digest(path))
            .filter(|digest| after.is_none_or(|after| digest > after))
            .collect();
        digests.sort_unstable();
        digests.truncate(limit);
        Ok(digests)
    }

    /// The uploads that an earlier process left, with their sizes.
    pub(crate) fn upload_list(&self) -> Result<Vec<(UploadName, u64)>, BlobError> {
        let mut uploads = Vec::new();
        for path in read_folder(&self.uploads())? {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if let Some(name) = name {
                let size = path.metadata().map_err(BlobError::io("read", &path))?.len();
                uploads.push((name, size));
            }
        }
        Ok(uploads)
    }

    /// A blob's size. An empty file under another digest than that of nothing is what a broken disk leaves (a07).
    pub(crate) fn stat(&self, digest: &Digest) -> Result<Option<BlobInfo>, BlobError> {
        let (_, path) = self.blob(digest);
        match path.metadata() {
            Ok(metadata) if metadata.len() == 0 && !digest.matches(b"") => Ok(None),
            Ok(metadata) => Ok(Some(BlobInfo { digest: *digest, size: metadata.len() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BlobError::io("read", path)(error)),
        }
    }

    pub(crate) fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<BlobInfo>, BlobError> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            if after.is_some_and(|after| after.algorithm() > algorithm) {
                continue;
            }
            let first = after.filter(|after| after.algorithm() == algorithm).map_or(0, |after| after.as_bytes()[0]);
            for shard in first..=u8::MAX {
                let folder = self.algorithm(algorithm).join(format!("{shard:02x}"));
                let mut digests: Vec<Digest> = read_folder(&folder)?
                    .into_iter()
                    .filter_map(|path| format!("{}:{}", algorithm.as_str(), path.file_name()?.to_str()?).parse().ok())
                    .filter(|digest| after.is_none_or(|after| *digest > after))
                    .collect();
                digests.sort_unstable();
                for digest in digests {
                    if found.len() == limit {
                        return Ok(found);
                    }
                    found.extend(self.stat(&digest)?);
                }
            }
        }
        Ok(found)
    }
}

/// A digest as the name of a file that stands in one folder with all others.
fn flat(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

fn flat_digest(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.replacen('-', ":", 1).parse().ok()
}

fn read_folder(folder: &Path) -> Result<Vec<PathBuf>, BlobError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(BlobError::io("list", folder))
}
