//! `longshore up`.

use std::collections::BTreeSet;

use ::workspace::attend::{End, Signal, attend, bring_up};
use ::workspace::control;
use ::workspace::logs;
use ::workspace::plan::Standing;
use ::workspace::progress::{Told, Voice};
use ::workspace::supervisor::Supervisor;
use ::workspace::workspace::{Prepared, Sources, Workspace};
use api::{EnvName, Micros, Problem};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Place, in_use, show};
use crate::output;
use crate::reach::Global;

/// Signals that may wait: the second makes haste.
const SIGNALS_MAX: usize = 4;

/// Run the whole app on this machine, every service at an environment's release.
///
/// In a checkout of the app: asks the hub which releases the environment has, gets their images, and starts all services
/// in the order of their dependencies. Services given with --dev are built from the checkout. Without the hub it goes on
/// with what is on this machine. Stays attached and shows what services write; Ctrl-C stops everything.
#[derive(clap::Args)]
pub(in crate::commands) struct Args {
    /// Only these services, and what they await
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// The environment whose releases run [default: the one of the last time, else prod]
    #[arg(long, value_name = "ENV")]
    from: Option<EnvName>,
    /// Build these services from the checkout
    #[arg(long, value_name = "SERVICE", num_args = 1..)]
    dev: Vec<String>,
    /// Leave everything running and do not stay attached
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    place: Place,
}

pub(in crate::commands) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let mut workspace = args.place.open(global)?;
    let _lock = workspace.store().lock().map_err(in_use)?;
    let mut state = workspace.state_for(args.from).await?;
    state.develop.extend(args.dev);
    state.services = args.services.into_iter().collect();
    let prepared = workspace.prepare(state, Sources::All).await?;
    ::workspace::volumes::all_whole(&prepared)?;
    workspace.commit(prepared.state.clone())?;
    let (voice, told) = Voice::new();
    let _shown = show::show(told, &format!("starting {}", prepared.state.workspace));
    prepared.notes.iter().for_each(|note| voice.tell(Told::Note(note.clone())));
    let images = workspace.images(&prepared.state.workspace, voice.clone())?;
    let engine = workspace.engine().clone();
    let observed = prepared.observed.clone();
    let mut supervisor = Supervisor::with(engine, images, &prepared.state.workspace, voice.clone(), observed)
        .remembering(workspace.store().hooks_folder());
    if !args.detach {
        return attached(&mut workspace, &mut supervisor, prepared, &voice).await;
    }
    let prepared = bring_up(&mut workspace, &mut supervisor, prepared).await?;
    workspace.store().images_save(&supervisor.images_known())?;
    if global.json {
        output::json(&json!({
            "workspace": prepared.state.workspace,
            "env": prepared.state.env,
            "services": supervisor.standing().keys().collect::<Vec<_>>(),
            "addresses": prepared.addresses,
        }))?;
    } else {
        show::addresses(&prepared);
    }
    all_right(&supervisor)
}

/// Whether everything came to run.
pub(super) fn all_right(supervisor: &Supervisor) -> api::Result<()> {
    let of = |wanted: &[Standing]| {
        let bad = supervisor.standing().iter().filter(|(_, standing)| wanted.contains(standing));
        bad.map(|(service, _)| service.as_str()).collect::<Vec<_>>().join(", ")
    };
    let failed = of(&[Standing::Failed, Standing::Unhealthy]);
    let waiting = of(&[Standing::Pending]);
    let failures: Vec<&String> = supervisor.failures().collect();
    if failed.is_empty() && waiting.is_empty() && failures.is_empty() {
        return Ok(());
    }
    let mut why = Vec::new();
    if !failed.is_empty() {
        why.push(format!("failed: {failed}"));
    }
    if !waiting.is_empty() {
        why.push(format!("waiting for these, or for what they need: {waiting}"));
    }
    why.extend(failures.into_iter().cloned());
    Err(Problem::new(500, "service-failed", "Not everything runs")
        .detail(why.join("\n"))
        .hint("`longshore logs` shows what they wrote; what runs was left running."))
}

async fn attached(
    workspace: &mut Workspace,
    supervisor: &mut Supervisor,
    prepared: Prepared,
    voice: &Voice,
) -> api::Result<()> {
    let name = prepared.state.workspace.clone();
    let (listener, mut orders) = control::listen(&workspace.store().socket())?;
    let mut signals = signals()?;
    let _lines = lines(workspace, &name, Micros::now()).await?;
    let end = attend(workspace, supervisor, prepared, &mut orders, &mut signals, voice, |prepared, supervisor| {
        show::addresses(prepared);
        if let Err(problem) = all_right(supervisor) {
            output::problem(&problem);
        }
    })
    .await?;
    listener.finish().await;
    output::note(match end {
        End::Stopped => "Stopped. `longshore up` goes on, `longshore down` removes it.",
        End::Gone => "Taken down.",
    });
    Ok(())
}

/// What services write from now on, but for those that are to be left out.
async fn lines(workspace: &Workspace, name: &str, from: Micros) -> api::Result<AbortOnDropHandle<()>> {
    let options = logs::Options { tail_lines: 0, follow: true, ..logs::Options::default() };
    let engine = workspace.engine().clone();
    let services = workspace.loaded().project.services.iter();
    let detached: BTreeSet<String> =
        services.filter(|(_, service)| service.detached).map(|(name, _)| name.clone()).collect();
    let mut lines = logs::lines(engine, name, options).await.map_err(::workspace::Error::from)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(Ok(line)) = lines.recv().await {
            if line.line.at >= from && !detached.contains(&line.service) {
                output::stream(&super::logs::text(&line));
            }
        }
    })))
}

/// Ctrl-C, a closed terminal, and being asked to end are the same: everything is stopped.
fn signals() -> api::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(SIGNALS_MAX);
    for kind in [SignalKind::interrupt(), SignalKind::hangup(), SignalKind::terminate()] {
        let mut signal = signal(kind)
            .map_err(|error| Problem::new(500, "signals", "Signals cannot be waited for").detail(error.to_string()))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if sender.send(Signal::Stop).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}
