//! Repositories: bare mirrors in the data folder, driven through the git command, never through a shell.
//!
//! Whatever a person gave (a URL, a path, a ref) is checked before it becomes an argument, stands behind `--` or
//! `--end-of-options`, and can neither choose a transport that runs commands nor be taken for an option.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use oci::Digest;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::address::{PROTOCOLS, reference_check, repository_check};
use crate::model::nearest;

/// How long a fetch may take, in seconds.
pub const FETCH_SECONDS_MAX: u64 = 900;
/// How long a question to a mirror may take, in seconds.
const ANSWER_SECONDS_MAX: u64 = 60;
/// The most that git may answer, in bytes: a listing of half a million files.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much of what git complains is kept, in bytes.
const COMPLAINT_BYTES_MAX: usize = 8 * 1024;
/// How many refs with similar names an error shows.
const NEAR_REFS_MAX: usize = 3;
/// Variables by which the surroundings could point git elsewhere (`git rev-parse --local-env-vars`).
const LOCAL_VARIABLES: [&str; 12] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
];

/// What can go wrong with a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The repository's address is not one.
    #[error("{repository:?} {why}")]
    RepositoryInvalid {
        /// As given, without a password.
        repository: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The repository cannot be fetched.
    #[error("{repository} cannot be fetched: {why}")]
    Unreachable {
        /// As given.
        repository: String,
        /// In git's words.
        why: String,
    },
    /// The ref is not one that names a commit.
    #[error("{reference:?} {why}")]
    ReferenceInvalid {
        /// As given.
        reference: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no such branch, tag or commit.
    #[error("{repository} has no branch, tag or commit {reference:?}")]
    ReferenceUnknown {
        /// The repository.
        repository: String,
        /// The ref.
        reference: String,
        /// Refs with similar names.
        near: Vec<String>,
    },
    /// The ref has several meanings.
    #[error("{reference:?} is ambiguous: {why}")]
    ReferenceAmbiguous {
        /// The ref.
        reference: String,
        /// What it could be.
        why: String,
    },
    /// A file or folder that is wanted is not in the commit.
    #[error("the commit has no folder {folder:?}")]
    FolderUnknown {
        /// The folder.
        folder: String,
    },
    /// Git itself failed.
    #[error("git {action} failed: {why}")]
    Failed {
        /// What was done.
        action: &'static str,
        /// In git's words.
        why: String,
    },
}

/// What a tree's entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link; its content is its target.
    Symlink,
    /// A folder.
    Folder,
    /// A commit of another repository.
    Submodule,
}

impl EntryKind {
    /// Git's mode.
    pub fn mode(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Folder => "040000",
            Self::Submodule => "160000",
        }
    }

    fn of_mode(mode: &str) -> Option<Self> {
        Some(match mode {
            // 100664 is what very old versions of git wrote.
            "100644" | "100664" => Self::File,
            "100755" => Self::Executable,
            "120000" => Self::Symlink,
            "040000" => Self::Folder,
            "160000" => Self::Submodule,
            _ => return None,
        })
    }
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the folder that was listed.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Git's id of its content.
    pub id: String,
    /// Size of its content in bytes; 0 for folders and submodules.
    pub size_bytes: u64,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its full id.
    pub id: String,
    /// When it was committed, in seconds since the epoch.
    pub seconds: u64,
}

/// The mirrors of one data folder.
#[derive(Debug)]
pub struct Git {
    folder: PathBuf,
    /// One fetch at a time for each mirror.
    locks: std::sync::Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

/// A repository's bare mirror.
#[derive(Debug, Clone)]
pub struct Mirror {
    folder: PathBuf,
    repository: String,
}

impl Git {
    /// Mirrors are kept in `folder`, which is made when the first is fetched.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, locks: std::sync::Mutex::new(BTreeMap::new()) }
    }

    /// Fetches all branches and tags of a repository, and what its HEAD is on, into its mirror.
    ///
    /// # Errors
    /// [`GitError::RepositoryInvalid`], [`GitError::Unreachable`], or git itself fails.
    pub async fn fetch(&self, repository: &str) -> Result<Mirror, GitError> {
        repository_check(repository)?;
        let key = Digest::sha256_of(repository.as_bytes()).hex();
        let _one_at_a_time = self.lock(&key).await;
        let folder = self.folder.join(&key);
        std::fs::create_dir_all(&self.folder).map_err(|error| failed("init", &error))?;
        let mirror = Mirror { folder, repository: repository.to_owned() };
        // Killed half way, `init` is simply done again: it completes what is missing.
        mirror
            .run("init", &["init", "--quiet", "--bare", "--template=", "--"], &[&mirror.folder.to_string_lossy()])
            .await?;
        std::fs::write(mirror.config_file(), config_text(repository)).map_err(|error| failed("init", &error))?;
        let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        // HEAD comes by itself: a repository whose HEAD names a branch without commits still has others.
        let head = ["+HEAD:refs/longshore/HEAD"];
        mirror.fetch_refs(true, &all).await?;
        match mirror.fetch_refs(false, &head).await {
            Ok(()) | Err(GitError::Unreachable { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(mirror)
    }

    async fn lock(&self, key: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

impl Mirror {
    /// The folder of the mirror, for `git cat-file`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The commit that a branch, a tag, `HEAD`, or a full or shortened commit id names.
    ///
    /// # Errors
    /// [`GitError::ReferenceInvalid`], [`GitError::ReferenceUnknown`] with similar names, [`GitError::ReferenceAmbiguous`].
    pub async fn resolve(&self, reference: &str) -> Result<Commit, GitError> {
        reference_check(reference)?;
        let is_hex = reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut candidates = Vec::new();
        if reference == "HEAD" {
            candidates.push("refs/longshore/HEAD".to_owned());
        } else if reference.starts_with("refs/") {
            candidates.push(reference.to_owned());
        } else {
            candidates.extend([format!("refs/heads/{reference}"), format!("refs/tags/{reference}")]);
        }
        let mut found = Vec::new();
        for name in &candidates {
            if let Some(id) = self.commit_id(name).await? {
                found.push(id);
            }
        }
        if let [branch, tag] = found.as_slice()
            && branch != tag
        {
            let why = format!("refs/heads/{reference} is {branch}, refs/tags/{reference} is {tag}");
            return Err(GitError::ReferenceAmbiguous { reference: reference.to_owned(), why });
        }
        if found.is_empty() && is_hex && (4..=64).contains(&reference.len()) {
            found.extend(self.commit_of_digits(reference).await?);
        }
        match found.into_iter().next() {
            Some(id) => self.commit(id).await,
            None => Err(GitError::ReferenceUnknown {
                repository: self.repository.clone(),
                reference: reference.to_owned(),
                near: self.near(reference).await?,
            }),
        }
    }

    /// Everything below a folder of a commit, folders included, sorted by path.
    ///
    /// # Errors
    /// [`GitError::FolderUnknown`], or git itself fails; also for names that are not UTF-8.
    pub async fn list(&self, commit: &str, folder: &str) -> Result<Vec<Entry>, GitError> {
        self.tree(commit, folder, &["ls-tree", "-r", "-t", "-z", "-l", "--full-tree", "--end-of-options"]).await
    }

    /// What lies in a folder of a commit itself, sorted by path.
    ///
    /// # Errors
    /// As [`Mirror::list`].
    pub async fn list_names(&self, commit: &str, folder: &str) -> Result<Vec<Entry>, GitError> {
        self.tree(commit, folder, &["ls-tree", "-z", "-l", "--full-tree", "--end-of-options"]).await
    }

    async fn tree(&self, commit: &str, folder: &str, arguments: &[&str]) -> Result<Vec<Entry>, GitError> {
        let tree = if folder.is_empty() { format!("{commit}^{{tree}}") } else { format!("{commit}:{folder}") };
        if self.ask(&["cat-file", "-t"], &tree).await?.as_deref() != Some("tree") {
            return Err(GitError::FolderUnknown { folder: folder.to_owned() });
        }
        let listing = self.run("ls-tree", arguments, &[&tree]).await?;
        let mut entries = entries(&listing)?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Whether the mirror has a commit.
    ///
    /// # Errors
    /// Git itself fails.
    pub async fn has(&self, commit: &str) -> Result<bool, GitError> {
        Ok(self.commit_id(commit).await?.is_some())
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// It is not there, or longer than `bytes_max`.
    pub async fn blob(&self, entry: &Entry, bytes_max: u64) -> Result<Vec<u8>, GitError> {
        if entry.size_bytes > bytes_max {
            let why = format!("{} has {} bytes, more than the {bytes_max} that are read", entry.path, entry.size_bytes);
            return Err(GitError::Failed { action: "cat-file", why });
        }
        self.run("cat-file", &["cat-file", "blob"], &[&entry.id]).await
    }

    async fn fetch_refs(&self, prune: bool, refs: &[&str]) -> Result<(), GitError> {
        let mut arguments =
            vec!["-c", "gc.autoDetach=false", "fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head"];
        if prune {
            arguments.push("--prune");
        }
        arguments.push("--");
        let mut given = vec![self.repository.as_str()];
        given.extend(refs);
        match self.run_within("fetch", &arguments, &given, FETCH_SECONDS_MAX).await {
            Ok(_) => Ok(()),
            Err(GitError::Failed { why, .. }) => {
                Err(GitError::Unreachable { repository: self.repository.clone(), why })
            }
            Err(error) => Err(error),
        }
    }

    /// A full or shortened commit id; a full one is asked of the repository when no branch or tag leads to it.
    async fn commit_of_digits(&self, digits: &str) -> Result<Option<String>, GitError> {
        if let Some(id) = self.commit_id(digits).await? {
            return Ok(Some(id));
        }
        let near = self.ask(&["rev-parse", &format!("--disambiguate={digits}")], "").await?.unwrap_or_default();
        if near.lines().count() > 1 {
            let why = format!("{} objects begin with it; write more digits", near.lines().count());
            return Err(GitError::ReferenceAmbiguous { reference: digits.to_owned(), why });
        }
        if digits.len() >= 40 && self.fetch_refs(false, &[digits]).await.is_ok() {
            return self.commit_id(digits).await;
        }
        Ok(None)
    }

    async fn commit_id(&self, name: &str) -> Result<Option<String>, GitError> {
        self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options"], &format!("{name}^{{commit}}")).await
    }

    async fn commit(&self, id: String) -> Result<Commit, GitError> {
        let shown = self.run("log", &["log", "-1", "--format=%ct", "--end-of-options"], &[&id]).await?;
        let seconds = String::from_utf8_lossy(&shown).trim().parse().unwrap_or(0);
        Ok(Commit { id, seconds })
    }

    async fn near(&self, reference: &str) -> Result<Vec<String>, GitError> {
        let refs = self
            .run("for-each-ref", &["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags"], &[])
            .await?;
        let refs = String::from_utf8_lossy(&refs).into_owned();
        Ok(nearest(reference, refs.lines(), NEAR_REFS_MAX))
    }

    /// The answer to a question that may have none.
    async fn ask(&self, arguments: &[&str], given: &str) -> Result<Option<String>, GitError> {
        let given: &[&str] = if given.is_empty() { &[] } else { &[given] };
        match self.run("rev-parse", arguments, given).await {
            Ok(answer) => {
                Ok(Some(String::from_utf8_lossy(&answer).trim().to_owned()).filter(|answer| !answer.is_empty()))
            }
            Err(GitError::Failed { why, .. })
                if !why.contains("not a git repository") && !why.contains("took longer") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn run(&self, action: &'static str, arguments: &[&str], given: &[&str]) -> Result<Vec<u8>, GitError> {
        self.run_within(action, arguments, given, ANSWER_SECONDS_MAX).await
    }

    async fn run_within(
        &self,
        action: &'static str,
        arguments: &[&str],
        given: &[&str],
        seconds_max: u64,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .args(given)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for name in LOCAL_VARIABLES {
            command.env_remove(name);
        }
        if action != "init" {
            command.env("GIT_DIR", &self.folder);
        }
        // Nobody is there to be asked for a password, and messages are read by programs.
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS.join(":"))
            .env("GIT_CONFIG_GLOBAL", self.config_file())
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C");
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        let error = |why: String| GitError::Failed { action, why };
        let mut child = command.spawn().map_err(|cause| {
            error(format!("the git command cannot be started ({cause}); install git on the hub's machine"))
        })?;
        let output = bounded(child.stdout.take(), ANSWER_BYTES_MAX);
        let complaint = bounded(child.stderr.take(), COMPLAINT_BYTES_MAX);
        let whole = async { tokio::join!(output, complaint, child.wait()) };
        let Ok((output, complaint, status)) = tokio::time::timeout(Duration::from_secs(seconds_max), whole).await
        else {
            return Err(error(format!("it took longer than {seconds_max} seconds")));
        };
        let (output, is_cut) = output.map_err(|cause| error(cause.to_string()))?;
        let (complaint, _) = complaint.map_err(|cause| error(cause.to_string()))?;
        if !status.map_err(|cause| error(cause.to_string()))?.success() {
            return Err(error(complaint_readable(&complaint)));
        }
        if is_cut {
            return Err(error(format!("it answered more than {ANSWER_BYTES_MAX} bytes")));
        }
        Ok(output)
    }

    fn config_file(&self) -> PathBuf {
        self.folder.join("longshore.gitconfig")
    }
}

/// Reads to the end, keeps the first `bytes_max`, and says whether there was more.
async fn bounded(stream: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return Ok((kept, false)) };
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    (&mut stream).take(limit).read_to_end(&mut kept).await?;
    let more = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok((kept, more > 0))
}

fn failed(action: &'static str, error: &dyn std::error::Error) -> GitError {
    GitError::Failed { action, why: error.to_string() }
}

/// What git says of every failure to reach a repository, whatever the cause.
const COMPLAINTS_EMPTY: [&str; 3] = [
    "Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

/// Git's own last lines, without its prefixes.
fn complaint_readable(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: ").trim())
        .filter(|line| !line.is_empty() && !line.starts_with("hint:") && !line.starts_with("warning:"))
        .filter(|line| !COMPLAINTS_EMPTY.contains(line))
        .take(4)
        .collect();
    if lines.is_empty() { "it gave no reason".to_owned() } else { lines.join("; ") }
}

/// A person who names a path on the hub's machine means it, whoever owns it. Only a file that git takes for the user's own
/// can say so to the process that reads the other repository; the user's real settings are read first.
fn config_text(repository: &str) -> String {
    let path = repository.strip_prefix("file://").unwrap_or(repository).trim_end_matches('/');
    let mut text = "[include]\n\tpath = ~/.gitconfig\n".to_owned();
    if path.starts_with('/') {
        let quoted = path.replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format!("[safe]\n\tdirectory = \"{quoted}\"\n\tdirectory = \"{quoted}/.git\"\n"));
    }
    text
}

/// Reads `ls-tree -r -t -z -l`: `MODE SP TYPE SP ID SP+ SIZE TAB PATH NUL`.
fn entries(listing: &[u8]) -> Result<Vec<Entry>, GitError> {
    let error = |why: String| GitError::Failed { action: "ls-tree", why };
    let mut entries = Vec::new();
    for record in listing.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
        let record = std::str::from_utf8(record).map_err(|_| {
            error(format!("the file name {:?} is not UTF-8; rename it", String::from_utf8_lossy(record)))
        })?;
        let malformed = || error(format!("its answer {record:?} cannot be read"));
        let (head, path) = record.split_once('\t').ok_or_else(malformed)?;
        let mut words = head.split_whitespace();
        let (mode, _type, id, size) = (words.next(), words.next(), words.next(), words.next());
        let kind = mode.and_then(EntryKind::of_mode).ok_or_else(malformed)?;
        // Git itself never writes such names; a repository made by hand could, to write elsewhere.
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\\') && cfg!(windows) {
            return Err(error(format!("the path {path:?} leads out of the repository")));
        }
        entries.push(Entry {
            path: path.to_owned(),
            kind,
            id: id.ok_or_else(malformed)?.to_owned(),
            size_bytes: size.and_then(|size| size.parse().ok()).unwrap_or(0),
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_leads_out_is_refused() {
        assert_eq!(entries(b"100644 blob abc       3\ta/b\0").unwrap()[0].path, "a/b");
        for listing in
            ["100644 blob abc 3\t../b\0", "100644 blob abc 3\ta//b\0", "999 blob abc 3\tb\0", "100644 blob\0"]
        {
            assert!(entries(listing.as_bytes()).is_err(), "{listing}");
        }
        assert!(entries(b"100644 blob abc 3\t\xff\0").is_err());
    }
}
