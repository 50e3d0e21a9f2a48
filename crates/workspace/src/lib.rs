//! An app on a developer's machine: every service at an environment's release, except those being worked on.

pub mod watch;
