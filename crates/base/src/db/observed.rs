//! How many writes are under way, and how long they take from the queue to the disk.

use std::time::Instant;

use crate::metrics::{self, DURATION_SECONDS, Gauge, Histogram};

/// The writes of one context's database.
#[derive(Clone)]
pub(super) struct Writes {
    context: &'static str,
    under_way: Gauge,
    seconds: Histogram,
}

impl Writes {
    pub(super) fn new(context: &'static str) -> Self {
        let labels = [("database", context)];
        let under_way = metrics::gauge(
            "longshore_database_writes_under_way",
            "Writes that wait for their turn or for the disk.",
            &labels,
        );
        let seconds = metrics::histogram(
            "longshore_database_write_duration_seconds",
            "Time of a write, from the wait for its turn until it is durable.",
            &labels,
            DURATION_SECONDS,
        );
        Self { context, under_way, seconds }
    }

    /// Whose database it is.
    pub(super) fn context(&self) -> &'static str {
        self.context
    }

    /// Counts a write until what it gives is dropped.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.under_way.add(1);
        UnderWay { writes: self, began: Instant::now() }
    }
}

pub(super) struct UnderWay<'a> {
    writes: &'a Writes,
    began: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.writes.under_way.add(-1);
        self.writes.seconds.observe_duration(self.began.elapsed());
    }
}
