//! What `where` answers while others change what it is asked about.

use api::Micros;
use api::delivery::{Deployed, ImageAddress, Running};
use api::inspect::Sought;
use base::db::testing::for_each_backend;

use super::super::store::{CONTEXT, MIGRATIONS, Outcome};
use super::super::testing::{component, entry, hub, image, kept, repository};
use crate::component::Ecosystem;

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
