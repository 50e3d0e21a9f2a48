//! Whether a host gives away too slowly for others to depend on it: much less than it gets, while others wait for it. Said
//! late and taken back late, so that trees do not change with every hiccup. Pure: the time comes in.

use std::num::NonZeroU64;
use std::time::Duration;

/// How long it must be so before it is said, and before it is taken back because it is otherwise.
const SURE: Duration = Duration::from_secs(5);
/// How long it is said at least since it was last so: nobody waits for a host that others do not depend on, so that nothing
/// can be measured then.
const SAID: Duration = Duration::from_secs(300);
/// Slow is who gives away less than one of so many bytes that come.
const SLOW_SHARE: u64 = 2;
/// Not slow any more is who gives away at least three of four.
const QUICK_SHARE: (u64, u64) = (3, 4);
/// Others that wait at least: one alone may be slow itself.
const WAITING_MIN: usize = 2;

/// What the exchange has moved up to a time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub(super) at: Duration,
    /// Bytes that were sent, and that came, since the beginning.
    pub(super) sent_bytes: u64,
    pub(super) got_bytes: u64,
    /// Hosts for which something waits that they are to be sent.
    pub(super) waiting: usize,
}

/// What is known of this host's speed.
#[derive(Debug)]
pub(super) struct Slow {
    /// What it may send a second.
    upload_max: Option<NonZeroU64>,
    /// Whether its limits alone say it.
    is_by_limits: bool,
    last: Moved,
    /// What was measured without a pause.
    measured: Measured,
    said: Option<Said>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    time: Duration,
    sent_bytes: u64,
    got_bytes: u64,
}

#[derive(Debug)]
struct Said {
    until: Duration,
    sent_per_second: u64,
    got_per_second: u64,
}

impl Slow {
    /// A host with these limits, in bytes a second.
    pub(super) fn new(upload_max: Option<NonZeroU64>, download_max: Option<NonZeroU64>) -> Self {
        let limits = upload_max.zip(download_max);
        let is_by_limits = limits.is_some_and(|(up, down)| up.get().saturating_mul(SLOW_SHARE) < down.get());
        Self { upload_max, is_by_limits, last: Moved::default(), measured: Measured::default(), said: None }
    }

    /// Takes in what was moved.
    pub(super) fn take(&mut self, moved: Moved) {
        let last = std::mem::replace(&mut self.last, moved);
        let time = moved.at.saturating_sub(last.at);
        let sent = moved.sent_bytes.saturating_sub(last.sent_bytes);
        let got = moved.got_bytes.saturating_sub(last.got_bytes);
        if self.said.as_ref().is_some_and(|said| said.until <= moved.at) {
            self.said = None;
        }
        let others_wait = moved.waiting >= WAITING_MIN && last.waiting >= WAITING_MIN;
        let most = self.upload_max.map_or(u64::MAX, |rate| of(rate.get(), time));
        // Where the limit says it, nobody has to wait for it to be true.
        if got == 0 || !(others_wait || most.saturating_mul(SLOW_SHARE) < got) {
            self.measured = Measured::default();
            return;
        }
        self.measured.time += time;
        self.measured.sent_bytes += sent;
        self.measured.got_bytes += got;
        if self.measured.time < SURE {
            return;
        }
        let Measured { time, sent_bytes, got_bytes } = std::mem::take(&mut self.measured);
        if sent_bytes.saturating_mul(SLOW_SHARE) < got_bytes {
            let until = moved.at + SAID;
            let (sent_per_second, got_per_second) = (per_second(sent_bytes, time), per_second(got_bytes, time));
            self.said = Some(Said { until, sent_per_second, got_per_second });
        } else if sent_bytes.saturating_mul(QUICK_SHARE.1) >= got_bytes.saturating_mul(QUICK_SHARE.0) {
            self.said = None;
        }
    }

    /// Whether others had better not depend on it.
    pub(super) fn is_slow(&self) -> bool {
        self.is_by_limits || self.said.is_some()
    }

    /// The same for people.
    pub(super) fn words(&self) -> Option<String> {
        match &self.said {
            _ if self.is_by_limits => {
                Some("it gives away slowly: its --upload-rate is less than half of its --download-rate".to_owned())
            }
            Some(said) => {
                let rate = |bytes| base::units::Size(bytes);
                let (sent, got) = (rate(said.sent_per_second), rate(said.got_per_second));
                Some(format!("it gives away slowly: {sent}/s went out while {got}/s came in and others waited"))
            }
            None => None,
        }
    }
}

fn of(bytes_per_second: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    bytes_per_second.saturating_mul(millis) / 1000
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    bytes.saturating_mul(1000).checked_div(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host, second by second.
    struct Host {
        slow: Slow,
        moved: Moved,
    }

    impl Host {
        fn new(limits: (u64, u64)) -> Self {
            Self { slow: Slow::new(NonZeroU64::new(limits.0), NonZeroU64::new(limits.1)), moved: Moved::default() }
        }

        /// So many seconds at these rates, while so many hosts wait; gives in which of them it was slow.
        fn pass(&mut self, seconds: usize, sent: u64, got: u64, waiting: usize) -> Vec<bool> {
            let each = (0..seconds).map(|_| {
                self.moved.at += Duration::from_secs(1);
                self.moved.sent_bytes += sent;
                self.moved.got_bytes += got;
                self.moved.waiting = waiting;
                self.slow.take(self.moved);
                self.slow.is_slow()
            });
            each.collect()
        }
    }

    #[test]
    fn it_is_said_when_it_is_sure_and_taken_back_late() {
        let mut host = Host::new((0, 0));
        assert_eq!(host.pass(7, 1, 100, 3), [false, false, false, false, false, true, true]);
        assert!(host.slow.words().unwrap().contains("1 B/s went out while 100 B/s came in"), "{:?}", host.slow.words());
        // Nobody waits for it any more, and a rate between the two marks changes nothing.
        assert!(host.pass(100, 0, 100, 0).into_iter().all(|is| is));
        assert!(host.pass(20, 60, 100, 3).into_iter().all(|is| is));
        assert_eq!(host.pass(400, 0, 100, 0).into_iter().filter(|is| *is).count(), 305 - 127);
        assert!(!host.slow.is_slow() && host.slow.words().is_none());
        // It gives as much as it gets again.
        assert!(host.pass(6, 1, 100, 3).contains(&true));
        assert_eq!(host.pass(10, 90, 100, 3).last(), Some(&false));
    }

    #[test]
    fn nobody_is_slow_for_whom_nobody_waits_or_who_gets_nothing() {
        for (sent, got, waiting) in [(0, 100, 0), (0, 100, 1), (1, 0, 5), (50, 100, 5), (100, 100, 5)] {
            let mut host = Host::new((0, 0));
            assert!(!host.pass(60, sent, got, waiting).contains(&true), "{sent} {got} {waiting}");
        }
        // A hiccup is none.
        let mut host = Host::new((0, 0));
        for _ in 0..20 {
            assert!(!host.pass(2, 1, 100, 3).contains(&true));
            assert!(!host.pass(5, 100, 100, 3).contains(&true));
        }
    }

    #[test]
    fn limits_say_it_at_once_and_one_limit_when_more_comes() {
        assert!(Host::new((10, 21)).slow.is_slow());
        assert!(Host::new((10, 21)).slow.words().unwrap().contains("--upload-rate"));
        for limits in [(10, 20), (10, 0), (0, 10), (20, 10)] {
            assert!(!Host::new(limits).slow.is_slow(), "{limits:?}");
        }
        let mut host = Host::new((10, 0));
        assert_eq!(host.pass(6, 0, 100, 0).last(), Some(&true));
        let mut host = Host::new((10, 0));
        assert!(!host.pass(60, 0, 19, 0).contains(&true));
    }
}
