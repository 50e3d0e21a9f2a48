//! Who waits for what: changes of the overview, counted at a bounded rate, and hosts whose desired state is new.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::HostName;
use tokio::sync::watch;

/// Changes are told this long after the first of them, so that at most ten a second are.
const CHANGES_MILLIS: u64 = 100;

/// Counts changes of what the overview shows.
#[derive(Debug)]
pub(crate) struct Changes {
    count: watch::Sender<u64>,
    scheduled: AtomicBool,
}

impl Changes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { count: watch::Sender::new(0), scheduled: AtomicBool::new(false) })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Counts a change soon, together with others of the same moment.
    pub(crate) fn note(self: &Arc<Self>) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let changes = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(CHANGES_MILLIS)).await;
            changes.scheduled.store(false, Ordering::Release);
            changes.count.send_modify(|count| *count += 1);
        });
    }
}

/// Wakes the agents' long polls of a host.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    hosts: Mutex<BTreeMap<HostName, watch::Sender<()>>>,
}

impl Watchers {
    pub(crate) fn subscribe(&self, host: &HostName) -> watch::Receiver<()> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(host.clone()).or_default().subscribe()
    }

    pub(crate) fn wake(&self, host: &HostName) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = hosts.get(host) {
            sender.send_replace(());
        }
    }
}
