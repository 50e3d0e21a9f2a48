//! The executor's decisions: a plan, what hosts report and the time give the plan's next state and the placements that
//! change with it. Pure; whoever calls it stores the outcome in one transaction.
//!
//! A report counts for a step only when it measures itself against the desired state that carried the step's change, or a
//! later one; so whatever was said before, or gets lost on the way, cannot be mistaken for its outcome.

use std::collections::BTreeMap;

use api::agent::{FAILURE_LOG_LINE_BYTES_MAX, FAILURE_LOG_LINES, Progress, Report};
use api::delivery::{PlanState, ReleaseId, StepAction, StepState};
use api::{HostName, Micros, Problem, ServiceName};

use crate::error::problem;
use crate::model::{Placed, PlanRecord, Seen, StepRecord, Undo, is_up};

/// The most characters that are kept of what an agent says went wrong, its log not included.
const ERROR_CHARS_MAX: usize = 4096;

/// A placement that changes with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementChange {
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub host: HostName,
    /// What the host is to run of it from now on.
    pub to: Option<Placed>,
}

/// What becomes of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Advance {
    /// The plan as it is from now on.
    pub plan: PlanRecord,
    /// Placements that change with it.
    pub placements: Vec<PlacementChange>,
    /// Numbers of the steps whose host is told something new: `told` is to be set to the host's new number.
    pub told: Vec<u32>,
    /// Jobs that succeeded.
    pub jobs_succeeded: Vec<(ServiceName, ReleaseId)>,
}

/// What the executor sees of the fleet.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The last report of each host.
    pub seen: &'a BTreeMap<HostName, Seen>,
    /// The time.
    pub now: Micros,
    /// Since when reports are taken. Time in which no host could report counts against no step, so that a hub that was
    /// away for long does not call everything late when it comes back.
    pub listening_since: Micros,
}

/// How something that a host was told stands.
enum Standing {
    Open(String),
    Done,
    Failed { error: String, log: Vec<String> },
}

/// The plan's next state; none while nothing changes.
pub fn advance(plan: &PlanRecord, view: &View<'_>) -> Option<Advance> {
    let mut advance =
        Advance { plan: plan.clone(), placements: Vec::new(), told: Vec::new(), jobs_succeeded: Vec::new() };
    match plan.state {
        PlanState::Running => run(&mut advance, view),
        PlanState::Reverting => revert(&mut advance, view),
        PlanState::Succeeded | PlanState::Failed => return None,
    }
    (advance.plan != *plan).then_some(advance)
}

/// What is to be said of a step that is under way.
pub fn detail(plan: &PlanRecord, record: &StepRecord, view: &View<'_>) -> Option<String> {
    if let Undo::Active(since) = record.undo {
        return match undo_standing(plan, record, view, since) {
            Standing::Open(detail) => Some(format!("going back: {detail}")),
            Standing::Done | Standing::Failed { .. } => Some("going back".to_owned()),
        };
    }
    if record.step.state != StepState::Active {
        return record.step.detail.clone();
    }
    match standing(plan, record, view) {
        Standing::Open(detail) => Some(detail),
        Standing::Done => Some("done".to_owned()),
        Standing::Failed { error, .. } => Some(error),
    }
}

fn run(advance: &mut Advance, view: &View<'_>) {
    let now = view.now;
    let before = advance.plan.clone();
    let mut failure = None;
    for (record, known) in advance.plan.steps.iter_mut().zip(&before.steps) {
        if record.step.state != StepState::Active {
            continue;
        }
        match standing(&before, known, view) {
            Standing::Open(_) => {}
            Standing::Done => {
                record.step.state = StepState::Done;
                record.step.finished_at = Some(now);
                if record.step.action == StepAction::Job {
                    advance.jobs_succeeded.push((record.step.service.clone(), record.step.release.clone()));
                }
            }
            Standing::Failed { error, log } => {
                record.step.state = StepState::Failed;
                record.step.finished_at = Some(now);
                record.step.detail = Some(error.clone());
                failure.get_or_insert_with(|| step_problem(&before, known, &error, &log));
            }
        }
    }
    if let Some(failure) = failure {
        advance.plan.state = PlanState::Reverting;
        advance.plan.error = Some(failure);
        for record in advance.plan.steps.iter_mut().filter(|record| record.step.state == StepState::Waiting) {
            record.step.state = StepState::Reverted;
            record.step.detail = Some("not begun, because another step failed".to_owned());
        }
        revert(advance, view);
        return;
    }
    let Some(open) = advance.plan.steps.iter().find(|record| record.step.state != StepState::Done) else {
        advance.plan.state = PlanState::Succeeded;
        advance.plan.finished_at = Some(now);
        return;
    };
    let wave = open.wave;
    if open.step.state == StepState::Waiting {
        for record in advance.plan.steps.iter_mut().filter(|record| record.wave == wave) {
            if record.step.state != StepState::Waiting {
                continue;
            }
            record.step.state = StepState::Active;
            record.step.started_at = Some(now);
            advance.told.push(record.step.number);
            if record.step.action != StepAction::Job {
                let to = (record.step.action != StepAction::Remove)
                    .then(|| Placed { release: record.step.release.clone(), instances: record.step.instances });
                advance.placements.push(change(record, to));
            }
        }
    }
}

fn revert(advance: &mut Advance, view: &View<'_>) {
    let now = view.now;
    let before = advance.plan.clone();
    // A job that runs is let end: a migration cut off half way is worse than a late answer.
    let mut jobs_open = false;
    for (record, known) in advance.plan.steps.iter_mut().zip(&before.steps) {
        if record.step.action != StepAction::Job || record.step.state != StepState::Active {
            continue;
        }
        match standing(&before, known, view) {
            Standing::Open(_) => jobs_open = true,
            Standing::Done => {
                record.step.state = StepState::Done;
                record.step.finished_at = Some(now);
                advance.jobs_succeeded.push((record.step.service.clone(), record.step.release.clone()));
            }
            Standing::Failed { error, .. } => {
                record.step.state = StepState::Failed;
                record.step.finished_at = Some(now);
                record.step.detail = Some(error);
            }
        }
    }
    for (record, known) in advance.plan.steps.iter_mut().zip(&before.steps) {
        let Undo::Active(since) = record.undo else { continue };
        match undo_standing(&before, known, view, since) {
            Standing::Open(_) => return,
            Standing::Done => undone(record, None, now),
            Standing::Failed { error, .. } => undone(record, Some(error), now),
        }
    }
    if jobs_open {
        return;
    }
    let next = advance.plan.steps.iter_mut().rev().find(|record| {
        record.step.action != StepAction::Job
            && record.undo == Undo::No
            && matches!(record.step.state, StepState::Active | StepState::Done | StepState::Failed)
    });
    match next {
        Some(record) => {
            record.undo = Undo::Active(now);
            advance.told.push(record.step.number);
            let to = record.before.clone();
            advance.placements.push(change(record, to));
        }
        None => {
            advance.plan.state = PlanState::Failed;
            advance.plan.finished_at = Some(now);
        }
    }
}

fn undone(record: &mut StepRecord, error: Option<String>, now: Micros) {
    record.undo = Undo::Done;
    if record.step.state != StepState::Failed {
        record.step.state = StepState::Reverted;
        record.step.finished_at = Some(now);
        record.step.detail = Some("undone, because another step failed".to_owned());
    }
    if let Some(error) = error {
        let said = record.step.detail.take().unwrap_or_default();
        record.step.detail = Some(format!("{said}; the way back is not confirmed: {error}"));
    }
}

fn change(record: &StepRecord, to: Option<Placed>) -> PlacementChange {
    PlacementChange { service: record.step.service.clone(), host: record.step.host.clone(), to }
}

fn standing(plan: &PlanRecord, record: &StepRecord, view: &View<'_>) -> Standing {
    let step = &record.step;
    let said = match step.action {
        StepAction::Job => {
            let run = plan.run(&step.service);
            counted(record, view, |report| match report.jobs.iter().find(|job| job.run == run) {
                Some(job) => progress(&job.progress),
                None => Standing::Open("the agent has not begun".to_owned()),
            })
        }
        StepAction::Remove => counted(record, view, |report| gone(plan, report, &step.service)),
        StepAction::Start | StepAction::Replace => {
            counted(record, view, |report| service(plan, report, &step.service, &step.release))
        }
    };
    within(said, step.started_at.unwrap_or(view.now), plan, view)
}

fn undo_standing(plan: &PlanRecord, record: &StepRecord, view: &View<'_>, since: Micros) -> Standing {
    let name = &record.step.service;
    let said = counted(record, view, |report| match &record.before {
        Some(before) => service(plan, report, name, &before.release),
        None => gone(plan, report, name),
    });
    within(said, since, plan, view)
}

/// What the host's last report says, if it counts for this step.
fn counted(record: &StepRecord, view: &View<'_>, say: impl FnOnce(&Report) -> Standing) -> Standing {
    let host = &record.step.host;
    let Some(last) = view.seen.get(host) else {
        return Standing::Open(format!("host {host} has not reported yet"));
    };
    let standing = if last.report.number >= record.told {
        say(&last.report)
    } else {
        Standing::Open(format!("host {host} has not taken its new state yet"))
    };
    match standing {
        Standing::Open(detail) if !is_up(Some(last.at), view.now) => {
            Standing::Open(format!("host {host} is down since {}; it said last: {detail}", last.at))
        }
        said => said,
    }
}

fn service(plan: &PlanRecord, report: &Report, service: &ServiceName, release: &ReleaseId) -> Standing {
    let mine = report.services.iter().find(|said| {
        said.env == plan.project.env
            && said.app == plan.project.app
            && said.service == *service
            && said.release == *release
    });
    match mine {
        Some(said) => progress(&said.progress),
        None => Standing::Open("the agent has not begun".to_owned()),
    }
}

fn gone(plan: &PlanRecord, report: &Report, service: &ServiceName) -> Standing {
    let left = report.instances.iter().filter(|instance| {
        instance.env == plan.project.env && instance.app == plan.project.app && instance.service == *service
    });
    match left.count() {
        0 => Standing::Done,
        left => Standing::Open(format!("{left} container(s) still there")),
    }
}

fn progress(progress: &Progress) -> Standing {
    match progress {
        Progress::Waiting { detail } | Progress::Working { detail } => Standing::Open(detail.clone()),
        Progress::Done => Standing::Done,
        Progress::Failed { error, log } => {
            Standing::Failed { error: error.chars().take(ERROR_CHARS_MAX).collect(), log: log.clone() }
        }
    }
}

fn within(said: Standing, since: Micros, plan: &PlanRecord, view: &View<'_>) -> Standing {
    let seconds_max = plan.policy.step_seconds_max;
    match said {
        Standing::Open(detail) if view.now.since(since.max(view.listening_since)).as_secs() >= seconds_max => {
            Standing::Failed { error: format!("not done within {seconds_max} s; last: {detail}"), log: Vec::new() }
        }
        said => said,
    }
}

/// The error of a plan whose step failed: host, service, the agent's words, and the container's last lines.
fn step_problem(plan: &PlanRecord, record: &StepRecord, error: &str, log: &[String]) -> Problem {
    let step = &record.step;
    let verb = match step.action {
        StepAction::Start => "starting",
        StepAction::Replace => "replacing",
        StepAction::Remove => "removing",
        StepAction::Job => "running the job",
    };
    let mut detail = format!("{verb} {}/{} on {}: {error}", plan.project.app, step.service, step.host);
    let skipped = log.len().saturating_sub(FAILURE_LOG_LINES);
    if !log.is_empty() {
        detail.push_str(&format!("\nlast {} lines of its log:", log.len() - skipped));
    }
    for line in log.iter().skip(skipped) {
        detail.push('\n');
        detail.extend(line.chars().take(FAILURE_LOG_LINE_BYTES_MAX));
    }
    let hint = format!(
        "{env} keeps the releases it had. Mend {service}, build and promote again; `longshore rollout status --env {env}` \
         shows every step.",
        env = plan.project.env,
        service = step.service
    );
    problem(500, "step-failed", "A step of the rollout failed", &detail, Some(hint))
}
