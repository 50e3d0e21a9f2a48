//! What goes wrong is put right: a proxy that dies, a job that fails, a release that was a mistake, a second hub.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::agent::REPORT_SECONDS;
use api::delivery::{PlanKind, PlanState, StepAction, StepState};
use rustix::process::{Pid, Signal, kill_process};

use crate::rollout::{containers, first_release, loads, unharmed, version, webs};
use crate::scene::{BINARY, LIMIT, Scene, folder, on_scene};

/// How long a host may be without a proxy after the proxy's death.
const PROXY_GAP_MAX: Duration = Duration::from_secs(5);

fn page(address: SocketAddr) -> anyhow::Result<String> {
    let url = format!("http://{address}/");
    rig::engine::run(Command::new("curl").args(["-fsS", "--max-time", "10", &url]))
}

#[test]
fn a_proxy_that_dies_is_started_again_and_serves_its_table_at_once() {
    on_scene(folder("tests/app"), |mut scene| async move {
        let result = proxy_killed(&mut scene).await;
        (scene, result)
    });
}

async fn proxy_pid(scene: &Scene, host: &str, not: Option<u32>) -> anyhow::Result<u32> {
    rig::until("the host does not report a running proxy", Duration::from_secs(3 * REPORT_SECONDS), || async {
        let hosts = scene.stage.hosts().await.ok()?;
        let host = hosts.into_iter().find(|known| known.name.as_str() == host)?;
        host.report?.proxy.pid.filter(|pid| Some(*pid) != not)
    })
    .await
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id of 0")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

async fn proxy_killed(scene: &mut Scene) -> anyhow::Result<()> {
    first_release(scene).await?;
    let [first, second, _] = scene.hosts;
    let before = webs(scene).await?;
    for (host, hub) in [(first, true), (second, false)] {
        let address = scene.stage.published(host, 8080)?;
        let pid = proxy_pid(scene, host, None).await?;
        if !hub {
            // The table is on the host: no hub is asked for it.
            scene.stage.hub_kill()?;
        }
        kill(pid)?;
        let killed = Instant::now();
        while page(address).is_err() {
            ensure!(killed.elapsed() < PROXY_GAP_MAX, "{host} serves nothing {PROXY_GAP_MAX:?} after its proxy died");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("{host} was without a proxy for {} ms", killed.elapsed().as_millis());
        if !hub {
            scene.stage.hub_start().await?;
            scene.stage.hosts_up().await?;
        }
        proxy_pid(scene, host, Some(pid)).await?;
    }
    ensure!(containers(&before) == containers(&webs(scene).await?), "containers were touched");
    // The proxies that are new take part in a rollout like the old.
    version(scene, 2).await?;
    let load = loads(scene)?;
    let plan = scene.promote("app", "prod").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    unharmed(load).await
}

#[test]
fn a_job_that_fails_stops_the_plan_before_anything_is_replaced() {
    on_scene(folder("tests/app"), |scene| async move {
        let result = job_fails(&scene).await;
        (scene, result)
    });
}

async fn job_fails(scene: &Scene) -> anyhow::Result<()> {
    first_release(scene).await?;
    let before = webs(scene).await?;
    scene.repository.edit("compose.yaml", "print('prepared')", "raise SystemExit('the table is locked')")?;
    version(scene, 2).await?;
    let load = loads(scene)?;
    let plan = scene.promote("app", "prod").await?;
    let plan = scene.stage.plan_end(&plan.id, LIMIT).await?;
    unharmed(load).await?;
    ensure!(plan.state == PlanState::Failed, "{plan:#?}");
    for step in plan.waves.iter().flat_map(|wave| &wave.steps) {
        let job = step.action == StepAction::Job;
        ensure!(job || step.started_at.is_none(), "begun after the job had failed: {step:#?}");
        ensure!(!job || step.state == StepState::Failed, "{step:#?}");
    }
    let error = plan.error.context("a failed plan says why")?;
    ensure!(error.detail.contains("the table is locked"), "the job's log is not in the error: {error:?}");
    ensure!(containers(&before) == containers(&webs(scene).await?), "containers were touched");

    // What comes after goes through.
    scene.repository.edit("compose.yaml", "raise SystemExit('the table is locked')", "print('prepared')")?;
    version(scene, 3).await?;
    let plan = scene.promote("app", "prod").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    Ok(())
}

#[test]
fn a_rollback_brings_the_earlier_release_back() {
    on_scene(folder("tests/app"), |scene| async move {
        let result = rolled_back(&scene).await;
        (scene, result)
    });
}

async fn rolled_back(scene: &Scene) -> anyhow::Result<()> {
    first_release(scene).await?;
    let before = webs(scene).await?;
    version(scene, 2).await?;
    let plan = scene.promote("app", "prod").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    ensure!(webs(scene).await?.iter().all(|new| before.iter().all(|old| old.release != new.release)));

    let load = loads(scene)?;
    let arguments = ["rollback", "app", "--env", "prod", "--reason", "slow", "--json", "--hub", &scene.stage.url()];
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--data").arg(scene.stage.data());
    let answer = tokio::task::spawn_blocking(move || rig::engine::run(&mut command)).await??;
    let plan: api::delivery::Plan = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    unharmed(load).await?;
    ensure!(plan.kind == PlanKind::Rollback && plan.state == PlanState::Succeeded, "{plan:#?}");
    ensure!(plan.reason.as_deref() == Some("slow"), "{plan:#?}");
    let after = webs(scene).await?;
    ensure!(after.len() == 3 && after.iter().all(|new| new.release == before[0].release), "{after:#?}");
    for host in scene.hosts {
        let text = page(scene.stage.published(host, 8080)?)?;
        ensure!(text.trim() == "version 1", "{host} answers {text:?}");
    }
    Ok(())
}

#[test]
fn a_second_hub_on_a_data_folder_is_refused() {
    on_scene(folder("tests/app"), |scene| async move {
        let result = second_hub(&scene).await;
        (scene, result)
    });
}

async fn second_hub(scene: &Scene) -> anyhow::Result<()> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let (listen, agents) = (free()?.to_string(), free()?.to_string());
    let mut command = Command::new(BINARY);
    command.args(["hub", "--listen", &listen, "--agent-listen", &agents, "--data"]).arg(scene.stage.data());
    let output =
        tokio::time::timeout(LIMIT, tokio::process::Command::from(command).kill_on_drop(true).output()).await??;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(4), "{}: {text}", output.status);
    ensure!(text.contains(&scene.stage.data().display().to_string()), "the folder is not named: {text}");
    ensure!(text.contains("hint:"), "no next step: {text}");
    // The first goes on.
    scene.environments().await?;
    scene.stage.hosts_up().await?;
    Ok(())
}

#[test]
fn a_host_does_not_take_the_name_of_another_hubs_host_on_its_engine() {
    on_scene(folder("tests/app"), |mut scene| async move {
        let result = name_taken(&mut scene).await;
        (scene, result)
    });
}

async fn name_taken(scene: &mut Scene) -> anyhow::Result<()> {
    let [host, ..] = scene.hosts;
    let network = format!("{host}-of-another-hub");
    let labels = [format!("dev.longshore.host={host}"), "dev.longshore.hub=another".to_owned(), scene.label.clone()];
    let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
    let docker = |arguments: &[&str]| rig::engine::run(Command::new("docker").args(arguments));
    docker(&[&["network", "create"], labels.as_slice(), &[&network]].concat())?;
    scene.stage.agent_kill(host)?;
    scene.stage.agent_start(host)?;
    let log = rig::until("the agent takes the name", LIMIT, || async {
        Some(scene.stage.log_end(&format!("{host}.log"))).filter(|log| log.contains("belongs to another hub"))
    })
    .await?;
    ensure!(log.contains(&network) && log.contains("--name"), "{log}");
    docker(&["network", "inspect", &network]).context("the other hub's network is gone")?;
    docker(&["network", "rm", &network])?;
    scene.stage.agent_start(host)?;
    first_release(scene).await
}
