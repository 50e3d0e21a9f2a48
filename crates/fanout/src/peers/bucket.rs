//! Token buckets: bytes per second that a host's connections share, in the order in which they ask.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What may be taken at once after a pause, as time at the bucket's rate, in milliseconds.
const BURST_MILLIS: u64 = 50;
/// A chunk is so long at the bucket's rate, in milliseconds, within its limits.
const CHUNK_MILLIS: u64 = 10;
/// The shortest chunk, in bytes.
const CHUNK_BYTES_MIN: u64 = 16 * 1024;
/// The longest chunk, in bytes.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// What was taken at a rate, and when it will have been paid for. Times are since some beginning.
#[derive(Debug)]
struct Account {
    bytes_per_second: NonZeroU64,
    paid_at: Duration,
}

impl Account {
    fn charge(&mut self, now: Duration, bytes: usize) {
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        let earliest = now.saturating_sub(Duration::from_millis(BURST_MILLIS));
        self.paid_at = self.paid_at.max(earliest) + price;
    }
}

/// A rate that is kept to whoever takes how much: over any time it gives at most what the rate says, and a burst.
#[derive(Debug)]
pub(super) struct Bucket {
    begun: Instant,
    account: Option<Mutex<Account>>,
    chunk_bytes: usize,
    /// Whoever has this is next; those who wait for it are served in order.
    turn: tokio::sync::Mutex<()>,
}

impl Bucket {
    /// A bucket of so many bytes a second; none for one without a limit.
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        let account =
            bytes_per_second.map(|rate| Mutex::new(Account { bytes_per_second: rate, paid_at: Duration::ZERO }));
        let chunk = |rate: NonZeroU64| (rate.get() / (1000 / CHUNK_MILLIS)).max(CHUNK_BYTES_MIN);
        let chunk_bytes = bytes_per_second.and_then(|rate| usize::try_from(chunk(rate)).ok());
        Self {
            begun: Instant::now(),
            account,
            chunk_bytes: chunk_bytes.unwrap_or(CHUNK_BYTES_MAX).min(CHUNK_BYTES_MAX),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// How many bytes to take at once, so that others have their turn soon and the work for each stays small.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Waits until these bytes may go. When the future is dropped nothing was taken.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(account) = &self.account else { return };
        let _turn = self.turn.lock().await;
        let paid_at = account.lock().unwrap_or_else(PoisonError::into_inner).paid_at;
        tokio::time::sleep_until(self.begun + paid_at).await;
        self.charge(bytes);
    }

    /// Takes bytes that went already: those who wait wait longer.
    pub(super) fn charge(&self, bytes: usize) {
        let Some(account) = &self.account else { return };
        account.lock().unwrap_or_else(PoisonError::into_inner).charge(self.begun.elapsed(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_rate_is_exact_and_a_pause_gives_a_burst_and_no_more() {
        let rate = NonZeroU64::new(1_000_000).unwrap();
        let mut account = Account { bytes_per_second: rate, paid_at: Duration::ZERO };
        let mut now = Duration::from_secs(60);
        for (pause, bursts) in [(0, 1), (60_000, 1), (20, 0)] {
            now += Duration::from_millis(pause);
            let begun = now;
            for _ in 0..100 {
                now = now.max(account.paid_at);
                account.charge(now, 20_000);
                // Whoever waits wakes up late; what was lost is made good.
                now += Duration::from_millis(1);
            }
            let expected = 2000 - i128::from(BURST_MILLIS) * bursts;
            let took = i128::try_from((account.paid_at - begun).as_millis()).unwrap();
            assert!((took - expected).abs() <= 20, "{took} ms after {pause} ms");
        }
    }

    #[tokio::test]
    async fn all_who_ask_have_their_turn() {
        let bucket = Arc::new(Bucket::new(NonZeroU64::new(1_000_000)));
        let begun = Instant::now();
        let takers = (0..4).map(|_| {
            let bucket = bucket.clone();
            tokio::spawn(async move {
                let mut taken = 0;
                while bucket.begun.elapsed() < Duration::from_secs(1) {
                    bucket.take(10_000).await;
                    taken += 1;
                }
                taken
            })
        });
        let taken: Vec<u32> = futures::future::join_all(takers).await.into_iter().map(Result::unwrap).collect();
        assert!(taken.iter().max().unwrap() - taken.iter().min().unwrap() <= 2, "{taken:?}");
        // Five chunks are a burst, and each taker has one behind the end.
        let most = (begun.elapsed().as_millis() / 10) as u32 + 5 + 4;
        assert!(taken.iter().sum::<u32>() <= most, "{taken:?}");
    }

    #[tokio::test]
    async fn whoever_gives_up_has_taken_nothing() {
        let bucket = Bucket::new(NonZeroU64::new(1_000_000));
        bucket.take(500_000).await;
        assert!(tokio::time::timeout(Duration::from_millis(50), bucket.take(500_000_000)).await.is_err());
        tokio::time::timeout(Duration::from_secs(30), bucket.take(1)).await.unwrap();
        assert!(bucket.begun.elapsed() >= Duration::from_millis(450));
    }

    #[test]
    fn chunks_are_short_at_low_rates() {
        let chunk = |rate| Bucket::new(NonZeroU64::new(rate)).chunk_bytes();
        assert_eq!((chunk(0), chunk(150 * 1024), chunk(4_000_000), chunk(u64::MAX)), (65_536, 16_384, 40_000, 65_536));
    }
}
