//! A workspace against models, on real files, on an engine in memory and a real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, helpers of tests too, and tell what they measured"
)]

mod made;
mod parts;
mod plan;
mod supervisor;
mod watch;
