//! What `cargo auditable` writes: zlib-compressed JSON in the section `.dep-v0`. Source: the project's PARSING.md.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde::Deserialize;

use super::{CRATES_MAX, RustError, component};
use crate::cataloger::Found;
use crate::component::{Component, Evidence};
use crate::executable::{Executable, Executables};

/// Bytes of the section at most.
pub const COMPRESSED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the JSON at most (a24).
pub const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;
const SECTION: &str = ".dep-v0";

#[derive(Deserialize)]
struct List {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    #[serde(default)]
    kind: Kind,
}

/// What a crate is needed for. What built a program is not in it.
#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Runtime,
    Build,
    #[serde(other)]
    Other,
}

/// The crates of a program; nothing for one that has no such list.
pub fn catalog(executables: &Executables<'_>) -> Found {
    let mut found = Found::default();
    for image in &executables.images {
        match read(image) {
            Ok(components) => {
                for component in components {
                    // The architectures of a fat file list the same; other files have one image.
                    if executables.images.len() == 1 || !found.components.contains(&component) {
                        found.components.push(component);
                    }
                }
            }
            Err(error) => found.notes.push(error.to_string()),
        }
    }
    found
}

fn read(image: &Executable<'_>) -> Result<Vec<Component>, RustError> {
    let Some(section) = image.section(SECTION) else { return Ok(Vec::new()) };
    let compressed = image.section_bytes(section, COMPRESSED_BYTES_MAX)?;
    let mut json = Vec::new();
    ZlibDecoder::new(compressed.as_ref())
        .take(JSON_BYTES_MAX as u64 + 1)
        .read_to_end(&mut json)
        .map_err(RustError::Inflate)?;
    if json.len() > JSON_BYTES_MAX {
        return Err(RustError::Limit { what: "bytes of the crates of section .dep-v0", limit: JSON_BYTES_MAX });
    }
    let list: List = serde_json::from_slice(&json).map_err(RustError::Json)?;
    if list.packages.len() > CRATES_MAX {
        return Err(RustError::Limit { what: "crates of section .dep-v0", limit: CRATES_MAX });
    }
    let packages = list.packages.into_iter().filter(|package| package.kind != Kind::Build);
    Ok(packages.map(|package| component(package.name, package.version, Evidence::Installed)).collect())
}
