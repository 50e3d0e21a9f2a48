//! The live routes: which upstream takes the next request, and who is busy. No IO.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::status::UpstreamStatus;
use super::table::{RouteKey, Table};

/// The routes of the current table. Picking happens under a read lock and swapping under the write lock, so that a
/// pick is either counted before a swap or made from the new table.
pub(crate) struct Routes {
    live: RwLock<Live>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Live {
    number: u64,
    listeners: HashMap<SocketAddr, RouteKey>,
    routes: HashMap<RouteKey, LiveRoute>,
    /// Everything in the table, and what left it but was busy when the last table came.
    places: BTreeMap<Place, Arc<Load>>,
}

struct LiveRoute {
    hold: Duration,
    locals: Vec<(Place, Arc<Load>)>,
    remotes: Vec<(Place, Arc<Load>)>,
    /// Whose turn it is among equals. Apart for each purpose: a connection that only waits for its client to turn out to
    /// speak HTTP must not shift the turns of requests, or every second upstream would get none.
    request_turn: AtomicUsize,
    connection_turn: AtomicUsize,
}

/// Somewhere a request can go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Local { key: String, address: SocketAddr },
    Remote { host: String, address: SocketAddr, route: RouteKey },
}

/// How busy a place is, and what is known of it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    requests: AtomicU64,
    connections: AtomicU64,
    draining: AtomicBool,
    speaks_http: AtomicBool,
}

/// What a place is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Request,
    Connection,
}

/// Which places of a route may be used: another host's request must not travel on to a third.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Everywhere,
    ThisHost,
}

/// One use of a place; the place is busy until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    load: Arc<Load>,
    purpose: Purpose,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self { live: RwLock::default(), changes: watch::Sender::new(0) }
    }

    pub(crate) fn number(&self) -> u64 {
        self.read().number
    }

    /// Wakes with each table.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes `table` the one that is served. Loads of places that stay are kept.
    pub(crate) fn swap(&self, table: &Table) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut live.places);
        let mut places: BTreeMap<Place, Arc<Load>> = BTreeMap::new();
        let mut entry = |place: Place| {
            let load = places.entry(place.clone()).or_insert_with(|| known.get(&place).cloned().unwrap_or_default());
            load.draining.store(false, SeqCst);
            (place, load.clone())
        };
        live.routes = table
            .routes
            .iter()
            .map(|route| {
                let key = route.route_key();
                let locals = route.locals.iter().map(|u| Place::Local { key: u.key.clone(), address: u.address });
                let remotes = route.remotes.iter().map(|r| Place::Remote {
                    host: r.host.clone(),
                    address: r.address,
                    route: key.clone(),
                });
                let route = LiveRoute {
                    hold: Duration::from_millis(route.hold_ms),
                    locals: locals.map(&mut entry).collect(),
                    remotes: remotes.map(&mut entry).collect(),
                    request_turn: AtomicUsize::new(0),
                    connection_turn: AtomicUsize::new(0),
                };
                (key, route)
            })
            .collect();
        for (place, load) in known {
            if !places.contains_key(&place) && load.active() > 0 {
                load.draining.store(true, SeqCst);
                places.insert(place, load);
            }
        }
        live.places = places;
        live.listeners = table.listeners.iter().map(|l| (l.address, l.route_key())).collect();
        live.number = table.number;
        drop(live);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Where a published address leads to, unless it left the table.
    pub(crate) fn route_of(&self, address: SocketAddr) -> Option<RouteKey> {
        self.read().listeners.get(&address).cloned()
    }

    /// How long to wait for an upstream of the route; zero when there is no such route.
    pub(crate) fn hold(&self, route: &RouteKey) -> Duration {
        self.read().routes.get(route).map_or(Duration::ZERO, |r| r.hold)
    }

    /// Takes the least busy local place that was not tried yet, else the least busy remote one; equals take turns.
    pub(crate) fn pick(
        &self,
        route: &RouteKey,
        purpose: Purpose,
        reach: Reach,
        tried: &[Place],
    ) -> Option<(Place, Busy)> {
        let live = self.read();
        let route = live.routes.get(route)?;
        let turn = match purpose {
            Purpose::Request => &route.request_turn,
            Purpose::Connection => &route.connection_turn,
        };
        let (place, load) = route.least_busy(turn.fetch_add(1, Relaxed), reach, tried)?;
        Some((place.clone(), Busy::new(load.clone(), purpose)))
    }

    /// Whether the place that would be picked for the next request has answered in HTTP before.
    pub(crate) fn speaks_http(&self, route: &RouteKey) -> bool {
        let live = self.read();
        let next =
            live.routes.get(route).and_then(|r| r.least_busy(r.request_turn.load(Relaxed), Reach::Everywhere, &[]));
        next.is_some_and(|(_, load)| load.speaks_http.load(Relaxed))
    }

    /// The containers in the table and those still busy, by key.
    pub(crate) fn upstreams(&self) -> Vec<UpstreamStatus> {
        let mut by_key: BTreeMap<String, UpstreamStatus> = BTreeMap::new();
        for (place, load) in &self.read().places {
            let Place::Local { key, .. } = place else { continue };
            let draining = load.draining.load(SeqCst);
            if draining && load.active() == 0 {
                continue;
            }
            let status = by_key.entry(key.clone()).or_insert_with(|| UpstreamStatus {
                key: key.clone(),
                active_requests: 0,
                active_connections: 0,
                draining: true,
            });
            status.active_requests += load.requests.load(SeqCst);
            status.active_connections += load.connections.load(SeqCst);
            status.draining &= draining;
        }
        by_key.into_values().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveRoute {
    fn least_busy(&self, turn: usize, reach: Reach, tried: &[Place]) -> Option<&(Place, Arc<Load>)> {
        let least = |places: &'_ [(Place, Arc<Load>)]| -> Option<usize> {
            let count = places.len();
            (0..count)
                .map(|i| turn.wrapping_add(i) % count)
                .filter(|&i| !tried.contains(&places[i].0))
                .min_by_key(|&i| places[i].1.active())
        };
        if let Some(i) = least(&self.locals) {
            return self.locals.get(i);
        }
        match reach {
            Reach::Everywhere => least(&self.remotes).and_then(|i| self.remotes.get(i)),
            Reach::ThisHost => None,
        }
    }
}

impl Load {
    fn active(&self) -> u64 {
        self.requests.load(SeqCst) + self.connections.load(SeqCst)
    }

    fn counter(&self, purpose: Purpose) -> &AtomicU64 {
        match purpose {
            Purpose::Request => &self.requests,
            Purpose::Connection => &self.connections,
        }
    }
}

impl Busy {
    fn new(load: Arc<Load>, purpose: Purpose) -> Self {
        load.counter(purpose).fetch_add(1, SeqCst);
        Self { load, purpose }
    }

    /// The same place, from now on busy with something else.
    pub(crate) fn into_purpose(self, purpose: Purpose) -> Self {
        Self::new(self.load.clone(), purpose)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.load.draining.load(SeqCst)
    }

    pub(crate) fn note_http(&self) {
        self.load.speaks_http.store(true, Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.load.counter(self.purpose).fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table::{Listener, Remote, Route, Upstream};
    use super::*;

    fn route_key() -> RouteKey {
        RouteKey { service: "prod/vote/vote".parse().unwrap(), port: 80 }
    }

    fn table(locals: &[u16], remotes: &[u16]) -> Table {
        let address = |n: &u16| SocketAddr::from(([127, 0, 0, 1], 1000 + n));
        let RouteKey { service, port } = route_key();
        Table {
            number: 1,
            listeners: vec![Listener { key: "l".into(), address: address(&0), service: service.clone(), port }],
            routes: vec![Route {
                service,
                port,
                hold_ms: 0,
                locals: locals.iter().map(|n| Upstream { key: format!("u{n}"), address: address(n) }).collect(),
                remotes: remotes.iter().map(|n| Remote { host: format!("h{n}"), address: address(n) }).collect(),
            }],
            mesh: None,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Swap(Vec<u16>),
        Pick,
        Finish(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => prop::collection::btree_set(0u16..4, 0..4).prop_map(|s| Step::Swap(s.into_iter().collect())),
            4 => Just(Step::Pick),
            3 => any::<prop::sample::Index>().prop_map(Step::Finish),
        ]
    }

    proptest! {
        /// The model is a bag of (upstream, use): a pick goes to the least busy one in the table, and the status is the
        /// bag counted, with whatever is busy outside the table draining.
        #[test]
        fn picks_and_status_agree_with_a_bag(steps in prop::collection::vec(step(), 1..60)) {
            let routes = Routes::new();
            let mut current: Vec<u16> = Vec::new();
            let mut bag: Vec<(String, Busy)> = Vec::new();
            for step in steps {
                match step {
                    Step::Swap(locals) => { routes.swap(&table(&locals, &[])); current = locals; }
                    Step::Pick => {
                        let picked = routes.pick(&route_key(), Purpose::Request, Reach::Everywhere, &[]);
                        prop_assert_eq!(picked.is_some(), !current.is_empty());
                        if let Some((Place::Local { key, .. }, busy)) = picked {
                            let load = |k: &str| bag.iter().filter(|(b, _)| b == k).count();
                            let least = current.iter().map(|n| load(&format!("u{n}"))).min();
                            prop_assert_eq!(Some(load(&key)), least);
                            bag.push((key, busy));
                        }
                    }
                    Step::Finish(i) => if !bag.is_empty() { bag.swap_remove(i.index(bag.len())); }
                }
                let mut expected: Vec<(String, u64, bool)> = (0..4u16).filter_map(|n| {
                    let key = format!("u{n}");
                    let busy = bag.iter().filter(|(k, _)| *k == key).count() as u64;
                    let listed = current.contains(&n);
                    (listed || busy > 0).then_some((key, busy, !listed))
                }).collect();
                expected.sort();
                let got: Vec<_> =
                    routes.upstreams().into_iter().map(|u| (u.key, u.active_requests, u.draining)).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }

    #[test]
    fn other_hosts_come_after_this_one_and_never_for_another_host() {
        let routes = Routes::new();
        routes.swap(&table(&[1], &[2]));
        let (first, _busy) = routes.pick(&route_key(), Purpose::Request, Reach::Everywhere, &[]).unwrap();
        assert!(matches!(first, Place::Local { .. }));
        let second = routes.pick(&route_key(), Purpose::Request, Reach::Everywhere, std::slice::from_ref(&first));
        assert!(matches!(second, Some((Place::Remote { .. }, _))));
        assert!(routes.pick(&route_key(), Purpose::Request, Reach::ThisHost, &[first]).is_none());
    }
}
