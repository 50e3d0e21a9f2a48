//! A hub and its hosts on one machine, the example app in a Git repository, a load that counts, and crashes under load:
//! what the demo, the end-to-end tests and the benchmarks stand on.
//!
//! Everything here drives the real binary from outside, as a user would. Hosts share the machine's engine, each with
//! loopback addresses of its own, so nothing collides with what else runs; or they are apart, each with an engine and a
//! network of its own.
#![allow(clippy::print_stderr, reason = "says what it installs and waits for")]

pub mod base_image;
pub mod engine;
pub mod example;
pub mod fanout;
pub mod lines;
pub mod load;
pub mod namespaces;
pub mod soak;
pub mod stage;
pub mod terminal;

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Where base images that were built, and programs that were installed, are kept.
pub fn cache_folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("LONGSHORE_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(home.context("set HOME or LONGSHORE_CACHE: where what is built or installed may be kept")?.join("longshore"))
}

/// Asks until there is an answer. Fails with `what` when `limit` has passed.
pub async fn until<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        anyhow::ensure!(begun.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
