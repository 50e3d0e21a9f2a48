//! One series of a metric: atomics behind a handle that is cheap to clone and to count with.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Counts what only rises.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Adds up time.
#[derive(Clone, Debug, Default)]
pub struct SecondsCounter(Arc<AtomicU64>);

impl SecondsCounter {
    /// So much more.
    pub fn add(&self, more: Duration) {
        self.0.fetch_add(nanos(more), Ordering::Relaxed);
    }

    /// Takes over a sum that is kept elsewhere, by the system for example.
    pub fn set(&self, sum: Duration) {
        self.0.store(nanos(sum), Ordering::Relaxed);
    }

    pub(super) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.0.load(Ordering::Relaxed)).as_secs_f64()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A number that rises and falls.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets it from a number of things or bytes.
    pub fn set_unsigned(&self, value: u64) {
        self.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Adds; a negative number takes away.
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts values in buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One for each bound and one for what is above all of them; each counts only its own.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }))
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let buckets = &*self.0;
        let place = buckets.bounds.iter().position(|bound| value <= *bound).unwrap_or(buckets.bounds.len());
        buckets.counts[place].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        let _ = buckets.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Counts a duration in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Each bound with how many values are at most that large, and the sum and number of all.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, f64, u64) {
        let mut count = 0;
        let mut cumulated = Vec::with_capacity(self.0.counts.len());
        for (place, own) in self.0.counts.iter().enumerate() {
            count += own.load(Ordering::Relaxed);
            cumulated.push((self.0.bounds.get(place).copied().unwrap_or(f64::INFINITY), count));
        }
        (cumulated, f64::from_bits(self.0.sum.load(Ordering::Relaxed)), count)
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Counter,
    SecondsCounter,
    Gauge,
    Histogram(&'static [f64]),
}

impl Kind {
    pub(super) fn series(self) -> Series {
        match self {
            Self::Counter => Series::Counter(Counter::default()),
            Self::SecondsCounter => Series::SecondsCounter(SecondsCounter::default()),
            Self::Gauge => Series::Gauge(Gauge::default()),
            Self::Histogram(bounds) => Series::Histogram(Histogram::new(bounds)),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Series {
    Counter(Counter),
    SecondsCounter(SecondsCounter),
    Gauge(Gauge),
    Histogram(Histogram),
}
