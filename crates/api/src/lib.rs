//! What contexts say to one another, and what the command line and agents say to the hub: wire types, one trait per
//! context, and the HTTP client. Nothing here decides anything.
//!
//! A context implements its trait in process; [`client::HubClient`] speaks the same types over HTTP. Every trait method
//! returns [`Problem`], so that a refusal reads the same wherever it is met.

pub mod access;
pub mod agent;
pub mod client;
pub mod delivery;
pub mod fanout;
pub mod images;
pub mod inspect;
pub mod lines;
mod names;
pub mod pipeline;
pub mod registry;

pub use base::clock::Micros;
pub use base::page::Page;
pub use base::problem::Problem;
pub use names::{AppName, EnvName, HostName, InvalidName, ServiceAddress, ServiceName};

/// What every call of a context returns.
pub type Result<T> = std::result::Result<T, Problem>;
