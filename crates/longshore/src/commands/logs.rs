//! `longshore logs`.

use api::delivery::LogRequest;
use api::{EnvName, ServiceAddress};
use futures::StreamExt;

use crate::output;
use crate::reach::Global;

/// Show the output of a service's containers, from every host.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The app, or one service of it; a bare SERVICE where the hub knows just one app
    #[arg(value_name = "APP[/SERVICE]")]
    address: ServiceAddress,
    /// The environment
    #[arg(long, value_name = "ENV")]
    env: EnvName,
    /// Go on as lines come
    #[arg(short, long)]
    follow: bool,
    /// How many lines of the past, for each container
    #[arg(long, default_value_t = 100, value_name = "LINES", value_parser = clap::value_parser!(u32).range(0..=i64::from(api::delivery::LOG_TAIL_LINES_MAX)))]
    tail: u32,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let client = global.client()?;
    let address = super::rollout::address_of(&client, args.address).await?;
    let request = LogRequest { env: args.env, address, follow: args.follow, tail_lines: args.tail };
    let mut lines = client.logs(&request).await?;
    while let Some(line) = lines.next().await {
        let line = line?;
        if global.json {
            let text = serde_json::to_string(&line).unwrap_or_default();
            output::line(&text);
        } else {
            output::line(&format!("{} {} | {}", line.host, line.service, line.text));
        }
    }
    Ok(())
}
