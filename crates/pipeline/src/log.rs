//! A run's log: lines are numbered and written in batches, so that a chatty build costs a few transactions a second, and
//! readers follow what is written, across restarts of the hub.

use std::collections::VecDeque;
use std::time::Duration;

use api::pipeline::{RunLogLine, RunState};
use api::{Micros, Problem, ServiceName};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::progress::shown;
use crate::store::Store;

/// Lines of one run's log; what comes after is counted and left out.
pub(crate) const RUN_LINES_MAX: u64 = 50_000;
/// How long lines may wait to be written together, in milliseconds.
const BATCH_MILLIS_MAX: u64 = 200;
/// How many lines are written together at most.
const BATCH_LINES_MAX: usize = 500;
/// Lines that may wait to be written; a build that is faster than the database waits for it.
const LINES_WAITING_MAX: usize = 2000;
/// How often a reader looks for lines by itself, in milliseconds: another replica of the hub may write them.
const LOOK_MILLIS: u64 = 1000;

/// Where a run writes its lines. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RunLog {
    lines: mpsc::Sender<(Micros, Option<ServiceName>, String)>,
}

impl RunLog {
    /// Opens the log of a run behind what was written before. The handle ends when all clones are gone and all is written.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) async fn open(
        store: Store,
        run: String,
        changes: watch::Sender<u64>,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let next = store.log_end(&run).await?;
        let (lines, receiver) = mpsc::channel(LINES_WAITING_MAX);
        Ok((Self { lines }, tokio::spawn(write(store, run, next, receiver, changes))))
    }

    /// Writes a line of the run itself.
    pub(crate) async fn line(&self, text: impl Into<String>) {
        self.write(None, text.into()).await;
    }

    /// Writes a line of a service's.
    pub(crate) async fn service_line(&self, service: &ServiceName, text: impl Into<String>) {
        self.write(Some(service.clone()), text.into()).await;
    }

    async fn write(&self, service: Option<ServiceName>, text: String) {
        // The writer ends only after all senders are gone.
        let _written = self.lines.send((Micros::now(), service, shown(&text))).await;
    }
}

async fn write(
    store: Store,
    run: String,
    mut next: u64,
    mut lines: mpsc::Receiver<(Micros, Option<ServiceName>, String)>,
    changes: watch::Sender<u64>,
) {
    let mut left_out: u64 = 0;
    loop {
        let mut batch = Vec::new();
        let more = lines.recv_many(&mut batch, BATCH_LINES_MAX).await > 0;
        if more && batch.len() < BATCH_LINES_MAX {
            tokio::time::sleep(Duration::from_millis(BATCH_MILLIS_MAX)).await;
            while batch.len() < BATCH_LINES_MAX
                && let Ok(line) = lines.try_recv()
            {
                batch.push(line);
            }
        }
        let room = usize::try_from(RUN_LINES_MAX.saturating_sub(next)).unwrap_or(usize::MAX);
        left_out = left_out.saturating_add(u64::try_from(batch.len().saturating_sub(room)).unwrap_or(u64::MAX));
        batch.truncate(room);
        if !more && left_out > 0 {
            batch.push((
                Micros::now(),
                None,
                format!("the log is cut: {left_out} more lines came after {RUN_LINES_MAX}"),
            ));
        }
        let numbered: Vec<RunLogLine> =
            (next..).zip(batch).map(|(number, (at, service, text))| RunLogLine { number, at, service, text }).collect();
        match store.log_append(&run, &numbered).await {
            Ok(()) => next = next.saturating_add(u64::try_from(numbered.len()).unwrap_or(u64::MAX)),
            // A log with a gap is better than a build that fails because of its log.
            Err(error) => tracing::error!(%run, %error, lines = numbered.len(), "lines of a build's log were lost"),
        }
        changes.send_modify(|count| *count = count.wrapping_add(1));
        if !more {
            return;
        }
    }
}

/// Reads a log from line `from` on; with `follow`, until the run has ended or the hub stops.
pub(crate) fn read(
    store: Store,
    run: String,
    from: u64,
    follow: bool,
    changes: watch::Receiver<u64>,
    stop: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> BoxStream<'static, api::Result<RunLogLine>> {
    struct Reader {
        store: Store,
        run: String,
        next: u64,
        follow: bool,
        changes: watch::Receiver<u64>,
        stop: CancellationToken,
        lines: VecDeque<RunLogLine>,
        ended: bool,
        _permit: OwnedSemaphorePermit,
    }
    impl Reader {
        async fn next(&mut self) -> Result<Option<RunLogLine>, Error> {
            loop {
                if let Some(line) = self.lines.pop_front() {
                    self.next = line.number.saturating_add(1);
                    return Ok(Some(line));
                }
                self.changes.mark_unchanged();
                // Asked before the lines are read: a run ends only after its last line is written.
                let state = self.store.run_get(&self.run).await?.map(|run| run.state);
                self.lines = self.store.log_read(&self.run, self.next).await?.into();
                if !self.lines.is_empty() {
                    continue;
                }
                let is_under_way = matches!(state, Some(RunState::Queued | RunState::Running));
                if !self.follow || !is_under_way || self.stop.is_cancelled() {
                    return Ok(None);
                }
                tokio::select! {
                    _changed = self.changes.changed() => {}
                    () = tokio::time::sleep(Duration::from_millis(LOOK_MILLIS)) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }
    let lines = VecDeque::new();
    let reader = Reader { store, run, next: from, follow, changes, stop, lines, ended: false, _permit: permit };
    stream::unfold(reader, |mut reader| async move {
        if reader.ended {
            return None;
        }
        match reader.next().await {
            Ok(Some(line)) => Some((Ok(line), reader)),
            Ok(None) => None,
            Err(error) => {
                reader.ended = true;
                Some((Err(Problem::from(error)), reader))
            }
        }
    })
    .boxed()
}
