//! Counters of listeners and of the side that faces other hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What went through one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) requests: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_failed: AtomicU64,
}

/// What other hosts asked for.
#[derive(Debug, Default)]
pub(crate) struct MeshCounters {
    pub(crate) tunnels: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
}

/// Counts one request exactly once: as it is settled, or as cancelled when it is dropped before.
#[derive(Debug)]
pub(crate) struct Tally(Option<Arc<ListenerCounters>>);

impl Tally {
    pub(crate) fn new(counters: Arc<ListenerCounters>) -> Self {
        Self(Some(counters))
    }

    pub(crate) fn answered(mut self) {
        if let Some(counters) = self.0.take() {
            counters.requests.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn failed(mut self) {
        if let Some(counters) = self.0.take() {
            counters.failed.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(counters) = self.0.take() {
            counters.cancelled.fetch_add(1, Relaxed);
        }
    }
}
