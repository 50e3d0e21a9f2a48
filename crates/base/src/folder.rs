//! Folders and small files that must be right: one process per data folder, secrets for the owner alone, and files that
//! are replaced whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK_FILE: &str = "lock";
/// Folders that hold secrets and data are for their owner alone.
const FOLDER_MODE: u32 = 0o700;

/// What can go wrong with a folder or file.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process uses the folder.
    #[error(
        "the data folder {} is in use by {}; stop that process, or choose another folder", folder.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Process id of the holder, when it could be read.
        holder: Option<u32>,
    },
    /// The file system refuses.
    #[error("{} cannot be {action}: {source}; check that the path and its rights are right", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

fn io<'p>(path: &'p Path, action: &'static str) -> impl FnOnce(std::io::Error) -> FolderError + 'p {
    move |source| FolderError::Io { path: path.to_owned(), action, source }
}

/// A folder that belongs to this process as long as the value lives. The kernel frees it however the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Makes the folder if needed (mode 0700) and takes it for this process.
///
/// # Errors
/// [`FolderError::InUse`] with the holder's process id, or [`FolderError::Io`].
pub fn lock(folder: &Path) -> Result<FolderLock, FolderError> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(io(folder, "made"))?;
    let path = folder.join(LOCK_FILE);
    // Not truncated on opening: the holder's process id is in it.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io(&path, "opened"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let holder = file.take(20).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(FolderError::InUse { folder: folder.to_owned(), holder });
        }
        Err(error) => return Err(io(&path, "locked")(error.into())),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(io(&path, "written"))?;
    writeln!(file, "{}", std::process::id()).map_err(io(&path, "written"))?;
    Ok(FolderLock { _file: file })
}

/// Replaces a file durably: after `Ok` the new content survives a power loss, and at any moment a reader sees either
/// the whole old or the whole new content. `mode` is the file's mode, such as `0o600`.
///
/// # Errors
/// [`FolderError::Io`]; the old content is still there then.
pub fn file_replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FolderError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{:08x}.tmp", std::process::id(), rand::random::<u32>()));
    let temporary = folder.join(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(|error| {
        // Without the rename the temporary file is of no use; with it, it does not exist any more.
        let _ = std::fs::remove_file(&temporary);
        io(path, "written")(error)
    })
}

/// The content of a small file, or `None` when there is no such file.
///
/// # Errors
/// [`FolderError::Io`], also when it has more than `bytes_max`.
pub fn file_read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FolderError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path, "opened")(error)),
    };
    let mut content = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut content).map_err(io(path, "read"))?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > bytes_max {
        let error = std::io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes"));
        return Err(io(path, "read")(error));
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_process_on_a_folder_is_told_who_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("deep/data");
        let held = lock(&folder).unwrap();
        let error = lock(&folder).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}; stop that process", std::process::id())), "{error}");
        drop(held);
        lock(&folder).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_replaced_file_has_its_content_and_mode_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert_eq!(file_read(&path, 10).unwrap(), None);
        for content in [b"old".as_slice(), b"new!"] {
            file_replace(&path, content, 0o600).unwrap();
            assert_eq!(file_read(&path, 4).unwrap().unwrap(), content);
        }
        assert!(file_read(&path, 3).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(file_replace(&folder.path().join("absent/file"), b"", 0o600).is_err());
    }
}
