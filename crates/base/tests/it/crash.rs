//! Crashes: a child process is killed without warning, and what it acknowledged must be there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base::db::testing::for_each_database;
use base::db::{self, DatabaseConfig, DbError, Migration, sql};
use futures::FutureExt as _;
use futures::future::join_all;

const CHILD_VARIABLE: &str = "BASE_TEST_CHILD";
const PLACE_VARIABLE: &str = "BASE_TEST_PLACE";

const ROWS: &[Migration] =
    &[Migration { number: 1, name: "rows", sql: "CREATE TABLE pair (a BIGINT PRIMARY KEY, b BIGINT)" }];

/// Long enough that a kill lands inside of it, with its last step only at the end.
const LONG: &[Migration] = &[
    ROWS[0],
    Migration {
        number: 2,
        name: "long",
        sql: "DROP TABLE pair; CREATE TABLE big (n BIGINT);
              WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 5000000) INSERT INTO big SELECT n FROM up;
              CREATE TABLE pair (a BIGINT PRIMARY KEY)",
    },
];

fn config_text(config: &DatabaseConfig) -> String {
    match config {
        DatabaseConfig::Sqlite { folder } => folder.to_str().unwrap().to_owned(),
        DatabaseConfig::Postgres { url } => url.clone(),
    }
}

fn child(name: &str, config: &DatabaseConfig) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("crash::{name}"), "--nocapture"])
        .env(CHILD_VARIABLE, name)
        .env(PLACE_VARIABLE, config_text(config))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The configuration, when this process is the child that plays `name`.
fn as_child(name: &str) -> Option<DatabaseConfig> {
    if std::env::var(CHILD_VARIABLE).ok()? != name {
        return None;
    }
    let place = std::env::var(PLACE_VARIABLE).unwrap();
    Some(if place.starts_with("postgres://") {
        DatabaseConfig::Postgres { url: place }
    } else {
        DatabaseConfig::Sqlite { folder: place.into() }
    })
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn write_forever(config: DatabaseConfig) {
    let db = db::open(&config, "crash", ROWS).await.unwrap();
    let first: i64 = sql("SELECT COUNT(*) AS n FROM pair").one(&db).await.unwrap().get("n").unwrap();
    say("open");
    join_all((0..8i64).map(|writer| {
        let db = db.clone();
        async move {
            for n in 0.. {
                let a = (first + n) * 1000 + writer * 100 + 1;
                // Two rows in one job: never one without the other.
                let done: Result<(), DbError> = db
                    .write(move |tx| {
                        async move {
                            for id in [a, -a] {
                                sql("INSERT INTO pair (a, b) VALUES ($1, $2) ON CONFLICT (a) DO NOTHING")
                                    .bind(id)
                                    .bind(-id)
                                    .execute(tx)
                                    .await?;
                            }
                            Ok(())
                        }
                        .boxed()
                    })
                    .await;
                done.unwrap();
                say(&a.to_string());
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_and_groups_are_whole() {
    const NAME: &str = "what_was_acknowledged_survives_kill_9_and_groups_are_whole";
    if let Some(config) = as_child(NAME) {
        write_forever(config).await;
        return;
    }
    for_each_database(|config| async move {
        for round in 0..6usize {
            let mut child = child(NAME, &config);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            assert!(lines.any(|line| line == "open"));
            let acknowledged: Vec<i64> =
                lines.by_ref().take(17 * round + 3).map(|line| line.parse().unwrap()).collect();
            child.kill().unwrap();
            child.wait().unwrap();
            let db = db::open(&config, "crash", ROWS).await.unwrap();
            for a in acknowledged {
                let row = sql("SELECT b FROM pair WHERE a = $1").bind(a).optional(&db).await.unwrap();
                assert_eq!(row.unwrap_or_else(|| panic!("{a} is lost")).get::<i64>("b").unwrap(), -a);
            }
            let half = sql("SELECT COUNT(*) AS n FROM pair p WHERE NOT EXISTS (SELECT 1 FROM pair q WHERE q.a = p.b)");
            assert_eq!(half.one(&db).await.unwrap().get::<i64>("n").unwrap(), 0);
            db.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a49_a_migration_killed_half_way_leaves_the_old_state() {
    const NAME: &str = "a49_a_migration_killed_half_way_leaves_the_old_state";
    if let Some(config) = as_child(NAME) {
        say("open");
        db::open(&config, "crash", LONG).await.unwrap();
        say("done");
        return;
    }
    for_each_database(|config| async move {
        let db = db::open(&config, "crash", ROWS).await.unwrap();
        let kept: Result<u64, DbError> =
            db.write(|tx| async move { sql("INSERT INTO pair VALUES (1, 2)").execute(tx).await }.boxed()).await;
        kept.unwrap();
        db.close().await;
        let mut child = child(NAME, &config);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "open"));
        tokio::time::sleep(Duration::from_millis(300)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!lines.any(|line| line == "done"), "the migration was over before the kill");
        let db = db::open(&config, "crash", ROWS).await.unwrap();
        assert_eq!(sql("SELECT b FROM pair").one(&db).await.unwrap().get::<i64>("b").unwrap(), 2);
        assert!(sql("SELECT n FROM big").all(&db).await.is_err());
        db.close().await;
    })
    .await;
}
