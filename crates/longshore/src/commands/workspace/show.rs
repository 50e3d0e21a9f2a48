//! What people see of a workspace at work.

use std::collections::BTreeMap;

use ::workspace::progress::Told;
use ::workspace::workspace::Prepared;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::output::{self, Progress};

/// Shows what is told, until nobody tells anything any more.
pub(super) fn show(mut told: mpsc::Receiver<Told>, what: &str) -> AbortOnDropHandle<()> {
    let progress = Progress::begin(what);
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut pulls: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        while let Some(one) = told.recv().await {
            match one {
                Told::PullBytes { service, done_bytes, total_bytes } => {
                    pulls.insert(service, (done_bytes, total_bytes));
                    let (done, total) = pulls.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                    progress.now(&format!("pulling {} of {}", output::bytes(done), output::bytes(total)));
                }
                Told::Started { service } => progress.now(&format!("{service} started")),
                told => line(&told).iter().for_each(|line| progress.line(line)),
            }
        }
    }))
}

/// Waits until all that was told is shown. Whoever told must be gone.
pub(super) async fn finish(shown: AbortOnDropHandle<()>) {
    if let Err(error) = shown.await {
        tracing::debug!(%error, "what was told is not all shown");
    }
}

/// What is told, as lines; nothing where it is not worth one.
fn line(told: &Told) -> Vec<String> {
    match told {
        Told::Note(note) => vec![format!("note: {note}")],
        Told::Pulling { service } => vec![format!("{service}: pulling")],
        Told::Pulled { service } => vec![format!("{service}: pulled")],
        Told::Building { service } => vec![format!("{service}: building from source")],
        Told::BuildStep { service, step } => vec![format!("{service}: {step}")],
        Told::BuildLog { service, text } => {
            text.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{service}: | {line}")).collect()
        }
        Told::Synced { service } => vec![format!("{service}: up to date")],
        Told::Built { service } => vec![format!("{service}: built")],
        Told::Ready { service } => vec![format!("{service}: ready")],
        Told::Completed { service } => vec![format!("{service}: done")],
        Told::Filling { service } => vec![format!("{service}: filling its new volumes")],
        Told::Filled { service } => vec![format!("{service}: filled")],
        Told::Stopped { service } => vec![format!("{service}: stopped")],
        Told::Removed { name } => vec![format!("{name}: removed")],
        Told::Failed { service, why } => vec![format!("{service}: failed: {why}")],
        Told::Engine { up: true, .. } => vec!["the container engine is back".to_owned()],
        Told::Engine { up: false, why } => vec![format!("the container engine is away: {why}")],
        Told::PullBytes { .. } | Told::Started { .. } => Vec::new(),
    }
}

/// Where everything is found.
pub(super) fn addresses(prepared: &Prepared) {
    for address in &prepared.addresses {
        let moved = address.instead_of.map(|port| format!(" ({port} is taken)")).unwrap_or_default();
        output::stream(&format!("{}  {address}{moved}", address.service));
    }
}
