//! A workspace against models, and on an engine in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, helpers of tests too"
)]

mod made;
mod parts;
mod plan;
mod supervisor;
