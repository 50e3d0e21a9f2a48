//! End to end: the real binary, a real engine, real clients.

mod browser;
mod clients;
mod command_line;
mod database;
mod namespaces;
mod page;
mod recovery;
mod rollout;
mod scene;
