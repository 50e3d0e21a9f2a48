//! A database's data survives a release of the database itself.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bollard::query_parameters::ListContainersOptionsBuilder;

use crate::scene::{LIMIT, Scene, folder, on_scene};

const COMPOSE: &str = r#"
services:
  db:
    build: ./db
    environment:
      POSTGRES_USER: vote
      POSTGRES_PASSWORD: vote
      POSTGRES_DB: vote
    volumes:
      - db-data:/var/lib/postgresql/data
    healthcheck:
      test: ["CMD", "pg_isready", "-q", "-h", "127.0.0.1", "-U", "vote"]
      interval: 1s
      start_period: 60s
    stop_grace_period: 1m
volumes:
  db-data: {}
"#;

#[test]
fn postgresql_keeps_its_data_through_a_release_of_itself() {
    on_scene(folder("../../examples/vote"), |scene| async move {
        let result = data_survives(&scene).await;
        (scene, result)
    });
}

async fn data_survives(scene: &Scene) -> anyhow::Result<()> {
    std::fs::write(scene.repository.folder().join("compose.yaml"), format!("name: vote\n{COMPOSE}"))?;
    for env in ["qa", "staging", "prod"] {
        let _ = std::fs::remove_file(scene.repository.folder().join(format!("compose.{env}.yaml")));
    }
    scene.repository.commit("The database alone")?;
    scene.environments().await?;
    scene.build().await?;
    let plan = scene.promote("vote", "qa").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    sql(scene, "create table kept (what text); insert into kept values ('a vote')").await?;

    scene.repository.edit("db/Dockerfile", "EXPOSE 5432", "EXPOSE 5432\nENV RELEASE=2")?;
    scene.repository.commit("The database again")?;
    scene.build().await?;

    let (most, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let watch = tokio::spawn(watch(scene.docker.clone(), scene.label.clone(), most.clone(), stop.clone()));
    let plan = scene.promote("vote", "qa").await?;
    let ended = scene.stage.plan_success(&plan.id, LIMIT).await;
    stop.store(true, Ordering::Relaxed);
    let looks = watch.await??;
    println!("the engine was asked {looks} times");
    ended?;
    ensure!(looks > 20, "the engine was asked {looks} times only");
    ensure!(most.load(Ordering::Relaxed) == 1, "{} containers ran on the volume at once", most.load(Ordering::Relaxed));
    let kept = sql(scene, "select what from kept").await?;
    ensure!(kept.trim() == "a vote", "the table holds {kept:?}");
    Ok(())
}

/// Asks the engine again and again how many running containers have the volume.
async fn watch(
    docker: bollard::Docker,
    label: String,
    most: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<usize> {
    let filters = HashMap::from([("label".to_owned(), vec![label, "dev.longshore.service=db".to_owned()])]);
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        let options = ListContainersOptionsBuilder::default().filters(&filters).build();
        most.fetch_max(docker.list_containers(Some(options)).await?.len(), Ordering::Relaxed);
        looks += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(looks)
}

async fn sql(scene: &Scene, text: &str) -> anyhow::Result<String> {
    let instances =
        scene.client().instance_list(&"vote".parse()?, &"qa".parse()?).await.map_err(crate::scene::refused)?;
    let container = &instances.first().context("the database does not run")?.container;
    let arguments =
        ["exec", container, "psql", "-qAt", "-h", "127.0.0.1", "postgresql://vote:vote@127.0.0.1/vote", "-c", text];
    rig::engine::run(Command::new("docker").args(arguments))
}
