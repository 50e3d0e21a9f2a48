//! Programs and libraries that no package speaks of: what their notes, their version strings and a Java runtime's
//! `release` file say.

mod notes;
mod runtime;
#[cfg(test)]
mod tests;
mod versions;

pub use notes::{NOTES_BYTES_MAX, Notes, read_notes};
pub use runtime::{RELEASE_BYTES_MAX, catalog_release};
pub use versions::{SEARCH_BYTES_MAX, catalog_versions, wants};
