//! `longshore agent`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;

use agent::hub::HubError;
use agent::identity::IdentityError;
use agent::{Agent, AgentConfig, AgentError};
use api::{HostName, Problem};
use base::shutdown::Shutdown;
use fanout::local::Names;

use crate::reach::{Global, folder_problem};

/// Where an agent keeps its data unless told otherwise.
const DATA_FOLDER: &str = "/var/lib/longshore-agent";

/// Run a host's agent: brings the host to what the hub says it should be, and reports what it is.
///
/// The first time it needs a one-time token from `longshore host token`. It connects to the hub, never the other way
/// round. If the hub is away it goes on with what it was told last. What it knows and keeps is in
/// /var/lib/longshore-agent, or in the folder of --data.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<super::agent_host::Command>,
    /// The hub's port for agents
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5001")]
    hub_agent: String,
    /// A one-time token; not needed once the host is enrolled, unless its certificate was revoked
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
    /// Where other agents reach this one, to exchange pieces of images; port 0 for any
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:5101")]
    peers: SocketAddr,
    /// Take no part in the exchange: images come from the hub alone
    #[arg(long)]
    no_peers: bool,
    /// Serve this host's region, that of its label `region`: fetch what hosts there want, so that each byte comes over the
    /// long line once and they do not ask the hub
    #[arg(long, conflicts_with = "no_peers")]
    edge: bool,
    /// How much may be sent to other agents, a second, in bytes with a unit, as 100MiB [default: no limit]
    ///
    /// What agents send one another is marked to yield in any case: networks that know the mark (DSCP LE, RFC 8622) and
    /// this machine's own queue let all else go first. Where neither does, this and --download-rate leave the services
    /// their share.
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    upload_rate: Option<NonZeroU64>,
    /// How much may be received from other agents and as pieces from the hub, a second, in bytes with a unit [default: no
    /// limit]
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    download_rate: Option<NonZeroU64>,
    /// What the agent may keep of images, in bytes or with a unit; what was used least recently makes room
    #[arg(long, value_name = "SIZE", default_value = "20GiB", value_parser = base::units::size_parse)]
    store_bytes_max: u64,
    /// A registry that the agent answers for as a mirror of containerd: the hub's own name, or an upstream's with the
    /// prefix that the hub has it under; may be repeated
    #[arg(long = "mirror", value_name = "HOST[:PORT][=PREFIX]")]
    mirrored: Vec<String>,
    /// The container engine [default: DOCKER_HOST, or unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    engine: Option<String>,
    /// A label for everything that the agent makes in the engine; may be repeated
    #[arg(long = "engine-label", value_name = "KEY=VALUE", value_parser = super::host::label)]
    engine_labels: Vec<(String, String)>,
}

/// Bytes a second.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let bytes = base::units::size_parse(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(bytes).ok_or_else(|| "a rate of nothing would move nothing".to_owned())
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let data = global.data.clone().unwrap_or_else(|| PathBuf::from(DATA_FOLDER));
    let data = std::path::absolute(&data).map_err(|error| Problem::internal(&error))?;
    if let Some(command) = args.command {
        return super::agent_host::run(global, &data, command).await;
    }
    super::telemetry(false, None)?;
    let program = std::env::current_exe().map_err(|error| Problem::internal(&error))?;
    let config = AgentConfig {
        hub: args.hub_agent,
        token: args.join,
        host: args.name.map_or_else(machine_name, Ok)?,
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
        publish: args.address,
        mesh: args.mesh,
        registry: args.registry,
        peers: (!args.no_peers).then_some(args.peers),
        is_edge: args.edge,
        upload_bytes_per_second: args.upload_rate,
        download_bytes_per_second: args.download_rate,
        store_bytes_max: args.store_bytes_max,
        mirrored: Names::parse(args.mirrored.iter().map(String::as_str))
            .map_err(|error| Problem::new(400, "mirror-invalid", "That is no registry").detail(error.to_string()))?,
        engine: crate::reach::engine_address(args.engine.as_deref())?,
        docker_labels: args.engine_labels.into_iter().collect(),
        program,
        control: data.join("proxy.sock"),
        data,
    };
    let shutdown = Shutdown::on_signals().map_err(|error| Problem::internal(&error))?;
    Agent::run(config, shutdown.token()).await.map_err(problem_of)
}

/// What ended the agent, for people; an error of the hub is the hub's own problem.
fn problem_of(error: AgentError) -> Problem {
    let other = |status, kind, error: &dyn std::fmt::Display| {
        Problem::new(status, kind, "The agent cannot run").detail(error.to_string())
    };
    match error {
        AgentError::Folder(error) | AgentError::Identity(IdentityError::Folder(error)) => folder_problem(&error),
        AgentError::Identity(IdentityError::TokenMissing { host }) => {
            Problem::new(400, "host-token-missing", "This machine is not enrolled, and no token was given")
                .hint(format!("Make one on the hub with `longshore host token --host {host}` and give it with --join."))
        }
        AgentError::Identity(IdentityError::TokenMalformed { why }) => {
            Problem::new(400, "host-token-malformed", "The token is not one of Longshore's")
                .detail(why)
                .hint("Copy all of what `longshore host token` shows (lsh1.….….…).")
        }
        AgentError::Identity(IdentityError::ForeignHub { hub }) => {
            Problem::new(403, "token-foreign", "The token is of another hub")
                .detail(format!("the CA of the hub at {hub} has another fingerprint; nothing was sent to it"))
                .hint("Check --hub-agent, or make a token on that hub: `longshore host token`.")
        }
        AgentError::Identity(error @ IdentityError::OtherHost { .. }) => other(409, "host-other", &error),
        AgentError::Hub(error) | AgentError::Identity(IdentityError::Hub(error)) => match error {
            HubError::Refused(problem) => *problem,
            error @ HubError::Address { .. } => other(400, "hub-address", &error),
            error @ HubError::ForeignCa => other(403, "hub-foreign", &error),
            error => other(502, "hub-unreachable", &error),
        },
        AgentError::Listen(error) => other(409, "port-in-use", &error),
        error @ AgentError::Peers { .. } => other(409, "port-in-use", &error),
        AgentError::Engine(error) => {
            let problem = Problem::new(503, "engine-unusable", "The engine cannot be used").detail(error.to_string());
            error.hint.map_or(problem.clone(), |hint| problem.hint(hint))
        }
        error => other(500, "agent-failed", &error),
    }
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
