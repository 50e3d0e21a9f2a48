//! One question at a time: who asks what is being asked already waits for that answer. And answers that hold for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tracing::Instrument as _;

/// Questions under way at once, of one kind and upstream; more are refused.
const FLIGHTS_MAX: usize = 1000;

type Flight<T> = Shared<BoxFuture<'static, Option<T>>>;

/// Questions under way. Cheap to clone.
pub(super) struct Flights<K, T>(Arc<Mutex<HashMap<K, Flight<T>>>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Takes a question off the list however it ends.
struct Landing<K: Hash + Eq, T> {
    flights: Arc<Mutex<HashMap<K, Flight<T>>>>,
    key: K,
}

impl<K: Hash + Eq, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        locked(&self.flights).remove(&self.key);
    }
}

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The answer to a question, which `ask` asks unless someone does so already. It goes on to its end when nobody waits
    /// any more. None when too many are under way, or the asking panicked.
    pub(super) async fn join<F>(&self, key: K, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let flight = {
            let mut flights = locked(&self.0);
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None if flights.len() >= FLIGHTS_MAX => return None,
                None => {
                    let landing = Landing { flights: Arc::clone(&self.0), key: key.clone() };
                    let asking = ask();
                    // It cannot land before it is on the list: landing waits for the lock.
                    let asking = async move {
                        let _landing = landing;
                        asking.await
                    };
                    let task = tokio::spawn(asking.instrument(tracing::trace_span!("upstream question")));
                    let flight = async move { task.await.ok() }.boxed().shared();
                    flights.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }
}

/// What holds for a while, a bounded number of things.
pub(super) struct Recent<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
    entries_max: usize,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: Mutex::default(), entries_max }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let entries = locked(&self.entries);
        let (until, value) = entries.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    pub(super) fn forget(&self, key: &K) {
        locked(&self.entries).remove(key);
    }

    pub(super) fn put(&self, key: K, value: V, holds: Duration) {
        let now = Instant::now();
        let mut entries = locked(&self.entries);
        if entries.len() >= self.entries_max {
            entries.retain(|_, (until, _)| *until > now);
            // Forgetting costs a question, no more.
            if entries.len() >= self.entries_max {
                entries.clear();
            }
        }
        entries.insert(key, (now + holds, value));
    }
}

/// What is behind these locks is changed by single steps: a panic leaves nothing half changed.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_asks_for_all_and_goes_on_when_they_leave() {
        let flights: Flights<u32, usize> = Flights::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let ask = || {
            let (asked, mut gate) = (Arc::clone(&asked), gate.clone());
            async move {
                let _ = gate.wait_for(|open| *open).await;
                asked.fetch_add(1, Ordering::SeqCst)
            }
        };
        // The one who asked first leaves.
        assert!(tokio::time::timeout(Duration::from_millis(1), flights.join(1, ask)).await.is_err());
        let waiting = futures::future::join_all((0..20).map(|_| flights.join(1, ask)));
        open.send_replace(true);
        assert_eq!(waiting.await, vec![Some(0); 20]);
        assert_eq!(flights.join(1, ask).await, Some(1), "an answer is not kept");
        let panics = || async { panic!("as the test wants") };
        assert_eq!(flights.join(2, panics).await, None);
        assert!(locked(&flights.0).is_empty());
    }

    #[test]
    fn what_holds_for_a_while_is_bounded() {
        let recent = Recent::new(10);
        recent.put(0, "old", Duration::ZERO);
        assert_eq!(recent.get(&0), None);
        for at in 0..100 {
            recent.put(at, "new", Duration::from_secs(60));
            assert!(recent.get(&at).is_some() && locked(&recent.entries).len() <= 10);
        }
    }
}
