//! Plans: those under way host by host, and how the last ones ended.

use std::collections::BTreeMap;
use std::ops::Range;

use api::Micros;
use api::delivery::{Plan, PlanState, Step, StepState, Wave};
use api::fanout::Swarm;
use maud::{Markup, html};

use crate::fanout;
use crate::overview::Swarms;
use crate::words::{and_more, count, since, span_words, word};

/// How many ended plans are shown.
const ENDED_SHOWN: usize = 8;
/// The most plans under way that are shown step by step.
pub(crate) const UNDER_WAY_SHOWN: usize = 12;
/// A plan with more waves shows only those around the first that is not done.
const WAVES_SHOWN: usize = 12;
/// Of these, so many that are done.
const WAVES_DONE_SHOWN: usize = 2;
/// A wave with more steps lists those that are under way or failed, and counts the others.
const STEPS_SHOWN: usize = 12;
/// The most services that are named.
const SERVICES_NAMED_MAX: usize = 8;
/// How much of the end of a failure's log is shown, in bytes.
const LOG_BYTES_SHOWN: usize = 8 * 1024;
/// How much of a cause is shown in one line, in bytes.
const CAUSE_BYTES_SHOWN: usize = 300;

/// `Promotion of vote to prod`.
pub(crate) fn name(plan: &Plan) -> String {
    let kind = word(&plan.kind);
    let mut letters = kind.chars();
    let kind: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let to = match plan.kind {
        api::delivery::PlanKind::Promotion => "to",
        api::delivery::PlanKind::Rollback => "in",
    };
    format!("{kind} of {} {to} {}", plan.app, plan.env)
}

/// `: ` and the first line of what went wrong; nothing when nothing did.
pub(crate) fn cause(plan: &Plan) -> String {
    plan.error.as_ref().map_or_else(String::new, |error| {
        let line = error.detail.lines().next().filter(|line| !line.trim().is_empty()).unwrap_or(&error.title);
        let shown = &line[..line.floor_char_boundary(CAUSE_BYTES_SHOWN)];
        format!(": {shown}{}", if shown.len() < line.len() { "…" } else { "" })
    })
}

pub(crate) fn under_way_section(plans: &[&Plan], swarms: &Swarms, now: Micros) -> Markup {
    html! {
        section.under-way aria-labelledby="under-way" {
            h2 #under-way { "Under way" }
            @for plan in plans.iter().take(UNDER_WAY_SHOWN) {
                (card(plan, swarms.get(&plan.id).map(Vec::as_slice).unwrap_or_default(), now))
            }
            @if plans.len() > UNDER_WAY_SHOWN {
                p.small { (and_more(plans.len() - UNDER_WAY_SHOWN)) ": " code { "longshore rollout ls" } }
            }
        }
    }
}

fn card(plan: &Plan, swarms: &[Swarm], now: Micros) -> Markup {
    let steps = plan.waves.iter().flat_map(|wave| &wave.steps);
    let total = plan.waves.iter().map(|wave| wave.steps.len()).sum::<usize>();
    let done = steps.filter(|step| matches!(step.state, StepState::Done | StepState::Reverted)).count();
    let heading = format!("plan-{}", plan.id);
    html! {
        article.plan aria-labelledby=(heading) {
            h3 id=(heading) { (name(plan)) " " span class={ "tag " (class(plan.state)) } { (word(&plan.state)) } }
            p.small { (services(plan)) " · asked by " (plan.requested_by) " " (since(plan.created_at, now)) " ago" (reason(plan)) }
            @if plan.error.is_some() { p.bad { "What was changed goes back" (cause(plan)) } }
            div.progress {
                progress max=(total.max(1)) value=(done) aria-labelledby=(heading) {}
                span.small { (count(done)) " of " (count(total)) " steps, " a href="/fanout" { "images on their way" } }
            }
            @if !swarms.is_empty() { (fanout::of_plan(swarms)) }
            (waves(&plan.waves, now))
        }
    }
}

fn services(plan: &Plan) -> String {
    if plan.changes.is_empty() {
        return "no service changes".to_owned();
    }
    let mut text = plan
        .changes
        .iter()
        .take(SERVICES_NAMED_MAX)
        .map(|change| change.service.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    if plan.changes.len() > SERVICES_NAMED_MAX {
        text.push_str(&format!(" {}", and_more(plan.changes.len() - SERVICES_NAMED_MAX)));
    }
    text
}

fn reason(plan: &Plan) -> String {
    plan.reason.as_ref().map(|reason| format!(" · “{reason}”")).unwrap_or_default()
}

fn waves(waves: &[Wave], now: Micros) -> Markup {
    let shown = waves_shown(waves);
    html! {
        ol.waves {
            @if shown.start > 0 { li.fold { (count(shown.start)) @if shown.start == 1 { " wave" } @else { " waves" } " done" } }
            @for wave in &waves[shown.clone()] { (wave_item(wave, now)) }
            @if shown.end < waves.len() {
                li.fold { (count(waves.len() - shown.end)) @if waves.len() - shown.end == 1 { " wave" } @else { " waves" } " to come" }
            }
        }
    }
}

/// All waves, or those around the first that is not done.
fn waves_shown(waves: &[Wave]) -> Range<usize> {
    if waves.len() <= WAVES_SHOWN {
        return 0..waves.len();
    }
    let done = waves.iter().take_while(|wave| wave.steps.iter().all(|step| step.state == StepState::Done)).count();
    let start = done.saturating_sub(WAVES_DONE_SHOWN).min(waves.len() - WAVES_SHOWN);
    start..start + WAVES_SHOWN
}

fn wave_item(wave: &Wave, now: Micros) -> Markup {
    let many = wave.steps.len() > STEPS_SHOWN;
    let moving = |step: &&Step| matches!(step.state, StepState::Active | StepState::Failed);
    let listed: Vec<&Step> = wave.steps.iter().filter(|step| !many || moving(step)).take(STEPS_SHOWN).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for step in &wave.steps {
        *counts.entry(word(&step.state)).or_default() += 1;
    }
    html! {
        li { ul.chips {
            @for step in listed { (chip(step, now)) }
            @if many {
                li.chip.fold {
                    (count(wave.steps.len())) " steps: "
                    (counts.iter().map(|(state, number)| format!("{} {state}", count(*number))).collect::<Vec<_>>().join(", "))
                }
            }
        } }
    }
}

fn chip(step: &Step, now: Micros) -> Markup {
    let class = match step.state {
        StepState::Waiting => "waiting",
        StepState::Active => "busy",
        StepState::Done => "good",
        StepState::Failed => "bad",
        StepState::Reverted => "reverted",
    };
    html! {
        li class={ "chip " (class) } {
            div { strong { (step.host) } " " (word(&step.action)) " " (step.service) }
            div.small {
                span.state { (word(&step.state)) }
                @match (step.started_at, step.finished_at) {
                    (Some(from), Some(to)) => { " " (span_words(to.0 - from.0)) }
                    (Some(from), None) => { " " (since(from, now)) }
                    _ => {}
                }
                @if step.state == StepState::Active { @if let Some(detail) = &step.detail { " · " (detail) } }
            }
        }
    }
}

pub(crate) fn ended_section(plans: &[&Plan], now: Micros) -> Markup {
    html! {
        section.ended aria-labelledby="ended" {
            h2 #ended { "Last rollouts" }
            ul.plans { @for plan in plans.iter().take(ENDED_SHOWN) { (ended_item(plan, now)) } }
        }
    }
}

fn ended_item(plan: &Plan, now: Micros) -> Markup {
    html! {
        li id={ "plan-" (plan.id) } {
            span class={ "tag " (class(plan.state)) } { (word(&plan.state)) }
            div {
                div { strong { (name(plan)) } }
                div.small {
                    (services(plan)) " · " (since(plan.finished_at.unwrap_or(plan.created_at), now)) " ago, asked by " (plan.requested_by)
                    @if let Some(finished) = plan.finished_at { ", took " (span_words(finished.0 - plan.created_at.0)) }
                    (reason(plan))
                }
                @if let Some(error) = &plan.error {
                    @let (log, left_out) = log_end(&error.detail);
                    details {
                        summary { span.bad { (error.title) } (cause(plan)) }
                        @if left_out { p.small { "The end of it; all: " code { "longshore rollout status --env " (plan.env) } } }
                        @if !log.is_empty() { pre tabindex="0" { (log) } }
                        @if let Some(hint) = &error.hint { p { (hint) } }
                    }
                }
            }
        }
    }
}

/// The end of a failure's detail, and whether something before it was left out.
fn log_end(detail: &str) -> (&str, bool) {
    if detail.len() <= LOG_BYTES_SHOWN {
        return (detail, false);
    }
    let end = &detail[detail.ceil_char_boundary(detail.len() - LOG_BYTES_SHOWN)..];
    (end.split_once('\n').map_or(end, |(_, lines)| lines), true)
}

fn class(state: PlanState) -> &'static str {
    match state {
        PlanState::Running => "busy",
        PlanState::Reverting | PlanState::Failed => "bad",
        PlanState::Succeeded => "good",
    }
}
