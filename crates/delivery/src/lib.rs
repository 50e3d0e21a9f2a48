//! Delivery.
pub mod desired;
pub mod environments;
pub mod error;
pub mod execute;
pub mod model;
pub mod placement;
pub mod plan;
pub mod policy;
mod store;
