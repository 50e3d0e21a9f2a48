//! Delivery as agents see it: what a host is to be, and what it says it is.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use api::agent::{Desired, DesiredSeen, Progress, ProxyReport, Report, WAIT_SECONDS_MAX};
use api::delivery::{Fleet, LogLine};
use api::{HostName, Micros};
use async_trait::async_trait;
use futures::FutureExt as _;
use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::Service;
use crate::error::Error;
use crate::model::Seen;
use crate::store::{desired, hosts};

/// How often a held call looks into the database by itself, in seconds: another hub may have changed it.
const RECHECK_SECONDS: u64 = 5;
/// How often a report is stored when nothing in it changed that decides anything, in seconds.
const PERSIST_SECONDS: u64 = 10;

/// A host's last report in memory.
///
/// Every report is kept in memory at once. It is stored at once when something changed that a decision depends on
/// (anything but the clock, the proxy's counts and the words of progress), else every [`PERSIST_SECONDS`].
pub(crate) struct Entry {
    pub(crate) seen: Seen,
    decisive: Arc<Report>,
    persisted_at: Micros,
}

impl Entry {
    pub(crate) fn stored(seen: Seen) -> Self {
        Self { decisive: Arc::new(decisive(&seen.report)), persisted_at: seen.at, seen }
    }
}

/// A report without what no decision depends on.
fn decisive(report: &Report) -> Report {
    let mut report = Report { clock: Micros(0), proxy: ProxyReport::default(), ..report.clone() };
    let services = report.services.iter_mut().map(|service| &mut service.progress);
    for progress in services.chain(report.jobs.iter_mut().map(|job| &mut job.progress)) {
        if let Progress::Waiting { detail } | Progress::Working { detail } = progress {
            detail.clear();
        }
    }
    report
}

impl Service {
    async fn report_take(&self, host: &HostName, report: Report) -> Result<(), Error> {
        let now = self.now();
        let known = {
            let seen = self.inner.seen.read().unwrap_or_else(PoisonError::into_inner);
            seen.get(host)
                .map(|entry| (Arc::clone(&entry.decisive), entry.persisted_at, Arc::clone(&entry.seen.report)))
        };
        if known.is_none() {
            hosts::number(&self.inner.db, host).await?;
        }
        let stripped = decisive(&report);
        let changed = known.as_ref().is_none_or(|(before, _, _)| **before != stripped);
        let due = known.as_ref().is_none_or(|(_, at, _)| now.since(*at).as_secs() >= PERSIST_SECONDS);
        let visible = known.as_ref().is_none_or(|(_, _, before)| {
            Report { clock: Micros(0), ..(**before).clone() } != Report { clock: Micros(0), ..report.clone() }
        });
        let seen = Seen { at: now, report: Arc::new(report) };
        let persisted_at = match (&known, changed || due) {
            (Some((_, at, _)), false) => *at,
            _ => now,
        };
        if changed || due {
            self.report_store(host, &seen).await?;
        }
        self.seen_insert(host.clone(), Entry { seen, decisive: Arc::new(stripped), persisted_at });
        if changed {
            self.inner.executor_wake.wake();
        }
        if visible {
            self.inner.changes.note();
        }
        Ok(())
    }

    async fn report_store(&self, host: &HostName, seen: &Seen) -> Result<(), Error> {
        let (name, stored) = (host.clone(), seen.clone());
        let mesh_changed = self
            .inner
            .db
            .write(move |tx| {
                let (name, stored) = (name.clone(), stored.clone());
                async move { hosts::report_set(tx, &name, &stored).await }.boxed()
            })
            .await?;
        if mesh_changed {
            let projects = desired::projects_on(&self.inner.db, host).await?;
            self.refresh(projects).await?;
        }
        Ok(())
    }

    async fn desired_wait(&self, host: &HostName, seen: DesiredSeen, wait_seconds: u64) -> Result<Desired, Error> {
        let until = Instant::now() + Duration::from_secs(wait_seconds.min(WAIT_SECONDS_MAX));
        let mut watch = self.inner.watchers.subscribe(host);
        loop {
            watch.mark_unchanged();
            let number = hosts::number(&self.inner.db, host).await?;
            let streams = self.inner.logs.wanted(host);
            // A number above ours is of a hub that knew more; the agent refuses ours, and need not be told at once.
            let newer = number > seen.number || (number == seen.number && streams.number != seen.streams);
            if newer || Instant::now() >= until {
                let (number, projects) = desired::told(&self.inner.db, host).await?;
                return Ok(Desired { hub: self.inner.hub.clone(), number, host: host.clone(), projects, streams });
            }
            let recheck = (Instant::now() + Duration::from_secs(RECHECK_SECONDS)).min(until);
            tokio::select! {
                _ = watch.changed() => {}
                () = tokio::time::sleep_until(recheck) => {}
            }
        }
    }
}

#[async_trait]
impl Fleet for Service {
    async fn host_enrolled(&self, host: &HostName, labels: BTreeMap<String, String>) -> api::Result<()> {
        let (host, now) = (host.clone(), self.now());
        self.inner
            .db
            .write(move |tx| {
                let (host, labels) = (host.clone(), labels.clone());
                async move { hosts::upsert(tx, &host, &labels, now).await }.boxed()
            })
            .await?;
        self.inner.changes.note();
        Ok(())
    }

    async fn desired(&self, host: &HostName, seen: DesiredSeen, wait_seconds: u64) -> api::Result<Desired> {
        Ok(self.desired_wait(host, seen, wait_seconds).await?)
    }

    async fn report(&self, host: &HostName, report: Report) -> api::Result<()> {
        Ok(self.report_take(host, report).await?)
    }

    async fn log_stream(
        &self,
        host: &HostName,
        stream: &str,
        lines: BoxStream<'static, api::Result<LogLine>>,
    ) -> api::Result<()> {
        Ok(self.inner.logs.send(host, stream, lines).await?)
    }
}
