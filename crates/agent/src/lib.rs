//! A host's side of Longshore: the [`proxy`], a process of its own that owns published ports, and the agent
//! ([`agent::Agent`]), which keeps the host as the hub says it should be.
//!
//! Invariants: nothing here decides what should run; what runs goes on without agent, hub or proxy supervision; an agent
//! touches only objects that carry its own host's label; at no moment do two containers of a service hold one volume.

pub mod agent;
pub mod config;
pub mod edge;
pub mod host;
pub mod hub;
pub mod identity;
pub mod ports;
pub mod proxy;
mod rates;
pub mod registry;
pub mod routes;
pub mod runtimes;
pub mod state;
pub mod status;
pub mod streams;
pub mod swarm;

pub use agent::{Agent, AgentError};
pub use config::AgentConfig;
