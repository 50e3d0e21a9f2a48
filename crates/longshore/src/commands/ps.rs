//! `longshore ps`.

use api::{AppName, EnvName, Micros};

use crate::output;
use crate::reach::Global;

/// List what runs in an environment, or in the workspace of this folder.
///
/// Of an environment: every container, as the hosts' engines say it. Without --env, of the workspace: every service, with
/// the proof that it is what the environment has, or that it comes from source.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The app, with --env; may be left out where the hub knows just one
    #[arg(requires = "env")]
    app: Option<AppName>,
    /// The environment; without it, the workspace of this folder
    #[arg(long, value_name = "ENV", conflicts_with_all = ["file", "project", "profile"])]
    env: Option<EnvName>,
    #[command(flatten)]
    place: super::workspace::Place,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    match args.env {
        Some(env) => environment(global, args.app, env).await,
        None => super::workspace::ps::run(global, args.place).await,
    }
}

async fn environment(global: &Global, app: Option<AppName>, env: EnvName) -> api::Result<()> {
    let client = global.client()?;
    let app = match app {
        Some(app) => app,
        None => super::rollout::only_app(&client).await?,
    };
    let instances = client.instance_list(&app, &env).await?;
    if global.json {
        return output::json(&instances);
    }
    let now = Micros::now();
    let rows: Vec<Vec<String>> = instances
        .iter()
        .map(|instance| {
            vec![
                format!("{}/{}", instance.app, instance.service),
                instance.host.to_string(),
                super::rollout::word(&instance.state),
                output::ago(instance.since, now),
                instance.release.to_string(),
                output::short(&instance.digest),
                instance.container.chars().take(12).collect(),
            ]
        })
        .collect();
    if rows.is_empty() {
        super::rollout::app_known(&client, &app).await?;
    }
    let none = format!("Nothing of {app} runs in {env}. `longshore why {app} --env {env}` says why.");
    output::table(&["SERVICE", "HOST", "STATE", "FOR", "RELEASE", "DIGEST", "CONTAINER"], &rows, &none);
    Ok(())
}
