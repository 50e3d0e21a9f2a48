//! Against the tools of each ecosystem, and on what they make.

mod archive_tools;
mod attacks;
mod cvss_scores;
mod documents;
mod dpkg;
mod image;
mod installed;
mod layers;
mod mutations;
mod rpm;
mod tar_differential;
mod version_order;

use std::path::PathBuf;

/// A program of the folder that `./test` puts tools from PyPI into.
fn tool(name: &str) -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = folder("LONGSHORE_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("longshore")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/longshore")))
        .unwrap_or_default();
    cache.join("tools/bin").join(name)
}
