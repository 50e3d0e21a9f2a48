//! The registry over real sockets, on both databases.

// A test may fail loudly, and so may what it calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod full_disk;
mod housekeeping;
mod images;
mod policy;
mod protocol;
mod upstream;
mod world;
