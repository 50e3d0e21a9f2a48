//! The routes, as the command line's client uses them and as agents do.

use std::collections::BTreeMap;

use api::access::HostIdentity;
use api::agent::{Desired, PROTOCOL_HEADER, PROTOCOL_VERSION};
use api::client::{HubClient, PageQuery};
use api::delivery::{PlanState, PromoteRequest, ReleaseFilter, RollbackRequest};
use axum::Extension;
use base::db::testing::for_each_database;

use crate::hub::{ENVIRONMENTS, Hub};
use crate::support::{Outcome, Spec, name};

async fn served(routes: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

#[tokio::test]
async fn the_client_reaches_everything() {
    for_each_database(|config| async move {
        let mut hub = Hub::with_hosts(config).await;
        hub.build(1, &[Spec::new("web").global().publish(8080, 80)]).await;
        let client = HubClient::new(served(hub.service.http()).await.parse().unwrap(), None).unwrap();
        let wide = ENVIRONMENTS.replace("max_unavailable: 1", "max_unavailable: 2");
        assert_eq!(client.env_apply(wide, "e.yaml", false).await.unwrap().len(), 1);
        let refusal = client.env_apply("environments: [".to_owned(), "e.yaml", false).await.unwrap_err();
        assert_eq!((refusal.status, refusal.kind.as_str()), (400, "environments-invalid"));
        assert_eq!(client.env_list().await.unwrap().len(), 2);
        let filter = ReleaseFilter { app: Some(name("shop")), service: None };
        let release = client.release_list(&filter, &PageQuery::default()).await.unwrap().items.remove(0);
        assert_eq!(client.release_get(&release.id.as_str()[..6]).await.unwrap(), release);
        assert_eq!(client.release_get("../plans").await.unwrap_err().kind, "release-invalid");
        let request = PromoteRequest {
            address: name("shop"),
            to: name("qa"),
            force_reason: None,
            requested_by: "ann".to_owned(),
        };
        let plan = client.promote(&request).await.unwrap();
        hub.finish(&plan.id, false, |_, _, _| Outcome::Works).await;
        assert_eq!(client.plan_get(&plan.id).await.unwrap().state, PlanState::Succeeded);
        let page = PageQuery { after: None, limit: Some(1) };
        assert_eq!(client.plan_list(Some(&name("shop")), Some(&name("qa")), &page).await.unwrap().items.len(), 1);
        assert_eq!(client.host_list(&page).await.unwrap().next.as_deref(), Some("p1"));
        assert_eq!(client.instance_list(&name("shop"), &name("qa")).await.unwrap().len(), 1);
        let (qa, tag) = client.env_releases(&name("shop"), &name("qa"), None).await.unwrap().unwrap();
        let here: Vec<_> =
            qa.releases.iter().map(|one| (one.id.clone(), one.image.clone(), one.definition.clone())).collect();
        assert_eq!(here, [(release.id.clone(), release.image.clone(), release.definitions.of(&name("qa")).clone())]);
        assert_eq!(client.env_releases(&name("shop"), &name("qa"), Some(&tag)).await.unwrap(), None);
        let (prod, other) = client.env_releases(&name("shop"), &name("prod"), Some(&tag)).await.unwrap().unwrap();
        assert!(prod.releases.is_empty() && other != tag);
        assert_eq!(
            client.env_releases(&name("shop"), &name("none"), None).await.unwrap_err().kind,
            "environment-unknown"
        );
        assert_eq!(client.env_diff(&name("shop"), Some(&name("qa")), &name("prod")).await.unwrap().len(), 1);
        assert!(client.why(&name("shop/web"), &name("prod")).await.unwrap().next.is_some());
        assert_eq!(client.overview().await.unwrap().apps.len(), 1);
        let back =
            RollbackRequest { address: name("shop"), env: name("qa"), reason: None, requested_by: String::new() };
        assert_eq!(client.rollback(&back).await.unwrap_err().kind, "nothing-to-roll-back");
        hub.close().await;
    })
    .await;
}

#[tokio::test]
async fn agents_speak_as_who_they_are_and_in_a_version_that_is_known() {
    for_each_database(|config| async move {
        let hub = Hub::with_hosts(config).await;
        let identity = HostIdentity { host: name("p1"), serial: "01".to_owned(), labels: BTreeMap::new() };
        let base = served(hub.service.agent_http().layer(Extension(identity))).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{base}/agent/v1/desired?number=0&streams=0&wait_seconds=0");
        assert_eq!(http.get(&url).send().await.unwrap().status(), 400);
        let answer = http.get(&url).header(PROTOCOL_HEADER, PROTOCOL_VERSION).send().await.unwrap();
        let desired: Desired = answer.json().await.unwrap();
        assert_eq!(desired.host.as_str(), "p1");
        let report = hub.agents[&desired.host].report(&desired.host, api::Micros(5));
        let post = |url: String| http.post(url).header(PROTOCOL_HEADER, PROTOCOL_VERSION);
        let sent = post(format!("{base}/agent/v1/report")).json(&report).send().await.unwrap();
        assert_eq!(sent.status(), 204);
        let broken = post(format!("{base}/agent/v1/report")).body("{").send().await.unwrap();
        assert_eq!(broken.status(), 400);
        let unknown = post(format!("{base}/agent/v1/logs/none")).body("").send().await.unwrap();
        assert_eq!(unknown.status(), 404);
        hub.close().await;
    })
    .await;
}
