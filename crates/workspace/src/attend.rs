//! A workspace that a terminal is attached to: kept as it should be until it is told to end, and changed by what other
//! commands ask for meanwhile.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use tokio::sync::{mpsc, oneshot};

use crate::control::{Answer, Asked, Order};
use crate::error::Error;
use crate::follow::{Due, Follower};
use crate::plan::Standing;
use crate::progress::{Told, Voice};
use crate::supervisor::{Goal, Supervisor};
use crate::wanted::{Origin, WantedService};
use crate::workspace::{Prepared, Sources, Workspace};

/// How often ports are looked for again when others took those that were free.
const PORT_TRIES_MAX: u32 = 5;

/// Why a workspace that was attended to ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to stop: nothing runs any more.
    Stopped,
    /// Another command took it down.
    Gone,
}

/// What a terminal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stop everything. The second time: at once.
    Stop,
    /// It was closed: stop everything, however often that is said.
    Closed,
}

/// What has come about, as far as it concerns whoever shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Something may have changed.
    Working,
    /// Nothing is left to do.
    Settled,
    /// Everything is being stopped.
    Ending,
}

/// An order that is being carried out.
struct Pending {
    service: Option<String>,
    answer: oneshot::Sender<Answer>,
}

/// Brings a workspace to what was prepared, and gives what that was in the end: a port may be taken between the look at it
/// and the start of its container, as by another workspace that comes up at the same moment, and then another one is.
///
/// # Errors
/// The engine went away, or what is asked for cannot be had.
pub async fn bring_up(
    workspace: &mut Workspace,
    supervisor: &mut Supervisor,
    prepared: Prepared,
) -> Result<Prepared, Error> {
    let mut prepared = prepared;
    supervisor.aim(Goal::Run(prepared.wanted.clone()));
    supervisor.settle().await?;
    for _ in 0..PORT_TRIES_MAX {
        if !supervisor.port_was_taken() {
            break;
        }
        prepared = on_other_ports(workspace).await?;
        supervisor.aim(Goal::Run(prepared.wanted.clone()));
        supervisor.settle().await?;
    }
    Ok(prepared)
}

/// What should be now that a port is not free any more.
async fn on_other_ports(workspace: &mut Workspace) -> Result<Prepared, Error> {
    let state = workspace.known_state()?.clone();
    let prepared = workspace.prepare(state, Sources::Of(&BTreeSet::new())).await?;
    workspace.commit(prepared.state.clone())?;
    Ok(prepared)
}

/// Keeps a workspace as it should be until a signal, or another command, ends it. `seen` is called after everything that
/// happened; with [`Moment::Settled`] once whenever nothing is left to do.
///
/// # Errors
/// What was asked for at the beginning cannot be had.
pub async fn attend(
    workspace: &mut Workspace,
    supervisor: &mut Supervisor,
    prepared: Prepared,
    orders: &mut mpsc::Receiver<Asked>,
    signals: &mut mpsc::Receiver<Signal>,
    voice: &Voice,
    mut seen: impl FnMut(&Prepared, &Supervisor, Moment),
) -> Result<End, Error> {
    let mut prepared = prepared;
    supervisor.aim(Goal::Run(prepared.wanted.clone()));
    let mut pending: Vec<Pending> = Vec::new();
    let mut end: Option<End> = None;
    let mut was_settled = false;
    let mut port_tries = 0;
    let mut follower = follow(workspace, &prepared, voice).await?;
    loop {
        let is_settled = supervisor.turn();
        workspace.store().images_save(&supervisor.images_known())?;
        if is_settled && end.is_none() && supervisor.port_was_taken() && port_tries < PORT_TRIES_MAX {
            port_tries += 1;
            prepared = on_other_ports(workspace).await?;
            supervisor.aim(Goal::Run(prepared.wanted.clone()));
            continue;
        }
        let moment = match end {
            Some(_) => Moment::Ending,
            None if is_settled && !was_settled => Moment::Settled,
            None => Moment::Working,
        };
        seen(&prepared, supervisor, moment);
        if is_settled {
            if let Some(end) = end {
                for one in pending.drain(..) {
                    // Whoever asked may have gone.
                    let _unheard = one.answer.send(Answer::Done);
                }
                return Ok(end);
            }
            if let Some(follower) = &mut follower {
                let all_right = supervisor
                    .standing()
                    .values()
                    .all(|standing| matches!(standing, Standing::Ready | Standing::Completed));
                follower.settled(&prepared.wanted, supervisor.observed(), all_right).await?;
            }
            for one in pending.drain(..) {
                let _unheard = one.answer.send(answer(supervisor, one.service.as_deref()));
            }
        }
        was_settled = is_settled;
        tokio::select! {
            () = supervisor.wait() => {}
            Some(signal) = signals.recv() => match (end, signal) {
                (Some(_), Signal::Stop) => supervisor.hurry(),
                (Some(_), Signal::Closed) => {}
                (None, _) => {
                    end = Some(End::Stopped);
                    supervisor.aim(Goal::Stopped);
                }
            },
            due = next(&mut follower), if end.is_none() => match due {
                Ok(Due::Nothing) => {}
                Ok(Due::RestartBegins(containers)) => supervisor.restart_begins(&containers),
                Ok(Due::RestartEnds(containers)) => supervisor.restart_ends(&containers),
                Ok(Due::Rebuild) => {
                    let services = follower.as_ref().map(Follower::rebuilding).unwrap_or_default();
                    if let Some(follower) = &mut follower {
                        follower.builds_begin(&services);
                    }
                    match rebuilt(workspace, &services).await {
                        Ok(next) => {
                            workspace.commit(next.state.clone())?;
                            prepared = next;
                            supervisor.aim(Goal::Run(prepared.wanted.clone()));
                        }
                        // What runs goes on running, and the next save is another try.
                        Err(error) => voice.tell(Told::Note(error.why)),
                    }
                    was_settled = false;
                }
                Err(error) => {
                    voice.tell(Told::Note(format!("saves are not followed any more: {}", error.why)));
                    follower = None;
                }
            },
            Some(asked) = orders.recv() => match asked.order {
                Order::Down => {
                    end = Some(End::Gone);
                    supervisor.aim(Goal::Gone);
                    pending.push(Pending { service: None, answer: asked.answer });
                }
                Order::Switch { service, develop, debugger } if end.is_none() => {
                    let rebuilding = follower.as_ref().map(Follower::rebuilding).unwrap_or_default();
                    match switch(workspace, &service, develop, debugger, rebuilding).await {
                        Ok(next) => {
                            next.notes.iter().for_each(|note| voice.tell(Told::Note(note.clone())));
                            workspace.commit(next.state.clone())?;
                            prepared = next;
                            // What is watched follows from what comes from source.
                            drop(follower.take());
                            follower = follow(workspace, &prepared, voice).await?;
                            supervisor.aim(Goal::Run(prepared.wanted.clone()));
                            was_settled = false;
                            pending.push(Pending { service: Some(service), answer: asked.answer });
                        }
                        Err(error) => {
                            let _unheard = asked.answer.send(Answer::Refused(error.into()));
                        }
                    }
                }
                Order::Restart { service } if end.is_none() => match supervisor.restart(&service) {
                    true => {
                        was_settled = false;
                        pending.push(Pending { service: Some(service), answer: asked.answer });
                    }
                    false => {
                        let problem = api::Problem::new(404, "service-unknown", format!("{service} is not to run here"));
                        let _unheard = asked.answer.send(Answer::Refused(problem));
                    }
                },
                Order::Switch { .. } | Order::Restart { .. } => {
                    let problem = api::Problem::new(409, "workspace-ending", "The workspace is about to end");
                    let _unheard = asked.answer.send(Answer::Refused(problem));
                }
            },
        }
    }
}

/// Follows what is saved, if a service from source says how; builds that are to come take the sources as they are now.
async fn follow(workspace: &Workspace, prepared: &Prepared, voice: &Voice) -> Result<Option<Follower>, Error> {
    let (engine, state) = (workspace.engine().clone(), workspace.store().watch_folder());
    let project = &workspace.loaded().project;
    let started = Follower::start(engine, workspace.folder(), &state, &prepared.wanted, project, voice.clone());
    let mut follower = started.await?;
    if let Some(follower) = &mut follower {
        let from_source = |(name, service): (&'_ String, &WantedService)| {
            matches!(service.origin, Origin::Source(_)).then(|| name.clone())
        };
        follower.builds_begin(&prepared.wanted.services.iter().filter_map(from_source).collect::<Vec<_>>());
    }
    Ok(follower)
}

async fn next(follower: &mut Option<Follower>) -> Result<Due, Error> {
    match follower {
        Some(follower) => follower.next().await,
        None => std::future::pending().await,
    }
}

/// What should be after the sources of these services changed.
async fn rebuilt(workspace: &mut Workspace, services: &BTreeSet<String>) -> Result<Prepared, Error> {
    workspace.reload()?;
    let state = workspace.known_state()?.clone();
    workspace.prepare(state, Sources::Of(services)).await
}

/// What should be once a service comes from somewhere else; the others stay as they are, but for those that are being
/// built again. A `debugger` is remembered until the service is the environment's again.
///
/// # Errors
/// There is no such service, or it cannot come from there.
pub async fn switch(
    workspace: &mut Workspace,
    service: &str,
    develop: bool,
    debugger: Option<NonZeroU16>,
    rebuilding: BTreeSet<String>,
) -> Result<Prepared, Error> {
    workspace.reload()?;
    crate::resolve::service_known(&workspace.loaded().project, service)?;
    let mut state = workspace.known_state()?.clone();
    if develop {
        state.develop.insert(service.to_owned());
        state.debuggers.extend(debugger.map(|port| (service.to_owned(), port)));
    } else {
        state.develop.remove(service);
        state.debuggers.remove(service);
    }
    let mut services = rebuilding;
    services.insert(service.to_owned());
    workspace.prepare(state, Sources::Of(&services)).await
}

fn answer(supervisor: &Supervisor, service: Option<&str>) -> Answer {
    let standing = service.and_then(|service| supervisor.standing().get(service)).copied();
    match standing {
        Some(standing @ (Standing::Failed | Standing::Unhealthy | Standing::Pending)) => {
            let service = service.unwrap_or_default();
            let mut why: Vec<String> = supervisor.failures().cloned().collect();
            if why.is_empty() {
                why.push(match standing {
                    Standing::Unhealthy => format!("the healthcheck of {service} fails"),
                    Standing::Pending => format!("{service} waits for what does not come"),
                    _ => format!("{service} ended"),
                });
            }
            let problem = api::Problem::new(500, "service-failed", "Not everything runs").detail(why.join("\n"));
            Answer::Refused(problem.hint(format!("`longshore logs {service}` shows what it wrote.")))
        }
        _ => Answer::Done,
    }
}
