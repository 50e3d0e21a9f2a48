//! What every part of the program stands on: time, databases, background work, errors on the wire, TLS, start and stop.
//!
//! Nothing here knows a word of the domain: a module that would have to name an app, a host or an image belongs elsewhere.

pub mod clock;
pub mod db;
pub mod page;
pub mod problem;
