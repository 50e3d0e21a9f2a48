//! Delivery's tests: the planner's golden plans, simulated rollouts, and the whole context on both databases with a
//! scripted fleet.

mod environments;
mod http;
mod hub;
mod planner;
mod rollout;
mod service;
mod simulation;
mod support;
