//! `longshore agent install`, `leave` and `status`: what a host's runtimes are told, and how its agent stands.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use agent::runtimes::{self, Change, Runtime, RuntimeError};
use agent::status::{self, AgentStatus, ExchangeStatus, StatusError};
use api::Problem;
use base::units::Size;
use fanout::local::Names;
use oci::Reference;
use serde::Serialize;

use crate::output;
use crate::reach::Global;

/// How long the pull that proves an installation may take, in seconds.
const PROOF_SECONDS_MAX: u64 = 600;
/// The last lines that a runtime said, at most.
const LINES_OF_TROUBLE_MAX: usize = 5;

/// The host's side of the agent
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Have this machine's container runtimes pull through the running agent
    ///
    /// Finds docker, containerd and podman. Docker needs no configuration: it pulls 127.0.0.1:5100/APP/SERVICE. containerd
    /// and podman get files of the agent's own for the registries that the agent was given with --mirror; image names do
    /// not change, and the runtime goes to the registry itself when the agent is down. Shows what it writes; running it
    /// again changes nothing.
    Install {
        /// Prove it with a pull of this image through each runtime, as HOST/APP/SERVICE:TAG
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
        /// Only these runtimes; may be repeated. What was written for others is taken back [default: all that are found]
        #[arg(long = "runtime", value_name = "NAME", value_parser = runtime)]
        runtimes: Vec<Runtime>,
        /// Where the runtimes' configuration is
        #[arg(long, value_name = "FOLDER", default_value = "/etc")]
        etc: PathBuf,
    },
    /// Take back what `install` wrote, and nothing else
    Leave,
    /// How the running agent stands: bytes from other agents, the hub and the disk, rates, and what its store holds
    Status,
}

fn runtime(text: &str) -> Result<Runtime, String> {
    let known = Runtime::ALL.into_iter().find(|runtime| runtime.to_string() == text);
    known.ok_or_else(|| format!("{text:?} is none of docker, containerd and podman"))
}

pub(super) async fn run(global: &Global, data: &Path, command: Command) -> api::Result<()> {
    match command {
        Command::Install { image, runtimes, etc } => install(global, data, image, runtimes, &etc).await,
        Command::Leave => {
            let changes = runtimes::leave(data).map_err(|error| runtime_problem(&error))?;
            if global.json {
                return output::json(&changes);
            }
            if changes.is_empty() {
                output::note("Nothing was installed.");
            }
            changes.iter().for_each(show);
            Ok(())
        }
        Command::Status => {
            let status = ask(data).await?;
            if global.json {
                return output::json(&status);
            }
            lines(&status).iter().for_each(|line| output::line(line));
            Ok(())
        }
    }
}

async fn ask(data: &Path) -> api::Result<AgentStatus> {
    status::ask(data).await.map_err(|error| match error {
        StatusError::NotRunning { .. } => {
            Problem::new(503, "agent-away", "No agent answers on this machine").detail(error.to_string())
        }
        StatusError::Answer { .. } => {
            Problem::new(502, "agent-answer", "The agent's answer makes no sense").detail(error.to_string())
        }
    })
}

fn runtime_problem(error: &RuntimeError) -> Problem {
    let status = if matches!(error, RuntimeError::Foreign { .. }) { 409 } else { 500 };
    Problem::new(status, "runtime-configuration", "The runtime's configuration cannot be changed")
        .detail(error.to_string())
}

/// How a runtime was told.
#[derive(Serialize)]
struct Told {
    runtime: Runtime,
    changes: Vec<Change>,
    /// What was pulled through the agent to prove it.
    proven: Option<String>,
}

async fn install(
    global: &Global,
    data: &Path,
    image: Option<String>,
    only: Vec<Runtime>,
    etc: &Path,
) -> api::Result<()> {
    let status = ask(data).await?;
    let names = Names::parse(status.mirrored.iter().map(String::as_str)).map_err(|error| Problem::internal(&error))?;
    let mut chosen = runtimes::found(&std::env::var_os("PATH").unwrap_or_default());
    if !only.is_empty() {
        if let Some(missing) = only.iter().find(|runtime| !chosen.contains(runtime)) {
            let detail = format!("{} is not in the PATH", missing.program());
            return Err(Problem::new(404, "runtime-missing", format!("There is no {missing} here")).detail(detail));
        }
        chosen = only;
    }
    if chosen.is_empty() {
        return Err(Problem::new(404, "runtime-missing", "There is no container runtime here")
            .detail("none of docker, ctr and podman is in the PATH"));
    }
    let all = chosen.iter().flat_map(|runtime| runtimes::files(*runtime, etc, &status.registry, &names)).collect();
    let mut changes = runtimes::install(data, &all).map_err(|error| runtime_problem(&error))?;
    let mut told = Vec::new();
    for runtime in chosen {
        let own = runtimes::files(runtime, etc, &status.registry, &names);
        let is_own = |change: &Change| match change {
            Change::Wrote(path, _) | Change::Stands(path) | Change::Removed(path) | Change::Left(path) => {
                own.contains_key(path)
            }
        };
        let (mine, others) = changes.into_iter().partition(is_own);
        changes = others;
        let proven = match &image {
            None => None,
            Some(image) => Some(prove(data, runtime, image, &status.registry, &names, etc).await?),
        };
        told.push(Told { runtime, changes: mine, proven });
    }
    if global.json {
        return output::json(&told);
    }
    changes.iter().for_each(show);
    for told in &told {
        let Told { runtime, changes, proven } = told;
        if changes.is_empty() && *runtime == Runtime::Docker {
            output::line(&format!("docker: nothing to write; it pulls {}/APP/SERVICE", status.registry));
        } else if changes.is_empty() {
            output::line(&format!("{runtime}: nothing to write; give the agent the names of registries with --mirror"));
        }
        changes.iter().for_each(show);
        if let Some(pulled) = proven {
            output::line(&format!("{runtime}: pulled {pulled} through the agent"));
        }
    }
    if image.is_none() {
        output::note("Prove it with a pull: longshore agent install --image HOST/APP/SERVICE:TAG");
    }
    Ok(())
}

fn show(change: &Change) {
    match change {
        Change::Wrote(path, content) => {
            output::line(&format!("wrote {}", path.display()));
            content.lines().for_each(|line| output::line(&format!("  {line}")));
        }
        Change::Stands(path) => output::line(&format!("{} is as it should be", path.display())),
        Change::Removed(path) => output::line(&format!("removed {}", path.display())),
        Change::Left(path) => output::line(&format!("left {}: somebody changed it", path.display())),
    }
}

/// Pulls an image through a runtime, and sees to it that the agent was asked. Gives what was pulled.
async fn prove(
    data: &Path,
    runtime: Runtime,
    image: &str,
    registry: &str,
    names: &Names,
    etc: &Path,
) -> api::Result<String> {
    let failed = |detail: String| {
        Problem::new(502, "proof-failed", format!("{runtime} did not pull {image} through the agent"))
            .detail(detail)
            .hint("See `longshore agent status`; `longshore agent leave` takes back what was written.")
    };
    let reference: Reference = image.parse().map_err(|error: oci::ReferenceError| failed(error.to_string()))?;
    let mut program = Process::new(runtime.program());
    let pulled = match runtime {
        Runtime::Docker => {
            // The name that docker reaches the agent under; the image is the same.
            let prefix = names.iter().find(|(host, _prefix)| *host == reference.host()).and_then(|(_, prefix)| prefix);
            let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
            let end = image.strip_prefix(&format!("{}/", reference.host())).unwrap_or(image);
            let pulled = format!("{registry}/{prefix}{end}");
            program.args(["pull", "--quiet", &pulled]);
            pulled
        }
        Runtime::Containerd => {
            program.args(["images", "pull", "--hosts-dir"]).arg(etc.join("containerd/certs.d")).arg(image);
            image.to_owned()
        }
        Runtime::Podman => {
            program.args(["pull", "--quiet", image]);
            image.to_owned()
        }
    };
    let before = ask(data).await?.answers;
    let ending = tokio::process::Command::from(program).stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(Duration::from_secs(PROOF_SECONDS_MAX), ending).await;
    let ended = ended.map_err(|_| failed(format!("it did not end within {PROOF_SECONDS_MAX} s")))?;
    let ended = ended.map_err(|error| failed(format!("{} cannot be run: {error}", runtime.program())))?;
    if !ended.status.success() {
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        let skip = text.lines().count().saturating_sub(LINES_OF_TROUBLE_MAX);
        return Err(failed(text.lines().skip(skip).collect::<Vec<_>>().join("\n")));
    }
    if ask(data).await?.answers == before {
        return Err(failed("it pulled the image, and not through the agent".to_owned()));
    }
    Ok(pulled)
}

/// A status for people.
fn lines(status: &AgentStatus) -> Vec<String> {
    let AgentStatus { host, registry, store, .. } = status;
    let mut lines = vec![format!("host {host}, registry {registry}")];
    lines.extend(status.ports.iter().cloned());
    if let Some(why) = &status.trouble {
        lines.push(format!("the store is not used, images come from the hub alone: {why}"));
    }
    lines.push(format!(
        "store: {} of {} used, {} of that kept for what runs, may be rolled back to, or is being pulled",
        Size(store.used_bytes),
        Size(store.budget_bytes),
        Size(store.kept_bytes)
    ));
    lines.push(format!("held twice, here and by the engine: {}", Size(status.held_twice_bytes)));
    if let Some(exchange) = &status.exchange {
        let ExchangeStatus { connected, sent_bytes, .. } = exchange;
        let edge = match &exchange.edge {
            Some(edge) => format!("; {edge} serves its region"),
            None if exchange.is_edge => "; it serves its region".to_owned(),
            None => String::new(),
        };
        let hosts = if *connected == 1 { "host" } else { "hosts" };
        lines.push(format!("exchange: connected with {connected} {hosts}, {} given to them{edge}", Size(*sent_bytes)));
        lines.extend(exchange.slow.as_ref().map(|why| format!("others do not depend on this host: {why}")));
    }
    lines.push(match status.fallbacks.last.back() {
        None => "no blob had to come from the hub in place of other agents".to_owned(),
        Some(last) => {
            let count = status.fallbacks.count;
            let blobs = if count == 1 { "blob" } else { "blobs" };
            format!("{count} {blobs} came from the hub in place of other agents; last because: {}", last.why)
        }
    });
    let of_exchange = status.exchange.iter().flat_map(|exchange| &exchange.warnings);
    lines.extend(of_exchange.map(|warning| format!("warning: {warning}")));
    let images: Vec<_> = status.images.iter().filter(|image| image.bytes > 0).collect();
    if !images.is_empty() {
        lines.push(String::new());
    }
    for image in images {
        let state = match (image.bytes_there == image.bytes, image.seconds_left) {
            (true, _) => "complete".to_owned(),
            (false, Some(seconds)) => format!("{}/s, {seconds} s left", Size(image.bytes_per_second)),
            (false, None) => "waits".to_owned(),
        };
        lines.push(format!("{}@{}  {state}", image.repository, image.digest.short()));
        lines.push(format!(
            "  {} of {}: {} from agents, {} from the hub, {} from disk{}{}",
            Size(image.bytes_there),
            Size(image.bytes),
            Size(image.from_peers),
            Size(image.from_hub),
            Size(image.from_disk),
            if image.is_kept { "; kept" } else { "" },
            if image.is_on_engine { "; on the engine" } else { "" },
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use agent::status::{ImageStatus, StoreStatus};
    use fanout::local::{Fallback, Fallbacks};
    use oci::Digest;

    use super::*;

    #[test]
    fn a_status_says_where_bytes_came_from_and_what_is_left() {
        let image = |name: &str, there: u64, rate: u64| ImageStatus {
            repository: "shop/web".parse().unwrap(),
            digest: Digest::sha256_of(name.as_bytes()),
            bytes: 100 << 20,
            bytes_there: there << 20,
            from_peers: (there - 10) << 20,
            from_hub: 1 << 20,
            from_disk: 9 << 20,
            bytes_per_second: rate << 20,
            seconds_left: (100 - there).checked_div(rate).filter(|_| there < 100),
            is_kept: there == 100,
            is_on_engine: there == 100,
        };
        let last =
            Fallback { at: api::Micros(0), blob: Digest::sha256_of(b"x"), why: "no agent gave anything of it".into() };
        let status = AgentStatus {
            host: "rack1-a".parse().unwrap(),
            agent_version: "0".into(),
            registry: "127.0.0.1:5100".into(),
            mirrored: Vec::new(),
            ports: Vec::new(),
            answers: 12,
            store: StoreStatus {
                folder: "/x".into(),
                budget_bytes: 20 << 30,
                used_bytes: 3 << 30,
                kept_bytes: 1 << 30,
            },
            images: vec![image("a", 100, 0), image("b", 40, 6), image("c", 40, 0)],
            held_twice_bytes: 100 << 20,
            fallbacks: Fallbacks { count: 2, last: [last].into() },
            exchange: Some(ExchangeStatus {
                connected: 7,
                sent_bytes: 1 << 30,
                edge: Some("edge-eu".parse().unwrap()),
                slow: Some("it gives away slowly".into()),
                warnings: vec!["edge-us is gone".into()],
                ..ExchangeStatus::default()
            }),
            trouble: None,
        };
        insta::assert_snapshot!(lines(&status).join("\n"), @"
        host rack1-a, registry 127.0.0.1:5100
        store: 3 GiB of 20 GiB used, 1 GiB of that kept for what runs, may be rolled back to, or is being pulled
        held twice, here and by the engine: 100 MiB
        exchange: connected with 7 hosts, 1 GiB given to them; edge-eu serves its region
        others do not depend on this host: it gives away slowly
        2 blobs came from the hub in place of other agents; last because: no agent gave anything of it
        warning: edge-us is gone

        shop/web@ca978112ca1b  complete
          100 MiB of 100 MiB: 90 MiB from agents, 1 MiB from the hub, 9 MiB from disk; kept; on the engine
        shop/web@3e23e8160039  6 MiB/s, 10 s left
          40 MiB of 100 MiB: 30 MiB from agents, 1 MiB from the hub, 9 MiB from disk
        shop/web@2e7d2c03a950  waits
          40 MiB of 100 MiB: 30 MiB from agents, 1 MiB from the hub, 9 MiB from disk
        ");
    }
}
