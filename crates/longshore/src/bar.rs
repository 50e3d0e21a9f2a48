//! The progress of work that is counted: a bar on a terminal, silence elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{bytes, note};

const TICK: Duration = Duration::from_millis(120);
/// Over which the rate is taken.
const RATE_SPAN: Duration = Duration::from_secs(3);

/// Tags done of all that are known so far, and bytes.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    flow: Mutex<Flow>,
}

struct Flow {
    bytes: u64,
    /// What there was when the current span began, and the rate of the one before, in bytes a second.
    since: (Instant, u64),
    rate: f64,
}

impl Bar {
    /// Begins with words; the bar comes with the first number.
    pub(crate) fn begin(what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar.set_message(what.to_owned());
            bar
        });
        Self { bar, flow: Mutex::new(Flow { bytes: 0, since: (Instant::now(), 0), rate: 0.0 }) }
    }

    /// Whether anyone sees it.
    pub(crate) fn is_seen(&self) -> bool {
        self.bar.is_some()
    }

    /// Says what is being done now.
    pub(crate) fn now(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// So much more is to be done.
    pub(crate) fn more(&self, number: u64) {
        let Some(bar) = self.bar.as_ref().filter(|_| number > 0) else { return };
        if bar.length() == Some(0)
            && let Ok(style) = ProgressStyle::with_template("{spinner} {bar:24} {pos} of {len} tags  {msg}  {elapsed}")
        {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.inc_length(number);
    }

    /// One is done.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// So many bytes came.
    pub(crate) fn bytes(&self, number: u64) {
        let Some(bar) = &self.bar else { return };
        let mut flow = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        flow.bytes += number;
        let span = flow.since.0.elapsed();
        let rate = (flow.bytes - flow.since.1) as f64 / span.as_secs_f64().max(0.1);
        if span >= RATE_SPAN {
            flow.rate = rate;
            flow.since = (Instant::now(), flow.bytes);
        }
        let shown = if flow.rate > 0.0 { flow.rate } else { rate };
        bar.set_message(format!("{}, {}/s", bytes(flow.bytes), bytes(shown as u64)));
    }

    /// Writes a line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Takes it away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}
