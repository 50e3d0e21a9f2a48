//! Announcements and the plans that answer them, orders to fetch ahead, several hubs on one database.

use std::time::{Duration, Instant};

use api::fanout::{Announce, Fanout as _, Parent, PeerPlan, PreheatRequest};
use base::db::testing::for_each_database;
use fanout::grant::Grant;
use oci::Digest;

use crate::world::{LIMIT, World, address, announcing, host, identity, standing};

fn parents(plan: &PeerPlan) -> Vec<&Parent> {
    plan.trees.iter().flat_map(|trees| &trees.parents).flatten().collect()
}

#[tokio::test]
async fn hosts_that_want_an_image_are_told_of_those_that_have_it() {
    for_each_database(|database| async move {
        let world = World::new(database).await.working();
        let image = Digest::sha256_of(b"image");
        let (has, wants) = (identity("has", &[]), identity("wants", &[]));
        world.announce(&has, &announcing(vec![standing(image, 100)])).await.unwrap();
        let is_planned = |plan: &PeerPlan| parents(plan).contains(&&Parent::Host(host("has")));
        let plan = world.planned(&wants, &announcing(vec![standing(image, 10)]), is_planned).await;
        let neighbour = plan.neighbours.iter().find(|other| other.host == host("has")).unwrap();
        // The agent does not know its own address, the hub does.
        assert_eq!(neighbour.address.to_string(), "10.1.2.3:5101");
        assert!(plan.trees.iter().all(|trees| trees.digest == image));
    })
    .await;
}

#[tokio::test]
async fn an_announcement_is_held_until_something_is_new() {
    for_each_database(|database| async move {
        let world = World::new(database).await.working();
        let web = identity("web", &[]);
        let settled = world.planned(&web, &announcing(Vec::new()), |plan| plan.hub_is_neighbour).await;
        let held = Announce { seen: settled.number, wait_seconds: 1, ..announcing(Vec::new()) };
        let begun = Instant::now();
        let same = world.announce(&web, &held).await.unwrap();
        assert!(same == settled && begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
        // What others would tell it ends the wait: here an image that it is to have.
        let image = address("app/web", Digest::sha256_of(b"image"));
        let held = Announce { wait_seconds: 10, ..held };
        let (answer, ()) = tokio::join!(world.announce(&web, &held), async {
            world.fleet.ahead.lock().unwrap().insert(web.host.clone(), vec![image.clone()]);
            world.fleet.changed();
        });
        assert_eq!(answer.unwrap().prefetch, [image]);
    })
    .await;
}

#[tokio::test]
async fn a_tracker_that_was_restarted_knows_everything_after_one_round() {
    for_each_database(|database| async move {
        let world = World::new(database).await.working();
        let image = Digest::sha256_of(b"image");
        let (has, wants) = (announcing(vec![standing(image, 100)]), announcing(vec![standing(image, 0)]));
        let names_other = |plan: &PeerPlan| plan.neighbours.iter().any(|other| other.host == host("has"));
        world.announce(&identity("has", &[]), &has).await.unwrap();
        world.planned(&identity("wants", &[]), &wants, names_other).await;
        let again = world.reopened("hub").await.working();
        again.announce(&identity("has", &[]), &has).await.unwrap();
        again.planned(&identity("wants", &[]), &wants, names_other).await;
    })
    .await;
}

#[tokio::test]
async fn of_two_hubs_on_a_database_one_tracks_and_hosts_of_the_other_take_from_the_hub() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        world.service.outlook_take().await.unwrap();
        let other = world.reopened("other").await.working();
        other.service.outlook_take().await.unwrap();
        let image = Digest::sha256_of(b"image");
        other.announce(&identity("has", &[]), &announcing(vec![standing(image, 100)])).await.unwrap();
        let wants = announcing(vec![standing(image, 0)]);
        let plan = other.announce(&identity("wants", &[]), &wants).await.unwrap();
        assert!(plan.hub_is_neighbour && plan.neighbours.is_empty() && plan.trees.is_empty(), "{plan:?}");
        // The lease of a hub that is gone runs out.
        other.pass(16);
        let planned = |plan: &PeerPlan| !plan.neighbours.is_empty();
        let (has, wanting) = (identity("has", &[]), identity("wants", &[]));
        let has_it = announcing(vec![standing(image, 100)]);
        let (_, announced) = tokio::join!(other.planned(&wanting, &wants, planned), other.announce(&has, &has_it));
        announced.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_edge_fetches_for_its_region_what_it_may_have_and_hosts_there_do_not_ask_the_hub() {
    for_each_database(|database| async move {
        let world = World::new(database).await.working();
        for (name, region) in [("edge", "eu"), ("near", "eu"), ("far", "us")] {
            let labels = [("region".to_owned(), region.to_owned())].into();
            world.fleet.labels.lock().unwrap().insert(host(name), labels);
        }
        let [edge, near, far] = ["edge", "near", "far"].map(|name| identity(name, &[("team", "a")]));
        let (served, bare) =
            (world.images.push("app/web", "v1", &[b"one"]), world.images.push("team-a/web", "v1", &[b"two"]));
        let serving = Announce { is_edge: true, ..announcing(Vec::new()) };
        world.announce(&edge, &serving).await.unwrap();
        let idle = world.planned(&near, &announcing(Vec::new()), |plan| !plan.hub_is_neighbour).await;
        assert_eq!((idle.edge, idle.note), (Some(host("edge")), None));

        let blobs = |grant: Grant| grant.blobs.iter().map(|blob| blob.digest).collect();
        let fetching: Vec<Digest> = world.granted(&near, "app/web", "v1").await.map(blobs).unwrap();
        let wants = Announce { fetching, ..announcing(vec![standing(served, 0)]) };
        let by_edge = |plan: &PeerPlan| parents(plan).iter().all(|above| **above == Parent::Host(host("edge")));
        world.planned(&near, &wants, |plan| !plan.trees.is_empty() && by_edge(plan) && !plan.hub_is_neighbour).await;
        let is_told = |plan: &PeerPlan| plan.prefetch == [address("app/web", served)] && plan.trees.len() == 2;
        let told = world.planned(&edge, &serving, is_told).await;
        // It is planned with before it has begun: the hub sends it what it will be told to fetch.
        let from_hub = parents(&told).iter().all(|above| **above == Parent::Hub);
        assert!(told.hub_is_neighbour && from_hub, "{told:?}");
        world.planned(&far, &wants, |plan| plan.hub_is_neighbour && plan.edge.is_none()).await;

        // An edge that may not have it leaves it to the hub, and the host is told why.
        let edge = identity("edge", &[]);
        world.announce(&edge, &serving).await.unwrap();
        let fetching: Vec<Digest> = world.granted(&near, "team-a/web", "v1").await.map(blobs).unwrap();
        let wants = Announce { fetching, ..announcing(vec![standing(bare, 0)]) };
        let plan = world.planned(&near, &wants, |plan| plan.hub_is_neighbour && !plan.trees.is_empty()).await;
        assert!(plan.note.is_some_and(|note| note.starts_with("edge, the edge of region eu, may not have image")));
        world.planned(&edge, &serving, |plan| plan.prefetch.is_empty()).await;

        // It is gone.
        world.pass(20);
        let plan = world.planned(&near, &wants, |plan| plan.edge.is_none()).await;
        assert!(plan.hub_is_neighbour && plan.note.is_some_and(|note| note.contains("is gone")));
    })
    .await;
}

#[tokio::test]
async fn a_preheat_reaches_the_hosts_of_its_environment_survives_a_restart_and_ends() {
    for_each_database(|database| async move {
        let world = World::new(database).await;
        let image = world.images.push("app/web", "v1", &[b"layer"]);
        let release = "0123456789abcdef";
        world.fleet.releases.lock().unwrap().insert(release.to_owned(), address("app/web", image));
        world.fleet.env.lock().unwrap().insert("prod".parse().unwrap(), vec![host("p1"), host("p2")]);
        let order = |env: &str| PreheatRequest {
            release: release.to_owned(),
            env: env.parse().unwrap(),
            requested_by: "ann".to_owned(),
        };
        assert_eq!(world.service.preheat(order("none")).await.unwrap_err().kind, "env-unknown");
        let preheat = world.service.preheat(order("prod")).await.unwrap();
        assert_eq!((preheat.hosts, preheat.done), (vec![host("p1"), host("p2")], Vec::new()));
        let world = world.reopened("hub").await;
        world.service.outlook_take().await.unwrap();
        let (p1, q1) = (identity("p1", &[]), identity("q1", &[]));
        let whole = announcing(vec![standing(image, 100)]);
        assert_eq!(world.announce(&p1, &whole).await.unwrap().prefetch, [address("app/web", image)]);
        assert!(world.announce(&q1, &whole).await.unwrap().prefetch.is_empty());
        assert_eq!(world.service.preheat(order("prod")).await.unwrap().done, [host("p1")]);
        world.pass(24 * 3600);
        world.service.sweep().await.unwrap();
        world.service.outlook_take().await.unwrap();
        assert!(world.announce(&p1, &whole).await.unwrap().prefetch.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_host_that_stops_announcing_is_no_neighbour_any_more() {
    for_each_database(|database| async move {
        let world = World::new(database).await.working();
        let image = Digest::sha256_of(b"image");
        let (has, wants) = (identity("has", &[]), identity("wants", &[]));
        let wanting = announcing(vec![standing(image, 0)]);
        world.announce(&has, &announcing(vec![standing(image, 100)])).await.unwrap();
        world.planned(&wants, &wanting, |plan| !plan.neighbours.is_empty()).await;
        let begun = Instant::now();
        while !world.planned(&wants, &wanting, |_| true).await.neighbours.is_empty() {
            assert!(begun.elapsed() < LIMIT);
            world.pass(5);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let swarms = world.service.swarm_list(None, 10).await.unwrap();
        assert_eq!(swarms.items.iter().map(|swarm| swarm.hosts).collect::<Vec<_>>(), [1]);
    })
    .await;
}
