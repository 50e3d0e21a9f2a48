//! The overview: services against environments, what runs where and since when, plans under way host by host.

use api::agent::{EngineState, InstanceState};
use api::delivery::{
    AppOverview, Host, Instance, Overview, Plan, PlanState, ServiceInEnvironment, ServiceOverview, Step, StepState,
};
use api::{EnvName, Micros};
use maud::{Markup, html};

use crate::words::{commit, digest, since, span_words, word};

/// How many ended plans are shown.
const ENDED_PLANS_SHOWN: usize = 8;

/// The page's `<main>`.
pub(crate) fn main(overview: &Overview, now: Micros) -> Markup {
    let (under_way, ended): (Vec<&Plan>, Vec<&Plan>) = overview.plans.iter().partition(|plan| !plan.state.is_final());
    html! {
        @if !under_way.is_empty() {
            section.under-way {
                h2 { "Under way" }
                @for plan in under_way { (plan_card(plan, now)) }
            }
        }
        @for app in &overview.apps { (app_section(app, &overview.environments, now)) }
        @if overview.apps.is_empty() { (first_steps(overview)) }
        (hosts_section(&overview.hosts, now))
        @if !ended.is_empty() { (ended_section(&ended, now)) }
    }
}

fn first_steps(overview: &Overview) -> Markup {
    html! {
        section {
            h2 { "Nothing is built yet" }
            ol.steps {
                @if overview.hosts.is_empty() {
                    li { "Make a host: " code { "longshore host token" } ", then " code { "longshore agent --join TOKEN" } " on the machine" }
                }
                @if overview.environments.is_empty() {
                    li { "Say what environments there are: " code { "longshore env apply -f environments.yaml" } }
                }
                li { "Build an app: " code { "longshore build --repo PATH --ref main" } }
                li { "Promote it: " code { "longshore promote APP --to ENV" } }
            }
        }
    }
}

fn app_section(app: &AppOverview, environments: &[EnvName], now: Micros) -> Markup {
    html! {
        section.app {
            h2 { (app.app) }
            table.matrix {
                thead { tr {
                    th scope="col" { "Service" }
                    th scope="col" { "Newest build" }
                    @for env in environments { th scope="col" { (env) } }
                } }
                tbody { @for service in &app.services { (service_row(service, environments, now)) } }
            }
        }
    }
}

fn service_row(service: &ServiceOverview, environments: &[EnvName], now: Micros) -> Markup {
    html! {
        tr {
            th scope="row" { (service.service) @if service.job { " " span.tag { "job" } } }
            td data-label="Newest build" {
                @match &service.newest {
                    Some(newest) => { div { (digest(&newest.digest)) } div.small { "commit " (commit(&newest.commit)) } }
                    None => span.none { "none" },
                }
            }
            @for env in environments {
                td data-label=(env) {
                    @match service.environments.get(env) {
                        Some(there) => (cell(service, there, now)),
                        None => span.none { "not there" },
                    }
                }
            }
        }
    }
}

fn cell(service: &ServiceOverview, there: &ServiceInEnvironment, now: Micros) -> Markup {
    let behind = service.newest.as_ref().is_some_and(|newest| newest.id != there.release.id);
    html! {
        div { (digest(&there.release.digest)) @if behind { " " span.tag.behind { "older" } } }
        div.small { "for " (since(there.since, now)) ", commit " (commit(&there.release.commit)) }
        @if !service.job { ul.instances { @for instance in &there.instances { (instance_item(instance, there, now)) } } }
    }
}

fn instance_item(instance: &Instance, there: &ServiceInEnvironment, now: Micros) -> Markup {
    let class = match instance.state {
        InstanceState::Healthy => "good",
        InstanceState::Starting | InstanceState::Draining => "busy",
        InstanceState::Unhealthy | InstanceState::Exited => "bad",
    };
    html! {
        li title={ "container " (instance.container) ", digest " (instance.digest) } {
            span class={ "dot " (class) } {} (instance.host)
            " " span.small { (word(&instance.state)) " " (since(instance.since, now)) }
            @if instance.digest != there.release.digest { " " (digest(&instance.digest)) }
        }
    }
}

fn plan_card(plan: &Plan, now: Micros) -> Markup {
    let steps: Vec<&Step> = plan.waves.iter().flat_map(|wave| &wave.steps).collect();
    let done = steps.iter().filter(|step| matches!(step.state, StepState::Done | StepState::Reverted)).count();
    html! {
        article.plan {
            h3 {
                (word(&plan.kind)) " of " (plan.app) " to " (plan.env)
                " " span class={ "tag " (plan_class(plan.state)) } { (word(&plan.state)) }
            }
            p.small {
                (plan.changes.iter().map(|change| change.service.as_str()).collect::<Vec<_>>().join(", "))
                " · asked by " (plan.requested_by) " · for " (since(plan.created_at, now))
            }
            progress max=(steps.len()) value=(done) { (done) " of " (steps.len()) " steps" }
            ol.waves {
                @for wave in &plan.waves {
                    li { ul.chips { @for step in &wave.steps { (step_chip(step, now)) } } }
                }
            }
            @if let Some(error) = &plan.error { p.bad { (error.title) } }
        }
    }
}

fn step_chip(step: &Step, now: Micros) -> Markup {
    let class = match step.state {
        StepState::Waiting => "waiting",
        StepState::Active => "busy",
        StepState::Done => "good",
        StepState::Failed => "bad",
        StepState::Reverted => "reverted",
    };
    html! {
        li class={ "chip " (class) } {
            strong { (step.host) } " " (word(&step.action)) " " (step.service)
            span.small {
                " " (word(&step.state))
                @match (step.started_at, step.finished_at) {
                    (Some(from), Some(to)) => { ", " (span_words(to.0 - from.0)) }
                    (Some(from), None) => { ", " (since(from, now)) }
                    _ => {}
                }
            }
            @if step.state == StepState::Active { @if let Some(detail) = &step.detail { div.small { (detail) } } }
        }
    }
}

fn hosts_section(hosts: &[Host], now: Micros) -> Markup {
    html! {
        section.hosts {
            h2 { "Hosts" }
            @if hosts.is_empty() { p { "None yet. " code { "longshore host token" } " makes a token for one." } }
            @else {
                table.list {
                    thead { tr {
                        th scope="col" { "Host" } th scope="col" { "State" } th scope="col" { "Containers" }
                        th scope="col" { "Engine" } th scope="col" { "Labels" }
                    } }
                    tbody { @for host in hosts { (host_row(host, now)) } }
                }
            }
        }
    }
}

fn host_row(host: &Host, now: Micros) -> Markup {
    let engine = host.report.as_ref().map(|report| &report.engine);
    html! {
        tr {
            th scope="row" { (host.name) }
            td data-label="State" {
                span class={ "dot " (if host.up { "good" } else { "bad" }) } {}
                @if host.up { "up" } @else { "down" }
                @match host.seen_at {
                    Some(seen) => { @if !host.up { span.small { ", last seen " (since(seen, now)) " ago" } } }
                    None => span.small { ", never seen" },
                }
                @for warning in host.report.iter().flat_map(|report| &report.warnings) { div.small.bad { (warning) } }
            }
            td data-label="Containers" { (host.report.as_ref().map_or(0, |report| report.instances.len())) }
            td data-label="Engine" {
                @match engine {
                    Some(EngineState::Up { version }) => (version),
                    Some(EngineState::Down { error }) => span.bad { "down: " (error) },
                    None => span.none { "unknown" },
                }
            }
            td data-label="Labels" {
                @for (key, value) in &host.labels { span.tag { (key) "=" (value) } " " }
            }
        }
    }
}

fn ended_section(plans: &[&Plan], now: Micros) -> Markup {
    html! {
        section.ended {
            h2 { "Last rollouts" }
            ul.plans {
                @for plan in plans.iter().take(ENDED_PLANS_SHOWN) {
                    li {
                        span class={ "tag " (plan_class(plan.state)) } { (word(&plan.state)) }
                        " " (word(&plan.kind)) " of " strong { (plan.app) } " to " strong { (plan.env) }
                        " (" (plan.changes.iter().map(|change| change.service.as_str()).collect::<Vec<_>>().join(", ")) ")"
                        span.small {
                            " " (since(plan.created_at, now)) " ago by " (plan.requested_by)
                            @if let Some(finished) = plan.finished_at { ", took " (span_words(finished.0 - plan.created_at.0)) }
                        }
                        @if let Some(error) = &plan.error {
                            details { summary.bad { (error.title) } pre { (error.detail) } @if let Some(hint) = &error.hint { p { (hint) } } }
                        }
                    }
                }
            }
        }
    }
}

fn plan_class(state: PlanState) -> &'static str {
    match state {
        PlanState::Running => "busy",
        PlanState::Reverting | PlanState::Failed => "bad",
        PlanState::Succeeded => "good",
    }
}
