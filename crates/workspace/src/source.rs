//! The build context of a service from source: what of a folder goes into it, a digest of all that, and the tar that the
//! engine gets.
//!
//! Files are hashed by their content and not by their times, so that going to another branch and back builds nothing.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base::folder::file_read;
use compose::model::Build;
use engine::Labels;
use engine::build::{BuildOptions, Ignore, TarBody};
use engine::definition::build_options;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};

/// The most files of a context: each is read with every `up`.
const FILES_MAX: usize = 500_000;
/// The deepest folder of a context.
const FOLDERS_DEEP_MAX: usize = 100;
/// The longest Dockerfile or `.dockerignore`.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// The Dockerfile's usual name.
const DOCKERFILE: &str = "Dockerfile";
/// Where a Dockerfile from outside its context stands in the tar.
const DOCKERFILE_OUTSIDE: &str = ".longshore.Dockerfile";

/// A context on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    folder: PathBuf,
    entries: Vec<Entry>,
    dockerfile: Dockerfile,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Dockerfile {
    Inside(String),
    Outside(PathBuf),
    Inline(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Relative to the context.
    path: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    File { executable: bool },
    Link(PathBuf),
}

impl Context {
    /// Reads what is in a context, after its `.dockerignore`. `root` is the project's folder.
    ///
    /// # Errors
    /// [`ErrorKind::Build`] when the context is not a folder on this machine, has no Dockerfile, or cannot be read.
    pub fn read(root: &Path, build: &Build) -> Result<Self, Error> {
        let wrong = |why: String, hint: &str| Error::new(ErrorKind::Build, why, hint);
        if build.is_remote() {
            let dockerfile = Dockerfile::Inside(build.dockerfile.clone().unwrap_or_else(|| DOCKERFILE.to_owned()));
            return Ok(Self { folder: root.to_owned(), entries: Vec::new(), dockerfile });
        }
        let folder = match build.context.strip_prefix("~/").zip(std::env::home_dir()) {
            Some((rest, home)) => home.join(rest),
            None => root.join(&build.context),
        };
        if !folder.is_dir() {
            let why = format!("the context {} is not a folder", folder.display());
            return Err(wrong(why, "Mend `build.context`; it is relative to the Compose file."));
        }
        let named = build.dockerfile.as_deref().unwrap_or(DOCKERFILE);
        let path = folder.join(named);
        let read = |path: &Path| {
            let unreadable = |error: base::folder::FolderError| wrong(error.to_string(), "Mend it and try again.");
            file_read(path, TEXT_BYTES_MAX).map_err(unreadable)
        };
        if build.dockerfile_inline.is_none() && read(&path)?.is_none() {
            let why = format!("there is no {}", path.display());
            return Err(wrong(why, "Write one, or name another under `build.dockerfile`."));
        }
        let inside = if build.dockerfile_inline.is_some() { None } else { relative(&folder, &path) };
        // A Dockerfile's own list of what is left out replaces the common one.
        let own = read(&path.with_file_name(format!("{}.dockerignore", file_name(&path))))?;
        let list = match own {
            Some(own) => Some(own),
            None => read(&folder.join(".dockerignore"))?,
        };
        let ignore = Ignore::parse(&String::from_utf8_lossy(&list.unwrap_or_default())).map_err(|error| {
            wrong(format!("{}: {error}", folder.join(".dockerignore").display()), "Mend that line.")
        })?;
        let mut entries = Vec::new();
        let mut walk = Walk { folder: &folder, ignore: &ignore, keep: inside.as_deref(), entries: &mut entries };
        walk.folder("", 0).map_err(|error| {
            wrong(
                format!("the context {} cannot be read: {error}", folder.display()),
                "Leave it out with .dockerignore.",
            )
        })?;
        let dockerfile = match (&build.dockerfile_inline, inside) {
            (Some(text), _) => Dockerfile::Inline(text.clone()),
            (None, Some(inside)) => Dockerfile::Inside(inside),
            (None, None) => Dockerfile::Outside(path),
        };
        Ok(Self { folder, entries, dockerfile })
    }

    /// Digest of all that decides what is built, in hex: files, Dockerfile, arguments, target, labels.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digest(&self, build: &Build) -> io::Result<String> {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            hasher.update(text.len().to_le_bytes());
            hasher.update(text);
        };
        // Everything that the Compose file says of the build, in its one canonical form.
        part(&serde_json::to_string(build).map_err(io::Error::other)?);
        if let Dockerfile::Inside(path) = &self.dockerfile {
            part(path);
        }
        let mut buffer = vec![0; READ_BYTES];
        if let Dockerfile::Outside(path) = &self.dockerfile {
            hash_file(&mut hasher, path, &mut buffer)?;
        }
        for entry in &self.entries {
            hasher.update(entry.path.len().to_le_bytes());
            hasher.update(&entry.path);
            match &entry.kind {
                Kind::Folder => hasher.update(b"d"),
                Kind::Link(target) => {
                    hasher.update(b"l");
                    let target = target.as_os_str().as_encoded_bytes();
                    hasher.update(target.len().to_le_bytes());
                    hasher.update(target);
                }
                Kind::File { executable } => {
                    hasher.update(if *executable { b"x" } else { b"f" });
                    hash_file(&mut hasher, &self.folder.join(&entry.path), &mut buffer)?;
                }
            }
        }
        Ok(hex::encode(hasher.finalize()))
    }

    /// How it is built, under this name on the engine.
    pub fn options(&self, build: &Build, reference: &str, labels: &Labels) -> BuildOptions {
        let dockerfile = match &self.dockerfile {
            Dockerfile::Inside(path) => path.clone(),
            Dockerfile::Outside(_) | Dockerfile::Inline(_) => DOCKERFILE_OUTSIDE.to_owned(),
        };
        let mut options = build_options(build, Some(dockerfile));
        options.labels.extend(labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        options.tags.push(reference.to_owned());
        options
    }

    /// The tar of it, read as the engine takes it. Times and owners are the same for everybody, so that BuildKit's cache
    /// looks at content alone.
    pub fn tar(self) -> TarBody {
        TarBody::from_writer(move |writer| self.write(writer))
    }

    fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(writer);
        match &self.dockerfile {
            Dockerfile::Inside(_) => {}
            Dockerfile::Outside(path) => append_file(&mut archive, DOCKERFILE_OUTSIDE, path, false)?,
            Dockerfile::Inline(text) => {
                let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
                archive.append_data(&mut header, DOCKERFILE_OUTSIDE, text.as_bytes())?;
            }
        }
        for entry in &self.entries {
            match &entry.kind {
                Kind::File { executable } => {
                    append_file(&mut archive, &entry.path, &self.folder.join(&entry.path), *executable)?;
                }
                Kind::Folder => {
                    let mut header = header(tar::EntryType::Directory, 0o755, 0);
                    archive.append_data(&mut header, format!("{}/", entry.path), io::empty())?;
                }
                Kind::Link(target) => {
                    let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                    archive.append_link(&mut header, &entry.path, target)?;
                }
            }
        }
        archive.finish()
    }
}

fn header(kind: tar::EntryType, mode: u32, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes);
    header
}

fn append_file<W: Write>(archive: &mut tar::Builder<W>, name: &str, path: &Path, executable: bool) -> io::Result<()> {
    let file = std::fs::File::open(path).map_err(|error| named(path, error))?;
    let bytes = file.metadata()?.len();
    let mode = if executable { 0o755 } else { 0o644 };
    let mut header = header(tar::EntryType::Regular, mode, bytes);
    // A file that grows meanwhile must not break the archive's form; what it lacks is an error below.
    archive.append_data(&mut header, name, Exactly { file, left: bytes })
}

/// A file with just as many bytes as it had.
struct Exactly {
    file: std::fs::File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn hash_file(hasher: &mut Sha256, path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = std::fs::File::open(path).map_err(|error| named(path, error))?;
    let mut content = Sha256::new();
    loop {
        let count = file.read(buffer).map_err(|error| named(path, error))?;
        if count == 0 {
            break;
        }
        content.update(&buffer[..count]);
    }
    hasher.update(content.finalize());
    Ok(())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

struct Walk<'a> {
    folder: &'a Path,
    ignore: &'a Ignore,
    keep: Option<&'a str>,
    entries: &'a mut Vec<Entry>,
}

impl Walk<'_> {
    fn folder(&mut self, path: &str, depth: usize) -> io::Result<()> {
        let mut matcher = self.ignore.matcher();
        self.inside(path, depth, &mut matcher)?;
        Ok(())
    }

    /// The entries below a folder, in order of name; whether there are any.
    fn inside(&mut self, path: &str, depth: usize, matcher: &mut engine::build::Matcher<'_>) -> io::Result<bool> {
        if depth > FOLDERS_DEEP_MAX {
            return Err(io::Error::other(format!("{path} is more than {FOLDERS_DEEP_MAX} folders deep")));
        }
        let here = self.folder.join(path);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&here).map_err(|error| named(&here, error))? {
            let entry = entry?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|name| io::Error::other(format!("the name {} is not UTF-8", Path::new(&name).display())))?;
            names.push((name, entry.file_type()?));
        }
        names.sort_by(|left, right| left.0.cmp(&right.0));
        let mut any = false;
        for (name, kind) in names {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            if self.entries.len() >= FILES_MAX {
                return Err(io::Error::other(format!("it has more than {FILES_MAX} files")));
            }
            let is_kept = self.keep == Some(path.as_str()) || !matcher.is_ignored(&path);
            if kind.is_dir() && !is_kept && !self.ignore.brings_back() {
                continue;
            }
            if kind.is_dir() {
                // What is in a folder that is left out may be brought back by a later `!`.
                let place = self.entries.len();
                self.entries.push(Entry { path: path.clone(), kind: Kind::Folder });
                let filled = self.inside(&path, depth + 1, matcher)?;
                if !filled && !is_kept {
                    self.entries.truncate(place);
                } else {
                    any = true;
                }
            } else if is_kept {
                let full = self.folder.join(&path);
                let kind = if kind.is_symlink() {
                    Kind::Link(std::fs::read_link(&full).map_err(|error| named(&full, error))?)
                } else if kind.is_file() {
                    let mode = std::fs::metadata(&full).map_err(|error| named(&full, error))?.permissions().mode();
                    Kind::File { executable: mode & 0o111 != 0 }
                } else {
                    // Sockets and pipes are no content; the engine's own client leaves them out, too.
                    continue;
                };
                self.entries.push(Entry { path, kind });
                any = true;
            }
        }
        Ok(any)
    }
}

/// A path inside a folder, as the tar has it; `None` when it leads out.
fn relative(folder: &Path, path: &Path) -> Option<String> {
    let (folder, path) = (folder.canonicalize().ok()?, path.canonicalize().ok()?);
    path.strip_prefix(folder).ok()?.to_str().map(str::to_owned)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
