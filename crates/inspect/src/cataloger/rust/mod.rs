//! Rust crates: those that `cargo auditable` wrote into a program, and those of `Cargo.lock`.

mod auditable;
mod lock;
#[cfg(test)]
mod tests;

use crate::component::{Component, Ecosystem, Evidence};

pub use auditable::{COMPRESSED_BYTES_MAX, JSON_BYTES_MAX, catalog};
pub use lock::{LOCK_BYTES_MAX, catalog_lock};

/// Crates of one file at most.
pub const CRATES_MAX: usize = 65_536;

/// Why a file's crates were not read.
#[derive(Debug, thiserror::Error)]
pub enum RustError {
    /// The program could not be read.
    #[error("the crates of section .dep-v0: {0}")]
    Executable(#[from] crate::executable::ExecutableError),
    /// It does not inflate.
    #[error("the crates of section .dep-v0 do not inflate: {0}")]
    Inflate(std::io::Error),
    /// More than is read.
    #[error("{what}: more than {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is read.
        limit: usize,
    },
    /// The JSON is not that of cargo-auditable.
    #[error("the crates of section .dep-v0: {0}")]
    Json(serde_json::Error),
    /// It is no text.
    #[error("Cargo.lock is not UTF-8 from byte {0} on")]
    Text(usize),
    /// The TOML is not that of a lock file.
    #[error("Cargo.lock: {0}")]
    Toml(String),
}

fn component(name: String, version: String, evidence: Evidence) -> Component {
    Component {
        ecosystem: Ecosystem::Cargo,
        name,
        version,
        architecture: None,
        source: None,
        licences: Vec::new(),
        evidence,
    }
}
