//! The published listeners: bound, handed over, and closed as tables come.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::accept::{accept_loop, bind};
use super::connection::{self, Published};
use super::counters::ListenerCounters;
use super::status::ListenerStatus;
use super::table::{RouteKey, Table};

/// A listener of the table.
pub(crate) struct ListenerState {
    pub(crate) key: String,
    pub(crate) address: SocketAddr,
    pub(crate) counters: Arc<ListenerCounters>,
    error: Mutex<Option<String>>,
    /// Where it led to when it was last in the table, for the clients it still has after.
    last_route: Mutex<RouteKey>,
}

impl ListenerState {
    /// Where its next request or connection goes.
    pub(crate) fn route(&self, shared: &Shared) -> RouteKey {
        let current = shared.routes.route_of(self.address);
        current.unwrap_or_else(|| self.last_route.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What the connections of one bound address share. A new listener on the same address takes all of it over, so that no
/// connection is refused or closed in between.
pub(crate) struct Binding {
    pub(crate) address: SocketAddr,
    /// Cancelled when the address leaves the table or the proxy stops: idle clients are closed, the others after their
    /// request.
    pub(crate) closing: CancellationToken,
    listener: RwLock<Arc<ListenerState>>,
}

impl Binding {
    /// The listener the address belongs to at this moment.
    pub(crate) fn listener(&self) -> Arc<ListenerState> {
        self.listener.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Bound {
    binding: Arc<Binding>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// All published listeners of this process. Changed by one caller at a time.
pub(crate) struct Listeners {
    shared: Arc<Shared>,
    states: Vec<Arc<ListenerState>>,
    bound: HashMap<SocketAddr, Bound>,
}

impl Listeners {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, states: Vec::new(), bound: HashMap::new() }
    }

    /// Makes the listeners those of `table`. What cannot be bound is noted and left for [`Listeners::bind_missing`].
    pub(crate) async fn apply(&mut self, table: &Table) {
        let before: HashMap<String, Arc<ListenerState>> =
            self.states.drain(..).map(|state| (state.key.clone(), state)).collect();
        self.states = table
            .listeners
            .iter()
            .map(|wanted| match before.get(&wanted.key) {
                Some(state) if state.address == wanted.address => {
                    *state.last_route.lock().unwrap_or_else(PoisonError::into_inner) = wanted.route_key();
                    state.clone()
                }
                known => Arc::new(ListenerState {
                    key: wanted.key.clone(),
                    address: wanted.address,
                    counters: known.map(|state| state.counters.clone()).unwrap_or_default(),
                    error: Mutex::default(),
                    last_route: Mutex::new(wanted.route_key()),
                }),
            })
            .collect();
        let wanted: HashMap<SocketAddr, &Arc<ListenerState>> = self.states.iter().map(|s| (s.address, s)).collect();
        for (address, bound) in &self.bound {
            if let Some(state) = wanted.get(address) {
                *bound.binding.listener.write().unwrap_or_else(PoisonError::into_inner) = (*state).clone();
            }
        }
        let gone: Vec<Bound> =
            self.bound.extract_if(|address, _| !wanted.contains_key(address)).map(|(_, bound)| bound).collect();
        close(gone).await;
        self.bind_missing();
    }

    /// Tries again what is not bound.
    pub(crate) fn bind_missing(&mut self) {
        for state in &self.states {
            if self.bound.contains_key(&state.address) {
                continue;
            }
            let error = match bind(state.address) {
                Ok(socket) => {
                    tracing::info!(listener = state.key, address = %state.address, "bound");
                    self.bound.insert(state.address, start(self.shared.clone(), state.clone(), socket));
                    None
                }
                Err(error) => Some(format!("cannot bind {}: {error}", state.address)),
            };
            let mut known = state.error.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(error), true) = (&error, *known != error) {
                tracing::warn!(listener = state.key, error, "trying again every second");
            }
            *known = error;
        }
    }

    /// Frees all addresses and lets the clients finish.
    pub(crate) async fn stop(&mut self) {
        close(self.bound.drain().map(|(_, bound)| bound).collect()).await;
    }

    pub(crate) fn status(&self) -> Vec<ListenerStatus> {
        self.states
            .iter()
            .map(|state| ListenerStatus {
                key: state.key.clone(),
                address: state.address,
                bound: self.bound.contains_key(&state.address),
                error: state.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                requests_total: state.counters.requests.load(Relaxed),
                failed_total: state.counters.failed.load(Relaxed),
                cancelled_total: state.counters.cancelled.load(Relaxed),
                connections_total: state.counters.connections.load(Relaxed),
                connections_failed_total: state.counters.connections_failed.load(Relaxed),
            })
            .collect()
    }
}

/// Stops all at once, waits until each socket is closed, and tells its clients.
async fn close(gone: Vec<Bound>) {
    for bound in &gone {
        bound.stop.cancel();
    }
    for bound in gone {
        if let Err(error) = bound.task.await {
            tracing::error!(%error, "a listener's task failed");
        }
        bound.binding.closing.cancel();
    }
}

fn start(shared: Arc<Shared>, state: Arc<ListenerState>, socket: tokio::net::TcpListener) -> Bound {
    let binding =
        Arc::new(Binding { address: state.address, closing: CancellationToken::new(), listener: RwLock::new(state) });
    let stop = CancellationToken::new();
    let (current, connections_max) = (binding.clone(), shared.limits.connections_max);
    let task = tokio::spawn(accept_loop(socket, connections_max, stop.clone(), move |stream, client, permit| {
        let published = Published { shared: shared.clone(), binding: current.clone(), client };
        shared.tasks.spawn(async move {
            connection::serve(published, stream).await;
            drop(permit);
        });
    }));
    Bound { binding, stop, task }
}
