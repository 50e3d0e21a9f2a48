//! What the specifications say, and properties that hold for every input.

// A test may fail loudly, and so may what it calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod digests;
mod manifests;
mod paths;
mod ranges;
mod references;
