//! Background work: one process at a time claims queued runs and carries them out; what was under way when a hub died is
//! queued again, which is safe because the same inputs give the same images.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::Micros;
use base::db::{DbError, DbErrorKind};
use base::lease::Lease;
use base::shutdown::Shutdown;
use base::tasks::{Progress, Tasks, Wake};
use tokio_util::sync::CancellationToken;

use crate::build::Runner;
use crate::error::Error;

/// How often runs are looked for without being woken, in milliseconds.
const LOOK_MILLIS: u64 = 1000;
/// How long the lease outlives a hub that died, in seconds.
const LEASE_SECONDS: u64 = 15;
/// The lease's name.
const LEASE_NAME: &str = "runs";

/// Claims and starts runs.
pub(crate) struct Claimer {
    runner: Arc<Runner>,
    shutdown: Shutdown,
    wake: Wake,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    /// Runs that are carried out here, and how each is stopped.
    working: BTreeMap<String, CancellationToken>,
}

/// Starts the background work of this context.
pub(crate) fn spawn(tasks: &Tasks, shutdown: &Shutdown, runner: Arc<Runner>, wake: &Wake) {
    let state = Mutex::new(State::default());
    let claimer = Arc::new(Claimer { runner, shutdown: shutdown.clone(), wake: wake.clone(), state });
    tasks.spawn("pipeline-runs", Duration::from_millis(LOOK_MILLIS), wake.clone(), move || {
        let claimer = Arc::clone(&claimer);
        async move { claimer.look().await }
    });
}

impl Claimer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look: holds the lease, queues again what nobody works on, and starts one queued run if there is room.
    async fn look(self: &Arc<Self>) -> Result<Progress, Error> {
        let Some(lease) = self.lease().await? else { return Ok(Progress::Done) };
        let working: Vec<String> = self.state().working.keys().cloned().collect();
        if working.len() >= self.runner.config.builds_parallel.max(1) {
            return Ok(Progress::Done);
        }
        self.runner.store.runs_requeue(lease.fence(), working).await?;
        let Some((run, attempts)) = self.runner.store.run_claim(lease.fence()).await? else {
            return Ok(Progress::Done);
        };
        let id = run.id.clone();
        let stop = self.shutdown.token().child_token();
        self.state().working.insert(id.clone(), stop.clone());
        let claimer = Arc::clone(self);
        self.shutdown.spawn(async move {
            tokio::select! {
                // Stopped half way it stays `running` in the store, and the next holder of the lease queues it again.
                () = stop.cancelled() => {}
                ended = claimer.runner.run(run, attempts) => if let Err(error) = ended {
                    tracing::error!(run = %id, %error, "a run could not be ended");
                },
            }
            claimer.state().working.remove(&id);
            claimer.wake.wake();
        });
        Ok(Progress::More)
    }

    /// The lease, taken or renewed; none while another replica has it.
    async fn lease(&self) -> Result<Option<Lease>, DbError> {
        let held = self.state().lease.clone();
        let now = Micros::now();
        if let Some(lease) = held {
            match lease.renew(now).await {
                Ok(()) => return Ok(Some(lease)),
                Err(error) if error.kind() == DbErrorKind::LeaseLost => {
                    let mut state = self.state();
                    state.lease = None;
                    // Another replica begins these again.
                    state.working.values().for_each(CancellationToken::cancel);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        if !self.state().working.is_empty() {
            return Ok(None);
        }
        let (db, holder) = (self.runner.store.db(), &self.runner.config.holder);
        let lease = Lease::acquire(db, LEASE_NAME, holder, Duration::from_secs(LEASE_SECONDS), now).await?;
        self.state().lease.clone_from(&lease);
        Ok(lease)
    }
}
