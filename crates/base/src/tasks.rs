//! The driver of background tasks. A task is idempotent and takes no input: it looks at the data and does what is to be
//! done. It is woken by a timer, so that nothing is forgotten, and by a [`Wake`], so that nothing waits for the timer.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use serde::Serialize;
use tokio::sync::Notify;

use crate::clock::Micros;
use crate::shutdown::Shutdown;

/// Runs in a row at most while a task says that there is more; then others get a turn.
pub const RUNS_IN_A_ROW_MAX: u32 = 100;
/// The pause after a first failure; it doubles with each further one, up to the task's own interval or
/// [`FAILURE_PAUSE_SECONDS_MAX`], whichever is longer.
pub const FAILURE_PAUSE_MILLIS_FIRST: u64 = 500;
/// See [`FAILURE_PAUSE_MILLIS_FIRST`].
pub const FAILURE_PAUSE_SECONDS_MAX: u64 = 30;

/// What a run found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do for now.
    Done,
    /// A page was done and more is waiting.
    More,
    /// The next is due after this time, or after the task's interval when that is shorter.
    After(Duration),
}

/// Wakes a task. Any number of calls before its next run cause one run; a call during a run causes another one.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    notify: Arc<Notify>,
}

impl Wake {
    /// Makes the task run soon.
    pub fn wake(&self) {
        self.notify.notify_one();
    }
}

/// How a task is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskStatus {
    /// The task's name.
    pub name: &'static str,
    /// Runs that ended.
    pub runs_total: u64,
    /// When the last run began.
    pub began_at: Option<Micros>,
    /// When the last run ended; before `began_at` while one is under way.
    pub ended_at: Option<Micros>,
    /// Runs that failed since the last that did not.
    pub failures_in_a_row: u32,
    /// Why the last run failed, if it did.
    pub error: Option<String>,
}

/// The tasks of a process.
#[derive(Clone)]
pub struct Tasks {
    shutdown: Shutdown,
    all: Arc<Mutex<Vec<Arc<Mutex<TaskStatus>>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is only ever replaced field by field: a panic cannot leave it half changed in a way
    // that matters.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tasks {
    /// Tasks that stop with `shutdown`: a run under way ends, no other begins.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, all: Arc::default() }
    }

    /// What tasks stop with: a run that takes long looks at it.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Starts a task: `run` is called at once, then after `every` or when woken. A run that fails or panics is tried
    /// again after a pause that grows; waking shortens that pause, too.
    pub fn spawn<F, Fut, E>(&self, name: &'static str, every: Duration, wake: Wake, run: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Progress, E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let status = Arc::new(Mutex::new(TaskStatus { name, ..TaskStatus::default() }));
        locked(&self.all).push(Arc::clone(&status));
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn(async move {
            let mut in_a_row = 0;
            while !shutdown.has_begun() {
                locked(&status).began_at = Some(Micros::now());
                let outcome = AssertUnwindSafe(async { run().await }).catch_unwind().await;
                let outcome = match outcome {
                    Ok(Ok(progress)) => Ok(progress),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("the task panicked".to_owned()),
                };
                let failures = note(&status, &outcome);
                let pause = match outcome {
                    Ok(Progress::More) if in_a_row < RUNS_IN_A_ROW_MAX => {
                        in_a_row += 1;
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Ok(Progress::More) => Duration::from_millis(FAILURE_PAUSE_MILLIS_FIRST),
                    Ok(Progress::Done) => every,
                    Ok(Progress::After(time)) => time.min(every),
                    Err(error) => {
                        tracing::warn!(task = name, failures, %error, "background task failed");
                        failure_pause(failures, every)
                    }
                };
                in_a_row = 0;
                tokio::select! {
                    () = shutdown.begun() => {}
                    () = wake.notify.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// How each task is doing, in the order of their start.
    pub fn status(&self) -> Vec<TaskStatus> {
        locked(&self.all).iter().map(|status| locked(status).clone()).collect()
    }
}

fn note(status: &Mutex<TaskStatus>, outcome: &Result<Progress, String>) -> u32 {
    let mut status = locked(status);
    status.runs_total += 1;
    status.ended_at = Some(Micros::now());
    status.error = outcome.as_ref().err().cloned();
    status.failures_in_a_row = if outcome.is_err() { status.failures_in_a_row.saturating_add(1) } else { 0 };
    status.failures_in_a_row
}

fn failure_pause(failures: u32, every: Duration) -> Duration {
    let longest = every.max(Duration::from_secs(FAILURE_PAUSE_SECONDS_MAX));
    Duration::from_millis(FAILURE_PAUSE_MILLIS_FIRST)
        .saturating_mul(1u32 << failures.saturating_sub(1).min(16))
        .min(longest)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn runs_by_timer_and_wake_survives_panics_and_stops() {
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(shutdown.clone());
        let wake = Wake::default();
        let runs = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&runs);
        tasks.spawn("test", Duration::from_secs(3600), wake.clone(), move || {
            let run = seen.fetch_add(1, Ordering::SeqCst);
            async move {
                match run {
                    0 => Ok(Progress::More),
                    1 => panic!("as the test wants"),
                    2 => Err("not now"),
                    _ => Ok(Progress::Done),
                }
            }
        });
        tasks.spawn("timer", Duration::from_millis(5), Wake::default(), || async { Ok::<_, String>(Progress::Done) });
        let reached = async |wanted| {
            let all = async {
                while tasks.status()[0].runs_total < wanted {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
        };
        reached(3).await;
        assert_eq!((tasks.status()[0].failures_in_a_row, tasks.status()[0].error.as_deref()), (2, Some("not now")));
        reached(4).await;
        assert_eq!(tasks.status()[0].error, None);
        wake.wake();
        wake.wake();
        reached(5).await;
        assert!(tasks.status()[1].runs_total > 5);
        shutdown.begin();
        assert_eq!(shutdown.drain(Duration::from_secs(1)).await, 0);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let hour = Duration::from_secs(3600);
        assert_eq!(failure_pause(1, hour), Duration::from_millis(500));
        assert_eq!(failure_pause(3, hour), Duration::from_secs(2));
        assert_eq!(failure_pause(u32::MAX, hour), hour);
        assert_eq!(failure_pause(u32::MAX, Duration::ZERO), Duration::from_secs(30));
    }
}
