//! Delivery's tests: the planner's golden plans, simulated rollouts, and the whole context on both databases with a
//! scripted fleet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail loudly, their helpers too")]

mod environments;
mod http;
mod hub;
mod planner;
mod rollout;
mod service;
mod simulation;
mod support;
