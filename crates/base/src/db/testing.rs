//! Test support for stores: the same test on SQLite in a temporary folder and on a real PostgreSQL.
//!
//! PostgreSQL is the server of `LONGSHORE_TEST_POSTGRES_URL`, or, when that is not set, a private one that
//! `scripts/postgres-for-tests` starts and that ends with the test process. A machine without PostgreSQL fails the test.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "only tests call this, and they fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use super::{DatabaseConfig, Db, Migration};

/// The URL of a server on which databases may be made, with a user who may make them.
pub const POSTGRES_URL_VARIABLE: &str = "LONGSHORE_TEST_POSTGRES_URL";

/// Options of a database whose own order of text (`_x`, `1`, `a`, `B`) is not that of bytes, as on many real servers: no
/// store may lean on what a test server happens to be set up with. Needs PostgreSQL 15.
const FOREIGN_ORDER: &str =
    "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'und' LC_COLLATE 'C' LC_CTYPE 'C'";

/// Runs the test on a new, empty database of each kind.
///
/// # Panics
/// When the test does, or when a database cannot be had.
pub async fn for_each_backend<F, Fut>(context: &'static str, migrations: &'static [Migration], test: F)
where
    F: Fn(Db) -> Fut,
    Fut: Future<Output = ()>,
{
    for_each_database(|config| {
        let test = &test;
        async move {
            let db = super::open(&config, context, migrations).await.expect("the database opens");
            test(db.clone()).await;
            db.close().await;
        }
    })
    .await;
}

/// Runs the test with the address of a new, empty database of each kind, for tests that open it themselves.
///
/// # Panics
/// When the test does, or when a database cannot be had.
pub async fn for_each_database<F, Fut>(test: F)
where
    F: Fn(DatabaseConfig) -> Fut,
    Fut: Future<Output = ()>,
{
    eprintln!("on SQLite");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    test(DatabaseConfig::Sqlite { folder: folder.path().to_owned() }).await;

    eprintln!("on PostgreSQL");
    let database = TestDatabase::create().await;
    test(DatabaseConfig::Postgres { url: database.url.clone() }).await;
    database.drop().await;
}

/// A PostgreSQL database for one test.
pub struct TestDatabase {
    name: String,
    /// Its address.
    pub url: String,
}

impl TestDatabase {
    /// Makes an empty database.
    ///
    /// # Panics
    /// When there is no PostgreSQL.
    pub async fn create() -> Self {
        let name = format!("test_{:016x}", rand::random::<u64>());
        admin(format!("CREATE DATABASE {name} {FOREIGN_ORDER}")).await;
        let mut url = url::Url::parse(server_url()).expect("the test server's URL is a URL");
        url.set_path(&name);
        Self { name, url: url.into() }
    }

    /// Removes the database.
    ///
    /// # Panics
    /// When there is no PostgreSQL.
    pub async fn drop(self) {
        admin(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await;
    }
}

async fn admin(statement: String) {
    let options: sqlx::postgres::PgConnectOptions = server_url().parse().expect("the test server's URL is valid");
    let mut connection = options
        .disable_statement_logging()
        .connect()
        .await
        .unwrap_or_else(|error| panic!("the PostgreSQL of {POSTGRES_URL_VARIABLE} cannot be reached: {error}"));
    connection.execute(AssertSqlSafe(statement)).await.expect("the test server makes and drops databases");
    connection.close().await.expect("the connection closes");
}

struct Private {
    url: String,
    /// Stops the server when its standard input closes, which happens however this process ends.
    _guard: Child,
}

fn server_url() -> &'static str {
    static GIVEN: OnceLock<Option<String>> = OnceLock::new();
    static PRIVATE: OnceLock<Private> = OnceLock::new();
    match GIVEN.get_or_init(|| std::env::var(POSTGRES_URL_VARIABLE).ok().filter(|url| !url.is_empty())) {
        Some(url) => url,
        None => &PRIVATE.get_or_init(start_private).url,
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/postgres-for-tests")
}

fn start_private() -> Private {
    let folder = std::env::temp_dir().join(format!("longshore-test-postgres-{}", std::process::id()));
    let output =
        Command::new(script()).arg("start").arg(&folder).output().expect("scripts/postgres-for-tests can be run");
    assert!(
        output.status.success(),
        "PostgreSQL for tests did not start:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let guard = Command::new("sh")
        .args(["-c", r#"trap "" INT TERM HUP; read -r _; "$0" stop "$1""#])
        .arg(script())
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be run");
    Private { url: String::from_utf8_lossy(&output.stdout).trim().to_owned(), _guard: guard }
}
