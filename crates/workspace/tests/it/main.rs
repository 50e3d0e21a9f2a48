//! A workspace on real files and engines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, helpers of tests too, and tell what they measured"
)]

mod watch;
