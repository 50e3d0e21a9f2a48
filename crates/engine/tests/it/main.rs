//! The engine against real Docker, against recordings of it, and against models.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, helpers of tests too"
)]

mod addresses;
mod builds;
mod containers;
mod conversion;
mod differences;
mod files;
mod lab;
mod machine;
mod networks;
mod reach;
mod registry;
mod sessions;
mod traces;
