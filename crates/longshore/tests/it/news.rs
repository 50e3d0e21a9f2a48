//! A new advisory: told once, on the page, by the command line and to a webhook that does not answer at first, though the
//! hub is killed in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::ensure;
use api::client::{HubClient, PageQuery};
use api::inspect::{Alert, Delivery, News};
use api::{Micros, Page};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base::guard::TokenFile;
use bytes::Bytes;
use serde_json::Value;

use crate::browser::Browser;
use crate::command_line::Terminal;
use crate::image_pages::sound;
use crate::inside::{SYSTEM, advisories, archive, configuration, examined, status};
use crate::lone::Lone;
use crate::scene::LIMIT;

/// What a receiver got, and whether it takes anything now.
#[derive(Clone, Default)]
struct Receiver {
    is_up: Arc<AtomicBool>,
    got: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    /// Listens; gives its address.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/alerts", listener.local_addr().unwrap());
        let router = Router::new().fallback(received).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn got(&self) -> Vec<(String, Value)> {
        self.got.lock().unwrap().clone()
    }
}

async fn received(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let message = headers["webhook-id"].to_str().unwrap().to_owned();
    assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    receiver.got.lock().unwrap().push((message, serde_json::from_slice(&body).unwrap()));
    if receiver.is_up.load(Ordering::SeqCst) { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_advisory_is_told_once_though_the_hub_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::default();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let configuration_file = format!(
        "[inspect]\nwebhook = \"{}\"\nwebhook_secret_file = \"{}\"\n",
        receiver.start().await,
        secret.display()
    );
    let mut hub = Lone::start(&folder.path().join("hub"), &configuration_file, &[]);
    let token = TokenFile::create_or_read(&hub.data).unwrap();
    let client = HubClient::new(hub.url("/").parse().unwrap(), Some(token)).unwrap();
    let packages = status(&[("zlib1g", "1:1.2.13.dfsg-1"), ("libssl3", "3.0.11-1~deb12u2")]);
    let layers = [archive(&[("etc/os-release", SYSTEM), ("var/lib/dpkg/status", &packages)])];
    let digest = hub.push("team/app", "1", &configuration(&layers), &layers).await;
    examined(&client, &digest).await;
    let alerts = async || client.alerts(&PageQuery::default()).await.unwrap().items;

    // The first file is counted, the second tells of one vulnerability; nothing is taken.
    client.advisories_take(advisories("CVE-2026-30001", "libssl3").unwrap()).await.unwrap();
    let tried = || async {
        let alerts = client.alerts(&PageQuery::default()).await.ok()?;
        matches!(alerts.items.first()?.delivery, Some(Delivery::Waiting { tries: 1.., .. })).then_some(())
    };
    rig::until("nothing was sent", LIMIT, tried).await.unwrap();
    let second = advisories("CVE-2026-30002", "zlib1g").unwrap();
    client.advisories_take(second.clone()).await.unwrap();
    let told = || async { (client.alerts(&PageQuery::default()).await.ok()?.items.len() == 2).then_some(()) };
    rig::until("the second file is not told", LIMIT, told).await.unwrap();
    hub.kill_and_start();
    receiver.is_up.store(true, Ordering::SeqCst);
    let sent = || async {
        let alerts = client.alerts(&PageQuery::default()).await.ok()?;
        matches!(alerts.items.first()?.delivery, Some(Delivery::Sent { .. })).then_some(())
    };
    rig::until("it was not sent again", LIMIT, sent).await.unwrap();
    let mut got = receiver.got();
    let times = got.len();
    got.dedup();
    let [(_, first), (_, body)] = &got[..] else { panic!("{got:?}") };
    assert!(times > 2, "what failed comes again, and is the same");
    assert_eq!(
        (&first["type"], &first["data"]["news"]["ids"][0]),
        (&"advisory.summary".into(), &"CVE-2026-30001".into())
    );
    assert_eq!((&body["type"], &body["data"]["news"]["id"]), (&"advisory.affected".into(), &"CVE-2026-30002".into()));
    assert_eq!(body["data"]["news"]["images"][0]["digest"], digest.to_string());

    // The same file again is no news.
    let before = client.advisories().await.unwrap().taken_in;
    let taken = client.advisories_take(second).await.unwrap();
    assert!(taken.taken_in > before && taken.taken_in < Some(Micros::now()));
    let told = alerts().await;
    assert_eq!(told.len(), 2, "{told:#?}");
    let News::Advisory(news) = &told[0].news else { panic!("{told:#?}") };
    assert_eq!((news.images_count, news.images[0].tag.as_deref()), (1, Some("1")));
    assert_eq!(
        (news.components.as_slice(), news.fixed_in.as_slice()),
        (&["deb/zlib1g:amd64@1:1.2.13.dfsg-1".to_owned()][..], &["99:1-1".to_owned()][..])
    );
    let terminal = Terminal::new(Some((hub.url("/"), hub.data.clone())));
    assert_eq!(terminal.json::<Page<Alert>>("advisories news").items, told);
    let shown = terminal.quietly("advisories news").out;
    assert!(
        shown.contains("the first advisories")
            && shown.contains("CVE-2026-30002")
            && shown.contains("newly affected")
            && shown.contains("sent"),
        "{shown}"
    );
    let metrics = hub.client.get(hub.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("longshore_inspect_alerts{state=\"waiting\"} 0"), "{metrics}");
    seen(&hub).await.unwrap();
    hub.stop();
}

async fn seen(hub: &Lone) -> anyhow::Result<()> {
    let browser = Browser::start().await?;
    browser.open(&hub.url("/where")).await?;
    browser.click("main a[href='/where/news']").await?;
    browser.until("document.querySelector('h1')?.textContent === 'Newly affected'", LIMIT).await?;
    let text = browser.run("return document.querySelector('main tbody').innerText;").await?;
    let text = text.as_str().unwrap_or_default();
    ensure!(text.contains("CVE-2026-30002") && text.contains("team/app"), "{text}");
    sound(&browser, hub).await?;
    browser.click("main a[href^='/where?q=CVE-2026-30002']").await?;
    browser.until("document.querySelector('h2')?.textContent.includes('CVE-2026-30002')", LIMIT).await?;
    browser.console_silent().await
}
