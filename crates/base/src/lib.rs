//! What every part of the program stands on: time, databases, background work, errors on the wire, TLS, start and stop.
//!
//! Nothing here knows a word of the domain: a module that would have to name an app, a host or an image belongs elsewhere.

pub mod certificate;
pub mod clock;
pub mod config;
pub mod db;
pub mod folder;
pub mod guard;
pub mod json;
pub mod lease;
pub mod listen;
pub mod metrics;
pub mod observe;
pub mod outbox;
pub mod page;
pub mod problem;
pub mod sendfile;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod units;
