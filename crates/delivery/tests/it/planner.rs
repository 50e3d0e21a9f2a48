//! Golden plans: what a person would expect of a rollout, wave by wave.

use api::delivery::{PlanState, StepAction, StepState};
use delivery::error::{Error, ErrorKind};
use delivery::model::PlanRecord;
use delivery::plan::Planned;

use crate::rollout::World;
use crate::support::{Outcome, Spec, name, project, releases};

const THREE: [(&str, &[(&str, &str)]); 3] = [("h1", &[("data", "true")]), ("h2", &[]), ("h3", &[])];

/// The example app: two stateful services on the data host, a migration, and the rest everywhere.
fn shop() -> Vec<Spec> {
    vec![
        Spec::new("db").volume().label("data", "true").publish_in("none", 1, 1),
        Spec::new("redis").label("data", "true"),
        Spec::new("migrate").job().awaits("db"),
        Spec::new("vote").global().awaits("redis").publish(8080, 80),
        Spec::new("worker").global().awaits("redis").awaits("migrate"),
        Spec::new("result").global().awaits("migrate").publish(8081, 80),
    ]
}

fn with(specs: &[Spec], changed: &[&str]) -> Vec<Spec> {
    let change =
        |spec: &Spec| if changed.contains(&spec.named.as_str()) { spec.clone().version(2) } else { spec.clone() };
    specs.iter().map(change).collect()
}

fn shown(planned: &Planned) -> String {
    let mut text = String::new();
    for change in &planned.changes {
        let sign = match (&change.from, &change.to) {
            (None, Some(_)) => "new",
            (Some(_), None) => "gone",
            _ => "changed",
        };
        text.push_str(&format!("{}: {sign}\n", change.service));
    }
    let mut wave = None;
    for record in &planned.steps {
        if wave != Some(record.wave) {
            wave = Some(record.wave);
            text.push_str(&format!("wave {}\n", record.wave + 1));
        }
        let step = &record.step;
        let times = if step.instances == 1 { String::new() } else { format!(" x{}", step.instances) };
        text.push_str(&format!("  {}. {:?} {} on {}{times}\n", step.number, step.action, step.service, step.host));
    }
    text
}

fn states(plan: &PlanRecord) -> String {
    let mut text = format!("{:?}\n", plan.state);
    for record in &plan.steps {
        let step = &record.step;
        text.push_str(&format!(
            "  {}. {:?} {} on {}: {:?}\n",
            step.number, step.action, step.service, step.host, step.state
        ));
    }
    text
}

fn refused(outcome: Result<Planned, Error>) -> (ErrorKind, String) {
    let error = outcome.unwrap_err();
    let kind = error.kind().unwrap();
    let problem = api::Problem::from(error);
    (kind, format!("{}\nhint: {}", problem, problem.hint.clone().unwrap_or_default()))
}

#[test]
fn a_first_deploy_lays_foundations_then_runs_jobs_then_starts_the_rest() {
    let world = World::new(&THREE, 1);
    insta::assert_snapshot!(shown(&world.planned(&releases(&shop())).unwrap()));
}

#[test]
fn one_changed_service_goes_host_by_host() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    insta::assert_snapshot!(shown(&world.planned(&releases(&with(&shop(), &["vote"]))).unwrap()));
}

#[test]
fn a_budget_of_two_takes_two_hosts_at_a_time() {
    let mut world = World::new(&THREE, 2);
    world.deploy(&releases(&shop()));
    insta::assert_snapshot!(shown(&world.planned(&releases(&with(&shop(), &["vote", "worker"]))).unwrap()));
}

#[test]
fn a_changed_job_runs_once_before_all_else() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    insta::assert_snapshot!(shown(&world.planned(&releases(&with(&shop(), &["migrate", "result"]))).unwrap()));
}

#[test]
fn a_database_is_replaced_where_it_is() {
    let mut world = World::new(&THREE, 3);
    world.deploy(&releases(&shop()));
    insta::assert_snapshot!(shown(&world.planned(&releases(&with(&shop(), &["db"]))).unwrap()));
}

#[test]
fn a_service_that_is_gone_is_removed_last() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    let mut rest = with(&shop(), &["worker"]);
    rest.retain(|spec| spec.named != "result");
    insta::assert_snapshot!(shown(&world.planned(&releases(&rest)).unwrap()));
}

#[test]
fn replicas_spread_and_stay() {
    let mut world = World::new(&THREE, 1);
    let two = [Spec::new("a").replicas(2), Spec::new("b").replicas(1)];
    world.deploy(&releases(&two));
    let more = [Spec::new("a").replicas(4), Spec::new("b").replicas(1)];
    insta::assert_snapshot!(shown(&world.planned(&releases(&more)).unwrap()));
}

#[test]
fn a_container_that_never_gets_healthy_brings_all_back() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    let before = world.placements.clone();
    let wanted = releases(&with(&shop(), &["vote", "result"]));
    let mut plan = world.begin(&wanted).unwrap();
    world.finish(&mut plan, |host, service, release| {
        let bad = service.as_str() == "vote" && host.as_str() == "h2" && wanted[service].id == *release;
        if bad { Outcome::Fails } else { Outcome::Works }
    });
    assert_eq!(world.placements, before);
    insta::assert_snapshot!(states(&plan));
    let error = plan.error.unwrap();
    assert_eq!(error.kind, "step-failed");
    assert!(
        error.detail.starts_with("replacing shop/vote on h2: never healthy\nlast 100 log lines")
            || error
                .detail
                .starts_with("replacing shop/vote on h2: never healthy\nlast 100 lines of its log:\nline 21\n"),
        "{}",
        error.detail
    );
    assert!(error.detail.ends_with("line 120"));
}

#[test]
fn a_failed_job_stops_the_plan_before_anything_else_changes() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    let before = world.placements.clone();
    let mut plan = world.begin(&releases(&with(&shop(), &["migrate", "vote"]))).unwrap();
    world.finish(&mut plan, |_, service, _| {
        assert_ne!(service.as_str(), "vote-2");
        if service.as_str() == "migrate" { Outcome::Fails } else { Outcome::Works }
    });
    assert_eq!(plan.state, PlanState::Failed);
    assert_eq!(world.placements, before);
    assert!(plan.steps.iter().all(|record| match record.step.action {
        StepAction::Job => record.step.state == StepState::Failed,
        _ => record.step.state == StepState::Reverted && record.step.started_at.is_none(),
    }));
}

#[test]
fn a_step_that_takes_too_long_fails_by_the_clock() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    let wanted = releases(&with(&shop(), &["vote"]));
    let mut plan = world.begin(&wanted).unwrap();
    world.finish(&mut plan, |_, service, release| {
        let new = wanted[service].id == *release && service.as_str() == "vote";
        if new { Outcome::Lasts } else { Outcome::Works }
    });
    assert_eq!(plan.state, PlanState::Failed);
    let error = plan.error.unwrap();
    assert!(error.detail.contains("not done within 300 s; last: pulling"), "{}", error.detail);
}

#[test]
fn nothing_to_do_is_a_refusal_of_its_own() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    assert_eq!(refused(world.planned(&releases(&shop()))).0, ErrorKind::NothingToPromote);
}

#[test]
fn two_services_that_publish_one_port_are_refused_by_name() {
    let world = World::new(&THREE, 1);
    let both = [Spec::new("a").publish(8080, 80), Spec::new("b").publish(8080, 81)];
    let (kind, text) = refused(world.planned(&releases(&both)));
    assert_eq!(kind, ErrorKind::PortTaken);
    assert!(text.contains("shop/a in prod and shop/b in prod both want port 8080 of h1"), "{text}");

    let mut world = World::new(&THREE, 1);
    world.claims_others.push(delivery::policy::Claim {
        host: name("h1"),
        resource: delivery::policy::Resource::Port { address: None, port: 8080 },
        project: project("qa"),
        service: name("web"),
    });
    let (kind, text) = refused(world.planned(&releases(&[Spec::new("a").publish(8080, 80)])));
    assert_eq!(kind, ErrorKind::PortTaken);
    assert!(text.contains("shop/web in qa and shop/a in prod"), "{text}");
}

#[test]
fn a39_power_over_the_host_is_refused_by_service_and_key() {
    type Change = fn(&mut compose::Service);
    let cases: [(&str, Change); 6] = [
        ("privileged", |service| service.privileged = true),
        ("volumes", |service| {
            service.volumes.push(compose::model::Mount::Bind {
                source: "/var/run/docker.sock".to_owned(),
                target: "/sock".to_owned(),
                read_only: true,
                options: compose::model::MountOptions::default(),
            });
        }),
        ("cap_add", |service| {
            service.cap_add.insert("cap_sys_admin".to_owned());
        }),
        ("security_opt", |service| {
            service.security_opt.insert("seccomp:unconfined".to_owned());
        }),
        ("pid", |service| service.namespaces.pid = Some(compose::model::Namespace::Host)),
        ("devices", |service| {
            let path = || "/dev/kmsg".to_owned();
            let device = compose::model::Device { source: path(), target: path(), permissions: "r".to_owned() };
            service.settings.devices.push(device);
        }),
    ];
    for (key, change) in cases {
        let mut spec = Spec::new("web");
        change(&mut spec.definition.service);
        let (kind, text) = refused(World::new(&THREE, 1).planned(&releases(&[spec])));
        assert_eq!(kind, ErrorKind::DefinitionRefused);
        assert!(text.contains(&format!("service web, {key}:")), "{text}");
    }
}

#[test]
fn what_has_a_volume_does_not_move() {
    let mut world = World::new(&THREE, 1);
    world.deploy(&releases(&shop()));
    world.hosts[0].labels.clear();
    world.hosts[1].labels.insert("data".to_owned(), "true".to_owned());
    let (kind, text) = refused(world.planned(&releases(&with(&shop(), &["db"]))));
    assert_eq!(kind, ErrorKind::VolumeHostExcluded);
    assert!(text.contains("volume on host h1"), "{text}");

    let world = World::new(&THREE, 1);
    let (kind, _) = refused(world.planned(&releases(&[Spec::new("db").volume().replicas(4)])));
    assert_eq!(kind, ErrorKind::VolumeShared);
}

#[test]
fn hosts_that_do_not_match_or_are_down_are_named() {
    let world = World::new(&[("h1", &[])], 1);
    let (kind, text) = refused(world.planned(&releases(&shop())));
    assert_eq!(kind, ErrorKind::NoHostMatches);
    assert!(text.contains("db asks for `node.labels.data == true`"), "{text}");

    let mut world = World::new(&THREE, 1);
    world.hosts[2].seen_at = Some(world.now.plus_seconds(-60));
    let (kind, text) = refused(world.planned(&releases(&shop())));
    assert_eq!(kind, ErrorKind::HostDown);
    assert!(text.contains("host h3 has not reported since"), "{text}");

    let (kind, _) = refused(World::new(&[], 1).planned(&releases(&shop())));
    assert_eq!(kind, ErrorKind::NoHost);
    let (kind, text) = refused(World::new(&THREE, 1).planned(&releases(&[Spec::new("web").awaits("db")])));
    assert_eq!(kind, ErrorKind::DependencyMissing);
    assert!(text.contains("longshore promote shop --to prod"), "{text}");
}
