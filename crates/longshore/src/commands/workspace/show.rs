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
                told => plain(&told).iter().for_each(|line| progress.line(line)),
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

/// What is told, as plain lines; nothing where it is not worth one.
pub(super) fn plain(told: &Told) -> Vec<String> {
    let line = |(service, text): (Option<&str>, String)| match service {
        Some(service) => format!("{service}: {text}"),
        None => text,
    };
    said(told).into_iter().map(line).collect()
}

/// What is told, as lines that may be about a service.
pub(super) fn said(told: &Told) -> Vec<(Option<&str>, String)> {
    let of_one = match told {
        Told::Note(note) => return vec![(None, format!("note: {note}"))],
        Told::Pulling { service } => (service, "pulling"),
        Told::Pulled { service } => (service, "pulled"),
        Told::Building { service } => (service, "building from source"),
        Told::BuildStep { service, step } => (service, step.as_str()),
        Told::BuildLog { service, text } => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            return lines.map(|line| (Some(service.as_str()), format!("| {line}"))).collect();
        }
        Told::Synced { service } => (service, "up to date"),
        Told::Built { service } => (service, "built"),
        Told::Ready { service } => (service, "ready"),
        Told::Completed { service } => (service, "done"),
        Told::Filling { service } => (service, "filling its new volumes"),
        Told::Filled { service } => (service, "filled"),
        Told::Stopped { service } => (service, "stopped"),
        Told::Removed { name } => (name, "removed"),
        Told::Failed { service, why } => return vec![(Some(service), format!("failed: {why}"))],
        Told::Engine { up: true, .. } => return vec![(None, "the container engine is back".to_owned())],
        Told::Engine { up: false, why } => return vec![(None, format!("the container engine is away: {why}"))],
        Told::PullBytes { .. } | Told::Started { .. } => return Vec::new(),
    };
    vec![(Some(of_one.0.as_str()), of_one.1.to_owned())]
}

/// Where everything is found.
pub(super) fn addresses(prepared: &Prepared) {
    for address in &prepared.addresses {
        let moved = address.instead_of.map(|port| format!(" ({port} is taken)")).unwrap_or_default();
        output::stream(&format!("{}  {address}{moved}", address.service));
    }
}
