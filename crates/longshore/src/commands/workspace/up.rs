//! `longshore up`.

use std::collections::BTreeSet;
use std::time::Duration;

use ::workspace::attend::{End, Moment, Signal, attend, bring_up};
use ::workspace::control::{self, Listener};
use ::workspace::logs::{self, Line};
use ::workspace::plan::Standing;
use ::workspace::progress::{Told, Voice};
use ::workspace::supervisor::Supervisor;
use ::workspace::wanted::place_of;
use ::workspace::workspace::{Prepared, Sources, Workspace};
use api::{EnvName, Micros, Problem};
use engine::ContainerState;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::view::{self, Showing};
use super::{Place, in_use, show};
use crate::output;
use crate::reach::Global;

/// Signals that may wait: the second makes haste.
const SIGNALS_MAX: usize = 4;
/// Lines of the past that the view begins with, for each container that runs already.
const TAIL_LINES: u32 = 50;
/// Lines of each container among which those are that were written while the engine was away.
const TAIL_LINES_AGAIN: u32 = 1000;
/// How long it takes until lines are asked for again.
const LINES_AGAIN: Duration = Duration::from_secs(1);
/// Lines that may wait to be shown.
const LINES_WAITING_MAX: usize = 1024;

/// Run the whole app on this machine, every service at an environment's release.
///
/// In a checkout of the app: asks the hub which releases the environment has, gets their images, and starts all services
/// in the order of their dependencies. Services given with --dev are built from the checkout. Without the hub it goes on
/// with what is on this machine.
///
/// Stays attached. On a terminal it shows services with their state, CPU and memory, what they write, and takes keys (? lists
/// them); elsewhere, with TERM=dumb, in CI or with --plain, what services write comes as lines. Ctrl-C stops everything.
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
    /// Lines alone, also on a terminal
    #[arg(long)]
    plain: bool,
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
    prepared.notes.iter().for_each(|note| voice.tell(Told::Note(note.clone())));
    let images = workspace.images(&prepared.state.workspace, voice.clone())?;
    let engine = workspace.engine().clone();
    let observed = prepared.observed.clone();
    let mut supervisor = Supervisor::with(engine, images, &prepared.state.workspace, voice.clone(), observed)
        .remembering(workspace.store().hooks_folder());
    if !args.detach && !args.plain && !global.json && view::is_possible() {
        return viewed(&mut workspace, &mut supervisor, prepared, &voice, told).await;
    }
    let _shown = show::show(told, &format!("starting {}", prepared.state.workspace));
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

/// Stays, and shows lines.
async fn attached(
    workspace: &mut Workspace,
    supervisor: &mut Supervisor,
    prepared: Prepared,
    voice: &Voice,
) -> api::Result<()> {
    let (listener, mut orders) = control::listen(&workspace.store().socket())?;
    let (_signals, mut signals) = signals()?;
    let detached = detached(workspace);
    let mut lines = lines(workspace, &prepared, 0).await?;
    let _showing = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            if !detached.contains(&line.service) {
                output::stream(&super::logs::text(&line));
            }
        }
    }));
    let end =
        attend(workspace, supervisor, prepared, &mut orders, &mut signals, voice, |prepared, supervisor, moment| {
            if moment == Moment::Settled {
                show::addresses(prepared);
                if let Err(problem) = all_right(supervisor) {
                    output::problem(&problem);
                }
            }
        })
        .await?;
    ended(&listener, end).await;
    Ok(())
}

/// Stays, and shows the view.
async fn viewed(
    workspace: &mut Workspace,
    supervisor: &mut Supervisor,
    prepared: Prepared,
    voice: &Voice,
    told: mpsc::Receiver<Told>,
) -> api::Result<()> {
    let (listener, mut orders) = control::listen(&workspace.store().socket())?;
    let (sender, mut signals) = signals()?;
    let showing = Showing::begin(view::Parts {
        workspace: prepared.state.workspace.clone(),
        env: prepared.state.env.to_string(),
        engine: workspace.engine().clone(),
        told,
        lines: lines(workspace, &prepared, TAIL_LINES).await?,
        orders: listener.orders(),
        signals: sender,
        detached: detached(workspace),
    })?;
    let seen = |prepared: &Prepared, supervisor: &Supervisor, moment| showing.seen(prepared, supervisor, moment);
    let end = attend(workspace, supervisor, prepared, &mut orders, &mut signals, voice, seen).await;
    // Whatever came of it: what is said next is said on the terminal as it was.
    showing.end().await;
    ended(&listener, end?).await;
    Ok(())
}

async fn ended(listener: &Listener, end: End) {
    listener.finish().await;
    output::note(match end {
        End::Stopped => "Stopped. `longshore up` goes on, `longshore down` removes it.",
        End::Gone => "Taken down.",
    });
}

/// Services whose lines are not shown with those of others.
fn detached(workspace: &Workspace) -> BTreeSet<String> {
    let services = workspace.loaded().project.services.iter();
    services.filter(|(_, service)| service.detached).map(|(name, _)| name.clone()).collect()
}

/// What services write from now on, and before that the last lines of those that run. When the engine was away, it goes on
/// where it ended.
async fn lines(workspace: &Workspace, prepared: &Prepared, tail_lines: u32) -> api::Result<mpsc::Receiver<Line>> {
    let options = move |tail_lines| logs::Options { tail_lines, follow: true, ..logs::Options::default() };
    let (engine, name) = (workspace.engine().clone(), prepared.state.workspace.clone());
    let running = prepared.observed.containers.values().filter(|found| found.state == ContainerState::Running);
    let running: BTreeSet<String> = running.filter_map(|found| Some(place_of(&found.labels)?.0.to_owned())).collect();
    let begun = Micros::now();
    let mut reading =
        logs::lines(engine.clone(), &name, options(tail_lines)).await.map_err(::workspace::Error::from)?;
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    tokio::spawn(async move {
        let mut last: Option<Micros> = None;
        loop {
            let after = last;
            while let Some(Ok(line)) = reading.recv().await {
                let at = line.line.at;
                let is_new = after.map_or(at >= begun || running.contains(&line.service), |after| at > after);
                last = last.max(Some(at));
                if is_new && sender.send(line).await.is_err() {
                    return;
                }
            }
            reading = loop {
                tokio::time::sleep(LINES_AGAIN).await;
                if sender.is_closed() {
                    return;
                }
                if let Ok(reading) = logs::lines(engine.clone(), &name, options(TAIL_LINES_AGAIN)).await {
                    break reading;
                }
            };
            last = last.or(Some(begun));
        }
    });
    Ok(receiver)
}

/// Ctrl-C, a closed terminal, and being asked to end are the same: everything is stopped. Only the first makes haste the
/// second time: a terminal that closes may say so often.
fn signals() -> api::Result<(mpsc::Sender<Signal>, mpsc::Receiver<Signal>)> {
    let (sender, receiver) = mpsc::channel(SIGNALS_MAX);
    let kinds = [
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::hangup(), Signal::Closed),
    ];
    for (kind, means) in kinds {
        let mut signal = signal(kind)
            .map_err(|error| Problem::new(500, "signals", "Signals cannot be waited for").detail(error.to_string()))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if sender.send(means).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok((sender, receiver))
}
