//! What housekeeping is asked for, and what it answers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::db::testing::for_each_database;
use base::shutdown::Shutdown;
use base::tasks::Tasks;
use oci::Digest;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{World, push_image};

/// Nothing waits to be collected.
const NO_GRACE: &str = "grace = \"0s\"\n";

async fn body(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The only file under a folder that has this content.
fn file_with(folder: &Path, content: &[u8]) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).unwrap() == content {
                return Some(path);
            }
        }
    }
    None
}

#[tokio::test]
async fn what_nothing_needs_is_collected_when_it_is_asked_for() {
    for_each_database(|database| async move {
        let world = World::configured(NO_GRACE, database).await;
        let (_, digest) = push_image(&world, "team/app", "v1", "a layer").await;
        push_image(&world, "team/app", "v2", "another layer").await;
        let layer = Digest::sha256_of(b"a layer");
        assert_eq!(world.call("DELETE", &format!("/v2/team/app/manifests/{digest}"), &[], "").await.status(), 202);
        assert!(file_with(world.folder.path(), b"a layer").is_some());

        assert_eq!(world.get("/api/v1/registry/collect").await.status(), StatusCode::METHOD_NOT_ALLOWED);
        let answer = world.call("POST", "/api/v1/registry/collect", &[], "").await;
        assert_eq!(answer.status(), 200);
        let collected = body(answer).await;
        assert_eq!((&collected["blobs"], &collected["bytes"]), (&json!(1), &json!("a layer".len())), "{collected:#}");
        assert!(file_with(world.folder.path(), b"a layer").is_none());
        assert_eq!(world.get(&format!("/v2/team/app/blobs/{layer}")).await.status(), 404);
        assert_eq!(world.get("/v2/team/app/manifests/v2").await.status(), 200);

        let again = body(world.call("POST", "/api/v1/registry/collect", &[], "").await).await;
        assert_eq!(again["blobs"], 0, "{again:#}");
    })
    .await;
}

#[tokio::test]
async fn blobs_that_are_lost_or_wrong_are_named() {
    for_each_database(|database| async move {
        let world = World::configured("scrub = \"1s\"\n", database).await;
        push_image(&world, "team/app", "v1", "a layer").await;
        let nothing = body(world.get("/api/v1/registry/damaged").await).await;
        assert_eq!(nothing, json!({ "blobs": [], "manifests": [] }));

        let path = file_with(world.folder.path(), b"a layer").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a loser").unwrap();
        // It is due a second after its push: then the first look finds it.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let stop = Shutdown::new();
        world.service.tasks_spawn(&Tasks::new(stop.clone()));
        let layer = Digest::sha256_of(b"a layer");
        let begun = Instant::now();
        let damaged = loop {
            let damaged = body(world.get("/api/v1/registry/damaged").await).await;
            if damaged != nothing {
                break damaged;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody sees what is wrong");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        stop.begin();
        assert_eq!(damaged["blobs"].as_array().map(Vec::len), Some(1), "{damaged:#}");
        assert_eq!(damaged["blobs"][0]["digest"], layer.to_string(), "{damaged:#}");
        let behind = body(world.get(&format!("/api/v1/registry/damaged?after={layer}")).await).await;
        assert_eq!(behind, json!({ "blobs": [], "manifests": [] }));
        for query in ["after=none", "before=1"] {
            let refused = world.get(&format!("/api/v1/registry/damaged?{query}")).await;
            assert_eq!((refused.status().as_u16(), &body(refused).await["kind"]), (400, &json!("query-invalid")));
        }
        // The same bytes again make it whole.
        world.blob("team/app", b"a layer").await;
        assert_eq!(body(world.get("/api/v1/registry/damaged").await).await, json!({ "blobs": [], "manifests": [] }));
    })
    .await;
}

#[tokio::test]
async fn retention_is_foreseen_page_by_page() {
    let rules = "[[repositories]]\nmatch = \"team/**\"\nretain = [{ tags = [\"pr-*\"], last = 1 }]\n";
    for_each_database(|database| async move {
        let world = World::configured(rules, database).await;
        for tag in ["pr-1", "pr-2", "pr-3", "main"] {
            for repository in ["team/one", "team/two", "other"] {
                push_image(&world, repository, tag, tag).await;
            }
        }
        let read = async |query: &str| body(world.get(&format!("/api/v1/registry/retention{query}")).await).await;
        let names = |page: &Value| -> Vec<String> {
            let name = |item: &Value| format!("{}:{}", item["repository"], item["tag"]).replace('"', "");
            page["items"].as_array().unwrap().iter().map(name).collect()
        };
        let all = read("").await;
        assert_eq!(names(&all), ["team/one:pr-2", "team/one:pr-1", "team/two:pr-2", "team/two:pr-1"], "{all:#}");
        assert_eq!(all["items"][0]["rule"], "team/**");
        assert_eq!(all["items"][0]["why"], "not among the last 1, pushed less than a day ago");
        let first = read("?limit=3").await;
        assert_eq!(names(&first), ["team/one:pr-2", "team/one:pr-1", "team/two:pr-2"]);
        let next = first["next"].as_str().unwrap();
        assert_eq!(names(&read(&format!("?limit=3&after={next}")).await), ["team/two:pr-1"]);
        assert_eq!(names(&read("?repository=team/one").await), ["team/one:pr-2", "team/one:pr-1"]);
        assert_eq!(names(&read("?repository=other").await), [""; 0]);
        assert_eq!(names(&read("?repository=team/none").await), [""; 0]);
        for (query, kind) in [
            ("?after=A", "page-cursor-invalid"),
            ("?repository=team/one&after=team/two", "page-cursor-invalid"),
            ("?limit=0", "page-limit-invalid"),
            ("?repository=A", "query-invalid"),
        ] {
            assert_eq!(read(query).await["kind"], kind, "{query}");
        }
        assert_eq!(world.get("/v2/team/one/manifests/pr-1").await.status(), 200, "nothing went");
    })
    .await;
}
