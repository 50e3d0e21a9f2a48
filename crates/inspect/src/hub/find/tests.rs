//! What `where` answers while others change what it is asked about.

use api::Micros;
use api::delivery::{Deployed, ImageAddress, Running};
use api::inspect::{InsideFilter, Sought};
use base::db::testing::for_each_backend;
use base::page::PageQuery;

use super::super::store::{CONTEXT, MIGRATIONS, Outcome};
use super::super::testing::{component, entry, hub, image, kept, repository};
use super::super::{Noted, contents_note};
use crate::advisory::osv::Advisory;
use crate::component::Ecosystem;
use crate::document::{self, Contents, Found};
use crate::finding::{self, Gathered};

fn left_pad() -> Sought {
    Sought::Component { ecosystem: None, name: "left-pad".to_owned(), version: None }
}

fn entries() -> Vec<super::super::store::Entry> {
    vec![entry(&component(Ecosystem::Npm, "left-pad", "1.3.0"))]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_hub_changes_is_answered_at_once() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (hub(&db, folder.path(), "one"), hub(&db, folder.path(), "other"));
        let told = async || {
            let found = one.found(&left_pad()).await;
            let reasons: Vec<String> = found.not_examined.into_iter().map(|one| one.why).collect();
            (found.images_count, found.images_incomplete, reasons)
        };
        assert_eq!(told().await, (0, 0, vec![]));
        let number = other.enters(image(0)).await;
        assert_eq!(told().await, (0, 1, vec![]));

        let release = "00000000000000aa".parse::<api::delivery::ReleaseId>().unwrap();
        let of = ImageAddress { repository: repository(), digest: image(0) };
        let (app, service): (api::AppName, api::ServiceName) = ("app".parse().unwrap(), "web".parse().unwrap());
        let running = Running {
            env: "prod".parse().unwrap(),
            app: app.clone(),
            service: service.clone(),
            release: release.clone(),
            digest: image(0),
        };
        let recorded = Deployed::Release { release, app, service, image: of, created_at: Micros(1) };
        other.deployed(recorded).await.unwrap();
        let host = "one".parse().unwrap();
        other.deployed(Deployed::Host { host, at: Micros(2), running: vec![running] }).await.unwrap();
        assert_eq!(told().await, (0, 1, vec!["its image waits to be read".to_owned()]));

        other.store().outcome(number, Outcome::Failed("it is broken".to_owned()), Micros(3)).await.unwrap();
        assert_eq!(told().await, (0, 1, vec!["its image was not read: it is broken".to_owned()]));
        other.store().keep(vec![kept(number, entries())], Micros(4)).await.unwrap();
        assert_eq!(told().await, (1, 0, vec![]));

        other.store().left(image(0), repository()).await.unwrap();
        other.store().forget(number).await.unwrap();
        assert_eq!(told().await, (0, 0, vec!["its image is not in the hub's registry".to_owned()]));
        let host = "one".parse().unwrap();
        other.deployed(Deployed::Host { host, at: Micros(5), running: Vec::new() }).await.unwrap();
        assert_eq!(told().await, (0, 0, vec![]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_agrees_with_itself_whatever_changes_meanwhile() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (hub(&db, folder.path(), "one"), hub(&db, folder.path(), "other"));
        let number = other.enters(image(0)).await;
        let changing = async {
            for _ in 0..60 {
                other.store().keep(vec![kept(number, entries())], Micros(1)).await.unwrap();
                other.store().outcome(number, Outcome::Failed("why".to_owned()), Micros(1)).await.unwrap();
            }
        };
        let asking = async {
            for _ in 0..120 {
                let found = one.found(&left_pad()).await;
                // An image is told, or it is told that one was not examined: never neither, never both.
                assert_eq!(found.images.items.len() as u64 + found.images_incomplete, 1, "{found:#?}");
            }
        };
        tokio::join!(changing, asking);
    })
    .await;
}

/// A file of advisories, each on all versions of a package of an ecosystem.
fn advisories(all: &[(&str, &str, &str)]) -> bytes::Bytes {
    let now = "2026-02-01T00:00:00Z".parse().unwrap();
    let mut gathered = Gathered::default();
    let source = gathered.begin("test", now).unwrap();
    for (id, ecosystem, name) in all {
        let text = format!(
            r#"{{"id": "{id}", "modified": "2026-01-02T03:04:05Z", "affected": [{{"package":
               {{"ecosystem": "{ecosystem}", "name": "{name}"}}, "ranges": [{{"type": "ECOSYSTEM",
               "events": [{{"introduced": "0"}}, {{"fixed": "99"}}]}}]}}]}}"#
        );
        gathered.add(source, &Advisory::parse(text.as_bytes()).unwrap(), now).unwrap();
    }
    let (data, records, lists) = gathered.records().unwrap();
    finding::store::encode(&data, &records, &lists).unwrap().into()
}

/// What was found in an image of that release of Debian: a package that owns a Python distribution.
fn owning(release: &str) -> Contents {
    let place = document::Place { layer: None, chain: vec!["/var/lib/dpkg/status".to_owned()] };
    let package = component(Ecosystem::Deb, "python3-jinja2", "3.1.2-1");
    Contents {
        tool: document::Tool { name: "test".to_owned(), version: "1".to_owned() },
        image: document::Image::default(),
        operating_system: Some(document::OperatingSystem {
            id: "debian".to_owned(),
            version: release.to_owned(),
            name: format!("Debian {release}"),
        }),
        components: vec![Found {
            id: "deb/python3-jinja2@3.1.2-1".to_owned(),
            component: package,
            places: vec![place],
            owner: None,
            further: vec![component(Ecosystem::PyPi, "jinja2", "3.1.2")],
            hashes: Vec::new(),
            depends_on: Vec::new(),
            details: document::Details::default(),
            licences: Vec::new(),
        }],
        findings: Vec::new(),
        matched: None,
        secrets: Vec::new(),
        unexamined: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_of_a_package_counts_where_nothing_is_known_of_its_distribution() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let folder = tempfile::tempdir().unwrap();
        let hub = hub(&db, folder.path(), "one");
        let noted = |number: u32, release: &str| Noted {
            repository: repository(),
            tag: String::new(),
            digest: image(number),
            contents: owning(release),
        };
        contents_note(&db, vec![noted(0, "12"), noted(1, "99")], Micros(1)).await.unwrap();
        // An answer that may not be all of it says so.
        let is_comparing = async || hub.found(&Sought::Advisory { id: "CVE-1".to_owned() }).await.is_comparing;
        assert!(!is_comparing().await, "there is nothing to be compared with");
        hub.advisories_take(advisories(&[("CVE-1", "PyPI", "jinja2"), ("CVE-2", "Debian:12", "other")])).await.unwrap();
        assert!(is_comparing().await);
        while hub.advisories_known().await.unwrap().waiting > 0 {
            hub.match_some().await.unwrap();
        }
        assert!(!is_comparing().await);
        let affected = async |id: &str| {
            let found = hub.found(&Sought::Advisory { id: id.to_owned() }).await;
            assert_eq!(found.images_count, found.images.items.len() as u64);
            found.images.items.into_iter().map(|image| image.digest).collect::<Vec<_>>()
        };
        // Of Debian 12 it is known what is wrong with its packages, and this one is not among them.
        assert_eq!(affected("CVE-1").await, [image(1)]);
        // Pages of the images agree with that.
        let findings = async |number: u32| {
            let page = PageQuery::default().request().unwrap();
            hub.findings_page(&image(number), &InsideFilter::default(), &page).await.unwrap().items
        };
        assert_eq!((findings(0).await.len(), findings(1).await.len()), (0, 1));
        assert_eq!(
            findings(1).await[0].first_seen,
            hub.found(&Sought::Advisory { id: "CVE-1".to_owned() }).await.advisory.unwrap().first_seen.unwrap()
        );

        // With advisories on its own distribution it is that package alone; what is kept of pages is not kept beyond them.
        hub.advisories_take(advisories(&[("CVE-1", "PyPI", "jinja2"), ("CVE-3", "Debian:99", "python3-jinja2")]))
            .await
            .unwrap();
        while hub.advisories_known().await.unwrap().waiting > 0 {
            hub.match_some().await.unwrap();
        }
        assert_eq!((affected("CVE-1").await, affected("CVE-3").await), (vec![image(0)], vec![image(1)]));
        let ids = |findings: Vec<api::inspect::Finding>| findings.into_iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(
            (ids(findings(0).await), ids(findings(1).await)),
            (vec!["CVE-1".to_owned()], vec!["CVE-3".to_owned()])
        );
        // What another hub reads anew is looked at anew.
        let mut nothing = noted(1, "99");
        nothing.contents.components.clear();
        contents_note(&db, vec![nothing], Micros(2)).await.unwrap();
        assert_eq!((findings(1).await.len(), affected("CVE-3").await), (0, vec![]));
    })
    .await;
}
