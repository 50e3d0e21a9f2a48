//! The store against a simple model, on both databases.

use std::collections::{BTreeMap, BTreeSet};

use api::Micros;
use api::delivery::{Deployed, ImageAddress, Running};
use base::db::Db;
use base::db::testing::for_each_backend;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::held::{Held, Picked};
use super::*;
use crate::component::{Ecosystem, Evidence};
use crate::hub::numbers::Numbers;
use crate::hub::testing::{image, kept, repository};

fn key(name: u8, version: u8) -> Key {
    Key {
        ecosystem: Ecosystem::Maven,
        name: format!("org.example:artifact{name}"),
        version: format!("1.{version}"),
        architecture: None,
        source: None,
        platform: None,
    }
}

fn entry(name: u8, version: u8, licence: u8) -> Entry {
    Entry {
        key: key(name, version),
        evidence: Evidence::Contained,
        is_owned: false,
        places: vec![(Some(1), vec![format!("/app/{name}.jar")])],
        licences: vec![format!("Licence-{licence}")],
    }
}

async fn enter(store: &Store, numbers: impl Iterator<Item = u32>) -> BTreeMap<u32, i64> {
    let mut known = BTreeMap::new();
    for number in numbers {
        let entered = vec![(repository(), image(number), "v1".to_owned())];
        let after = (Micros(1), "team/app".to_owned(), image(number).to_string());
        store.entered(entered, Vec::new(), after, Micros(1)).await.unwrap();
        known.insert(number, store.image(&image(number)).await.unwrap().unwrap().number);
    }
    known
}

fn listed(holders: &Holders) -> Vec<i64> {
    holders.images.falling(&Numbers::default(), false).collect()
}

/// What an image has: names and versions with their licences.
type Has = BTreeMap<(u8, u8), u8>;

/// A step: an image is read and has this, or with none leaves.
fn steps() -> impl Strategy<Value = Vec<(u32, Option<Has>)>> {
    let has = prop::collection::btree_map((0..6_u8, 0..3_u8), 0..3_u8, 0..8);
    prop::collection::vec((0..5_u32, prop::option::weighted(0.8, has)), 1..15)
}

async fn holds(db: &Db, steps: Vec<(u32, Option<Has>)>) {
    let store = Store::new(db.clone());
    let mut model: BTreeMap<u32, Has> = BTreeMap::new();
    for (at, (number, has)) in steps.into_iter().enumerate() {
        match has {
            Some(has) => {
                let numbers = enter(&store, [number].into_iter()).await;
                let entries = has.iter().map(|((name, version), licence)| entry(*name, *version, *licence)).collect();
                store.keep(vec![kept(numbers[&number], entries)], Micros(at as i64)).await.unwrap();
                model.insert(number, has);
            }
            None => {
                let Some(row) = store.image(&image(number)).await.unwrap() else { continue };
                store.forget(row.number).await.unwrap();
                assert!(store.image(&image(number)).await.unwrap().is_some(), "what is in a repository stays");
                store.left(image(number), repository()).await.unwrap();
                store.forget(row.number).await.unwrap();
                assert!(store.image(&image(number)).await.unwrap().is_none());
                model.remove(&number);
            }
        }
        let mut numbers: BTreeMap<i64, u32> = BTreeMap::new();
        for number in model.keys() {
            numbers.insert(store.image(&image(*number)).await.unwrap().unwrap().number, *number);
        }
        let found = async |seek: Seek| -> BTreeSet<u32> {
            listed(&store.holders(&seek, OwnedIn::All).await.unwrap()).iter().map(|number| numbers[number]).collect()
        };
        let wanted = |holds: &dyn Fn(&Has) -> bool| -> BTreeSet<u32> {
            model.iter().filter(|(_, has)| holds(has)).map(|(number, _)| *number).collect()
        };
        for name in 0..6_u8 {
            let by_name = |name: String, version| Seek::Name { ecosystem: None, name, version };
            let has_name = |has: &Has| has.keys().any(|(known, _)| *known == name);
            assert_eq!(found(by_name(format!("artifact{name}"), None)).await, wanted(&has_name));
            assert_eq!(found(by_name(format!("org.example:artifact{name}"), None)).await, wanted(&has_name));
            let version = by_name(format!("artifact{name}"), Some("1.1".to_owned()));
            assert_eq!(found(version).await, wanted(&|has| has.contains_key(&(name, 1))));
        }
        for licence in 0..3_u8 {
            let Some(id) = store.licence(&format!("Licence-{licence}")).await.unwrap() else { continue };
            let holders = store.holders(&Seek::Licence(id), OwnedIn::All).await.unwrap();
            let listed = listed(&holders);
            for (number, Holding { picked: Picked { count, first }, .. }) in
                store.holdings(&holders, &listed, 100).await.unwrap()
            {
                let has = &model[&numbers[&number]];
                let ids: Vec<i64> = first.iter().map(|(component, _)| *component).collect();
                assert_eq!(count, ids.len() as u64);
                let keys: BTreeSet<Key> = store.keys(&ids).await.unwrap().into_values().collect();
                let under = has.iter().filter(|(_, known)| **known == licence);
                assert_eq!(keys, under.map(|((name, version), _)| key(*name, *version)).collect());
            }
            assert_eq!(
                listed.iter().map(|number| numbers[number]).collect::<BTreeSet<_>>(),
                wanted(&|has| has.values().any(|known| *known == licence))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sought_is_found_in_the_images_that_have_it_and_in_no_other() {
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..12 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        for_each_backend(CONTEXT, MIGRATIONS, |db| {
            let steps = steps.clone();
            async move { holds(&db, steps).await }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_component_lies_is_told() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let store = Store::new(db);
        let numbers = enter(&store, 0..1).await;
        store.keep(vec![kept(numbers[&0], vec![entry(1, 2, 0)])], Micros(5)).await.unwrap();
        let seek = Seek::Name { ecosystem: Some(Ecosystem::Maven), name: "artifact1".to_owned(), version: None };
        let holders = store.holders(&seek, OwnedIn::All).await.unwrap();
        let holding = store.holdings(&holders, &[numbers[&0]], 100).await.unwrap().remove(&numbers[&0]).unwrap();
        let picked = holding.picked;
        let [(_, Held { evidence, places, .. })] = picked.first.as_slice() else { panic!("{picked:?}") };
        assert_eq!((picked.count, *evidence), (1, Evidence::Contained));
        let chains = store.chains(&[places[0].1]).await.unwrap();
        assert_eq!((places[0].0, &chains[&places[0].1]), (Some(1), &vec!["/app/1.jar".to_owned()]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_told_again_change_nothing() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let store = Store::new(db);
        let numbers = enter(&store, 0..2).await;
        let release = |number: u32| format!("{number:016x}").parse::<api::delivery::ReleaseId>().unwrap();
        let recorded = |number: u32| Deployed::Release {
            release: release(number),
            app: "app".parse().unwrap(),
            service: "web".parse().unwrap(),
            image: ImageAddress { repository: repository(), digest: image(number) },
            created_at: Micros(i64::from(number)),
        };
        let has = |release: Option<u32>, at: i64| Deployed::Environment {
            env: "prod".parse().unwrap(),
            app: "app".parse().unwrap(),
            service: "web".parse().unwrap(),
            release: release.map(|number| format!("{number:016x}").parse().unwrap()),
            at: Micros(at),
        };
        let runs = |number: u32, at: i64| Deployed::Host {
            host: "one".parse().unwrap(),
            at: Micros(at),
            running: vec![Running {
                env: "prod".parse().unwrap(),
                app: "app".parse().unwrap(),
                service: "web".parse().unwrap(),
                release: release(number),
                digest: image(number),
            }],
        };
        let events =
            [recorded(0), has(Some(0), 10), runs(0, 11), recorded(1), has(Some(1), 20), runs(1, 21), has(None, 30)];
        // Told whole, then from any point on again.
        for from in 0..events.len() {
            for event in &events[from..] {
                store.deployed(event.clone()).await.unwrap();
            }
            let exposures = store.exposures(&[release(0), release(1)], true).await.unwrap();
            let times = |number: u32| -> Vec<_> {
                exposures[&release(number)].iter().map(|one| (one.since.0, one.until.map(|until| until.0))).collect()
            };
            assert_eq!(times(0), [(10, Some(20))]);
            // The host still runs it, though the environment has none any more.
            assert_eq!(times(1), [(20, Some(30)), (21, None)]);
            assert_eq!(exposures[&release(1)][1].hosts, ["one".parse().unwrap()]);
        }
        assert_eq!(store.images_used().await.unwrap(), [numbers[&1]].into_iter().collect());
        assert_eq!(store.releases(&[image(1)]).await.unwrap()[0].release, release(1));
        let waiting = store.not_examined(10).await.unwrap();
        assert_eq!((waiting.len(), waiting[0].why.as_str()), (1, "its image waits to be read"));
        store.keep(vec![kept(numbers[&1], Vec::new())], Micros(40)).await.unwrap();
        assert_eq!(store.not_examined(10).await.unwrap(), []);
        let releases = store.releases_of(&"app".parse().unwrap(), &"web".parse().unwrap()).await.unwrap();
        assert_eq!(releases, [(release(0), vec![(numbers[&0], false)]), (release(1), vec![(numbers[&1], true)])]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_no_image_leaves_what_is_kept_of_all_images() {
    for_each_backend(CONTEXT, MIGRATIONS, |db| async move {
        let store = Store::new(db);
        enter(&store, 0..1).await;
        let before = store.changes().await.unwrap();
        let after = (Micros(2), "team/app".to_owned(), image(7).to_string());
        store.entered(Vec::new(), Vec::new(), after.clone(), Micros(2)).await.unwrap();
        assert_eq!(store.pushed_after().await.unwrap(), after);
        assert_eq!(store.changes().await.unwrap(), before);
        enter(&store, 1..2).await;
        assert_ne!(store.changes().await.unwrap(), before);
    })
    .await;
}
