//! Housekeeping that is asked for by hand: who may, and what is seen of it.

use api::Page;
use api::registry::Going;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::command_line::{Terminal, assert_seen};
use crate::lone::Lone;

const RULES: &str = "[registry]\ngrace = \"0s\"\n\n[[registry.repositories]]\nmatch = \"team/**\"\n\
     retain = [{ tags = [\"pr-*\"], last = 1 }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn retention_is_foreseen_and_collection_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Lone::start(&folder.path().join("hub"), RULES, &[]);
    for tag in ["pr-1", "pr-2", "pr-3", "main"] {
        let layer = Bytes::from(format!("the layer of {tag}"));
        hub.push("team/app", tag, &json!({ "os": "linux", "architecture": "amd64" }), &[layer]).await;
    }
    let mut terminal = Terminal::new(Some((hub.url(""), hub.data.clone())));
    terminal.run("image retention", 0);
    terminal.run("image retention --limit 1", 0);
    terminal.run("image retention team/other", 0);
    terminal.run("image retention --after A", 2);
    let page: Page<Going> = terminal.json("image retention team/app");
    let tags: Vec<&str> = page.items.iter().filter_map(|going| Some(going.tag.as_ref()?.as_str())).collect();
    assert_eq!((tags, page.next), (vec!["pr-2", "pr-1"], None));
    let seen = std::mem::take(&mut terminal.seen);
    let cursor = seen.lines().find_map(|line| line.rsplit_once("team/app:")).map(|(_, cursor)| cursor.to_owned());
    let seen = match cursor.as_deref().and_then(|cursor| cursor.split_once(':')) {
        Some((micros, _)) => seen.replace(micros, "[micros]"),
        None => seen,
    };
    assert_seen!("image_retention", seen);

    // What changes something takes the token; what is only looked at does not.
    let collect = hub.url("/api/v1/registry/collect");
    assert_eq!(hub.client.post(&collect).send().await.unwrap().status(), 401);
    let wrong = hub.client.post(&collect).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let digest = page.items[0].digest;
    let manifest = hub.url(&format!("/v2/team/app/manifests/{digest}"));
    assert_eq!(hub.client.delete(&manifest).send().await.unwrap().status(), 202);
    let token = std::fs::read_to_string(hub.data.join("token")).unwrap();
    let collected = hub.client.post(&collect).bearer_auth(token.trim()).send().await.unwrap();
    assert_eq!(collected.status(), 200);
    let collected: Value = collected.json().await.unwrap();
    assert!(collected["blobs"].is_u64() && collected["bytes"].is_u64(), "{collected:#}");
    let damaged: Value =
        hub.client.get(hub.url("/api/v1/registry/damaged")).send().await.unwrap().json().await.unwrap();
    assert_eq!(damaged, json!({ "blobs": [], "manifests": [] }));
    hub.stop();
}
