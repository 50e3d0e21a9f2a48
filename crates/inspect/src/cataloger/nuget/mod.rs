//! .NET packages: `*.deps.json` beside a program, `packages.lock.json`, and the `*.nuspec` of a package.

mod deps;
mod lock;
mod nuspec;
mod xml;

#[cfg(test)]
mod tests;

use super::{Report, file_name};

/// The longest `*.deps.json` or `packages.lock.json` that is read, in bytes.
pub const JSON_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest `*.nuspec` that is read, in bytes.
pub const NUSPEC_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Deps,
    Lock,
    Nuspec,
}

fn kind(path: &[u8]) -> Option<Kind> {
    match path.last()? {
        b'n' if path.ends_with(b".deps.json") => Some(Kind::Deps),
        b'n' if file_name(path) == b"packages.lock.json" => Some(Kind::Lock),
        b'c' if path.ends_with(b".nuspec") => Some(Kind::Nuspec),
        _ => None,
    }
}

/// Whether this is a file to [`read`].
pub fn wants(path: &[u8]) -> bool {
    kind(path).is_some()
}

/// Reads one file.
pub fn read(path: &[u8], bytes: &[u8]) -> Report {
    let kind = kind(path);
    let limit = if kind == Some(Kind::Nuspec) { NUSPEC_BYTES_MAX } else { JSON_BYTES_MAX };
    if let Some(refused) = Report::oversized(bytes, limit) {
        return refused;
    }
    match kind {
        Some(Kind::Deps) => deps::read(bytes),
        Some(Kind::Lock) => lock::read(bytes),
        Some(Kind::Nuspec) => nuspec::read(bytes),
        None => Report::unread("it is no file of a .NET package manager"),
    }
}
