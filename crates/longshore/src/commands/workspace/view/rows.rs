//! What the view knows of each service, from what should be and what is.

use std::sync::Arc;

use ::workspace::attend::Moment;
use ::workspace::plan::{Observed, Standing};
use ::workspace::supervisor::Supervisor;
use ::workspace::wanted::{Origin, Wanted, place_of};
use ::workspace::workspace::Prepared;
use engine::{ContainerState, ContainerSummary, Health};

/// Digits of a release's id.
const RELEASE_CHARS: usize = 8;

/// What a service does, in the words of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// For what it needs.
    Waiting,
    Starting,
    Running,
    Healthy,
    Unhealthy,
    Restarting,
    Paused,
    /// It ended with status 0.
    Done,
    /// It ended with another status.
    Exited(i64),
    /// Something about it could not be done.
    Failed,
    Stopping,
    Stopped,
}

/// Where a service comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// The first digits of the release's id.
    Release(String),
    Source,
    /// An image that the project names.
    Image,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    pub(super) state: State,
    /// Containers that are as the state says, of so many that should be.
    pub(super) count: (usize, usize),
    pub(super) from: From,
    /// Somebody works on it.
    pub(super) develop: bool,
    /// Where it is found, if it has a published port.
    pub(super) address: Option<String>,
    /// The engine's ids of those of its containers that run.
    pub(super) running: Vec<String>,
    /// What it writes is not shown with that of others.
    pub(super) detached: bool,
}

/// All that is known of a workspace at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) services: Vec<Service>,
    /// Everything is being stopped.
    pub(super) is_ending: bool,
}

/// What is known now. `is_detached` says of which services lines are not shown with those of others.
pub(super) fn snapshot(
    prepared: &Prepared,
    supervisor: &Supervisor,
    moment: Moment,
    is_detached: impl Fn(&str) -> bool,
) -> Snapshot {
    let (wanted, observed) = (&prepared.wanted, supervisor.observed());
    let is_ending = moment == Moment::Ending;
    let of_one = |name: &String| {
        let standing = supervisor.standing().get(name).copied().filter(|_| !is_ending);
        let address = prepared.addresses.iter().find(|address| address.service == *name);
        let service = service(name, standing, wanted, observed)?;
        Some(Service {
            develop: prepared.state.develop.contains(name),
            address: address.map(|address| address.url.clone()),
            detached: is_detached(name),
            ..service
        })
    };
    Snapshot { services: wanted.services.keys().filter_map(of_one).collect(), is_ending }
}

/// A service; without a standing everything is being stopped.
fn service(name: &str, standing: Option<Standing>, wanted: &Wanted, observed: &Observed) -> Option<Service> {
    let should = wanted.services.get(name)?;
    let here = observed.containers.values().filter(|found| place_of(&found.labels).is_some_and(|(of, _)| of == name));
    let here: Vec<&ContainerSummary> = here.collect();
    let runs = |found: &&&ContainerSummary| is_up(found.state);
    let state = match standing {
        None => ended(&here),
        Some(standing) => state(standing, &here, should.is_job),
    };
    let alike = here.iter().filter(|found| match state {
        State::Healthy => found.health == Health::Healthy,
        State::Unhealthy => found.health == Health::Unhealthy,
        _ => is_up(found.state),
    });
    Some(Service {
        name: name.into(),
        state,
        count: (alike.count(), should.containers.len()),
        from: match &should.origin {
            Origin::Release { id, .. } => From::Release(id.as_str().chars().take(RELEASE_CHARS).collect()),
            Origin::Source(_) => From::Source,
            Origin::Image { .. } => From::Image,
        },
        develop: false,
        address: None,
        running: here.iter().filter(runs).map(|found| found.id.clone()).collect(),
        detached: false,
    })
}

fn is_up(state: ContainerState) -> bool {
    matches!(state, ContainerState::Running | ContainerState::Restarting | ContainerState::Paused)
}

fn ended(here: &[&ContainerSummary]) -> State {
    match here.iter().any(|found| is_up(found.state)) {
        true => State::Stopping,
        false => State::Stopped,
    }
}

fn state(standing: Standing, here: &[&ContainerSummary], is_job: bool) -> State {
    let any = |state: ContainerState| here.iter().any(|found| found.state == state);
    let exit_code = || {
        let ended = here.iter().filter(|found| found.state == ContainerState::Exited);
        ended.filter_map(|found| found.exit_code).find(|code| *code != 0)
    };
    match standing {
        // What runs is to be replaced, or stopped and started.
        Standing::Pending if here.iter().any(|found| is_up(found.state)) => State::Restarting,
        Standing::Pending => State::Waiting,
        Standing::Starting if any(ContainerState::Restarting) => State::Restarting,
        Standing::Starting if is_job => State::Running,
        Standing::Starting => State::Starting,
        Standing::Ready if any(ContainerState::Paused) => State::Paused,
        Standing::Ready if here.iter().any(|found| found.health == Health::Healthy) => State::Healthy,
        Standing::Ready => State::Running,
        Standing::Completed => State::Done,
        Standing::Unhealthy => State::Unhealthy,
        Standing::Failed => exit_code().map_or(State::Failed, State::Exited),
    }
}
