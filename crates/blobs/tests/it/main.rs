//! The store against a model, against `kill -9` and against the loss of power.

// A test may fail loudly, and so may what it calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crowd;
mod grow;
mod kill;
mod model;
mod power;
mod sample;
