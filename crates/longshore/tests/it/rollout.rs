//! Rollouts while everything around them is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::delivery::{Instance, PlanState, StepState};
use rig::load::Load;

use crate::scene::{LIMIT, Scene, folder, on_scene, refused};

/// The hub is killed at so many moments, spread over rollouts.
const HUB_KILLS: u32 = 20;
/// So many of them in one rollout: each finds the hub busy with taking up what the one before cut off.
const HUB_KILLS_PER_ROLLOUT: u32 = 2;

/// Commits and builds version `number` of the test app.
pub(crate) async fn version(scene: &Scene, number: u32) -> anyhow::Result<()> {
    scene.repository.edit(
        "web/server.py",
        &format!("VERSION = \"{}\"", number - 1),
        &format!("VERSION = \"{number}\""),
    )?;
    scene.repository.commit(&format!("Version {number}"))?;
    scene.build().await?;
    Ok(())
}

/// The app in prod, for the first time.
pub(crate) async fn first_release(scene: &Scene) -> anyhow::Result<()> {
    scene.environments().await?;
    scene.build().await?;
    let plan = scene.promote("app", "prod").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    Ok(())
}

/// Version 2 after the first release, and how long its rollout took.
async fn second_release(scene: &Scene) -> anyhow::Result<Duration> {
    first_release(scene).await?;
    version(scene, 2).await?;
    let begun = Instant::now();
    let plan = scene.promote("app", "prod").await?;
    let plan = scene.stage.plan_success(&plan.id, LIMIT).await?;
    ensure!(
        plan.waves.iter().filter(|wave| wave.steps.iter().any(|step| step.service.as_str() == "web")).count() == 3,
        "not one host at a time: {plan:#?}"
    );
    Ok(begun.elapsed())
}

pub(crate) fn loads(scene: &Scene) -> anyhow::Result<Load> {
    let addresses =
        scene.hosts.map(|host| scene.stage.published(host, 8080)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Load::begin(&addresses))
}

/// What runs of the app's service, as the hosts report it.
pub(crate) async fn webs(scene: &Scene) -> anyhow::Result<Vec<Instance>> {
    let mut instances = scene.client().instance_list(&"app".parse()?, &"prod".parse()?).await.map_err(refused)?;
    instances.retain(|instance| instance.service.as_str() == "web");
    Ok(instances)
}

pub(crate) fn containers(instances: &[Instance]) -> BTreeSet<&str> {
    instances.iter().map(|instance| instance.container.as_str()).collect()
}

pub(crate) async fn unharmed(load: Load) -> anyhow::Result<()> {
    for count in load.end().await {
        ensure!(count.failed == 0, "{} of {} requests failed: {:#?}", count.failed, count.sent, count.failures);
        ensure!(count.sent > 0, "no request was sent to {}", count.address);
    }
    Ok(())
}

#[test]
fn the_hub_killed_at_any_moment_of_a_rollout_goes_on_with_it() {
    on_scene(folder("tests/app"), |mut scene| async move {
        let result = hub_killed(&mut scene).await;
        (scene, result)
    });
}

async fn hub_killed(scene: &mut Scene) -> anyhow::Result<()> {
    let usual = second_release(scene).await?;
    for rollout in 0..HUB_KILLS / HUB_KILLS_PER_ROLLOUT {
        version(scene, 3 + rollout).await?;
        let load = loads(scene)?;
        let begun = Instant::now();
        let plan = scene.promote("app", "prod").await?;
        let mut moments = Vec::new();
        for kill in 0..HUB_KILLS_PER_ROLLOUT {
            let number = rollout + kill * HUB_KILLS / HUB_KILLS_PER_ROLLOUT;
            let moment = usual.mul_f64(f64::from(number) / f64::from(HUB_KILLS));
            tokio::time::sleep(moment.saturating_sub(begun.elapsed())).await;
            moments.push(begun.elapsed());
            scene.stage.hub_kill()?;
            scene.stage.hub_start().await?;
        }
        let context = || format!("killed after {moments:.1?}");
        let plan = scene.stage.plan_success(&plan.id, LIMIT).await.with_context(context)?;
        ensure!(plan.waves.iter().flat_map(|wave| &wave.steps).all(|step| step.state == StepState::Done), "{plan:#?}");
        println!("hub killed after {moments:.1?}, all there after {:.1?}", begun.elapsed());
        unharmed(load).await.with_context(context)?;
        let instances = webs(scene).await?;
        let wanted =
            plan.changes.iter().find(|change| change.service.as_str() == "web").and_then(|change| change.to.as_ref());
        ensure!(
            instances.len() == 3 && instances.iter().all(|instance| Some(&instance.release) == wanted),
            "{instances:#?}"
        );
    }
    Ok(())
}

#[test]
fn agents_killed_during_a_rollout_lose_no_request() {
    on_scene(folder("tests/app"), |mut scene| async move {
        let result = agents_killed(&mut scene).await;
        (scene, result)
    });
}

async fn agents_killed(scene: &mut Scene) -> anyhow::Result<()> {
    let usual = second_release(scene).await?;
    let [first, second, third] = scene.hosts;
    let rounds = [(0.1, first), (0.25, first), (0.45, second), (0.6, second), (0.8, third), (0.95, third)];
    for (number, (part, host)) in rounds.into_iter().enumerate() {
        version(scene, 3 + u32::try_from(number)?).await?;
        let load = loads(scene)?;
        let plan = scene.promote("app", "prod").await?;
        tokio::time::sleep(usual.mul_f64(part)).await;
        scene.stage.agent_kill(host)?;
        scene.stage.agent_start(host)?;
        scene
            .stage
            .plan_success(&plan.id, LIMIT)
            .await
            .with_context(|| format!("{host} killed at {part} of the rollout"))?;
        unharmed(load).await.with_context(|| format!("{host} killed at {part} of the rollout"))?;
    }
    Ok(())
}

#[test]
fn a_release_that_never_gets_healthy_leaves_the_old_one_serving() {
    on_scene(folder("tests/app"), |scene| async move {
        let result = never_healthy(&scene).await;
        (scene, result)
    });
}

async fn never_healthy(scene: &Scene) -> anyhow::Result<()> {
    first_release(scene).await?;
    let before = webs(scene).await?;
    scene.repository.edit(
        "web/server.py",
        "server = Server",
        "raise SystemExit('the key of the safe is lost')\nserver = Server",
    )?;
    scene.repository.commit("A version that does not start")?;
    scene.build().await?;
    let load = loads(scene)?;
    let plan = scene.promote("app", "prod").await?;
    let plan = scene.stage.plan_end(&plan.id, LIMIT).await?;
    unharmed(load).await?;
    ensure!(plan.state == PlanState::Failed, "{plan:#?}");
    let error = plan.error.context("a failed plan says why")?;
    ensure!(error.detail.contains("the key of the safe is lost"), "the log is not in the error: {error:?}");
    let after = webs(scene).await?;
    ensure!(containers(&before) == containers(&after), "before {before:#?} after {after:#?}");
    Ok(())
}
