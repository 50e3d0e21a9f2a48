//! The planner: from what an environment runs and what it is to run, a frozen list of waves of steps. Pure.
//!
//! The order of waves:
//!
//! 1. *Foundations*: services that a job depends on, directly or through others, and that run nowhere yet, in dependency
//!    order.
//! 2. *Jobs*, in dependency order: those whose release changes, and those that never succeeded here.
//! 3. *Starts*: services on hosts that do not run them yet, by dependency level, all hosts together: nothing that serves
//!    is touched.
//! 4. *Replacements*, by dependency level, then as many hosts at a time as the budget allows.
//! 5. *Removals*, dependants first.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::{PlanChange, Release, ReleaseId, RolloutPolicy, Step, StepAction, StepState};
use api::{HostName, Micros, ServiceName};
use compose::ServiceDefinition;
use compose::model::Project as ComposeProject;

use crate::error::{Error, ErrorKind};
use crate::model::{HostView, Placed, Placements, Project, StepRecord, Undo};
use crate::placement::{Placing, Spread, place};
use crate::policy::{Claim, claims, claims_check, definition_check, volumes_check};

/// All that a plan depends on.
pub struct Input<'a> {
    /// What the plan works on.
    pub project: &'a Project,
    /// Its budget.
    pub policy: &'a RolloutPolicy,
    /// The hosts of the environment by name.
    pub hosts: &'a [HostView],
    /// Every host that is known.
    pub hosts_known: &'a BTreeMap<HostName, HostView>,
    /// What the environment has.
    pub current: &'a BTreeMap<ServiceName, Release>,
    /// What it is to have: all of it, also what stays.
    pub wanted: &'a BTreeMap<ServiceName, Release>,
    /// The services that the plan may touch.
    pub scope: &'a BTreeSet<ServiceName>,
    /// What runs where.
    pub placements: &'a Placements,
    /// The last release of each job that succeeded here.
    pub jobs_succeeded: &'a BTreeMap<ServiceName, ReleaseId>,
    /// What others hold of hosts.
    pub claims_others: &'a [Claim],
    /// The time.
    pub now: Micros,
}

/// What a plan will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Releases that change.
    pub changes: Vec<PlanChange>,
    /// Steps by number, each with its wave.
    pub steps: Vec<StepRecord>,
}

struct Draft {
    action: StepAction,
    service: ServiceName,
    host: HostName,
    placed: Placed,
    before: Option<Placed>,
}

/// Plans.
///
/// # Errors
/// Any refusal that lies in definitions, placement, ports, hosts; [`ErrorKind::NothingToPromote`] when all is as wanted.
pub fn plan(input: &Input<'_>) -> Result<Planned, Error> {
    check(input)?;
    let levels = levels(input)?;
    let spreads = spreads(input)?;
    claims_of_all(input, &spreads)?;

    let jobs = jobs_to_run(input);
    let drafts = drafts(input, &spreads);
    let foundations = foundations(input, &jobs);
    let level = |service: &ServiceName| levels.get(service).copied().unwrap_or(0);

    let mut waves: Vec<Vec<Draft>> = Vec::new();
    let mut starts: BTreeMap<usize, Vec<Draft>> = BTreeMap::new();
    let mut first: BTreeMap<usize, Vec<Draft>> = BTreeMap::new();
    let mut replaces: BTreeMap<usize, BTreeMap<HostName, Vec<Draft>>> = BTreeMap::new();
    let mut removes: BTreeMap<usize, Vec<Draft>> = BTreeMap::new();
    for draft in drafts {
        let at = level(&draft.service);
        match draft.action {
            StepAction::Start if foundations.contains(&draft.service) => first.entry(at).or_default().push(draft),
            StepAction::Start => starts.entry(at).or_default().push(draft),
            StepAction::Remove => removes.entry(at).or_default().push(draft),
            StepAction::Replace | StepAction::Job => {
                replaces.entry(at).or_default().entry(draft.host.clone()).or_default().push(draft);
            }
        }
    }
    waves.extend(first.into_values());
    let mut job_waves: BTreeMap<usize, Vec<Draft>> = BTreeMap::new();
    for service in &jobs {
        job_waves.entry(level(service)).or_default().push(job_draft(input, service)?);
    }
    waves.extend(job_waves.into_values());
    waves.extend(starts.into_values());
    let budget = usize::try_from(input.policy.max_unavailable).unwrap_or(usize::MAX).max(1);
    for by_host in replaces.into_values() {
        let mut hosts = by_host.into_values().peekable();
        while hosts.peek().is_some() {
            waves.push(hosts.by_ref().take(budget).flatten().collect());
        }
    }
    waves.extend(removes.into_values().rev());

    let planned = Planned { changes: changes(input), steps: number(waves) };
    if planned.changes.is_empty() && planned.steps.is_empty() {
        return Err(Error::new(
            ErrorKind::NothingToPromote,
            format!("{} has every release that was asked for already", input.project.env),
            format!("See what runs with `longshore ps --env {}`.", input.project.env),
        ));
    }
    hosts_check(input, &planned)?;
    Ok(planned)
}

fn definition<'a>(input: &Input<'_>, release: &'a Release) -> &'a ServiceDefinition {
    release.definitions.of(&input.project.env)
}

fn check(input: &Input<'_>) -> Result<(), Error> {
    let Project { env, app } = input.project;
    if input.hosts.is_empty() && !input.wanted.is_empty() {
        return Err(Error::new(
            ErrorKind::NoHost,
            format!("no enrolled host is one that the environment {env} names or whose labels it asks for"),
            "Enrol one with `longshore host token` and `longshore agent`, or change the environment's target.",
        ));
    }
    for (service, release) in input.wanted.iter().filter(|(service, _)| input.scope.contains(*service)) {
        definition_check(service, definition(input, release))?;
        for (awaited, dependency) in &definition(input, release).service.depends_on {
            if !dependency.optional && !input.wanted.contains_key(awaited.as_str()) {
                return Err(Error::new(
                    ErrorKind::DependencyMissing,
                    format!("{service} awaits {awaited}, which {env} does not have"),
                    format!("Promote the whole app: `longshore promote {app} --to {env}`."),
                ));
            }
        }
    }
    volumes_check(input.wanted.iter().map(|(service, release)| (service, definition(input, release))))
}

/// The dependency level of each service; those that go away have the level they had.
fn levels(input: &Input<'_>) -> Result<BTreeMap<ServiceName, usize>, Error> {
    let order = |releases: &BTreeMap<ServiceName, Release>| {
        let services = releases
            .iter()
            .map(|(service, release)| (service.to_string(), definition(input, release).service.clone()))
            .collect();
        ComposeProject { services, ..ComposeProject::default() }.start_order()
    };
    let mut levels = BTreeMap::new();
    // What runs now may come from several commits; a circle among it only loses the order of removals.
    let before = order(input.current).unwrap_or_default();
    let after = order(input.wanted).map_err(|circle| {
        Error::new(
            ErrorKind::DependencyCycle,
            circle.to_string(),
            format!("Promote releases of one build: `longshore promote {}`.", input.project.app),
        )
    })?;
    for (level, names) in before.into_iter().enumerate().chain(after.into_iter().enumerate()) {
        for name in names {
            if let Ok(service) = name.parse::<ServiceName>() {
                levels.insert(service, level);
            }
        }
    }
    Ok(levels)
}

/// Where everything that is kept running is to run, also what the plan does not touch.
fn spreads(input: &Input<'_>) -> Result<BTreeMap<ServiceName, Spread>, Error> {
    let mut spreads: BTreeMap<ServiceName, Spread> = BTreeMap::new();
    for ((service, host), placed) in input.placements {
        spreads.entry(service.clone()).or_default().insert(host.clone(), placed.instances);
    }
    let mut load = Spread::new();
    for spread in spreads.values() {
        for (host, count) in spread {
            *load.entry(host.clone()).or_insert(0) += count;
        }
    }
    let none = Spread::new();
    for service in input.scope {
        let current = spreads.get(service).unwrap_or(&none);
        let next = match input.wanted.get(service) {
            Some(release) if !release.job => {
                let placing = Placing { service, definition: definition(input, release), current };
                place(&placing, input.hosts, &load, input.now)?
            }
            _ => Spread::new(),
        };
        for (host, count) in &next {
            let before = current.get(host).copied().unwrap_or(0);
            *load.entry(host.clone()).or_insert(0) += count.saturating_sub(before);
        }
        spreads.insert(service.clone(), next);
    }
    Ok(spreads)
}

fn claims_of_all(input: &Input<'_>, spreads: &BTreeMap<ServiceName, Spread>) -> Result<(), Error> {
    let services: Vec<_> = input
        .wanted
        .iter()
        .filter(|(_, release)| !release.job)
        .filter_map(|(service, release)| {
            let hosts: Vec<&HostName> = spreads.get(service)?.keys().collect();
            (!hosts.is_empty()).then(|| (service, definition(input, release), hosts))
        })
        .collect();
    claims_check(&claims(input.project, &services), input.claims_others)
}

/// Jobs of the plan: those it may touch whose release changes or never succeeded here, and those that a service it may
/// touch awaits and that never succeeded here.
fn jobs_to_run(input: &Input<'_>) -> BTreeSet<ServiceName> {
    let is_due = |service: &ServiceName, release: &Release| {
        input.jobs_succeeded.get(service) != Some(&release.id)
            || input.current.get(service).map(|current| &current.id) != Some(&release.id)
    };
    input
        .wanted
        .iter()
        .filter(|(_, release)| release.job)
        .filter(|(service, release)| {
            let awaited = || {
                input
                    .scope
                    .iter()
                    .filter_map(|name| input.wanted.get(name))
                    .any(|dependant| definition(input, dependant).service.depends_on.contains_key(service.as_str()))
            };
            (input.scope.contains(*service) && is_due(service, release))
                || (!input.jobs_succeeded.contains_key(*service) && awaited())
        })
        .map(|(service, _)| service.clone())
        .collect()
}

/// Services that the jobs depend on, directly or through others, and that run nowhere.
fn foundations(input: &Input<'_>, jobs: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    let mut reached: BTreeSet<&ServiceName> = jobs.iter().collect();
    let mut open: Vec<&ServiceName> = jobs.iter().collect();
    while let Some(service) = open.pop() {
        let Some(release) = input.wanted.get(service) else { continue };
        for awaited in definition(input, release).service.depends_on.keys() {
            if let Some((awaited, _)) = input.wanted.get_key_value(awaited.as_str())
                && reached.insert(awaited)
            {
                open.push(awaited);
            }
        }
    }
    let runs = |service: &ServiceName| input.placements.keys().any(|(placed, _)| placed == service);
    reached.into_iter().filter(|service| !runs(service)).cloned().collect()
}

fn drafts(input: &Input<'_>, spreads: &BTreeMap<ServiceName, Spread>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for service in input.scope {
        let spread = spreads.get(service);
        let wanted = input.wanted.get(service);
        let mut hosts: BTreeSet<&HostName> = spread.into_iter().flat_map(BTreeMap::keys).collect();
        hosts.extend(input.placements.keys().filter(|(placed, _)| placed == service).map(|(_, host)| host));
        for host in hosts {
            let before = input.placements.get(&(service.clone(), host.clone())).cloned();
            let after = match (spread.and_then(|spread| spread.get(host)), wanted) {
                (Some(instances), Some(release)) => Some(Placed { release: release.id.clone(), instances: *instances }),
                _ => None,
            };
            let (action, placed) = match (&before, after) {
                (None, Some(after)) => (StepAction::Start, after),
                (Some(before), Some(after)) if *before != after => (StepAction::Replace, after),
                (Some(before), None) => (StepAction::Remove, Placed { instances: 0, ..before.clone() }),
                _ => continue,
            };
            drafts.push(Draft { action, service: service.clone(), host: host.clone(), placed, before });
        }
    }
    drafts
}

fn job_draft(input: &Input<'_>, service: &ServiceName) -> Result<Draft, Error> {
    let Some(release) = input.wanted.get(service) else {
        return Err(Error::new(ErrorKind::ServiceUnknown, format!("{service} has no release"), "Build the app again."));
    };
    // A job is placed like a service with one container that runs nowhere yet.
    let mut once = definition(input, release).clone();
    once.service.deploy.mode = compose::model::Mode::Replicated { replicas: 1 };
    let none = Spread::new();
    let placing = Placing { service, definition: &once, current: &none };
    let spread = place(&placing, input.hosts, &none, input.now)?;
    let Some(host) = spread.into_keys().next() else {
        return Err(Error::new(ErrorKind::NoHost, format!("no host for the job {service}"), "Enrol a host."));
    };
    Ok(Draft {
        action: StepAction::Job,
        service: service.clone(),
        host,
        placed: Placed { release: release.id.clone(), instances: 1 },
        before: None,
    })
}

fn number(waves: Vec<Vec<Draft>>) -> Vec<StepRecord> {
    let waves = waves.into_iter().filter(|wave| !wave.is_empty());
    let drafts = (0..).zip(waves).flat_map(|(wave, drafts)| drafts.into_iter().map(move |draft| (wave, draft)));
    (1..)
        .zip(drafts)
        .map(|(number, (wave, draft))| StepRecord {
            step: Step {
                number,
                action: draft.action,
                host: draft.host,
                service: draft.service,
                release: draft.placed.release,
                instances: draft.placed.instances,
                state: StepState::Waiting,
                started_at: None,
                finished_at: None,
                detail: None,
            },
            wave,
            before: draft.before,
            told: 0,
            undo: Undo::No,
        })
        .collect()
}

fn changes(input: &Input<'_>) -> Vec<PlanChange> {
    let id = |releases: &BTreeMap<ServiceName, Release>, service: &ServiceName| {
        releases.get(service).map(|release| release.id.clone())
    };
    input
        .scope
        .iter()
        .map(|service| PlanChange {
            service: service.clone(),
            from: id(input.current, service),
            to: id(input.wanted, service),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

fn hosts_check(input: &Input<'_>, planned: &Planned) -> Result<(), Error> {
    for record in &planned.steps {
        let host = &record.step.host;
        let view = input.hosts_known.get(host);
        if let Some(view) = view.filter(|view| view.is_up(input.now)) {
            let Some(error) = &view.engine_error else { continue };
            return Err(Error::new(
                ErrorKind::EngineDown,
                format!(
                    "the engine of host {host} does not answer, and {} has to change there: {error}",
                    record.step.service
                ),
                format!(
                    "Start the container engine of {host} again, and try again when `longshore host ls` shows it up."
                ),
            ));
        }
        let since = match view.and_then(|view| view.seen_at) {
            Some(seen) => format!("has not reported since {seen}"),
            None => "has never reported".to_owned(),
        };
        return Err(Error::new(
            ErrorKind::HostDown,
            format!("host {host} {since}, and {} has to change there", record.step.service),
            format!(
                "Start its agent again (`longshore host ls` shows when it reports), or take {host} out of the environment {}.",
                input.project.env
            ),
        ));
    }
    Ok(())
}
