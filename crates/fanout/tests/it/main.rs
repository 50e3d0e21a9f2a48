//! The hub's side of fan-out over its HTTP, with an access, a registry and a delivery in memory.

// A test may fail loudly, and so may what it calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod images;
mod plans;
mod world;
