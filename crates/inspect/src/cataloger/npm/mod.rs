//! npm packages: `package.json` of what lies there, and the lock files of npm, Yarn, pnpm and Bun.

mod bun;
mod installed;
mod lock;
mod pnpm;
mod yarn;

#[cfg(test)]
mod tests;

use super::{Report, file_name};

pub use installed::PACKAGE_BYTES_MAX;

/// The longest lock file that is read, in bytes.
pub const LOCK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest lock file in YAML that is read, in bytes.
pub const YAML_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most levels of packages within packages in a lock file, and of collections within collections.
pub const NESTING_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Package,
    Npm,
    Yarn,
    Pnpm,
    Bun,
    BunBinary,
}

fn kind(path: &[u8]) -> Option<Kind> {
    let name = file_name(path);
    match name {
        b"package.json" => Some(Kind::Package),
        b"package-lock.json" | b"npm-shrinkwrap.json" | b".package-lock.json" => Some(Kind::Npm),
        b"yarn.lock" => Some(Kind::Yarn),
        b"pnpm-lock.yaml" => Some(Kind::Pnpm),
        b"bun.lock" => Some(Kind::Bun),
        b"bun.lockb" => Some(Kind::BunBinary),
        _ => None,
    }
}

/// Whether this is a file to [`read`].
pub fn wants(path: &[u8]) -> bool {
    // Nearly all paths end here, on one byte.
    matches!(path.last(), Some(b'n' | b'k' | b'l' | b'b')) && kind(path).is_some()
}

/// Reads one file. A `package.json` at the root of a folder in `node_modules` (Debian: `nodejs`) was installed there;
/// any other, and what a lock file names, is contained. So is a copy within an installed package that has a name and no
/// version, unless it is private; its version is empty.
pub fn read(path: &[u8], bytes: &[u8]) -> Report {
    let limit = match kind(path) {
        Some(Kind::Package) => PACKAGE_BYTES_MAX,
        Some(Kind::Pnpm) => YAML_BYTES_MAX,
        _ => LOCK_BYTES_MAX,
    };
    if let Some(refused) = Report::oversized(bytes, limit) {
        return refused;
    }
    match kind(path) {
        Some(Kind::Package) => installed::read(path, bytes),
        Some(Kind::Npm) => lock::read(bytes),
        Some(Kind::Yarn) => yarn::read(bytes),
        Some(Kind::Pnpm) => pnpm::read(bytes),
        Some(Kind::Bun) => bun::read(bytes),
        Some(Kind::BunBinary) => Report::unread("Bun's binary lock file is not read; `bun.lock` would be"),
        None => Report::unread("it is no file of an npm package manager"),
    }
}

/// `NAME@VERSION`, where the name may begin with the `@` of a scope.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.get(1..)?.find('@')? + 1;
    let (name, version) = text.split_at_checked(at)?;
    Some((name, version.get(1..)?))
}

/// Whether a version is one: what was taken from an address, a folder or a repository has none that is known.
fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains([':', '/', '#'])
}
