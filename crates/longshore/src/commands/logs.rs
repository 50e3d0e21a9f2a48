//! `longshore logs`.

use api::delivery::LogRequest;
use api::{EnvName, Problem, ServiceAddress};
use futures::StreamExt;

use crate::reach::Global;
use crate::{foreign, output};

/// Show what services write, in an environment or in the workspace of this folder.
///
/// Of an environment: the output of a service's containers, from every host. Without --env: of the workspace's services,
/// all in one stream.
#[derive(clap::Args)]
pub(super) struct Args {
    /// With --env the app, or one service of it (a bare SERVICE where the hub knows just one app); without, services of
    /// the workspace
    #[arg(value_name = "APP[/SERVICE]")]
    addresses: Vec<String>,
    /// The environment; without it, the workspace of this folder
    #[arg(long, value_name = "ENV", conflicts_with_all = ["file", "project", "profile"])]
    env: Option<EnvName>,
    /// Go on as lines come
    #[arg(short, long)]
    follow: bool,
    /// How many lines of the past, for each container
    #[arg(long, default_value_t = 100, value_name = "LINES", value_parser = clap::value_parser!(u32).range(0..=i64::from(api::delivery::LOG_TAIL_LINES_MAX)))]
    tail: u32,
    #[command(flatten)]
    place: super::workspace::PlaceLong,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let Some(env) = args.env else {
        return super::workspace::logs::run(global, args.place.into(), args.addresses, args.follow, args.tail).await;
    };
    let [address] = args.addresses.as_slice() else {
        return Err(Problem::new(400, "address-missing", "It is not clear whose output is meant")
            .detail(format!("--env {env} takes one app, or one service of it"))
            .hint(format!("longshore logs APP[/SERVICE] --env {env}")));
    };
    let address: ServiceAddress = address.parse().map_err(|error| {
        Problem::new(400, "address-invalid", "This is no app or service").detail(format!("{error}"))
    })?;
    let client = global.client()?;
    let address = super::rollout::address_of(&client, address).await?;
    let request = LogRequest { env, address, follow: args.follow, tail_lines: args.tail };
    let mut lines = client.logs(&request).await?;
    while let Some(line) = lines.next().await {
        let line = line?;
        if global.json {
            let text = serde_json::to_string(&line).unwrap_or_default();
            output::line(&text);
        } else {
            output::line(&format!("{} {} | {}", line.host, line.service, foreign::for_stdout(&line.text)));
        }
    }
    Ok(())
}
