//! Python distributions: what is installed (`dist-info`, `egg-info`, conda's records) and what lock files name.

mod conda;
mod lock;
mod metadata;
mod requirements;

#[cfg(test)]
mod tests;

use super::{Report, file_name, folder};

pub use conda::CONDA_BYTES_MAX;
pub use lock::{LOCK_BYTES_MAX, TOML_BYTES_MAX};
pub use metadata::METADATA_BYTES_MAX;
pub use requirements::REQUIREMENTS_BYTES_MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Metadata,
    Toml,
    Pylock,
    Pipfile,
    Requirements,
    Conda,
}

fn kind(path: &[u8]) -> Option<Kind> {
    let name = file_name(path);
    let parent = || file_name(folder(path));
    match name.last()? {
        b'A' if name == b"METADATA" && parent().ends_with(b".dist-info") => Some(Kind::Metadata),
        b'O' if name == b"PKG-INFO" && (parent().ends_with(b".egg-info") || parent() == b"EGG-INFO") => {
            Some(Kind::Metadata)
        }
        b'o' if name.ends_with(b".egg-info") => Some(Kind::Metadata),
        b'k' if name == b"Pipfile.lock" => Some(Kind::Pipfile),
        b'k' if matches!(name, b"poetry.lock" | b"uv.lock" | b"pdm.lock") => Some(Kind::Toml),
        // PEP 751: `pylock.toml`, or `pylock.NAME.toml` where there are several.
        b'l' if name == b"pylock.toml" || (name.starts_with(b"pylock.") && name.ends_with(b".toml")) => {
            Some(Kind::Pylock)
        }
        b't' if name.ends_with(b".txt") && memchr::memmem::find(name, b"requirements").is_some() => {
            Some(Kind::Requirements)
        }
        b'n' if name.ends_with(b".json") && parent() == b"conda-meta" => Some(Kind::Conda),
        _ => None,
    }
}

/// Whether this is a file to [`read`].
pub fn wants(path: &[u8]) -> bool {
    kind(path).is_some()
}

/// Reads one file. Names and versions are as written; those of conda packages are of no package ecosystem.
pub fn read(path: &[u8], bytes: &[u8]) -> Report {
    match kind(path) {
        Some(Kind::Metadata) => metadata::read(bytes),
        Some(Kind::Toml) => lock::read_toml(bytes, "package"),
        Some(Kind::Pylock) => lock::read_toml(bytes, "packages"),
        Some(Kind::Pipfile) => lock::read_pipfile(bytes),
        Some(Kind::Requirements) => requirements::read(bytes),
        Some(Kind::Conda) => conda::read(bytes),
        None => Report::unread("it is no file of a Python package manager"),
    }
}
