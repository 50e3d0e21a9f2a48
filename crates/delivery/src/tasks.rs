//! Background work: the executor, and keeping what hosts are told in step with what changed by other ways.

use std::sync::Arc;
use std::time::Duration;

use api::delivery::{Deployed, PlanState};
use api::{Micros, Problem};
use base::db::{DbErrorKind, Tx};
use base::lease::Fence;
use base::outbox::{self, OUTBOX_PAGE_ENTRIES, OutboxError};
use base::tasks::{Progress, Tasks};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::Service;
use crate::error::Error;
use crate::execute::{View, advance};
use crate::promotion::SeenMap;
use crate::store::{desired, events, plans, releases};

/// Takes an event. It is told again until this succeeds.
pub type OnDeployed = Arc<dyn Fn(Deployed) -> BoxFuture<'static, Result<(), Problem>> + Send + Sync>;

/// How often events are handed on, in seconds.
const EVENTS_SECONDS: u64 = 1;
/// How often the executor looks, in seconds, when nothing wakes it: timeouts are found by this.
const EXECUTOR_SECONDS: u64 = 1;
/// How often desired states are reckoned anew, in seconds: for changes that no transaction of a plan makes.
const REFRESH_SECONDS: u64 = 60;
/// How long the executor's lease lasts.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(15);
pub(crate) const LEASE_NAME: &str = "delivery-executor";

/// What a transition changed, for those who wait.
struct Transition {
    hosts: Vec<api::HostName>,
}

impl Service {
    /// Starts the context's background tasks; `on_deployed` is told what is deployed where.
    pub fn tasks_spawn(&self, tasks: &Tasks, on_deployed: OnDeployed) {
        let service = self.clone();
        tasks.spawn("delivery-events", Duration::from_secs(EVENTS_SECONDS), base::tasks::Wake::default(), move || {
            let (service, on_deployed) = (service.clone(), Arc::clone(&on_deployed));
            async move { service.events_deliver(&on_deployed).await }
        });
        let service = self.clone();
        tasks.spawn(
            "delivery-executor",
            Duration::from_secs(EXECUTOR_SECONDS),
            self.inner.executor_wake.clone(),
            move || {
                let service = service.clone();
                async move { service.execute().await }
            },
        );
        let service = self.clone();
        tasks.spawn(
            "delivery-refresh",
            Duration::from_secs(REFRESH_SECONDS),
            base::tasks::Wake::default(),
            move || {
                let service = service.clone();
                async move { service.refresh_all().await }
            },
        );
    }

    /// Tells of what is deployed where, a page at a time, in order.
    ///
    /// # Errors
    /// The database failed, or an event was not taken; it and all later ones are told again.
    pub async fn events_deliver(&self, on_deployed: &OnDeployed) -> Result<Progress, Error> {
        events::tell_all(&self.inner.db, self.now()).await?;
        let taken = outbox::deliver(&self.inner.db, |entry| match entry.payload::<Deployed>() {
            Ok(event) => on_deployed(event),
            Err(error) => std::future::ready(Err(Problem::internal(&error))).boxed(),
        });
        match taken.await {
            Ok(taken) if taken < OUTBOX_PAGE_ENTRIES => Ok(Progress::Done),
            Ok(_) => Ok(Progress::More),
            Err(OutboxError::Db(error)) => Err(error.into()),
            Err(error @ OutboxError::Consumer { .. }) => Err(Error::Other(Problem::internal(&error))),
        }
    }

    /// One run of the executor: at most one transition of each plan under way, each in a transaction of its own.
    ///
    /// # Errors
    /// The database failed. Nothing is half done; the next run goes on.
    pub async fn execute(&self) -> Result<Progress, Error> {
        let under_way = plans::under_way(&self.inner.db).await?;
        if under_way.is_empty() {
            return Ok(Progress::Done);
        }
        let Some(fence) = self.inner.lease.lock().await.fence(self.now()).await? else { return Ok(Progress::Done) };
        let seen = self.seen_refreshed().await?;
        let mut progress = Progress::Done;
        let mut failed = None;
        for id in under_way {
            let now = self.now();
            let known = plans::get(&self.inner.db, &id).await?;
            if known.is_none_or(|plan| advance(&plan, &self.view(&seen, now)).is_none()) {
                continue;
            }
            let transition = self.transition(&id, &fence, &seen, now).await;
            if let Err(Error::Database(error)) = &transition
                && error.kind() == DbErrorKind::LeaseLost
            {
                self.inner.lease.lock().await.forget();
                return Ok(Progress::Done);
            }
            let transition = match transition {
                Ok(transition) => transition,
                // One plan that cannot be taken further must not hold up the others.
                Err(error) => {
                    tracing::error!(plan = %id, %error, "a plan cannot be taken further");
                    failed.get_or_insert(error);
                    continue;
                }
            };
            if let Some(transition) = transition {
                for host in &transition.hosts {
                    self.inner.watchers.wake(host);
                }
                self.inner.changes.note();
                progress = Progress::More;
            }
        }
        failed.map_or(Ok(progress), Err)
    }

    async fn transition(
        &self,
        id: &str,
        fence: &Fence,
        seen: &SeenMap,
        now: Micros,
    ) -> Result<Option<Transition>, Error> {
        let (id, fence, seen) = (id.to_owned(), fence.clone(), Arc::clone(seen));
        let listening_since = self.inner.listening_since;
        self.inner
            .db
            .write(move |tx| {
                let (id, fence, seen) = (id.clone(), fence.clone(), Arc::clone(&seen));
                async move {
                    fence.check(tx).await?;
                    apply(tx, &id, &View { seen: &seen, now, listening_since }).await
                }
                .boxed()
            })
            .await
    }

    /// Reckons anew what every project's hosts are to be.
    async fn refresh_all(&self) -> Result<Progress, Error> {
        for project in desired::projects_told(&self.inner.db).await? {
            self.refresh(vec![project]).await?;
        }
        Ok(Progress::Done)
    }

    /// Reckons anew what these projects' hosts are to be, and wakes those for whom it is another.
    pub(crate) async fn refresh(&self, projects: Vec<crate::model::Project>) -> Result<(), Error> {
        let hosts = self
            .inner
            .db
            .write(move |tx| {
                let projects = projects.clone();
                async move {
                    let mut hosts = std::collections::BTreeSet::new();
                    for project in &projects {
                        hosts.extend(desired::refresh(tx, project).await?);
                    }
                    Ok::<_, Error>(hosts)
                }
                .boxed()
            })
            .await?;
        for host in &hosts {
            self.inner.watchers.wake(host);
        }
        Ok(())
    }
}

/// Takes a plan one transition further: steps, placements, what hosts are told, and with its success what the
/// environment has; all in the caller's transaction.
async fn apply(tx: &mut Tx, id: &str, view: &View<'_>) -> Result<Option<Transition>, Error> {
    let Some(before) = plans::get(tx, id).await? else { return Ok(None) };
    let Some(mut next) = advance(&before, view) else { return Ok(None) };
    let (project, now) = (&before.project, view.now);
    for change in &next.placements {
        desired::placement_set(tx, project, change).await?;
    }
    for (service, release) in &next.jobs_succeeded {
        plans::job_succeeded_set(tx, &before, service, release, now).await?;
    }
    if next.plan.state == PlanState::Succeeded {
        for change in &before.changes {
            releases::current_set(tx, project, &change.service, change.to.as_ref(), now).await?;
        }
    }
    plans::update(tx, &before, &next.plan).await?;
    let hosts = desired::refresh(tx, project).await?;
    if !next.told.is_empty() {
        let stored = next.plan.clone();
        for record in next.plan.steps.iter_mut().filter(|record| next.told.contains(&record.step.number)) {
            record.told = crate::store::hosts::number(tx, &record.step.host).await?;
        }
        plans::update(tx, &stored, &next.plan).await?;
    }
    Ok(Some(Transition { hosts: hosts.into_iter().collect() }))
}
