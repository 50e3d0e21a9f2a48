//! Delivery as the command line, pages and the pipeline see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::agent::LogStreamRequest;
use api::delivery::{
    AppOverview, Delivery, Environment, EnvironmentChange, EnvironmentRelease, EnvironmentReleases, Host, Instance,
    LOG_TAIL_LINES_MAX, LogLine, LogRequest, NewReleases, Overview, Plan, PlanKind, PromoteRequest, RELEASE_ID_DIGITS,
    Release, ReleaseFilter, ReleaseId, RollbackRequest, ServiceDifference, ServiceInEnvironment, ServiceOverview, Why,
};
use api::registry::Pin;
use api::{AppName, EnvName, HostName, Page, ServiceAddress, ServiceName};
use async_trait::async_trait;
use base::page::PAGE_ITEMS_MAX;
use futures::FutureExt as _;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::environments::{compare, parse};
use crate::error::{Error, ErrorKind};
use crate::execute::detail;
use crate::model::{PlanRecord, Project, Seen, brief, is_up, release_id};
use crate::promotion::{Asked, record, under_way, wanted};
use crate::store::{desired, environments, hosts, plans, releases};
use crate::{Service, instances};

/// Ended plans in the overview.
const OVERVIEW_PLANS_MAX: u32 = 20;
/// Attempts to plan while what is wanted changes between pinning and recording.
const PLAN_ATTEMPTS_MAX: usize = 5;
/// Services of one run.
const RELEASES_MAX: usize = 1000;
/// Bytes of who asked and why.
const WORDS_BYTES_MAX: usize = 1024;

impl Service {
    async fn pin(&self, release: &Release) -> Result<(), Error> {
        let pin = Pin {
            repository: release.image.repository.clone(),
            digest: release.image.digest,
            holder: format!("release/{}", release.id),
        };
        self.inner.registry.pin(pin).await.map_err(Error::Other)
    }

    async fn record_releases(&self, new: NewReleases) -> Result<Vec<Release>, Error> {
        let inconsistent = |what: String| {
            Error::new(ErrorKind::ReleaseInconsistent, what, "This is a fault of the build server; build again.")
        };
        let mut names: BTreeSet<&ServiceName> = BTreeSet::new();
        if let Some(twice) = new.releases.iter().find(|release| !names.insert(&release.service)) {
            return Err(inconsistent(format!("two releases are of {}", twice.service)));
        }
        if new.releases.len() > RELEASES_MAX {
            return Err(inconsistent(format!("there are more than {RELEASES_MAX}")));
        }
        let now = self.now();
        let mut made = Vec::new();
        for one in new.releases {
            made.push(Release {
                id: release_id(&new.app, &one).map_err(|error| inconsistent(format!("{}: {error}", one.service)))?,
                app: new.app.clone(),
                service: one.service,
                image: one.image,
                definitions: one.definitions,
                job: one.job,
                ports: one.ports,
                provenance: one.provenance,
                created_at: now,
            });
        }
        for release in &made {
            self.pin(release).await?;
        }
        let (app, commit, whole) = (new.app, new.commit, new.whole);
        let stored = self
            .inner
            .db
            .write(move |tx| {
                let (made, app, commit) = (made.clone(), app.clone(), commit.clone());
                async move {
                    let mut stored = Vec::new();
                    for release in &made {
                        let kept = releases::insert(tx, release).await?;
                        releases::newest_set(tx, &kept, &commit, now).await?;
                        stored.push(kept);
                    }
                    if whole {
                        let before = releases::newest(tx, &app).await?;
                        for service in before.keys().filter(|name| !made.iter().any(|one| one.service == **name)) {
                            releases::newest_remove(tx, &app, service).await?;
                        }
                    }
                    Ok::<_, Error>(stored)
                }
                .boxed()
            })
            .await?;
        self.inner.changes.note();
        Ok(stored)
    }

    pub(crate) async fn release_find(&self, id: &str) -> Result<Release, Error> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.is_empty() || id.len() > RELEASE_ID_DIGITS || !id.bytes().all(hex) {
            let shown: String = id.chars().take(RELEASE_ID_DIGITS * 2).collect();
            return Err(Error::new(
                ErrorKind::ReleaseInvalid,
                format!("{shown:?} is not 1 to {RELEASE_ID_DIGITS} hexadecimal digits"),
                "List releases with `longshore release ls`.",
            ));
        }
        let mut found = releases::by_prefix(&self.inner.db, id).await?;
        if found.len() > 1 {
            let (a, b) = (&found[0], &found[1]);
            return Err(Error::new(
                ErrorKind::ReleaseAmbiguous,
                format!("{id} begins {} ({}/{}) and {} ({}/{})", a.id, a.app, a.service, b.id, b.app, b.service),
                "Give more digits.",
            ));
        }
        found.pop().ok_or_else(|| {
            Error::new(
                ErrorKind::ReleaseUnknown,
                format!("no release begins with {id}"),
                "List releases with `longshore release ls`.",
            )
        })
    }

    async fn environments_apply(
        &self,
        text: &str,
        file_name: &str,
        dry_run: bool,
    ) -> Result<Vec<EnvironmentChange>, Error> {
        let parsed = Arc::new(parse(text, file_name)?);
        if dry_run {
            return compare(&parsed, &environments::all(&self.inner.db).await?, file_name);
        }
        let (file_name, now) = (file_name.to_owned(), self.now());
        let changes = self
            .inner
            .db
            .write(move |tx| {
                let (parsed, file_name) = (Arc::clone(&parsed), file_name.clone());
                async move {
                    let held = environments::all(tx).await?;
                    let mut changes = compare(&parsed, &held, &file_name)?;
                    for change in &mut changes {
                        // The file orders what it names; others keep their place before it.
                        let line = parsed.environments.iter().find(|(name, _, _)| *name == change.name);
                        let position = line.map_or(0, |(_, _, line)| i64::try_from(*line).unwrap_or(i64::MAX));
                        let revision =
                            environments::apply(tx, &change.name, &change.to, position, &file_name, now).await?;
                        change.revision = Some(revision);
                    }
                    Ok::<_, Error>(changes)
                }
                .boxed()
            })
            .await?;
        self.inner.changes.note();
        Ok(changes)
    }

    async fn plan_make(&self, asked: Asked) -> Result<Plan, Error> {
        let words = [Some(&asked.requested_by), asked.reason.as_ref()];
        if words.into_iter().flatten().any(|words| words.len() > WORDS_BYTES_MAX) {
            let what = format!("who asks and why may each have {WORDS_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::RequestInvalid, what, "Say it shorter."));
        }
        for _ in 0..PLAN_ATTEMPTS_MAX {
            // Said before anything is pinned, and again by the transaction.
            if let Some(other) = plans::under_way_on(&self.inner.db, &asked.project).await? {
                return Err(under_way(&other));
            }
            let wanted = wanted(&self.inner.db, &asked).await?;
            let mut pinned = BTreeSet::new();
            for release in wanted.entering() {
                self.pin(release).await?;
                pinned.insert(release.id.clone());
            }
            let seen = self.seen_refreshed().await?;
            let id = uuid::Uuid::now_v7().to_string();
            let (asked, now) = (asked.clone(), self.now());
            let made = self
                .inner
                .db
                .write(move |tx| {
                    let (asked, id, pinned, seen) = (asked.clone(), id.clone(), pinned.clone(), Arc::clone(&seen));
                    async move { record(tx, &asked, &id, &pinned, &seen, now).await }.boxed()
                })
                .await?;
            if let Some(plan) = made {
                self.inner.executor_wake.wake();
                self.inner.changes.note();
                return Ok(plan.to_plan());
            }
        }
        Err(Error::new(
            ErrorKind::PlanUnderWay,
            "what is to be promoted changed again and again meanwhile",
            "Try again when builds and promotions have calmed down.",
        ))
    }

    /// A plan with what agents say of its steps now.
    pub(crate) fn plan_shown(&self, mut plan: PlanRecord, seen: &BTreeMap<HostName, Seen>) -> Plan {
        let known = plan.clone();
        if !plan.state.is_final() {
            for record in &mut plan.steps {
                record.step.detail = detail(&known, record, &self.view(seen, self.now()));
            }
        }
        plan.to_plan()
    }

    async fn overview_make(&self) -> Result<Overview, Error> {
        let db = &self.inner.db;
        let seen = self.seen_refreshed().await?;
        let mut apps = Vec::new();
        for app in releases::apps(db).await? {
            let mut services: BTreeMap<ServiceName, ServiceOverview> = BTreeMap::new();
            let blank = |release: &Release| ServiceOverview {
                service: release.service.clone(),
                job: release.job,
                newest: None,
                environments: BTreeMap::new(),
            };
            for (service, release) in releases::newest(db, &app).await? {
                services.entry(service).or_insert_with(|| blank(&release)).newest = Some(brief(&release));
            }
            let mut running: BTreeMap<EnvName, Vec<Instance>> = BTreeMap::new();
            for (project, release, since) in releases::current_everywhere(db, &app).await? {
                let running = running.entry(project.env.clone()).or_insert_with(|| instances(&project, &seen));
                let instances =
                    running.iter().filter(|instance| instance.service == release.service).cloned().collect();
                let here = ServiceInEnvironment { release: brief(&release), since, instances };
                let service = services.entry(release.service.clone()).or_insert_with(|| blank(&release));
                service.environments.insert(project.env, here);
            }
            apps.push(AppOverview { app, services: services.into_values().collect() });
        }
        let mut shown: Vec<PlanRecord> = Vec::new();
        for id in plans::under_way(db).await? {
            shown.extend(plans::get(db, &id).await?);
        }
        shown.reverse();
        let ended = plans::newest(db, None, None, None, OVERVIEW_PLANS_MAX).await?;
        shown.extend(ended.into_iter().filter(|plan| plan.state.is_final()));
        let rows = hosts::all(db).await?;
        Ok(Overview {
            at: self.now(),
            environments: environments::all(db).await?.into_iter().map(|environment| environment.name).collect(),
            apps,
            plans: shown.into_iter().map(|plan| self.plan_shown(plan, &seen)).collect(),
            hosts: rows.into_iter().map(|row| self.host(row, &seen)).collect(),
        })
    }

    async fn logs_open(&self, request: LogRequest) -> Result<BoxStream<'static, api::Result<LogLine>>, Error> {
        let LogRequest { env, address, follow, tail_lines } = request;
        let ServiceAddress { app, service } = address;
        let project = Project { env, app };
        environments::get(&self.inner.db, &project.env).await?;
        let mut on: BTreeSet<(ServiceName, HostName)> =
            desired::placements(&self.inner.db, &project).await?.into_keys().collect();
        let seen = self.seen_refreshed().await?;
        on.extend(instances(&project, &seen).into_iter().map(|instance| (instance.service, instance.host)));
        on.retain(|(name, _)| service.as_ref().is_none_or(|only| only == name));
        if on.is_empty() {
            let address = ServiceAddress { app: project.app.clone(), service };
            return Err(Error::new(
                ErrorKind::ServiceUnknown,
                format!("{} runs nothing of {address}", project.env),
                format!("See what runs there with `longshore ps --env {}`.", project.env),
            ));
        }
        let all: BTreeSet<HostName> = on.into_iter().map(|(_, host)| host).collect();
        let now = self.now();
        let up: Vec<HostName> =
            all.iter().filter(|host| is_up(seen.get(*host).map(|seen| seen.at), now)).cloned().collect();
        if up.is_empty() {
            let names: Vec<&str> = all.iter().map(HostName::as_str).collect();
            return Err(Error::new(
                ErrorKind::HostDown,
                format!("it runs on {}, of which none reports", names.join(", ")),
                "Start the agent there again; `longshore host ls` shows when each reported last.",
            ));
        }
        let request = LogStreamRequest {
            id: uuid::Uuid::now_v7().to_string(),
            env: project.env,
            app: project.app,
            service,
            follow,
            tail_lines: tail_lines.min(LOG_TAIL_LINES_MAX),
        };
        self.inner.logs.open(request, &up)
    }
}

fn bounded(limit: u32) -> u32 {
    limit.clamp(1, PAGE_ITEMS_MAX)
}

#[async_trait]
impl Delivery for Service {
    async fn release_record(&self, new: NewReleases) -> api::Result<Vec<Release>> {
        Ok(self.record_releases(new).await?)
    }

    async fn release_get(&self, id: &str) -> api::Result<Release> {
        Ok(self.release_find(id).await?)
    }

    async fn release_list(&self, filter: ReleaseFilter, after: Option<&str>, limit: u32) -> api::Result<Page<Release>> {
        Ok(releases::page(&self.inner.db, &filter, after, bounded(limit)).await?)
    }

    async fn env_apply(&self, text: &str, file_name: &str, dry_run: bool) -> api::Result<Vec<EnvironmentChange>> {
        Ok(self.environments_apply(text, file_name, dry_run).await?)
    }

    async fn env_list(&self) -> api::Result<Vec<Environment>> {
        Ok(environments::all(&self.inner.db).await?)
    }

    async fn env_releases(&self, app: &AppName, env: &EnvName) -> api::Result<EnvironmentReleases> {
        let db = &self.inner.db;
        environments::get(db, env).await?;
        let current = releases::current(db, &Project { env: env.clone(), app: app.clone() }).await?;
        let releases = current
            .into_iter()
            .map(|(service, release)| EnvironmentRelease {
                id: release.id,
                service,
                image: release.image,
                definition: release.definitions.of(env).clone(),
                job: release.job,
                commit: release.provenance.commit,
            })
            .collect();
        Ok(EnvironmentReleases { env: env.clone(), app: app.clone(), releases })
    }

    async fn env_diff(
        &self,
        app: &AppName,
        from: Option<&EnvName>,
        to: &EnvName,
    ) -> api::Result<Vec<ServiceDifference>> {
        let db = &self.inner.db;
        let side = async |env: &EnvName| {
            environments::get(db, env).await?;
            releases::current(db, &Project { env: env.clone(), app: app.clone() }).await
        };
        let right = side(to).await?;
        let left = match from {
            Some(env) => side(env).await?,
            None => releases::newest(db, app).await?,
        };
        let services: BTreeSet<&ServiceName> = left.keys().chain(right.keys()).collect();
        Ok(services
            .into_iter()
            .map(|service| ServiceDifference {
                service: service.clone(),
                from: left.get(service).map(brief),
                to: right.get(service).map(brief),
            })
            .filter(|difference| {
                let id = |side: &Option<api::delivery::ReleaseBrief>| side.as_ref().map(|brief| brief.id.clone());
                id(&difference.from) != id(&difference.to)
            })
            .collect())
    }

    async fn promote(&self, request: PromoteRequest) -> api::Result<Plan> {
        let PromoteRequest { address, to, force_reason, requested_by } = request;
        if force_reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            let refusal = Error::new(
                ErrorKind::RequestInvalid,
                "the order of environments may be skipped for a reason only, and it is empty",
                "Say why: `--force --reason WHY`.",
            );
            return Err(refusal.into());
        }
        let asked = Asked {
            project: Project { env: to, app: address.app },
            service: address.service,
            kind: PlanKind::Promotion,
            forced: force_reason.is_some(),
            reason: force_reason,
            requested_by,
        };
        Ok(self.plan_make(asked).await?)
    }

    async fn rollback(&self, request: RollbackRequest) -> api::Result<Plan> {
        let RollbackRequest { address, env, reason, requested_by } = request;
        let asked = Asked {
            project: Project { env, app: address.app },
            service: address.service,
            kind: PlanKind::Rollback,
            forced: false,
            reason,
            requested_by,
        };
        Ok(self.plan_make(asked).await?)
    }

    async fn plan_get(&self, id: &str) -> api::Result<Plan> {
        let plan = plans::get(&self.inner.db, id).await?;
        let plan = plan.ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            let hint = "List plans with `longshore rollout status`.";
            Error::new(ErrorKind::PlanUnknown, format!("no plan has the id {shown:?}"), hint)
        })?;
        Ok(self.plan_shown(plan, &self.seen()))
    }

    async fn plan_list(
        &self,
        app: Option<&AppName>,
        env: Option<&EnvName>,
        after: Option<&str>,
        limit: u32,
    ) -> api::Result<Page<Plan>> {
        let limit = bounded(limit);
        let plans = plans::newest(&self.inner.db, app, env, after, limit).await?;
        let seen = self.seen();
        let plans = plans.into_iter().map(|plan| self.plan_shown(plan, &seen)).collect();
        Ok(Page::from_surplus(plans, limit, |plan: &Plan| plan.id.clone()))
    }

    async fn why(&self, address: &ServiceAddress, env: &EnvName) -> api::Result<Why> {
        Ok(self.why_make(address, env).await?)
    }

    async fn host_list(&self, after: Option<&str>, limit: u32) -> api::Result<Page<Host>> {
        let limit = bounded(limit);
        let seen = self.seen_refreshed().await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let rows = hosts::all(&self.inner.db).await?.into_iter();
        let rows = rows.filter(|row| after.is_none_or(|after| row.view.name.as_str() > after)).take(wanted);
        let hosts = rows.map(|row| self.host(row, &seen)).collect();
        Ok(Page::from_surplus(hosts, limit, |host: &Host| host.name.to_string()))
    }

    async fn instance_list(&self, app: &AppName, env: &EnvName) -> api::Result<Vec<Instance>> {
        environments::get(&self.inner.db, env).await?;
        let seen = self.seen_refreshed().await?;
        Ok(instances(&Project { env: env.clone(), app: app.clone() }, &seen))
    }

    async fn logs(&self, request: LogRequest) -> api::Result<BoxStream<'static, api::Result<LogLine>>> {
        Ok(self.logs_open(request).await?)
    }

    async fn overview(&self) -> api::Result<Overview> {
        Ok(self.overview_make().await?)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

/// The ids in a map of releases.
pub(crate) fn ids(releases: &BTreeMap<ServiceName, Release>) -> BTreeMap<ServiceName, ReleaseId> {
    releases.iter().map(|(service, release)| (service.clone(), release.id.clone())).collect()
}
