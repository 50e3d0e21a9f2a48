//! End to end: the real binary, a real engine, real clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as loudly as tests, and say what they measured"
)]

mod attached;
mod browser;
mod clients;
mod command_line;
mod database;
mod edges;
mod elsewhere;
mod fanout;
mod fanout_down;
mod host_registry;
mod housekeeping;
mod image_pages;
mod images;
mod inside;
mod inside_layers;
mod inspect;
mod lone;
mod mirror;
mod namespaces;
mod news;
mod page;
mod public_projects;
mod recovery;
mod rollout;
mod scene;
mod soak;
mod swarm;
#[cfg(feature = "otel")]
mod traces;
mod workspace;
mod workspace_hooks;
mod workspace_source;
mod workspace_view;
