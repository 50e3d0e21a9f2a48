//! Access: who is who. So far: the CA, enrolment of hosts with one-time tokens, their certificates, revocation.
//!
//! Invariants:
//! - A certificate is good only as long as this context says so: it is compared byte for byte with the one issued and
//!   looked up at every request, so revocation works at once.
//! - A token becomes at most one certificate key. Of its secret only a hash is kept.
//! - A host's name comes from the token or is free; what a certificate request says about names is ignored.
//! - Private keys of hosts never reach the hub; the CA's key never leaves its database.

mod ca;
mod error;
pub mod http;
mod model;
mod service;
mod store;

pub use ca::{CERTIFICATE_DAYS, HUB_CERTIFICATE_DAYS};
pub use error::{AccessError, AccessErrorKind};
pub use model::{CERTIFICATES_PER_HOST_MAX, LABEL_BYTES_MAX, LABELS_MAX};
pub use service::{Config, OnEnrolled, Service};
