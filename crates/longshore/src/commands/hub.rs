//! `longshore hub`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::hub::config::{Config, Flags};
use crate::reach::Global;

/// Run the hub: registry, build server, promotions, the agents' port and the pages.
///
/// Everything is kept in one folder (--data). On loopback anyone on the machine may read and push images; changes
/// through the API take the token in the data folder, which the other commands read by themselves.
#[derive(clap::Args)]
pub(super) struct Args {
    /// hub.toml; what is not in it has a default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the API, the pages and the registry listen [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where agents are listened for, with mutual TLS [default: 127.0.0.1:5001]
    #[arg(long, value_name = "ADDRESS:PORT")]
    agent_listen: Option<SocketAddr>,
    /// Listen on an address that is not loopback although there is no TLS and no sign-in
    #[arg(long)]
    insecure: bool,
    /// Write the log as JSON
    #[arg(long)]
    log_json: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    #[cfg(feature = "otel")]
    let (_exporter, traces) = exporter()?.unzip();
    #[cfg(not(feature = "otel"))]
    let traces = None;
    super::telemetry(args.log_json, traces)?;
    let flags = Flags {
        listen: args.listen,
        agent_listen: args.agent_listen,
        data: global.data.clone(),
        insecure: args.insecure,
    };
    let config = Config::load(args.config.as_deref(), flags, global.data_folder())?;
    crate::hub::run(config).await
}

#[cfg(feature = "otel")]
fn exporter() -> api::Result<Option<(otel::Exporter, base::telemetry::Traces)>> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let runtime = tokio::runtime::Handle::current();
    otel::Exporter::start(runtime, "longshore", env!("CARGO_PKG_VERSION"), host).map_err(|error| {
        api::Problem::new(400, "trace-setting", "Traces cannot be exported")
            .detail(error.to_string())
            .hint("Mend the OTEL_… variables, or take them out of the environment.")
    })
}
