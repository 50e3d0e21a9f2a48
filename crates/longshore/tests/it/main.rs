//! End to end: the real binary, a real engine, real clients.

mod clients;
mod command_line;
mod database;
mod namespaces;
mod recovery;
mod rollout;
mod scene;
