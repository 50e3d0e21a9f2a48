//! Tests of the agent's parts over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail loudly")]

mod agent_hub;
mod converge;
mod converge_changes;
mod converge_rig;
mod converge_trouble;
mod fake_hub;
mod host;
mod host_rig;
mod proxy_attacks;
mod proxy_control;
mod proxy_http;
mod proxy_load;
mod proxy_mesh;
mod proxy_rig;
mod proxy_tcp;
