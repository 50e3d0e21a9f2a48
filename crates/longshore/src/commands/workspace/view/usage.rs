//! What containers take, looked at now and then: one call for each, which the engine answers from what its kernel counts
//! anyway. A stream for each would make it count every second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::{ContainerStats, Engine};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::model::Usage;
use super::rows::Snapshot;

/// How often.
const LOOK_SECONDS: u64 = 3;
/// Calls under way at the same time.
const CALLS_MAX: usize = 4;

/// Looks at all containers that run, for as long as the handle lives.
pub(super) fn look(
    engine: Arc<dyn Engine>,
    snapshot: watch::Receiver<Snapshot>,
) -> (watch::Receiver<BTreeMap<String, Usage>>, AbortOnDropHandle<()>) {
    let (sender, receiver) = watch::channel(BTreeMap::new());
    let task = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(LOOK_SECONDS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: BTreeMap<String, ContainerStats> = BTreeMap::new();
        loop {
            ticks.tick().await;
            let ids: Vec<String> =
                snapshot.borrow().services.iter().flat_map(|service| service.running.iter().cloned()).collect();
            let looks = ids.into_iter().map(|id| {
                let engine = engine.clone();
                // One that has just ended takes nothing.
                async move { engine.container_stats(&id).await.ok().map(|stats| (id, stats)) }
            });
            let now: BTreeMap<String, ContainerStats> =
                futures::stream::iter(looks).buffer_unordered(CALLS_MAX).filter_map(std::future::ready).collect().await;
            let usage = |(id, stats): (&String, &ContainerStats)| {
                let cpu_percent = before.get(id).and_then(|before| stats.cpu_percent_since(before));
                (id.clone(), Usage { cpu_percent, memory_bytes: stats.memory_bytes })
            };
            let usages = now.iter().map(usage).collect();
            before = now;
            if sender.send(usages).is_err() {
                return;
            }
        }
    });
    (receiver, AbortOnDropHandle::new(task))
}
