//! Trees are trees, whoever comes and goes, and few of them change.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::STRIPES;
use super::*;

fn standing(rack: u8, is_complete: bool) -> HostStanding<u32, u8> {
    HostStanding {
        zone: Zone { region: String::new(), rack: rack.to_string() },
        is_edge: false,
        is_slow: false,
        fetching: (!is_complete).then_some(0).into_iter().collect(),
        whole: is_complete.then_some(0).into_iter().collect(),
        complaints: Vec::new(),
    }
}

fn settled(tracker: &mut Tracker<u32, u8>, now: &mut Now) {
    *now += Duration::from_secs(3);
    tracker.settle(*now);
}

fn parent(tracker: &Tracker<u32, u8>, host: u32, stripe: usize) -> Option<Source<u32>> {
    tracker.plan(&host)?.trees.first()?.1.get(stripe)?.clone()
}

/// Follows parents up to the hub, or to a host that has the blob.
fn is_rooted(tracker: &Tracker<u32, u8>, host: u32, stripe: usize) -> bool {
    let mut seen = BTreeSet::from([host]);
    let mut at = host;
    loop {
        match parent(tracker, at, stripe) {
            Some(Source::Hub) => return true,
            Some(Source::Host(above)) if seen.insert(above) => at = above,
            Some(Source::Host(_)) => return false,
            // It stands in no tree because it is a source.
            None => return tracker.plan(&at).is_some_and(|plan| plan.trees.is_empty()),
        }
    }
}

fn children(tracker: &Tracker<u32, u8>) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for (host, _) in tracker.hosts() {
        for stripe in 0..STRIPES {
            if let Some(Source::Host(above)) = parent(tracker, *host, stripe) {
                *counts.entry(above).or_default() += 1;
            }
        }
    }
    counts
}

proptest! {
    #[test]
    fn every_stripe_has_a_tree_over_all_hosts(
        changes in proptest::collection::vec((0..60_u32, 0..4_u8, 0..10_u8), 1..120),
    ) {
        let (mut tracker, mut now) = (Tracker::new(TrackerConfig::default(), Now::ZERO, 0), Now::ZERO);
        for (host, rack, kind) in changes {
            let said = match kind {
                2 => HostStanding { is_slow: true, ..standing(rack, false) },
                3 => standing(rack, true),
                4 => HostStanding { complaints: vec![host % 7], ..standing(rack, false) },
                _ => standing(rack, false),
            };
            match kind {
                0 | 1 => tracker.forget(now, &host),
                5 => {
                    // All say that they are here.
                    let all: Vec<_> = tracker.hosts().map(|(host, standing)| (*host, standing.clone())).collect();
                    for (host, standing) in all {
                        tracker.announce(now, host, standing);
                    }
                    settled(&mut tracker, &mut now);
                }
                _ => assert!(tracker.announce(now, host, said)),
            }
        }
        settled(&mut tracker, &mut now);
        let wants = tracker.hosts().any(|(_, standing)| !standing.fetching.is_empty());
        for (host, standing) in tracker.hosts().filter(|_| wants) {
            let plan = tracker.plan(host).unwrap();
            prop_assert!(!plan.neighbours.contains(host));
            if !standing.fetching.is_empty() {
                prop_assert_eq!(plan.trees.len(), 1);
            }
            for stripe in 0..STRIPES {
                let is_shunned = plan.trees.first().is_some_and(|(_, parents)| parents.iter().all(Option::is_none));
                prop_assert!(is_shunned || is_rooted(&tracker, *host, stripe), "host {} in stripe {}", host, stripe);
            }
        }
    }
}

#[test]
fn equal_hosts_give_as_much_as_they_get_and_few_parents_change() {
    let (mut tracker, mut now) = (Tracker::new(TrackerConfig::default(), Now::ZERO, 0), Now::ZERO);
    let racks = |host: u32| u8::try_from(host % 10).unwrap_or_default();
    for host in 0..300 {
        tracker.announce(now, host, standing(racks(host), false));
    }
    settled(&mut tracker, &mut now);
    assert!(children(&tracker).values().all(|count| *count <= STRIPES + 1), "{:?}", children(&tracker));
    let from_hub = |tracker: &Tracker<u32, u8>| {
        let parents = (0..300).flat_map(|host| (0..STRIPES).map(move |stripe| (host, stripe)));
        parents.filter(|(host, stripe)| parent(tracker, *host, *stripe) == Some(Source::Hub)).count()
    };
    assert_eq!(from_hub(&tracker), STRIPES, "the hub sends each stripe once");
    let near = |host: u32, stripe: usize| match parent(&tracker, host, stripe) {
        Some(Source::Host(above)) => racks(above) == racks(host),
        _ => false,
    };
    let near = (0..300).map(|host| (0..STRIPES).filter(|stripe| near(host, *stripe)).count()).sum::<usize>();
    assert!(near > 450, "{near} of 900 parents are of the same rack");
    let before: Vec<_> = (0..300).map(|host| tracker.plan(&host).map(|plan| plan.trees.clone())).collect();
    tracker.forget(now, &7);
    tracker.announce(now, 300, standing(0, false));
    settled(&mut tracker, &mut now);
    let changed = (0..300).filter(|host| tracker.plan(host).map(|plan| plan.trees.clone()) != before[*host as usize]);
    assert!(changed.count() < 30);
}

#[test]
fn those_who_are_done_send_to_those_who_come() {
    let (mut tracker, mut now) = (Tracker::new(TrackerConfig::default(), Now::ZERO, 0), Now::ZERO);
    tracker.announce(now, 1, standing(0, false));
    settled(&mut tracker, &mut now);
    // Both are planned at once.
    tracker.announce(now, 1, standing(0, true));
    tracker.announce(now, 2, standing(0, false));
    settled(&mut tracker, &mut now);
    assert!((0..STRIPES).all(|stripe| parent(&tracker, 2, stripe) == Some(Source::Host(1))), "{:?}", tracker.plan(&2));
}

#[test]
fn a_layer_comes_from_those_who_have_it_of_another_image_and_few_hosts_are_neighbours_in_all() {
    let (mut tracker, mut now) = (Tracker::new(TrackerConfig::default(), Now::ZERO, 0), Now::ZERO);
    for host in 0..200 {
        // Half have two of eight layers; those who come to them fetch all.
        let whole: BTreeSet<u8> = if host % 2 == 0 { [0, 1].into() } else { BTreeSet::new() };
        let fetching = (0..8).filter(|blob| !whole.contains(blob)).collect();
        tracker.announce(now, host, HostStanding { fetching, whole, ..standing(0, false) });
    }
    settled(&mut tracker, &mut now);
    let mut from_hub = BTreeMap::<u8, usize>::new();
    for host in 0..200 {
        let plan = tracker.plan(&host).unwrap();
        let around = plan.trees.iter().flat_map(|(_, parents)| parents.iter().flatten());
        let mut around: BTreeSet<Source<u32>> = around.cloned().collect();
        around.extend(plan.neighbours.iter().copied().map(Source::Host));
        assert!(around.len() < 40, "host {host} deals with {}", around.len());
        for (blob, parents) in &plan.trees {
            *from_hub.entry(*blob).or_default() += parents.iter().flatten().filter(|it| **it == Source::Hub).count();
        }
    }
    assert_eq!(from_hub, (0..8).map(|blob| (blob, if blob < 2 { 0 } else { STRIPES })).collect());
}

#[test]
fn a_host_that_harms_others_gets_nothing_from_trees_for_a_while_and_gives_nothing_for_longer() {
    let (mut tracker, mut now) = (Tracker::new(TrackerConfig::default(), Now::ZERO, 0), Now::ZERO);
    let (mut gets, mut gives) = (None, None);
    tracker.announce(now, 8, standing(0, false));
    for round in 0..1000 {
        for host in 0..9 {
            let complaints = (round == 0 && host < 2).then_some(8).into_iter().collect();
            tracker.announce(now, host, HostStanding { complaints, ..standing(0, false) });
        }
        now += Duration::from_secs(5);
        tracker.settle(now);
        if tracker.plan(&8).unwrap().trees[0].1.iter().any(Option::is_some) {
            gets.get_or_insert(now.as_secs());
        }
        if children(&tracker).contains_key(&8) {
            gives.get_or_insert(now.as_secs());
        }
    }
    assert!(gets.is_some_and(|at| (600..=610).contains(&at)), "{gets:?}");
    assert!(gives.is_some_and(|at| (3600..=3610).contains(&at)), "{gives:?}");
}
