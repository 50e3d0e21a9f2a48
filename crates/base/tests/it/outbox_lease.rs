//! Outbox and leases on both databases.

use std::future::ready;

use std::time::Duration;

use base::clock::Micros;
use base::db::testing::for_each_backend;
use base::db::{Db, DbError, DbErrorKind};
use base::lease::{Lease, LeaseKeeper};
use base::outbox::{self, OutboxError};
use futures::FutureExt as _;
use futures::future::join_all;

async fn append(db: &Db, number: i64, fails: bool) {
    let outcome = db
        .write(move |tx| {
            async move {
                outbox::append(tx, "test", &number, Micros(number)).await?;
                if fails { Err(DbError::clone(&a_real_error())) } else { Ok(()) }
            }
            .boxed()
        })
        .await;
    assert_eq!(outcome.is_err(), fails);
}

fn a_real_error() -> DbError {
    sqlx::Error::RowNotFound.into()
}

#[tokio::test]
async fn events_are_handed_on_in_order_and_at_least_once() {
    for_each_backend("events", &[], |db| async move {
        join_all((0..30).map(|number| append(&db, number, number % 3 == 0))).await;
        let mut seen = Vec::new();
        let refused = outbox::deliver(&db, |entry| {
            if seen.len() == 7 {
                return ready(Err("enough"));
            }
            seen.push((entry.number, entry.payload::<i64>().unwrap()));
            ready(Ok(()))
        })
        .await;
        assert!(matches!(refused, Err(OutboxError::Consumer { error: "enough", .. })));
        let taken = outbox::deliver(&db, |entry| {
            seen.push((entry.number, entry.payload::<i64>().unwrap()));
            ready(Ok::<_, String>(()))
        })
        .await
        .unwrap();
        assert_eq!(taken, 13);
        assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "{seen:?}");
        let mut payloads: Vec<i64> = seen.iter().map(|(_, payload)| *payload).collect();
        payloads.sort_unstable();
        assert_eq!(payloads, (0..30).filter(|number| number % 3 != 0).collect::<Vec<_>>());
        assert_eq!(outbox::deliver(&db, |_| ready(Ok::<_, String>(()))).await.unwrap(), 0);
    })
    .await;
}

async fn guarded(db: &Db, lease: &Lease) -> Result<(), DbErrorKind> {
    let fence = lease.fence().clone();
    let outcome: Result<(), DbError> = db
        .write(move |tx| {
            let fence = fence.clone();
            async move { fence.check(tx).await }.boxed()
        })
        .await;
    outcome.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_late_holder_is_fenced_off() {
    for_each_backend("leases", &[], |db| async move {
        let ttl = Duration::from_secs(10);
        let at = Micros::from_seconds;
        let racers = join_all((0..8).map(|n| {
            let db = db.clone();
            async move { Lease::acquire(&db, "race", &format!("holder {n}"), ttl, at(0)).await.unwrap() }
        }))
        .await;
        assert_eq!(racers.iter().flatten().count(), 1);

        let first = Lease::acquire(&db, "one", "a", ttl, at(0)).await.unwrap().unwrap();
        assert!(Lease::acquire(&db, "one", "b", ttl, at(9)).await.unwrap().is_none());
        first.renew(at(9)).await.unwrap();
        assert!(Lease::acquire(&db, "one", "b", ttl, at(18)).await.unwrap().is_none());
        guarded(&db, &first).await.unwrap();
        let second = Lease::acquire(&db, "one", "b", ttl, at(19)).await.unwrap().unwrap();
        assert!(second.fence().number() > first.fence().number());
        assert_eq!(guarded(&db, &first).await, Err(DbErrorKind::LeaseLost));
        assert_eq!(first.renew(at(20)).await.unwrap_err().kind(), DbErrorKind::LeaseLost);
        assert_eq!(first.release().await.unwrap_err().kind(), DbErrorKind::LeaseLost);
        guarded(&db, &second).await.unwrap();
        let number = second.fence().number();
        second.release().await.unwrap();
        let third = Lease::acquire(&db, "one", "a", ttl, at(19)).await.unwrap().unwrap();
        assert!(third.fence().number() > number);
    })
    .await;
}

#[tokio::test]
async fn a_keeper_renews_in_time_and_tells_of_others() {
    for_each_backend("leases", &[], |db| async move {
        let ttl = Duration::from_secs(15);
        let at = Micros::from_seconds;
        let keeper = |holder: &str| LeaseKeeper::new(db.clone(), "kept", holder.to_owned(), ttl);
        let (mut first, mut second) = (keeper("a"), keeper("b"));
        let fence = first.fence(at(0)).await.unwrap().unwrap();
        for second_now in (1..=60).step_by(4) {
            assert_eq!(first.fence(at(second_now)).await.unwrap().as_ref(), Some(&fence));
            assert_eq!(second.fence(at(second_now)).await.unwrap(), None);
        }
        let taken_over = second.fence(at(80)).await.unwrap().unwrap();
        assert!(taken_over.number() > fence.number());
        assert_eq!(first.fence(at(80)).await.unwrap(), None, "it was late");
        let again = first.fence(at(100)).await.unwrap().unwrap();
        assert!(again.number() > taken_over.number());
        second.forget();
        assert_eq!(second.fence(at(101)).await.unwrap(), None);
    })
    .await;
}
