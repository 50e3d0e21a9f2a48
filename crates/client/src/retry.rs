//! Trying again: what passes by itself is waited for, as long as a client was told to, and as long as a registry asks.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Attempts at most where nobody says how long to wait.
const ATTEMPTS_MAX: u32 = 8;
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long one request has waited already.
pub(crate) struct Patience {
    left: Duration,
    attempts: u32,
}

impl Patience {
    pub(crate) fn new(whole: Duration) -> Self {
        Self { left: whole, attempts: 1 }
    }

    /// How long to wait before the next attempt: as long as was asked for, else twice as long as the last time, a little
    /// less by `chance` (0 to 1) so that many do not come back at once. None when patience is at its end.
    pub(crate) fn wait(&mut self, asked: Option<Duration>, chance: f64) -> Option<Duration> {
        let wait = match asked {
            Some(asked) => asked.max(WAIT_FIRST),
            None if self.attempts >= ATTEMPTS_MAX => return None,
            None => {
                let whole = WAIT_FIRST.saturating_mul(1 << (self.attempts - 1)).min(WAIT_MAX);
                whole.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 4.0)
            }
        };
        self.left = self.left.checked_sub(wait)?;
        self.attempts = self.attempts.saturating_add(1);
        Some(wait)
    }
}

/// Whether an answer may be another one later.
pub(crate) fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502..=504)
}

/// How long a registry asks to be left alone: a number of seconds, or a date.
pub(crate) fn asked(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// A wait in seconds that is not shorter than it: whoever comes too early is refused again.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let mut patience = Patience::new(Duration::from_secs(60));
        let waits: Vec<f64> = std::iter::from_fn(|| patience.wait(None, 0.0)).map(|wait| wait.as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]);
        let mut patience = Patience::new(Duration::from_secs(60));
        assert_eq!(patience.wait(Some(Duration::from_secs(50)), 0.5), Some(Duration::from_secs(50)));
        assert_eq!(patience.wait(Some(Duration::from_secs(11)), 0.5), None);
        assert_eq!(Patience::new(Duration::ZERO).wait(None, 0.0), None);
        // Who is asked to wait for nothing does not spin.
        let mut patience = Patience::new(Duration::from_secs(60));
        assert_eq!(std::iter::from_fn(|| patience.wait(Some(Duration::ZERO), 0.0)).count(), 120);
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_date() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        let asked = |text: &'static str| asked(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now);
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
        assert_eq!([0, 1, 1000, 1001].map(|wait| whole_seconds(Duration::from_millis(wait))), [0, 1, 1, 2]);
    }
}
