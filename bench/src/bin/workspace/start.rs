//! The start of a watch on very many files, beside inotifywait.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bench::median;
use bench::report::Row;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use workspace::watch::{Action, After, Rule, ServiceRules, Watcher};

const FILES: usize = 200_000;
const FILES_IN_FOLDER: usize = 20;
const ROUNDS: usize = 5;
const SECONDS_MAX: f64 = 2.0;

pub(crate) async fn start(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let project = folder.join("watched");
    for number in 0..FILES {
        let folder = project.join(format!("src/m{}/p{}", number % 100, number % (FILES / FILES_IN_FOLDER)));
        if number < FILES / FILES_IN_FOLDER {
            std::fs::create_dir_all(&folder)?;
        }
        std::fs::write(folder.join(format!("f{number}.py")), "x")?;
    }
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let state = folder.join(format!("watched-state{round}"));
        let begun = Instant::now();
        let watcher = Watcher::start(&project, &state, rules(&project)).await?;
        ours.push(begun.elapsed().as_secs_f64());
        ensure!(watcher.paths() >= FILES, "only {} are watched", watcher.paths());
        drop(watcher);
        peer.push(inotifywait(&project).await?);
    }
    let value = median(ours);
    Ok(vec![Row {
        row: format!("watch start on {FILES} files"),
        value,
        unit: "seconds".to_owned(),
        peer: "inotifywait".to_owned(),
        peer_value: Some(median(peer)),
        target: format!("<= {SECONDS_MAX}"),
        holds: Some(value <= SECONDS_MAX),
    }])
}

/// As a project has them: what it syncs, less what a tool leaves behind.
fn rules(project: &Path) -> Vec<ServiceRules> {
    let ignore = ["**/__pycache__/", "**/*.pyc", "node_modules/"].map(str::to_owned).to_vec();
    let action = Action::Sync { target: "/srv".to_owned(), initial: false, then: After::Nothing };
    let rule = Rule { path: project.join("src"), action, ignore, include: Vec::new() };
    let build = Some((project.to_owned(), "Dockerfile".to_owned()));
    vec![ServiceRules { service: "web".to_owned(), build, rules: vec![rule] }]
}

async fn inotifywait(folder: &Path) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut command = Command::new("inotifywait");
    command.args(["--monitor", "--recursive"]).arg(folder).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stderr.take().context("its errors can be read")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("Watches established") {
            let took = begun.elapsed().as_secs_f64();
            child.kill().await?;
            return Ok(took);
        }
    }
    anyhow::bail!("inotifywait ended without watching")
}
