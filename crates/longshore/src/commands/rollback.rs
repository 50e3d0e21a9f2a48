//! `longshore rollback`.

use api::delivery::RollbackRequest;
use api::{EnvName, ServiceAddress};

use super::rollout;
use crate::reach::Global;

/// Bring back what an environment ran before, and follow the rollout.
///
/// A rollback is the promotion of the earlier releases: recorded, planned and rolled out like any other.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The app, or one service of it
    #[arg(value_name = "APP[/SERVICE]")]
    address: ServiceAddress,
    /// The environment
    #[arg(long, value_name = "ENV")]
    env: EnvName,
    /// Why, for the record
    #[arg(long, value_name = "WHY")]
    reason: Option<String>,
    /// Do not wait for the rollout
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let client = global.client()?;
    let request = RollbackRequest {
        address: args.address,
        env: args.env,
        reason: args.reason,
        requested_by: super::requested_by(),
    };
    let plan = client.rollback(&request).await?;
    rollout::follow(global, &client, plan, args.detach).await
}
