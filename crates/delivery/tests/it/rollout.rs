//! A rollout without a database: planner, executor and desired state driven by hand, as the store drives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::agent::DesiredProject;
use api::delivery::{PlanKind, PlanState, Release, ReleaseId, RolloutPolicy};
use api::{HostName, Micros, ServiceName};
use delivery::desired::{self, desired};
use delivery::error::Error;
use delivery::execute::{View, advance};
use delivery::model::{HostView, Placements, PlanRecord, Project, Seen};
use delivery::plan::{Input, Planned, plan};
use delivery::policy::Claim;

use crate::support::{Agent, Outcome, host, project};

/// An environment in memory.
pub(crate) struct World {
    pub(crate) project: Project,
    pub(crate) policy: RolloutPolicy,
    pub(crate) hosts: Vec<HostView>,
    pub(crate) known: BTreeMap<ReleaseId, Release>,
    pub(crate) current: BTreeMap<ServiceName, Release>,
    pub(crate) placements: Placements,
    pub(crate) jobs_succeeded: BTreeMap<ServiceName, ReleaseId>,
    pub(crate) claims_others: Vec<Claim>,
    pub(crate) numbers: BTreeMap<HostName, u64>,
    pub(crate) told: BTreeMap<HostName, DesiredProject>,
    pub(crate) agents: BTreeMap<HostName, Agent>,
    pub(crate) seen: BTreeMap<HostName, Seen>,
    pub(crate) now: Micros,
    plans: u32,
}

impl World {
    pub(crate) fn new(hosts: &[(&str, &[(&str, &str)])], budget: u32) -> Self {
        let now = Micros::from_seconds(1000);
        let hosts: Vec<HostView> = hosts.iter().map(|(named, labels)| host(named, labels, now)).collect();
        Self {
            project: project("prod"),
            policy: RolloutPolicy { max_unavailable: budget, step_seconds_max: 300 },
            agents: hosts.iter().map(|host| (host.name.clone(), Agent::default())).collect(),
            numbers: hosts.iter().map(|host| (host.name.clone(), 1)).collect(),
            hosts,
            known: BTreeMap::new(),
            current: BTreeMap::new(),
            placements: Placements::new(),
            jobs_succeeded: BTreeMap::new(),
            claims_others: Vec::new(),
            told: BTreeMap::new(),
            seen: BTreeMap::new(),
            now,
            plans: 0,
        }
    }

    pub(crate) fn host_add(&mut self, named: &str) {
        let added = host(named, &[], self.now);
        self.agents.insert(added.name.clone(), Agent::default());
        self.numbers.insert(added.name.clone(), 1);
        self.hosts.push(added);
    }

    pub(crate) fn planned(&self, wanted: &BTreeMap<ServiceName, Release>) -> Result<Planned, Error> {
        let scope: BTreeSet<ServiceName> = wanted.keys().chain(self.current.keys()).cloned().collect();
        let hosts_known = self.hosts.iter().map(|host| (host.name.clone(), host.clone())).collect();
        plan(&Input {
            project: &self.project,
            policy: &self.policy,
            hosts: &self.hosts,
            hosts_known: &hosts_known,
            current: &self.current,
            wanted,
            scope: &scope,
            placements: &self.placements,
            jobs_succeeded: &self.jobs_succeeded,
            claims_others: &self.claims_others,
            now: self.now,
        })
    }

    pub(crate) fn begin(&mut self, wanted: &BTreeMap<ServiceName, Release>) -> Result<PlanRecord, Error> {
        let planned = self.planned(wanted)?;
        self.known.extend(wanted.values().map(|release| (release.id.clone(), release.clone())));
        self.plans += 1;
        Ok(PlanRecord {
            id: format!("plan-{}", self.plans),
            project: self.project.clone(),
            kind: PlanKind::Promotion,
            changes: planned.changes,
            policy: self.policy.clone(),
            steps: planned.steps,
            state: PlanState::Running,
            error: None,
            requested_by: "test".to_owned(),
            reason: None,
            created_at: self.now,
            finished_at: None,
        })
    }

    /// One transition of the executor, as the store carries it out.
    pub(crate) fn hub(&mut self, plan: &mut PlanRecord) -> bool {
        let view = View { seen: &self.seen, now: self.now, listening_since: Micros(0) };
        let Some(next) = advance(plan, &view) else { return false };
        for change in &next.placements {
            let key = (change.service.clone(), change.host.clone());
            match &change.to {
                Some(placed) => self.placements.insert(key, placed.clone()),
                None => self.placements.remove(&key),
            };
        }
        self.jobs_succeeded.extend(next.jobs_succeeded.iter().cloned());
        if next.plan.state == PlanState::Succeeded {
            for change in &plan.changes {
                match &change.to {
                    Some(id) => self.current.insert(change.service.clone(), self.known[id].clone()),
                    None => self.current.remove(&change.service),
                };
            }
        }
        *plan = next.plan;
        self.refresh(plan);
        for record in plan.steps.iter_mut().filter(|record| next.told.contains(&record.step.number)) {
            record.told = self.numbers[&record.step.host];
        }
        true
    }

    fn refresh(&mut self, plan: &PlanRecord) {
        let numbers: BTreeMap<ServiceName, u32> =
            self.placements.keys().map(|(service, _)| service.clone()).zip(0..).collect();
        let meshes = self.hosts.iter().map(|host| (host.name.clone(), host.mesh.clone().unwrap())).collect();
        let current = self.current.iter().map(|(service, release)| (service.clone(), release.id.clone())).collect();
        let told = desired(&desired::Input {
            project: &self.project,
            policy: &self.policy,
            placements: &self.placements,
            current: &current,
            releases: &self.known,
            plan: Some(plan),
            numbers: &numbers,
            meshes: &meshes,
        });
        for (host, number) in &mut self.numbers {
            if told.get(host) != self.told.get(host) {
                *number += 1;
            }
        }
        self.told = told;
    }

    /// A host takes what it is told, and reports.
    pub(crate) fn agent(&mut self, host: &HostName, outcome: impl Fn(&ServiceName, &ReleaseId) -> Outcome) {
        let projects: Vec<DesiredProject> = self.told.get(host).cloned().into_iter().collect();
        let agent = self.agents.get_mut(host).unwrap();
        agent.take(self.numbers[host], &projects, outcome);
        let report = Arc::new(agent.report(host, self.now));
        self.seen.insert(host.clone(), Seen { at: self.now, report });
    }

    /// Carries a plan out with agents to which nothing bad happens but what `outcome` says.
    pub(crate) fn finish(
        &mut self,
        plan: &mut PlanRecord,
        outcome: impl Fn(&HostName, &ServiceName, &ReleaseId) -> Outcome,
    ) {
        for _ in 0..1000 {
            while self.hub(plan) {}
            if plan.state.is_final() {
                return;
            }
            self.now = self.now.plus_seconds(1);
            let hosts: Vec<HostName> = self.agents.keys().cloned().collect();
            for host in &hosts {
                self.agent(host, |service, release| outcome(host, service, release));
            }
        }
        panic!("the plan does not end: {plan:#?}");
    }

    pub(crate) fn deploy(&mut self, wanted: &BTreeMap<ServiceName, Release>) {
        let mut plan = self.begin(wanted).unwrap();
        self.finish(&mut plan, |_, _, _| Outcome::Works);
        assert_eq!(plan.state, PlanState::Succeeded, "{:?}", plan.error);
    }
}
