//! An app on a developer's machine: every service at an environment's release, except those being worked on.
//!
//! [`workspace::Workspace`] brings together what is known: the [`project`] of the checkout, the [`releases`] that an
//! environment has, the [`state`] of its own folder. [`resolve`] makes of it what should be ([`wanted`]); [`plan`] says
//! what to do next; [`supervisor`] does it. `resolve` and `plan` are pure.
//!
//! Invariants: what is right already is never touched; nothing on the engine is touched that does not carry this
//! workspace's label; a released service runs under an image id that follows from its release's digest; every command may
//! be killed at any moment, and the next one comes to the same end.

mod archive;
pub mod attend;
pub mod contents;
pub mod control;
pub mod error;
pub mod fill;
pub mod follow;
pub mod hooks;
pub mod images;
pub mod logs;
pub mod once;
pub mod plan;
pub mod policy;
pub mod ports;
pub mod progress;
pub mod project;
mod released;
pub mod releases;
pub mod resolve;
pub mod settings;
pub mod source;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod volumes;
pub mod wanted;
pub mod watch;
pub mod workspace;

pub use error::{Error, ErrorKind};
