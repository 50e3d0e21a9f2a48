//! From commits to releases on a real engine.

use std::collections::BTreeSet;

use api::pipeline::{BuildOutcome, Run, RunState};
use futures::StreamExt as _;

use crate::support::{BASE_IMAGE, Hub, Repository, request};

const COMPOSE: &str = "
name: shop
services:
  web:
    build: ./web
    ports: ['8080:8000']
    depends_on:
      migrate: {condition: service_completed_successfully}
  worker:
    build: {context: ., dockerfile: jobs/Dockerfile, args: {MODE: worker}}
  migrate:
    build: {context: ., dockerfile: jobs/Dockerfile, args: {MODE: worker}}
    command: ['migrate']
";

fn shop() -> Repository {
    let repository = Repository::new();
    repository.commit(&[
        ("compose.yaml", COMPOSE),
        ("compose.prod.yaml", "services: {web: {deploy: {mode: global}}}"),
        ("compose.dev.yaml", "this: [is, not, read"),
        ("web/Dockerfile", "FROM scratch\nCOPY . /app\nEXPOSE 8000 9000/udp\nCMD [\"/app/web\"]\n"),
        ("web/app.py", "one"),
        ("web/notes.md", "not in the image"),
        ("web/.dockerignore", "*.md\n"),
        (
            "jobs/Dockerfile",
            &format!("FROM {BASE_IMAGE}\nARG MODE\nCOPY jobs /jobs\nRUN echo mode $MODE; test ! -e /jobs/.git\n"),
        ),
        ("jobs/run", "x"),
        (".dockerignore", "*\n!jobs\n"),
    ]);
    repository
}

fn outcomes(run: &Run) -> Vec<(&str, BuildOutcome, &str)> {
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
    run.builds.iter().map(|build| (build.service.as_str(), build.outcome, build.reason.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_becomes_releases_and_only_what_changed_is_built_again() {
    let hub = Hub::start().await;
    let repository = shop();
    let first = repository.git(&["rev-parse", "HEAD"]);

    let run = hub.build(&repository, "main").await;
    let built = |service| (service, BuildOutcome::Built, "first build");
    assert_eq!(outcomes(&run), [built("migrate"), built("web"), built("worker")]);
    assert_eq!((run.app.as_ref().map(|app| app.as_str()), run.commit.as_ref()), (Some("shop"), Some(&first)));
    assert_eq!(run.builds[0].digest, run.builds[2].digest, "one build for both");
    let digests: BTreeSet<_> = run.builds.iter().map(|build| build.digest).collect();
    assert_eq!(digests.len(), 2);

    let recorded = hub.deliveries.0.lock().unwrap().pop().unwrap();
    assert!(recorded.whole);
    let [migrate, web, worker] = recorded.releases.as_slice() else { panic!("{recorded:?}") };
    assert_eq!((migrate.job, web.job, worker.job), (true, false, false));
    assert_eq!(web.ports, [8000]);
    assert_eq!(web.definitions.overlays.keys().map(|env| env.as_str()).collect::<Vec<_>>(), ["prod"]);
    assert_eq!(worker.provenance.inputs["arg:MODE"], "worker");
    let base = hub_base(&hub).await;
    assert_eq!(worker.provenance.inputs[&format!("base:{BASE_IMAGE}")], base);
    assert!(!web.provenance.inputs.keys().any(|name| name.starts_with("base:")));
    assert!(run.builds.iter().all(|build| build.release.is_some()));

    // The statement is a referrer of the image and says where it comes from.
    let referrers = hub.registry.referrers("shop/web", &web.image.digest);
    let [statement] = referrers.as_slice() else { panic!("{referrers:?}") };
    assert_eq!(statement.artifact_type.as_deref(), Some("application/vnd.in-toto+json"));
    let bytes =
        api::registry::Registry::blob_get(&*hub.registry, &web.image.repository, &statement.layers[0].digest, 1 << 20);
    let statement: serde_json::Value = serde_json::from_slice(&bytes.await.unwrap().unwrap()).unwrap();
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], web.image.digest.hex());
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["resolvedDependencies"][0]["digest"]["gitCommit"], first);
    assert_eq!(definition["externalParameters"]["context"], "web");

    // The log is whole, numbered, and has what the steps wrote.
    let lines: Vec<_> = hub.client.run_log(&run.id, 0, true).await.unwrap().map(|line| line.unwrap()).collect().await;
    assert!(lines.iter().map(|line| line.number).eq(0..lines.len() as u64));
    assert!(lines.iter().any(|line| line.text.contains("mode worker") && line.service.is_some()), "{lines:#?}");
    let later: Vec<_> = hub.client.run_log(&run.id, 5, false).await.unwrap().map(|line| line.unwrap()).collect().await;
    assert_eq!(later, lines[5..]);

    // The same commit: nothing is built, and the releases are the same.
    let again = hub.build(&repository, "main").await;
    let unchanged = format!("unchanged since {}", &first[..7]);
    let reused = |service| (service, BuildOutcome::Reused, unchanged.as_str());
    assert_eq!(outcomes(&again), [reused("migrate"), reused("web"), reused("worker")]);
    let releases = |run: &Run| run.builds.iter().map(|build| (build.digest, build.release.clone())).collect::<Vec<_>>();
    assert_eq!(releases(&again), releases(&run));

    // What .dockerignore leaves out rebuilds nothing; a file of one service rebuilds that one.
    repository.commit(&[("web/notes.md", "changed"), ("README.md", "new")]);
    let notes = hub.build(&repository, "main").await;
    assert_eq!(outcomes(&notes)[1], reused("web"));
    repository.commit(&[("web/app.py", "two")]);
    let changed = hub.build(&repository, "main").await;
    assert_eq!(
        outcomes(&changed),
        [reused("migrate"), ("web", BuildOutcome::Built, "rebuilt because web/app.py changed"), reused("worker")]
    );

    // One service alone, the Dockerfile, an argument, an image that was lost.
    repository.commit(&[
        ("compose.yaml", &COMPOSE.replace("MODE: worker", "MODE: other")),
        ("web/Dockerfile", "FROM scratch\nCOPY . /app\nCMD [\"/app/new\"]\n"),
    ]);
    let alone = api::pipeline::BuildRequest {
        services: vec!["worker".parse().unwrap()],
        ..request(&repository.path(), "main")
    };
    assert_eq!(
        outcomes(&hub.build_request(&alone).await),
        [("worker", BuildOutcome::Built, "rebuilt because argument MODE changed")]
    );
    assert!(!hub.deliveries.0.lock().unwrap().pop().unwrap().whole);
    let all = hub.build(&repository, "main").await;
    assert_eq!(outcomes(&all)[1].2, "rebuilt because the Dockerfile changed");
    hub.registry.forget("shop/web");
    let lost = hub.build(&repository, "main").await;
    assert_eq!(outcomes(&lost)[1].2, "rebuilt because its image is no longer in the registry");

    let page = api::pipeline::Pipeline::run_list(&*hub.service, run.app.as_ref(), None, 2).await.unwrap();
    assert_eq!(page.items.first(), Some(&lost));
    assert!(page.next.is_some());
}

async fn hub_base(hub: &Hub) -> String {
    engine::Engine::image_inspect(&hub.docker, BASE_IMAGE).await.unwrap().unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_others_is_pinned_and_kept() {
    let hub = Hub::start().await;
    let image = format!("127.0.0.1:1/{}:1", hub.name());
    hub.docker_build(&image, "FROM scratch\nCOPY Dockerfile /\nEXPOSE 6379\n").await;
    let repository = Repository::new();
    repository.commit(&[("compose.yaml", &format!("name: pinned\nservices: {{base: {{image: '{image}'}}}}"))]);
    let run = hub.build(&repository, "main").await;
    let [(service, BuildOutcome::Pinned, reason)] = outcomes(&run)[..] else { panic!("{run:?}") };
    let digest = run.builds[0].digest.unwrap();
    assert_eq!((service, reason), ("base", format!("{image} is {digest}").as_str()));
    let repository_name = "pinned/base".parse().unwrap();
    let kept =
        api::registry::Registry::manifest_get(&*hub.registry, &repository_name, &digest.to_string()).await.unwrap();
    assert!(kept.is_some());
    assert_eq!(hub.deliveries.0.lock().unwrap()[0].releases[0].ports, [6379]);
    let lines: Vec<_> =
        hub.client.run_log(&run.id, 0, true).await.unwrap().map(|line| line.unwrap().text).collect().await;
    assert!(lines.iter().any(|line| line.contains("as the build engine has it")), "{lines:#?}");

    // The same image where its registry answers: copied from there, not from the engine.
    let origin = format!("{}/pinned/base:{}", hub.address(), hub.registry.tag("pinned/base"));
    repository.commit(&[("compose.yaml", &format!("name: copied\nservices: {{base: {{image: '{origin}'}}}}"))]);
    let copied = hub.build(&repository, "main").await;
    assert_eq!(outcomes(&copied)[0].1, BuildOutcome::Pinned);
    assert_eq!(copied.builds[0].digest, Some(digest));
    let release = hub.deliveries.0.lock().unwrap().pop().unwrap().releases.pop().unwrap();
    assert_eq!(release.provenance.builder, format!("copied from {origin}"));
    assert_eq!(release.image.repository.as_str(), "copied/base");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_under_way_when_the_hub_died_is_done_after_the_restart() {
    let hub = Hub::start().await;
    let repository = Repository::new();
    repository.commit(&[
        ("compose.yaml", "name: slow\nservices: {one: {build: ./one}, two: {build: ./two}}"),
        ("one/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"),
        ("two/Dockerfile", &format!("FROM {BASE_IMAGE}\nRUN echo {} && sleep 10\n", uuid::Uuid::now_v7())),
    ]);
    let run = hub.client.run_create(&request(&repository.path(), "main")).await.unwrap();
    let mut lines = hub.client.run_log(&run.id, 0, true).await.unwrap();
    while !lines.next().await.unwrap().unwrap().text.contains("RUN echo") {}
    let hub = hub.restart().await;
    let ended = hub.ended(&run.id).await;
    assert_eq!(ended.state, RunState::Succeeded, "{ended:?}");
    assert_eq!(hub.deliveries.0.lock().unwrap().len(), 1);
    let lines: Vec<_> = hub.client.run_log(&run.id, 0, true).await.unwrap().map(|line| line.unwrap()).collect().await;
    assert!(lines.iter().map(|line| line.number).eq(0..lines.len() as u64));
    assert!(lines.iter().any(|line| line.text.contains("the hub was stopped meanwhile")));
}
