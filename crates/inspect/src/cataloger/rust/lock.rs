//! `Cargo.lock` in all its versions, of which the fields used here are the same. Source: Cargo's `resolve/encode.rs`.

use serde::Deserialize;

use super::{CRATES_MAX, RustError, component};
use crate::cataloger::Found;
use crate::component::Evidence;
use crate::content::Content;

/// Bytes of a lock file at most: several times the largest known. The parser may take 70 times as much memory.
pub const LOCK_BYTES_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Lock {
    /// What the first version had for the project itself.
    root: Option<Package>,
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// The crates of a lock file, the project's own among them: what a build would use, not what was built.
///
/// # Errors
/// Where it is over a limit or is no lock file.
pub fn catalog_lock(content: Content<'_>) -> Result<Found, RustError> {
    let limit = RustError::Limit { what: "bytes of Cargo.lock", limit: LOCK_BYTES_MAX };
    if content.len() > LOCK_BYTES_MAX as u64 {
        return Err(limit);
    }
    let bytes = content.whole(LOCK_BYTES_MAX).map_err(|error| RustError::Toml(error.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| RustError::Text(error.valid_up_to()))?;
    // The parser's own sentence spans several lines and repeats the file.
    let lock: Lock = toml::from_str(text).map_err(|error| RustError::Toml(error.message().to_owned()))?;
    if lock.package.len() > CRATES_MAX {
        return Err(RustError::Limit { what: "crates of Cargo.lock", limit: CRATES_MAX });
    }
    let packages = lock.root.into_iter().chain(lock.package);
    let components = packages.map(|package| component(package.name, package.version, Evidence::Contained));
    Ok(Found { components: components.collect(), notes: Vec::new() })
}
