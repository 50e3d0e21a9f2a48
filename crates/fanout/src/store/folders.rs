//! Where things are on disk. Every name in the store's folder is made from a digest, here alone: `blobs/sha256-abc…` is
//! whole and verified, `parts/sha256-abc…` lacks pieces and has its journal in `journals/`, `fills/` comes in one run from
//! the hub, `trees/` has the hashes of all of them, `images/` what is known of an image, `trash/` what is being removed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use oci::Digest;

use super::StoreError;

const FORMAT: &str = "longshore fanout 1\n";
const FORMAT_BYTES_MAX: u64 = 256;
/// What the agent keeps is for its owner alone.
const FOLDER_MODE: u32 = 0o700;
/// A file that is not whole yet ends so; none that has its name does.
const NEW_SUFFIX: &str = ".new";

/// What a file in the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Blob,
    Part,
    Journal,
    Fill,
    Tree,
    Image,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [Self::Blob, Self::Part, Self::Journal, Self::Fill, Self::Tree, Self::Image];

    fn folder(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Part => "parts",
            Self::Journal => "journals",
            Self::Fill => "fills",
            Self::Tree => "trees",
            Self::Image => "images",
        }
    }
}

#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Makes what is missing and refuses what a later version wrote.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let folders = Self { root: root.to_owned() };
        let is_known = folders.check_format()?;
        let all = Kind::ALL.map(|kind| folders.folder(kind)).into_iter().chain([folders.trash()]);
        for folder in all {
            DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(&folder)
                .map_err(StoreError::io("make the folder", &folder))?;
        }
        if !is_known {
            let path = folders.root.join("format");
            replace(&path, FORMAT.as_bytes())?;
            let file = File::open(&path).map_err(StoreError::io("read", &path))?;
            file.sync_all().map_err(StoreError::io("sync", &path))?;
            folders.sync(&folders.root)?;
            if let Some(parent) = folders.root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                folders.sync(parent)?;
            }
        }
        Ok(folders)
    }

    fn check_format(&self) -> Result<bool, StoreError> {
        let path = self.root.join("format");
        let found = match base::folder::file_read(&path, FORMAT_BYTES_MAX) {
            Ok(None) => return Ok(false),
            Ok(Some(found)) => found,
            Err(error) => return Err(StoreError::io("read", &path)(io::Error::other(error))),
        };
        if found == FORMAT.as_bytes() {
            return Ok(true);
        }
        let found = String::from_utf8_lossy(&found).trim().escape_debug().to_string();
        Err(StoreError::UnknownFormat { path: self.root.clone(), found })
    }

    pub(super) fn folder(&self, kind: Kind) -> PathBuf {
        self.root.join(kind.folder())
    }

    fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(super) fn file(&self, kind: Kind, digest: &Digest) -> PathBuf {
        self.folder(kind).join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    pub(super) fn tags(&self) -> PathBuf {
        self.root.join("tags")
    }

    pub(super) fn sync_folder(&self, kind: Kind) -> Result<(), StoreError> {
        self.sync(&self.folder(kind))
    }

    fn sync(&self, folder: &Path) -> Result<(), StoreError> {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync", folder))
    }

    /// The files of a kind. What has no name of the store's making is removed: it is an orphan of a crash.
    pub(super) fn list(&self, kind: Kind) -> Result<Vec<(Digest, fs::Metadata)>, StoreError> {
        let folder = self.folder(kind);
        let failed = || StoreError::io("list", &folder);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let digest = entry.file_name().to_str().and_then(|name| name.replacen('-', ":", 1).parse::<Digest>().ok());
            let metadata = entry.metadata().map_err(failed())?;
            match digest {
                Some(digest) if metadata.is_file() => found.push((digest, metadata)),
                _ => discard(&entry.path())?,
            }
        }
        Ok(found)
    }

    pub(super) fn remove(&self, kind: Kind, digest: &Digest) -> Result<(), StoreError> {
        discard(&self.file(kind, digest))
    }

    /// Takes a file out of its place at once; its bytes go with [`Folders::empty_trash`].
    pub(super) fn trash_file(&self, kind: Kind, digest: &Digest) -> Result<(), StoreError> {
        let path = self.file(kind, digest);
        let target = self.trash().join(uuid::Uuid::now_v7().to_string());
        match fs::rename(&path, target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn empty_trash(&self) -> Result<(), StoreError> {
        let trash = self.trash();
        for entry in fs::read_dir(&trash).map_err(StoreError::io("list", &trash))? {
            discard(&entry.map_err(StoreError::io("list", &trash))?.path())?;
        }
        Ok(())
    }
}

/// Removes a file or a folder, if it is there.
fn discard(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Replaces a file whole, without a wait for the disk: after a loss of power it may be the old one, torn or empty, which
/// whoever reads it has to find out.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{}{NEW_SUFFIX}", uuid::Uuid::now_v7()));
    let new = path.with_file_name(name);
    let written = File::create(&new).and_then(|mut file| file.write_all(content)).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        // Of no use without its name.
        let _ = fs::remove_file(&new);
        StoreError::io("write", path)(error)
    })
}
