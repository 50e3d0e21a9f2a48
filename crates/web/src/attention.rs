//! What a person should look at first, in one sentence and, when something is wrong, in a list.

use std::collections::BTreeSet;

use api::agent::EngineState;
use api::delivery::{Host, Plan, PlanState};
use maud::{Markup, html};

use crate::instances::is_trouble;
use crate::overview::View;
use crate::plans;
use crate::words::{and_more, count, since, word};

/// The most troubles that are listed of one sort; the others are counted.
const LISTED_MAX: usize = 6;
/// The most hosts that are named in one trouble.
const HOSTS_NAMED_MAX: usize = 4;

/// Whether a host needs a person.
pub(crate) fn is_host_trouble(host: &Host) -> bool {
    !host.up || engine_error(host).is_some() || host.report.as_ref().is_some_and(|report| !report.warnings.is_empty())
}

/// Why a host's engine cannot be reached.
pub(crate) fn engine_error(host: &Host) -> Option<&str> {
    match host.report.as_ref().map(|report| &report.engine) {
        Some(EngineState::Down { error }) => Some(error),
        _ => None,
    }
}

/// One sentence.
pub(crate) fn summary(view: &View<'_>, under_way: usize) -> Markup {
    let (hosts, down) = (view.overview.hosts.len(), view.down.len());
    html! {
        @match (hosts, down) {
            (0, _) => "No host yet",
            (1, 0) => "1 host, up",
            (1, _) => "1 host, down",
            (_, 0) => { (count(hosts)) " hosts, all up" }
            _ => { (count(hosts)) " hosts, " (count(down)) " down" }
        }
        @match under_way {
            0 => ". Nothing is under way.",
            1 => ". 1 rollout is under way.",
            _ => { ". " (count(under_way)) " rollouts are under way." }
        }
    }
}

/// What is wrong; nothing when nothing is.
pub(crate) fn section(view: &View<'_>, under_way: &[&Plan], ended: &[&Plan]) -> Markup {
    let sorts = [hosts(view), containers(view), failed_plans(under_way, ended)];
    if sorts.iter().all(Vec::is_empty) {
        return html! {};
    }
    html! {
        section.attention aria-labelledby="attention" {
            h2 #attention { "Needs attention" }
            ul {
                @for sort in &sorts {
                    @for trouble in sort.iter().take(LISTED_MAX) { li { (trouble) } }
                    @if sort.len() > LISTED_MAX { li { (and_more(sort.len() - LISTED_MAX)) } }
                }
            }
        }
    }
}

fn hosts(view: &View<'_>) -> Vec<Markup> {
    let troubled = view.overview.hosts.iter().filter(|host| !host.up || engine_error(host).is_some());
    troubled
        .map(|host| {
            html! {
                a href={ "#host-" (host.name) } { (host.name) }
                @match (host.up, host.seen_at) {
                    (true, _) => " cannot reach its container engine",
                    (false, Some(seen)) => { " is down, last seen " (since(seen, view.now)) " ago" }
                    (false, None) => " was enrolled and never seen",
                }
            }
        })
        .collect()
}

fn containers(view: &View<'_>) -> Vec<Markup> {
    let mut troubles = Vec::new();
    for app in &view.overview.apps {
        for service in app.services.iter().filter(|service| !service.job) {
            for (env, there) in &service.environments {
                let bad: Vec<_> = there.instances.iter().filter(|instance| is_trouble(instance, view)).collect();
                if bad.is_empty() {
                    continue;
                }
                let states: BTreeSet<String> = bad.iter().map(|instance| word(&instance.state)).collect();
                troubles.push(html! {
                    a href={ "#app-" (app.app) } { (app.app) "/" (service.service) } " in " (env) ": "
                    (count(bad.len())) " of " (count(there.instances.len())) " containers "
                    (states.into_iter().collect::<Vec<_>>().join(" or ")) ", on "
                    (bad.iter().take(HOSTS_NAMED_MAX).map(|instance| instance.host.as_str()).collect::<Vec<_>>().join(", "))
                    @if bad.len() > HOSTS_NAMED_MAX { " and others" }
                });
            }
        }
    }
    troubles
}

/// The last plan of an app in an environment, when it failed and none is under way since.
fn failed_plans(under_way: &[&Plan], ended: &[&Plan]) -> Vec<Markup> {
    let mut known: BTreeSet<_> = under_way.iter().map(|plan| (&plan.app, &plan.env)).collect();
    let last = ended.iter().filter(|plan| known.insert((&plan.app, &plan.env)));
    last.filter(|plan| plan.state == PlanState::Failed)
        .map(|plan| html! { a href={ "#plan-" (plan.id) } { (plans::name(plan)) } " failed" (plans::cause(plan)) })
        .collect()
}
