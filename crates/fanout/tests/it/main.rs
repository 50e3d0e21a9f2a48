//! The agent's pieces on a real disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod local_registry;
mod sample;
mod store_full_disk;
mod store_kill;
mod store_model;
mod store_reads;
