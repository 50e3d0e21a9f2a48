//! `longshore proxy`.

use std::path::PathBuf;

use agent::proxy::{self, ProxyConfig};
use api::Problem;
use base::shutdown::Shutdown;

/// Run a host's proxy: published ports, and the names of services on other hosts.
///
/// The agent starts it by itself and tells it what leads where. It outlives the agent: while the agent is down or
/// replaced, traffic flows.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The Unix socket on which the agent speaks to it
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// Where the last table is kept, to be served at once after a restart
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
}

pub(super) async fn run(args: Args) -> api::Result<()> {
    super::telemetry(false, None)?;
    let shutdown = Shutdown::on_signals().map_err(|error| Problem::internal(&error))?;
    let result = proxy::run(ProxyConfig::new(args.control, args.state), shutdown.token()).await;
    result.map_err(|error| Problem::new(500, "proxy-failed", "The proxy cannot run").detail(error.to_string()))
}
