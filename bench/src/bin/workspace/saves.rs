//! From a save to what is served: copied into the container, and with a restart.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bench::report::Row;
use bench::{median, quantile};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RestartContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};

use crate::laptop::{Laptop, timed};

const SYNCS: usize = 60;
const RESTARTS: usize = 12;
const SYNC_SECONDS_MAX: f64 = 0.3;
const RESTART_RATIO_MAX: f64 = 1.2;
const GRACE_SECONDS: i32 = 10;
/// Keeps in memory what it read when it began.
const SERVER: &str = r#"import http.server
page = open("/srv/app/page", "rb").read()
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
"#;
const STATIC_PAGE: &str = "http://127.0.0.1:8090/page";
const APP_PAGE: &str = "http://127.0.0.1:8091/";

fn compose() -> String {
    "services:
  static:
    build: .
    command: [python3, -m, http.server, '8000', --directory, /srv/static]
    init: true
    ports: ['8090:8000']
    develop: {watch: [{path: ./static, action: sync, target: /srv/static}]}
  app:
    build: .
    command: [python3, /srv/app/server.py]
    init: true
    ports: ['8091:8000']
    develop: {watch: [{path: ./app, action: sync+restart, target: /srv/app}]}
"
    .to_owned()
}

/// `python` is an image that has Python.
pub(crate) async fn saves(laptop: &Laptop, python: &str) -> anyhow::Result<Vec<Row>> {
    let folder = project(laptop, python)?;
    let mut up = laptop.longshore(&folder, "up").stderr(std::process::Stdio::null()).spawn()?;
    laptop.page(STATIC_PAGE, |text| text == "first").await?;
    laptop.page(APP_PAGE, |text| text == "first").await?;
    let (mut sync, mut sync_bare) = (Vec::new(), Vec::new());
    for number in 0..=SYNCS {
        let (saved, put) = (format!("saved {number}"), format!("put {number}"));
        let file = folder.join("static/page");
        let seconds = saved_to_served(laptop, &file, &saved, STATIC_PAGE).await?;
        let begun = Instant::now();
        put_file(laptop, "static", "/srv/static", &put).await?;
        laptop.page(STATIC_PAGE, |text| text == put).await?;
        // The first finds the watch just begun.
        if number > 0 {
            sync.push(seconds);
            sync_bare.push(begun.elapsed().as_secs_f64());
        }
    }
    let (mut restart, mut restart_bare) = (Vec::new(), Vec::new());
    for number in 0..RESTARTS {
        let (saved, put) = (format!("saved {number}"), format!("put {number}"));
        restart.push(saved_to_served(laptop, &folder.join("app/page"), &saved, APP_PAGE).await?);
        let begun = Instant::now();
        let id = put_file(laptop, "app", "/srv/app", &put).await?;
        let options = RestartContainerOptionsBuilder::default().t(GRACE_SECONDS).build();
        laptop.docker.restart_container(&id, Some(options)).await?;
        laptop.page(APP_PAGE, |text| text == put).await?;
        restart_bare.push(begun.elapsed().as_secs_f64());
    }
    ensure!(up.try_wait()?.is_none(), "`longshore up` ended");
    up.kill().await?;
    timed(laptop.longshore(&folder, "down")).await?;
    laptop.tidy().await?;

    let (slow, slow_bare) = (quantile(sync, 0.95), quantile(sync_bare, 0.95));
    let (again, again_bare) = (median(restart), median(restart_bare));
    let row = |row: &str, value, peer_value, target: String, holds| Row {
        row: row.to_owned(),
        value,
        unit: "seconds".to_owned(),
        peer: "bare API calls".to_owned(),
        peer_value: Some(peer_value),
        target,
        holds: Some(holds),
    };
    Ok(vec![
        row("save to served by sync, p95", slow, slow_bare, format!("<= {SYNC_SECONDS_MAX}"), slow <= SYNC_SECONDS_MAX),
        row(
            "save to served by restart",
            again,
            again_bare,
            format!("<= {RESTART_RATIO_MAX} x bare calls"),
            again <= RESTART_RATIO_MAX * again_bare,
        ),
    ])
}

fn project(laptop: &Laptop, python: &str) -> anyhow::Result<PathBuf> {
    let folder = laptop.project("saves", &compose())?;
    for (path, text) in [
        ("Dockerfile", format!("FROM {python}\nUSER root\nCOPY static /srv/static\nCOPY app /srv/app\n")),
        ("static/page", "first".to_owned()),
        ("app/page", "first".to_owned()),
        ("app/server.py", SERVER.to_owned()),
    ] {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(folder)
}

async fn saved_to_served(laptop: &Laptop, file: &Path, text: &str, url: &str) -> anyhow::Result<f64> {
    let begun = Instant::now();
    std::fs::write(file, text)?;
    laptop.page(url, |page| page == text).await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Puts the page into the service's container, and gives the container's id.
async fn put_file(laptop: &Laptop, service: &str, folder: &str, text: &str) -> anyhow::Result<String> {
    let label = format!("dev.longshore.service={service}");
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListContainersOptionsBuilder::default().filters(&filters).build();
    let found = laptop.docker.list_containers(Some(options)).await?.into_iter().find_map(|found| found.id);
    let id = found.with_context(|| format!("{service} does not run"))?;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "page", text.as_bytes())?;
    let options = UploadToContainerOptionsBuilder::default().path(folder).build();
    let body = bollard::body_full(archive.into_inner()?.into());
    laptop.docker.upload_to_container(&id, Some(options), body).await?;
    Ok(id)
}
