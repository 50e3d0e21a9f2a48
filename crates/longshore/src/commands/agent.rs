//! `longshore agent`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agent::{Agent, AgentConfig};
use api::{HostName, Problem};
use base::shutdown::Shutdown;

use crate::reach::Global;

/// Where an agent keeps its data unless told otherwise.
const DATA_FOLDER: &str = "/var/lib/longshore-agent";

/// Run a host's agent: brings the host to what the hub says it should be, and reports what it is.
///
/// The first time it needs a one-time token from `longshore host token`. It connects to the hub, never the other way
/// round. If the hub is away it goes on with what it was told last.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The hub's port for agents
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5001")]
    hub_agent: String,
    /// A one-time token; not needed once the host is enrolled
    #[arg(long, value_name = "TOKEN", env = "LONGSHORE_JOIN_TOKEN", hide_env_values = true)]
    join: Option<String>,
    /// The host's name [default: the machine's]
    #[arg(long, value_name = "NAME")]
    name: Option<HostName>,
    /// A label that the host says of itself; may be repeated. The token's win
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::host::label)]
    labels: Vec<(String, String)>,
    /// Where published ports are bound
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    address: IpAddr,
    /// Where other hosts reach this host's proxy
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5200")]
    mesh: SocketAddr,
    /// Where the agent is a registry for its engine; loopback
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5100")]
    registry: SocketAddr,
    /// The container engine [default: DOCKER_HOST, or unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    engine: Option<String>,
    /// A label for everything that the agent makes in the engine; may be repeated
    #[arg(long = "engine-label", value_name = "KEY=VALUE", value_parser = super::host::label)]
    engine_labels: Vec<(String, String)>,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    super::telemetry(false)?;
    let data = global.data.clone().unwrap_or_else(|| PathBuf::from(DATA_FOLDER));
    let data = std::path::absolute(&data).map_err(|error| Problem::internal(&error))?;
    let program = std::env::current_exe().map_err(|error| Problem::internal(&error))?;
    let config = AgentConfig {
        hub: args.hub_agent,
        token: args.join,
        host: args.name.map_or_else(machine_name, Ok)?,
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
        publish: args.address,
        mesh: args.mesh,
        registry: args.registry,
        engine: super::engine_address(args.engine.as_deref())?,
        docker_labels: args.engine_labels.into_iter().collect(),
        program,
        control: data.join("proxy.sock"),
        data,
    };
    let shutdown = Shutdown::on_signals().map_err(|error| Problem::internal(&error))?;
    Agent::run(config, shutdown.token())
        .await
        .map_err(|error| Problem::new(500, "agent-failed", "The agent cannot run").detail(error.to_string()))
}

fn machine_name() -> api::Result<HostName> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    name.parse().map_err(|error: api::InvalidName| {
        Problem::new(400, "name-missing", "The host needs a name")
            .detail(error.to_string())
            .hint("Give one with --name.")
    })
}
