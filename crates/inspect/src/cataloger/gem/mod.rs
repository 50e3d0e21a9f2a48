//! RubyGems: the specifications of installed gems, and Bundler's lock files.

mod gemspec;
mod lock;

#[cfg(test)]
mod tests;

use super::{Report, file_name, folder};

pub use gemspec::GEMSPEC_BYTES_MAX;
pub use lock::LOCK_BYTES_MAX;

/// Whether this is a file to [`read`].
pub fn wants(path: &[u8]) -> bool {
    match path.last() {
        Some(b'c') => is_specification(path),
        Some(b'k') => matches!(file_name(path), b"Gemfile.lock"),
        Some(b'd') => matches!(file_name(path), b"gems.locked"),
        _ => false,
    }
}

fn is_specification(path: &[u8]) -> bool {
    if !path.ends_with(b".gemspec") {
        return false;
    }
    let parent = folder(path);
    // Those that come with Ruby itself lie in `default`.
    let parent = if file_name(parent) == b"default" { folder(parent) } else { parent };
    file_name(parent) == b"specifications"
}

/// Reads one file.
pub fn read(path: &[u8], bytes: &[u8]) -> Report {
    if is_specification(path) { gemspec::read(bytes) } else { lock::read(bytes) }
}
