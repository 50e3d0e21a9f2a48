//! Overviews to render in tests.

use std::collections::BTreeMap;
use std::sync::Mutex;

use api::agent::{EngineState, InstanceState, ProxyReport, Report};
use api::delivery::{
    AppOverview, Host, Instance, Overview, Plan, PlanChange, PlanKind, PlanState, ReleaseBrief, ServiceInEnvironment,
    ServiceOverview, Step, StepAction, StepState, Wave,
};
use api::delivery::{
    Delivery, Environment, EnvironmentChange, EnvironmentReleases, LogLine, LogRequest, NewReleases, PromoteRequest,
    Release, ReleaseFilter, RollbackRequest, ServiceDifference, Why,
};
use api::{AppName, EnvName, Micros, Page, Problem, Result, ServiceAddress};
use async_trait::async_trait;
use futures::stream::BoxStream;
use oci::Digest;
use tokio::sync::watch;

/// When all of it is so.
const NOW: Micros = Micros(1_790_000_000_000_000);

fn ago(seconds: i64) -> Micros {
    NOW.plus_seconds(-seconds)
}

/// Every sample with its name.
pub(crate) fn all() -> Vec<(&'static str, Overview)> {
    vec![
        ("nothing_yet", nothing_yet()),
        ("in_place", in_place()),
        ("rollout", rollout()),
        ("failed", failed()),
        ("host_down", host_down()),
        ("long_names", long_names()),
        ("hostile", hostile()),
    ]
}

/// HTML with a line for each element that begins a block, so that a change is seen where it is.
pub(crate) fn lines(html: &str) -> String {
    let mut text = html.to_owned();
    for element in
        ["section", "h2", "h3", "article", "table", "tr", "th", "td", "li", "ul", "ol", "details", "p", "pre"]
    {
        for end in [">", " "] {
            text = text.replace(&format!("<{element}{end}"), &format!("\n<{element}{end}"));
        }
    }
    text
}

fn digest(seed: usize) -> Digest {
    let hex: String =
        (0..8).map(|part| format!("{:08x}", (seed + 1).wrapping_mul(2_654_435_761 + part * 40_503) as u32)).collect();
    format!("sha256:{hex}").parse().unwrap()
}

fn brief(seed: usize) -> ReleaseBrief {
    let text = digest(seed).to_string();
    ReleaseBrief { id: text[7..23].parse().unwrap(), digest: digest(seed), commit: text[20..60].to_owned() }
}

fn host(name: &str, seen: Option<i64>) -> Host {
    let report = Report {
        number: 7,
        clock: NOW,
        agent_version: "0.1.0".to_owned(),
        mesh: "10.0.0.11:5200".to_owned(),
        engine: EngineState::Up { version: "Docker Engine 20.10.24".to_owned() },
        instances: Vec::new(),
        services: Vec::new(),
        jobs: Vec::new(),
        proxy: ProxyReport::default(),
        warnings: Vec::new(),
    };
    Host {
        name: name.parse().unwrap(),
        labels: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
        enrolled_at: ago(90_000),
        seen_at: seen.map(ago),
        up: seen.is_some_and(|seconds| seconds < 20),
        desired_number: 7,
        report: seen.map(|_| report),
    }
}

fn instance(service: &str, host: &str, seed: usize, state: InstanceState, since: i64) -> Instance {
    Instance {
        app: "vote".parse().unwrap(),
        service: service.parse().unwrap(),
        host: host.parse().unwrap(),
        slot: 0,
        release: brief(seed).id,
        digest: digest(seed),
        container: "4f1c0a9be2d37f66".repeat(4),
        state,
        since: ago(since),
    }
}

fn there(service: &str, hosts: &[&str], seed: usize, since: i64) -> ServiceInEnvironment {
    let instances = hosts.iter().map(|host| instance(service, host, seed, InstanceState::Healthy, since)).collect();
    ServiceInEnvironment { release: brief(seed), since: ago(since), instances }
}

const HOSTS: [&str; 3] = ["host1", "host2", "host3"];
const ENVIRONMENTS: [&str; 3] = ["qa", "staging", "prod"];

fn service(name: &str, job: bool, newest: usize, environments: &[(&str, &[&str], usize, i64)]) -> ServiceOverview {
    let there = |&(env, hosts, seed, since): &(&str, &[&str], usize, i64)| {
        (env.parse().unwrap(), there(name, hosts, seed, since))
    };
    ServiceOverview {
        service: name.parse().unwrap(),
        job,
        newest: Some(brief(newest)),
        environments: environments.iter().map(there).collect(),
    }
}

pub(crate) fn nothing_yet() -> Overview {
    Overview { at: NOW, environments: Vec::new(), apps: Vec::new(), plans: Vec::new(), hosts: Vec::new() }
}

/// An app of five services and a job, everywhere the newest.
pub(crate) fn in_place() -> Overview {
    let everywhere = |name, seed| {
        service(
            name,
            false,
            seed,
            &[("qa", &["host1"], seed, 7_500), ("staging", &["host2"], seed, 3_700), ("prod", &HOSTS, seed, 700)],
        )
    };
    let on_first = |name, seed| {
        service(
            name,
            false,
            seed,
            &[
                ("qa", &["host1"], seed, 300_000),
                ("staging", &["host1"], seed, 290_000),
                ("prod", &["host1"], seed, 280_000),
            ],
        )
    };
    let services = vec![
        on_first("db", 1),
        service("migrate", true, 2, &[("qa", &[], 2, 7_500), ("staging", &[], 2, 3_700), ("prod", &[], 2, 700)]),
        on_first("redis", 3),
        everywhere("result", 4),
        everywhere("vote", 5),
        everywhere("worker", 6),
    ];
    Overview {
        at: NOW,
        environments: ENVIRONMENTS.iter().map(|name| name.parse().unwrap()).collect(),
        apps: vec![AppOverview { app: "vote".parse().unwrap(), services }],
        plans: vec![
            plan("1", "prod", PlanState::Succeeded, Vec::new()),
            plan("2", "staging", PlanState::Succeeded, Vec::new()),
        ],
        hosts: HOSTS.iter().map(|name| host(name, Some(2))).collect(),
    }
}

fn plan(id: &str, env: &str, state: PlanState, waves: Vec<Wave>) -> Plan {
    Plan {
        id: format!("0199c2a0-0000-7000-8000-00000000000{id}"),
        env: env.parse().unwrap(),
        app: "vote".parse().unwrap(),
        kind: PlanKind::Promotion,
        changes: vec![PlanChange { service: "vote".parse().unwrap(), from: Some(brief(5).id), to: Some(brief(9).id) }],
        waves,
        state,
        error: None,
        requested_by: "demo".to_owned(),
        reason: None,
        created_at: ago(40),
        finished_at: state.is_final().then(|| ago(12)),
    }
}

fn step(number: u32, host: &str, state: StepState) -> Step {
    let begun = state != StepState::Waiting;
    let ended = matches!(state, StepState::Done | StepState::Failed | StepState::Reverted);
    Step {
        number,
        action: StepAction::Replace,
        host: host.parse().unwrap(),
        service: "vote".parse().unwrap(),
        release: brief(9).id,
        instances: 1,
        state,
        started_at: begun.then(|| ago(30)),
        finished_at: ended.then(|| ago(21)),
        detail: (state == StepState::Active).then(|| "waits until container vote is healthy".to_owned()),
    }
}

/// `vote` replaced on the first host, under way on the second.
pub(crate) fn rollout() -> Overview {
    let mut overview = in_place();
    let states = [StepState::Done, StepState::Active, StepState::Waiting];
    let waves = HOSTS
        .iter()
        .zip(states)
        .zip(1..)
        .map(|((host, state), number)| Wave { steps: vec![step(number, host, state)] });
    overview.plans.insert(0, plan("3", "prod", PlanState::Running, waves.collect()));
    let vote = &mut overview.apps[0].services[4];
    vote.newest = Some(brief(9));
    for env in ["qa", "staging"] {
        vote.environments.insert(env.parse().unwrap(), there("vote", &["host1"], 9, 500));
    }
    let prod = vote.environments.get_mut("prod").unwrap();
    prod.instances = vec![
        instance("vote", "host1", 9, InstanceState::Healthy, 22),
        instance("vote", "host2", 9, InstanceState::Starting, 4),
        instance("vote", "host2", 5, InstanceState::Healthy, 700),
        instance("vote", "host3", 5, InstanceState::Healthy, 700),
    ];
    overview
}

/// A rollout that failed with a long log, and another that goes back.
pub(crate) fn failed() -> Overview {
    let mut overview = in_place();
    let log: Vec<String> = (0..300)
        .map(|line| {
            format!(
                "{line:>4} Traceback of a failure whose line is longer than a narrow screen can show without scrolling"
            )
        })
        .collect();
    let problem = Problem::new(500, "step-failed", "A step of the rollout failed")
        .detail(format!(
            "replacing vote/vote on host host1: the container ended with code 1\nlast 300 lines of its log:\n{}",
            log.join("\n")
        ))
        .hint("prod keeps the releases it had. Mend vote, build and promote again.");
    overview.plans[0].state = PlanState::Failed;
    overview.plans[0].error = Some(problem.clone());
    let steps = vec![
        Wave { steps: vec![step(1, "host1", StepState::Failed)] },
        Wave { steps: vec![step(2, "host2", StepState::Waiting)] },
    ];
    let mut back = plan("4", "staging", PlanState::Reverting, steps);
    back.kind = PlanKind::Rollback;
    back.reason = Some("slow".to_owned());
    back.error = Some(problem);
    overview.plans.insert(0, back);
    overview
}

/// One host down, one whose engine is, one with a warning, a container that is unhealthy.
pub(crate) fn host_down() -> Overview {
    let mut overview = in_place();
    overview.hosts[1] = host("host2", Some(95));
    if let Some(report) = &mut overview.hosts[2].report {
        report.engine = EngineState::Down { error: "unix:///var/run/docker.sock: connection refused".to_owned() };
        report.warnings = (1..6).map(|number| format!("warning {number}: the disk of images is nearly full")).collect();
    }
    overview.hosts.push(host("host4", None));
    let worker = overview.apps[0].services[5].environments.get_mut("prod").unwrap();
    worker.instances[0].state = InstanceState::Unhealthy;
    overview
}

/// Names as long as they may be.
pub(crate) fn long_names() -> Overview {
    let text = serde_json::to_string(&failed()).unwrap();
    let mut text = text
        .replace("\"host1\"", &format!("\"{:x<63}\"", "host1"))
        .replace("\"prod\"", &format!("\"{:y<63}\"", "prod"));
    for name in ["vote", "worker", "migrate"] {
        text = text.replace(&format!("\"{name}\""), &format!("\"{name:z<63}\""));
    }
    serde_json::from_str(&text).unwrap()
}

/// Text of strangers wherever text can come from strangers.
pub(crate) fn hostile() -> Overview {
    let evil = "</pre><script>alert(1)</script><img src=x onerror=\"alert(2)\">'\"&\r\ndata: x\n\nevent: main\n";
    let mut overview = failed();
    for plan in &mut overview.plans {
        plan.requested_by = evil.to_owned();
        plan.reason = Some(evil.to_owned());
        plan.error = Some(Problem::new(500, "step-failed", evil).detail(format!("{evil}\n{evil}")).hint(evil));
    }
    let waves = &mut overview.plans[0].waves;
    waves[1].steps[0].state = StepState::Active;
    waves[1].steps[0].detail = Some(evil.to_owned());
    overview.hosts[0].labels = BTreeMap::from([(evil.to_owned(), evil.to_owned())]);
    if let Some(report) = &mut overview.hosts[0].report {
        report.warnings = vec![evil.to_owned()];
        report.engine = EngineState::Down { error: evil.to_owned() };
    }
    for service in &mut overview.apps[0].services {
        service.newest.as_mut().unwrap().commit = evil.to_owned();
        for there in service.environments.values_mut() {
            there.release.commit = evil.to_owned();
            there.instances.iter_mut().for_each(|instance| instance.container = evil.to_owned());
        }
    }
    overview
}

/// Every service on every host of every environment, one host down, one container unhealthy, a rollout of all of it.
pub(crate) fn large(services: usize, environments: usize, hosts: usize) -> Overview {
    let envs: Vec<String> = (0..environments).map(|number| format!("env{number}")).collect();
    let names: Vec<String> = (0..hosts).map(|number| format!("host{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // A fleet where every service ran on every host would be a million containers: each host runs some.
    let app = |number: usize| {
        let service = |place: usize| {
            let seed = number * 10 + place;
            let name = format!("service{seed}");
            let on: Vec<&str> = names.iter().copied().skip(seed % 7).step_by(7).collect();
            service(
                &name,
                false,
                seed,
                &envs.iter().map(|env| (env.as_str(), on.as_slice(), seed, 900)).collect::<Vec<_>>(),
            )
        };
        AppOverview { app: format!("app{number}").parse().unwrap(), services: (0..10).map(service).collect() }
    };
    let mut overview = in_place();
    overview.environments = envs.iter().map(|env| env.parse().unwrap()).collect();
    overview.apps = (0..services / 10).map(app).collect();
    overview.hosts = names.iter().map(|name| host(name, Some(if *name == "host0007" { 60 } else { 3 }))).collect();
    overview.apps[3].services[2].environments.get_mut("env1").unwrap().instances[4].state = InstanceState::Unhealthy;
    let wave = |number: usize| {
        let state = match number {
            0 => StepState::Done,
            1 => StepState::Active,
            _ => StepState::Waiting,
        };
        Wave { steps: names.iter().skip(number * 5).take(5).map(|name| step(1, name, state)).collect() }
    };
    overview.plans.insert(
        0,
        plan("3", "prod", PlanState::Running, (0..1000).map(wave).filter(|wave| !wave.steps.is_empty()).collect()),
    );
    overview
}

/// A delivery that has an overview, or does not, and nothing else.
pub(crate) struct OverviewOnly {
    overview: Mutex<Result<Overview>>,
    asked: watch::Sender<u64>,
    changes: watch::Sender<u64>,
}

impl OverviewOnly {
    pub(crate) fn new(overview: Result<Overview>) -> Self {
        Self { overview: Mutex::new(overview), asked: watch::Sender::new(0), changes: watch::Sender::new(0) }
    }

    /// Has another overview from now on.
    pub(crate) fn change(&self, overview: Result<Overview>) {
        *self.overview.lock().unwrap() = overview;
        self.changes.send_modify(|count| *count += 1);
    }

    /// How often the overview was asked for.
    pub(crate) fn asked(&self) -> u64 {
        *self.asked.borrow()
    }
}

fn not_here<T>() -> Result<T> {
    Err(Problem::new(501, "not-here", "Pages ask for the overview alone"))
}

#[async_trait]
impl Delivery for OverviewOnly {
    async fn release_record(&self, _: NewReleases) -> Result<Vec<Release>> {
        not_here()
    }
    async fn release_get(&self, _: &str) -> Result<Release> {
        not_here()
    }
    async fn release_list(&self, _: ReleaseFilter, _: Option<&str>, _: u32) -> Result<Page<Release>> {
        not_here()
    }
    async fn env_apply(&self, _: &str, _: &str, _: bool) -> Result<Vec<EnvironmentChange>> {
        not_here()
    }
    async fn env_list(&self) -> Result<Vec<Environment>> {
        not_here()
    }
    async fn env_releases(&self, _: &AppName, _: &EnvName) -> Result<EnvironmentReleases> {
        not_here()
    }
    async fn env_diff(&self, _: &AppName, _: Option<&EnvName>, _: &EnvName) -> Result<Vec<ServiceDifference>> {
        not_here()
    }
    async fn promote(&self, _: PromoteRequest) -> Result<Plan> {
        not_here()
    }
    async fn rollback(&self, _: RollbackRequest) -> Result<Plan> {
        not_here()
    }
    async fn plan_get(&self, _: &str) -> Result<Plan> {
        not_here()
    }
    async fn plan_list(&self, _: Option<&AppName>, _: Option<&EnvName>, _: Option<&str>, _: u32) -> Result<Page<Plan>> {
        not_here()
    }
    async fn why(&self, _: &ServiceAddress, _: &EnvName) -> Result<Why> {
        not_here()
    }
    async fn host_list(&self, _: Option<&str>, _: u32) -> Result<Page<Host>> {
        not_here()
    }
    async fn instance_list(&self, _: &AppName, _: &EnvName) -> Result<Vec<Instance>> {
        not_here()
    }
    async fn logs(&self, _: LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        not_here()
    }
    async fn overview(&self) -> Result<Overview> {
        self.asked.send_modify(|count| *count += 1);
        self.overview.lock().unwrap().clone()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
