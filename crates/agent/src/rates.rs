//! How fast images arrive: over the last seconds, so that the pause between two large pieces is no standstill. Pure: the time
//! comes in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use oci::Digest;

/// What a rate is taken over at most.
const WINDOW: Duration = Duration::from_secs(10);

/// Bytes that were there at a time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    bytes: u64,
}

/// The rates of images that arrive.
#[derive(Debug, Default)]
pub(crate) struct Rates(BTreeMap<Digest, VecDeque<Sample>>);

impl Rates {
    /// Takes in how many bytes of each image that arrives are there `now`. An image that is left out has no rate any more.
    pub(crate) fn take(&mut self, now: Duration, arriving: impl IntoIterator<Item = (Digest, u64)>) {
        let mut before = std::mem::take(&mut self.0);
        for (image, bytes) in arriving {
            let mut samples = before.remove(&image).unwrap_or_default();
            // What was given up, or had to make room, did not arrive backwards.
            if samples.back().is_some_and(|last| last.bytes > bytes) {
                samples.clear();
            }
            samples.push_back(Sample { at: now, bytes });
            while samples.get(1).is_some_and(|second| second.at + WINDOW <= now) {
                samples.pop_front();
            }
            self.0.insert(image, samples);
        }
    }

    /// Bytes a second; 0 for an image that does not arrive, or only began to.
    pub(crate) fn of(&self, image: &Digest) -> u64 {
        let ends = self.0.get(image).and_then(|samples| samples.front().copied().zip(samples.back().copied()));
        let Some((first, last)) = ends else { return 0 };
        let millis = u64::try_from(last.at.saturating_sub(first.at).as_millis()).unwrap_or(u64::MAX);
        last.bytes.saturating_sub(first.bytes).saturating_mul(1000).checked_div(millis).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image() -> Digest {
        Digest::sha256_of(b"image")
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds_and_nothing_comes_is_nothing() {
        let (mut rates, other) = (Rates::default(), Digest::sha256_of(b"other"));
        let mut take = |millis: u64, bytes: u64| {
            rates.take(Duration::from_millis(millis), [(image(), bytes), (other, 7)]);
            (rates.of(&image()), rates.of(&other))
        };
        assert_eq!(take(0, 500), (0, 0), "what was there did not arrive");
        assert_eq!(take(1000, 1500), (1000, 0));
        // A large piece comes every four seconds.
        assert_eq!((2..5).map(|second| take(second * 1000, 1500).0).collect::<Vec<_>>(), [500, 333, 250]);
        assert_eq!(take(5000, 5500).0, 1000);
        assert_eq!((6..16).map(|second| take(second * 1000, 5500).0).last(), Some(0));
        assert_eq!(take(16_000, 100).0, 0);
        assert_eq!(take(16_500, 200).0, 200);
        rates.take(Duration::from_secs(17), []);
        assert_eq!(rates.of(&image()), 0);
    }

    proptest! {
        #[test]
        fn a_steady_rate_is_told_whenever_it_is_looked_at(
            rate in 1..1_000_000_000_u64, pauses in proptest::collection::vec(10..3_000_u64, 1..60),
        ) {
            let (mut rates, mut millis) = (Rates::default(), 0);
            rates.take(Duration::ZERO, [(image(), 0)]);
            for pause in pauses {
                millis += pause;
                rates.take(Duration::from_millis(millis), [(image(), rate * millis / 1000)]);
                // Bytes are whole: one more or less within the shortest pause.
                prop_assert!(rates.of(&image()).abs_diff(rate) <= 100, "{} for {}", rates.of(&image()), rate);
            }
        }
    }
}
