//! One run of a job, whatever the database: bounded in time, with panics caught.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::error::{DbError, DbErrorKind};
use super::statement::Tx;

/// How long one run of a job may take. On SQLite everyone else waits for it.
pub const JOB_SECONDS_MAX: u64 = 30;

/// Runs the job; `Ok` means that its changes may be committed.
pub(super) async fn attempt<T, E, F>(job: &F, tx: &mut Tx) -> Result<T, E>
where
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync,
    E: From<DbError>,
{
    let run = caught("a change", async { job(&mut *tx).await });
    let outcome = tokio::time::timeout(Duration::from_secs(JOB_SECONDS_MAX), run).await;
    let ignored = tx.failure_take();
    match outcome {
        Err(_) => Err(DbError::new(
            DbErrorKind::Timeout,
            format!("a change took longer than {JOB_SECONDS_MAX} seconds and was undone"),
        )
        .with_hint("try again; check the load of disk and database")
        .into()),
        Ok(Err(panicked)) => Err(panicked.into()),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Ok(Ok(value))) => match ignored {
            Some(error) => Err(error.into()),
            None => Ok(value),
        },
    }
}

/// Runs something whose panic is an error.
pub(super) async fn caught<T>(what: &str, run: impl Future<Output = T>) -> Result<T, DbError> {
    let outcome = AssertUnwindSafe(run).catch_unwind().await;
    outcome.map_err(|panic| DbError::new(DbErrorKind::Panicked, format!("{what} panicked: {}", panic_text(&*panic))))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}
