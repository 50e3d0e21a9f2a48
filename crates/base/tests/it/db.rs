//! The database contract, on SQLite and PostgreSQL alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base::clock::Micros;
use base::db::testing::{for_each_backend, for_each_database};
use base::db::{self, DbError, DbErrorKind, Migration, Tx, sql};
use futures::FutureExt as _;
use futures::future::join_all;

const COUNTERS: &[Migration] = &[Migration {
    number: 1,
    name: "counters",
    sql: "CREATE TABLE counter (name TEXT PRIMARY KEY, value BIGINT NOT NULL CHECK (value >= 0));
          CREATE TABLE thing (id BIGINT PRIMARY KEY, counter TEXT REFERENCES counter (name), bytes BYTEA, seen_at BIGINT, ok BIGINT);",
}];

async fn insert(tx: &mut Tx, name: &str, value: i64) -> Result<u64, DbError> {
    sql("INSERT INTO counter (name, value) VALUES ($1, $2)").bind(name).bind(value).execute(tx).await
}

async fn count(db: &db::Db) -> i64 {
    sql("SELECT COUNT(*) AS n FROM counter").one(db).await.unwrap().get("n").unwrap()
}

#[tokio::test]
async fn values_of_every_type_and_null_come_back() {
    for_each_backend("things", COUNTERS, |db| async move {
        db.write(|tx| {
            async move {
                insert(tx, "a", 1).await?;
                for (id, null) in [(1, false), (2, true)] {
                    sql("INSERT INTO thing (id, counter, bytes, seen_at, ok) VALUES ($1, $2, $3, $4, $5)")
                        .bind(id)
                        .bind((!null).then_some("a"))
                        .bind((!null).then_some(vec![0u8, 255]))
                        .bind((!null).then_some(Micros(7)))
                        .bind((!null).then_some(true))
                        .execute(tx)
                        .await?;
                }
                Ok::<_, DbError>(())
            }
            .boxed()
        })
        .await
        .unwrap();
        let rows = sql("SELECT * FROM thing WHERE id < $1 ORDER BY id").bind(9i64).all(&db).await.unwrap();
        assert_eq!(rows[0].get::<String>("counter").unwrap(), "a");
        assert_eq!(rows[0].get::<Option<Vec<u8>>>("bytes").unwrap(), Some(vec![0, 255]));
        assert_eq!(rows[0].get::<Micros>("seen_at").unwrap(), Micros(7));
        assert!(rows[0].get::<bool>("ok").unwrap());
        assert_eq!(rows[1].get::<Option<String>>("counter").unwrap(), None);
        assert_eq!(rows[1].get::<Option<Vec<u8>>>("bytes").unwrap(), None);
        assert_eq!(rows[1].get::<Option<Micros>>("seen_at").unwrap(), None);
        assert_eq!(rows[1].get::<bool>("ok").unwrap_err().kind(), DbErrorKind::Decode);
        assert_eq!(rows[1].get::<i64>("absent").unwrap_err().kind(), DbErrorKind::Decode);
        assert_eq!(rows[0].get::<i64>("counter").unwrap_err().kind(), DbErrorKind::Decode);
        let none = sql("SELECT id FROM thing WHERE id = 9").one(&db).await.unwrap_err();
        assert_eq!(none.kind(), DbErrorKind::RowCount);
        let narrow = sql("SELECT 1 AS one, (1 = 1) AS yes").one(&db).await.unwrap();
        assert_eq!((narrow.get::<i64>("one").unwrap(), narrow.get::<bool>("yes").unwrap()), (1, true));
        assert!(sql("INSERT INTO counter (name, value) VALUES ('x', 1) RETURNING name").all(&db).await.is_err());
        assert_eq!(count(&db).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_list_of_every_type_is_one_value() {
    for_each_backend("lists", COUNTERS, |db| async move {
        let awkward = ["", "\"", "\\", "{}", "NULL", "a,b", "é\u{1f}"];
        db.write(move |tx| {
            async move {
                for (at, name) in (1i64..).zip(awkward) {
                    insert(tx, name, at).await?;
                    let bytes = vec![0u8, at as u8];
                    let statement = sql("INSERT INTO thing (id, bytes, counter) VALUES ($1, $2, $3)");
                    statement.bind(at).bind(bytes).bind(name).execute(tx).await?;
                }
                Ok::<_, DbError>(())
            }
            .boxed()
        })
        .await
        .unwrap();
        let ids = |rows: Vec<db::Row>| rows.iter().map(|row| row.get("id").unwrap()).collect::<Vec<i64>>();
        // The tenth slot begins as the first does.
        let numbers = sql("SELECT id FROM thing WHERE id = ANY($1) AND id > $2 AND id > $3 AND id > $4 AND id > $5 \
             AND id > $6 AND id > $7 AND id > $8 AND id > $9 AND id = ANY($10) ORDER BY id");
        let numbers = (2..10).fold(numbers.bind(&[1i64, 3, 5, i64::MAX][..]), |statement, _| statement.bind(0i64));
        assert_eq!(ids(numbers.bind(&[3i64, 5, 7][..]).all(&db).await.unwrap()), [3, 5]);
        let texts: Vec<String> = awkward.iter().skip(1).map(|text| (*text).to_owned()).collect();
        let named = sql("SELECT id FROM thing WHERE counter = ANY($1) ORDER BY id").bind(&texts[..]);
        assert_eq!(ids(named.all(&db).await.unwrap()), [2, 3, 4, 5, 6, 7]);
        let bytes = sql("SELECT id FROM thing WHERE bytes = ANY($1) ORDER BY id");
        let bytes = bytes.bind(&[vec![0u8, 2], vec![0, 6], vec![], vec![0, 99]][..]);
        assert_eq!(ids(bytes.all(&db).await.unwrap()), [2, 6]);
        let none = sql("SELECT id FROM thing WHERE id = ANY($1)").bind(&[0i64; 0][..]);
        assert!(ids(none.all(&db).await.unwrap()).is_empty());
    })
    .await;
}

#[tokio::test]
async fn text_is_ordered_and_compared_by_bytes() {
    for_each_backend("ordered", COUNTERS, |db| async move {
        let bytewise = ["1", "B", "_x", "a", "a-b", "a.b", "ab", "é"];
        db.write(move |tx| {
            async move {
                for name in bytewise.iter().rev() {
                    insert(tx, name, 0).await?;
                }
                Ok::<_, DbError>(())
            }
            .boxed()
        })
        .await
        .unwrap();
        for (at, after) in std::iter::once("").chain(bytewise).enumerate() {
            let rows =
                sql("SELECT name FROM counter WHERE name > $1 ORDER BY name").bind(after).all(&db).await.unwrap();
            let names: Vec<String> = rows.iter().map(|row| row.get("name").unwrap()).collect();
            assert_eq!(names, bytewise[at..], "after {after:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_failing_job_undoes_only_itself() {
    for_each_backend("counters", COUNTERS, |db| async move {
        let jobs = (0..40i64).map(|n| {
            let db = db.clone();
            async move {
                let outcome: Result<(), DbError> = db
                    .write(move |tx| {
                        async move {
                            insert(tx, &format!("job {n}"), n).await?;
                            match n % 4 {
                                1 => insert(tx, &format!("job {n}"), n).await.map(drop),
                                2 => panic!("as the test wants"),
                                3 => {
                                    // A failure that the job ignores must not be committed either.
                                    let refused = insert(tx, "negative", -1).await;
                                    assert_eq!(refused.unwrap_err().kind(), DbErrorKind::CheckViolation);
                                    Ok(())
                                }
                                _ => Ok(()),
                            }
                        }
                        .boxed()
                    })
                    .await;
                (n % 4, outcome.map_err(|error| error.kind()))
            }
        });
        for (kind, outcome) in join_all(jobs).await {
            let wanted = match kind {
                0 => Ok(()),
                1 => Err(DbErrorKind::UniqueViolation),
                2 => Err(DbErrorKind::Panicked),
                _ => Err(DbErrorKind::CheckViolation),
            };
            assert_eq!(outcome, wanted);
        }
        assert_eq!(count(&db).await, 10);
    })
    .await;
}

#[tokio::test]
async fn concurrent_increments_are_serialisable() {
    for_each_backend("counters", COUNTERS, |db| async move {
        db.write(|tx| insert_owned(tx).boxed()).await.unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let increments = (0..60).map(|_| {
            let (db, runs) = (db.clone(), Arc::clone(&runs));
            async move {
                db.write::<_, DbError, _>(move |tx| {
                    let runs = Arc::clone(&runs);
                    async move {
                        runs.fetch_add(1, Ordering::Relaxed);
                        // Read and write apart, so that only isolation keeps an increment from being lost.
                        let value: i64 =
                            sql("SELECT value FROM counter WHERE name = 'n'").one(tx).await?.get("value")?;
                        tokio::task::yield_now().await;
                        sql("UPDATE counter SET value = $1 WHERE name = 'n'").bind(value + 1).execute(tx).await
                    }
                    .boxed()
                })
                .await
            }
        });
        for outcome in join_all(increments).await {
            assert_eq!(outcome.unwrap(), 1);
        }
        let value: i64 = sql("SELECT value FROM counter").one(&db).await.unwrap().get("value").unwrap();
        assert_eq!(value, 60, "after {} runs", runs.load(Ordering::Relaxed));
    })
    .await;
}

async fn insert_owned(tx: &mut Tx) -> Result<u64, DbError> {
    insert(tx, "n", 0).await
}

#[tokio::test]
async fn a49_data_of_a_newer_or_other_version_is_refused() {
    const TWO: &[Migration] =
        &[COUNTERS[0], Migration { number: 2, name: "more", sql: "CREATE TABLE more (id BIGINT)" }];
    const OTHER: &[Migration] = &[Migration { number: 1, name: "counters", sql: "CREATE TABLE counter (name TEXT)" }];
    const GAP: &[Migration] = &[Migration { number: 2, name: "gap", sql: "SELECT 1" }];
    for_each_database(|config| async move {
        let db = db::open(&config, "counters", COUNTERS).await.unwrap();
        db.write(|tx| insert_owned(tx).boxed()).await.unwrap();
        db.close().await;
        assert_eq!(db::open(&config, "counters", OTHER).await.err().unwrap().kind(), DbErrorKind::ChangedMigration);
        assert_eq!(db::open(&config, "counters", GAP).await.err().unwrap().kind(), DbErrorKind::Migration);
        let db = db::open(&config, "counters", TWO).await.unwrap();
        assert_eq!(count(&db).await, 1);
        db.close().await;
        let newer = db::open(&config, "counters", COUNTERS).await.err().unwrap();
        assert_eq!(newer.kind(), DbErrorKind::NewerSchema);
        assert_eq!(
            newer.to_string(),
            "the data of `counters` has schema 2, and this version of the program knows only 1"
        );
        assert!(newer.hint().unwrap().starts_with("start the newer version"));
        db::open(&config, "counters", TWO).await.unwrap().close().await;
    })
    .await;
}

#[tokio::test]
async fn a49_a_migration_that_fails_half_way_leaves_the_old_state() {
    const BROKEN: &[Migration] = &[
        COUNTERS[0],
        Migration {
            number: 2,
            name: "fine",
            sql: "CREATE TABLE fine (id BIGINT); INSERT INTO counter VALUES ('kept', 1)",
        },
        Migration {
            number: 3,
            name: "broken",
            sql: "DROP TABLE thing; CREATE TABLE late (id BIGINT); SELECT nonsense FROM nowhere",
        },
    ];
    for_each_database(|config| async move {
        db::open(&config, "counters", COUNTERS).await.unwrap().close().await;
        let error = db::open(&config, "counters", BROKEN).await.err().unwrap();
        assert_eq!(error.kind(), DbErrorKind::Migration);
        assert!(error.to_string().starts_with("migration 3 (broken) of `counters` failed and was undone"), "{error}");
        let db = db::open(&config, "counters", COUNTERS).await.unwrap();
        assert_eq!(count(&db).await, 0);
        assert!(sql("SELECT id FROM thing").all(&db).await.unwrap().is_empty());
        assert_eq!(sql("SELECT id FROM late").all(&db).await.unwrap_err().kind(), DbErrorKind::Query);
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn many_openers_at_once_migrate_once() {
    for_each_database(|config| async move {
        let opened = join_all((0..6).map(|_| db::open(&config, "counters", COUNTERS))).await;
        for db in opened {
            assert_eq!(count(&db.unwrap()).await, 0);
        }
    })
    .await;
}

#[tokio::test]
async fn waiting_jobs_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let config = db::DatabaseConfig::Sqlite { folder: folder.path().to_owned() };
    let db = db::open(&config, "counters", COUNTERS).await.unwrap();
    let log = folder.path().join("counters.sqlite-wal");
    let frames_before = std::fs::metadata(&log).unwrap().len();
    let write = |n: i64| {
        let db = db.clone();
        async move {
            db.write::<_, DbError, _>(move |tx| async move { insert(tx, &format!("{n:04}"), n).await }.boxed())
                .await
                .unwrap()
        }
    };
    join_all((0..200).map(write)).await;
    let together = std::fs::metadata(&log).unwrap().len() - frames_before;
    for n in 200..400 {
        write(n).await;
    }
    let apart = std::fs::metadata(&log).unwrap().len() - frames_before - together;
    // Every commit writes whole pages to the log, so its growth counts the commits.
    assert!(together * 5 < apart, "{together} bytes for 200 jobs together, {apart} one after another");
    assert_eq!(count(&db).await, 400);
    db.close().await;
}

#[tokio::test]
async fn a_job_nobody_waits_for_any_more_and_a_closed_database() {
    for_each_database(|config| async move {
        let db = db::open(&config, "counters", COUNTERS).await.unwrap();
        let job = db.write(|tx| insert_owned(tx).boxed());
        drop(tokio::time::timeout(std::time::Duration::ZERO, job).await);
        db.close().await;
        let error = db.write(|tx| insert_owned(tx).boxed()).await.unwrap_err();
        assert_eq!(error.kind(), DbErrorKind::Unavailable);
        // Cancelled half way it was done whole or not at all, and what holds on to nothing lets the next one in.
        let db = db::open(&config, "counters", COUNTERS).await.unwrap();
        assert!(count(&db).await <= 1);
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_database_that_cannot_be_had_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let inside_a_file = db::DatabaseConfig::Sqlite { folder: file.join("data") };
    let nowhere = db::DatabaseConfig::Postgres {
        url: format!("postgres://someone:secret@localhost/x?host={}", folder.path().display()),
    };
    std::fs::write(folder.path().join("damaged.sqlite"), [b'x'; 4096]).unwrap();
    let damaged = db::DatabaseConfig::Sqlite { folder: folder.path().to_owned() };
    for (config, context) in [(inside_a_file, "counters"), (nowhere, "counters"), (damaged, "damaged")] {
        let error = db::open(&config, context, COUNTERS).await.err().unwrap();
        assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
        assert!(error.hint().is_some() && !format!("{error} {error:?} {config:?}").contains("secret"), "{error:?}");
    }
}

async fn on(snapshot: &db::Snapshot) -> i64 {
    sql("SELECT COUNT(*) AS n FROM counter").one(snapshot).await.unwrap().get("n").unwrap()
}

#[tokio::test]
async fn all_reads_of_a_snapshot_see_what_its_first_saw() {
    for_each_backend("snapshots", COUNTERS, |db| async move {
        let put = async |name: &'static str| {
            db.write(move |tx| async move { insert(tx, name, 1).await }.boxed()).await.unwrap();
        };
        put("a").await;
        let reading = db.clone();
        let read = db.read(move |snapshot| {
            let db = reading;
            let read = async move {
                let put = async |name: &'static str| {
                    db.write(move |tx| async move { insert(tx, name, 1).await }.boxed()).await.unwrap();
                };
                put("b").await;
                assert_eq!(on(snapshot).await, 2, "the first read sees what was acknowledged before it");
                put("c").await;
                assert_eq!((on(snapshot).await, count(&db).await), (2, 3));
                let changing = sql("INSERT INTO counter (name, value) VALUES ('x', 1) RETURNING name");
                assert!(changing.all(snapshot).await.is_err(), "a snapshot changes nothing");
                Ok::<_, DbError>(())
            };
            read.boxed()
        });
        read.await.unwrap();
        // A connection that is given back sees the present again.
        for _ in 0..20 {
            let read = db.read(|snapshot| async move { Ok::<_, DbError>(on(snapshot).await) }.boxed());
            assert_eq!(read.await.unwrap(), 3);
        }
        let panicking = db.read(|_| -> futures::future::BoxFuture<'_, Result<(), DbError>> { panic!("a job panics") });
        assert_eq!(panicking.await.unwrap_err().kind(), DbErrorKind::Panicked);
        assert_eq!(count(&db).await, 3);
    })
    .await;
}
