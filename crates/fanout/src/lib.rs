//! How images reach a thousand machines: every host's agent takes pieces of blobs from the hub and from other agents, and
//! gives them on while it is still receiving.
//!
//! Invariants: no piece is kept or passed on before the hub's tree of hashes has verified it, and no blob is handed out
//! before its own digest has; what decides is pure: messages and the clock go in, messages come out, so that the same code
//! runs in the agent and in the simulator.

pub mod core;
pub mod grant;
pub mod hub;
pub mod local;
pub mod peers;
pub mod piece;
pub mod simulation;
pub mod store;
pub mod wire;
