//! The hub says something else while the agent is at work, and the agent dies at any of its calls: the first deploy, a
//! change in the middle of a rollout, and a change back.

use std::collections::BTreeSet;

use agent::host::names::LABEL_RELEASE;
use agent::host::report::Standing;
use api::agent::Progress;
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::converge::{GOOD, progress_of, running, serves, settled, state};
use crate::converge_rig::{Nature, Rig, release, until};

/// How many stories are told at one time: more would only make each other slow.
const STORIES_MAX: usize = 24;

/// A version of both services, and what becomes of its containers.
#[derive(Debug, Clone, Copy)]
struct Said {
    version: &'static str,
    web: Nature,
    db: Nature,
}

const fn good(version: &'static str) -> Said {
    Said { version, web: GOOD, db: GOOD }
}

/// What the hub says first and is made in peace, what it says then, and what it says at some call of the agent's; at
/// another call the agent dies, before or after the engine carried it out.
#[derive(Debug, Clone, Copy)]
struct Story {
    before: Option<Said>,
    said: Said,
    news: Option<(usize, Said)>,
    death: Option<(usize, bool)>,
}

/// Lets the story happen; how many calls it took.
async fn tell(story: Story) -> usize {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let (say, hear) = watch::channel(None);
    let (mut agent, mut standing) = rig.agent(folder.path(), hear.clone());
    if let Some(Said { version, web, db }) = story.before {
        say.send_replace(Some(state(&rig, 1, version, web, db)));
        until(&mut standing, 1, "settled at first", settled).await;
        rig.guard();
    }
    let first_call = rig.calls();
    if let Some((call, Said { version, web, db })) = story.news {
        let (say, news) = (say.clone(), state(&rig, 3, version, web, db));
        rig.news_at(call, move || drop(say.send_replace(Some(news))));
    }
    if let Some((call, after)) = story.death {
        rig.dies_at(call, after);
    }
    let Said { version, web, db } = story.said;
    say.send_replace(Some(state(&rig, 2, version, web, db)));
    if story.death.is_some() {
        tokio::select! {
            () = rig.died() => {}
            _ = until(&mut standing, 2, "dead or settled", settled) => {}
        }
        agent.abort();
        let _ended = agent.await;
        rig.lives();
        (agent, standing) = rig.agent(folder.path(), hear);
    }
    let mut end = until(&mut standing, 2, "settled", settled).await;
    if story.news.is_some() && end.number == 2 {
        rig.news_now();
        end = until(&mut standing, 3, "settled on the news", settled).await;
    }
    check(&rig, &story, &end).await;
    agent.abort();
    rig.calls() - first_call
}

async fn check(rig: &Rig, story: &Story, end: &Standing) {
    assert_eq!(rig.violations(), Vec::<String>::new(), "{story:?}");
    let last = story.news.map_or(story.said, |(_, said)| said);
    let containers = rig.containers().await;
    for (name, nature) in [("web", last.web), ("db", last.db)] {
        let works = nature == GOOD;
        match progress_of(end, name) {
            Progress::Done => assert!(works, "{story:?}: {name}"),
            Progress::Failed { error, .. } => assert!(!works, "{story:?}: {name}: {error}"),
            other => panic!("{story:?}: {name}: {other:?}"),
        }
        let here = running(&containers, name);
        assert_eq!(here.len(), 1, "{story:?}: {name} {here:#?}");
        let serving = if works { last.version } else { story.before.unwrap().version };
        let wanted = release(name, serving).to_string();
        assert_eq!(here[0].labels.get(LABEL_RELEASE), Some(&wanted), "{story:?}: {name}");
        assert!(serves(rig, name, here[0]), "{story:?}: {name} {:#?}", rig.table());
        let all = containers.iter().filter(|found| found.name.contains(&format!("-{name}-"))).count();
        assert_eq!(all, 1, "{story:?}: {name}: something is left over");
    }
    assert!(end.jobs.iter().all(|job| job.progress == Progress::Done), "{story:?}: {:?}", end.jobs);
    let starts = rig.starts();
    let jobs: Vec<_> = starts.iter().filter(|name| name.contains("-migrate-job-")).collect();
    assert_eq!(jobs.iter().collect::<BTreeSet<_>>().len(), jobs.len(), "{story:?}: a run was started twice: {jobs:?}");
}

async fn tell_all(stories: Vec<Story>) {
    let told = futures::stream::iter(stories).map(|story| tokio::spawn(tell(story))).buffer_unordered(STORIES_MAX);
    let calls: Vec<usize> = told.map(Result::unwrap).collect().await;
    assert!(calls.iter().all(|calls| *calls > 0));
}

/// Release 1 runs, `said` is begun, and at each of its calls the hub says `last`; then the agent dies some calls later,
/// or not at all.
async fn changes_anywhere(said: Said, last: Said) {
    let calls = tell(Story { before: Some(good("1")), said, news: Some((0, last)), death: None })
        .await
        .max(tell(Story { before: Some(good("1")), said: good("2"), news: None, death: None }).await);
    assert!(calls > 8, "{calls} calls are too few for a rollout");
    let mut stories = Vec::new();
    for call in 0..calls {
        let deaths = [0, 1, 3, 6].map(|later| Some((call + later, (call + later) % 2 == 1)));
        for death in deaths.into_iter().chain([None]) {
            stories.push(Story { before: Some(good("1")), said, news: Some((call, last)), death });
        }
    }
    tell_all(stories).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deploy_ends_as_it_should_wherever_the_agent_dies() {
    let first = Story { before: None, said: good("1"), news: None, death: None };
    let calls = tell(first).await;
    let deaths = (0..calls).flat_map(|call| [(call, false), (call, true)]);
    tell_all(deaths.map(|death| Story { death: Some(death), ..first }).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_release_in_the_middle_of_a_rollout_is_reached_wherever_the_agent_dies() {
    changes_anywhere(good("2"), good("3")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_in_the_middle_of_a_rollout_is_found_wherever_the_agent_dies() {
    changes_anywhere(good("2"), good("1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_from_what_never_works_is_found_wherever_the_agent_dies() {
    changes_anywhere(Said { version: "2", web: Nature::Never, db: Nature::Crashes }, good("1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_that_never_work_leave_the_first_serving_wherever_the_agent_dies() {
    let bad = |version| Said { version, web: Nature::Never, db: Nature::Crashes };
    changes_anywhere(bad("2"), bad("3")).await;
}
