//! Tests of access from outside, on real databases and real TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, helpers of tests too"
)]

mod agent_port;
mod enrolment;
mod support;
