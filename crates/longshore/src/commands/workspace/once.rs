//! `longshore run` and `longshore debug`: a service's container, for once.

use std::io::IsTerminal as _;
use std::sync::Arc;

use ::workspace::once::{self, Once};
use ::workspace::progress::{Told, Voice};
use ::workspace::supervisor::{Goal, Supervisor};
use ::workspace::wanted::{Origin, Wanted};
use ::workspace::workspace::{Prepared, Sources, Workspace};
use api::{EnvName, Problem};
use base::folder::FolderError;
use engine::WantedContainer;
use tokio::sync::oneshot;

use super::{Place, in_use, show, terminal};
use crate::output;
use crate::reach::Global;

/// Run a command in a container of a service's own, beside those that run.
///
/// What the service awaits is started first. Ports are not published, and nobody else reaches it by the service's name.
/// What is piped to this command is its input. The container is removed when the command has ended.
#[derive(clap::Args)]
pub(in crate::commands) struct RunArgs {
    #[command(flatten)]
    once: OnceArgs,
}

/// Start an environment's release of a service here, to look into a fault.
///
/// The image and definition are those that the environment runs; values of variables that look like secrets are masked.
/// It is on the workspace's networks, with the workspace's volumes, and nothing is published. The container is removed
/// when it has ended.
#[derive(clap::Args)]
pub(in crate::commands) struct DebugArgs {
    /// The environment
    #[arg(long, value_name = "ENV", default_value = "prod")]
    env: EnvName,
    #[command(flatten)]
    once: OnceArgs,
}

/// A container for once.
#[derive(clap::Args)]
struct OnceArgs {
    /// Without a terminal, although there is one
    #[arg(short = 'T', long)]
    no_terminal: bool,
    #[command(flatten)]
    place: Place,
    /// The service
    service: String,
    /// The program and its arguments [default: the service's own]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl OnceArgs {
    /// How the container differs from the service's own. Without a terminal it takes what is piped to this command.
    fn once(self, masked: bool) -> Once {
        let terminal = !self.no_terminal && terminal::is_interactive();
        let command = (!self.command.is_empty()).then_some(self.command);
        Once { command, terminal, stdin: terminal || !std::io::stdin().is_terminal(), masked }
    }
}

pub(in crate::commands) async fn run(global: &Global, args: RunArgs) -> api::Result<()> {
    let args = args.once;
    let mut workspace = args.place.clone().open(global)?;
    ::workspace::resolve::service_known(&workspace.loaded().project, &args.service)?;
    let mut state = workspace.state_for(None).await?;
    let asked = std::mem::replace(&mut state.services, [args.service.clone()].into());
    let mut prepared = workspace.prepare(state, Sources::All).await?;
    prepared.state.services = asked;
    let service = args.service.clone();
    go(&mut workspace, prepared, &service, &args.once(false), true).await
}

pub(in crate::commands) async fn debug(global: &Global, args: DebugArgs) -> api::Result<()> {
    let DebugArgs { env, once: args } = args;
    let mut workspace = args.place.clone().open(global)?;
    ::workspace::resolve::service_known(&workspace.loaded().project, &args.service)?;
    let mut state = workspace.state_for(Some(env.clone())).await?;
    state.develop.clear();
    state.services = [args.service.clone()].into();
    let prepared = workspace.prepare(state, Sources::All).await?;
    let origin = prepared.wanted.services.get(&args.service).map(|service| &service.origin);
    if !matches!(origin, Some(Origin::Release { .. })) {
        return Err(Problem::new(404, "release-missing", "The environment has no release of the service")
            .detail(format!("{env} does not have {}", args.service))
            .hint(format!(
                "`longshore release ls` lists releases; `longshore run {}` runs it from source.",
                args.service
            )));
    }
    let service = args.service.clone();
    go(&mut workspace, prepared, &service, &args.once(true), false).await
}

/// Runs a container for once. With `awaited`, what the service awaits runs first.
async fn go(
    workspace: &mut Workspace,
    prepared: Prepared,
    service: &str,
    once: &Once,
    awaited: bool,
) -> api::Result<()> {
    let own = own(&prepared.wanted, service)?;
    ::workspace::volumes::all_whole(&prepared)?;
    let (voice, told) = Voice::new();
    let shown = show::show(told, &format!("starting {service}"));
    prepared.notes.iter().for_each(|note| voice.tell(Told::Note(note.clone())));
    let images = workspace.images(&prepared.state.workspace, voice.clone())?;
    let mut before = prepared.wanted.as_ref().clone();
    before.services.retain(|name, _| awaited && name != service);
    match workspace.store().lock() {
        Ok(_lock) => {
            workspace.commit(committed(workspace, &prepared))?;
            let engine = workspace.engine().clone();
            let observed = prepared.observed.clone();
            let mut supervisor =
                Supervisor::with(engine, images.clone(), &prepared.state.workspace, voice.clone(), observed)
                    .remembering(workspace.store().hooks_folder());
            supervisor.aim(Goal::Run(Arc::new(before)));
            supervisor.settle().await?;
            super::up::all_right(&supervisor)?;
        }
        // Whoever attends to the workspace keeps what is awaited.
        Err(FolderError::InUse { .. }) => {}
        Err(error) => return Err(in_use(error)),
    }
    if let Some(wanted) = prepared.wanted.services.get(service) {
        images.ensure(service, wanted).await?;
        let known = workspace.store().images()?.into_iter().chain(images.known()).collect();
        workspace.store().images_save(&known)?;
    }
    drop((voice, images));
    show::finish(shown).await;
    let suffix = format!("{:08x}", std::process::id());
    let container = once::container(&own, once, &suffix);
    let engine = workspace.engine().clone();
    let id = once::create(engine.as_ref(), &container, &prepared.wanted.contents).await?;
    let status = talk(engine.as_ref(), &id, once).await;
    if let Err(error) = engine.container_remove(&id).await {
        output::note(&format!("note: the container {} is left: {error}", container.name));
    }
    terminal::end_as(status?)
}

/// What is remembered: nothing of a look into another environment but the ports, which are the workspace's.
fn committed(workspace: &Workspace, prepared: &Prepared) -> ::workspace::state::State {
    match workspace.state() {
        Some(state) => state.clone(),
        None => prepared.state.clone(),
    }
}

async fn talk(engine: &dyn engine::Engine, id: &str, once: &Once) -> api::Result<i64> {
    let (mut input, raw) = terminal::input(once.terminal, once.stdin)?;
    // An engine takes the end of input before the start for the end of everything.
    let (started, starts) = oneshot::channel();
    input.stdin = input.stdin.map(|stdin| Box::pin(terminal::after(starts, stdin)) as _);
    let work = async {
        let session = engine.container_attach(id, input).await?;
        engine.container_start(id).await?;
        Ok::<_, engine::EngineError>(session)
    };
    let session = work.await.map_err(::workspace::Error::from)?;
    // Without input nobody waits for it.
    let _no_input = started.send(());
    let status = tokio::select! {
        status = terminal::show(session) => status,
        // Without a terminal of its own, Ctrl-C is for this command: the container is removed with it.
        _ = tokio::signal::ctrl_c() => Ok(130),
    };
    drop(raw);
    status
}

fn own(wanted: &Wanted, service: &str) -> api::Result<WantedContainer> {
    let containers = wanted.services.get(service).map(|service| service.containers.as_slice());
    containers.and_then(<[_]>::first).cloned().ok_or_else(|| {
        Problem::new(409, "service-off", "The service is switched off")
            .detail(format!("{service} has 0 replicas"))
            .hint("Give it one in compose.dev.yaml.")
    })
}
