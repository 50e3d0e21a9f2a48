//! Time as the whole program stores and sends it: integer microseconds since the Unix epoch.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time in microseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC, serialised as the plain integer.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

const MICROS_PER_SECOND: i64 = 1_000_000;

impl Micros {
    /// The machine's clock. Domain logic takes the time as an argument; only the edges call this.
    pub fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)),
        }
    }

    /// This time moved by whole seconds; stays at the end of the range instead of wrapping.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(MICROS_PER_SECOND)))
    }

    /// This time moved forward by a duration; stays at the end of the range instead of wrapping.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time moved back by a duration; stays at the end of the range instead of wrapping.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// The start of a second, given in whole seconds since the epoch.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// RFC 3339 text such as `2026-11-21T20:30:00Z`, for example from a command line.
    ///
    /// # Errors
    /// The text is not an RFC 3339 time with an offset.
    pub fn parse(text: &str) -> Result<Self, jiff::Error> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_microsecond()))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            // Years beyond 9999 and before -9999 have no RFC 3339 form.
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_rfc_3339_and_reads_it_back() {
        let time = Micros(1_795_293_000_123_456);
        assert_eq!(time.to_string(), "2026-11-21T20:30:00.123456Z");
        assert_eq!(Micros::parse(&time.to_string()).unwrap(), time);
        assert_eq!(Micros::parse("2026-11-21T21:30:00.123456+01:00").unwrap(), time);
        assert_eq!(serde_json::to_string(&time).unwrap(), "1795293000123456");
    }

    #[test]
    fn stays_within_its_range() {
        assert_eq!(Micros(i64::MAX).plus_seconds(1), Micros(i64::MAX));
        assert_eq!(Micros(i64::MIN).plus_seconds(-1), Micros(i64::MIN));
        assert_eq!(Micros(i64::MIN + 1).minus(Duration::from_secs(1)), Micros(i64::MIN));
        assert_eq!(Micros(5).since(Micros(9)), Duration::ZERO);
        assert_eq!(Micros(-1).seconds(), -1);
        assert_eq!(Micros::from_seconds(2).since(Micros(0)), Duration::from_secs(2));
        assert!(Micros(i64::MAX).to_string().ends_with("µs"));
    }
}
