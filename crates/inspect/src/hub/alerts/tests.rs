//! What files of advisories lead to, on both databases, and what receivers of all kinds get.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use api::delivery::{Deployed, ImageAddress, Running};
use api::inspect::Delivery;
use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::State as Shared;
use axum::response::IntoResponse as _;
use base::db::Db;
use base::db::testing::for_each_backend;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use oci::{Digest, RepositoryName};

use super::*;
use crate::advisory::osv::Advisory;
use crate::component::{Ecosystem, Evidence};
use crate::finding::{Gathered, store as advisory_file};
use crate::hub::store::Entry;
use crate::hub::testing::{hub_with, kept};
use crate::hub::webhook::Webhook;
use crate::hub::{CONTEXT, Config, MIGRATIONS};

const SECRET: &[u8] = b"a secret of more than 24 bytes, for tests";
/// When tests begin.
const BEGIN: i64 = 1_790_000_000_000_000;

/// A hub, with a clock that tests move.
struct Hub {
    service: Service,
    clock: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

impl Hub {
    fn new(db: &Db, replica: &str, webhook: Option<Webhook>, clock: &Arc<AtomicI64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::clone(clock);
        let config = Config { folder: folder.path().to_owned(), secrets: false, webhook };
        let service = hub_with(db, config, replica, Arc::new(move || Micros(time.load(Ordering::SeqCst))));
        Self { service, clock: Arc::clone(clock), _folder: folder }
    }

    fn alone(db: &Db, webhook: Option<Webhook>) -> Self {
        Self::new(db, "one", webhook, &Arc::new(AtomicI64::new(BEGIN)))
    }

    fn later(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// Puts an image into the index that has these artifacts in these versions.
    async fn image(&self, number: u32, artifacts: &[(&str, &str)]) -> Digest {
        let digest = Digest::sha256_of(&number.to_le_bytes());
        let repository: RepositoryName = format!("team/app{number}").parse().unwrap();
        let after = (Micros(1), repository.to_string(), digest.to_string());
        let store = self.service.store();
        store.entered(vec![(repository, digest, String::new())], Vec::new(), after, Micros(1)).await.unwrap();
        let entry = |(name, version): &(&str, &str)| Entry {
            key: Key {
                ecosystem: Ecosystem::Maven,
                name: format!("org.example:{name}"),
                version: (*version).to_owned(),
                architecture: None,
                source: None,
                platform: None,
            },
            evidence: Evidence::Contained,
            is_owned: false,
            places: vec![(Some(0), vec![format!("/app/{name}.jar")])],
            licences: Vec::new(),
        };
        let number = store.image(&digest).await.unwrap().unwrap().number;
        let kept = kept(number, artifacts.iter().map(entry).collect());
        store.keep(vec![kept], Micros(2)).await.unwrap();
        self.compared().await;
        digest
    }

    /// Has a host of an environment run an image.
    async fn runs(&self, digest: Digest, service: &str, env: &str) {
        let (app, service): (AppName, ServiceName) = ("shop".parse().unwrap(), service.parse().unwrap());
        let release: api::delivery::ReleaseId = digest.hex()[..16].parse().unwrap();
        let env: EnvName = env.parse().unwrap();
        for event in [
            Deployed::Release {
                release: release.clone(),
                app: app.clone(),
                service: service.clone(),
                image: ImageAddress { repository: "team/app".parse().unwrap(), digest },
                created_at: Micros(3),
            },
            Deployed::Environment {
                env: env.clone(),
                app: app.clone(),
                service: service.clone(),
                release: Some(release.clone()),
                at: Micros(4),
            },
            Deployed::Host {
                host: format!("{env}-1").parse().unwrap(),
                at: Micros(5),
                running: vec![Running { env, app, service, release, digest }],
            },
        ] {
            self.service.deployed(event).await.unwrap();
        }
    }

    /// Takes a file in and compares what there is with it.
    async fn take(&self, file: &[u8]) {
        self.later(Duration::from_secs(1));
        self.service.advisories_take(Bytes::copy_from_slice(file)).await.unwrap();
        self.compared().await;
    }

    async fn compared(&self) {
        while self.service.match_some().await.unwrap() == Progress::More {}
    }

    async fn alerts(&self) -> Vec<Alert> {
        let page = PageRequest { limit: 1000, after: None };
        self.service.alerts_page(&page).await.unwrap().items
    }

    /// What was told since there were so many alerts.
    async fn news(&self, since: usize) -> Vec<News> {
        let alerts = self.alerts().await;
        let new = alerts.len() - since;
        alerts.into_iter().take(new).map(|alert| alert.news).collect()
    }
}

/// An advisory in OSV form.
struct Osv<'a> {
    id: &'a str,
    aliases: &'a [&'a str],
    severity: &'a str,
    artifact: &'a str,
    fixed: &'a str,
    withdrawn: bool,
}

impl<'a> Osv<'a> {
    const fn on(id: &'a str, artifact: &'a str) -> Self {
        Self { id, aliases: &[], severity: "", artifact, fixed: "2.0", withdrawn: false }
    }

    fn parsed(&self) -> Advisory {
        let aliases: Vec<String> = self.aliases.iter().map(|alias| format!("{alias:?}")).collect();
        let word = if self.severity.is_empty() { "unknown" } else { self.severity };
        let withdrawn = if self.withdrawn { r#""withdrawn": "2026-01-03T00:00:00Z","# } else { "" };
        let text = format!(
            r#"{{"id": "{}", "modified": "2026-01-02T03:04:05Z", {withdrawn} "aliases": [{}], "summary": "It is wrong.",
                "database_specific": {{"severity": "{word}"}},
                "affected": [{{"package": {{"ecosystem": "Maven", "name": "org.example:{}"}},
                "ranges": [{{"type": "ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "{}"}}]}}]}}]}}"#,
            self.id,
            aliases.join(", "),
            self.artifact,
            self.fixed
        );
        Advisory::parse(text.as_bytes()).unwrap()
    }
}

fn file(advisories: &[Osv<'_>], exploited: &[&str]) -> Vec<u8> {
    let now = "2026-02-01T00:00:00Z".parse().unwrap();
    let mut gathered = Gathered::default();
    let number = gathered.begin("test", now).unwrap();
    for advisory in advisories {
        gathered.add(number, &advisory.parsed(), now).unwrap();
    }
    for cve in exploited {
        gathered.lists.exploited.insert((*cve).to_owned(), "2026-01-01".parse().unwrap());
    }
    let (data, records, lists) = gathered.records().unwrap();
    advisory_file::encode(&data, &records, &lists).unwrap()
}

fn advisory(news: &News) -> &AdvisoryNews {
    let News::Advisory(news) = news else { panic!("{news:?}") };
    news
}

const A: Osv<'static> = Osv::on("GHSA-aaaa", "a");
const B: Osv<'static> = Osv { severity: "critical", ..Osv::on("GHSA-bbbb", "b") };

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_changed_for_what_is_known_is_told_once() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let hub = Hub::alone(&db, None);
        // An empty hub has nothing to tell.
        hub.take(&file(&[Osv::on("GHSA-0000", "nowhere")], &[])).await;
        assert_eq!(hub.alerts().await, []);
        hub.image(1, &[("a", "1.0")]).await;
        let two = hub.image(2, &[("a", "1.0"), ("a", "1.1"), ("b", "1.0")]).await;
        hub.runs(two, "cart", "prod").await;
        assert_eq!(hub.alerts().await, [], "what is wrong with an image that enters is no news");

        hub.take(&file(&[A], &[])).await;
        let news = hub.news(0).await;
        assert_eq!(news.len(), 1);
        let told = advisory(&news[0]);
        assert_eq!((told.id.as_str(), told.reasons.as_slice()), ("GHSA-aaaa", &[AlertReason::Affected][..]));
        assert_eq!((told.images_count, told.components_count, told.severity), (2, 2, Severity::Unknown));
        assert_eq!(told.images[0].digest, two, "what runs comes first");
        assert_eq!(told.components, ["maven/org.example:a@1.0", "maven/org.example:a@1.1"]);
        assert_eq!(told.fixed_in, ["2.0"]);
        let running = &told.running[0];
        assert_eq!((told.running_count, running.service.as_str(), running.hosts), (1, "cart", 1));

        // The same file, and the same comparison, say nothing more; nor does an image that enters, or what is nowhere.
        hub.take(&file(&[A], &[])).await;
        hub.take(&file(&[A, Osv::on("GHSA-cccc", "nowhere")], &[])).await;
        hub.image(3, &[("a", "1.2"), ("b", "1.1")]).await;
        assert_eq!(hub.alerts().await.len(), 1);

        hub.take(&file(&[A, B], &[])).await;
        let news = hub.news(1).await;
        assert_eq!(news.len(), 1, "{news:#?}");
        let told = advisory(&news[0]);
        assert_eq!((told.id.as_str(), told.images_count, told.severity), ("GHSA-bbbb", 2, Severity::Critical));

        // It gets the name that it is known by, which is no news; that it is exploited is.
        let named = || Osv { aliases: &["CVE-2026-1"], ..B };
        hub.take(&file(&[A, named()], &[])).await;
        assert_eq!(hub.alerts().await.len(), 2);
        let store = hub.service.store();
        assert_eq!(store.affected_by("CVE-2026-1").await.unwrap().len(), 2);
        let seen = store.first_seen(&["CVE-2026-1".to_owned()]).await.unwrap();
        assert_eq!(seen.get("CVE-2026-1"), Some(&hub.alerts().await[0].at), "it was seen under its other name");
        hub.take(&file(&[A, named()], &["CVE-2026-1"])).await;
        let news = hub.news(2).await;
        assert_eq!(advisory(&news[0]).reasons, [AlertReason::Exploited]);
        assert_eq!((news.len(), advisory(&news[0]).id.as_str()), (1, "CVE-2026-1"));

        // Rated worse is news, rated better is none.
        hub.take(&file(&[Osv { severity: "high", ..A }, named()], &["CVE-2026-1"])).await;
        let news = hub.news(3).await;
        assert_eq!(advisory(&news[0]).reasons, [AlertReason::Severity { before: Severity::Unknown }]);
        assert_eq!(advisory(&news[0]).images_count, 3);
        hub.take(&file(&[Osv { severity: "low", ..A }, named()], &["CVE-2026-1"])).await;
        assert_eq!(hub.alerts().await.len(), 4);

        // Withdrawn is none, and what affected fewer versions tells of those that it affects now.
        hub.take(&file(&[Osv { withdrawn: true, ..A }, named()], &["CVE-2026-1"])).await;
        hub.take(&file(&[Osv { fixed: "1.1", ..A }, named()], &["CVE-2026-1"])).await;
        hub.take(&file(&[Osv { fixed: "1.2", ..A }, named()], &["CVE-2026-1"])).await;
        let news = hub.news(4).await;
        let told: Vec<_> = news.iter().map(|news| (advisory(news).images_count, &*advisory(news).components)).collect();
        let component = |version: &str| vec![format!("maven/org.example:a@{version}")];
        assert_eq!(told, [(1, &*component("1.1")), (2, &*component("1.0"))]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_file_and_very_many_advisories_are_counted() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let hub = Hub::alone(&db, None);
        let names: Vec<String> = (0..130).map(|number| format!("a{number}")).collect();
        let artifacts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1.0")).collect();
        hub.image(1, &artifacts).await;
        hub.image(2, &[("a0", "1.0"), ("other", "1.0")]).await;
        hub.take(&file(&[Osv { severity: "high", ..Osv::on("CVE-2026-0", "other") }, A], &["CVE-2026-0"])).await;
        let news = hub.news(0).await;
        let first = SummaryNews {
            first: true,
            severities: [(Severity::High, 1)].into(),
            known_exploited: 1,
            images_count: 1,
            ids: vec!["CVE-2026-0".to_owned()],
        };
        assert_eq!(news, [News::Summary(first)]);

        let ids: Vec<String> = (0..130).map(|number| format!("CVE-2026-1{number:03}")).collect();
        let many: Vec<Osv<'_>> = ids
            .iter()
            .zip(&names)
            .enumerate()
            .map(|(at, (id, name))| Osv {
                severity: if at % 10 == 3 { "critical" } else { "low" },
                ..Osv::on(id, name)
            })
            .collect();
        hub.take(&file(&many, &["CVE-2026-1129"])).await;
        let news = hub.news(1).await;
        assert_eq!(news.len(), ALERTS_MAX + 1);
        let worst: Vec<&str> = news.iter().take(3).map(|news| advisory(news).id.as_str()).collect();
        assert_eq!(worst, ["CVE-2026-1129", "CVE-2026-1003", "CVE-2026-1013"]);
        let News::Summary(rest) = news.last().unwrap() else { panic!("{news:?}") };
        assert_eq!((rest.first, rest.count(), rest.images_count, rest.known_exploited), (false, 30, 1, 0));
        assert_eq!(rest.severities, [(Severity::Low, 30)].into());
        // They are sent in the order in which the page lists those of one file.
        let alerts = hub.alerts().await;
        assert!(alerts[..=ALERTS_MAX].is_sorted_by_key(|alert| alert.number));
        let page = PageRequest { limit: 60, after: None };
        let first = hub.service.alerts_page(&page).await.unwrap();
        let next = PageRequest { limit: 60, after: first.next.clone() };
        let second = hub.service.alerts_page(&next).await.unwrap();
        assert_eq!([first.items, second.items].concat(), alerts);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_told_yet_is_told_after_a_crash_and_what_was_taken_back_never() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let hub = Hub::alone(&db, None);
        hub.take(&file(&[], &[])).await;
        hub.image(1, &[("a", "1.0"), ("b", "1.0")]).await;
        // The file is taken, the hub ends, and another one begins; a second one on the same database does nothing.
        hub.later(Duration::from_secs(1));
        hub.service.advisories_take(Bytes::from(file(&[A, B], &[]))).await.unwrap();
        let second = Hub::new(&db, "two", None, &hub.clock);
        second.compared().await;
        assert_eq!(hub.alerts().await, []);
        // The components are compared, and then the hub ends, too.
        assert_eq!(hub.service.match_some().await.unwrap(), Progress::More);
        assert_eq!(hub.alerts().await, []);
        // Meanwhile one of the two is taken back.
        hub.service.advisories_take(Bytes::from(file(&[A], &[]))).await.unwrap();
        let again = Hub::new(&db, "one", None, &hub.clock);
        again.compared().await;
        let ids = async || hub.news(0).await.iter().map(|news| advisory(news).id.clone()).collect::<Vec<_>>();
        assert_eq!(ids().await, ["GHSA-aaaa"]);
        hub.later(Duration::from_secs(60));
        second.compared().await;
        assert_eq!(ids().await, ["GHSA-aaaa"], "the next holder of the lease has nothing to tell");
    })
    .await;
}

/// What a receiver answers.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Status(u16),
    /// Somewhere else, where the same receiver listens.
    Elsewhere,
    Never,
}

/// A receiver of messages, and what it got.
#[derive(Clone)]
struct Receiver {
    url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

#[derive(Clone, Debug)]
struct Got {
    path: String,
    id: String,
    body: serde_json::Value,
}

impl Receiver {
    /// One that gives these answers, and after them 204.
    async fn start(answers: &[Answer]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}/hook?token=x", listener.local_addr().unwrap()),
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
            got: Arc::default(),
        };
        let router = Router::new().fallback(received).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn webhook(&self) -> Option<Webhook> {
        Some(Webhook::with(self.url.parse().unwrap(), SECRET, Duration::from_millis(500)).unwrap())
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn ids(&self) -> Vec<String> {
        self.got().iter().map(|got| got.body["data"]["news"]["id"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

async fn received(
    Shared(receiver): Shared<Receiver>,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let id = header("webhook-id");
    let signed = [format!("{id}.{}.", header("webhook-timestamp")).as_bytes(), &body].concat();
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &signed, &signature).unwrap();
    assert_eq!(header("content-type"), "application/json");
    let got = Got { path: uri.path().to_owned(), id, body: serde_json::from_slice(&body).unwrap() };
    receiver.got.lock().unwrap().push(got);
    let answer = receiver.answers.lock().unwrap().pop_front().unwrap_or(Answer::Status(204));
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Elsewhere => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
        Answer::Never => std::future::pending().await,
    }
}

/// A hub whose webhook this is, with an alert on each of some advisories.
async fn told(db: &Db, receiver: &Receiver, ids: &[&str]) -> Hub {
    let hub = Hub::alone(db, receiver.webhook());
    hub.take(&file(&[], &[])).await;
    hub.image(1, &[("a", "1.0")]).await;
    hub.take(&file(&ids.iter().map(|id| Osv::on(id, "a")).collect::<Vec<_>>(), &[])).await;
    assert_eq!(hub.alerts().await.len(), ids.len());
    hub
}

impl Hub {
    /// Sends until nothing waits any more, however long that is by the hub's clock; gives how long it was.
    async fn sent(&self) -> Duration {
        let begun = self.service.now();
        for _ in 0..200 {
            match self.service.alerts_send().await.unwrap() {
                Progress::More => {}
                Progress::After(time) => self.later(time),
                Progress::Done => return self.service.now().since(begun),
            }
        }
        panic!("there is no end to it: {:#?}", self.alerts().await);
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        self.alerts().await.into_iter().map(|alert| alert.delivery.unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_until_it_is_taken_signed_and_in_order() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let answers = [
            Answer::Status(500),
            Answer::Status(503),
            Answer::Status(200),
            Answer::Elsewhere,
            Answer::Never,
            Answer::Status(401),
        ];
        let receiver = Receiver::start(&answers).await;
        let hub = told(&db, &receiver, &["CVE-2026-1", "CVE-2026-2"]).await;
        let took = hub.sent().await;
        assert_eq!(took, Duration::from_secs(5 + 10 + 5 + 10 + 20), "pauses grow");
        let got = receiver.got();
        let ids: Vec<&str> = got.iter().map(|got| got.id.as_str()).collect();
        let (first, second) = (ids[0], ids[3]);
        assert_eq!(ids, [first, first, first, second, second, second, second]);
        assert!(first != second && got.iter().all(|got| got.path == "/hook"), "no redirect is followed: {got:?}");
        assert_eq!(receiver.ids()[2..4], ["CVE-2026-1", "CVE-2026-2"]);
        let alerts = hub.alerts().await;
        let body = &got[0].body;
        assert_eq!((&body["type"], &body["data"]["message"]), (&"advisory.affected".into(), &first.into()));
        assert_eq!(body["timestamp"], alerts[0].at.to_string());
        assert_eq!(serde_json::from_value::<News>(body["data"]["news"].clone()).unwrap(), alerts[0].news);
        assert!(matches!(hub.deliveries().await[..], [Delivery::Sent { .. }, Delivery::Sent { .. }]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_given_up_and_told() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        // A message that the receiver does not want stands in nobody's way for long.
        let receiver = Receiver::start(&[Answer::Status(422); REFUSALS_MAX as usize]).await;
        let hub = told(&db, &receiver, &["CVE-2026-1", "CVE-2026-2"]).await;
        assert!(hub.sent().await < Duration::from_secs(300));
        let deliveries = hub.deliveries().await;
        assert!(matches!(&deliveries[0], Delivery::Dead { why, .. } if why == "it answers 422"), "{deliveries:?}");
        assert!(matches!(&deliveries[1], Delivery::Sent { .. }), "{deliveries:?}");
        assert!(base::metrics::render().contains("longshore_inspect_alerts{state=\"dead\"} 1"));
    })
    .await;
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        // Nobody is there for a day: all that waited goes, and what comes later is sent.
        let receiver = Receiver::start(&[]).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = Receiver { url: format!("http://{}/s3cret", listener.local_addr().unwrap()), ..receiver.clone() };
        drop(listener);
        let hub = told(&db, &gone, &["CVE-2026-1", "CVE-2026-2"]).await;
        let took = hub.sent().await;
        assert!(took >= GIVEN_UP_AFTER && took < GIVEN_UP_AFTER + 2 * PAUSE_MAX, "{took:?}");
        for delivery in hub.deliveries().await {
            let Delivery::Dead { why, .. } = delivery else { panic!("{delivery:?}") };
            assert!(why.contains("refused") && !why.contains("s3cret"), "{why}");
        }
        let hub = Hub::new(&db, "one", receiver.webhook(), &hub.clock);
        hub.take(&file(&[Osv::on("CVE-2026-3", "a")], &[])).await;
        hub.sent().await;
        assert_eq!(receiver.ids(), ["CVE-2026-3"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hubs_one_sends_and_what_it_sent_before_it_died_comes_again_under_the_same_id() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let receiver = Receiver::start(&[]).await;
        let hub = told(&db, &receiver, &["CVE-2026-1", "CVE-2026-2"]).await;
        let second = Hub::new(&db, "two", receiver.webhook(), &hub.clock);
        assert_eq!(second.service.alerts_send().await.unwrap(), Progress::Done);
        assert!(receiver.got().is_empty(), "another one holds the lease");
        // The first sends, and dies before it has noted that.
        let fence = hub.service.lease().await.unwrap().unwrap();
        let message = hub.service.store().alert_first().await.unwrap().unwrap();
        let webhook = receiver.webhook().unwrap();
        assert_eq!(webhook.send(&message.alert, hub.service.now()).await, Outcome::Taken);
        hub.later(Duration::from_secs(60));
        second.sent().await;
        let (ids, got) = (receiver.ids(), receiver.got());
        assert_eq!(ids, ["CVE-2026-1", "CVE-2026-1", "CVE-2026-2"]);
        assert!(got[0].id == got[1].id && got[1].id != got[2].id, "{got:?}");
        // It was not dead after all: what it says now counts for nothing.
        let late = hub.service.store().alert_sent(fence, message.alert.number, Sent::Taken, Micros(0)).await;
        assert!(late.is_err());
        assert_eq!(hub.sent().await, Duration::ZERO);
        assert_eq!(receiver.got().len(), 3);
    })
    .await;
}
