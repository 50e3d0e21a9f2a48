//! What a plan, or the way of a release into an environment, waits for: one sentence, the reasons, and the next command.

use std::collections::BTreeMap;

use api::delivery::{Environment, PlanState, Release, ReleaseId, StepState, Target, Why};
use api::{EnvName, HostName, ServiceAddress, ServiceName};

use crate::Service;
use crate::error::Error;
use crate::execute::detail;
use crate::model::{HostView, PlanRecord, Project, Seen, is_for_app, target_matches};
use crate::promotion::latest;
use crate::service::ids;
use crate::store::{environments, hosts, plans, releases};

/// How many differing services a sentence names.
const NAMED_MAX: usize = 5;

struct Answer {
    summary: String,
    reasons: Vec<String>,
    next: String,
    plan: Option<String>,
}

impl Service {
    pub(crate) async fn why_make(&self, address: &ServiceAddress, env: &EnvName) -> Result<Why, Error> {
        let db = &self.inner.db;
        let environment = environments::get(db, env).await?;
        let project = Project { env: env.clone(), app: address.app.clone() };
        let newest = self.only(address, releases::newest(db, &address.app).await?);
        let current = self.only(address, releases::current(db, &project).await?);
        let before = match &environment.spec.after {
            Some(before) => {
                let project = Project { env: before.clone(), app: address.app.clone() };
                Some((before.clone(), self.only(address, releases::current(db, &project).await?)))
            }
            None => None,
        };
        let seen = self.seen_refreshed().await?;
        let last = plans::newest(db, Some(&address.app), Some(env), None, 1).await?.into_iter().next();
        let under_way = plans::under_way_on(db, &project).await?;
        let source = before.as_ref().map_or(&newest, |(_, releases)| releases);
        let answer = if !is_for_app(&environment, &address.app) {
            Answer {
                summary: format!("{env} is not for {}.", address.app),
                reasons: Vec::new(),
                next: "longshore env ls".to_owned(),
                plan: None,
            }
        } else if newest.is_empty() && current.is_empty() && under_way.is_none() {
            Answer {
                summary: format!("{address} was never built."),
                reasons: vec!["There is no release to promote.".to_owned()],
                next: "longshore build --repo URL-OR-PATH --ref REF".to_owned(),
                plan: None,
            }
        } else if let Some(plan) = under_way {
            self.plan_under_way(&plan, &seen)
        } else {
            let failed = last.filter(|plan| plan.state == PlanState::Failed && ids(source) != ids(&current));
            match failed {
                Some(plan) => failed_answer(address, env, &plan),
                None => differing(address, env, before.as_ref(), &newest, &current),
            }
        };
        let mut reasons = answer.reasons;
        reasons.extend(self.host_reasons(&environment, &seen).await?);
        Ok(Why {
            address: address.clone(),
            env: env.clone(),
            summary: answer.summary,
            reasons,
            next: Some(answer.next),
            plan: answer.plan,
        })
    }

    fn only(
        &self,
        address: &ServiceAddress,
        mut releases: BTreeMap<ServiceName, Release>,
    ) -> BTreeMap<ServiceName, Release> {
        releases.retain(|service, _| address.service.as_ref().is_none_or(|only| only == service));
        releases
    }

    fn plan_under_way(&self, plan: &PlanRecord, seen: &BTreeMap<HostName, Seen>) -> Answer {
        let env = &plan.project.env;
        let now = self.now();
        let (wave, waves) = plan.wave_current();
        let mut reasons = Vec::new();
        if let Some(error) = &plan.error {
            reasons.push(error.to_string());
        }
        let open = plan.steps.iter().filter(|record| {
            record.step.state == StepState::Active || matches!(record.undo, crate::model::Undo::Active(_))
        });
        reasons.extend(open.map(|record| {
            let said = detail(plan, record, &self.view(seen, now)).unwrap_or_default();
            format!("{:?} {} on {}: {said}", record.step.action, record.step.service, record.step.host)
        }));
        let summary = match plan.state {
            PlanState::Reverting => format!("A step of plan {} failed; {env} goes back to what it had.", plan.id),
            _ => format!("Plan {} is under way in {env}: wave {} of {waves}.", plan.id, (wave + 1).min(waves.max(1))),
        };
        Answer { summary, reasons, next: format!("longshore rollout status --env {env}"), plan: Some(plan.id.clone()) }
    }

    async fn host_reasons(
        &self,
        environment: &Environment,
        seen: &BTreeMap<HostName, Seen>,
    ) -> Result<Vec<String>, Error> {
        let known: Vec<HostView> =
            hosts::all(&self.inner.db).await?.into_iter().map(|row| latest(row.view, seen)).collect();
        let Target::Docker { hosts: named, .. } = &environment.spec.target;
        let mut reasons: Vec<String> = named
            .iter()
            .filter(|name| !known.iter().any(|host| host.name == **name))
            .map(|name| format!("Warning: {} names host {name}, which was never enrolled.", environment.name))
            .collect();
        let now = self.now();
        let target = &environment.spec.target;
        let down = known.iter().filter(|host| target_matches(target, &host.name, &host.labels) && !host.is_up(now));
        reasons.extend(down.map(|host| match host.seen_at {
            Some(at) => format!("Warning: host {} is down; it reported last at {at}.", host.name),
            None => format!("Warning: host {} has never reported.", host.name),
        }));
        let silent = known.iter().filter(|host| target_matches(target, &host.name, &host.labels));
        reasons.extend(silent.filter_map(|host| {
            let error = host.engine_error.as_ref()?;
            Some(format!("Warning: the engine of host {} does not answer: {error}", host.name))
        }));
        Ok(reasons)
    }
}

fn failed_answer(address: &ServiceAddress, env: &EnvName, plan: &PlanRecord) -> Answer {
    let mut reasons = Vec::new();
    if let Some(error) = &plan.error {
        reasons.push(error.to_string());
        reasons.extend(error.hint.clone());
    }
    Answer {
        summary: format!("The last plan for {env} failed; it keeps the releases it had."),
        reasons,
        next: format!("longshore promote {address} --to {env}"),
        plan: Some(plan.id.clone()),
    }
}

/// The services whose releases differ, as text; none when there are none.
fn differences(left: &BTreeMap<ServiceName, Release>, right: &BTreeMap<ServiceName, Release>) -> Option<String> {
    let (left, right): (BTreeMap<_, ReleaseId>, BTreeMap<_, ReleaseId>) = (ids(left), ids(right));
    let mut names: Vec<&ServiceName> = left.keys().chain(right.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| left.get(*name) != right.get(*name));
    let mut shown: Vec<String> = names.iter().take(NAMED_MAX).map(|name| name.to_string()).collect();
    if names.len() > NAMED_MAX {
        shown.push(format!("{} more", names.len() - NAMED_MAX));
    }
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn differing(
    address: &ServiceAddress,
    env: &EnvName,
    before: Option<&(EnvName, BTreeMap<ServiceName, Release>)>,
    newest: &BTreeMap<ServiceName, Release>,
    current: &BTreeMap<ServiceName, Release>,
) -> Answer {
    let answer = |summary: String, reasons: Vec<String>, next: String| Answer { summary, reasons, next, plan: None };
    match before {
        Some((before, there)) => {
            let waiting = differences(newest, there)
                .map(|names| format!("{before} does not have the newest build of {names} yet."));
            if let Some(names) = differences(there, current).filter(|_| !there.is_empty()) {
                return answer(
                    format!("{before} has what {env} does not: {names}. Nobody has promoted it."),
                    waiting.into_iter().collect(),
                    format!("longshore promote {address} --to {env}"),
                );
            }
            if let Some(waiting) = waiting {
                return answer(
                    format!("The newest build waits to enter {before}, which comes before {env}."),
                    vec![waiting],
                    format!("longshore why {address} --env {before}"),
                );
            }
        }
        None => {
            if let Some(names) = differences(newest, current) {
                return answer(
                    format!("The newest build has what {env} does not: {names}. Nobody has promoted it."),
                    Vec::new(),
                    format!("longshore promote {address} --to {env}"),
                );
            }
        }
    }
    answer(format!("{env} has the newest build of {address}."), Vec::new(), format!("longshore ps --env {env}"))
}
