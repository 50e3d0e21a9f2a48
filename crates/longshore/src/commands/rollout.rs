//! `longshore rollout`, and how other commands follow a plan.

use std::collections::BTreeMap;
use std::time::Duration;

use api::client::{HubClient, PageQuery};
use api::delivery::{Plan, PlanState, Step, StepState};
use api::{AppName, EnvName, Micros, Problem, ServiceAddress, ServiceName};
use serde::Serialize;

use crate::output::{self, Progress};
use crate::reach::Global;

/// How often a plan is asked for while it is followed.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// How long a hub that went away is waited for before following gives up.
const HUB_AWAY_MAX: Duration = Duration::from_secs(60);

/// Rollouts: plans under way and ended ones
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show a plan, wave by wave and host by host; without one, list the last plans
    Status {
        /// The plan's id
        plan: Option<String>,
        /// Only of this app
        #[arg(long)]
        app: Option<AppName>,
        /// Only in this environment
        #[arg(long)]
        env: Option<EnvName>,
        /// Begin after this plan
        #[arg(long, value_name = "PLAN")]
        after: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Follow the plan, or the newest one, to its end
        #[arg(short, long)]
        follow: bool,
    },
}

pub(super) async fn run(global: &Global, command: Command) -> api::Result<()> {
    let Command::Status { plan, app, env, after, limit, follow } = command;
    let client = global.client()?;
    let newest = match (&plan, follow) {
        (None, true) => {
            let query = PageQuery { after: None, limit: Some(1) };
            let none = Problem::new(404, "plan-unknown", "There is no plan to follow")
                .hint("Make one: longshore promote APP --to ENV");
            Some(client.plan_list(app.as_ref(), env.as_ref(), &query).await?.items.into_iter().next().ok_or(none)?.id)
        }
        _ => None,
    };
    if let Some(id) = plan.or(newest) {
        let plan = client.plan_get(&id).await?;
        if follow {
            return self::follow(global, &client, plan, false).await;
        }
        if global.json {
            return output::json(&plan);
        }
        show(&plan);
        return Ok(());
    }
    let page = client.plan_list(app.as_ref(), env.as_ref(), &PageQuery { after, limit }).await?;
    if global.json {
        return output::json(&page);
    }
    let now = Micros::now();
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|plan| {
            let done = steps(plan).filter(|step| step.state == StepState::Done).count();
            vec![
                plan.id.clone(),
                plan.app.to_string(),
                plan.env.to_string(),
                word(&plan.kind),
                word(&plan.state),
                format!("{done}/{}", steps(plan).count()),
                output::ago(plan.created_at, now),
                plan.requested_by.clone(),
            ]
        })
        .collect();
    let none = "No plans yet. `longshore promote APP --to ENV` makes one.";
    output::table(&["PLAN", "APP", "ENV", "KIND", "STATE", "STEPS", "AGE", "BY"], &rows, none);
    super::more(page.next.as_ref(), "longshore rollout status --after");
    Ok(())
}

/// Follows a plan to its end, saying each step as it changes. Ends with the plan's problem if it failed.
pub(super) async fn follow(global: &Global, client: &HubClient, plan: Plan, detach: bool) -> api::Result<()> {
    if detach {
        if global.json {
            return output::json(&plan);
        }
        output::line(&plan.id);
        output::note(&format!("\nFollow it with `longshore rollout status -f {}`.", plan.id));
        return Ok(());
    }
    let progress = Progress::begin(&format!("{} to {}", plan.app, plan.env));
    progress.line(&headline(&plan));
    let mut told: BTreeMap<u32, StepState> = BTreeMap::new();
    let mut plan = plan;
    let mut away_since: Option<std::time::Instant> = None;
    loop {
        tell(&plan, &mut told, &progress);
        if plan.state.is_final() {
            break;
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        match client.plan_get(&plan.id).await {
            Ok(newer) => {
                plan = newer;
                away_since = None;
            }
            Err(problem) if problem.kind == "hub-unreachable" => {
                let since = *away_since.get_or_insert_with(std::time::Instant::now);
                progress.now("the hub is away; hosts go on with what they were told");
                if since.elapsed() > HUB_AWAY_MAX {
                    return Err(problem.hint(format!(
                        "The plan goes on when the hub is back: `longshore rollout status -f {}`.",
                        plan.id
                    )));
                }
            }
            Err(problem) => return Err(problem),
        }
    }
    drop(progress);
    if global.json {
        output::json(&plan)?;
    }
    match plan.state {
        PlanState::Succeeded => {
            if !global.json {
                let took = output::span(plan.created_at, plan.finished_at.unwrap_or(plan.created_at));
                output::line(&format!("{} is in {} after {took}", changed(&plan), plan.env));
            }
            Ok(())
        }
        _ => Err(plan.error.clone().unwrap_or_else(|| {
            Problem::new(409, "rollout-failed", format!("The rollout to {} failed", plan.env))
                .hint(format!("longshore rollout status {}", plan.id))
        })),
    }
}

fn tell(plan: &Plan, told: &mut BTreeMap<u32, StepState>, progress: &Progress) {
    for (wave, step) in plan.waves.iter().enumerate().flat_map(|(n, wave)| wave.steps.iter().map(move |step| (n, step)))
    {
        let before = told.insert(step.number, step.state);
        let first_word = before.is_none() && step.state == StepState::Waiting;
        if step.state == StepState::Active {
            progress.now(&format!("{} on {}: {}", step.service, step.host, step.detail.as_deref().unwrap_or("told")));
        }
        if before == Some(step.state) || first_word || step.state == StepState::Active {
            continue;
        }
        progress.line(&step_line(wave, step));
    }
}

fn step_line(wave: usize, step: &Step) -> String {
    let took = match (step.started_at, step.finished_at) {
        (Some(from), Some(to)) => output::span(from, to),
        _ => String::new(),
    };
    format!(
        "  wave {:<2} {:<10} {:<8} {:<12} {:<8} {took}",
        wave + 1,
        step.host,
        word(&step.action),
        step.service,
        word(&step.state)
    )
    .trim_end()
    .to_owned()
}

fn headline(plan: &Plan) -> String {
    format!(
        "{} of {} to {}: {} in {} (plan {})",
        word(&plan.kind),
        changed(plan),
        plan.env,
        output::count(steps(plan).count(), "step"),
        output::count(plan.waves.len(), "wave"),
        plan.id
    )
}

fn changed(plan: &Plan) -> String {
    let services: Vec<&str> = plan.changes.iter().map(|change| change.service.as_str()).collect();
    format!("{} ({})", plan.app, services.join(", "))
}

fn steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.waves.iter().flat_map(|wave| &wave.steps)
}

fn show(plan: &Plan) {
    output::line(&headline(plan));
    output::line(&format!("asked by {} at {}: {}", plan.requested_by, plan.created_at, word(&plan.state)));
    let rows: Vec<Vec<String>> = plan
        .waves
        .iter()
        .enumerate()
        .flat_map(|(number, wave)| wave.steps.iter().map(move |step| (number, step)))
        .map(|(number, step)| {
            let took = match (step.started_at, step.finished_at) {
                (Some(from), Some(to)) => output::span(from, to),
                (Some(from), None) => format!("{} so far", output::ago(from, Micros::now())),
                _ => "-".to_owned(),
            };
            vec![
                (number + 1).to_string(),
                step.host.to_string(),
                word(&step.action),
                step.service.to_string(),
                step.release.to_string(),
                word(&step.state),
                took,
                step.detail.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(&["WAVE", "HOST", "ACTION", "SERVICE", "RELEASE", "STATE", "TOOK", "DETAIL"], &rows, "");
    if let Some(error) = &plan.error {
        output::problem(error);
    }
}

/// An enumeration's value as the wire names it.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}

/// The app, where the hub knows just one.
pub(super) async fn only_app(client: &HubClient) -> api::Result<AppName> {
    let mut apps: Vec<AppName> = client.overview().await?.apps.into_iter().map(|app| app.app).collect();
    match apps.len() {
        1 => Ok(apps.remove(0)),
        0 => Err(Problem::new(404, "app-unknown", "The hub knows no app yet")
            .hint("Build one: longshore build --repo PATH --ref BRANCH")),
        _ => {
            let names: Vec<&str> = apps.iter().map(AppName::as_str).collect();
            Err(Problem::new(400, "app-missing", "Which app?")
                .detail(format!("the hub knows {}", names.join(", ")))
                .hint("Name it before --env."))
        }
    }
}

/// Refuses an app that the hub never heard of.
pub(super) async fn app_known(client: &HubClient, app: &AppName) -> api::Result<()> {
    let apps = client.overview().await?.apps;
    if apps.iter().any(|known| known.app == *app) {
        return Ok(());
    }
    let names: Vec<&str> = apps.iter().map(|known| known.app.as_str()).collect();
    let hint = match names.as_slice() {
        [] => "Build one: longshore build --repo PATH --ref BRANCH".to_owned(),
        names => format!("It knows {}.", names.join(", ")),
    };
    Err(Problem::new(404, "app-unknown", format!("The hub knows no app \"{app}\"")).hint(hint))
}

/// `APP/SERVICE` from what a person wrote: a bare word that is no app is a service of the only app.
pub(super) async fn address_of(client: &HubClient, given: ServiceAddress) -> api::Result<ServiceAddress> {
    if given.service.is_some() {
        return Ok(given);
    }
    let overview = client.overview().await?;
    if overview
        .apps
        .iter()
        .any(|app| app.app == given.app && app.services.iter().all(|s| s.service.as_str() != given.app.as_str()))
    {
        return Ok(given);
    }
    let service: Result<ServiceName, _> = given.app.as_str().parse();
    match (overview.apps.as_slice(), service) {
        ([only], Ok(service)) if only.services.iter().any(|known| known.service == service) => {
            Ok(ServiceAddress { app: only.app.clone(), service: Some(service) })
        }
        _ => Ok(given),
    }
}
