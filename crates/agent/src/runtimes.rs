//! What a container runtime is told so that it pulls through the agent: files of the agent's own beside the runtime's, noted
//! before they are written, so that exactly these can be taken back. Nothing of anybody else's is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use base::folder::{FolderError, file_read, file_replace};
use fanout::local::Names;
use oci::Digest;
use serde::{Deserialize, Serialize};

const RECORD_FILE: &str = "installed.json";
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// The longest file that is compared with what was written, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Runtimes run as other users, too.
const FILE_MODE: u32 = 0o644;
const HEAD: &str = "# Written by `longshore agent install`; `longshore agent leave` takes it back.\n";

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Docker: trusts registries on loopback as it is.
    Docker,
    /// containerd: a `hosts.toml` for each registry.
    Containerd,
    /// podman, and whatever else reads `registries.conf`.
    Podman,
}

impl Runtime {
    /// All.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Containerd, Self::Podman];

    /// The program by which it is found.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "ctr",
            Self::Podman => "podman",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Podman => "podman",
        })
    }
}

/// The runtimes whose program is on a search path.
pub fn found(search_path: &OsStr) -> Vec<Runtime> {
    let is_there =
        |runtime: &Runtime| std::env::split_paths(search_path).any(|folder| folder.join(runtime.program()).is_file());
    Runtime::ALL.into_iter().filter(is_there).collect()
}

/// The files that a runtime is to have under the machine's `etc`, for an agent whose registry is at `registry`
/// (`ADDRESS:PORT`) and answers for `names`.
pub fn files(runtime: Runtime, etc: &Path, registry: &str, names: &Names) -> BTreeMap<PathBuf, String> {
    match runtime {
        Runtime::Docker => BTreeMap::new(),
        // Without `server` containerd goes on to the registry itself when the agent does not answer.
        Runtime::Containerd => names
            .iter()
            .map(|(host, _prefix)| {
                let path = etc.join("containerd/certs.d").join(host).join("hosts.toml");
                (path, format!("{HEAD}[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"))
            })
            .collect(),
        Runtime::Podman => {
            let registries: Vec<String> = names
                .iter()
                .map(|(host, prefix)| {
                    let mirror = prefix.map_or_else(|| registry.to_owned(), |prefix| format!("{registry}/{prefix}"));
                    format!(
                        "\n[[registry]]\nprefix = \"{host}\"\nlocation = \"{host}\"\n\n[[registry.mirror]]\nlocation = \
                         \"{mirror}\"\ninsecure = true\n"
                    )
                })
                .collect();
            if registries.is_empty() {
                return BTreeMap::new();
            }
            let path = etc.join("containers/registries.conf.d/50-longshore.conf");
            BTreeMap::from([(path, format!("{HEAD}{}", registries.concat()))])
        }
    }
}

/// What was written, and what folders were made for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Digests of the files' contents.
    files: BTreeMap<PathBuf, Digest>,
    folders: BTreeSet<PathBuf>,
}

/// What was done with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Written, with this content.
    Wrote(PathBuf, String),
    /// It was as it should be.
    Stands(PathBuf),
    /// Removed.
    Removed(PathBuf),
    /// Somebody changed it since, so it was left.
    Left(PathBuf),
}

/// Why a runtime is not told anything.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The file is somebody else's.
    #[error("{} was not written by the agent, or was changed since; nothing was changed: move it away, or add by hand:\n{content}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it would have been.
        content: String,
    },
    /// The file system refuses.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file or folder cannot be made or removed.
    #[error("{} cannot be {action}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The record holds something else.
    #[error("{} cannot be understood: {source}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Writes `files`, and removes what an earlier installation wrote and this one does not. All or nothing is changed by
/// what somebody else did; what is as it should be is left as it is.
///
/// # Errors
/// [`RuntimeError`]. Before anything was changed when a file is somebody else's.
pub fn install(data: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<Change>, RuntimeError> {
    let before = record_read(data)?;
    for (path, content) in files {
        let is_own = match file_read(path, FILE_BYTES_MAX)? {
            None => true,
            Some(found) => found == content.as_bytes() || before.files.get(path).is_some_and(|own| own.matches(&found)),
        };
        if !is_own {
            return Err(RuntimeError::Foreign { path: path.clone(), content: content.clone() });
        }
    }
    let mut record = before.clone();
    for (path, content) in files {
        let missing = path.ancestors().skip(1).take_while(|folder| !folder.exists());
        record.folders.extend(missing.map(Path::to_path_buf));
        record.files.insert(path.clone(), Digest::sha256_of(content.as_bytes()));
    }
    // What is written is noted first, so that a crash leaves nothing that cannot be taken back.
    record_write(data, &record)?;
    let mut changes = Vec::new();
    for (path, content) in files {
        if file_read(path, FILE_BYTES_MAX)?.as_deref() == Some(content.as_bytes()) {
            changes.push(Change::Stands(path.clone()));
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io(folder, "made"))?;
        }
        file_replace(path, content.as_bytes(), FILE_MODE)?;
        changes.push(Change::Wrote(path.clone(), content.clone()));
    }
    let gone: Vec<PathBuf> = record.files.keys().filter(|path| !files.contains_key(*path)).cloned().collect();
    for path in gone {
        changes.push(take_back(&mut record, &before, &path)?);
    }
    record_write(data, &record)?;
    Ok(changes)
}

/// Takes back all that was written.
///
/// # Errors
/// [`RuntimeError`]; what is left can be taken back again.
pub fn leave(data: &Path) -> Result<Vec<Change>, RuntimeError> {
    let before = record_read(data)?;
    let mut record = before.clone();
    let mut changes = Vec::new();
    for path in before.files.keys() {
        changes.push(take_back(&mut record, &before, path)?);
    }
    // The deepest first; one that holds anything else stays.
    for folder in before.folders.iter().rev() {
        let _ = std::fs::remove_dir(folder);
    }
    let path = data.join(RECORD_FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&path, "removed")(error)),
        _ => Ok(changes),
    }
}

fn take_back(record: &mut Record, before: &Record, path: &Path) -> Result<Change, RuntimeError> {
    let found = file_read(path, FILE_BYTES_MAX)?;
    let is_own = found.as_ref().is_none_or(|found| before.files.get(path).is_some_and(|own| own.matches(found)));
    record.files.remove(path);
    if !is_own {
        return Ok(Change::Left(path.to_owned()));
    }
    if found.is_some() {
        std::fs::remove_file(path).map_err(io(path, "removed"))?;
    }
    Ok(Change::Removed(path.to_owned()))
}

fn io<'p>(path: &'p Path, action: &'static str) -> impl FnOnce(std::io::Error) -> RuntimeError + 'p {
    move |source| RuntimeError::Io { path: path.to_owned(), action, source }
}

fn record_read(data: &Path) -> Result<Record, RuntimeError> {
    let path = data.join(RECORD_FILE);
    match file_read(&path, RECORD_BYTES_MAX)? {
        None => Ok(Record::default()),
        Some(text) => serde_json::from_slice(&text).map_err(|source| RuntimeError::Record { path, source }),
    }
}

fn record_write(data: &Path, record: &Record) -> Result<(), RuntimeError> {
    let path = data.join(RECORD_FILE);
    let text = serde_json::to_vec_pretty(record);
    let text = text.map_err(|source| RuntimeError::Record { path: path.clone(), source })?;
    Ok(file_replace(&path, &text, 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(etc: &Path, names: &[&str]) -> BTreeMap<PathBuf, String> {
        let names = Names::parse(names.iter().copied()).unwrap();
        Runtime::ALL.into_iter().flat_map(|runtime| files(runtime, etc, "127.0.0.1:5100", &names)).collect()
    }

    #[test]
    fn what_is_written_is_taken_back_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (data, etc) = (folder.path().join("data"), folder.path().join("etc"));
        std::fs::create_dir_all(&data).unwrap();
        std::fs::create_dir_all(etc.join("containers")).unwrap();
        let wanted = all(&etc, &["hub.example:5000", "docker.io=mirror/hub"]);
        assert_eq!(wanted.len(), 3);
        let changes = install(&data, &wanted).unwrap();
        assert!(changes.iter().all(|change| matches!(change, Change::Wrote(..))));
        let podman = std::fs::read_to_string(etc.join("containers/registries.conf.d/50-longshore.conf")).unwrap();
        assert!(
            podman.contains("prefix = \"docker.io\"") && podman.contains("location = \"127.0.0.1:5100/mirror/hub\"")
        );
        assert!(install(&data, &wanted).unwrap().iter().all(|change| matches!(change, Change::Stands(_))));
        // Fewer registries: what they had goes.
        let changes = install(&data, &all(&etc, &["hub.example:5000"])).unwrap();
        assert_eq!(changes.iter().filter(|change| matches!(change, Change::Removed(_))).count(), 1);
        // Somebody changed one: it is left, and said.
        let hosts = etc.join("containerd/certs.d/hub.example:5000/hosts.toml");
        std::fs::write(&hosts, "server = \"x\"\n").unwrap();
        assert!(matches!(install(&data, &wanted), Err(RuntimeError::Foreign { .. })));
        assert!(!etc.join("containerd/certs.d/docker.io/hosts.toml").exists(), "something was changed");
        let changes = leave(&data).unwrap();
        assert!(changes.contains(&Change::Left(hosts.clone())) && hosts.exists());
        std::fs::remove_file(&hosts).unwrap();
        assert!(!etc.join("containers/registries.conf.d").exists() && etc.join("containers").exists());
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
        assert_eq!(leave(&data).unwrap(), []);
    }
}
