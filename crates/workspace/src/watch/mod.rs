//! What follows a developer's saves: `develop.watch` of the Compose Specification.
//!
//! A thread looks at the disk ([`eyes`]), a pure planner makes batches of what differs between source and containers
//! ([`plan`], over one [`ledger`] for each rule), [`Hands`] carry them out, and [`kept`] remembers across restarts what the
//! containers have. [`Watcher`] holds these together; a supervisor reads batches from it and tells it of containers, builds
//! and ends of batches.
//!
//! Invariants: work follows from a difference and never from an event; before a container is touched it is written down that
//! its state is unsure; there is no shell between a path and the program that removes it.

mod eyes;
mod hands;
mod kept;
mod ledger;
mod owner;
mod plan;
mod rule;
mod stamp;
mod watcher;

pub use eyes::PATHS_MAX;
pub use hands::{Hands, Report};
pub use plan::{Batch, BatchWork, Copied, Outcome, Running, SyncWork, Update};
pub use rule::{Action, After, Rule, RuleError, ServiceRules};
pub use stamp::Stamp;
pub use watcher::{WatchError, WatchEvent, Watcher};

#[cfg(test)]
mod simulation;
