//! The corpus of projects of the kinds found in public, on a real engine: each is brought up, looked at, and taken down.
//!
//! Every image and build is a stand-in's (see `stand_in`); what else a project says stays as it is, but for pauses between
//! healthchecks. The files for that lie over each project's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use ::workspace::project::Checkout;
use anyhow::{Context as _, bail, ensure};
use bollard::Docker;
use futures::StreamExt as _;
use serde_json::Value;

use crate::lone::Lone;
use crate::scene::{LIMIT, folder, on_engine, workspace_of};
use crate::workspace::{Laptop, Said};

/// Projects at work side by side.
const AT_ONCE: usize = 4;
/// Projects that must run, and those that the corpus has for running.
const RUNNING_MIN: usize = 50;
const PROJECTS: usize = 53;
/// What some machines cannot do: the project, and what `up` then says.
const CANNOT: [(&str, &str); 4] = [
    // Privileged: an engine that has not every capability itself, as in a container, cannot give them.
    ("home-assistant", "unable to apply caps: operation not permitted"),
    ("prometheus-grafana", "unable to apply caps: operation not permitted"),
    // All file systems of the machine as a slave: where / is private, the engine refuses that.
    ("prometheus-grafana", "it is not a shared or slave mount"),
    // An address of IPv6 on the loopback, which machines without IPv6 do not have.
    ("ipv6", "cannot assign requested address"),
];

/// What is in place of every image.
const STAND_IN: &str = r#"FROM debian:bookworm-slim
RUN printf '%s\n' '#!/bin/sh' 'case "$1" in init|migrate|seed|setup) exit 0;; esac' \
      'trap "exit 0" TERM INT QUIT TSTP' 'sleep infinity & wait' > /usr/local/bin/stand-in \
 && printf '%s\n' '#!/bin/sh' 'echo OK PONG' > /usr/local/bin/succeed \
 && printf '%s\n' '#!/bin/sh' 'touch /data/flushed' > /data_flush.sh \
 && chmod 755 /usr/local/bin/* /data_flush.sh \
 && for name in curl mc mysqladmin nc pg_isready rabbitmq-diagnostics redis-cli wget; do ln -s succeed /usr/local/bin/$name; done
ENTRYPOINT ["stand-in"]
"#;

#[test]
fn public_projects_run() {
    on_engine(|docker, folder| async move { side_by_side(&docker, &folder).await });
}

/// A project of the corpus, copied, under a name that no other test has.
struct Case {
    name: String,
    workspace: String,
    laptop: Laptop,
}

impl Case {
    async fn run(&self, line: &str) -> anyhow::Result<Said> {
        let line = format!("{line} -p {}", self.workspace);
        self.laptop.run(&line).await
    }
}

async fn side_by_side(docker: &Docker, root: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    let stand_in = stand_in()?;
    let hub = Lone::start(&root.join("hub"), "", &[]);
    let public = folder("../compose/tests/corpus/public");
    let mut names: Vec<String> = fs::read_dir(&public)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    names.retain(|name| !name.starts_with("refused-"));
    names.sort();
    ensure!(names.len() == PROJECTS, "the corpus has {} projects", names.len());
    let machine = Machine::find(docker, &stand_in).await?;
    let mut cases = Vec::new();
    for name in names {
        let checkout = root.join(&name);
        rig::engine::run(Command::new("cp").arg("-r").arg(public.join(&name)).arg(&checkout))?;
        overlay(&checkout, &stand_in, &machine).with_context(|| name.clone())?;
        let (state, data) = (root.join("state"), root.join("hub"));
        let laptop = Laptop { checkout, state, hub: hub.url(""), data, engine: None };
        cases.push(Case { workspace: format!("{}-{name}", workspace_of(std::process::id())), name, laptop });
    }
    let environments = root.join("environments.yaml");
    fs::write(&environments, "environments: {prod: {target: {docker: {hosts: [none]}}}}")?;
    let apply = format!("env apply -f {}", environments.display());
    // The hub listens before its token is there.
    let first = cases.first().context("a project")?;
    rig::until("no environment", LIMIT, || async { first.laptop.run(&apply).await.ok() }).await?;
    let outside = Outside::make(cases.iter().find(|case| case.name == "external-network"))?;
    let mut working =
        futures::stream::iter(&cases).map(|case| brought_up_and_down(docker, case)).buffer_unordered(AT_ONCE);
    let (mut running, mut not) = (0, BTreeMap::new());
    while let Some((name, took, result)) = working.next().await {
        match result {
            Ok(()) => {
                println!("{name}: {took:.1?}");
                running += 1;
            }
            Err(error) => {
                println!("{name}: {took:.1?}: {error:#}");
                not.insert(name, format!("{error:#}"));
            }
        }
    }
    println!("{running} of {PROJECTS} ran in {:.0?}", begun.elapsed());
    drop(outside);
    hub.stop();
    for (name, why) in &not {
        let known = CANNOT.iter().any(|(case, said)| case == name && why.contains(said));
        ensure!(known, "{name} does not run: {why}");
    }
    ensure!(running >= RUNNING_MIN, "{running} of {PROJECTS} run, not {:?}", not.keys());
    Ok(())
}

/// Networks and volumes that a project expects to be there, and a folder of the machine that comes to be with another.
struct Outside {
    folder_was_there: bool,
}

/// Devices' files of a machine with udev.
const UDEV: &str = "/run/udev";

impl Outside {
    fn make(case: Option<&Case>) -> anyhow::Result<Self> {
        let folder = &case.context("it is in the corpus")?.laptop.checkout;
        fs::write(folder.join(".env"), format!("PROXY_NETWORK={}\n", Self::network()))?;
        rig::engine::run(Command::new("docker").args(["network", "create", &Self::network()]))?;
        rig::engine::run(Command::new("docker").args(["volume", "create", "corpus-shared"]))?;
        Ok(Self { folder_was_there: Path::new(UDEV).exists() })
    }

    fn network() -> String {
        format!("{}-proxy", workspace_of(std::process::id()))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if !self.folder_was_there {
            // It is empty, or somebody else's by now.
            let _ = fs::remove_dir(UDEV);
        }
        for line in [["network", "rm", &Self::network()], ["volume", "rm", "corpus-shared"]] {
            if let Err(error) = rig::engine::run(Command::new("docker").args(line)) {
                println!("left behind: {error:#}");
            }
        }
    }
}

/// The image in place of all others: ends at once when it is told to prepare something, waits otherwise to be stopped, and
/// has the programs that healthchecks and hooks call.
fn stand_in() -> anyhow::Result<String> {
    let name = format!("longshore-source/{}-stand-in:1", workspace_of(std::process::id()));
    let mut command = Command::new("docker");
    command.args(["build", "--quiet", "--tag", &name, "-"]).env("DOCKER_BUILDKIT", "0");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("an input")?.write_all(STAND_IN.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "no stand-in: {}", String::from_utf8_lossy(&output.stderr));
    Ok(name)
}

/// What the engine and its machine can do.
struct Machine {
    /// Healthchecks may begin with shorter pauses (engines from 25 on).
    start_interval: bool,
    /// The most that processes may have, where the engine has no right to give more, as in many containers: by the
    /// Compose name of the limit.
    limits: BTreeMap<&'static str, i64>,
}

impl Machine {
    async fn find(docker: &Docker, stand_in: &str) -> anyhow::Result<Self> {
        let api = docker.version().await?.api_version;
        let minor = api.as_deref().and_then(|api| api.split_once('.')?.1.parse::<u32>().ok());
        let shell = |ulimit: &str, line: &str| {
            let arguments = ["run", "--rm", "--network=none", ulimit, "--entrypoint=sh", stand_in, "-c", line];
            rig::engine::run(Command::new("docker").args(arguments))
        };
        let mut limits = BTreeMap::new();
        if shell("--ulimit=memlock=-1", "true").is_err() {
            let text = shell("--init", "cat /proc/self/limits")?;
            for (name, title) in
                [("memlock", "Max locked memory"), ("nofile", "Max open files"), ("nproc", "Max processes")]
            {
                let line = text.lines().find_map(|line| line.strip_prefix(title)).context(title)?;
                // Soft, hard, unit; `unlimited` needs no care.
                if let Some(Ok(hard)) = line.split_whitespace().nth(1).map(str::parse) {
                    limits.insert(name, hard);
                }
            }
            println!("limits of processes are lowered to this machine's: {limits:?}");
        }
        Ok(Self { start_interval: minor >= Some(44), limits })
    }

    /// A limit as far as the machine allows it.
    fn allowed(&self, name: &str, limit: i64) -> i64 {
        match self.limits.get(name) {
            Some(most) if limit < 0 || limit > *most => *most,
            _ => limit,
        }
    }
}

/// Writes a file that lies over the project's own and puts the stand-in in place of what its services run.
fn overlay(folder: &Path, stand_in: &str, machine: &Machine) -> anyhow::Result<()> {
    let checkout = Checkout::find(folder, &[])?;
    let loaded = checkout.load(None, &BTreeSet::new(), &|_| None)?;
    let mut text = "services:\n".to_owned();
    let stages: String =
        ["base", "development", "builder", "prod"].map(|stage| format!("FROM {stand_in} AS {stage}\\n")).concat();
    for (name, service) in &loaded.project.services {
        writeln!(text, "  {name}:")?;
        match &service.build {
            // Everything else that it says of the build stays.
            Some(_) => {
                writeln!(text, "    build: {{dockerfile: !reset null, dockerfile_inline: !override \"{stages}\"}}")?
            }
            None => writeln!(text, "    image: {stand_in}")?,
        }
        if service.healthcheck.as_ref().is_some_and(|check| check.test.is_some()) {
            let start = if machine.start_interval { "1s" } else { "!reset null" };
            writeln!(text, "    healthcheck: {{interval: 1s, start_interval: {start}}}")?;
        }
        let limits = service.ulimits.iter().map(|(name, limit)| {
            let [soft, hard] = [limit.soft, limit.hard].map(|limit| machine.allowed(name, limit));
            format!("{name}: {{soft: {soft}, hard: {hard}}}")
        });
        let limits: Vec<String> = limits.collect();
        if !limits.is_empty() {
            writeln!(text, "    ulimits: {{{}}}", limits.join(", "))?;
        }
    }
    let name = if folder.join("compose.dev.yaml").exists() {
        // Of two with one purpose the test's is the later; it is laid over by hand.
        "stand-in.yaml"
    } else {
        "compose.dev.yaml"
    };
    fs::write(folder.join(name), text)?;
    Ok(())
}

async fn brought_up_and_down(docker: &Docker, case: &Case) -> (String, std::time::Duration, anyhow::Result<()>) {
    let begun = Instant::now();
    let up = brought_up(case).await;
    let down = taken_down(docker, case).await;
    let label = format!("dev.longshore.workspace={}", case.workspace);
    let swept = rig::engine::sweep(docker, &label, &[]).await.map(drop);
    (case.name.clone(), begun.elapsed(), up.and(down).and(swept))
}

/// What an engine says whose networks of other projects have the addresses that one project names.
const OVERLAP: [&str; 2] = ["networks have overlapping IPv4", "Pool overlaps"];

async fn brought_up(case: &Case) -> anyhow::Result<()> {
    let files: String = if case.laptop.checkout.join("stand-in.yaml").exists() {
        " -f compose.yaml -f compose.dev.yaml -f stand-in.yaml".to_owned()
    } else {
        String::new()
    };
    let up = format!("up --detach{files}");
    // Addresses are the engine's, which others use at the same time; theirs become free again.
    rig::until("others have its addresses", LIMIT, || async {
        match case.run(&up).await {
            Err(error) if OVERLAP.iter().any(|said| format!("{error:#}").contains(said)) => None,
            result => Some(result),
        }
    })
    .await??;
    let shown: Value = serde_json::from_str(&case.run("ps --json").await?.out)?;
    let rows = shown["services"].as_array().context("ps lists services")?;
    ensure!(!rows.is_empty(), "nothing runs");
    for row in rows {
        let runs = row["state"] == "running" && (row["health"] == "healthy" || row["health"] == "none");
        let is_done = row["state"] == "exited" && row["exit_code"] == 0;
        ensure!(runs || is_done, "{row:#}");
    }
    Ok(())
}

/// Nothing is left but volumes.
async fn taken_down(docker: &Docker, case: &Case) -> anyhow::Result<()> {
    case.run("down").await?;
    let filter = std::collections::HashMap::from([(
        "label".to_owned(),
        vec![format!("dev.longshore.workspace={}", case.workspace)],
    )]);
    let options = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
    let containers = docker.list_containers(Some(options)).await?;
    let options = bollard::query_parameters::ListNetworksOptionsBuilder::default().filters(&filter).build();
    let networks = docker.list_networks(Some(options)).await?;
    if !containers.is_empty() || !networks.is_empty() {
        bail!("left: {containers:?} {networks:?}");
    }
    Ok(())
}
