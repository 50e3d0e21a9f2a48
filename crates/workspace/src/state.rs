//! What a workspace keeps between two commands, in a folder of its own: which environment, which services from source,
//! which ports; what the hub said last; which images are known.
//!
//! Only who holds the folder's lock writes `state.json`; everybody may read it. What is lost with the folder is asked
//! again or found on the engine, but for the choice of services from source.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use api::delivery::EnvironmentReleases;
use api::{AppName, EnvName, Micros};
use base::folder::{self, FolderError, FolderLock, file_read, file_replace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::ports::Assigned;
use crate::project::Checkout;

/// The form of what is written.
const VERSION: u32 = 1;
/// The largest file that is read back: releases of a large app.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Workspaces that are looked through for a free name.
const WORKSPACES_MAX: usize = 10_000;
/// Images that are remembered: with as many, all are forgotten and identified again.
const IMAGES_MAX: usize = 2000;
const FILE_MODE: u32 = 0o600;
const STATE: &str = "state.json";
const IMAGES: &str = "images.json";
const SOCKET: &str = "control";

/// What a workspace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Form of this document.
    pub version: u32,
    /// Its name on the engine.
    pub workspace: String,
    /// Hash of the checkout's path.
    pub checkout: String,
    /// The checkout's folder.
    pub folder: PathBuf,
    /// The app.
    pub app: AppName,
    /// The environment whose releases run.
    pub env: EnvName,
    /// Services from source, because somebody wants to work on them.
    pub develop: BTreeSet<String>,
    /// Ports of these services' containers that a debugger is to reach.
    #[serde(default)]
    pub debuggers: BTreeMap<String, NonZeroU16>,
    /// Services that are to run; empty means all.
    pub services: BTreeSet<String>,
    /// Profiles that are switched on.
    pub profiles: BTreeSet<String>,
    /// The Compose files that were named; empty means the usual ones.
    pub files: Vec<PathBuf>,
    /// Ports of this machine, by service and port.
    pub ports: Assigned,
}

/// What the hub said of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// What it has.
    pub releases: EnvironmentReleases,
    /// The answer's tag, to ask whether it still holds.
    pub tag: String,
    /// When the hub said so last.
    pub at: Micros,
}

/// Ids under which an engine may have an image, by the name that containers are created by.
pub type KnownImages = BTreeMap<String, BTreeSet<String>>;

/// The folder of a workspace.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    folder: PathBuf,
}

impl Store {
    /// The folder of a checkout's workspace below `root`; `name` is that of `-p`.
    pub fn new(root: &Path, checkout: &Checkout, name: Option<&str>) -> Self {
        let shown = checkout.folder.file_name().unwrap_or_default().to_string_lossy();
        let shown: String = shown.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        Self { root: root.to_owned(), folder: root.join(format!("{shown}-{}", checkout.hash(name))) }
    }

    /// Takes the workspace for this process, which may then write.
    ///
    /// # Errors
    /// [`FolderError::InUse`] with the other's process id.
    pub fn lock(&self) -> Result<FolderLock, FolderError> {
        folder::lock(&self.folder)
    }

    /// Where the process that holds the workspace listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// Where it is kept what containers have of the sources.
    pub fn watch_folder(&self) -> PathBuf {
        self.folder.join("watch")
    }

    /// Where it is kept which containers' hooks are still to run.
    pub fn hooks_folder(&self) -> PathBuf {
        self.folder.join("hooks")
    }

    /// Where a volume is saved unless another file is named.
    pub fn volume_file(&self, name: &str) -> PathBuf {
        self.folder.join("volumes").join(format!("{name}.tar"))
    }

    /// What was written last; `None` before the first `up`.
    ///
    /// # Errors
    /// The file cannot be read, or another version of Longshore wrote it.
    pub fn state(&self) -> Result<Option<State>, Error> {
        let path = self.folder.join(STATE);
        let state: Option<State> = read(&path)?;
        match state {
            Some(state) if state.version != VERSION => {
                let why =
                    format!("{} was written in form {}, and this is for {VERSION}", path.display(), state.version);
                Err(Error::new(ErrorKind::State, why, "Use the newer `longshore`, or remove the file."))
            }
            state => Ok(state),
        }
    }

    /// Writes the state if it differs from what is there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn state_save(&self, state: &State) -> Result<(), Error> {
        if self.state().ok().flatten().as_ref() == Some(state) {
            return Ok(());
        }
        write(&self.folder.join(STATE), state)
    }

    /// What the hub said last of an environment.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn releases(&self, env: &EnvName) -> Result<Option<Remembered>, Error> {
        read(&self.folder.join(format!("releases-{env}.json")))
    }

    /// Remembers what the hub said.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn releases_save(&self, remembered: &Remembered) -> Result<(), Error> {
        write(&self.folder.join(format!("releases-{}.json", remembered.releases.env)), remembered)
    }

    /// Images that were identified.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn images(&self) -> Result<KnownImages, Error> {
        let images: KnownImages = read(&self.folder.join(IMAGES))?.unwrap_or_default();
        Ok(if images.len() >= IMAGES_MAX { KnownImages::new() } else { images })
    }

    /// Remembers images.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn images_save(&self, images: &KnownImages) -> Result<(), Error> {
        if images.len() > IMAGES_MAX || self.images()? == *images {
            return Ok(());
        }
        write(&self.folder.join(IMAGES), images)
    }

    /// The names of other checkouts' workspaces, as far as these checkouts are still there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names_of_others(&self) -> Result<BTreeSet<String>, Error> {
        let failed = |error: std::io::Error| {
            let why = format!("{} cannot be read: {error}", self.root.display());
            Error::new(ErrorKind::State, why, "Check its rights.")
        };
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = BTreeSet::new();
        for entry in entries.take(WORKSPACES_MAX) {
            let folder = entry.map_err(failed)?.path();
            // One that cannot be read has no say.
            if folder != self.folder
                && let Ok(Some(state)) = read::<State>(&folder.join(STATE))
                && state.folder.is_dir()
            {
                names.insert(state.workspace);
            }
        }
        Ok(names)
    }
}

impl State {
    /// A workspace that was never up.
    pub fn new(workspace: String, checkout: String, folder: PathBuf, app: AppName, env: EnvName) -> Self {
        Self {
            version: VERSION,
            workspace,
            checkout,
            folder,
            app,
            env,
            develop: BTreeSet::new(),
            debuggers: BTreeMap::new(),
            services: BTreeSet::new(),
            profiles: BTreeSet::new(),
            files: Vec::new(),
            ports: Assigned::new(),
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = file_read(path, FILE_BYTES_MAX)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let why = format!("{} cannot be read: {error}", path.display());
        Error::new(ErrorKind::State, why, "Remove the file; it is made again.")
    })
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::new(ErrorKind::State, format!("{}: {error}", path.display()), "Try again."))?;
    Ok(file_replace(path, &text, FILE_MODE)?)
}
