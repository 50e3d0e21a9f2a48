//! Tests of the crate from outside: agents with real sockets, TLS and rates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, helpers of tests too"
)]

mod attacks;
mod exchange;
mod raw;
