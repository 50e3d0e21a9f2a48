//! `longshore env`.

use std::path::PathBuf;

use api::delivery::{EnvironmentSpec, ReleaseBrief, Target};
use api::{AppName, EnvName, Micros, Problem};

use crate::output;
use crate::reach::Global;

/// The most bytes of a file of environments.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Environments: where releases go, in which order
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List environments in their order
    Ls,
    /// Apply a file of environments
    ///
    /// All of the file or nothing. Environments that it does not mention stay as they are.
    Apply {
        /// The file
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Say which releases differ between two environments, or between the newest build and one
    Diff {
        /// The app
        app: AppName,
        /// The environment
        #[arg(long, value_name = "ENV")]
        env: EnvName,
        /// The environment to compare it with [default: the newest build]
        #[arg(long, value_name = "ENV")]
        from: Option<EnvName>,
    },
}

pub(super) async fn run(global: &Global, command: Command) -> api::Result<()> {
    let client = global.client()?;
    match command {
        Command::Ls => {
            let environments = client.env_list().await?;
            if global.json {
                return output::json(&environments);
            }
            let now = Micros::now();
            let rows: Vec<Vec<String>> = environments
                .iter()
                .map(|environment| {
                    vec![
                        environment.name.to_string(),
                        environment.spec.after.as_ref().map_or("-".to_owned(), ToString::to_string),
                        target(&environment.spec),
                        environment.spec.rollout.max_unavailable.to_string(),
                        environment.revision.to_string(),
                        output::ago(environment.applied_at, now),
                    ]
                })
                .collect();
            let none = "No environments yet. `longshore env apply -f FILE` makes some.";
            output::table(&["ENVIRONMENT", "AFTER", "HOSTS", "BUDGET", "REVISION", "AGE"], &rows, none);
            Ok(())
        }
        Command::Apply { file, dry_run } => {
            let text = read(&file)?;
            let name = file.display().to_string();
            let changes = client.env_apply(text, &name, dry_run).await?;
            if global.json {
                return output::json(&changes);
            }
            for change in &changes {
                let what = match (&change.from, change.revision) {
                    (None, Some(_)) => "made".to_owned(),
                    (None, None) => "would be made".to_owned(),
                    (Some(_), Some(revision)) => format!("changed, now revision {revision}"),
                    (Some(_), None) => "would change".to_owned(),
                };
                output::line(&format!("{}: {what}: {}", change.name, target(&change.to)));
            }
            if changes.is_empty() {
                output::note("Nothing differs from what holds.");
            }
            Ok(())
        }
        Command::Diff { app, env, from } => {
            let differences = client.env_diff(&app, from.as_ref(), &env).await?;
            if global.json {
                return output::json(&differences);
            }
            let brief = |release: &Option<ReleaseBrief>| {
                release.as_ref().map_or("-".to_owned(), |release| {
                    format!("{} ({})", release.id, output::short_commit(&release.commit))
                })
            };
            let rows: Vec<Vec<String>> = differences
                .iter()
                .map(|difference| vec![difference.service.to_string(), brief(&difference.from), brief(&difference.to)])
                .collect();
            let left = from.as_ref().map_or("newest build".to_owned(), ToString::to_string).to_uppercase();
            output::table(&["SERVICE", &left, &env.to_string().to_uppercase()], &rows, "Nothing differs.");
            Ok(())
        }
    }
}

fn read(file: &PathBuf) -> api::Result<String> {
    let unreadable = |why: String| {
        Problem::new(400, "file-unreadable", format!("{} cannot be read", file.display()))
            .detail(&why)
            .hint("Name a file of environments with -f.")
    };
    let length = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable("it is longer than 1 MiB".to_owned()));
    }
    std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
}

fn target(spec: &EnvironmentSpec) -> String {
    let Target::Docker { hosts, labels } = &spec.target;
    let names = hosts.iter().map(ToString::to_string);
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    names.chain(labels).collect::<Vec<_>>().join(", ")
}
