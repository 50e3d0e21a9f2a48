//! What an agent keeps in its data folder: its memory and what the hub said last. Replaced whole and durably.

use std::path::{Path, PathBuf};

use api::agent::{BODY_BYTES_MAX, Desired};
use base::folder::{FolderError, file_read, file_replace};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::memory::Kept;

const KEPT_FILE: &str = "memory.json";
const DESIRED_FILE: &str = "desired.json";
/// Failures carry logs, so that a memory may grow with the number of services.
const KEPT_BYTES_MAX: u64 = 256 * 1024 * 1024;
const FILE_MODE: u32 = 0o600;

/// Why something kept cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refuses.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file holds something else.
    #[error("{} cannot be understood: {source}; restore it, or remove it to start without it", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The files of an agent's memory.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// In this folder, which exists.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// What the converge loop remembered; `None` before the first time.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn kept_load(&self) -> Result<Option<Kept>, StateError> {
        self.load(KEPT_FILE, KEPT_BYTES_MAX)
    }

    /// Keeps what the converge loop remembers.
    ///
    /// # Errors
    /// It cannot be written; the old one is still there.
    pub fn kept_save(&self, kept: &Kept) -> Result<(), StateError> {
        self.save(KEPT_FILE, kept)
    }

    /// What the hub said last; `None` before it said anything.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn desired_load(&self) -> Result<Option<Desired>, StateError> {
        self.load(DESIRED_FILE, BODY_BYTES_MAX as u64 * 2)
    }

    /// Keeps what the hub says, before it is acted upon.
    ///
    /// # Errors
    /// It cannot be written; the old one is still there.
    pub fn desired_save(&self, desired: &Desired) -> Result<(), StateError> {
        self.save(DESIRED_FILE, desired)
    }

    fn load<T: DeserializeOwned>(&self, name: &str, bytes_max: u64) -> Result<Option<T>, StateError> {
        let path = self.folder.join(name);
        let Some(content) = file_read(&path, bytes_max)? else { return Ok(None) };
        serde_json::from_slice(&content).map(Some).map_err(|source| StateError::Content { path, source })
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.folder.join(name);
        match serde_json::to_vec(value) {
            Ok(content) => Ok(file_replace(&path, &content, FILE_MODE)?),
            Err(source) => Err(StateError::Content { path, source }),
        }
    }
}
