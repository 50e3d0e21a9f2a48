//! `longshore ps`.

use api::{AppName, EnvName, Micros};

use crate::output;
use crate::reach::Global;

/// List what runs in an environment, as the hosts' engines say it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The app; may be left out where the hub knows just one
    app: Option<AppName>,
    /// The environment
    #[arg(long, value_name = "ENV")]
    env: EnvName,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let client = global.client()?;
    let app = match args.app {
        Some(app) => app,
        None => super::rollout::only_app(&client).await?,
    };
    let instances = client.instance_list(&app, &args.env).await?;
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
    let none = format!("Nothing of {app} runs in {}. `longshore why {app} --env {}` says why.", args.env, args.env);
    output::table(&["SERVICE", "HOST", "STATE", "FOR", "RELEASE", "DIGEST", "CONTAINER"], &rows, &none);
    Ok(())
}
