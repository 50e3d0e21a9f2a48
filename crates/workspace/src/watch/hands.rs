//! Carries an update out in containers: removes, copies, runs, restarts.
//!
//! Copies go as one tar for each rule and container. An engine's archive has no word for "remove", so removals are `rm` in
//! the container, given its paths one by one and no shell. An image without `rm` keeps what should be gone until it is built
//! again; that is told.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::build::TarBody;
use engine::{Engine, EngineError, ErrorKind, ExecOptions, SessionInput, SessionOutput};
use futures::StreamExt;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, open, readlinkat, statat};
use rustix::io::Errno;

use super::eyes::join;
use super::ledger::Below;
use super::owner::{Owner, Owners};
use super::plan::{Copied, Outcome, SyncWork, Update};
use super::stamp::Stamp;
use crate::hooks;

/// Paths and bytes of paths in one `rm`: the kernel takes 128 KiB in one argument and 2 MiB in all, and less in some.
const REMOVE_PATHS_MAX: usize = 1000;
const REMOVE_BYTES_MAX: usize = 96 * 1024;
/// Output of a command that is kept for a report: its last bytes.
const OUTPUT_BYTES_MAX: usize = 4096;
/// How long one `rm` may take.
const REMOVE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a command of `sync+exec` may take: later changes wait for it.
const EXEC_TIME_MAX: Duration = Duration::from_secs(600);

/// How an update ended, for the planner and for people.
#[derive(Debug)]
pub struct Report {
    /// For [`super::Watcher::ended`].
    pub outcome: Outcome,
    /// What a person should know: why it failed, a file that cannot be read, a command that ended badly.
    pub notices: Vec<String>,
}

/// Carries updates out. Remembers whose files containers have.
#[derive(Debug, Default)]
pub struct Hands {
    owners: Owners,
}

/// What goes wrong on the way.
enum Fault {
    Engine(EngineError),
    /// `rm` is not in the image.
    NoRemove,
    /// A program ended badly: its code, and the end of its output.
    Ended(String, i64, String),
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl Hands {
    /// Carries an update out in all of its containers, one after the other; `grace` is what a container gets to stop
    /// before it is restarted. What is done twice is done once.
    pub async fn update(&mut self, engine: &dyn Engine, update: &Update, grace: Duration) -> Report {
        let mut notices = Vec::new();
        let mut copied: Option<Vec<Vec<Copied>>> = None;
        let mut removed = true;
        for container in &update.containers {
            let done = self.container(engine, container, update, grace, &mut removed, &mut notices).await;
            let here = match done {
                Ok(here) => here,
                Err(fault) => {
                    notices.push(fault.text(container));
                    return Report { outcome: Outcome::Failed, notices };
                }
            };
            copied = Some(match copied {
                None => here,
                Some(before) => before.into_iter().zip(here).map(|(before, here)| agree(before, here)).collect(),
            });
        }
        notices.dedup();
        let copied = copied.unwrap_or_default();
        let outcome = if removed { Outcome::Done(copied) } else { Outcome::NotRemoved(copied) };
        Report { outcome, notices }
    }

    async fn container(
        &mut self,
        engine: &dyn Engine,
        container: &str,
        update: &Update,
        grace: Duration,
        removed: &mut bool,
        notices: &mut Vec<String>,
    ) -> Result<Vec<Vec<Copied>>, Fault> {
        let mut copied = Vec::new();
        for sync in &update.syncs {
            match remove(engine, container, sync, notices).await {
                Err(Fault::NoRemove) => {
                    *removed = false;
                    notices.push(kept_there(sync));
                }
                done => done?,
            }
            copied.push(self.copy(engine, container, sync, notices).await?);
        }
        for options in &update.execs {
            match run(engine, container, options, EXEC_TIME_MAX).await {
                Ok(()) => {}
                // What was copied is copied; the next change runs it again.
                Err(fault @ Fault::Ended(..)) => notices.push(fault.text(container)),
                Err(fault) => return Err(fault),
            }
        }
        if update.restart {
            restart(engine, container, grace, notices).await?;
        }
        Ok(copied)
    }

    async fn copy(
        &mut self,
        engine: &dyn Engine,
        container: &str,
        sync: &SyncWork,
        notices: &mut Vec<String>,
    ) -> Result<Vec<Copied>, Fault> {
        if sync.put.is_empty() {
            return Ok(Vec::new());
        }
        let owner = self.owners.of(engine, container).await?;
        let (folder, name) = place(sync);
        let mut packed = Arc::new(Mutex::new(Packed::default()));
        let archive = pack(sync, &name, owner, &packed);
        match engine.container_archive_put(container, &folder, archive).await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                engine.container_archive_put(container, "/", folder_alone(&folder, owner)).await?;
                packed = Arc::default();
                engine.container_archive_put(container, &folder, pack(sync, &name, owner, &packed)).await?;
            }
            done => done?,
        }
        let packed = std::mem::take(&mut *packed.lock().unwrap_or_else(PoisonError::into_inner));
        notices.extend(packed.notices);
        Ok(packed.copied)
    }
}

/// Only what all containers have the same state of is copied.
fn agree(before: Vec<Copied>, here: Vec<Copied>) -> Vec<Copied> {
    let pair = |(before, here): (Copied, Copied)| match (&before, &here) {
        (Copied::Whole(first), Copied::Whole(second)) if first != second => Copied::Changing(*second),
        (Copied::Whole(_), _) => here,
        _ => before,
    };
    before.into_iter().zip(here).map(pair).collect()
}

/// The folder in the container that the tar is unpacked at, and the name of the rule's path in it: empty for a folder.
fn place(sync: &SyncWork) -> (String, String) {
    let alone = sync.put.iter().any(|path| path.is_empty());
    if !alone {
        return (sync.target.clone(), String::new());
    }
    let own = sync.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match sync.target.rsplit_once('/') {
        Some((folder, "")) => (folder_or_root(folder), own),
        Some((folder, name)) => (folder_or_root(folder), name.to_owned()),
        None => ("/".to_owned(), own),
    }
}

fn folder_or_root(folder: &str) -> String {
    if folder.is_empty() { "/".to_owned() } else { folder.to_owned() }
}

/// The path in the container of a path below the rule's.
fn there(sync: &SyncWork, below: &[u8]) -> Vec<u8> {
    if below.is_empty() {
        let own = sync.path.file_name().unwrap_or_default().as_bytes();
        let target = sync.target.as_bytes();
        return match target.strip_suffix(b"/") {
            Some(folder) => [folder, b"/", own].concat(),
            None => target.to_vec(),
        };
    }
    let target = sync.target.trim_end_matches('/').as_bytes();
    [target, b"/", below].concat()
}

fn kept_there(sync: &SyncWork) -> String {
    format!(
        "{} removed here stay below {} in containers, whose image has no `rm`; they go when the image is built again",
        if sync.remove.len() == 1 { "a path".to_owned() } else { format!("{} paths", sync.remove.len()) },
        sync.target
    )
}

/// Removes what is gone. What is below something that is removed goes with it.
async fn remove(engine: &dyn Engine, container: &str, sync: &SyncWork, notices: &mut Vec<String>) -> Result<(), Fault> {
    let mut arguments: Vec<String> = Vec::new();
    let mut bytes = 0;
    let mut above: Option<&[u8]> = None;
    for path in &sync.remove {
        // Sorted: what is below a path comes after it, with nothing that is not below it, but for names like `a-b` after `a`.
        if above.is_some_and(|above| super::eyes::below(path, above).is_some()) {
            continue;
        }
        above = Some(path);
        match String::from_utf8(there(sync, path)) {
            Ok(path) => {
                bytes += path.len();
                arguments.push(path);
            }
            Err(error) => notices.push(format!(
                "{} stays in containers: its name is not UTF-8",
                String::from_utf8_lossy(error.as_bytes())
            )),
        }
        if arguments.len() == REMOVE_PATHS_MAX || bytes > REMOVE_BYTES_MAX {
            remove_now(engine, container, std::mem::take(&mut arguments)).await?;
            bytes = 0;
        }
    }
    remove_now(engine, container, arguments).await
}

async fn remove_now(engine: &dyn Engine, container: &str, paths: Vec<String>) -> Result<(), Fault> {
    if paths.is_empty() {
        return Ok(());
    }
    let command = ["rm", "-rf", "--"].map(str::to_owned).into_iter().chain(paths).collect();
    let options = ExecOptions { command, user: Some("0:0".to_owned()), ..ExecOptions::default() };
    match run(engine, container, &options, REMOVE_TIME_MAX).await {
        Err(Fault::Ended(_, 126 | 127, _)) => Err(Fault::NoRemove),
        Err(Fault::Engine(error)) if error.why.contains("executable file not found") => Err(Fault::NoRemove),
        done => done,
    }
}

/// Restarts a container with what its service has run before a stop and after a start.
async fn restart(
    engine: &dyn Engine,
    container: &str,
    grace: Duration,
    notices: &mut Vec<String>,
) -> Result<(), Fault> {
    let labels = engine.container_inspect(container).await?.map(|found| found.labels).unwrap_or_default();
    let mut hooked = async |label: &str| match hooks::run(engine, container, &hooks::of(&labels, label)).await {
        Err(error) if error.kind == ErrorKind::Unreachable => Err(error),
        Err(error) => {
            notices.push(error.to_string());
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    hooked(hooks::LABEL_PRE_STOP).await?;
    engine.container_restart(container, grace).await?;
    Ok(hooked(hooks::LABEL_POST_START).await?)
}

/// Runs a command to its end; anything but 0 is a fault.
async fn run(engine: &dyn Engine, container: &str, options: &ExecOptions, limit: Duration) -> Result<(), Fault> {
    let name = options.command.join(" ");
    let work = async {
        let mut session = engine.container_exec(container, options, SessionInput::default()).await?;
        let mut output: Vec<u8> = Vec::new();
        while let Some(said) = session.next().await {
            match said? {
                SessionOutput::Stdout(bytes) | SessionOutput::Stderr(bytes) => {
                    output.extend_from_slice(&bytes);
                    let spare = output.len().saturating_sub(OUTPUT_BYTES_MAX);
                    output.drain(..spare);
                }
                SessionOutput::Ended(0) => return Ok(()),
                SessionOutput::Ended(code) => {
                    let output = String::from_utf8_lossy(&output).trim().to_owned();
                    return Err(Fault::Ended(name.clone(), code, output));
                }
            }
        }
        Err(Fault::Ended(name.clone(), -1, "its end was never told".to_owned()))
    };
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(Fault::Ended(name, -1, format!("it did not end within {} s", limit.as_secs()))),
    }
}

impl Fault {
    fn text(&self, container: &str) -> String {
        let container = container.get(..12).unwrap_or(container);
        match self {
            Self::Engine(error) => match &error.hint {
                Some(hint) => format!("{error}; {hint}"),
                None => error.to_string(),
            },
            Self::NoRemove => format!("container {container} has no `rm`"),
            Self::Ended(command, code, output) if output.is_empty() => {
                format!("`{command}` in container {container} ended with {code}")
            }
            Self::Ended(command, code, output) => {
                format!("`{command}` in container {container} ended with {code}: {output}")
            }
        }
    }
}

/// What became of the paths of a tar.
#[derive(Debug, Default)]
struct Packed {
    copied: Vec<Copied>,
    notices: Vec<String>,
}

/// A tar of one folder that is not there yet.
fn folder_alone(folder: &str, owner: Owner) -> TarBody {
    let name = PathBuf::from(folder.trim_start_matches('/'));
    TarBody::from_writer(move |writer| {
        let mut builder = tar::Builder::new(writer);
        let mut header = header(tar::EntryType::Directory, 0o755, owner);
        builder.append_data(&mut header, &name, io::empty())?;
        builder.finish()
    })
}

fn header(kind: tar::EntryType, mode: u32, owner: Owner) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o7777);
    header.set_uid(owner.user);
    header.set_gid(owner.group);
    header.set_size(0);
    header
}

/// The tar of what is to be copied, as it is while it is being read.
fn pack(sync: &SyncWork, name: &str, owner: Owner, packed: &Arc<Mutex<Packed>>) -> TarBody {
    let (root, name, paths) = (sync.path.clone(), name.as_bytes().to_vec(), sync.put.clone());
    let packed = Arc::clone(packed);
    TarBody::from_writer(move |writer| {
        let mut found = Packed::default();
        let mut builder = tar::Builder::new(writer);
        for below in &paths {
            let copied = pack_path(&mut builder, &root, &name, below, owner, &mut found.notices)?;
            found.copied.push(copied);
        }
        builder.finish()?;
        drop(builder);
        *packed.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    })
}

fn pack_path(
    builder: &mut tar::Builder<&mut dyn Write>,
    root: &Path,
    name: &[u8],
    below: &Below,
    owner: Owner,
    notices: &mut Vec<String>,
) -> io::Result<Copied> {
    let path = if below.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(below)) };
    let name = match (name.is_empty(), below.is_empty()) {
        (true, _) => below.to_vec(),
        (false, true) => name.to_vec(),
        (false, false) => join(name, below),
    };
    let name = Path::new(OsStr::from_bytes(&name));
    let (stat, stamp) = match look(&path) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Copied::Changing(Stamp::NONE)),
        Err(error) => return Ok(unreadable(&path, error, Stamp::UNSURE, notices)),
    };
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => {
            let mut header = header(tar::EntryType::Directory, stat.st_mode, owner);
            header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
            builder.append_data(&mut header, name, io::empty())?;
            Ok(Copied::Whole(stamp))
        }
        rustix::fs::FileType::Symlink => {
            let Ok(target) = readlinkat(CWD, &path, Vec::new()) else {
                return Ok(Copied::Changing(now(&path)));
            };
            let mut header = header(tar::EntryType::Symlink, 0o777, owner);
            header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
            builder.append_link(&mut header, name, OsStr::from_bytes(target.as_bytes()))?;
            Ok(settled(stamp, now(&path)))
        }
        _ => pack_file(builder, &path, name, owner, stamp, notices),
    }
}

fn pack_file(
    builder: &mut tar::Builder<&mut dyn Write>,
    path: &Path,
    name: &Path,
    owner: Owner,
    stamp: Stamp,
    notices: &mut Vec<String>,
) -> io::Result<Copied> {
    // Should a pipe have taken the file's place, opening it does not wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Copied::Changing(now(path))),
        Err(error) => return Ok(unreadable(path, error, stamp, notices)),
    };
    let stat = fstat(&file)?;
    if Stamp::of(&stat) != Some(stamp) {
        return Ok(Copied::Changing(now(path)));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut header = header(tar::EntryType::Regular, stat.st_mode, owner);
    header.set_size(size);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    // Two saves within a second have different times in the container, too: some programs look at nothing else.
    let mtime = format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
    builder.append_pax_extensions([("mtime", mtime.as_bytes())])?;
    // A file that gets shorter while it is read is filled up, and not counted as copied.
    let mut read = (&mut file).take(size).chain(io::repeat(0)).take(size);
    builder.append_data(&mut header, name, &mut read)?;
    let after = fstat(&file)?;
    Ok(if Stamp::of(&after) == Some(stamp) { Copied::Whole(stamp) } else { Copied::Changing(now(path)) })
}

/// What is there; `None` for nothing, or nothing that is copied.
fn look(path: &Path) -> Result<Option<(Stat, Stamp)>, Errno> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Stamp::of(&stat).map(|stamp| (stat, stamp))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn now(path: &Path) -> Stamp {
    look(path).ok().flatten().map_or(Stamp::NONE, |(_, stamp)| stamp)
}

fn settled(before: Stamp, after: Stamp) -> Copied {
    if before == after { Copied::Whole(after) } else { Copied::Changing(after) }
}

/// A file that cannot be read is said and left, until it changes.
fn unreadable(path: &Path, error: Errno, stamp: Stamp, notices: &mut Vec<String>) -> Copied {
    notices.push(format!(
        "{} cannot be read ({error}), and is not copied; change its rights, or ignore it",
        path.display()
    ));
    Copied::Whole(stamp)
}
