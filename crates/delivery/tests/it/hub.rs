//! A hub's delivery with a scripted fleet, which can be killed and opened again at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use api::agent::DesiredSeen;
use api::delivery::{Delivery, Fleet, NewReleases, Plan, PromoteRequest, Release, ReleaseId, RollbackRequest};
use api::{HostName, Micros, ServiceName};
use base::db::{DatabaseConfig, Db, open};
use base::tasks::Progress;
use delivery::{CONTEXT, Config, Deps, MIGRATIONS, Service};

use crate::support::{Agent, FakeRegistry, Outcome, Spec, name};

/// Rounds in which any plan of these tests must end.
const ROUNDS_MAX: usize = 200;

pub(crate) struct Hub {
    config: DatabaseConfig,
    db: Db,
    clock: Arc<AtomicI64>,
    pub(crate) registry: Arc<FakeRegistry>,
    pub(crate) service: Service,
    pub(crate) agents: BTreeMap<HostName, Agent>,
}

async fn opened(
    config: &DatabaseConfig,
    clock: &Arc<AtomicI64>,
    registry: &Arc<FakeRegistry>,
    replica: &str,
) -> (Db, Service) {
    let db = open(config, CONTEXT, MIGRATIONS).await.unwrap();
    let clock = Arc::clone(clock);
    let deps = Deps {
        registry: Arc::clone(registry) as Arc<dyn api::registry::Registry>,
        db: db.clone(),
        clock: Arc::new(move || Micros(clock.load(Ordering::SeqCst))),
    };
    (db, Service::new(Config { replica: replica.to_owned() }, deps).await.unwrap())
}

pub(crate) const ENVIRONMENTS: &str = "\
environments:
  qa:
    target: {docker: {hosts: [q1]}}
  prod:
    after: qa
    target: {docker: {labels: {stage: prod}}}
    rollout: {max_unavailable: 1, step_seconds_max: 60}
";

impl Hub {
    pub(crate) async fn new(config: DatabaseConfig) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000_000));
        let registry = Arc::new(FakeRegistry::default());
        let (db, service) = opened(&config, &clock, &registry, "hub").await;
        Self { config, db, clock, registry, service, agents: BTreeMap::new() }
    }

    /// With the environments qa (one host) and prod (three, one of which is the data host).
    pub(crate) async fn with_hosts(config: DatabaseConfig) -> Self {
        let mut hub = Self::new(config).await;
        hub.service.env_apply(ENVIRONMENTS, "environments.yaml", false).await.unwrap();
        hub.enrol("q1", &[("data", "true")]).await;
        hub.enrol("p1", &[("stage", "prod"), ("data", "true")]).await;
        hub.enrol("p2", &[("stage", "prod")]).await;
        hub.enrol("p3", &[("stage", "prod")]).await;
        hub.round(|_, _, _| Outcome::Works).await;
        hub
    }

    pub(crate) async fn enrol(&mut self, host: &str, labels: &[(&str, &str)]) {
        let host: HostName = name(host);
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.service.host_enrolled(&host, labels).await.unwrap();
        self.agents.insert(host, Agent::default());
    }

    /// The hub dies and is started again.
    pub(crate) async fn reopen(&mut self) {
        self.db.close().await;
        (self.db, self.service) = opened(&self.config, &self.clock, &self.registry, "hub").await;
    }

    /// Another hub on the same database.
    pub(crate) async fn other(&self) -> (Db, Service) {
        opened(&self.config, &self.clock, &self.registry, "other").await
    }

    pub(crate) async fn close(self) {
        self.db.close().await;
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    pub(crate) async fn build(&self, version: u32, specs: &[Spec]) -> Vec<Release> {
        let new = NewReleases {
            app: name("shop"),
            commit: format!("{version:040}"),
            releases: specs.iter().map(Spec::new_release).collect(),
            whole: true,
        };
        self.service.release_record(new).await.unwrap()
    }

    pub(crate) async fn promote(&self, address: &str, to: &str) -> api::Result<Plan> {
        let request =
            PromoteRequest { address: name(address), to: name(to), force_reason: None, requested_by: "ann".to_owned() };
        self.service.promote(request).await
    }

    pub(crate) async fn rollback(&self, address: &str, env: &str) -> api::Result<Plan> {
        let request =
            RollbackRequest { address: name(address), env: name(env), reason: None, requested_by: "ann".to_owned() };
        self.service.rollback(request).await
    }

    /// Every agent takes what it is told and reports.
    pub(crate) async fn round(&mut self, outcome: impl Fn(&HostName, &ServiceName, &ReleaseId) -> Outcome) {
        for (host, agent) in &mut self.agents {
            let seen = DesiredSeen { number: agent.number, streams: 0 };
            let desired = self.service.desired(host, seen, 0).await.unwrap();
            assert_eq!(desired.host, *host);
            agent.take(desired.number, &desired.projects, |service, release| outcome(host, service, release));
            let now = Micros(self.clock.load(Ordering::SeqCst));
            self.service.report(host, agent.report(host, now)).await.unwrap();
        }
    }

    /// Carries a plan out to its end; with `killed`, the hub dies after every single transition.
    pub(crate) async fn finish(
        &mut self,
        plan: &str,
        killed: bool,
        outcome: impl Fn(&HostName, &ServiceName, &ReleaseId) -> Outcome,
    ) -> Plan {
        for _ in 0..ROUNDS_MAX {
            while self.service.execute().await.unwrap() == Progress::More {
                if killed {
                    self.reopen().await;
                }
            }
            let plan = self.service.plan_get(plan).await.unwrap();
            if plan.state.is_final() {
                return plan;
            }
            self.pass(1);
            self.round(&outcome).await;
        }
        panic!("the plan does not end");
    }

    pub(crate) async fn deploy(&mut self, to: &str) -> Plan {
        let plan = self.promote("shop", to).await.unwrap();
        let plan = self.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(plan.state, api::delivery::PlanState::Succeeded, "{:?}", plan.error);
        plan
    }
}
