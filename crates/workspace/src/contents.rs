//! What configs and secrets are made of, where they are copied into containers.
//!
//! A secret that is not on this machine gets a stand-in: a workspace has no business with an environment's own.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base::folder::file_read;
use compose::model::{FileGrant, FileSource};
use engine::build::TarBody;
use engine::machine::{WantedFile, WantedFileKind};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind};
use crate::resolve::Chosen;

/// The largest config or secret: what the engine takes of swarm's.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Content by kind and key.
pub type Contents = BTreeMap<(WantedFileKind, String), Vec<u8>>;

/// The contents that the chosen services are given, and what a person should know of them.
///
/// # Errors
/// A config that is not there, or a file that cannot be read.
pub fn read(
    chosen: &BTreeMap<String, Chosen>,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Contents, Vec<String>), Error> {
    let (mut contents, mut notes) = (Contents::new(), Vec::new());
    for (service, chosen) in chosen {
        let definition = &chosen.definition;
        let kinds: [(_, &Vec<FileGrant>, &BTreeMap<String, FileSource>); 2] = [
            (WantedFileKind::Config, &definition.service.configs, &definition.configs),
            (WantedFileKind::Secret, &definition.service.secrets, &definition.secrets),
        ];
        for (kind, grants, sources) in kinds {
            for grant in grants {
                let Some(source) = sources.get(&grant.source).filter(|source| grant.is_copied(source)) else {
                    continue;
                };
                let key = (kind, grant.source.clone());
                if contents.contains_key(&key) {
                    continue;
                }
                let content = match (content(source, folder, variable)?, kind) {
                    (Some(content), _) => content,
                    (None, WantedFileKind::Secret) => {
                        notes.push(format!("the secret {} is not on this machine: a stand-in is used", grant.source));
                        format!("stand-in for {}", grant.source).into_bytes()
                    }
                    (None, WantedFileKind::Config) => {
                        let why = format!("{service} wants the config {}, which is not there", grant.source);
                        let hint = "Set the variable, or write the file, that it comes from.";
                        return Err(Error::new(ErrorKind::ProjectInvalid, why, hint));
                    }
                };
                contents.insert(key, content);
            }
        }
    }
    Ok((contents, notes))
}

fn content(
    source: &FileSource,
    folder: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Vec<u8>>, Error> {
    match source {
        FileSource::Content(text) => Ok(Some(text.clone().into_bytes())),
        FileSource::Environment(name) => Ok(variable(name).map(String::into_bytes)),
        FileSource::File(path) => {
            let path = match path.strip_prefix("~/").zip(std::env::home_dir()) {
                Some((rest, home)) => home.join(rest),
                None => folder.join(path),
            };
            file_read(&path, FILE_BYTES_MAX)
                .map_err(|error| Error::new(ErrorKind::ProjectInvalid, error.to_string(), "Mend the file."))
        }
    }
}

/// Digests of contents of one kind, by key.
pub fn digests(contents: &Contents, kind: WantedFileKind) -> BTreeMap<String, String> {
    let of_kind = contents.iter().filter(|((of, _), _)| *of == kind);
    of_kind.map(|((_, key), content)| (key.clone(), hex::encode(Sha256::digest(content)))).collect()
}

/// A tar of files as they are put into a container at its root.
pub fn tar(files: &[WantedFile], contents: &Contents) -> TarBody {
    let with_content = files.iter().filter_map(|file| Some((file.clone(), contents.get(&file.source)?.clone())));
    let files: Vec<(WantedFile, Vec<u8>)> = with_content.collect();
    TarBody::from_writer(move |writer| {
        let mut archive = tar::Builder::new(writer);
        for (file, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(file.mode);
            header.set_uid(file.uid.into());
            header.set_gid(file.gid.into());
            header.set_mtime(0);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, file.target.trim_start_matches('/'), content.as_slice())?;
        }
        archive.finish().map_err(io::Error::other)
    })
}
