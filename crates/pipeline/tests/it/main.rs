//! The pipeline against real parts: git, Docker's own reading of `.dockerignore`, both databases, a real engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod end_to_end;
mod failures;
mod git;
mod ignore;
mod store;
mod support;
