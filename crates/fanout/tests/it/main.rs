//! Tests of the crate from outside: the hub's side over its HTTP, pieces on a real disk, and agents with real sockets, TLS
//! and rates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, helpers of tests too"
)]

mod attacks;
mod exchange;
mod images;
mod local_registry;
mod partitions;
mod peer_attacks;
mod plans;
mod raw;
mod sample;
mod store_full_disk;
mod store_kill;
mod store_model;
mod store_reads;
mod world;
