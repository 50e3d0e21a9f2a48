//! The converge loop: makes a host what the hub says it should be, and goes on doing so without the hub.
//!
//! What is wanted ([`wanted`]) and what is (the engine's lists, read by [`names`]) go into [`decide`], which says what
//! to do next; [`act`] does it, [`table`] tells the proxy. All four but `act` are pure. State is in the engine's labels,
//! and what is not ([`memory`]) is on disk before anything depends on it, so the agent may be killed at any moment.

pub mod act;
pub mod action;
pub mod converge;
pub mod decide;
pub mod images;
pub mod memory;
pub mod names;
pub mod report;
pub mod table;
pub mod wanted;
