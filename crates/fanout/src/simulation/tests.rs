//! Fleets of every kind complete.

use super::*;

#[test]
fn x() {
    let n: usize = std::env::var("N").unwrap().parse().unwrap();
    let fleet = Fleet::equal(n, 512, 128 * 1024, 8.0 * 1024.0 * 1024.0);
    let begun = std::time::Instant::now();
    let outcome = run(&fleet);
    let slowest = outcome.slowest_seconds(|_| true);
    let bound = fleet.bound_seconds();
    eprintln!(
        "{n}: bound {bound:.3} slowest {slowest:?} ratio {:?} copies {:.4} twice {} stalled {} events {} in {:?}",
        slowest.map(|s| s / bound),
        outcome.hub_bytes / fleet.bytes(),
        outcome.twice,
        outcome.stalled,
        outcome.events,
        begun.elapsed()
    );
}
