//! Stopping: a token that everything watches, the signals that set it off, and a drain with a time limit.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long work under way may go on after a stop was asked for.
pub const DRAIN_SECONDS: u64 = 30;

/// Cheap to clone; every long-running part holds one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// A stop that has not been asked for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Like [`Shutdown::new`], set off by SIGTERM and SIGINT. A second signal ends the process at once, with the exit
    /// code that shells give such an end.
    ///
    /// # Errors
    /// The signals cannot be caught.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = shutdown.token.clone();
        tokio::spawn(async move {
            let mut asked = false;
            loop {
                let code = tokio::select! {
                    _ = terminate.recv() => 143,
                    _ = interrupt.recv() => 130,
                };
                if asked {
                    std::process::exit(code);
                }
                asked = true;
                tracing::info!("stopping; a second signal stops at once");
                token.cancel();
            }
        });
        Ok(shutdown)
    }

    /// Asks for the stop.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether the stop was asked for.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the stop is asked for.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The token, for what takes one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task that [`Shutdown::drain`] waits for. It must end by itself once the stop has begun.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Waits until all spawned tasks have ended, at most `limit` ([`DRAIN_SECONDS`] for a whole process). Gives the
    /// number of tasks that were still running.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.tracker.close();
        match tokio::time::timeout(limit, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drains_what_ends_and_counts_what_does_not() {
        let shutdown = Shutdown::new();
        let seen = shutdown.clone();
        let ends = shutdown.spawn(async move { seen.begun().await });
        shutdown.spawn(std::future::pending::<()>());
        assert!(!shutdown.has_begun());
        shutdown.begin();
        assert_eq!(shutdown.drain(Duration::from_millis(100)).await, 1);
        ends.await.unwrap();
    }
}
