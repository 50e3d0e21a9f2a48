//! Each way to fail gives its own clear error, records nothing, and leaves the hub able to build.

use api::pipeline::{BuildOutcome, BuildRequest, RunState};
use futures::StreamExt as _;

use crate::support::{BASE_IMAGE, Hub, Repository, request};

const COMPOSE: &str = "name: broken\nservices: {web: {build: ./web}}\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_says_why_and_what_to_do() {
    let hub = Hub::start().await;
    // Files, then kind, then what detail and hint have to say.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);
    let failing = format!("FROM {BASE_IMAGE}\nRUN echo first; echo the last line >&2; exit 3\n");
    let base_missing = "FROM 127.0.0.1:1/nothing:here\n".to_owned();
    let cases: [Case<'_>; 14] = [
        (&[("README", "x")], "compose-missing", &["compose.yaml"]),
        (
            &[("compose.yaml", "name: broken\nservices:\n  web:\n    biuld: ./web\n")],
            "compose-invalid",
            &["compose.yaml:4:", "biuld", "build"],
        ),
        (
            &[
                ("compose.yaml", COMPOSE),
                ("compose.prod.yaml", "services:\n  web:\n    ports: ['x']\n"),
                ("web/Dockerfile", "FROM scratch"),
            ],
            "compose-invalid",
            &["compose.prod.yaml:3:"],
        ),
        (
            &[("compose.yaml", COMPOSE), ("compose.prod.yaml", "services: {db: {image: postgres}}")],
            "overlay-unsuitable",
            &["db", "compose.prod.yaml"],
        ),
        (
            &[("compose.yaml", COMPOSE), ("compose.prod.yaml", "services: {web: {build: ./other}}")],
            "overlay-unsuitable",
            &["web", "one image"],
        ),
        (&[("compose.yaml", COMPOSE), ("web/README", "x")], "context-invalid", &["no Dockerfile in web"]),
        (&[("compose.yaml", COMPOSE), ("other/Dockerfile", "FROM scratch")], "folder-unknown", &["web"]),
        (
            &[("compose.yaml", "name: broken\nservices: {web: {build: ../outside}}\n")],
            "context-invalid",
            &["outside of the repository"],
        ),
        (
            &[("compose.yaml", COMPOSE), ("web/Dockerfile", "FROM scratch"), ("web/.dockerignore", "ok\n[")],
            "dockerignore-invalid",
            &["web/.dockerignore: line 2"],
        ),
        (
            &[("compose.yaml", COMPOSE), ("web/Dockerfile", "FROM scratch\nKOPY . /\n")],
            "build-failed",
            &["web:", "KOPY"],
        ),
        (
            &[("compose.yaml", COMPOSE), ("web/Dockerfile", "FROM scratch\nCOPY missing /\n")],
            "build-failed",
            &["missing", "context"],
        ),
        (
            &[("compose.yaml", COMPOSE), ("web/Dockerfile", &failing)],
            "build-failed",
            &["RUN echo first", "the last line"],
        ),
        (
            &[("compose.yaml", COMPOSE), ("web/Dockerfile", &base_missing)],
            "base-missing",
            &["127.0.0.1:1/nothing:here", "FROM"],
        ),
        (
            &[("compose.yaml", "name: broken\nservices: {web: {image: '127.0.0.1:1/nothing:here'}}")],
            "image-unavailable",
            &["127.0.0.1:1/nothing:here"],
        ),
    ];
    for (files, kind, words) in cases {
        let repository = Repository::new();
        repository.commit(files);
        let run = hub.build(&repository, "main").await;
        let problem = run.error.clone().unwrap_or_else(|| panic!("{kind}: {run:?}"));
        assert_eq!((run.state, problem.kind.as_str()), (RunState::Failed, kind), "{problem:?}");
        let said = format!("{} {}", problem.detail, problem.hint.clone().unwrap_or_default());
        for word in words {
            assert!(said.contains(word), "{kind} should say {word:?}: {said}");
        }
        assert!(problem.hint.is_some(), "{kind} has no next step: {problem:?}");
        let lines: Vec<_> =
            hub.client.run_log(&run.id, 0, true).await.unwrap().map(|line| line.unwrap().text).collect().await;
        assert!(lines.iter().any(|line| line.starts_with("failed: ")), "{lines:?}");
    }
    assert!(hub.deliveries.0.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_service_records_nothing_and_what_was_built_is_kept() {
    // One after the other, by name.
    let hub = Hub::start_with(1).await;
    let repository = Repository::new();
    let compose = "name: half\nservices: {able: {build: ./able}, broken: {build: ./broken}}\n";
    let good = "FROM scratch\nCOPY Dockerfile /\n";
    let bad = format!("FROM {BASE_IMAGE}\nRUN exit 1\n");
    repository.commit(&[("compose.yaml", compose), ("able/Dockerfile", good), ("broken/Dockerfile", &bad)]);
    let run = hub.build(&repository, "main").await;
    let outcomes = |run: &api::pipeline::Run| run.builds.iter().map(|build| build.outcome).collect::<Vec<_>>();
    assert_eq!((run.state, outcomes(&run)), (RunState::Failed, vec![BuildOutcome::Built, BuildOutcome::Failed]));
    assert!(hub.deliveries.0.lock().unwrap().is_empty());
    repository.commit(&[("broken/Dockerfile", &format!("{good}\nLABEL now=good\n"))]);
    let run = hub.build(&repository, "main").await;
    assert_eq!(outcomes(&run), [BuildOutcome::Reused, BuildOutcome::Built]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_at_once() {
    let hub = Hub::start().await;
    let repository = Repository::new();
    let commit = repository.commit(&[("compose.yaml", COMPOSE)]);
    let path = repository.path();
    for (request, kind) in [
        (request("--upload-pack=x", "main"), "repository-invalid"),
        (request("https://user:secret@example.com/x", "main"), "repository-invalid"),
        (request(&path, "--exec=x"), "reference-invalid"),
        (request(&path, "main~1"), "reference-invalid"),
        (BuildRequest { folder: "../..".into(), ..request(&path, "main") }, "build-request-invalid"),
    ] {
        let problem = hub.client.run_create(&request).await.unwrap_err();
        assert_eq!(problem.kind, kind);
        assert!(!problem.to_string().contains("secret"));
    }
    for (request, kind, word) in [
        (request(&path, "mian"), "reference-unknown", "did you mean main?"),
        (request(&format!("{path}/none"), "main"), "repository-unreachable", "git ls-remote"),
        (BuildRequest { folder: "app".into(), ..request(&path, &commit) }, "folder-unknown", "root"),
        (BuildRequest { services: vec!["wbe".parse().unwrap()], ..request(&path, "main") }, "service-unknown", "web"),
    ] {
        let run = hub.build_request(&request).await;
        let problem = run.error.unwrap();
        assert_eq!(problem.kind, kind);
        assert!(problem.hint.as_deref().unwrap().contains(word), "{problem:?}");
    }
    assert_eq!(hub.client.run_get("nothing").await.unwrap_err().kind, "run-unknown");
    assert_eq!(hub.client.run_log("nothing", 0, false).await.err().unwrap().kind, "run-unknown");
    // Nothing but mirrors is left of what failed.
    assert!(hub.mirrors().read_dir().unwrap().count() <= 2);
    assert!(hub.deliveries.0.lock().unwrap().is_empty());
}
