//! `longshore build`.

use api::client::HubClient;
use api::pipeline::{BuildOutcome, BuildRequest, Run, RunState};
use api::{Problem, ServiceName};
use futures::StreamExt;

use super::rollout::word;
use crate::output;
use crate::reach::Global;

/// Build an app's services at a commit, on the hub.
///
/// The hub clones the repository, reads its compose.yaml, builds what changed with BuildKit, keeps the images and
/// records a release for each service. Same inputs, same release: what did not change is not built again.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The repository: a URL, or a path on the hub's machine
    #[arg(long, value_name = "URL-OR-PATH", required_unless_present = "log")]
    repo: Option<String>,
    /// A branch, tag or commit
    #[arg(long = "ref", value_name = "REF", default_value = "HEAD")]
    reference: String,
    /// Where compose.yaml is inside the repository [default: its root]
    #[arg(long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
    folder: String,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<ServiceName>,
    /// Do not wait for the build
    #[arg(long)]
    detach: bool,
    /// Show the log of an earlier run
    #[arg(long, value_name = "RUN", conflicts_with_all = ["repo", "detach"])]
    log: Option<String>,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let client = global.client()?;
    if let Some(id) = args.log {
        return log(&client, &id).await;
    }
    let request = BuildRequest {
        repository: absolute(args.repo.unwrap_or_default()),
        reference: args.reference,
        folder: args.folder,
        services: args.services,
    };
    let run = client.run_create(&request).await?;
    if args.detach {
        if global.json {
            return output::json(&run);
        }
        output::line(&run.id);
        return Ok(());
    }
    output::note(&format!("run {}", run.id));
    let mut lines = client.run_log(&run.id, 0, true).await?;
    let mut failed = false;
    while let Some(line) = lines.next().await {
        let line = line?;
        // The log closes with the problem, which is said below, after the table.
        failed |= line.service.is_none() && line.text.starts_with("failed: ");
        match &line.service {
            _ if failed => {}
            Some(service) => output::note(&format!("{service} | {}", line.text)),
            None => output::note(&line.text),
        }
    }
    let run = client.run_get(&run.id).await?;
    if global.json {
        output::json(&run)?;
    } else {
        show(&run);
    }
    match run.state {
        RunState::Succeeded => Ok(()),
        _ => Err(run.error.clone().unwrap_or_else(|| {
            Problem::new(409, "build-unfinished", "The build has not ended")
                .hint(format!("longshore build --log {}", run.id))
        })),
    }
}

async fn log(client: &HubClient, id: &str) -> api::Result<()> {
    let mut lines = client.run_log(id, 0, true).await?;
    while let Some(line) = lines.next().await {
        let line = line?;
        let service = line.service.map(|service| format!("{service} | ")).unwrap_or_default();
        output::line(&format!("{} {service}{}", line.at, line.text));
    }
    Ok(())
}

fn show(run: &Run) {
    let rows: Vec<Vec<String>> = run
        .builds
        .iter()
        .map(|build| {
            let took = match (build.outcome, build.started_at, build.finished_at) {
                (BuildOutcome::Built | BuildOutcome::Pinned | BuildOutcome::Failed, Some(from), Some(to)) => {
                    output::span(from, to)
                }
                _ => "-".to_owned(),
            };
            let outcome = match (build.outcome, run.state) {
                (BuildOutcome::Waiting | BuildOutcome::Building, RunState::Failed) => "not built".to_owned(),
                (outcome, _) => word(&outcome),
            };
            vec![
                build.service.to_string(),
                outcome,
                build.release.as_ref().map_or("-".to_owned(), ToString::to_string),
                build.digest.as_ref().map_or("-".to_owned(), output::short),
                took,
                build.reason.clone(),
            ]
        })
        .collect();
    if run.builds.iter().any(|build| build.outcome != BuildOutcome::Waiting) {
        output::table(&["SERVICE", "OUTCOME", "RELEASE", "DIGEST", "TOOK", "REASON"], &rows, "");
    }
}

/// A path is meant from where the command runs, not from where the hub does.
fn absolute(repository: String) -> String {
    if repository.contains("://") || repository.contains('@') {
        return repository;
    }
    match std::path::absolute(&repository) {
        Ok(path) if path.exists() => path.display().to_string(),
        _ => repository,
    }
}
