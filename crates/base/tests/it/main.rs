//! Tests of the crate from outside, on real databases and real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, helpers of tests too"
)]

mod crash;
mod db;
mod listen;
mod observe;
mod outbox_lease;
mod tls;
mod tls_peers;
