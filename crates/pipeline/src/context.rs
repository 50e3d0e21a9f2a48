//! The build context: which entries of a commit's tree go into it, and the tar that the engine gets, made straight from
//! Git objects so that nothing on a disk can slip in.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use engine::build::TarBody;

use crate::git::{Entry, EntryKind};
use engine::build::Ignore;

/// The longest target of a symbolic link, in bytes: what Linux takes.
const SYMLINK_BYTES_MAX: u64 = 4096;

/// A folder in the context that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} is a Git submodule")]
pub struct SubmoduleError {
    /// Its path in the context.
    pub path: String,
}

/// The entries of a context: what `.dockerignore` leaves, with the folders above what it leaves, and the Dockerfile and
/// `.dockerignore` themselves, which the builder needs even where they are left out.
///
/// # Errors
/// One of them is a submodule.
pub fn select(entries: Vec<Entry>, ignore: &Ignore, dockerfile: &str) -> Result<Vec<Entry>, SubmoduleError> {
    let mut matcher = ignore.matcher();
    let kept: BTreeSet<String> = entries
        .iter()
        .filter(|entry| entry.path == dockerfile || !matcher.is_ignored(&entry.path))
        .map(|entry| entry.path.clone())
        .collect();
    let mut above: BTreeSet<&str> = BTreeSet::new();
    for path in &kept {
        let mut rest = path.as_str();
        while let Some((folder, _)) = rest.rsplit_once('/') {
            above.insert(folder);
            rest = folder;
        }
    }
    let selected: Vec<Entry> =
        entries.into_iter().filter(|entry| kept.contains(&entry.path) || above.contains(entry.path.as_str())).collect();
    match selected.iter().find(|entry| entry.kind == EntryKind::Submodule) {
        Some(submodule) => Err(SubmoduleError { path: submodule.path.clone() }),
        None => Ok(selected),
    }
}

/// The tar of a context. Everything belongs to root and has the commit's time: the tar follows from the commit alone.
pub fn tar(mirror: PathBuf, entries: Vec<Entry>, seconds: u64) -> TarBody {
    TarBody::from_writer(move |writer| write_tar(writer, &mirror, &entries, seconds))
}

/// Writes the tar of a context.
///
/// # Errors
/// An object cannot be read from the mirror, or the writer fails.
pub fn write_tar(writer: &mut dyn Write, mirror: &Path, entries: &[Entry], seconds: u64) -> io::Result<()> {
    let mut objects = Objects::open(mirror)?;
    let mut archive = tar::Builder::new(writer);
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(seconds);
        header.set_uid(0);
        header.set_gid(0);
        match entry.kind {
            EntryKind::File | EntryKind::Executable => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if entry.kind == EntryKind::Executable { 0o755 } else { 0o644 });
                let content = objects.read(entry)?;
                header.set_size(entry.size_bytes);
                archive.append_data(&mut header, &entry.path, content)?;
                objects.end()?;
            }
            EntryKind::Symlink => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                let mut target = Vec::new();
                if entry.size_bytes > SYMLINK_BYTES_MAX {
                    return Err(io::Error::other(format!(
                        "the target of symlink {} is longer than 4096 bytes",
                        entry.path
                    )));
                }
                objects.read(entry)?.read_to_end(&mut target)?;
                objects.end()?;
                let target = String::from_utf8(target)
                    .map_err(|_| io::Error::other(format!("the target of symlink {} is not UTF-8", entry.path)))?;
                archive.append_link(&mut header, &entry.path, &target)?;
            }
            EntryKind::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, format!("{}/", entry.path), io::empty())?;
            }
            EntryKind::Submodule => return Err(io::Error::other(format!("{} is a submodule", entry.path))),
        }
    }
    archive.into_inner()?.flush()
}

/// `git cat-file --batch`, asked for one object after the other.
struct Objects {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Objects {
    fn open(mirror: &Path) -> io::Result<Self> {
        let mut child = Command::new("git")
            .args(["cat-file", "--batch"])
            .env("GIT_DIR", mirror)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(questions), Some(answers)) => {
                Ok(Self { child, questions, answers: BufReader::with_capacity(256 * 1024, answers) })
            }
            _ => Err(io::Error::other("git has no pipes")),
        }
    }

    fn read(&mut self, entry: &Entry) -> io::Result<impl Read + '_> {
        self.questions.write_all(format!("{}\n", entry.id).as_bytes())?;
        let mut head = String::new();
        (&mut self.answers).take(256).read_line(&mut head)?;
        // `ID SP TYPE SP SIZE`
        let size = head.trim_end().strip_prefix(entry.id.as_str()).and_then(|rest| rest.strip_prefix(" blob "));
        match size.and_then(|size| size.parse().ok()) {
            Some(size) if entry.size_bytes == size => Ok((&mut self.answers).take(size)),
            _ => Err(io::Error::other(format!("git has another object for {}: {}", entry.path, head.trim_end()))),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        let mut end = [0];
        self.answers.read_exact(&mut end)?;
        if end == *b"\n" { Ok(()) } else { Err(io::Error::other("git's answer is longer than it said")) }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // It may have ended by itself; either way it must not stay behind.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.to_owned(), kind, id: "0".to_owned(), size_bytes: 0 }
    }

    fn selected(text: &str, paths: &[(&str, EntryKind)]) -> Vec<String> {
        let entries = paths.iter().map(|(path, kind)| entry(path, *kind)).collect();
        let selected = select(entries, &Ignore::parse(text).unwrap(), "Dockerfile").unwrap();
        selected.into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn what_is_kept_brings_its_folders_and_the_dockerfile_stays() {
        use EntryKind::{File, Folder};
        let tree = [("Dockerfile", File), ("a", Folder), ("a/b", Folder), ("a/b/x", File), ("a/y", File), ("z", File)];
        assert_eq!(selected("*\n!a/b/x", &tree), ["Dockerfile", "a", "a/b", "a/b/x"]);
        assert_eq!(selected("a/*", &tree), ["Dockerfile", "a", "z"]);
        assert_eq!(selected("**", &tree), ["Dockerfile"]);
    }

    #[test]
    fn a_submodule_is_refused_unless_it_is_left_out() {
        let tree = || vec![entry("lib", EntryKind::Submodule), entry("x", EntryKind::File)];
        assert_eq!(select(tree(), &Ignore::default(), "Dockerfile").unwrap_err().path, "lib");
        assert_eq!(select(tree(), &Ignore::parse("lib").unwrap(), "Dockerfile").unwrap().len(), 1);
    }
}
