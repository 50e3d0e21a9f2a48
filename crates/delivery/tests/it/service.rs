//! The whole context over its traits, on both databases, with a scripted fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use api::agent::{DesiredSeen, Route};
use api::delivery::{
    Delivery, Fleet, LogLine, LogRequest, PlanKind, PlanState, PromoteRequest, ReleaseFilter, Rollouts as _, StepState,
};
use api::{EnvName, HostName, Micros, Problem};
use base::db::testing::for_each_database;
use base::tasks::Progress;
use futures::StreamExt as _;

use crate::hub::Hub;
use crate::support::{Outcome, Spec, name};

fn shop() -> Vec<Spec> {
    vec![
        Spec::new("db").volume().label("data", "true").publish_in("none", 1, 1),
        Spec::new("migrate").job().awaits("db"),
        Spec::new("web").global().awaits("migrate").publish(8080, 80),
    ]
}

fn shop_with(changed: &str) -> Vec<Spec> {
    shop().into_iter().map(|spec| if spec.named == changed { spec.version(2) } else { spec }).collect()
}

fn kind(outcome: api::Result<impl std::fmt::Debug>) -> String {
    let problem = outcome.unwrap_err();
    assert!(problem.hint.is_some(), "a refusal says what to do next: {problem:?}");
    problem.kind
}

async fn summary(hub: &Hub, env: &str) -> String {
    let why = hub.service.why(&name("shop"), &name(env)).await.unwrap();
    assert!(why.next.is_some());
    why.summary
}

#[tokio::test]
async fn a_release_goes_from_qa_to_prod_and_back() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        assert_eq!(kind(hub.promote("shop", "qa").await), "no-build");
        assert_eq!(kind(hub.promote("shop", "nowhere").await), "environment-unknown");
        assert!(summary(&hub, "prod").await.contains("was never built"));

        let first = hub.build(1, &shop()).await;
        assert_eq!(kind(hub.promote("shop", "prod").await), "not-in-environment-before");
        assert!(summary(&hub, "prod").await.contains("waits to enter qa"));
        hub.deploy("qa").await;
        assert_eq!(kind(hub.promote("shop", "qa").await), "nothing-to-promote");
        hub.deploy("prod").await;
        assert!(summary(&hub, "prod").await.contains("has the newest build"));

        let second = hub.build(2, &shop_with("web")).await;
        assert_eq!((second[0].id.clone(), second[1].id.clone()), (first[0].id.clone(), first[1].id.clone()));
        assert_ne!(second[2].id, first[2].id);
        // Prod gets what qa runs, not what was built last.
        assert_eq!(kind(hub.promote("shop/web", "prod").await), "nothing-to-promote");
        let to: EnvName = name("qa");
        let diff = hub.service.env_diff(&name("shop"), None, &to).await.unwrap();
        assert_eq!(diff.len(), 1);
        assert_eq!(diff[0].service.as_str(), "web");
        hub.deploy("qa").await;

        let plan = hub.promote("shop", "prod").await.unwrap();
        assert_eq!(plan.changes.len(), 1);
        assert_eq!(kind(hub.promote("shop", "prod").await), "plan-under-way");
        assert!(summary(&hub, "prod").await.contains("wave 1 of 3"));
        let plan = hub.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(plan.state, PlanState::Succeeded);
        assert!(plan.waves.iter().all(|wave| wave.steps.len() == 1));

        let running = hub.service.instance_list(&name("shop"), &name("prod")).await.unwrap();
        let web: Vec<_> = running.iter().filter(|instance| instance.service.as_str() == "web").collect();
        assert_eq!(web.len(), 3);
        assert!(
            web.iter().all(|instance| instance.digest == second[2].image.digest && instance.release == second[2].id)
        );
        let overview = hub.service.overview().await.unwrap();
        assert_eq!(overview.environments, [name::<EnvName>("qa"), name("prod")]);
        let shown = overview.apps[0].services.iter().find(|service| service.service.as_str() == "web").unwrap();
        assert_eq!(shown.environments[&name::<EnvName>("prod")].instances.len(), 3);
        assert!(overview.hosts.iter().all(|host| host.up));

        let back = hub.rollback("shop/web", "prod").await.unwrap();
        assert_eq!((back.kind, back.changes[0].to.as_ref()), (PlanKind::Rollback, Some(&first[2].id)));
        let back = hub.finish(&back.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(back.state, PlanState::Succeeded);
        assert_eq!(kind(hub.rollback("shop/db", "prod").await), "nothing-to-roll-back");
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_hub_killed_after_every_transition_ends_the_rollout_as_it_should() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        let plan = hub.promote("shop", "qa").await.unwrap();
        let plan = hub.finish(&plan.id, true, |_, _, _| Outcome::Works).await;
        assert_eq!(plan.state, PlanState::Succeeded);
        hub.deploy("prod").await;
        let runs: u32 = hub.agents.values().flat_map(|agent| agent.runs.values()).sum();
        assert_eq!(runs, 2, "one migration in each environment");

        let second = hub.build(2, &shop_with("web")).await;
        hub.deploy("qa").await;
        let before = hub.service.instance_list(&name("shop"), &name("prod")).await.unwrap();
        let plan = hub.promote("shop", "prod").await.unwrap();
        let bad = second[2].id.clone();
        let fails = |host: &HostName, _: &_, release: &_| {
            if host.as_str() == "p2" && *release == bad { Outcome::Fails } else { Outcome::Works }
        };
        let plan = hub.finish(&plan.id, true, fails).await;
        assert_eq!(plan.state, PlanState::Failed);
        let states: Vec<StepState> = plan.waves.iter().flat_map(|wave| &wave.steps).map(|step| step.state).collect();
        assert_eq!(states, [StepState::Reverted, StepState::Failed, StepState::Reverted]);
        let error = plan.error.unwrap();
        assert!(error.detail.contains("on p2: never healthy") && error.detail.ends_with("line 120"), "{error:?}");
        assert_eq!(hub.service.instance_list(&name("shop"), &name("prod")).await.unwrap(), before);
        assert!(summary(&hub, "prod").await.contains("failed"));
        let diff = hub.service.env_diff(&name("shop"), Some(&name("qa")), &name("prod")).await.unwrap();
        assert_eq!(diff.len(), 1, "prod keeps its release");

        // What failed once may be tried again.
        let plan = hub.promote("shop", "prod").await.unwrap();
        let plan = hub.finish(&plan.id, true, |_, _, _| Outcome::Works).await;
        assert_eq!(plan.state, PlanState::Succeeded);
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn of_two_hubs_on_one_database_one_executes_and_the_other_takes_over() {
    for_each_database(|config| async move {
        if matches!(config, base::db::DatabaseConfig::Sqlite { .. }) {
            return;
        }
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        let plan = hub.promote("shop", "qa").await.unwrap();
        assert_eq!(hub.service.execute().await.unwrap(), Progress::More);
        let (db, other) = hub.other().await;
        hub.round(|_, _, _| Outcome::Works).await;
        assert_eq!(other.execute().await.unwrap(), Progress::Done, "the lease is held");
        hub.pass(20);
        hub.round(|_, _, _| Outcome::Works).await;
        // The other sees what was reported to the first, and the first notices that it is fenced off.
        assert_eq!(other.execute().await.unwrap(), Progress::More);
        hub.round(|_, _, _| Outcome::Works).await;
        hub.service.execute().await.unwrap();
        while other.execute().await.unwrap() == Progress::More {}
        assert!(!hub.service.plan_get(&plan.id).await.unwrap().waves.is_empty());
        db.close().await;
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn hosts_learn_routes_with_stable_numbers_remotes_and_ports() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        hub.deploy("qa").await;
        hub.deploy("prod").await;
        let routes = async |host: &str| -> BTreeMap<String, Route> {
            let desired = hub.service.desired(&name(host), DesiredSeen::default(), 0).await.unwrap();
            assert_eq!(desired.projects.len(), 1);
            assert!(desired.projects[0].jobs.is_empty(), "the plan has ended");
            desired.projects[0].routes.iter().map(|route| (route.service.to_string(), route.clone())).collect()
        };
        let on_p2 = routes("p2").await;
        // The database declares no port in prod, so nothing leads to it.
        assert_eq!(on_p2.keys().collect::<Vec<_>>(), ["web"]);
        let web = &on_p2["web"];
        assert_eq!((web.ports.as_slice(), web.published[0].published), (&[80][..], 8080));
        let remotes: Vec<String> =
            web.remotes.iter().map(|remote| format!("{}@{}", remote.host, remote.mesh)).collect();
        assert_eq!(remotes, ["p1@p1:5200", "p3@p3:5200"]);
        assert_eq!(web.number, routes("p1").await["web"].number);

        // A host whose proxy moves makes the others' state new, and nobody else's.
        let number =
            async |host: &str| hub.service.desired(&name(host), DesiredSeen::default(), 0).await.unwrap().number;
        let (p2, q1) = (number("p2").await, number("q1").await);
        let moved: HostName = name("p3");
        let mut report = hub.agents[&moved].report(&moved, Micros(0));
        report.mesh = "p3:9999".to_owned();
        hub.service.report(&moved, report).await.unwrap();
        assert_eq!((number("p2").await, number("q1").await), (p2 + 1, q1));
        assert_eq!(routes("p2").await["web"].remotes[1].mesh, "p3:9999");
        assert_eq!(kind(hub.service.desired(&name("stranger"), DesiredSeen::default(), 0).await), "host-unknown");
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_held_call_is_answered_when_the_state_changes() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        let host: HostName = name("q1");
        let first = hub.service.desired(&host, DesiredSeen::default(), 0).await.unwrap();
        let seen = DesiredSeen { number: first.number, streams: first.streams.number };
        let service = hub.service.clone();
        let held = tokio::spawn(async move { service.desired(&host, seen, 30).await.unwrap() });
        hub.promote("shop", "qa").await.unwrap();
        assert_eq!(hub.service.execute().await.unwrap(), Progress::More);
        let next = tokio::time::timeout(Duration::from_secs(4), held).await.unwrap().unwrap();
        assert!(next.number > first.number);
        assert_eq!((next.hub, next.projects.len()), (first.hub.clone(), 1));
        hub.reopen().await;
        let again = hub.service.desired(&name("q1"), DesiredSeen::default(), 0).await.unwrap();
        assert_eq!((again.hub, again.number), (first.hub, next.number));
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn environments_are_applied_whole_with_history() {
    for_each_database(|config| async move {
        let hub = Hub::new(config).await;
        let text = crate::hub::ENVIRONMENTS;
        assert_eq!(hub.service.env_apply(text, "e.yaml", true).await.unwrap().len(), 2);
        assert!(hub.service.env_list().await.unwrap().is_empty(), "a comparison changes nothing");
        let applied = hub.service.env_apply(text, "e.yaml", false).await.unwrap();
        assert!(applied.iter().all(|change| change.revision == Some(1)));
        assert!(hub.service.env_apply(text, "e.yaml", false).await.unwrap().is_empty());
        let changed = text.replace("max_unavailable: 1", "max_unavailable: 3");
        let applied = hub.service.env_apply(&changed, "e.yaml", false).await.unwrap();
        assert_eq!((applied.len(), applied[0].name.as_str(), applied[0].revision), (1, "prod", Some(2)));
        let broken = format!("{changed}  extra:\n    after: nowhere\n    target: {{docker: {{hosts: [x]}}}}\n");
        assert_eq!(kind(hub.service.env_apply(&broken, "e.yaml", false).await), "environments-invalid");
        let only = "environments:\n  lab:\n    target: {docker: {hosts: [x]}}\n";
        hub.service.env_apply(only, "lab.yaml", false).await.unwrap();
        let names: Vec<String> =
            hub.service.env_list().await.unwrap().iter().map(|environment| environment.name.to_string()).collect();
        assert_eq!(names.len(), 3, "what a file does not mention stays: {names:?}");
        let why = hub.service.why(&name("shop"), &name("lab")).await.unwrap();
        assert!(why.reasons.iter().any(|reason| reason.contains("names host x, which was never enrolled")), "{why:?}");
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn releases_are_pinned_first_paged_and_found_by_their_beginning() {
    for_each_database(|config| async move {
        let hub = Hub::with_hosts(config).await;
        let lost = Spec::new("lost");
        let digest = lost.new_release().image.digest.to_string();
        hub.registry.missing.lock().unwrap().insert(digest.clone());
        let new = api::delivery::NewReleases {
            app: name("shop"),
            commit: "c".to_owned(),
            releases: vec![Spec::new("kept").new_release(), lost.new_release()],
            whole: true,
        };
        assert_eq!(hub.service.release_record(new).await.unwrap_err().kind, "manifest-unknown");
        let none = hub.service.release_list(ReleaseFilter::default(), None, 10).await.unwrap();
        assert!(none.items.is_empty(), "all or none");

        let many: Vec<Spec> = (0..40).map(|index| Spec::new(&format!("s{index}"))).collect();
        let recorded = hub.build(1, &many).await;
        assert_eq!(hub.build(1, &many).await, recorded);
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = hub.service.release_list(ReleaseFilter::default(), after.as_deref(), 7).await.unwrap();
            listed.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed.len(), 40);
        let only = ReleaseFilter { app: None, service: Some(name("s7")) };
        assert_eq!(hub.service.release_list(only, None, 7).await.unwrap().items.len(), 1);
        for release in &recorded {
            assert_eq!(hub.service.release_get(release.id.as_str()).await.unwrap(), *release);
        }
        // Forty releases cannot begin with sixteen digits each alone.
        let digits = "0123456789abcdef".chars();
        let mut kinds = Vec::new();
        for digit in digits {
            kinds.extend(hub.service.release_get(&digit.to_string()).await.err().map(|problem| problem.kind));
        }
        assert!(kinds.iter().any(|kind| kind == "release-ambiguous"), "{kinds:?}");
        assert_eq!(kind(hub.service.release_get("0000000000000000").await), "release-unknown");
        assert_eq!(kind(hub.service.release_get("../x").await), "release-invalid");
        assert_eq!(kind(hub.service.plan_get("x").await), "plan-unknown");
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn skipping_an_environment_needs_a_reason_and_a_missing_image_stops_it() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        let forced = |reason: &str| PromoteRequest {
            address: name("shop"),
            to: name("prod"),
            force_reason: Some(reason.to_owned()),
            requested_by: "ann".to_owned(),
        };
        assert_eq!(kind(hub.service.promote(forced(" ")).await), "request-invalid");
        let web = shop()[2].new_release().image.digest.to_string();
        hub.registry.missing.lock().unwrap().insert(web.clone());
        assert_eq!(hub.service.promote(forced("outage")).await.unwrap_err().kind, "manifest-unknown");
        hub.registry.missing.lock().unwrap().clear();
        let plan = hub.service.promote(forced("outage")).await.unwrap();
        assert_eq!(plan.reason.as_deref(), Some("outage"));
        let plan = hub.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(plan.state, PlanState::Succeeded);

        // A service that is gone from the newest build is gone from prod with the next promotion of the whole app.
        hub.build(2, &shop()[..2]).await;
        let plan = hub.service.promote(forced("outage")).await.unwrap();
        assert_eq!((plan.changes.len(), plan.changes[0].to.as_ref()), (1, None));
        let plan = hub.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(plan.state, PlanState::Succeeded);
        let left = hub.service.instance_list(&name("shop"), &name("prod")).await.unwrap();
        assert!(left.iter().all(|instance| instance.service.as_str() == "db"));
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn output_of_all_hosts_comes_together_and_ends_with_its_reader() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        hub.deploy("qa").await;
        hub.deploy("prod").await;
        let request =
            |service: &str| LogRequest { env: name("prod"), address: name(service), follow: true, tail_lines: 10 };
        assert_eq!(hub.service.logs(request("shop/none")).await.err().unwrap().kind, "service-unknown");
        let mut stream = hub.service.logs(request("shop/web")).await.unwrap();
        let mut sending = Vec::new();
        for host in ["p1", "p2", "p3"] {
            let host: HostName = name(host);
            let desired = hub.service.desired(&host, DesiredSeen::default(), 0).await.unwrap();
            let wanted = desired.streams.wanted[0].clone();
            assert_eq!((wanted.service.as_ref().unwrap().as_str(), wanted.follow), ("web", true));
            let line = LogLine {
                host: name("liar"),
                service: name("web"),
                slot: 0,
                at: Micros(1),
                stderr: false,
                text: format!("hello from {host}"),
            };
            let lines = futures::stream::iter([Ok(line)]).chain(futures::stream::pending()).boxed();
            let service = hub.service.clone();
            sending.push(tokio::spawn(async move { service.log_stream(&host, &wanted.id, lines).await }));
        }
        let mut hosts = Vec::new();
        for _ in 0..3 {
            let line: Result<LogLine, Problem> =
                tokio::time::timeout(Duration::from_secs(5), stream.next()).await.unwrap().unwrap();
            let line = line.unwrap();
            assert_eq!(line.text, format!("hello from {}", line.host), "the certificate says who speaks");
            hosts.push(line.host.to_string());
        }
        hosts.sort();
        assert_eq!(hosts, ["p1", "p2", "p3"]);
        drop(stream);
        for one in sending {
            tokio::time::timeout(Duration::from_secs(5), one).await.unwrap().unwrap().unwrap();
        }
        let desired = hub.service.desired(&name("p1"), DesiredSeen::default(), 0).await.unwrap();
        assert!(desired.streams.wanted.is_empty());
        let late = futures::stream::empty().boxed();
        assert_eq!(kind(hub.service.log_stream(&name("p1"), "gone", late).await), "log-stream-unknown");
        hub.pass(60);
        assert_eq!(hub.service.logs(request("shop/web")).await.err().unwrap().kind, "host-down");
        assert_eq!(kind(hub.promote("shop", "qa").await), "nothing-to-promote");
        hub.build(2, &shop_with("web")).await;
        assert_eq!(kind(hub.promote("shop", "qa").await), "host-down");
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn environments_that_share_a_host_may_not_share_a_port() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        let lab = "environments:\n  lab:\n    target: {docker: {hosts: [q1]}}\n";
        hub.service.env_apply(lab, "lab.yaml", false).await.unwrap();
        hub.build(1, &[Spec::new("web").publish(8080, 80)]).await;
        let plan = hub.promote("shop", "qa").await.unwrap();
        // Refused already while the other is only planned.
        let refusal = hub.promote("shop", "lab").await.unwrap_err();
        assert_eq!(refusal.kind, "port-taken");
        assert!(refusal.detail.contains("shop/web in qa and shop/web in lab both want port 8080 of q1"), "{refusal}");
        hub.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(kind(hub.promote("shop", "lab").await), "port-taken");
        hub.build(2, &[Spec::new("web").publish(8080, 80).publish_in("lab", 9090, 80)]).await;
        hub.deploy("lab").await;
        let desired = hub.service.desired(&name("q1"), DesiredSeen::default(), 0).await.unwrap();
        let ports: Vec<u16> = desired
            .projects
            .iter()
            .flat_map(|project| &project.routes[0].published)
            .map(|port| port.published)
            .collect();
        assert_eq!(ports, [9090, 8080]);

        let host: HostName = name("q1");
        let mut report = hub.agents[&host].report(&host, Micros(0));
        report.engine = api::agent::EngineState::Down { error: "no such socket".to_owned() };
        hub.service.report(&host, report).await.unwrap();
        let refusal = hub.promote("shop", "qa").await.unwrap_err();
        assert_eq!(refusal.kind, "engine-down");
        assert!(refusal.detail.contains("no such socket"), "{refusal}");
        let why = hub.service.why(&name("shop"), &name("qa")).await.unwrap();
        assert!(why.reasons.iter().any(|reason| reason.contains("no such socket")), "{why:?}");
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_hub_that_was_away_for_hours_calls_nothing_late() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        let plan = hub.promote("shop", "qa").await.unwrap();
        assert_eq!(hub.service.execute().await.unwrap(), Progress::More);
        hub.round(|_, _, _| Outcome::Lasts).await;
        hub.pass(10_000);
        hub.reopen().await;
        assert_eq!(hub.service.execute().await.unwrap(), Progress::Done);
        let why = hub.service.why(&name("shop"), &name("qa")).await.unwrap();
        assert!(why.reasons[0].contains("host q1 is down"), "{why:?}");
        let plan = hub.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(plan.state, PlanState::Succeeded);
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_hosts_will_need_next_is_told_while_a_plan_is_under_way_and_no_longer() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &shop()).await;
        hub.deploy("qa").await;
        hub.deploy("prod").await;
        assert!(hub.service.images_ahead().await.unwrap().is_empty());
        let web = hub.build(2, &shop_with("web")).await.pop().unwrap();
        hub.deploy("qa").await;
        let plan = hub.promote("shop", "prod").await.unwrap();
        hub.service.execute().await.unwrap();
        // One host may be down at once: the next one knows what it will need, and none after it yet.
        let ahead = hub.service.images_ahead().await.unwrap();
        assert_eq!(ahead, BTreeMap::from([(name("p2"), vec![web.image.clone()])]));
        let (id, image) = hub.service.release_image(&web.id.as_str()[..8]).await.unwrap();
        assert_eq!((id, image), (web.id.clone(), web.image.clone()));
        assert_eq!(hub.service.env_hosts(&name("prod")).await.unwrap(), ["p1", "p2", "p3"].map(name::<HostName>));
        assert_eq!(hub.service.host_labels().await.unwrap().len(), 4);
        hub.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert!(hub.service.images_ahead().await.unwrap().is_empty());
    })
    .await;
}
