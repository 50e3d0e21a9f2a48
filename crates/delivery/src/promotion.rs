//! What a promotion or rollback is to bring about, read from the store and handed to the planner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::agent::EngineState;
use api::delivery::{Environment, PlanKind, PlanState, Release, ReleaseId};
use api::{HostName, Micros, ServiceAddress, ServiceName};
use base::db::{Queryable, Tx};
use compose::ServiceDefinition;

use crate::error::{Error, ErrorKind};
use crate::model::{HostView, PlanRecord, Project, Seen, is_for_app, target_matches};
use crate::plan::{Input, plan};
use crate::policy::{Claim, claims};
use crate::store::{desired, environments, hosts, plans, releases};

/// A promotion or rollback that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) project: Project,
    pub(crate) service: Option<ServiceName>,
    pub(crate) kind: PlanKind,
    /// Whether the order of environments may be skipped.
    pub(crate) forced: bool,
    pub(crate) reason: Option<String>,
    pub(crate) requested_by: String,
}

/// What an environment is to have.
pub(crate) struct Wanted {
    pub(crate) environment: Environment,
    pub(crate) current: BTreeMap<ServiceName, Release>,
    pub(crate) releases: BTreeMap<ServiceName, Release>,
    pub(crate) scope: BTreeSet<ServiceName>,
}

impl Wanted {
    /// The releases that enter the environment, or enter it again.
    pub(crate) fn entering(&self) -> impl Iterator<Item = &Release> {
        self.releases.iter().filter(|(service, _)| self.scope.contains(*service)).map(|(_, release)| release)
    }
}

/// Reads what is to be brought about.
pub(crate) async fn wanted<Q: Queryable>(on: &Q, asked: &Asked) -> Result<Wanted, Error> {
    let Project { env, app } = &asked.project;
    let environment = environments::get(on, env).await?;
    if !is_for_app(&environment, app) {
        let apps: Vec<&str> = environment.spec.apps.iter().map(|app| app.as_str()).collect();
        return Err(Error::new(
            ErrorKind::EnvironmentNotForApp,
            format!("{env} is for {} and not for {app}", apps.join(", ")),
            format!(
                "Add {app} to `apps` of {env} in the environments file and apply it: `longshore env apply -f FILE`."
            ),
        ));
    }
    let current = releases::current(on, &asked.project).await?;
    match asked.kind {
        PlanKind::Promotion => promoted(on, asked, environment, current).await,
        PlanKind::Rollback => rolled_back(on, asked, environment, current).await,
    }
}

async fn promoted<Q: Queryable>(
    on: &Q,
    asked: &Asked,
    environment: Environment,
    current: BTreeMap<ServiceName, Release>,
) -> Result<Wanted, Error> {
    let Project { env, app } = &asked.project;
    let newest = releases::newest(on, app).await?;
    if newest.is_empty() {
        return Err(Error::new(
            ErrorKind::NoBuild,
            format!("{app} was never built on this hub"),
            "Build it: `longshore build --repo URL-OR-PATH --ref REF`.",
        ));
    }
    let (source, place) = match &environment.spec.after {
        Some(before) if !asked.forced => {
            let project = Project { env: before.clone(), app: app.clone() };
            let source = releases::current(on, &project).await?;
            let missing = match &asked.service {
                Some(service) => !source.contains_key(service),
                None => source.is_empty(),
            };
            if missing {
                let address = address(asked);
                return Err(Error::new(
                    ErrorKind::NotInEnvironmentBefore,
                    format!(
                        "{env} comes after {before}, and {before} has no release of {address} that succeeded there"
                    ),
                    format!(
                        "Promote it there first: `longshore promote {address} --to {before}`; or skip the order with a \
                         reason: `--force --reason WHY`."
                    ),
                ));
            }
            (source, format!("the environment {before}"))
        }
        _ => (newest, "the newest build".to_owned()),
    };
    let Some(service) = &asked.service else {
        let scope = source.keys().chain(current.keys()).cloned().collect();
        return Ok(Wanted { environment, current, releases: source, scope });
    };
    let Some(release) = source.get(service) else {
        let names: Vec<&str> = source.keys().map(|name| name.as_str()).collect();
        return Err(Error::new(
            ErrorKind::ServiceUnknown,
            format!("{place} has no service {service} of {app}; it has {}", names.join(", ")),
            format!("Name one of them, or promote the whole app: `longshore promote {app} --to {env}`."),
        ));
    };
    let mut releases = current.clone();
    releases.insert(service.clone(), release.clone());
    Ok(Wanted { environment, current, releases, scope: BTreeSet::from([service.clone()]) })
}

async fn rolled_back<Q: Queryable>(
    on: &Q,
    asked: &Asked,
    environment: Environment,
    current: BTreeMap<ServiceName, Release>,
) -> Result<Wanted, Error> {
    let Project { env, .. } = &asked.project;
    let nothing = |why: String| {
        let hint = format!("See what was promoted with `longshore rollout status --env {env}`.");
        Err(Error::new(ErrorKind::NothingToRollBack, why, hint))
    };
    let Some(last) = plans::last_succeeded(on, &asked.project, asked.service.as_ref()).await? else {
        return nothing(format!("no promotion of {} to {env} has succeeded yet", address(asked)));
    };
    let changes =
        last.changes.iter().filter(|change| asked.service.as_ref().is_none_or(|only| *only == change.service));
    let changes: Vec<_> = changes.collect();
    if changes.iter().all(|change| change.from.is_none()) {
        return nothing(format!("{env} had no release of {} before", address(asked)));
    }
    let earlier: Vec<ReleaseId> = changes.iter().filter_map(|change| change.from.clone()).collect();
    let earlier = releases::by_ids(on, earlier).await?;
    let mut releases = current.clone();
    for change in &changes {
        releases.remove(&change.service);
        if let Some(release) = change.from.as_ref().and_then(|id| earlier.get(id)) {
            releases.insert(change.service.clone(), release.clone());
        }
    }
    let scope = changes.iter().map(|change| change.service.clone()).collect();
    Ok(Wanted { environment, current, releases, scope })
}

fn address(asked: &Asked) -> String {
    ServiceAddress { app: asked.project.app.clone(), service: asked.service.clone() }.to_string()
}

/// Plans what was asked for and stores it, within the transaction that read what it depends on. `pinned` are the
/// releases whose images are pinned; none comes back when another is needed.
pub(crate) async fn record(
    tx: &mut Tx,
    asked: &Asked,
    id: &str,
    pinned: &BTreeSet<ReleaseId>,
    seen: &BTreeMap<HostName, Seen>,
    now: Micros,
) -> Result<Option<PlanRecord>, Error> {
    if let Some(other) = plans::under_way_on(tx, &asked.project).await? {
        return Err(under_way(&other));
    }
    let wanted = wanted(tx, asked).await?;
    if !wanted.entering().all(|release| pinned.contains(&release.id)) {
        return Ok(None);
    }
    let known: BTreeMap<HostName, HostView> =
        hosts::all(tx).await?.into_iter().map(|row| (row.view.name.clone(), latest(row.view, seen))).collect();
    let target = &wanted.environment.spec.target;
    let hosts: Vec<HostView> =
        known.values().filter(|host| target_matches(target, &host.name, &host.labels)).cloned().collect();
    let placements = desired::placements(tx, &asked.project).await?;
    let jobs_succeeded = plans::jobs_succeeded(tx, &asked.project).await?;
    let claims_others = claims_others(tx, &asked.project).await?;
    let planned = plan(&Input {
        project: &asked.project,
        policy: &wanted.environment.spec.rollout,
        hosts: &hosts,
        hosts_known: &known,
        current: &wanted.current,
        wanted: &wanted.releases,
        scope: &wanted.scope,
        placements: &placements,
        jobs_succeeded: &jobs_succeeded,
        claims_others: &claims_others,
        now,
    })?;
    let plan = PlanRecord {
        id: id.to_owned(),
        project: asked.project.clone(),
        kind: asked.kind,
        changes: planned.changes,
        policy: wanted.environment.spec.rollout.clone(),
        steps: planned.steps,
        state: PlanState::Running,
        error: None,
        requested_by: asked.requested_by.clone(),
        reason: asked.reason.clone(),
        created_at: now,
        finished_at: None,
    };
    plans::insert(tx, &plan).await?;
    Ok(Some(plan))
}

/// Other plans exclude this one.
pub(crate) fn under_way(other: &PlanRecord) -> Error {
    let Project { env, app } = &other.project;
    Error::new(
        ErrorKind::PlanUnderWay,
        format!(
            "plan {} has worked on {app} in {env} since {} (asked for by {})",
            other.id, other.created_at, other.requested_by
        ),
        format!(
            "Wait for it: `longshore rollout status --env {env}`; `longshore why {app} --env {env}` says what it waits for."
        ),
    )
}

/// A stored host with what is known of it since.
pub(crate) fn latest(view: HostView, seen: &BTreeMap<HostName, Seen>) -> HostView {
    let last = seen.get(&view.name);
    let engine_error = last.and_then(|seen| match &seen.report.engine {
        EngineState::Up { .. } => None,
        EngineState::Down { error } => Some(error.clone()),
    });
    HostView { seen_at: last.map(|seen| seen.at).max(view.seen_at), engine_error, ..view }
}

async fn claims_others<Q: Queryable>(on: &Q, project: &Project) -> Result<Vec<Claim>, Error> {
    let neighbours = desired::neighbours(on, project).await?;
    let known = releases::by_ids(on, neighbours.iter().map(|neighbour| neighbour.release.clone())).await?;
    let mut projects: BTreeMap<&Project, BTreeMap<(&ServiceName, &ReleaseId), Vec<&HostName>>> = BTreeMap::new();
    for neighbour in &neighbours {
        let services = projects.entry(&neighbour.project).or_default();
        services.entry((&neighbour.service, &neighbour.release)).or_default().push(&neighbour.host);
    }
    let mut all = Vec::new();
    for (other, services) in projects {
        let services: Vec<(&ServiceName, &ServiceDefinition, Vec<&HostName>)> = services
            .into_iter()
            .filter_map(|((service, release), hosts)| {
                Some((service, known.get(release)?.definitions.of(&other.env), hosts))
            })
            .collect();
        all.extend(claims(other, &services));
    }
    Ok(all)
}

/// Reports by host, cheap to hand around.
pub(crate) type SeenMap = Arc<BTreeMap<HostName, Seen>>;
