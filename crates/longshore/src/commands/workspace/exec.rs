//! `longshore exec`.

use engine::{ContainerState, ExecOptions};

use super::{Place, terminal};
use crate::reach::Global;
use api::Problem;

/// Run a command in a service's container.
#[derive(clap::Args)]
pub(in crate::commands) struct Args {
    /// As this user, `name`, `uid` or `uid:gid`
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// In this folder
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Without a terminal, although there is one
    #[arg(short = 'T', long)]
    no_terminal: bool,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    index: usize,
    #[command(flatten)]
    place: Place,
    /// The service
    service: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(in crate::commands) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let workspace = args.place.open(global)?;
    let state = workspace.known_state()?;
    ::workspace::resolve::service_known(&workspace.loaded().project, &args.service)?;
    let engine = workspace.engine();
    let found = ::workspace::supervisor::look(engine.as_ref(), &state.workspace).await;
    let found = found.map_err(::workspace::Error::from)?;
    let here = found.containers.values().find(|found| {
        ::workspace::wanted::place_of(&found.labels) == Some((args.service.as_str(), args.index))
            && found.state == ContainerState::Running
    });
    let Some(here) = here else {
        return Err(Problem::new(409, "service-not-running", "The service does not run")
            .detail(format!("{} number {} has no running container", args.service, args.index))
            .hint("Start it with `longshore up`, or use `longshore run`."));
    };
    let options =
        ExecOptions { command: args.command, user: args.user, working_dir: args.workdir, ..ExecOptions::default() };
    let (input, raw) = terminal::input(!args.no_terminal && terminal::is_interactive(), true)?;
    let session = engine.container_exec(&here.id, &options, input).await.map_err(::workspace::Error::from)?;
    let status = terminal::show(session).await;
    drop(raw);
    terminal::end_as(status?)
}
