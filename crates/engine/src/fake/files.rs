//! Files of containers in memory: what tars put there, as an engine unpacks them.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use futures::StreamExt;

use crate::build::TarBody;

/// Bytes of an archive that is put into a container in memory, at most.
const ARCHIVE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A file of a container in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FakeFile {
    /// A folder with these rights.
    Folder(u32),
    /// A file with these rights and this content.
    File(u32, Vec<u8>),
    /// A symbolic link to there.
    Link(String),
}

/// A container's files by path, without a slash at the beginning. Folders above a path need not be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Files(BTreeMap<String, FakeFile>);

/// All of an archive.
pub(super) async fn whole(mut archive: TarBody) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = archive.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > ARCHIVE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the archive is too large for memory"));
        }
    }
    Ok(bytes)
}

/// The id of the first image that a tar of `docker save` holds, and its references.
pub(super) fn image_of(archive: &[u8]) -> io::Result<Option<(String, Vec<String>)>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Saved {
        config: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
    }
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.path()?.to_str() != Some("manifest.json") {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        let saved: Vec<Saved> = serde_json::from_str(&text)?;
        return Ok(saved.into_iter().next().map(|saved| {
            let name = saved.config.rsplit('/').next().unwrap_or_default();
            let id = format!("sha256:{}", name.trim_end_matches(".json"));
            (id, saved.repo_tags.unwrap_or_default())
        }));
    }
    Ok(None)
}

impl Files {
    pub(super) fn all(&self) -> BTreeMap<String, FakeFile> {
        self.0.clone()
    }

    /// Whether a tar can be put there: the root, or what is a folder by itself or by what is in it.
    pub(super) fn is_folder(&self, path: &str) -> bool {
        let path = path.trim_matches('/');
        path.is_empty()
            || matches!(self.0.get(path), Some(FakeFile::Folder(_)))
            || self.0.range(format!("{path}/")..format!("{path}0")).next().is_some()
    }

    pub(super) fn unpack(&mut self, folder: &str, archive: &[u8]) -> io::Result<()> {
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let name = format!("{folder}/{}", entry.path()?.display());
            let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            let path = parts.join("/");
            if path.is_empty() {
                continue;
            }
            let mode = entry.header().mode()? & 0o7777;
            let file = match entry.header().entry_type() {
                tar::EntryType::Directory => FakeFile::Folder(mode),
                tar::EntryType::Regular => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    FakeFile::File(mode, content)
                }
                tar::EntryType::Symlink => {
                    FakeFile::Link(entry.link_name()?.map(|link| link.display().to_string()).unwrap_or_default())
                }
                _ => continue,
            };
            for depth in 1..parts.len() {
                let above = parts[..depth].join("/");
                if let Some(FakeFile::File(..) | FakeFile::Link(_)) = self.0.get(&above) {
                    return Err(io::Error::new(
                        io::ErrorKind::NotADirectory,
                        format!("mkdir /{above}: not a directory"),
                    ));
                }
                self.0.entry(above).or_insert(FakeFile::Folder(0o755));
            }
            if !matches!(file, FakeFile::Folder(_)) {
                self.remove(&path);
            }
            self.0.insert(path, file);
        }
        Ok(())
    }

    /// Like `rm -rf`.
    pub(super) fn remove(&mut self, path: &str) {
        let path = path.trim_matches('/');
        let below: Vec<String> =
            self.0.range(format!("{path}/")..format!("{path}0")).map(|(below, _)| below.clone()).collect();
        for gone in below.iter().map(String::as_str).chain([path]) {
            self.0.remove(gone);
        }
    }

    /// A tar of the file or folder, its names beginning with the path's last part; `None` when there is none.
    pub(super) fn pack(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let path = path.trim_matches('/');
        let cut = path.rfind('/').map_or(0, |slash| slash + 1);
        let mut builder = tar::Builder::new(Vec::new());
        let mut found = false;
        for (name, file) in &self.0 {
            if name != path && !path.is_empty() && !name.starts_with(&format!("{path}/")) {
                continue;
            }
            found = true;
            let mut header = tar::Header::new_gnu();
            let (kind, mode, content) = match file {
                FakeFile::Folder(mode) => (tar::EntryType::Directory, *mode, [].as_slice()),
                FakeFile::File(mode, content) => (tar::EntryType::Regular, *mode, content.as_slice()),
                FakeFile::Link(_) => (tar::EntryType::Symlink, 0o777, [].as_slice()),
            };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
            match file {
                FakeFile::Link(target) => builder.append_link(&mut header, &name[cut..], target)?,
                _ => builder.append_data(&mut header, &name[cut..], content)?,
            }
        }
        if found { builder.into_inner().map(Some) } else { Ok(None) }
    }
}
