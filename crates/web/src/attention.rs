//! What a person should look at first, in one sentence and, when something is wrong, in a list.

use std::collections::BTreeSet;

use api::agent::EngineState;
use api::delivery::{Host, Plan, PlanState};
use api::inspect::{AdvisoryNews, Inspect, News, Severity, Sought};
use base::page::PageRequest;
use maud::{Markup, html};

use crate::images::with_query;
use crate::instances::is_trouble;
use crate::overview::View;
use crate::plans;
use crate::words::{and_more, count, plain, since, word};

/// The most troubles that are listed of one sort; the others are counted.
const LISTED_MAX: usize = 6;
/// The most hosts that are named in one trouble.
const HOSTS_NAMED_MAX: usize = 4;

/// Alerts that are looked at for what runs now.
const ALERTS_MAX: u32 = 100;
/// Images of which it is looked up where they run now.
const IMAGES_MAX: u32 = 20;
/// The longest name of an advisory that is shown whole, in characters.
const NAME_CHARS_MAX: usize = 120;

/// What of the last alerts is grave, and runs somewhere now, a line each.
pub(crate) async fn exposed(inspect: &dyn Inspect) -> Vec<Markup> {
    exposures(inspect).await.unwrap_or_else(|problem| {
        // Whatever is wrong with inspection, the rest of the overview is as good as ever.
        vec![html! { a href="/where/news" { "What new advisories affect" } " cannot be told: " (plain(&problem.title, NAME_CHARS_MAX)) }]
    })
}

async fn exposures(inspect: &dyn Inspect) -> api::Result<Vec<Markup>> {
    let alerts = inspect.alerts(&PageRequest { limit: ALERTS_MAX, after: None }).await?;
    let mut seen = BTreeSet::new();
    let mut exposed = Vec::new();
    for alert in &alerts.items {
        let News::Advisory(news) = &alert.news else { continue };
        let is_grave = news.known_exploited || news.severity == Severity::Critical;
        if !is_grave || news.running_count == 0 || !seen.insert(&news.id) || seen.len() > LISTED_MAX {
            continue;
        }
        let page = PageRequest { limit: IMAGES_MAX, after: None };
        let found = inspect.find(&Sought::Advisory { id: news.id.clone() }, false, &page).await?;
        let releases = found.images.items.iter().flat_map(|image| &image.releases);
        let running: BTreeSet<String> = releases
            .flat_map(|release| release.environments.iter().map(move |exposure| (release, exposure)))
            .filter(|(_, exposure)| exposure.to.is_none())
            .map(|(release, exposure)| format!("{}/{} in {}", release.app, release.service, exposure.environment))
            .collect();
        if !running.is_empty() {
            exposed.push(exposure(news, &running));
        }
    }
    Ok(exposed)
}

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
pub(crate) fn section(view: &View<'_>, under_way: &[&Plan], ended: &[&Plan], exposed: &[Markup]) -> Markup {
    let sorts = [hosts(view), containers(view), failed_plans(under_way, ended), exposed.to_vec()];
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

fn exposure(news: &AdvisoryNews, running: &BTreeSet<String>) -> Markup {
    html! {
    a href=(with_query("/where", &[("q", &news.id), ("kind", "advisory")])) { (plain(&news.id, NAME_CHARS_MAX)) }
    " (" (word(&news.severity)) @if news.known_exploited { ", known to be exploited" } ") affects "
    (running.iter().take(HOSTS_NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", "))
    @if running.len() > HOSTS_NAMED_MAX { " and others" }
       }
}

/// The last plan of an app in an environment, when it failed and none is under way since.
fn failed_plans(under_way: &[&Plan], ended: &[&Plan]) -> Vec<Markup> {
    let mut known: BTreeSet<_> = under_way.iter().map(|plan| (&plan.app, &plan.env)).collect();
    let last = ended.iter().filter(|plan| known.insert((&plan.app, &plan.env)));
    last.filter(|plan| plan.state == PlanState::Failed)
        .map(|plan| html! { a href={ "#plan-" (plan.id) } { (plans::name(plan)) } " failed" (plans::cause(plan)) })
        .collect()
}
