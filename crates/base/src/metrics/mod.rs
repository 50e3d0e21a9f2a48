//! Numbers about the running process, for Prometheus: counters, gauges and histograms in one process-wide registry, and
//! their text form (exposition format 0.0.4).
//!
//! A metric is made where it is counted: [`counter`] and its like give the same one whenever name and labels are the same,
//! so a handle is asked for once and kept. Names follow Prometheus' conventions (`longshore_` first, the unit last,
//! `_total` for counters). Label values come from small sets, never from requests: no repository, tag or address.

mod process;
mod series;
mod text;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use axum::response::IntoResponse;
use http::header;
pub use series::{Counter, Gauge, Histogram, SecondsCounter};
use series::{Kind, Series};

/// Series of one metric at most. What comes later is counted together, under [`OTHER`].
pub const SERIES_PER_METRIC_MAX: usize = 512;
/// The label value of what came too late to have a series of its own.
pub const OTHER: &str = "other";
/// The media type of [`render`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Bounds of the buckets of durations in seconds: from a cached manifest to a large layer on a slow line.
pub const DURATION_SECONDS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 300.0];

/// A label: its name, fixed in the program, and its value.
pub type Label<'a> = (&'static str, &'a str);

/// All series of one name.
struct Family {
    help: &'static str,
    kind: Kind,
    series: BTreeMap<Vec<(&'static str, String)>, Series>,
}

#[derive(Default)]
struct Registry {
    families: BTreeMap<&'static str, Family>,
    refreshers: BTreeMap<&'static str, Box<dyn Fn() + Send>>,
}

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();
    // Every change of the maps is whole, whatever panicked elsewhere meanwhile.
    REGISTRY.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// What only rises: `longshore_…_total`.
pub fn counter(name: &'static str, help: &'static str, labels: &[Label<'_>]) -> Counter {
    match series(name, help, Kind::Counter, labels) {
        Series::Counter(counter) => counter,
        _ => Counter::default(),
    }
}

/// Time that only rises: `longshore_…_seconds_total`.
pub fn seconds_counter(name: &'static str, help: &'static str, labels: &[Label<'_>]) -> SecondsCounter {
    match series(name, help, Kind::SecondsCounter, labels) {
        Series::SecondsCounter(counter) => counter,
        _ => SecondsCounter::default(),
    }
}

/// What rises and falls.
pub fn gauge(name: &'static str, help: &'static str, labels: &[Label<'_>]) -> Gauge {
    match series(name, help, Kind::Gauge, labels) {
        Series::Gauge(gauge) => gauge,
        _ => Gauge::default(),
    }
}

/// How values spread over buckets, whose upper bounds rise.
pub fn histogram(name: &'static str, help: &'static str, labels: &[Label<'_>], bounds: &'static [f64]) -> Histogram {
    match series(name, help, Kind::Histogram(bounds), labels) {
        Series::Histogram(histogram) => histogram,
        _ => Histogram::new(bounds),
    }
}

/// Has `refresh` run before every [`render`], to set gauges from what is cheap to read: no waiting. One with the same
/// key takes the place of the one before.
pub fn refresh(key: &'static str, refresh: impl Fn() + Send + 'static) {
    registry().refreshers.insert(key, Box::new(refresh));
}

/// All metrics as text. See [`MEDIA_TYPE`].
pub fn render() -> String {
    let refreshers = std::mem::take(&mut registry().refreshers);
    // Outside of the lock: they ask for metrics themselves.
    for refresh in refreshers.values() {
        refresh();
    }
    process::refresh();
    let mut registry = registry();
    for (key, refresh) in refreshers {
        registry.refreshers.entry(key).or_insert(refresh);
    }
    let mut out = String::new();
    for (name, family) in &registry.families {
        text::family(&mut out, name, family);
    }
    out
}

/// Answers with [`render`]: for a route `/metrics`.
pub async fn answer() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], render())
}

fn series(name: &'static str, help: &'static str, kind: Kind, labels: &[Label<'_>]) -> Series {
    debug_assert!(text::is_name(name) && labels.iter().all(|(name, _)| text::is_label(name)), "{name} {labels:?}");
    let mut registry = registry();
    let family = registry.families.entry(name).or_insert_with(|| Family { help, kind, series: BTreeMap::new() });
    if family.kind != kind {
        tracing::error!(name, "a metric is declared in two ways; the second counts for nothing");
        return kind.series();
    }
    let mut labels: Vec<_> = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if family.series.len() >= SERIES_PER_METRIC_MAX && !family.series.contains_key(&labels) {
        labels.iter_mut().for_each(|(_, value)| OTHER.clone_into(value));
    }
    family.series.entry(labels).or_insert_with(|| kind.series()).clone()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let hits = counter("test_hits_total", "Hits, with a \\ and\na line.", &[("kind", "a\"b\\c\nd")]);
        hits.add(2);
        counter("test_hits_total", "Hits, with a \\ and\na line.", &[("kind", "a\"b\\c\nd")]).increment();
        gauge("test_open", "Open things.", &[]).set(-3);
        seconds_counter("test_busy_seconds_total", "Busy.", &[]).add(Duration::from_millis(1500));
        let times = histogram("test_seconds", "Times.", &[("op", "x")], &[0.5, 1.0]);
        for value in [0.25, 0.5, 0.75, 2.0] {
            times.observe(value);
        }
        let text = render();
        let own: Vec<&str> = text.lines().filter(|line| line.contains("test_")).collect();
        assert_eq!(
            own,
            [
                "# HELP test_busy_seconds_total Busy.",
                "# TYPE test_busy_seconds_total counter",
                "test_busy_seconds_total 1.5",
                "# HELP test_hits_total Hits, with a \\\\ and\\na line.",
                "# TYPE test_hits_total counter",
                "test_hits_total{kind=\"a\\\"b\\\\c\\nd\"} 3",
                "# HELP test_open Open things.",
                "# TYPE test_open gauge",
                "test_open -3",
                "# HELP test_seconds Times.",
                "# TYPE test_seconds histogram",
                "test_seconds_bucket{op=\"x\",le=\"0.5\"} 2",
                "test_seconds_bucket{op=\"x\",le=\"1\"} 3",
                "test_seconds_bucket{op=\"x\",le=\"+Inf\"} 4",
                "test_seconds_sum{op=\"x\"} 3.5",
                "test_seconds_count{op=\"x\"} 4",
            ]
        );
        assert!(text.contains("\nprocess_open_fds ") && text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }

    #[test]
    fn labels_without_end_end_in_one_series() {
        for number in 0..SERIES_PER_METRIC_MAX + 100 {
            counter("flood_total", "A flood.", &[("who", &number.to_string())]).increment();
        }
        let text = render();
        assert_eq!(text.matches("\nflood_total{").count(), SERIES_PER_METRIC_MAX + 1);
        assert!(text.contains("\nflood_total{who=\"other\"} 100\n"));
    }

    #[test]
    fn what_is_refreshed_may_ask_for_metrics_and_is_asked_again() {
        refresh("refreshed", || gauge("refreshed", "Asked for.", &[]).add(1));
        render();
        assert!(render().contains("\nrefreshed 2\n"));
    }
}
