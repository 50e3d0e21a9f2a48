//! `longshore promote`.

use api::delivery::PromoteRequest;
use api::{EnvName, ServiceAddress};

use super::rollout;
use crate::output;
use crate::reach::Global;

/// Promote releases into an environment, and follow the rollout.
///
/// The first environment takes the newest releases that were built; every later one takes exactly what the environment
/// before it runs. Nothing is built or tagged again. An environment is never skipped unless forced with a reason.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The app, or one service of it
    #[arg(value_name = "APP[/SERVICE]")]
    address: ServiceAddress,
    /// Where to
    #[arg(long, value_name = "ENV")]
    to: EnvName,
    /// Skip the order of environments; needs --reason
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why, for the record
    #[arg(long, requires = "force", value_name = "WHY")]
    reason: Option<String>,
    /// Do not wait for the rollout
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let client = global.client()?;
    let request = PromoteRequest {
        address: args.address,
        to: args.to,
        force_reason: args.reason,
        requested_by: super::requested_by(),
    };
    match client.promote(&request).await {
        Ok(plan) => rollout::follow(global, &client, plan, args.detach).await,
        // Promoting twice is no fault: what was asked for holds.
        Err(problem) if problem.kind == "nothing-to-promote" => {
            if global.json {
                return output::json(&serde_json::Value::Null);
            }
            output::note(&problem.title);
            Ok(())
        }
        Err(problem) => Err(problem),
    }
}
