//! Three hosts that are apart: each in a network of its own, with an engine of its own.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::delivery::{Plan, StepAction};
use api::fanout::Swarm;
use bollard::Docker;
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures::FutureExt;
use rig::engine::run;
use rig::example::Repository;
use rig::load::Load;
use rig::namespaces::{Network, Places};
use rig::stage::{Options, Stage, free_block};

use crate::scene::{self, BINARY, FOLDER, LIMIT, Scene, refused};

const HOSTS: [&str; 3] = ["host1", "host2", "host3"];
/// What each link carries at most: an engine's pull takes seconds, and a copy too many is felt.
const LINK_MEGABITS: u32 = 200;
const VOTE_PORT: u16 = 8080;
const RESULT_PORT: u16 = 8081;
/// How long a vote may take from the front to the results.
const VOTE_LIMIT: Duration = Duration::from_secs(30);
/// How long the load runs before the rollout begins and after it ended.
const LOAD_MARGIN: Duration = Duration::from_secs(2);
/// The least load on each host, in requests a second on average: a busy machine may delay a second's requests.
const PER_SECOND_MIN: f64 = 20.0;
const ENVIRONMENTS: &str = "
environments:
  prod:
    target: {docker: {hosts: [host1, host2, host3]}}
    rollout: {max_unavailable: 1}
";

#[test]
fn three_engines_in_networks_of_their_own_roll_out_without_a_lost_request() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let process = std::process::id();
    let folder = tempfile::Builder::new().prefix(&format!("{FOLDER}{process}-")).tempdir().unwrap();
    let (label, block) = (scene::label_of(process), free_block(scene::block_of(process)).unwrap());
    let outcome = runtime.block_on(async {
        let docker = rig::engine::ensure().await.unwrap();
        scene::leftovers_remove(&docker).await.unwrap();
        let network = Network::start(&folder.path().join("engines"), &HOSTS).await.unwrap();
        let outcome = AssertUnwindSafe(async {
            network.limit(LINK_MEGABITS).unwrap();
            let places = network.places().clone();
            let mut scene = set(places, folder.path(), docker.clone(), &label, block).await.unwrap();
            if let Err(error) = commit_to_hosts(&scene, &network).await {
                let names = HOSTS.into_iter().chain(["hub"]).map(|name| format!("{name}.log"));
                let logs: String = names.map(|log| scene.stage.log_end(&log)).collect();
                panic!("{error:#}\n{logs}");
            }
            scene.stage.end().await.unwrap();
        })
        .catch_unwind()
        .await;
        rig::stage::end_processes(folder.path(), &[]).await.unwrap();
        network.end().await.unwrap();
        rig::engine::sweep(&docker, &label, &rig::stage::registries(block, HOSTS.len())).await.unwrap();
        outcome
    });
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

async fn set(places: Places, folder: &Path, docker: Docker, label: &str, block: [u8; 2]) -> anyhow::Result<Scene> {
    let data = |value: &str| BTreeMap::from([("data".to_owned(), value.to_owned())]);
    let options = Options {
        binary: BINARY.into(),
        folder: folder.join("stage"),
        block,
        label: label.to_owned(),
        hosts: HOSTS.map(|host| (host, data(if host == "host1" { "true" } else { "false" }))).to_vec(),
        host_network: true,
    };
    let stage = Stage::start_apart(options, places).await?;
    let repository = Repository::create(&scene::folder("../../examples/vote"), &folder.join("vote"))?;
    Ok(Scene { stage, docker, label: label.to_owned(), repository, hosts: HOSTS })
}

async fn commit_to_hosts(scene: &Scene, network: &Network) -> anyhow::Result<()> {
    let places = network.places();
    scene.client().env_apply(ENVIRONMENTS.to_owned(), "environments.yaml", false).await.map_err(refused)?;
    scene.build().await?;
    let sent_before = network.machine_sent_bytes()?;
    let plan = scene.promote("vote", "prod").await?;
    scene.stage.plan_success(&plan.id, LIMIT).await?;
    about_one_copy_left_the_hub(scene, network.machine_sent_bytes()? - sent_before).await?;
    let first = released(scene).await?;
    engines_run(places, &first).await?;
    a_vote_passes(scene, "host2", "host3", 1).await?;

    scene.repository.edit("vote/app.py", "VERSION = \"1\"", "VERSION = \"2\"")?;
    scene.repository.commit("The front again")?;
    scene.build().await?;
    let before = scene.stage.proxy_requests("prod/vote/vote").await?;
    let begun = Instant::now();
    let addresses = HOSTS.map(|host| scene.stage.published(host, VOTE_PORT));
    let load = Load::begin(&addresses.into_iter().collect::<anyhow::Result<Vec<_>>>()?);
    tokio::time::sleep(LOAD_MARGIN).await;
    let plan = scene.promote("vote", "prod").await?;
    let plan = scene.stage.plan_success(&plan.id, LIMIT).await;
    tokio::time::sleep(LOAD_MARGIN).await;
    let seconds = begun.elapsed().as_secs_f64();
    let counts = load.end().await;
    let plan = plan?;
    one_host_at_a_time(&plan)?;

    let after = scene.stage.proxy_requests("prod/vote/vote").await?;
    for (host, count) in HOSTS.into_iter().zip(&counts) {
        ensure!(
            count.failed == 0,
            "{} of {} requests to {host} failed: {:#?}",
            count.failed,
            count.sent,
            count.failures
        );
        ensure!(count.sent as f64 >= PER_SECOND_MIN * seconds, "the load on {host} fell: {count:?} in {seconds} s");
        let (requests, failed) = (after[host].0 - before[host].0, after[host].1 - before[host].1);
        ensure!((requests, failed) == (count.sent, 0), "{host}'s proxy counted {requests}, {failed} failed: {count:?}");
    }

    let second = released(scene).await?;
    let changed: Vec<&String> = second.keys().filter(|service| second[*service] != first[*service]).collect();
    ensure!(changed == ["vote"], "{changed:?} changed: {first:?} {second:?}");
    engines_run(places, &second).await
}

/// All hosts together took each image from the hub about once, by what they say, and each blob, by what passed its link.
async fn about_one_copy_left_the_hub(scene: &Scene, link_bytes: u64) -> anyhow::Result<()> {
    let get = |path: &str| {
        let url = format!("{}{path}", scene.stage.url());
        run(Command::new("curl").args(["-fsS", "--max-time", "30", &url]))
    };
    let page: api::Page<Swarm> = serde_json::from_str(&get("api/v1/fanout")?)?;
    let mut blobs = BTreeMap::new();
    for swarm in &page.items {
        let repository = swarm.repository.as_ref().with_context(|| format!("{swarm:?} has no repository"))?;
        let manifest = get(&format!("v2/{repository}/manifests/{}", swarm.digest))?;
        let document = oci::Document::parse(manifest.as_bytes(), None)?;
        blobs.extend(document.blobs().map(|blob| (blob.digest, blob.size)));
        println!(
            "{repository}: {} bytes on {} of {} hosts, {} from the hub, {} from hosts, {} there before",
            swarm.bytes, swarm.done, swarm.hosts, swarm.from_hub, swarm.from_peers, swarm.from_disk
        );
    }
    let bytes: u64 = blobs.values().sum();
    println!("{bytes} bytes of blobs, {link_bytes} bytes on the hub's link");
    ensure!(page.items.iter().any(|swarm| swarm.hosts == HOSTS.len() as u64), "no image was shared: {page:#?}");
    for swarm in &page.items {
        ensure!(swarm.from_hub * 10 <= swarm.bytes * 11, "{swarm:#?}");
    }
    // With what packets and TLS add, and all else that the hub says meanwhile.
    ensure!(link_bytes * 10 <= bytes * 11, "{link_bytes} bytes passed the hub's link for {bytes}");
    Ok(())
}

/// Digests that are to run in prod, by service.
async fn released(scene: &Scene) -> anyhow::Result<BTreeMap<String, String>> {
    let overview = scene.client().overview().await.map_err(refused)?;
    let services = overview.apps.into_iter().flat_map(|app| app.services).filter(|service| !service.job);
    services
        .map(|service| {
            let there =
                service.environments.get("prod").with_context(|| format!("{} is not in prod", service.service))?;
            Ok((service.service.to_string(), there.release.digest.to_string()))
        })
        .collect()
}

/// Each engine itself says that it runs what it should, once, and nothing else.
async fn engines_run(places: &Places, wanted: &BTreeMap<String, String>) -> anyhow::Result<()> {
    for host in HOSTS {
        let docker = places.docker(host)?;
        let mut running = Vec::new();
        for container in docker.list_containers(Some(ListContainersOptionsBuilder::default().build())).await? {
            let labels: HashMap<String, String> = container.labels.unwrap_or_default();
            ensure!(labels.get("dev.longshore.host").is_some_and(|label| label == host), "{host} runs {labels:?}");
            let image = docker.inspect_image(&container.image_id.unwrap_or_default()).await?;
            let digests = image.repo_digests.unwrap_or_default();
            let digests: Vec<String> =
                digests.iter().filter_map(|name| Some(name.split_once('@')?.1.to_owned())).collect();
            running.push((labels.get("dev.longshore.service").cloned().unwrap_or_default(), digests.join(" ")));
        }
        running.sort();
        let has_data = host == "host1";
        let here =
            wanted.clone().into_iter().filter(|(service, _)| has_data || !matches!(service.as_str(), "db" | "redis"));
        let here: Vec<_> = here.collect();
        ensure!(running == here, "{host} runs {running:#?}, not {here:#?}");
    }
    Ok(())
}

/// A vote that one host takes is counted on another, though Redis and PostgreSQL run on a third: names of services lead
/// from host to host.
async fn a_vote_passes(scene: &Scene, from: &str, to: &str, wanted: u64) -> anyhow::Result<()> {
    let front = format!("http://{}/", scene.stage.published(from, VOTE_PORT)?);
    run(Command::new("curl").args(["-fsS", "--max-time", "30", "-d", "vote=cats", &front]))?;
    let results = format!("http://{}/counts", scene.stage.published(to, RESULT_PORT)?);
    rig::until("the vote does not arrive", VOTE_LIMIT, || async {
        let text = run(Command::new("curl").args(["-fsS", "--max-time", "30", &results])).ok()?;
        let counts: serde_json::Value = serde_json::from_str(&text).ok()?;
        (counts["cats"].as_u64() == Some(wanted)).then_some(())
    })
    .await
}

fn one_host_at_a_time(plan: &Plan) -> anyhow::Result<()> {
    let mut steps: Vec<_> = plan.waves.iter().flat_map(|wave| &wave.steps).collect();
    ensure!(
        steps.iter().all(|step| step.action == StepAction::Replace && step.service.as_str() == "vote"),
        "{plan:#?}"
    );
    steps.sort_by_key(|step| step.started_at);
    let apart = steps.windows(2).all(|pair| pair[0].finished_at.is_some() && pair[0].finished_at <= pair[1].started_at);
    let mut hosts: Vec<&str> = steps.iter().map(|step| step.host.as_str()).collect();
    hosts.sort_unstable();
    ensure!(apart && hosts == HOSTS, "not one host after the other: {plan:#?}");
    Ok(())
}
