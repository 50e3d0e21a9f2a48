//! The store on SQLite and on PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use api::pipeline::{BuildRequest, Provenance, Run, RunLogLine, RunState};
use api::{AppName, Micros, ServiceName};
use base::db::testing::for_each_backend;
use base::lease::Lease;
use oci::Digest;
use pipeline::store::{BuiltImage, Store};
use pipeline::{Error, MIGRATIONS};

fn run() -> Run {
    Run {
        id: uuid::Uuid::now_v7().to_string(),
        request: BuildRequest {
            repository: "/x".into(),
            reference: "main".into(),
            folder: String::new(),
            services: vec![],
        },
        app: None,
        commit: None,
        state: RunState::Queued,
        error: None,
        builds: vec![],
        created_at: Micros(1),
        finished_at: None,
    }
}

fn line(number: u64) -> RunLogLine {
    RunLogLine { number, at: Micros(5), service: None, text: format!("line {number}") }
}

async fn lease(store: &Store, holder: &str, now: i64) -> Option<Lease> {
    Lease::acquire(store.db(), "runs", holder, Duration::from_secs(10), Micros::from_seconds(now)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_claimed_in_order_and_queued_again_when_nobody_works_on_them() {
    for_each_backend("pipeline", MIGRATIONS, |db| async move {
        let store = Store::new(db);
        let (first, second) = (run(), run());
        store.run_queue(&first, 2).await.unwrap();
        store.run_queue(&second, 2).await.unwrap();
        assert!(matches!(store.run_queue(&run(), 2).await, Err(Error::QueueFull { runs_max: 2 })));

        let held = lease(&store, "one", 0).await.unwrap();
        let (claimed, attempts) = store.run_claim(held.fence()).await.unwrap().unwrap();
        assert_eq!((&claimed.id, attempts, claimed.state), (&first.id, 1, RunState::Running));
        assert_eq!(store.runs_requeue(held.fence(), vec![first.id.clone()]).await.unwrap(), 0);
        assert_eq!(store.runs_requeue(held.fence(), vec![]).await.unwrap(), 1);
        let (mut claimed, attempts) = store.run_claim(held.fence()).await.unwrap().unwrap();
        assert_eq!((&claimed.id, attempts), (&first.id, 2));

        // Whoever lost the lease neither claims nor queues again.
        let other = lease(&store, "two", 20).await.unwrap();
        assert!(store.run_claim(held.fence()).await.is_err());
        assert!(store.runs_requeue(held.fence(), vec![]).await.is_err());
        assert_eq!(store.run_claim(other.fence()).await.unwrap().unwrap().0.id, second.id);
        assert!(store.run_claim(other.fence()).await.unwrap().is_none());

        claimed.app = Some("shop".parse().unwrap());
        claimed.state = RunState::Succeeded;
        store.run_save(&claimed).await.unwrap();
        assert_eq!(store.run_get(&first.id).await.unwrap().as_ref(), Some(&claimed));
        // What has ended does not come back.
        store.run_save(&Run { state: RunState::Running, ..claimed.clone() }).await.unwrap();
        assert_eq!(store.run_get(&first.id).await.unwrap().unwrap().state, RunState::Succeeded);

        let shop: AppName = "shop".parse().unwrap();
        let ids = |runs: Vec<Run>| runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
        assert_eq!(ids(store.run_list(None, None, 10).await.unwrap()), [second.id.clone(), first.id.clone()]);
        assert_eq!(ids(store.run_list(None, Some(&second.id), 10).await.unwrap()), std::slice::from_ref(&first.id));
        assert_eq!(ids(store.run_list(Some(&shop), None, 10).await.unwrap()), std::slice::from_ref(&first.id));
        assert_eq!(ids(store.run_list(None, None, 1).await.unwrap()), [second.id]);
        assert!(store.run_get("none").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_from_any_line_on() {
    for_each_backend("pipeline", MIGRATIONS, |db| async move {
        let store = Store::new(db);
        let run = run();
        store.run_queue(&run, 10).await.unwrap();
        assert_eq!(store.log_end(&run.id).await.unwrap(), 0);
        for batch in [0..3, 3..4, 4..40] {
            store.log_append(&run.id, &batch.map(line).collect::<Vec<_>>()).await.unwrap();
        }
        store.log_append(&run.id, &[]).await.unwrap();
        assert_eq!(store.log_end(&run.id).await.unwrap(), 40);
        for from in [0, 1, 3, 4, 39, 40, 1000] {
            let mut lines = Vec::new();
            loop {
                let next = lines.last().map_or(from, |line: &RunLogLine| line.number + 1);
                let more = store.log_read(&run.id, next).await.unwrap();
                if more.is_empty() {
                    break;
                }
                lines.extend(more);
            }
            assert_eq!(lines, (from..40).map(line).collect::<Vec<_>>());
        }
        // A line has one number for ever.
        assert!(store.log_append(&run.id, &[line(3)]).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_by_their_inputs_and_the_last_used_one_is_known() {
    for_each_backend("pipeline", MIGRATIONS, |db| async move {
        let store = Store::new(db);
        let (app, service): (AppName, ServiceName) = ("shop".parse().unwrap(), "web".parse().unwrap());
        let image = |inputs: &str| BuiltImage {
            digest: Digest::sha256_of(b"image"),
            context: "web".into(),
            dockerfile: "Dockerfile".into(),
            provenance: Provenance {
                run: "r".into(),
                repository: "/x".into(),
                commit: "c".into(),
                builder: "b".into(),
                inputs_digest: Digest::sha256_of(inputs.as_bytes()),
                inputs: BTreeMap::new(),
                reason: inputs.into(),
                started_at: Micros(1),
                finished_at: Micros(2),
                statement: None,
            },
        };
        assert!(store.image_latest(&app, &service).await.unwrap().is_none());
        store.image_put(&app, &service, &image("one"), Micros(1)).await.unwrap();
        store.image_put(&app, &service, &image("two"), Micros(2)).await.unwrap();
        assert_eq!(store.image_latest(&app, &service).await.unwrap(), Some(image("two")));
        store.image_put(&app, &service, &image("one"), Micros(3)).await.unwrap();
        assert_eq!(store.image_latest(&app, &service).await.unwrap(), Some(image("one")));
        let two = Digest::sha256_of(b"two");
        assert_eq!(store.image_get(&app, &service, &two).await.unwrap(), Some(image("two")));
        assert!(store.image_get(&app, &"other".parse().unwrap(), &two).await.unwrap().is_none());
    })
    .await;
}
