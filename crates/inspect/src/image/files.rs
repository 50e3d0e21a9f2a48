//! The files of an archive or layout, by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;

use super::{Blob, DOCUMENT_BYTES_MAX, ImageError};
use crate::content::Content;
use crate::tar;

/// Entries of an archive of images.
const ENTRIES_MAX: usize = 100_000;
/// Links that lead from one to another: older versions of Docker write a layer that several images share once.
const LINKS_MAX: usize = 8;

/// Files by name.
#[derive(Debug)]
pub(super) enum Files {
    Folder(PathBuf),
    Tar { file: Arc<File>, members: HashMap<Vec<u8>, Member> },
}

#[derive(Debug)]
pub(super) enum Member {
    File { start: u64, length: u64 },
    Link(Vec<u8>),
}

impl Files {
    pub(super) fn folder(path: &Path) -> Result<Self, ImageError> {
        path.canonicalize().map(Self::Folder).map_err(ImageError::Read)
    }

    /// The members of a tar; `None` where it does not begin as one. Contents are not read.
    pub(super) fn tar(file: &File) -> Result<Option<Self>, ImageError> {
        let file = Arc::new(file.try_clone().map_err(ImageError::Read)?);
        let length = file.metadata().map_err(ImageError::Read)?.len();
        let mut head = Vec::new();
        let content = Content::file(&file, 0, length);
        content.reader().take(crate::archive::HEAD_BYTES as u64).read_to_end(&mut head).map_err(ImageError::Read)?;
        if crate::archive::kind(b"", &head) != Some(crate::archive::Kind::Tar) {
            return Ok(None);
        }
        let mut archive = tar::Archive::new(tar::Window::new(content));
        let mut members = HashMap::new();
        loop {
            let entry = match archive.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                // What is no image is looked at as a file, as far as it can be read.
                Err(error) => {
                    let is_image =
                        ["manifest.json", "index.json"].iter().any(|name| members.contains_key(name.as_bytes()));
                    return if is_image { Err(error.into()) } else { Ok(None) };
                }
            };
            // An archive of something else may have any number of entries; that of an image begins with few.
            if members.len() >= ENTRIES_MAX {
                return Ok(None);
            }
            let Ok(path) = crate::path::clean(entry.path) else { continue };
            let member = match entry.kind {
                tar::Kind::File | tar::Kind::Contiguous if !entry.is_sparse => {
                    Member::File { start: entry.content_offset(), length: entry.size }
                }
                tar::Kind::Symlink => Member::Link(beside(path.as_bytes(), entry.link)),
                tar::Kind::HardLink => Member::Link(entry.link.to_vec()),
                _ => continue,
            };
            members.insert(path.as_bytes().to_vec(), member);
        }
        Ok(Some(Self::Tar { file, members }))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.blob(name).is_ok()
    }

    /// The file of that name. A name in a folder never leads out of it.
    pub(super) fn blob(&self, name: &str) -> Result<Blob, ImageError> {
        let missing = || ImageError::Missing(name.escape_debug().to_string());
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name).canonicalize().map_err(|_| missing())?;
                if !path.starts_with(folder) {
                    return Err(missing());
                }
                let file = File::open(&path).map_err(ImageError::Read)?;
                let metadata = file.metadata().map_err(ImageError::Read)?;
                if !metadata.is_file() {
                    return Err(missing());
                }
                Ok(Blob { file: Arc::new(file), start: 0, length: metadata.len() })
            }
            Self::Tar { file, members } => {
                let mut name = name.as_bytes();
                for _ in 0..LINKS_MAX {
                    match members.get(name).ok_or_else(missing)? {
                        Member::File { start, length } => {
                            return Ok(Blob { file: file.clone(), start: *start, length: *length });
                        }
                        Member::Link(target) => name = target,
                    }
                }
                Err(missing())
            }
        }
    }

    /// A document of that name.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let blob = self.blob(name)?;
        let bytes = blob.content().whole(DOCUMENT_BYTES_MAX).map_err(ImageError::Read)?;
        Ok(bytes.into_owned())
    }

    /// A document of a layout by its digest, compared with it.
    pub(super) fn by_digest(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let bytes = self.document(&name(digest))?;
        if digest.matches(&bytes) { Ok(bytes) } else { Err(ImageError::Digest { digest: *digest }) }
    }
}

/// Where a layout keeps a blob.
pub(super) fn name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// What a symbolic link at `path` leads to.
fn beside(path: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
